{{ config(severity=var('pancake__stale_severity')) }}
-- Pages without a complete run for more than `pancake__stale_after_hours`.
select page_id, page_name, status, reason, last_complete_at, hours_since_complete
from {{ ref('pancake__sync_health') }}
where is_stale
