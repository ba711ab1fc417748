-- `staff_id` is 'unknown' for answers from outside of Pancake, and for phone numbers and orders that are credited to
-- nobody. So the rows of a page add up.
{% set classes = pancake.response_classes() %}
{% set unit = 60000 if var('pancake__average_response_time_unit', 'seconds') == 'milliseconds' else 60 %}
with messages as (
    select
        messages.page_id,
        messages.conversation_id,
        messages.conversation_type,
        messages.message_id,
        messages.sent_at,
        messages.date_day,
        messages.sender_kind,
        messages.has_phone,
        case
            when messages.sender_kind = 'staff' then coalesce(staff.staff_id, 'unknown')
            when messages.sender_kind = 'outside' then 'unknown'
        end as staff_id,
        messages.staff_name,
        coalesce(
            {{ pancake.json_text('conversations.page_customer', 'id') }}, messages.conversation_id
        ) as customer_key
    from {{ ref('int_pancake__messages') }} as messages
    left join {{ ref('stg_pancake__conversations') }} as conversations
        on conversations.page_id = messages.page_id and conversations.conversation_id = messages.conversation_id
    left join {{ ref('int_pancake__staff_ids') }} as staff
        on staff.page_id = messages.page_id and staff.staff_key = messages.staff_key
    where messages.sender_kind in ('customer', 'staff', 'outside') and messages.sent_at is not null
),

written as (
    select
        messages.*,
        row_number() over (partition by page_id, customer_key order by sent_at, message_id) as turn
    from messages
    where sender_kind in ('staff', 'outside')
),

message_days as (
    select
        page_id,
        staff_id,
        date_day,
        max(staff_name) as staff_name,
        count(distinct conversation_id) as conversation_count,
        count(*) as message_count,
        {% for type in ['inbox', 'comment'] -%}
        sum(case when conversation_type = '{{ type | upper }}' then 1 else 0 end) as {{ type }}_message_count,
        count(distinct case when conversation_type = '{{ type | upper }}' then conversation_id end)
            as {{ type }}_conversation_count{{ ',' if not loop.last }}
        {% endfor -%}
    from written
    group by 1, 2, 3
),

responses as (
    select
        waits.page_id,
        coalesce(waits.staff_id, 'unknown') as staff_id,
        waits.date_day,
        waits.is_inbox,
        waits.is_within_target,
        waits.wait_minutes,
        waits.working_minutes
    from {{ ref('pancake__response_times') }} as waits
    where not waits.is_open
),

response_days as (
    select
        page_id,
        staff_id,
        date_day,
        count(*) as response_count,
        sum(case when is_within_target then 1 else 0 end) as within_target_count,
        {% for end in classes -%}
        sum(case
            when working_minutes < {{ end }}
                {% if not loop.first %}and working_minutes >= {{ classes[loop.index0 - 1] }} {% endif %}then 1
            else 0
        end) as response_under_{{ end }}_minutes_count,
        {% endfor -%}
        sum(case when working_minutes >= {{ classes[-1] }} then 1 else 0 end)
            as response_from_{{ classes[-1] }}_minutes_count,
        sum(working_minutes) as response_minutes_sum,
        {{ pancake.percentile('working_minutes', 0.5) }} as median_response_minutes,
        {{ pancake.percentile('working_minutes', 0.9) }} as p90_response_minutes,
        {{ pancake.percentile('wait_minutes', 0.5) }} as median_calendar_response_minutes,
        {{ pancake.percentile('wait_minutes', 0.9) }} as p90_calendar_response_minutes
    from responses
    where is_inbox
    group by 1, 2, 3
),

other_response_days as (
    select page_id, staff_id, date_day, count(*) as other_response_count
    from responses
    where not is_inbox
    group by 1, 2, 3
),

-- Phone numbers and orders are credited to the person who last wrote to the customer before them.
events as (
    select page_id, customer_key, sent_at as happened_at, date_day, 0 as is_order, conversation_id as counted_id
    from messages
    where sender_kind = 'customer' and has_phone
    union all
    select
        orders.page_id,
        orders.page_customer_id,
        orders.ordered_at,
        cast({{ pancake.local_time('orders.ordered_at', 'zones.timezone') }} as date),
        1,
        orders.order_id
    from {{ ref('int_pancake__conversation_orders') }} as orders
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = orders.page_id
    where orders.ordered_at is not null
),

timeline as (
    select page_id, customer_key, happened_at, date_day, is_order, counted_id, 1 as is_event from events
    union all
    select page_id, customer_key, sent_at, date_day, 0, message_id, 0 from written
),

counted as (
    select
        timeline.*,
        sum(1 - is_event) over (
            partition by page_id, customer_key order by happened_at, is_event
            rows between unbounded preceding and current row
        ) as turn
    from timeline
),

