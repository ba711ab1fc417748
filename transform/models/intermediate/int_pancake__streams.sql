-- The time up to which each stream of each page is read, by the newest row of sync_runs from any job.
{% set unused = pancake.columns().keys() | reject('in', pancake.used_streams()) | list %}
with entries as (
    select
        streams.*,
        row_number() over (partition by page_id, stream order by ended_at desc, run_id desc) as place,
        max(case when status = 'complete' then ended_at end)
            over (partition by page_id, stream) as last_complete_at,
        min(case when top_at is not null then coalesce(started_at, ended_at) end)
            over (partition by page_id, stream) as first_read_at
    from {{ ref('stg_pancake__sync_run_streams') }} as streams
    -- The row of the account belongs to no page.
    where page_id <> 'account'
        {%- if unused %} and stream not in ('{{ unused | join("', '") }}'){% endif %}
),

gaps as (
    select run_id, page_id, stream, count(*) as open_count
    from {{ ref('stg_pancake__sync_run_gaps') }}
    group by run_id, page_id, stream
),

aside as (
    select run_id, page_id, stream, count(*) as set_aside_count
    from {{ ref('stg_pancake__conversations_set_aside') }}
    group by run_id, page_id, stream
)

select
    entries.page_id,
    entries.stream,
    entries.run_id,
    entries.ended_at,
    entries.status,
    entries.reason,
    entries.last_complete_at,
    entries.top_at,
    case
        when entries.stream in ('{{ pancake.streams_by_date() | join("', '") }}') then entries.top_at
        else {{ pancake.local_time('entries.top_at', 'zones.timezone') }}
    end as read_to_local,
    {{ pancake.local_time('entries.first_read_at', 'zones.timezone') }} as first_read_at_local,
    coalesce(gaps.open_count, 0) as open_count,
    coalesce(aside.set_aside_count, 0) as set_aside_count
from entries
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = entries.page_id
left join gaps on gaps.run_id = entries.run_id and gaps.page_id = entries.page_id and gaps.stream = entries.stream
left join aside on aside.run_id = entries.run_id and aside.page_id = entries.page_id and aside.stream = entries.stream
where entries.place = 1
