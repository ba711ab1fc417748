-- Answered and open waits, by the time when they began.
{% set target = var('pancake__response_target_minutes', 15) %}
select
    wait_id,
    page_id,
    conversation_id,
    conversation_type,
    coalesce(conversation_type = 'INBOX', false) as is_inbox,
    asked_at,
    asked_at_local,
    cast(asked_at_local as date) as date_day,
    cast({{ dbt.date_trunc('hour', 'asked_at_local') }} as {{ dbt.type_timestamp() }}) as hour_at_local,
    cast({{ pancake.weekday('cast(asked_at_local as date)') }} as {{ dbt.type_int() }}) as weekday,
    cast(floor({{ pancake.minute_of_day('asked_at_local') }} / 60) as {{ dbt.type_int() }}) as hour_of_day,
    asked_message_count,
    ended_at as answered_at,
    answered_by_kind,
    staff_id,
    staff_name,
    answer_message_id,
    ended_at is null as is_open,
    wait_minutes,
    working_minutes,
    {{ target }} as target_minutes,
    case
        when working_minutes > {{ target }} then false
        when ended_at is not null and working_minutes is not null then true
    end as is_within_target
from {{ ref('int_pancake__waits') }}
where not is_cut_off and (ended_by is null or answer_message_id is not null)
