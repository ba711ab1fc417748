-- Hours of each page from its first day with data to `as_of`, and whether all messages and customers of the hour are
-- read.
with pages as (
    select
        spans.page_id,
        cast(cast(min(spans.seen_from_local) as date) as {{ dbt.type_timestamp() }}) as first_day,
        {{ pancake.local_time('max(clock.as_of)', 'max(zones.timezone)') }} as as_of_local,
        max(zones.timezone) as timezone
    from {{ ref('int_pancake__stream_spans') }} as spans
    cross join {{ ref('int_pancake__clock') }} as clock
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = spans.page_id
    group by spans.page_id
),

numbers as (
    select cast(generated_number - 1 as {{ dbt.type_int() }}) as day_number
    from ({{ dbt.generate_series(16384) }}) as series
),

days as (
    select
        pages.*,
        -- Counted back from `as_of`: a single row that is decades old leaves out old days, not new ones.
        {{ pancake.shifted(
            'day', '-numbers.day_number',
            'cast(cast(pages.as_of_local as date) as ' ~ dbt.type_timestamp() ~ ')'
        ) }} as day_at_local
    from pages
    inner join numbers
        on numbers.day_number <= {{ dbt.datediff('pages.first_day', 'pages.as_of_local', 'day') }}
),

clock_hours as (
    select cast(generated_number - 1 as {{ dbt.type_int() }}) as clock_hour
    from ({{ dbt.generate_series(24) }}) as series
),

hours as (
    select
        days.page_id,
        cast(days.day_at_local as date) as date_day,
        {{ pancake.shifted('hour', 'clock_hours.clock_hour', 'days.day_at_local') }} as hour_at_local,
        {{ pancake.shifted('hour', 'clock_hours.clock_hour + 1', 'days.day_at_local') }} as end_at_local,
        days.timezone,
        days.as_of_local
    from days
    cross join clock_hours
),

-- Both streams come from the same list, so the messages show where the history begins.
read_to as (
    select
        streams.page_id,
        min(streams.read_to_local) as read_to_local,
        max(spans.begins_at_local) as begins_at_local
    from {{ ref('int_pancake__streams') }} as streams
    left join {{ ref('int_pancake__stream_spans') }} as spans
        on spans.page_id = streams.page_id and spans.stream = 'messages'
    where streams.stream in ('conversations', 'messages')
    group by streams.page_id
    having count(streams.read_to_local) = 2
),

-- A conversation that is set aside misses messages from the end of the last run that did not set it aside.
aside as (
    select aside.page_id, aside.conversation_id
    from {{ ref('stg_pancake__conversations_set_aside') }} as aside
    inner join {{ ref('int_pancake__streams') }} as streams
        on streams.page_id = aside.page_id and streams.stream = aside.stream and streams.run_id = aside.run_id
    where aside.stream = 'messages'
),

run_gaps as (
    select run_id, page_id, min(from_at) as from_at, count(*) - count(from_at) as endless_count
    from {{ ref('stg_pancake__sync_run_gaps') }}
    where stream = 'messages'
    group by run_id, page_id
),

runs_before as (
    select
        aside.page_id,
        aside.conversation_id,
        case
            when run_gaps.run_id is null then runs.top_at
            when run_gaps.endless_count = 0 then run_gaps.from_at
        end as read_to,
        row_number() over (
            partition by aside.page_id, aside.conversation_id order by runs.ended_at desc, runs.run_id desc
        ) as place
    from aside
    inner join {{ ref('stg_pancake__sync_run_streams') }} as runs
        on runs.page_id = aside.page_id and runs.stream = 'messages' and runs.top_at is not null
    left join {{ ref('stg_pancake__conversations_set_aside') }} as same
        on same.page_id = aside.page_id
        and same.stream = 'messages'
        and same.conversation_id = aside.conversation_id
        and same.run_id = runs.run_id
    left join run_gaps on run_gaps.page_id = runs.page_id and run_gaps.run_id = runs.run_id
    where same.run_id is null
),

aside_spans as (
    select
        aside.page_id,
        case
            when runs_before.read_to > conversations.inserted_at then runs_before.read_to
            else conversations.inserted_at
        end as from_at,
        conversations.updated_at as to_at
    from aside
    left join runs_before
        on runs_before.page_id = aside.page_id
        and runs_before.conversation_id = aside.conversation_id
        and runs_before.place = 1
    left join {{ ref('stg_pancake__conversations') }} as conversations
        on conversations.page_id = aside.page_id and conversations.conversation_id = aside.conversation_id
),

gaps as (
    select page_id, stream = 'customers' as is_of_customers, from_at_local, to_at_local
    from {{ ref('int_pancake__stream_gaps') }}
    where stream in ('conversations', 'messages', 'customers')
    union all
    select
        spans.page_id,
        false,
        {{ pancake.local_time('spans.from_at', 'pages.timezone') }},
        coalesce({{ pancake.local_time('spans.to_at', 'pages.timezone') }}, pages.as_of_local)
    from aside_spans as spans
    inner join pages on pages.page_id = spans.page_id
),

open_hours as (
    select
        hours.page_id,
        hours.hour_at_local,
        max(case when gaps.is_of_customers then 0 else 1 end) as is_inbox_open,
        max(case when gaps.is_of_customers then 1 else 0 end) as are_customers_open
    from hours
    inner join gaps
        on gaps.page_id = hours.page_id
        and coalesce(gaps.from_at_local, hours.hour_at_local) < hours.end_at_local
        and gaps.to_at_local >= hours.hour_at_local
    group by hours.page_id, hours.hour_at_local
),

customers as (
    select streams.page_id, streams.read_to_local, spans.begins_at_local
    from {{ ref('int_pancake__streams') }} as streams
    left join {{ ref('int_pancake__stream_spans') }} as spans
        on spans.page_id = streams.page_id and spans.stream = streams.stream
    where streams.stream = 'customers'
),

flags as (
    select
        hours.*,
        coalesce(
            hours.end_at_local <= read_to.read_to_local
            and read_to.begins_at_local <= hours.hour_at_local
            and coalesce(open_hours.is_inbox_open, 0) = 0,
            false
        ) as is_inbox_complete,
        -- `conversations` name customers, too: without the stream `customers`, they are enough.
        customers.page_id is null or coalesce(
            hours.end_at_local <= customers.read_to_local
            and customers.begins_at_local <= hours.hour_at_local
            and coalesce(open_hours.are_customers_open, 0) = 0,
            false
        ) as are_customers_read
    from hours
    left join read_to on read_to.page_id = hours.page_id
    left join open_hours on open_hours.page_id = hours.page_id and open_hours.hour_at_local = hours.hour_at_local
    left join customers on customers.page_id = hours.page_id
)

select
    page_id,
    hour_at_local,
    {{ pancake.utc_time('hour_at_local', 'timezone') }} as hour_at,
    date_day,
    is_inbox_complete,
    is_inbox_complete and are_customers_read as is_customer_complete
from flags
where hour_at_local <= as_of_local
