-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.{{ pancake.column('date') }} as date_day,
    loaded.inbox as inbox_count,
    loaded.comment as comment_count,
    loaded.total as total_count,
    loaded.new_customer as new_customer_count,
    loaded.new_customer_from_inbox as new_customer_from_inbox_count,
    loaded.new_customer_replied as new_customer_replied_count,
    loaded.customer_engagement_new_inbox as customer_engagement_new_inbox,
    loaded.order_count as order_count,
    loaded.old_order_count as old_order_count,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('customer_engagements') }}) as loaded
