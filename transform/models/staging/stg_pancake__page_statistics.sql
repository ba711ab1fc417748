-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    cast(loaded.{{ pancake.column('hour') }} as {{ dbt.type_timestamp() }}) as hour_at_local,
    loaded.hour_utc as hour_at,
    loaded.customer_comment_count as customer_comment_count,
    loaded.customer_inbox_count as customer_inbox_count,
    loaded.inbox_interactive_count as inbox_interactive_count,
    loaded.new_customer_count as new_customer_count,
    loaded.new_inbox_count as new_inbox_count,
    loaded.page_comment_count as page_comment_count,
    loaded.page_inbox_count as page_inbox_count,
    loaded.phone_number_count as phone_number_count,
    loaded.uniq_phone_number_count as uniq_phone_number_count,
    loaded.today_uniq_website_referral as today_uniq_website_referral,
    loaded.today_website_guest_referral as today_website_guest_referral,
    loaded.order_count as order_count,
    loaded.total_interactions as total_interactions,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('page_statistics') }}) as loaded
