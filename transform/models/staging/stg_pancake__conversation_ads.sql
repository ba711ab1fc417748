select
    conversations.page_id,
    conversations.conversation_id,
    each_one.position,
    {{ pancake.json_text('each_one.entry', 'ad_id') }} as ad_id,
    {{ pancake.json_text('each_one.entry', 'post_id') }} as post_id,
    cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as clicked_at
from {{ ref('stg_pancake__conversations') }} as conversations
{{ pancake.unnested('conversations.ads') }}
where {{ pancake.json_text('each_one.entry', 'ad_id') }} is not null
