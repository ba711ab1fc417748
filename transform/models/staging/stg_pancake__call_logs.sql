-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.call_id as call_id,
    loaded.caller as caller,
    loaded.callee as callee,
    loaded.start_time as started_at,
    {{ pancake.local_time('loaded.start_time', 'zones.timezone') }} as started_at_local,
    loaded.duration as duration,
    loaded.status as status,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('call_logs') }}) as loaded
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id
