-- An entry of the API's list can be null. Such an entry has no row here.
select
    conversations.page_id,
    conversations.conversation_id,
    each_one.position,
    {{ pancake.json_text('each_one.entry', 'id') }} as tag_id,
    {{ pancake.json_text('each_one.entry', 'text') }} as tag_name
from {{ ref('stg_pancake__conversations') }} as conversations
{{ pancake.unnested('conversations.tags') }}
where coalesce({{ pancake.json_text('each_one.entry', 'id') }}, {{ pancake.json_text('each_one.entry', 'text') }}) is not null
