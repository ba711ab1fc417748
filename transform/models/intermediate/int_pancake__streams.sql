-- How far each stream of each page is read. The newest row of sync_runs decides, whichever job has written it.
{% set unused = pancake.columns().keys() | reject('in', pancake.used_streams()) | list %}
with told as (
    select
        streams.*,
        row_number() over (partition by page_id, stream order by ended_at desc, run_id desc) as place,
        max(case when status = 'complete' then ended_at end)
            over (partition by page_id, stream) as last_complete_at,
        min(case when top_at is not null then coalesce(started_at, ended_at) end)
            over (partition by page_id, stream) as first_read_at
    from {{ ref('stg_pancake__sync_run_streams') }} as streams
    -- The empty page is the account.
    where page_id <> ''
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
    told.page_id,
    told.stream,
    told.run_id,
    told.ended_at,
    told.status,
    told.reason,
    told.last_complete_at,
    told.top_at,
    case
        when told.stream in ('{{ pancake.streams_by_date() | join("', '") }}') then told.top_at
        else {{ pancake.local_time('told.top_at', 'zones.timezone') }}
    end as read_to_local,
    {{ pancake.local_time('told.first_read_at', 'zones.timezone') }} as first_read_at_local,
    coalesce(gaps.open_count, 0) as open_count,
    coalesce(aside.set_aside_count, 0) as set_aside_count
from told
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = told.page_id
left join gaps on gaps.run_id = told.run_id and gaps.page_id = told.page_id and gaps.stream = told.stream
left join aside on aside.run_id = told.run_id and aside.page_id = told.page_id and aside.stream = told.stream
where told.place = 1
