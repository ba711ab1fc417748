-- Hours that each page's clock is ahead of UTC. One number for the whole year: the API tells no other.
select id as page_id, coalesce(timezone, {{ var('pancake__default_timezone', 7) }}) as timezone
from ({{ pancake.newest('pages') }}) as loaded
