select
    conversations.page_id,
    conversations.conversation_id,
    each_one.position,
    {{ pancake.json_text('each_one.entry', 'phone_number') }} as phone_number,
    {{ pancake.json_text('each_one.entry', 'm_id') }} as message_id
from {{ ref('stg_pancake__conversations') }} as conversations
{{ pancake.unnested('conversations.recent_phone_numbers') }}
