select
    streams.run_id,
    streams.page_id,
    streams.stream,
    each_one.position,
    cast({{ pancake.json_text('each_one.entry', 'from') }} as {{ dbt.type_timestamp() }}) as from_at,
    cast({{ pancake.json_text('each_one.entry', 'to') }} as {{ dbt.type_timestamp() }}) as to_at
from {{ ref('stg_pancake__sync_run_streams') }} as streams
{{ pancake.unnested('streams.open_stretches') }}
