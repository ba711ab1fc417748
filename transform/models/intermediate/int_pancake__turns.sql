-- An incremental build does not reread a conversation without new rows. So this model has nothing that depends on the
-- clock, the page or the staff: see int_pancake__waits. It is no incremental model in BigQuery, which cannot replace the
-- rows of a conversation by fewer rows.
{{ config(
    materialized='incremental' if target.type in ['postgres', 'snowflake'] else 'table',
    incremental_strategy='delete+insert' if target.type in ['postgres', 'snowflake'] else none,
    unique_key=['page_id', 'conversation_id'],
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['page_id', 'conversation_id']}] if target.type == 'postgres' else []
) }}
{% set open_days = var('pancake__open_days', 30) %}
{% set changed_only = flags.INTROSPECT and is_incremental() %}
with recursive {% if changed_only %}newly_loaded as (
    {{ pancake.newly_loaded() }}
), changed as (
    select distinct page_id, conversation_id
    from (
        select page_id, conversation_id from newly_loaded
        union all
        -- Comments that a private reply in these conversations answers.
        select comments.page_id, comments.conversation_id
        from {{ ref('int_pancake__messages') }} as comments
        inner join newly_loaded
            on newly_loaded.page_id = comments.page_id
            and newly_loaded.conversation_id = comments.private_reply_conversation_id
    ) as found
), {% endif %}messages as (
    select
        messages.*,
        min(messages.sent_at) over (partition by messages.page_id, messages.conversation_id) as first_read_at,
        max(messages.loaded_at) over (partition by messages.page_id, messages.conversation_id) as newest_loaded_at
    from {{ ref('int_pancake__messages') }} as messages
    {%- if changed_only %}
    inner join changed on changed.page_id = messages.page_id and changed.conversation_id = messages.conversation_id
    {%- endif %}
), asked_or_answered as (
    select
        page_id,
        conversation_id,
        conversation_type,
        message_id,
        sent_at,
        case when is_answer then 1 else 0 end as ends_wait,
        case when is_answer then 'answer' end as ends_by,
        sender_kind,
        conversation_id as said_in,
        first_read_at,
        newest_loaded_at,
        -- A customer who removes a message in a private conversation still waits.
        case
            when is_answer or coalesce(conversation_type, 'INBOX') = 'INBOX' then null
            when is_removed then 'removed'
            when is_hidden then 'hidden'
        end as closed_by
    from messages
    -- A message without a time has no place in the conversation.
    where sent_at is not null and (is_answer or (
        sender_kind = 'customer'
        and not coalesce(is_third_person, false)
        and not coalesce(is_closing_text, false)
    ))
), replied as (
    select
        comments.page_id,
        comments.conversation_id,
        comments.conversation_type,
        comments.sent_at as comment_at,
        comments.first_read_at,
        comments.newest_loaded_at,
        answers.conversation_id as said_in,
        answers.message_id,
        answers.sent_at,
        answers.sender_kind,
        row_number() over (
            partition by comments.page_id, comments.conversation_id, comments.message_id
            order by answers.sent_at, answers.sequence
        ) as choice
    from messages as comments
    left join {{ ref('int_pancake__messages') }} as answers
        on answers.page_id = comments.page_id
        and answers.conversation_id = comments.private_reply_conversation_id
        and answers.sent_at >= comments.sent_at
        and answers.is_answer
    where comments.sent_at is not null
        and comments.private_reply_conversation_id is not null
        and comments.sender_kind = 'customer'
        and not coalesce(comments.is_third_person, false)
), events as (
    select * from asked_or_answered
    union all
    -- If the private reply was not read, the comment is closed at an unknown time.
    select
        page_id, conversation_id, conversation_type, message_id, coalesce(sent_at, comment_at), 1, 'private_reply',
        sender_kind, said_in, first_read_at, newest_loaded_at, null
    from replied
    where choice = 1
), turns as (
    select
        events.*,
        coalesce(sum(ends_wait) over (
            partition by page_id, conversation_id order by sent_at, ends_wait, message_id
            rows between unbounded preceding and 1 preceding
        ), 0) as turn
    from events
), answered as (
    -- A turn ends with its answer. Window functions instead of joins: databases underestimate the size of
    -- subqueries, and join them slowly.
    select
        turns.*,
        min(case when ends_wait = 0 then sent_at end) over (partition by page_id, conversation_id, turn) as turn_at,
        max(case when ends_wait = 0 then sent_at end) over (partition by page_id, conversation_id, turn) as turn_to,
        {% for name in ['sent_at', 'ends_by', 'sender_kind', 'said_in', 'message_id'] -%}
        max(case when ends_wait = 1 then {{ name }} end)
            over (partition by page_id, conversation_id, turn) as answer_{{ name }}{{ ',' if not loop.last }}
        {% endfor -%}
    from turns
), asked as (
    select * from answered where ends_wait = 0
), long_turns as (
    -- The few turns that are longer than `pancake__open_days`.
    select * from asked where turn_to >= {{ pancake.shifted('day', open_days, 'turn_at') }}
), nexts as (
    select long_turns.page_id, long_turns.conversation_id, long_turns.turn, long_turns.sent_at, min(later.sent_at) as next_at
    from long_turns
    inner join long_turns as later
        on later.page_id = long_turns.page_id
        and later.conversation_id = long_turns.conversation_id
        and later.turn = long_turns.turn
        and later.sent_at >= {{ pancake.shifted('day', open_days, 'long_turns.sent_at') }}
    group by long_turns.page_id, long_turns.conversation_id, long_turns.turn, long_turns.sent_at
), rounds as (
    -- A message of the customer after a wait has expired begins another wait.
    select distinct page_id, conversation_id, turn, turn_at as first_at, 0 as round from long_turns
    union all
    select rounds.page_id, rounds.conversation_id, rounds.turn, nexts.next_at, rounds.round + 1
    from rounds
    inner join nexts
        on nexts.page_id = rounds.page_id
        and nexts.conversation_id = rounds.conversation_id
        and nexts.turn = rounds.turn
        and nexts.sent_at = rounds.first_at
), followed as (
    select
        rounds.*,
        lead(first_at) over (partition by page_id, conversation_id, turn order by round) as next_at
    from rounds
), in_rounds as (
    select asked.*, 0 as round, cast(null as {{ dbt.type_timestamp() }}) as next_at
    from asked
    where turn_to < {{ pancake.shifted('day', open_days, 'turn_at') }}
    union all
    select long_turns.*, followed.round, followed.next_at
    from long_turns
    inner join followed
        on followed.page_id = long_turns.page_id
        and followed.conversation_id = long_turns.conversation_id
        and followed.turn = long_turns.turn
        and followed.first_at <= long_turns.sent_at
        and (followed.next_at is null or followed.next_at > long_turns.sent_at)
), placed as (
    select
        in_rounds.*,
        row_number() over (
            partition by page_id, conversation_id, turn, round order by sent_at, message_id
        ) as position,
        row_number() over (
            partition by page_id, conversation_id, turn, round
            order by case when closed_by is null then 0 else 1 end, sent_at, message_id
        ) as left_position
    from in_rounds
), questions as (
    select
        page_id,
        conversation_id,
        turn,
        round,
        next_at,
        max(conversation_type) as conversation_type,
        max(case when position = 1 then message_id end) as first_message_id,
        max(case when left_position = 1 then message_id end) as left_message_id,
        min(sent_at) as first_at,
        min(case when closed_by is null then sent_at end) as first_left_at,
        max(sent_at) as last_at,
        count(*) as asked_message_count,
        max(closed_by) as closed_by,
        {% for name in ['sent_at', 'ends_by', 'sender_kind', 'said_in', 'message_id'] -%}
        max(answer_{{ name }}) as answer_{{ name }},
        {% endfor -%}
        max(first_read_at) as first_read_at,
        max(newest_loaded_at) as loaded_at
    from placed
    group by page_id, conversation_id, turn, round, next_at
)
select
    page_id,
    conversation_id,
    conversation_type,
    cast(turn as {{ dbt.type_int() }}) as turn,
    cast(round as {{ dbt.type_int() }}) as round,
    first_message_id,
    left_message_id,
    first_at,
    first_left_at,
    last_at,
    next_at,
    asked_message_count,
    closed_by,
    answer_sent_at is not null and next_at is null
        and answer_sent_at <= {{ pancake.shifted('day', open_days, 'first_at') }} as is_answered,
    answer_sent_at as answered_at,
    answer_ends_by as answered_by,
    answer_sender_kind as answered_by_kind,
    answer_said_in as answer_conversation_id,
    answer_message_id,
    first_read_at,
    loaded_at
from questions
