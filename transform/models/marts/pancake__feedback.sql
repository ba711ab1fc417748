{{ config(enabled=pancake.uses('customer_feedbacks')) }}
-- Ratings of customers, each with the last answered wait before it.
with staff as (
    select page_id, coalesce(fb_id, name) as id_or_name, min(staff_id) as staff_id
    from {{ ref('int_pancake__staff_ids') }}
    where user_id is null
    group by page_id, coalesce(fb_id, name)
),

answered as (
    select
        feedbacks.page_id,
        feedbacks.feedback_id,
        waits.wait_id,
        waits.asked_at,
        waits.ended_at,
        waits.wait_minutes,
        waits.working_minutes,
        row_number() over (
            partition by feedbacks.page_id, feedbacks.feedback_id order by waits.ended_at desc, waits.wait_id
        ) as place
    from {{ ref('stg_pancake__customer_feedbacks') }} as feedbacks
    inner join {{ ref('int_pancake__waits') }} as waits
        on waits.page_id = feedbacks.page_id
        and waits.conversation_id = feedbacks.conversation_id
        and waits.ended_at <= feedbacks.inserted_at
    where waits.ended_by = 'answer' and not waits.is_cut_off
)

select
    feedbacks.page_id,
    feedbacks.feedback_id,
    feedbacks.inserted_at as rated_at,
    feedbacks.inserted_at_local as rated_at_local,
    cast(feedbacks.inserted_at_local as date) as date_day,
    feedbacks.rating,
    feedbacks.comment,
    feedbacks.feedback_name,
    feedbacks.is_sent_by_user,
    staff.staff_id,
    coalesce(people.staff_name, feedbacks.employee_name) as staff_name,
    feedbacks.conversation_id,
    conversations.type as conversation_type,
    {{ pancake.json_text('conversations.page_customer', 'id') }} as page_customer_id,
    feedbacks.message_id,
    answered.wait_id as wait_before_id,
    answered.asked_at as asked_before_at,
    answered.ended_at as answered_before_at,
    answered.wait_minutes as response_minutes_before,
    answered.working_minutes as working_response_minutes_before,
    coalesce(days.is_feedback_complete, false) as is_complete
from {{ ref('stg_pancake__customer_feedbacks') }} as feedbacks
left join staff
    on staff.page_id = feedbacks.page_id
    and staff.id_or_name = coalesce(nullif(feedbacks.admin_id, ''), nullif(feedbacks.employee_name, ''))
left join {{ ref('int_pancake__staff') }} as people
    on people.page_id = feedbacks.page_id and people.staff_id = staff.staff_id
left join {{ ref('stg_pancake__conversations') }} as conversations
    on conversations.page_id = feedbacks.page_id and conversations.conversation_id = feedbacks.conversation_id
left join answered
    on answered.page_id = feedbacks.page_id and answered.feedback_id = feedbacks.feedback_id and answered.place = 1
left join {{ ref('int_pancake__complete_days') }} as days
    on days.page_id = feedbacks.page_id and days.date_day = cast(feedbacks.inserted_at_local as date)
