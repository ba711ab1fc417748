select
    messages.page_id,
    messages.conversation_id,
    messages.message_id,
    each_one.position,
    {{ pancake.json_text('each_one.entry', 'type') }} as type,
    {{ pancake.json_text('each_one.entry', 'name') }} as name,
    {{ pancake.json_text('each_one.entry', 'title') }} as title,
    {{ pancake.json_text('each_one.entry', 'url') }} as url
from {{ ref('stg_pancake__messages') }} as messages
{{ pancake.unnested('messages.attachments') }}
