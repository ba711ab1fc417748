select
    conversations.page_id,
    conversations.conversation_id,
    each_one.position,
    {{ pancake.json_scalar('each_one.entry') }} as user_id
from {{ ref('stg_pancake__conversations') }} as conversations
{{ pancake.unnested('conversations.assignee_ids') }}
where {{ pancake.json_scalar('each_one.entry') }} is not null
