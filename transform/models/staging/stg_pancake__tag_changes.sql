-- The API returns the latest 100 changes of a conversation, and may return one twice.
select distinct
    conversations.page_id,
    conversations.conversation_id,
    cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as changed_at,
    {{ pancake.json_text('each_one.entry', 'payload', 'action') }} as action,
    coalesce(
        {{ pancake.json_text('each_one.entry', 'payload', 'tag', 'id') }},
        {{ pancake.json_text('each_one.entry', 'payload', 'tag', 'text') }}
    ) as tag_id,
    {{ pancake.json_text('each_one.entry', 'payload', 'tag', 'text') }} as tag_name,
    {{ pancake.json_text('each_one.entry', 'payload', 'editor_id') }} as editor_id,
    {{ pancake.json_text('each_one.entry', 'payload', 'editor_name') }} as editor_name
from {{ ref('stg_pancake__conversations') }} as conversations
{{ pancake.unnested('conversations.tag_histories') }}
where coalesce(
    {{ pancake.json_text('each_one.entry', 'payload', 'tag', 'id') }},
    {{ pancake.json_text('each_one.entry', 'payload', 'tag', 'text') }}
) is not null
