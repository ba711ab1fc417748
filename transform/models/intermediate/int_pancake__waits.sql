-- A wait begins with a message of a customer, and ends with the next answer.
{% set open_days = var('pancake__open_days', 30) %}
{% set start_date = var('pancake__start_date', none) %}
with begun as (
    select
        turns.*,
        case when is_answered then first_at else coalesce(first_left_at, first_at) end as asked_at,
        case when is_answered then first_message_id else left_message_id end as asked_message_id
    from {{ ref('int_pancake__turns') }} as turns
), limited as (
    select
        begun.*,
        case
            when next_at < {{ pancake.shifted('day', open_days, 'asked_at') }} then next_at
            else {{ pancake.shifted('day', open_days, 'asked_at') }}
        end as expires_at,
        clock.as_of
    from begun
    cross join {{ ref('int_pancake__clock') }} as clock
), ended as (
    select
        limited.*,
        case
            when is_answered then answered_by
            when first_left_at is null then closed_by
            when next_at is not null or expires_at <= as_of then 'expired'
        end as ended_by
    from limited
), timed as (
    select
        ended.*,
        case
            when is_answered then answered_at
            -- The data does not show when a comment was hidden or removed.
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
), page_starts as (
    select page_id, min(sent_at) as start_at
    from {{ ref('int_pancake__messages') }}
    group by page_id
)
select
    {{ dbt.hash(dbt.concat(["localized.page_id", "'|'", "localized.conversation_id", "'|'", "localized.first_message_id"])) }}
        as wait_id,
    localized.page_id,
    localized.conversation_id,
    localized.conversation_type,
    localized.asked_message_id,
    localized.asked_at,
    localized.asked_at_local,
    localized.asked_message_count,
    localized.ended_at,
    localized.ended_by,
    case when localized.is_answered then localized.answered_by_kind end as answered_by_kind,
    staff.staff_id,
    answers.staff_name,
    case when localized.is_answered then localized.answer_message_id end as answer_message_id,
    -- The first wait of a conversation that is older than its first message in the data, if a question before that
    -- message could still be open.
    coalesce(
        localized.turn = 0 and localized.round = 0
        and conversations.inserted_at < {{ pancake.shifted('minute', -1, 'localized.first_read_at') }}
        and localized.asked_at < {{ pancake.shifted(
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
left join page_starts on page_starts.page_id = localized.page_id
left join {{ ref('int_pancake__messages') }} as answers
    on localized.is_answered
    and answers.page_id = localized.page_id
    and answers.conversation_id = localized.answer_conversation_id
    and answers.message_id = localized.answer_message_id
left join {{ ref('int_pancake__staff_ids') }} as staff
    on staff.page_id = answers.page_id and staff.staff_key = answers.staff_key
left join {{ ref('stg_pancake__conversations') }} as conversations
    on conversations.page_id = localized.page_id
    and conversations.conversation_id = localized.conversation_id
{{ pancake.join_working_time('time_from', 'localized.page_id', 'localized.asked_at_local') }}
{{ pancake.join_working_time('time_to', 'localized.page_id', 'localized.counted_until_local') }}
