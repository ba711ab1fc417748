-- An incremental build does not reread a conversation without new rows. So this model has nothing that depends on the
-- page or the staff: see pancake__sessions. It is no incremental model in BigQuery, which cannot replace the rows of a
-- conversation by fewer rows.
{{ config(
    materialized='incremental' if target.type in ['postgres', 'snowflake'] else 'table',
    incremental_strategy='delete+insert' if target.type in ['postgres', 'snowflake'] else none,
    unique_key=['page_id', 'conversation_id'],
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['page_id', 'conversation_id']}] if target.type == 'postgres' else []
) }}
{% set silence = var('pancake__session_hours', 24) %}
{% set changed_only = flags.INTROSPECT and is_incremental() %}
with {% if changed_only %}changed as (
    {{ pancake.newly_loaded() }}
), {% endif %}messages as (
    -- Without system messages, reactions, and comments of third persons.
    select messages.*
    from {{ ref('int_pancake__messages') }} as messages
    {%- if changed_only %}
    inner join changed on changed.page_id = messages.page_id and changed.conversation_id = messages.conversation_id
    {%- endif %}
    where messages.sent_at is not null
        and (messages.kind = 'ad_click' or coalesce(messages.sender_kind, '') <> 'nobody')
        and not coalesce(messages.is_third_person, false)
), conversations as (
    select page_id, conversation_id, max(loaded_at) as loaded_at
    from messages
    group by page_id, conversation_id
), clicks as (
    select ads.page_id, ads.conversation_id, ads.ad_id, ads.clicked_at
    from {{ ref('stg_pancake__conversation_ads') }} as ads
    inner join conversations
        on conversations.page_id = ads.page_id and conversations.conversation_id = ads.conversation_id
    where ads.clicked_at is not null
), events as (
    select
        page_id, conversation_id, conversation_type, sent_at, message_id, sequence, kind, sender_kind, is_answer,
        has_phone, cast(null as {{ dbt.type_string() }}) as ad_id
    from messages
    union all
    select
        page_id, conversation_id, null, clicked_at, null, 0, 'ad_click', 'nobody', false, null, ad_id
    from clicks
), ordered as (
    -- A message in the same second as a click comes after the click.
    select
        events.*,
        row_number() over (
            partition by page_id, conversation_id
            order by sent_at, case when kind = 'ad_click' then 0 else 1 end, sequence, message_id, ad_id
        ) as position
    from events
), compared as (
    select
        ordered.*,
        lag(sent_at) over (partition by page_id, conversation_id order by position) as previous_at,
        lag(kind) over (partition by page_id, conversation_id order by position) as previous_kind
    from ordered
), stretched as (
    -- The same click can appear twice: as a message, and in the conversation's list of ads.
    select
        compared.*,
        sum(case
            when previous_at is null then 1
            when {{ pancake.seconds_between('previous_at', 'sent_at') }} >= {{ silence * 3600 }} then 1
            when kind = 'ad_click' and previous_kind <> 'ad_click' then 1
            else 0
        end) over (
            partition by page_id, conversation_id order by position rows between unbounded preceding and current row
        ) as stretch
    from compared
), placed as (
    select
        stretched.*,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when message_id is not null then 0 else 1 end, position
        ) as message_position,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when ad_id is not null then 0 else 1 end, position
        ) as ad_position,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when is_answer then 0 else 1 end, position
        ) as answer_position
    from stretched
), stretches as (
    select
        page_id,
        conversation_id,
        stretch,
        max(conversation_type) as conversation_type,
        max(case when message_position = 1 then message_id end) as first_message_id,
        min(case when message_id is not null then sent_at end) as first_message_at,
        max(case when message_position = 1 then sender_kind end) as first_sender_kind,
        min(sent_at) as started_at,
        max(sent_at) as last_event_at,
        min(case when kind = 'ad_click' then sent_at end) as ad_clicked_at,
        max(case when ad_position = 1 then ad_id end) as ad_id,
        count(message_id) as message_count,
        sum(case when sender_kind = 'customer' then 1 else 0 end) as customer_message_count,
        sum(case when sender_kind = 'staff' then 1 else 0 end) as staff_message_count,
        sum(case when sender_kind = 'outside' then 1 else 0 end) as outside_message_count,
        sum(case when sender_kind = 'automation' then 1 else 0 end) as automation_message_count,
        max(case when answer_position = 1 and is_answer then message_id end) as answer_message_id,
        max(case when sender_kind = 'customer' and has_phone then 1 else 0 end) = 1 as has_phone
    from placed
    group by page_id, conversation_id, stretch
    having count(message_id) > 0
)
select
    stretches.page_id,
    stretches.conversation_id,
    row_number() over (
        partition by stretches.page_id, stretches.conversation_id order by stretches.stretch
    ) as session_number,
    stretches.conversation_type,
    stretches.first_message_id,
    stretches.first_message_at,
    stretches.first_sender_kind,
    stretches.started_at,
    lead(stretches.started_at) over (
        partition by stretches.page_id, stretches.conversation_id order by stretches.stretch
    ) as next_at,
    stretches.last_event_at,
    stretches.ad_clicked_at,
    stretches.ad_id,
    stretches.message_count,
    stretches.customer_message_count,
    stretches.staff_message_count,
    stretches.outside_message_count,
    stretches.automation_message_count,
    stretches.answer_message_id,
    stretches.has_phone,
    conversations.loaded_at
from stretches
inner join conversations
    on conversations.page_id = stretches.page_id and conversations.conversation_id = stretches.conversation_id
