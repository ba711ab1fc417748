-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.user_id as user_id,
    loaded.{{ pancake.column('date') }} as date_day,
    loaded.{{ pancake.column('name') }} as name,
    loaded.inbox_count as inbox_count,
    loaded.comment_count as comment_count,
    loaded.total_engagement as total_engagement,
    loaded.new_customer_replied_count as new_customer_replied_count,
    loaded.customer_engagement_new_inbox as customer_engagement_new_inbox,
    loaded.order_count as order_count,
    loaded.old_order_count as old_order_count,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('user_engagements') }}) as loaded
