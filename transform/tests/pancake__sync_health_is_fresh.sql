{{ config(severity=var('pancake__stale_severity')) }}
-- Pages that no run has read to the end for `pancake__stale_after_hours`.
select page_id, page_name, status, reason, last_complete_at, hours_since_complete
from {{ ref('pancake__sync_health') }}
where is_stale
