-- Stretches of time that are not read yet, by the newest row of sync_runs. Both ends are included.
select
    streams.page_id,
    streams.stream,
    gaps.position,
    {% for end in ('from_at', 'to_at') -%}
    case
        when streams.stream in ('{{ pancake.streams_by_date() | join("', '") }}') then gaps.{{ end }}
        else {{ pancake.local_time('gaps.' ~ end, 'zones.timezone') }}
    end as {{ end }}_local{{ ',' if not loop.last }}
    {% endfor -%}
from {{ ref('int_pancake__streams') }} as streams
inner join {{ ref('stg_pancake__sync_run_gaps') }} as gaps
    on gaps.run_id = streams.run_id and gaps.page_id = streams.page_id and gaps.stream = streams.stream
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = streams.page_id
