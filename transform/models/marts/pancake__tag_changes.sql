-- Pancake may return a change twice, with and without a name: it counts once. Tags have their current names.
with changes as (
    select
        page_id,
        conversation_id,
        changed_at,
        action,
        tag_id,
        max(tag_name) as tag_name,
        max(nullif(editor_id, '')) as editor_id,
        max(nullif(editor_name, '')) as editor_name
    from {{ ref('stg_pancake__tag_changes') }}
    group by 1, 2, 3, 4, 5
)

select
    changes.page_id,
    changes.conversation_id,
    conversations.type as conversation_type,
    changes.changed_at,
    {{ pancake.local_time('changes.changed_at', 'zones.timezone') }} as changed_at_local,
    cast({{ pancake.local_time('changes.changed_at', 'zones.timezone') }} as date) as date_day,
    changes.action,
    changes.tag_id,
    coalesce(tags.tag_name, changes.tag_name, changes.tag_id) as tag_name,
    changes.editor_id as staff_id,
    coalesce(staff.staff_name, changes.editor_name) as staff_name
from changes
left join {{ ref('stg_pancake__conversations') }} as conversations
    on conversations.page_id = changes.page_id and conversations.conversation_id = changes.conversation_id
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = changes.page_id
left join {{ ref('stg_pancake__tags') }} as tags
    on tags.page_id = changes.page_id and tags.tag_id = changes.tag_id
left join {{ ref('int_pancake__staff') }} as staff
    on staff.page_id = changes.page_id and staff.staff_id = changes.editor_id
