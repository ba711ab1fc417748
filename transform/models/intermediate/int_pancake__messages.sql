{{ config(
    materialized='table' if target.type == 'duckdb' else 'incremental',
    incremental_strategy='merge' if target.type == 'bigquery' else 'delete+insert',
    unique_key=['page_id', 'conversation_id'] + (['message_id'] if target.type == 'bigquery' else []),
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['page_id', 'conversation_id']}] if target.type == 'postgres' else []
) }}
-- Rebuilt for each conversation as a whole, because the sender of a message depends on the messages around it.
-- depends_on: {{ ref('int_pancake__zones') }}
{% set until_then = '(partition by page_id, conversation_id order by sent_at)' %}
{% set changed_only = flags.INTROSPECT and is_incremental() %}
with {% if changed_only %}loaded_before as (
    {{ pancake.loaded_before() }}
), changed as (
    select distinct page_id, conversation_id
    from (
        select messages.page_id, messages.conversation_id
        from {{ ref('stg_pancake__messages') }} as messages
        cross join loaded_before
        where messages.loaded_at is null or messages.loaded_at >= loaded_before.loaded_at
            or loaded_before.loaded_at is null
        union all
        select conversations.page_id, conversations.conversation_id
        from {{ ref('stg_pancake__conversations') }} as conversations
        cross join loaded_before
        where conversations.loaded_at is null or conversations.loaded_at >= loaded_before.loaded_at
        union all
        -- The page was loaded later, or its time zone or channel has changed.
        select built.page_id, built.conversation_id
        from {{ this }} as built
        inner join {{ ref('int_pancake__zones') }} as zones on zones.page_id = built.page_id
        left join {{ ref('stg_pancake__pages') }} as pages on pages.page_id = built.page_id
        where built.sent_at_local <> {{ pancake.local_time('built.sent_at', 'zones.timezone') }}
            or coalesce(built.platform, '') <> coalesce(pages.platform, '')
    ) as found
), {% endif %}messages as (
    select
        messages.page_id,
        messages.conversation_id,
        messages.message_id,
        messages.type,
        messages.inserted_at as sent_at,
        messages.inserted_at_local as sent_at_local,
        coalesce(messages.original_message, {{ pancake.regexp_removed('messages.message', '<[^>]*>') }}) as text,
        messages.attachments,
        nullif(coalesce(
            {{ pancake.json_text('messages.private_reply_conversation', 'id') }},
            {{ pancake.json_scalar('messages.private_reply_conversation') }}
        ), '') as private_reply_conversation_id,
        coalesce(messages.has_phone, false) as has_phone,
        coalesce(messages.is_hidden, false) as is_hidden,
        coalesce(messages.is_removed, false) as is_removed,
        messages.loaded_at,
        {% for name in ['id', 'uid', 'admin_id', 'admin_name', 'flow_id', 'app_id', 'is_automated', 'ai_generated'] -%}
        nullif({{ pancake.json_text('messages.sender', name) }}, '') as {{ 'sender_id' if name == 'id' else name }}
        {{- ',' if not loop.last }}
        {% endfor %}
    from {{ ref('stg_pancake__messages') }} as messages
    {%- if changed_only %}
    inner join changed on changed.page_id = messages.page_id and changed.conversation_id = messages.conversation_id
    {%- endif %}
), entries as (
    select
        messages.conversation_id,
        messages.message_id,
        coalesce({{ pancake.json_text('each_one.entry', 'type') }}, 'file') as type
    from messages
    {{ pancake.unnested('messages.attachments') }}
), attachments as (
    select
        conversation_id,
        message_id,
        sum(case when type = 'ad_click' then 1 else 0 end) as click_count,
        sum(case when type = 'system_message' then 1 else 0 end) as system_count,
        sum(case when type = 'reaction' then 1 else 0 end) as reaction_count,
        sum(case when type = 'replied_message' then 1 else 0 end) as quote_count,
        sum(case when type in ('sticker', 'response_feedback') then 1 else 0 end) as closing_count,
        sum(case when type in ('ad_click', 'system_message', 'reaction', 'replied_message') then 0 else 1 end)
            as attachment_count
    from entries
    group by conversation_id, message_id
), conversations as (
    select
        page_id,
        conversation_id,
        type,
        nullif({{ pancake.json_text('sender', 'id') }}, page_id) as sender_id,
        customers,
        loaded_at
    from {{ ref('stg_pancake__conversations') }}
), people as (
    select page_id, conversation_id, sender_id as person_id from conversations where sender_id is not null
    union all
    select conversations.page_id, conversations.conversation_id, {{ pancake.json_text('each_one.entry', 'fb_id') }}
    from conversations
    {{ pancake.unnested('conversations.customers') }}
    where {{ pancake.json_text('each_one.entry', 'fb_id') }} is not null
), customers as (
    select distinct page_id, conversation_id, person_id from people
), with_customers as (
    select distinct page_id, conversation_id from people
), kinds as (
    select
        messages.*,
        case
            when attachments.click_count > 0
                and (messages.sender_id = messages.page_id or coalesce(messages.text, '') = '') then 'ad_click'
            when attachments.system_count > 0 then 'system'
            -- A null text is unknown, not empty.
            when attachments.reaction_count > 0 and attachments.attachment_count + attachments.quote_count = 0
                and messages.text = '' then 'reaction'
            when attachments.attachment_count > 0 and coalesce(messages.text, '') = '' then 'attachment'
            else 'text'
        end as kind,
        cast(coalesce(attachments.attachment_count, 0) as {{ dbt.type_int() }}) as attachment_count,
        coalesce(attachments.closing_count = attachments.attachment_count, true) as is_closed_by_attachments
    from messages
    left join attachments
        on attachments.conversation_id = messages.conversation_id and attachments.message_id = messages.message_id
), prompts as (
    select
        kinds.*,
        case when kind = 'ad_click' then sent_at end as click_at,
        case when sender_id <> page_id and kind in ('text', 'attachment') then sent_at end as customer_at
    from kinds
), placed as (
    select
        prompts.*,
        max(coalesce(customer_at, click_at)) over {{ until_then }} as prompted_at,
        max(customer_at) over {{ until_then }} as customer_before_at,
        max(click_at) over {{ until_then }} as click_before_at,
        min(customer_at) over (partition by page_id, conversation_id order by sent_at desc) as customer_after_at
    from prompts
), named as (
    select placed.*, {{ pancake.sender_kind('placed') }} as sender_kind from placed
)
select
    named.page_id,
    named.conversation_id,
    named.message_id,
    coalesce(conversations.type, named.type) as conversation_type,
    pages.platform,
    named.sent_at,
    named.sent_at_local,
    cast(named.sent_at_local as date) as date_day,
    cast({{ dbt.date_trunc('hour', 'named.sent_at_local') }} as {{ dbt.type_timestamp() }}) as hour_at_local,
    named.sender_kind,
    coalesce(named.sender_kind in ('staff', 'outside'), false) as is_answer,
    coalesce(
        named.sender_kind = 'customer' and coalesce(conversations.type, named.type) <> 'INBOX'
        and with_customers.conversation_id is not null and customers.person_id is null, false
    ) as is_third_person,
    case when named.sender_kind = 'staff' then {{ pancake.staff_key('named.uid', 'named.admin_id', 'named.admin_name') }}
    end as staff_key,
    case when named.sender_kind = 'staff' then named.admin_name end as staff_name,
    {{ pancake.sender_signature('named') }} as sender_signature,
    named.app_id,
    named.text,
    length(named.text) as text_length,
    named.kind,
    named.attachment_count,
    named.has_phone,
    named.is_hidden,
    named.is_removed,
    named.private_reply_conversation_id,
    named.private_reply_conversation_id is not null as is_private_reply,
    case
        when named.kind = 'attachment' then named.is_closed_by_attachments
        when named.kind = 'text' and named.is_closed_by_attachments then {{ pancake.is_closing_text('named.text') }}
        else false
    end as is_closing_text,
    row_number() over (
        partition by named.page_id, named.conversation_id
        order by
            named.sent_at,
            case named.sender_kind when 'customer' then 0 when 'staff' then 1 else 2 end,
            named.message_id
    ) as sequence,
    case
        when conversations.loaded_at > named.loaded_at or named.loaded_at is null then conversations.loaded_at
        else named.loaded_at
    end as loaded_at
from named
left join conversations
    on conversations.page_id = named.page_id and conversations.conversation_id = named.conversation_id
left join {{ ref('stg_pancake__pages') }} as pages on pages.page_id = named.page_id
left join with_customers
    on with_customers.page_id = named.page_id and with_customers.conversation_id = named.conversation_id
left join customers
    on customers.page_id = named.page_id and customers.conversation_id = named.conversation_id
    and customers.person_id = named.sender_id
