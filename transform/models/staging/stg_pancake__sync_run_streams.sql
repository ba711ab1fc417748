-- `top` is a time in UTC, or midnight of a date in the page's time zone: see the macro streams_by_date.
select
    runs.run_id,
    runs.page_id,
    runs.started_at,
    runs.ended_at,
    {{ pancake.json_text('each_one.entry', 'name') }} as stream,
    {{ pancake.json_text('each_one.entry', 'status') }} as status,
    {{ pancake.json_text('each_one.entry', 'reason') }} as reason,
    cast({{ pancake.json_text('each_one.entry', 'row_count') }} as {{ dbt.type_bigint() }}) as row_count,
    cast({{ pancake.json_text('each_one.entry', 'calls') }} as {{ dbt.type_bigint() }}) as call_count,
    cast({{ pancake.json_text('each_one.entry', 'top') }} as {{ dbt.type_timestamp() }}) as top_at,
    {{ pancake.json_part('each_one.entry', 'open') }} as open_stretches,
    {{ pancake.json_part('each_one.entry', 'set_aside') }} as set_aside
from {{ ref('stg_pancake__sync_runs') }} as runs
{{ pancake.unnested('runs.streams') }}
