-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.{{ pancake.column('date') }} as date_day,
    loaded.new_customer_count as new_customer_count,
    loaded.new_page_inbox_count as new_page_inbox_count,
    loaded.new_phone_number_count as new_phone_number_count,
    loaded.phone_number_count as phone_number_count,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('new_customer_statistics') }}) as loaded
