-- When the page met each customer, by both streams that tell it; `conversation_type` is that of the customer's
-- first conversation, so that new customers of all types add up to those of the page.
with of_conversations as (
    select
        page_id,
        {{ pancake.json_text('page_customer', 'id') }} as page_customer_id,
        cast({{ pancake.json_text('page_customer', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as customer_since,
        type as conversation_type,
        case when has_phone then 1 else 0 end as has_phone,
        row_number() over (
            partition by page_id, {{ pancake.json_text('page_customer', 'id') }}
            order by inserted_at, conversation_id
        ) as conversation_number
    from {{ ref('stg_pancake__conversations') }}
),

told as (
    select page_id, page_customer_id, customer_since, conversation_type, has_phone, conversation_number
    from of_conversations
    union all
    select page_id, page_customer_id, inserted_at, null, 0, 0 from {{ ref('stg_pancake__customers') }}
),

customers as (
    select
        page_id,
        page_customer_id,
        min(customer_since) as customer_since,
        max(case when conversation_number = 1 then conversation_type end) as conversation_type,
        max(has_phone) as has_phone
    from told
    where page_customer_id is not null
    group by 1, 2
)

select
    customers.page_id,
    customers.page_customer_id,
    customers.customer_since,
    {{ pancake.local_time('customers.customer_since', 'zones.timezone') }} as customer_since_local,
    customers.conversation_type,
    customers.has_phone = 1 as has_phone
from customers
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = customers.page_id
