-- Freshness and completeness of each page, as of `as_of`. The worst stream of a page counts.
{% set order = ['complete', 'skipped', 'incomplete', 'interrupted', 'failed'] %}
with page_runs as (
    select
        page_id,
        page_name,
        ended_at,
        status,
        reason,
        row_number() over (partition by page_id order by ended_at desc, run_id desc) as place
    from {{ ref('stg_pancake__sync_runs') }}
    where page_id <> 'account'
),

placed as (
    select
        streams.*,
        row_number() over (
            partition by page_id
            order by case status
                {% for status in order -%}
                when '{{ status }}' then {{ loop.index0 }}
                {% endfor -%}
                else {{ order | length }}
            end desc, stream
        ) as place
    from {{ ref('int_pancake__streams') }} as streams
),

of_streams as (
    select
        page_id,
        max(case when place = 1 then stream end) as worst_stream,
        max(case when place = 1 then status end) as status,
        max(case when place = 1 then reason end) as reason,
        max(ended_at) as ended_at,
        sum(case when status = 'skipped' then 1 else 0 end) as skipped_stream_count,
        sum(case when status not in ('complete', 'skipped') then 1 else 0 end) as incomplete_stream_count,
        -- Skipped streams do not count: the plan, the permission or the traffic is missing, so a later run does not
        -- complete them.
        sum(case when status <> 'skipped' and last_complete_at is null then 1 else 0 end) as never_complete_count,
        min(case when status <> 'skipped' then last_complete_at end) as last_complete_at,
        sum(open_count) as open_count,
        max(set_aside_count) as set_aside_count,
        min(case when stream in ('conversations', 'messages') then read_to_local end) as inbox_read_to_local,
        count(case when stream in ('conversations', 'messages') then read_to_local end) as inbox_count
    from placed
    group by page_id
),

all_ids as (
    select page_id from {{ ref('stg_pancake__pages') }}
    union all
    select page_id from page_runs
),

pages as (
    select page_id from all_ids group by page_id
),

joined as (
    select
        pages.page_id,
        coalesce(listed.page_name, page_runs.page_name) as page_name,
        page_runs.ended_at as last_run_at,
        -- A run has no streams for a page that is gone, or whose reading could not start.
        case
            when page_runs.page_id is null then 'never_run'
            when of_streams.ended_at >= page_runs.ended_at then of_streams.status
            else page_runs.status
        end as status,
        case when of_streams.ended_at >= page_runs.ended_at then of_streams.reason else page_runs.reason end as reason,
        case when of_streams.ended_at >= page_runs.ended_at then of_streams.worst_stream end as worst_stream,
        case when of_streams.never_complete_count = 0 then of_streams.last_complete_at end as last_complete_at,
        case when of_streams.inbox_count = 2 then of_streams.inbox_read_to_local end as inbox_read_to_local,
        cast(coalesce(of_streams.skipped_stream_count, 0) as {{ dbt.type_bigint() }}) as skipped_stream_count,
        cast(coalesce(of_streams.incomplete_stream_count, 0) as {{ dbt.type_bigint() }}) as incomplete_stream_count,
        cast(coalesce(of_streams.open_count, 0) as {{ dbt.type_bigint() }}) as open_count,
        coalesce(of_streams.set_aside_count, 0) as set_aside_count
    from pages
    left join {{ ref('stg_pancake__pages') }} as listed on listed.page_id = pages.page_id
    left join page_runs on page_runs.page_id = pages.page_id and page_runs.place = 1
    left join of_streams on of_streams.page_id = pages.page_id
),

timed as (
    select
        joined.*,
        clock.as_of,
        -- `pancake__as_of` may be earlier than the last complete run.
        case when joined.last_complete_at is not null then greatest(
            {{ pancake.seconds_between('joined.last_complete_at', 'clock.as_of') }} / 3600.0, 0
        ) end as hours_since_complete
    from joined
    cross join {{ ref('int_pancake__clock') }} as clock
)

select
    page_id,
    page_name,
    status,
    case when status <> 'complete' then reason end as reason,
    case when status <> 'complete' then worst_stream end as worst_stream,
    last_run_at,
    last_complete_at,
    as_of,
    hours_since_complete,
    -- Pages that are gone or that no run was to read are not stale.
    status not in ('gone', 'never_run')
    and coalesce(hours_since_complete > {{ var('pancake__stale_after_hours') }}, true) as is_stale,
    inbox_read_to_local,
    skipped_stream_count,
    incomplete_stream_count,
    open_count,
    set_aside_count
from timed
