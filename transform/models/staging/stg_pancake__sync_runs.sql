-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.run_id as run_id,
    loaded.page_id as page_id,
    loaded.page_name as page_name,
    loaded.shard_index as shard_index,
    loaded.started_at as started_at,
    {{ pancake.local_time('loaded.started_at', 'zones.timezone') }} as started_at_local,
    loaded.ended_at as ended_at,
    {{ pancake.local_time('loaded.ended_at', 'zones.timezone') }} as ended_at_local,
    loaded.status as status,
    loaded.reason as reason,
    loaded.row_count as row_count,
    loaded.calls as call_count,
    loaded.retries as retry_count,
    loaded.answers_429 as answer_429_count,
    loaded.tap_version as tap_version,
    loaded.streams as streams,
    loaded.loaded_at
from ({{ pancake.newest('sync_runs') }}) as loaded
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id
