-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.id as user_id,
    loaded.{{ pancake.column('name') }} as name,
    loaded.status as status,
    loaded.fb_id as fb_id,
    loaded.page_permissions as page_permissions,
    loaded.status_in_page as status_in_page,
    loaded.is_online as is_online,
    loaded.email as email,
    loaded.is_disabled as is_disabled,
    loaded.round_robin_inbox as is_round_robin_inbox,
    loaded.round_robin_comment as is_round_robin_comment,
    loaded.role_in_page as role_in_page,
    loaded.status_round_robin as status_round_robin,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('users') }}) as loaded
