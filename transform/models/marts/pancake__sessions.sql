-- Parts of conversations. A session ends after a silence, or with a click on an ad.
{% set silence = var('pancake__session_hours', 24) %}
with followed as (
    select
        stretches.*,
        {{ pancake.local_time('stretches.first_message_at', 'zones.timezone') }} as first_message_at_local
    from {{ ref('int_pancake__stretches') }} as stretches
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = stretches.page_id
), staff as (
    select
        followed.page_id,
        followed.conversation_id,
        followed.session_number,
        max(case when answers.message_id = followed.answer_message_id then ids.staff_id end) as staff_id,
        max(case when answers.message_id = followed.answer_message_id then answers.staff_name end) as staff_name,
        count(distinct ids.staff_id) as staff_count
    from followed
    inner join {{ ref('int_pancake__messages') }} as answers
        on answers.page_id = followed.page_id
        and answers.conversation_id = followed.conversation_id
        and answers.sent_at >= followed.started_at
        and answers.sent_at < coalesce(followed.next_at, {{ pancake.shifted('day', 1, 'followed.last_event_at') }})
        and answers.is_answer
    left join {{ ref('int_pancake__staff_ids') }} as ids
        on ids.page_id = answers.page_id and ids.staff_key = answers.staff_key
    group by followed.page_id, followed.conversation_id, followed.session_number
), waits as (
    select
        followed.page_id,
        followed.conversation_id,
        followed.session_number,
        waits.asked_at,
        case when waits.answer_message_id is not null then waits.ended_at end as answered_at,
        waits.wait_minutes,
        waits.working_minutes,
        row_number() over (
            partition by followed.page_id, followed.conversation_id, followed.session_number order by waits.asked_at
        ) as position
    from followed
    inner join {{ ref('int_pancake__waits') }} as waits
        on waits.page_id = followed.page_id
        and waits.conversation_id = followed.conversation_id
        and waits.asked_at >= followed.started_at
        and waits.asked_at < coalesce(followed.next_at, {{ pancake.shifted('day', 1, 'followed.last_event_at') }})
    where not waits.is_cut_off
), customers as (
    select page_id, conversation_id, {{ pancake.json_text('page_customer', 'id') }} as page_customer_id
    from {{ ref('stg_pancake__conversations') }}
), placed_orders as (
    -- An order counts for the customer's last session that began before it.
    select
        orders.page_id,
        orders.order_id,
        orders.ordered_at,
        followed.conversation_id,
        followed.session_number,
        row_number() over (
            partition by orders.page_id, orders.page_customer_id, orders.order_id
            order by followed.started_at desc, followed.conversation_id
        ) as choice
    from {{ ref('int_pancake__conversation_orders') }} as orders
    inner join customers
        on customers.page_id = orders.page_id and customers.page_customer_id = orders.page_customer_id
    inner join followed
        on followed.page_id = customers.page_id
        and followed.conversation_id = customers.conversation_id
        and followed.started_at <= orders.ordered_at
        and orders.ordered_at < {{ pancake.shifted('day', var('pancake__order_days', 7), 'followed.started_at') }}
), orders as (
    select page_id, conversation_id, session_number, count(*) as order_count, min(ordered_at) as first_ordered_at
    from placed_orders
    where choice = 1
    group by page_id, conversation_id, session_number
)
select
    {{ dbt.hash(dbt.concat([
        "followed.page_id", "'|'", "followed.conversation_id", "'|'", "followed.first_message_id"
    ])) }} as session_id,
    followed.page_id,
    followed.conversation_id,
    followed.conversation_type,
    customers.page_customer_id,
    followed.session_number,
    case when followed.ad_clicked_at is not null then 'ad_click' else followed.first_sender_kind end as started_by,
    followed.started_at,
    followed.first_message_at_local,
    cast(followed.first_message_at_local as date) as date_day,
    followed.last_event_at as last_message_at,
    followed.next_at is not null
        or {{ pancake.shifted('hour', silence, 'followed.last_event_at') }} <= clock.as_of as is_ended,
    followed.message_count,
    followed.customer_message_count,
    followed.staff_message_count,
    followed.outside_message_count,
    followed.automation_message_count,
    waits.asked_at as first_asked_at,
    waits.answered_at as first_answered_at,
    case when waits.answered_at is not null then waits.wait_minutes end as first_response_minutes,
    case when waits.answered_at is not null then waits.working_minutes end as first_response_working_minutes,
    staff.staff_id,
    staff.staff_name,
    coalesce(staff.staff_count, 0) as staff_count,
    followed.ad_clicked_at,
    followed.ad_id,
    followed.has_phone,
    coalesce(orders.order_count, 0) as order_count,
    coalesce(orders.order_count, 0) > 0 as has_order,
    orders.first_ordered_at
from followed
cross join {{ ref('int_pancake__clock') }} as clock
left join customers
    on customers.page_id = followed.page_id and customers.conversation_id = followed.conversation_id
left join staff
    on staff.page_id = followed.page_id
    and staff.conversation_id = followed.conversation_id
    and staff.session_number = followed.session_number
left join waits
    on waits.page_id = followed.page_id
    and waits.conversation_id = followed.conversation_id
    and waits.session_number = followed.session_number
    and waits.position = 1
left join orders
    on orders.page_id = followed.page_id
    and orders.conversation_id = followed.conversation_id
    and orders.session_number = followed.session_number