credited as (
    select
        counted.page_id,
        counted.date_day,
        counted.is_order,
        counted.counted_id,
        case
            when written.sent_at
                >= {{ pancake.shifted('day', -1 * var('pancake__credit_days', 7), 'counted.happened_at') }}
                then written.staff_id
            else 'unknown'
        end as staff_id
    from counted
    left join written
        on written.page_id = counted.page_id
        and written.customer_key = counted.customer_key
        and written.turn = counted.turn
    where counted.is_event = 1
),

credit_days as (
    select
        page_id,
        staff_id,
        date_day,
        count(distinct case when is_order = 0 then counted_id end) as phone_conversation_count,
        count(distinct case when is_order = 1 then counted_id end) as order_count
    from credited
    group by 1, 2, 3
),

-- Pancake has an average for each hour, not for the day. Here, each hour is weighted by its inbox and comment counts.
pancake_days as (
    select
        page_id,
        user_id as staff_id,
        cast(hour_at_local as date) as date_day,
        max(user_name) as staff_name,
        {% for name in [
            'inbox_count', 'comment_count', 'unique_inbox_count', 'unique_comment_count', 'private_reply_count',
            'phone_number_count', 'order_count'
        ] -%}
        sum({{ name }}) as pancake_{{ name }},
        {% endfor -%}
        sum(case when average_response_time > 0 then average_response_time * weight end)
            / sum(case when average_response_time > 0 then weight end)
            / {{ unit }}.0 as pancake_average_response_minutes
    from (
        select
            hours.*,
            greatest(coalesce(inbox_count, 0) + coalesce(comment_count, 0), 1) as weight
        from {{ ref('stg_pancake__user_statistics') }} as hours
    ) as weighed
    group by 1, 2, 3
),

days as (
    select distinct page_id, staff_id, date_day
    from (
        select page_id, staff_id, date_day from message_days
        union all
        select page_id, staff_id, date_day from response_days
        union all
        select page_id, staff_id, date_day from other_response_days
        union all
        select page_id, staff_id, date_day from credit_days
        union all
        select page_id, staff_id, date_day from pancake_days
    ) as all_days
)

select
    days.page_id,
    days.staff_id,
    coalesce(staff.staff_name, message_days.staff_name, pancake_days.staff_name) as staff_name,
    days.date_day,
    {% for name in [
        'conversation_count', 'message_count', 'inbox_message_count', 'inbox_conversation_count',
        'comment_message_count', 'comment_conversation_count'
    ] -%}
    coalesce(message_days.{{ name }}, 0) as {{ name }},
    {% endfor -%}
    coalesce(response_days.response_count, 0) as response_count,
    coalesce(response_days.within_target_count, 0) as within_target_count,
    {% for end in classes -%}
    coalesce(response_days.response_under_{{ end }}_minutes_count, 0) as response_under_{{ end }}_minutes_count,
    {% endfor -%}
    coalesce(response_days.response_from_{{ classes[-1] }}_minutes_count, 0)
        as response_from_{{ classes[-1] }}_minutes_count,
    coalesce(response_days.response_minutes_sum, 0) as response_minutes_sum,
    response_days.median_response_minutes,
    response_days.p90_response_minutes,
    response_days.median_calendar_response_minutes,
    response_days.p90_calendar_response_minutes,
    coalesce(other_response_days.other_response_count, 0) as other_response_count,
    coalesce(credit_days.phone_conversation_count, 0) as phone_conversation_count,
    coalesce(credit_days.order_count, 0) as order_count,
    coalesce(credit_days.order_count, 0) * 1.0 / nullif(message_days.conversation_count, 0) as close_rate,
    {% for name in [
        'inbox_count', 'comment_count', 'unique_inbox_count', 'unique_comment_count', 'private_reply_count',
        'phone_number_count', 'order_count', 'average_response_minutes'
    ] -%}
    pancake_days.pancake_{{ name }},
    {% endfor -%}
    coalesce(complete.is_inbox_complete, false) as is_complete,
    coalesce(complete.is_user_statistics_complete, false) as is_pancake_complete
from days
{% for name in ['message_days', 'response_days', 'other_response_days', 'credit_days', 'pancake_days'] -%}
left join {{ name }}
    on {{ name }}.page_id = days.page_id
    and {{ name }}.staff_id = days.staff_id
    and {{ name }}.date_day = days.date_day
{% endfor -%}
left join {{ ref('int_pancake__staff') }} as staff
    on staff.page_id = days.page_id and staff.staff_id = days.staff_id
left join {{ ref('int_pancake__complete_days') }} as complete
    on complete.page_id = days.page_id and complete.date_day = days.date_day
