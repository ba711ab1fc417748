-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.user_id as user_id,
    loaded.{{ pancake.column('date') }} as date_day,
    loaded.user_name as user_name,
    loaded.user_fb_id as user_fb_id,
    loaded.average_response_time as average_response_time,
    loaded.inbox_count as inbox_count,
    loaded.comment_count as comment_count,
    loaded.unique_inbox_count as unique_inbox_count,
    loaded.unique_comment_count as unique_comment_count,
    loaded.private_reply_count as private_reply_count,
    loaded.phone_number_count as phone_number_count,
    loaded.order_count as order_count,
    loaded.{{ pancake.column('hour') }} as hour_text,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('multi_page_user_statistics') }}) as loaded
