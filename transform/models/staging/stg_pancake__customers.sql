-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.id as page_customer_id,
    loaded.customer_id as customer_id,
    loaded.psid as psid,
    loaded.thread_id as thread_id,
    loaded.{{ pancake.column('name') }} as name,
    loaded.gender as gender,
    loaded.birthday as birthday,
    loaded.lives_in as lives_in,
    loaded.can_inbox as can_inbox,
    loaded.phone_numbers as phone_numbers,
    loaded.emails as emails,
    loaded.notes as notes,
    loaded.recent_orders as recent_orders,
    loaded.inserted_at as inserted_at,
    {{ pancake.local_time('loaded.inserted_at', 'zones.timezone') }} as inserted_at_local,
    loaded.updated_at as updated_at,
    {{ pancake.local_time('loaded.updated_at', 'zones.timezone') }} as updated_at_local,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('customers') }}) as loaded
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id
