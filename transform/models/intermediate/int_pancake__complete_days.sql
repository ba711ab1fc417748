-- Days of each page from its first day with data to `as_of`, and which streams are read for the whole day.
{% set streams = pancake.dated_streams().keys() | reject('equalto', 'messages') | list %}
with days as (
    select
        page_id,
        date_day,
        cast(date_day as {{ dbt.type_timestamp() }}) as begins_at_local,
        {{ pancake.shifted('day', 1, 'cast(date_day as ' ~ dbt.type_timestamp() ~ ')') }} as ends_at_local,
        sum(case when is_inbox_complete then 1 else 0 end) as complete_hour_count,
        sum(case when is_customer_complete then 1 else 0 end) as complete_customer_hour_count
    from {{ ref('int_pancake__complete_hours') }}
    group by page_id, date_day
),

open_days as (
    select distinct days.page_id, days.date_day, gaps.stream
    from days
    inner join {{ ref('int_pancake__stream_gaps') }} as gaps
        on gaps.page_id = days.page_id
        and coalesce(gaps.from_at_local, days.begins_at_local) < days.ends_at_local
        and gaps.to_at_local >= days.begins_at_local
),

read_days as (
    select days.page_id, days.date_day, streams.stream
    from days
    inner join {{ ref('int_pancake__streams') }} as streams
        on streams.page_id = days.page_id and streams.read_to_local >= days.ends_at_local
    inner join {{ ref('int_pancake__stream_spans') }} as spans
        on spans.page_id = days.page_id
        and spans.stream = streams.stream
        and spans.begins_at_local <= days.begins_at_local
    left join open_days
        on open_days.page_id = days.page_id
        and open_days.date_day = days.date_day
        and open_days.stream = streams.stream
    where open_days.page_id is null
),

flags as (
    select
        page_id,
        date_day,
        {% for stream in streams -%}
        max(case when stream = '{{ stream }}' then 1 else 0 end) as {{ stream }}{{ ',' if not loop.last }}
        {% endfor -%}
    from read_days
    group by page_id, date_day
)

select
    days.page_id,
    days.date_day,
    days.complete_hour_count = 24 as is_inbox_complete,
    days.complete_customer_hour_count = 24 as is_customer_complete,
    {% for stream in streams -%}
    coalesce(flags.{{ stream }} = 1, false)
        as is_{{ 'feedback' if stream == 'customer_feedbacks' else stream }}_complete{{ ',' if not loop.last }}
    {% endfor -%}
from days
left join flags on flags.page_id = days.page_id and flags.date_day = days.date_day
