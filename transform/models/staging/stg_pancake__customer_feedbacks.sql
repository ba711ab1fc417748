-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.id as feedback_id,
    loaded.inserted_at as inserted_at,
    {{ pancake.local_time('loaded.inserted_at', 'zones.timezone') }} as inserted_at_local,
    loaded.conversation_id as conversation_id,
    loaded.message_id as message_id,
    loaded.rate as rating,
    loaded.message as comment,
    loaded.feedback_name as feedback_name,
    loaded.sent_by_user as is_sent_by_user,
    loaded.admin_id as admin_id,
    loaded.employee_name as employee_name,
    loaded.customer_name as customer_name,
    loaded.page_name as page_name,
    loaded.platform as platform,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('customer_feedbacks') }}) as loaded
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id
