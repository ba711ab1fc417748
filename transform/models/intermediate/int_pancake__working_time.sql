-- Intervals of each page's day, with the working minutes before each. The intervals of a day have no gaps, so each time
-- is in exactly one: see join_working_time.
with spans as (
    select
        messages.page_id,
        min(messages.date_day) as first_day,
        greatest(
            max(messages.date_day),
            cast(max({{ pancake.local_time('clock.as_of', 'zones.timezone') }}) as date)
        ) as last_day
    from {{ ref('int_pancake__messages') }} as messages
    cross join {{ ref('int_pancake__clock') }} as clock
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = messages.page_id
    group by messages.page_id
), numbers as (
    {{ dbt.generate_series(16384) }}
), days as (
    select
        spans.page_id,
        -- Counted back from the last day: a single message that is decades old leaves out old days, not new ones.
        cast({{ dbt.dateadd('day', '1 - cast(numbers.generated_number as ' ~ dbt.type_int() ~ ')', 'spans.last_day') }}
            as date) as date_day
    from spans
    inner join numbers on numbers.generated_number <= {{ dbt.datediff('spans.first_day', 'spans.last_day', 'day') }} + 1
), hours as (
    select
        page_id,
        weekday,
        {{ pancake.clock_minute('opens_at') }} as opens_minute,
        {{ pancake.clock_minute('closes_at') }} as closes_minute,
        coalesce(valid_from, cast('1900-01-01' as date)) as valid_from
    from {{ ref('pancake__working_hours') }}
), weeks as (
    select distinct page_id, valid_from from hours
), candidates as (
    select
        days.page_id,
        days.date_day,
        weeks.page_id as week_page_id,
        weeks.valid_from,
        row_number() over (
            partition by days.page_id, days.date_day
            order by case when weeks.page_id = '*' then 1 else 0 end, weeks.valid_from desc
        ) as choice
    from days
    inner join weeks on weeks.page_id in (days.page_id, '*') and weeks.valid_from <= days.date_day
), closed as (
    select distinct days.page_id, days.date_day
    from days
    inner join {{ ref('pancake__holidays') }} as holidays
        on holidays.page_id in (days.page_id, '*') and holidays.date_day = days.date_day
), intervals as (
    select
        days.page_id,
        days.date_day,
        coalesce(hours.opens_minute, 0) as opens_minute,
        case
            when closed.page_id is null and candidates.page_id is null then 1440
            else coalesce(hours.closes_minute, 0)
        end as closes_minute,
        row_number() over (
            partition by days.page_id, days.date_day order by hours.opens_minute, hours.closes_minute
        ) as position
    from days
    left join candidates
        on candidates.page_id = days.page_id and candidates.date_day = days.date_day and candidates.choice = 1
    left join closed on closed.page_id = days.page_id and closed.date_day = days.date_day
    left join hours
        on closed.page_id is null
        and hours.page_id = candidates.week_page_id
        and hours.valid_from = candidates.valid_from
        and hours.weekday = {{ pancake.weekday('days.date_day') }}
), apart as (
    -- Minutes in two overlapping intervals count once.
    select
        page_id,
        date_day,
        position,
        closes_minute,
        greatest(opens_minute, coalesce(max(closes_minute) over (
            partition by page_id, date_day order by position rows between unbounded preceding and 1 preceding
        ), 0)) as opens_minute
    from intervals
)
select
    page_id,
    date_day,
    case when position = 1 then 0 else opens_minute end as from_minute,
    coalesce(lead(opens_minute) over (partition by page_id, date_day order by position), 1440) as to_minute,
    opens_minute,
    greatest(closes_minute, opens_minute) as closes_minute,
    cast(coalesce(sum(greatest(closes_minute - opens_minute, 0)) over (
        partition by page_id order by date_day, position rows between unbounded preceding and 1 preceding
    ), 0) as {{ dbt.type_bigint() }}) as minutes_before
from apart
