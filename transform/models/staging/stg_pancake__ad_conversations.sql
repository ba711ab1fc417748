-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.id as conversation_id,
    loaded.tags as tags,
    loaded.{{ pancake.column('from') }} as sender,
    loaded.inserted_at as inserted_at,
    {{ pancake.local_time('loaded.inserted_at', 'zones.timezone') }} as inserted_at_local,
    loaded.updated_at as updated_at,
    {{ pancake.local_time('loaded.updated_at', 'zones.timezone') }} as updated_at_local,
    loaded.customers as customers,
    loaded.recent_phone_numbers as recent_phone_numbers,
    loaded.recent_seen_users as recent_seen_users,
    loaded.thread_key as thread_key,
    loaded.psid as psid,
    loaded.ad_clicks as ad_clicks,
    loaded.is_banned as is_banned,
    loaded.assignees as assignees,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('ad_conversations') }}) as loaded
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id
