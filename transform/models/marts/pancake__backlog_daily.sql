-- A wait counts on each day at whose end it is open. The running day ends at `as_of`.
{% set open_days = var('pancake__open_days', 30) %}
with clock as (
    select as_of from {{ ref('int_pancake__clock') }}
),

waits as (
    select
        waits.page_id,
        coalesce(waits.conversation_type, 'UNKNOWN') as conversation_type,
        waits.asked_at_local,
        cast(waits.asked_at_local as date) as asked_day,
        waits.ended_at,
        cast({{ pancake.local_time('waits.ended_at', 'zones.timezone') }} as date) as ended_day,
        {{ pancake.local_time('clock.as_of', 'zones.timezone') }} as as_of_local
    from {{ ref('int_pancake__waits') }} as waits
    cross join clock
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = waits.page_id
    where not waits.is_cut_off and waits.asked_at < clock.as_of
),

spans as (
    select
        waits.*,
        case
            when ended_at is null then {{ dbt.datediff('asked_day', 'cast(as_of_local as date)', 'day') }} + 1
            else {{ dbt.datediff('asked_day', 'ended_day', 'day') }}
        end as day_count
    from waits
),

numbers as (
    {{ dbt.generate_series(open_days + 2) }}
),

days as (
    select
        spans.page_id,
        spans.conversation_type,
        spans.asked_at_local,
        spans.as_of_local,
        cast({{ dbt.dateadd(
            'day', 'cast(numbers.generated_number - 1 as ' ~ dbt.type_int() ~ ')', 'spans.asked_day'
        ) }} as date) as date_day
    from spans
    join numbers on numbers.generated_number <= spans.day_count
    where spans.day_count > 0
),

aged as (
    select
        page_id,
        conversation_type,
        date_day,
        {{ pancake.seconds_between(
            'asked_at_local',
            'least(as_of_local, ' ~ pancake.shifted('day', 1, 'date_day') ~ ')'
        ) }} / 3600 as age_hours
    from days
    where date_day <= cast(as_of_local as date)
),

-- An open wait may have begun on an earlier day, so those days must be complete too. Days before the first message do
-- not matter, because waits that are cut off are left out.
days_read as (
    select
        days.page_id,
        days.date_day,
        min(case
            when days.is_inbox_complete or days.date_day <= cast(spans.begins_at_local as date) then 1 else 0
        end) over (
            partition by days.page_id order by days.date_day rows between {{ open_days }} preceding and current row
        ) = 1 as are_days_before_read,
        days.is_inbox_complete
    from {{ ref('int_pancake__complete_days') }} as days
    left join {{ ref('int_pancake__stream_spans') }} as spans
        on spans.page_id = days.page_id and spans.stream = 'messages'
),

classed as (
    select
        aged.*,
        case
            when age_hours < 1 then 1 when age_hours < 4 then 2 when age_hours < 24 then 3
            when age_hours < 72 then 4 when age_hours < 168 then 5 else 6
        end as age_class_number
    from aged
)

select
    classed.page_id,
    classed.conversation_type,
    classed.date_day,
    case classed.age_class_number
        when 1 then 'under_1h' when 2 then '1h_to_4h' when 3 then '4h_to_24h'
        when 4 then '1d_to_3d' when 5 then '3d_to_7d' else 'over_7d'
    end as age_class,
    classed.age_class_number,
    count(*) as open_count,
    max(classed.age_hours) as longest_age_hours,
    coalesce({{ dbt.bool_or('days_read.is_inbox_complete and days_read.are_days_before_read') }}, false) as is_complete
from classed
left join days_read on days_read.page_id = classed.page_id and days_read.date_day = classed.date_day
group by 1, 2, 3, 4, 5
