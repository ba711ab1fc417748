-- Conversations whose messages a run could not read.
select
    streams.run_id,
    streams.page_id,
    streams.stream,
    {{ pancake.json_scalar('each_one.entry') }} as conversation_id
from {{ ref('stg_pancake__sync_run_streams') }} as streams
{{ pancake.unnested('streams.set_aside') }}
