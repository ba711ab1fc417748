select
    staff.page_id,
    pages.page_name,
    staff.staff_id,
    staff.staff_name,
    staff.fb_id,
    staff.is_active,
    users.user_id is not null as is_in_users,
    users.role_in_page,
    users.is_round_robin_inbox,
    users.is_round_robin_comment,
    staff.first_seen_at,
    {{ pancake.local_time('staff.first_seen_at', 'zones.timezone') }} as first_seen_at_local,
    staff.last_seen_at,
    {{ pancake.local_time('staff.last_seen_at', 'zones.timezone') }} as last_seen_at_local
from {{ ref('int_pancake__staff') }} as staff
left join {{ ref('stg_pancake__pages') }} as pages on pages.page_id = staff.page_id
left join {{ ref('stg_pancake__users') }} as users
    on users.page_id = staff.page_id and users.user_id = staff.staff_id
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = staff.page_id
