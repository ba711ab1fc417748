-- A wait begins with what a customer says, and ends with the next answer.
{% set open_days = var('pancake__open_days', 30) %}
{% set start_date = var('pancake__start_date', none) %}
with messages as (
    select * from {{ ref('int_pancake__messages') }}
), said as (
    select
        page_id,
        conversation_id,
        conversation_type,
        message_id,
        sent_at,
        case when is_answer then 1 else 0 end as ends_wait,
        case when is_answer then 'answer' end as ends_by,
        sender_kind,
        staff_id,
        staff_name,
        -- In an inbox, a customer takes back what they have sent, and still waits.
        case
            when is_answer or coalesce(conversation_type, 'INBOX') = 'INBOX' then null
            when is_removed then 'removed'
            when is_hidden then 'hidden'
        end as closed_by
    from messages
    where is_answer or (
        sender_kind = 'customer'
        and not coalesce(is_third_person, false)
        and not coalesce(is_closing_text, false)
    )
), private_replies as (
    select
        messages.page_id,
        messages.conversation_id,
        messages.conversation_type,
        messages.message_id,
        messages.sent_at,
        coalesce(
            {{ pancake.json_text('raw.private_reply_conversation', 'id') }},
            {{ pancake.json_scalar('raw.private_reply_conversation') }}
        ) as reply_conversation_id
    from messages
    inner join {{ ref('stg_pancake__messages') }} as raw
        on raw.page_id = messages.page_id
        and raw.conversation_id = messages.conversation_id
        and raw.message_id = messages.message_id
    where messages.is_private_reply and messages.sender_kind = 'customer'
        and not coalesce(messages.is_third_person, false)
), replied as (
    select
        private_replies.page_id,
        private_replies.conversation_id,
        private_replies.conversation_type,
        private_replies.sent_at as comment_at,
        answers.message_id,
        answers.sent_at,
        answers.sender_kind,
        answers.staff_id,
        answers.staff_name,
        row_number() over (
            partition by private_replies.page_id, private_replies.conversation_id, private_replies.message_id
            order by answers.sent_at, answers.sequence
        ) as choice
    from private_replies
    left join messages as answers
        on answers.page_id = private_replies.page_id
        and answers.conversation_id = private_replies.reply_conversation_id
        and answers.sent_at >= private_replies.sent_at
        and answers.is_answer
), events as (
    select * from said
    union all
    -- Without the reply itself, the comment is closed, and nobody knows when.
    select
        page_id, conversation_id, conversation_type, message_id, coalesce(sent_at, comment_at), 1, 'private_reply',
        sender_kind, staff_id, staff_name, null
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
), answers as (
    select * from turns where ends_wait = 1
), asked as (
    select turns.*, min(sent_at) over (partition by page_id, conversation_id, turn) as turn_at
    from turns
    where ends_wait = 0
), rounds as (
    -- What a customer says after a wait has expired begins another one.
    select
        asked.*,
        floor({{ pancake.seconds_between('turn_at', 'sent_at') }} / {{ open_days * 86400 }}) as round
    from asked
), placed as (
    select
        rounds.*,
        row_number() over (
            partition by page_id, conversation_id, turn, round order by sent_at, message_id
        ) as position
    from rounds
), questions as (
    select
        page_id,
        conversation_id,
        turn,
        round,
        max(conversation_type) as conversation_type,
        max(case when position = 1 then message_id end) as message_id,
        min(sent_at) as first_at,
        min(case when closed_by is null then sent_at end) as first_left_at,
        max(sent_at) as last_at,
        count(*) as asked_message_count,
        max(closed_by) as closed_by
    from placed
    group by page_id, conversation_id, turn, round
), followed as (
    select
        questions.*,
        lead(first_at) over (partition by page_id, conversation_id, turn order by round) as next_at
    from questions
), answered as (
    select
        followed.*,
        answers.sent_at as answered_at,
        answers.ends_by,
        answers.sender_kind as answered_by_kind,
        answers.staff_id,
        answers.staff_name,
        answers.message_id as answer_message_id,
        answers.sent_at is not null and followed.next_at is null
            and answers.sent_at <= {{ pancake.later('day', open_days, 'followed.first_at') }} as is_answered
    from followed
    left join answers
        on answers.page_id = followed.page_id
        and answers.conversation_id = followed.conversation_id
        and answers.turn = followed.turn
), begun as (
    select
        answered.*,
        case when is_answered then first_at else coalesce(first_left_at, first_at) end as asked_at
    from answered
), limited as (
    select
        begun.*,
        case
            when next_at < {{ pancake.later('day', open_days, 'asked_at') }} then next_at
            else {{ pancake.later('day', open_days, 'asked_at') }}
        end as expires_at,
        clock.as_of
    from begun
    cross join {{ ref('int_pancake__clock') }} as clock
), ended as (
    select
        limited.*,
        case
            when is_answered then ends_by
            when first_left_at is null then closed_by
            when next_at is not null or expires_at <= as_of then 'expired'
        end as ended_by
    from limited
), timed as (
    select
        ended.*,
        case
            when is_answered then answered_at
            -- When a comment was hidden or removed is not in the data.
            when ended_by in ('hidden', 'removed') then last_at
            when ended_by = 'expired' then expires_at
        end as ended_at
    from ended
), counted as (
    select
        timed.*,
        greatest(coalesce(ended_at, as_of), asked_at) as counted_until,
        zones.timezone
    from timed
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = timed.page_id
), localized as (
    select
        counted.*,
        {{ pancake.local_time('asked_at', 'timezone') }} as asked_at_local,
        {{ pancake.local_time('counted_until', 'timezone') }} as counted_until_local
    from counted
), conversation_starts as (
    select page_id, conversation_id, min(sent_at) as first_read_at
    from messages
    group by page_id, conversation_id
), page_starts as (
    select page_id, min(sent_at) as start_at
    from messages
    group by page_id
)
select
    {{ dbt.hash(dbt.concat(["localized.page_id", "'|'", "localized.conversation_id", "'|'", "localized.message_id"])) }}
        as wait_id,
    localized.page_id,
    localized.conversation_id,
    localized.conversation_type,
    localized.message_id as asked_message_id,
    localized.asked_at,
    localized.asked_at_local,
    localized.asked_message_count,
    localized.ended_at,
    localized.ended_by,
    case when localized.is_answered then localized.answered_by_kind end as answered_by_kind,
    case when localized.is_answered then localized.staff_id end as staff_id,
    case when localized.is_answered then localized.staff_name end as staff_name,
    case when localized.is_answered then localized.answer_message_id end as answer_message_id,
    -- The first wait of a conversation that is older than what was read of it, as long as an earlier question could
    -- still be open.
    coalesce(
        localized.turn = 0 and localized.round = 0
        and conversations.inserted_at < {{ pancake.later('minute', -1, 'conversation_starts.first_read_at') }}
        and localized.asked_at < {{ pancake.later(
            'day', open_days,
            "cast('" ~ start_date ~ "' as " ~ dbt.type_timestamp() ~ ")" if start_date else 'page_starts.start_at'
        ) }},
        false
    ) as is_cut_off,
    {{ pancake.minutes(pancake.seconds_between('localized.asked_at', 'localized.counted_until') ~ ' / 60') }}
        as wait_minutes,
    {{ pancake.minutes(
        pancake.working_minutes_until('time_to', 'localized.counted_until_local')
        ~ ' - ' ~ pancake.working_minutes_until('time_from', 'localized.asked_at_local')
    ) }} as working_minutes
from localized
inner join conversation_starts
    on conversation_starts.page_id = localized.page_id
    and conversation_starts.conversation_id = localized.conversation_id
inner join page_starts on page_starts.page_id = localized.page_id
left join {{ ref('stg_pancake__conversations') }} as conversations
    on conversations.page_id = localized.page_id
    and conversations.conversation_id = localized.conversation_id
{{ pancake.join_working_time('time_from', 'localized.page_id', 'localized.asked_at_local') }}
{{ pancake.join_working_time('time_to', 'localized.page_id', 'localized.counted_until_local') }}
