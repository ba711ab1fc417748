-- Hours that each page's clock is ahead of UTC. The API has one number for the whole year.
select id as page_id, coalesce(timezone, {{ var('pancake__default_timezone', 7) }}) as timezone
from ({{ pancake.newest('pages') }}) as loaded
