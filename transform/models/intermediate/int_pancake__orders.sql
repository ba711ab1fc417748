-- The API tells the latest orders of a customer wherever it tells of the customer: each order counts once.
with told as (
    select
        page_id,
        {{ pancake.json_text('page_customer', 'id') }} as page_customer_id,
        {{ pancake.json_part('page_customer', 'recent_orders') }} as orders
    from {{ ref('stg_pancake__conversations') }}
    union all
    select page_id, page_customer_id, recent_orders from {{ ref('stg_pancake__customers') }}
    union all
    select
        details.page_id,
        {{ pancake.json_text('conversations.page_customer', 'id') }},
        details.recent_orders
    from {{ ref('stg_pancake__conversation_details') }} as details
    join {{ ref('stg_pancake__conversations') }} as conversations
        on conversations.page_id = details.page_id and conversations.conversation_id = details.conversation_id
),

orders as (
    select
        told.page_id,
        told.page_customer_id,
        {{ pancake.json_text('each_one.entry', 'id') }} as order_id,
        min(cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }})) as ordered_at
    from told
    {{ pancake.unnested('told.orders') }}
    where told.page_customer_id is not null and {{ pancake.json_text('each_one.entry', 'id') }} is not null
    group by 1, 2, 3
)

select
    orders.page_id,
    orders.page_customer_id,
    orders.order_id,
    orders.ordered_at,
    {{ pancake.local_time('orders.ordered_at', 'zones.timezone') }} as ordered_at_local
from orders
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = orders.page_id
