-- A stretch of a conversation, ended by silence or by a click on an ad.
{% set silence = var('pancake__session_hours', 24) %}
with messages as (
    -- System messages and reactions say nothing, and comments of third persons are not the customer's.
    select * from {{ ref('int_pancake__messages') }}
    where (kind = 'ad_click' or coalesce(sender_kind, '') <> 'nobody')
        and not coalesce(is_third_person, false)
), clicks as (
    select page_id, conversation_id, ad_id, clicked_at
    from {{ ref('stg_pancake__conversation_ads') }}
    where clicked_at is not null
), events as (
    select
        page_id, conversation_id, conversation_type, sent_at, sent_at_local, date_day, message_id, sequence, kind,
        sender_kind, is_answer, staff_id, staff_name, has_phone, cast(null as {{ dbt.type_string() }}) as ad_id
    from messages
    union all
    select
        clicks.page_id, clicks.conversation_id, null, clicks.clicked_at, null, null, null, 0, 'ad_click', 'nobody',
        false, null, null, null, clicks.ad_id
    from clicks
), ordered as (
    -- What is said in the second of a click follows it.
    select
        events.*,
        row_number() over (
            partition by page_id, conversation_id
            order by sent_at, case when kind = 'ad_click' then 0 else 1 end, sequence, message_id, ad_id
        ) as position
    from events
), compared as (
    select
        ordered.*,
        lag(sent_at) over (partition by page_id, conversation_id order by position) as previous_at,
        lag(kind) over (partition by page_id, conversation_id order by position) as previous_kind
    from ordered
), stretched as (
    -- One click can stand in the data twice, as a message and in the list of the conversation's ads.
    select
        compared.*,
        sum(case
            when previous_at is null then 1
            when {{ pancake.seconds_between('previous_at', 'sent_at') }} >= {{ silence * 3600 }} then 1
            when kind = 'ad_click' and previous_kind <> 'ad_click' then 1
            else 0
        end) over (
            partition by page_id, conversation_id order by position rows between unbounded preceding and current row
        ) as stretch
    from compared
), placed as (
    select
        stretched.*,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when message_id is not null then 0 else 1 end, position
        ) as message_position,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when ad_id is not null then 0 else 1 end, position
        ) as ad_position,
        row_number() over (
            partition by page_id, conversation_id, stretch
            order by case when is_answer then 0 else 1 end, position
        ) as answer_position
    from stretched
), sessions as (
    select
        page_id,
        conversation_id,
        stretch,
        max(conversation_type) as conversation_type,
        max(case when message_position = 1 then message_id end) as first_message_id,
        max(case when message_position = 1 then sent_at_local end) as first_message_at_local,
        max(case when message_position = 1 then date_day end) as date_day,
        max(case when message_position = 1 then sender_kind end) as first_sender_kind,
        min(sent_at) as started_at,
        max(sent_at) as last_event_at,
        min(case when kind = 'ad_click' then sent_at end) as ad_clicked_at,
        max(case when ad_position = 1 then ad_id end) as ad_id,
        count(message_id) as message_count,
        sum(case when sender_kind = 'customer' then 1 else 0 end) as customer_message_count,
        sum(case when sender_kind = 'staff' then 1 else 0 end) as staff_message_count,
        sum(case when sender_kind = 'outside' then 1 else 0 end) as outside_message_count,
        sum(case when sender_kind = 'automation' then 1 else 0 end) as automation_message_count,
        max(case when answer_position = 1 and is_answer then staff_id end) as staff_id,
        max(case when answer_position = 1 and is_answer then staff_name end) as staff_name,
        count(distinct case when is_answer then staff_id end) as staff_count,
        max(case when sender_kind = 'customer' and has_phone then 1 else 0 end) = 1 as has_phone
    from placed
    group by page_id, conversation_id, stretch
    having count(message_id) > 0
), followed as (
    select
        sessions.*,
        row_number() over (partition by page_id, conversation_id order by stretch) as session_number,
        lead(started_at) over (partition by page_id, conversation_id order by stretch) as next_at
    from sessions
), waits as (
    select
        followed.page_id,
        followed.conversation_id,
        followed.stretch,
        waits.asked_at,
        case when waits.answer_message_id is not null then waits.ended_at end as answered_at,
        waits.wait_minutes,
        waits.working_minutes,
        waits.answer_message_id,
        row_number() over (
            partition by followed.page_id, followed.conversation_id, followed.stretch order by waits.asked_at
        ) as position
    from followed
    inner join placed
        on placed.page_id = followed.page_id
        and placed.conversation_id = followed.conversation_id
        and placed.stretch = followed.stretch
    inner join {{ ref('int_pancake__waits') }} as waits
        on waits.page_id = placed.page_id
        and waits.conversation_id = placed.conversation_id
        and waits.asked_message_id = placed.message_id
    where not waits.is_cut_off
), customers as (
    select page_id, conversation_id, {{ pancake.json_text('page_customer', 'id') }} as page_customer_id
    from {{ ref('stg_pancake__conversations') }}
), placed_orders as (
    -- An order belongs to the session of the customer that began last before it.
    select
        orders.page_id,
        orders.order_id,
        orders.ordered_at,
        followed.conversation_id,
        followed.stretch,
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
        and orders.ordered_at < {{ pancake.later('day', var('pancake__order_days', 7), 'followed.started_at') }}
), orders as (
    select page_id, conversation_id, stretch, count(*) as order_count, min(ordered_at) as first_ordered_at
    from placed_orders
    where choice = 1
    group by page_id, conversation_id, stretch
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
    followed.date_day,
    followed.last_event_at as last_message_at,
    followed.next_at is not null
        or {{ pancake.later('hour', silence, 'followed.last_event_at') }} <= clock.as_of as is_ended,
    followed.message_count,
    followed.customer_message_count,
    followed.staff_message_count,
    followed.outside_message_count,
    followed.automation_message_count,
    waits.asked_at as first_asked_at,
    waits.answered_at as first_answered_at,
    case when waits.answered_at is not null then waits.wait_minutes end as first_response_minutes,
    case when waits.answered_at is not null then waits.working_minutes end as first_response_working_minutes,
    followed.staff_id,
    followed.staff_name,
    followed.staff_count,
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
left join waits
    on waits.page_id = followed.page_id
    and waits.conversation_id = followed.conversation_id
    and waits.stretch = followed.stretch
    and waits.position = 1
left join orders
    on orders.page_id = followed.page_id
    and orders.conversation_id = followed.conversation_id
    and orders.stretch = followed.stretch
