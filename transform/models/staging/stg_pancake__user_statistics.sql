-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.user_id as user_id,
    cast(loaded.{{ pancake.column('hour') }} as {{ dbt.type_timestamp() }}) as hour_at_local,
    loaded.hour_utc as hour_at,
    loaded.user_name as user_name,
    loaded.user_fb_id as user_fb_id,
    loaded.hour_in_integer as hour_in_integer,
    loaded.average_response_time as average_response_time,
    loaded.inbox_count as inbox_count,
    loaded.comment_count as comment_count,
    loaded.unique_inbox_count as unique_inbox_count,
    loaded.unique_comment_count as unique_comment_count,
    loaded.private_reply_count as private_reply_count,
    loaded.phone_number_count as phone_number_count,
    loaded.order_count as order_count,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('user_statistics') }}) as loaded
