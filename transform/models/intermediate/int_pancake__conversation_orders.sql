-- Orders of customers, from the lists of recent orders in three streams.
with conversations as (
    select
        page_id,
        conversation_id,
        {{ pancake.json_text('page_customer', 'id') }} as page_customer_id,
        {{ pancake.json_part('page_customer', 'recent_orders') }} as recent_orders
    from {{ ref('stg_pancake__conversations') }}
), order_lists as (
    select page_id, page_customer_id, recent_orders from conversations
    union all
    select page_id, page_customer_id, recent_orders from {{ ref('stg_pancake__customers') }}
    union all
    select details.page_id, conversations.page_customer_id, details.recent_orders
    from {{ ref('stg_pancake__conversation_details') }} as details
    inner join conversations
        on conversations.page_id = details.page_id and conversations.conversation_id = details.conversation_id
), orders as (
    select
        order_lists.page_id,
        order_lists.page_customer_id,
        {{ pancake.json_text('each_one.entry', 'id') }} as order_id,
        cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as ordered_at
    from order_lists
    {{ pancake.unnested('order_lists.recent_orders') }}
)
select page_id, page_customer_id, order_id, min(ordered_at) as ordered_at
from orders
where page_customer_id is not null and order_id is not null
group by page_id, page_customer_id, order_id
