with message_hours as (
    select
        page_id,
        coalesce(conversation_type, 'UNKNOWN') as conversation_type,
        hour_at_local,
        sum(case when coalesce(sender_kind, '') = 'nobody' then 0 else 1 end) as message_count,
        sum(case when sender_kind = 'customer' then 1 else 0 end) as customer_message_count,
        sum(case when sender_kind = 'staff' then 1 else 0 end) as staff_message_count,
        sum(case when sender_kind = 'outside' then 1 else 0 end) as outside_message_count,
        sum(case when sender_kind = 'automation' then 1 else 0 end) as automation_message_count,
        sum(case when sender_kind is null then 1 else 0 end) as unknown_message_count,
        sum(case when sender_kind = 'nobody' then 1 else 0 end) as nobody_message_count,
        count(distinct case when coalesce(sender_kind, '') <> 'nobody' then conversation_id end) as conversation_count,
        sum(case when sender_kind = 'customer' and has_phone then 1 else 0 end) as phone_message_count,
        count(distinct case when sender_kind = 'customer' and has_phone then conversation_id end)
            as phone_conversation_count
    from {{ ref('int_pancake__messages') }}
    where hour_at_local is not null
    group by 1, 2, 3
),

conversation_hours as (
    select
        page_id,
        coalesce(type, 'UNKNOWN') as conversation_type,
        {{ dbt.date_trunc('hour', 'inserted_at_local') }} as hour_at_local,
        count(*) as new_conversation_count
    from {{ ref('stg_pancake__conversations') }}
    where inserted_at_local is not null
    group by 1, 2, 3
),

-- A new customer counts in the kind of their first conversation only, so that all kinds add up to the page.
first_conversations as (
    select
        page_id,
        {{ pancake.json_text('page_customer', 'id') }} as page_customer_id,
        type as conversation_type,
        row_number() over (
            partition by page_id, {{ pancake.json_text('page_customer', 'id') }}
            order by inserted_at, conversation_id
        ) as conversation_number
    from {{ ref('stg_pancake__conversations') }}
),

customer_hours as (
    select
        customers.page_id,
        coalesce(first_conversations.conversation_type, 'UNKNOWN') as conversation_type,
        {{ dbt.date_trunc('hour', 'customers.added_at_local') }} as hour_at_local,
        count(*) as new_customer_count
    from {{ ref('pancake__customers') }} as customers
    left join first_conversations
        on first_conversations.page_id = customers.page_id
        and first_conversations.page_customer_id = customers.page_customer_id
        and first_conversations.conversation_number = 1
    where customers.added_at_local is not null
    group by 1, 2, 3
),

hours as (
    select distinct page_id, conversation_type, hour_at_local
    from (
        select page_id, conversation_type, hour_at_local from message_hours
        union all
        select page_id, conversation_type, hour_at_local from conversation_hours
        union all
        select page_id, conversation_type, hour_at_local from customer_hours
    ) as all_hours
)

select
    hours.page_id,
    hours.conversation_type,
    hours.hour_at_local,
    {{ pancake.utc_time('hours.hour_at_local', 'zones.timezone') }} as hour_at,
    cast(hours.hour_at_local as date) as date_day,
    {% for name in [
        'message_count', 'customer_message_count', 'staff_message_count', 'outside_message_count',
        'automation_message_count', 'unknown_message_count', 'nobody_message_count', 'conversation_count',
        'phone_message_count', 'phone_conversation_count'
    ] -%}
    coalesce(message_hours.{{ name }}, 0) as {{ name }},
    {% endfor -%}
    coalesce(conversation_hours.new_conversation_count, 0) as new_conversation_count,
    coalesce(customer_hours.new_customer_count, 0) as new_customer_count,
    coalesce(complete.is_customer_complete, false) as is_complete
from hours
left join message_hours
    on message_hours.page_id = hours.page_id
    and message_hours.conversation_type = hours.conversation_type
    and message_hours.hour_at_local = hours.hour_at_local
left join conversation_hours
    on conversation_hours.page_id = hours.page_id
    and conversation_hours.conversation_type = hours.conversation_type
    and conversation_hours.hour_at_local = hours.hour_at_local
left join customer_hours
    on customer_hours.page_id = hours.page_id
    and customer_hours.conversation_type = hours.conversation_type
    and customer_hours.hour_at_local = hours.hour_at_local
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = hours.page_id
left join {{ ref('int_pancake__complete_hours') }} as complete
    on complete.page_id = hours.page_id
    and cast(complete.hour_at_local as {{ dbt.type_timestamp() }}) = hours.hour_at_local
