-- Customers of each page, from the stream `customers` and from the conversations.
with of_conversations as (
    select
        page_id,
        conversation_id,
        type,
        {{ pancake.json_text('page_customer', 'id') }} as page_customer_id,
        {{ pancake.json_text('page_customer', 'customer_id') }} as customer_id,
        {{ pancake.json_text('page_customer', 'psid') }} as psid,
        {{ pancake.json_text('page_customer', 'name') }} as name,
        {{ pancake.json_text('page_customer', 'gender') }} as gender,
        cast({{ pancake.json_text('page_customer', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as added_at,
        {{ pancake.json_part('page_customer', 'recent_orders') }} as recent_orders,
        {{ pancake.json_text('sender', 'id') }} as sender_id,
        has_phone,
        updated_at
    from {{ ref('stg_pancake__conversations') }}
    where {{ pancake.json_text('page_customer', 'id') }} is not null
),

-- Profiles of customers from both sources; the stream `customers` first.
sources as (
    select
        page_id, page_customer_id, customer_id, psid, name, gender, inserted_at as added_at, 1 as source,
        updated_at
    from {{ ref('stg_pancake__customers') }}
    union all
    select page_id, page_customer_id, customer_id, psid, name, gender, added_at, 2, updated_at
    from of_conversations
),

profiles as (
    select
        sources.*,
        row_number() over (
            partition by page_id, page_customer_id
            order by source, case when updated_at is null then 1 else 0 end, updated_at desc, name
        ) as place,
        min(added_at) over (partition by page_id, page_customer_id) as first_added_at,
        max(case when source = 1 then 1 else 0 end) over (partition by page_id, page_customer_id) as is_listed
    from sources
),

-- Other people may also write in a thread of comments.
spoken as (
    select
        conversations.page_id,
        conversations.conversation_id,
        count(*) as message_count,
        min(case when {{ pancake.json_text('messages.sender', 'id') }} = conversations.page_id then null
            when conversations.type = 'INBOX' then messages.inserted_at
            when {{ pancake.json_text('messages.sender', 'id') }} in (conversations.sender_id, conversations.psid)
                then messages.inserted_at
        end) as first_at,
        max(case when {{ pancake.json_text('messages.sender', 'id') }} = conversations.page_id then null
            when conversations.type = 'INBOX' then messages.inserted_at
            when {{ pancake.json_text('messages.sender', 'id') }} in (conversations.sender_id, conversations.psid)
                then messages.inserted_at
        end) as last_at
    from of_conversations as conversations
    inner join {{ ref('stg_pancake__messages') }} as messages
        on messages.page_id = conversations.page_id and messages.conversation_id = conversations.conversation_id
    group by conversations.page_id, conversations.conversation_id
),

sightings as (
    select page_id, page_customer_id, added_at as seen_at from sources
    union all
    select conversations.page_id, conversations.page_customer_id, spoken.first_at
    from of_conversations as conversations
    inner join spoken
        on spoken.page_id = conversations.page_id and spoken.conversation_id = conversations.conversation_id
    union all
    -- If no messages were loaded, the time of the last update counts instead, whoever sent the last message.
    select
        conversations.page_id,
        conversations.page_customer_id,
        case when spoken.message_count is null then conversations.updated_at else spoken.last_at end
    from of_conversations as conversations
    left join spoken
        on spoken.page_id = conversations.page_id and spoken.conversation_id = conversations.conversation_id
),

seen as (
    select page_id, page_customer_id, min(seen_at) as first_seen_at, max(seen_at) as last_seen_at
    from sightings
    group by page_id, page_customer_id
),

-- `personal_data: drop` removes phone numbers, but `has_phone` of the conversation stays.
phones as (
    select page_id, page_customer_id
    from (
        select page_id, page_customer_id from of_conversations where has_phone
        union all
        select conversations.page_id, conversations.page_customer_id
        from of_conversations as conversations
        inner join {{ ref('stg_pancake__conversation_phone_numbers') }} as numbers
            on numbers.page_id = conversations.page_id and numbers.conversation_id = conversations.conversation_id
        union all
        select customers.page_id, customers.page_customer_id
        from {{ ref('stg_pancake__customers') }} as customers
        {{ pancake.unnested('customers.phone_numbers') }}
        where {{ pancake.json_scalar('each_one.entry') }} <> ''
    ) as given
    group by page_id, page_customer_id
),

clicks as (
    select
        conversations.page_id,
        conversations.page_customer_id,
        ads.ad_id,
        ads.clicked_at,
        row_number() over (
            partition by conversations.page_id, conversations.page_customer_id
            order by case when ads.clicked_at is null then 1 else 0 end, ads.clicked_at, ads.ad_id
        ) as place
    from of_conversations as conversations
    inner join {{ ref('stg_pancake__conversation_ads') }} as ads
        on ads.page_id = conversations.page_id and ads.conversation_id = conversations.conversation_id
),

order_lists as (
    select page_id, page_customer_id, recent_orders from {{ ref('stg_pancake__customers') }}
    union all
    select page_id, page_customer_id, recent_orders from of_conversations
    union all
    select conversations.page_id, conversations.page_customer_id, details.recent_orders
    from of_conversations as conversations
    inner join {{ ref('stg_pancake__conversation_details') }} as details
        on details.page_id = conversations.page_id and details.conversation_id = conversations.conversation_id
),

order_entries as (
    select
        order_lists.page_id,
        order_lists.page_customer_id,
        {{ pancake.json_text('each_one.entry', 'id') }} as order_id,
        cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as ordered_at
    from order_lists
    {{ pancake.unnested('order_lists.recent_orders') }}
),

orders as (
    select
        page_id,
        page_customer_id,
        count(distinct order_id) as order_count,
        min(ordered_at) as first_order_at,
        max(ordered_at) as last_order_at
    from order_entries
    group by page_id, page_customer_id
),

conversation_counts as (
    select page_id, page_customer_id, count(*) as conversation_count
    from of_conversations
    group by page_id, page_customer_id
),

ratings as (
    select
        conversations.page_id,
        conversations.page_customer_id,
        count(feedbacks.rating) as rating_count,
        avg(cast(feedbacks.rating as {{ dbt.type_float() }})) as average_rating
    from of_conversations as conversations
    inner join {{ ref('stg_pancake__customer_feedbacks') }} as feedbacks
        on feedbacks.page_id = conversations.page_id and feedbacks.conversation_id = conversations.conversation_id
    group by conversations.page_id, conversations.page_customer_id
)

select
    profiles.page_id,
    profiles.page_customer_id,
    profiles.customer_id,
    profiles.psid,
    profiles.name as customer_name,
    profiles.gender,
    profiles.is_listed = 1 as is_in_customers,
    profiles.first_added_at as added_at,
    {{ pancake.local_time('profiles.first_added_at', 'zones.timezone') }} as added_at_local,
    seen.first_seen_at,
    {{ pancake.local_time('seen.first_seen_at', 'zones.timezone') }} as first_seen_at_local,
    seen.last_seen_at,
    {{ pancake.local_time('seen.last_seen_at', 'zones.timezone') }} as last_seen_at_local,
    coalesce(conversation_counts.conversation_count, 0) as conversation_count,
    clicks.ad_id as first_ad_id,
    clicks.clicked_at as first_ad_at,
    phones.page_customer_id is not null as has_phone,
    coalesce(orders.order_count, 0) as order_count,
    orders.first_order_at,
    orders.last_order_at,
    coalesce(ratings.rating_count, 0) as rating_count,
    ratings.average_rating
from profiles
inner join seen on seen.page_id = profiles.page_id and seen.page_customer_id = profiles.page_customer_id
left join conversation_counts
    on conversation_counts.page_id = profiles.page_id
    and conversation_counts.page_customer_id = profiles.page_customer_id
left join phones on phones.page_id = profiles.page_id and phones.page_customer_id = profiles.page_customer_id
left join clicks
    on clicks.page_id = profiles.page_id
    and clicks.page_customer_id = profiles.page_customer_id
    and clicks.place = 1
left join orders on orders.page_id = profiles.page_id and orders.page_customer_id = profiles.page_customer_id
left join ratings on ratings.page_id = profiles.page_id and ratings.page_customer_id = profiles.page_customer_id
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = profiles.page_id
where profiles.place = 1
