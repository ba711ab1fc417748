-- All pages that any stream names. The list of pages lacks pages that are only in `page_access_tokens`.
with activity as (
    select
        page_id,
        min(inserted_at) as first_at,
        max(inserted_at) as last_at,
        count(*) as message_count,
        0 as conversation_count
    from {{ ref('stg_pancake__messages') }}
    group by page_id
    union all
    select page_id, null, null, 0, count(*)
    from {{ ref('stg_pancake__conversations') }}
    group by page_id
    union all
    select page_id, null, null, 0, 0 from {{ ref('pancake__sync_health') }}
),

pages as (
    select
        page_id,
        min(first_at) as first_message_at,
        max(last_at) as last_message_at,
        cast(sum(message_count) as {{ dbt.type_bigint() }}) as message_count,
        cast(sum(conversation_count) as {{ dbt.type_bigint() }}) as conversation_count
    from activity
    group by page_id
),

customers as (
    select page_id, count(*) as customer_count
    from {{ ref('pancake__customers') }}
    group by page_id
),

staff as (
    select
        page_id,
        count(*) as staff_count,
        cast(sum(case when is_active then 1 else 0 end) as {{ dbt.type_bigint() }}) as active_staff_count
    from {{ ref('int_pancake__staff') }}
    group by page_id
)

select
    pages.page_id,
    coalesce(listed.page_name, health.page_name, pages.page_id) as page_name,
    coalesce(listed.platform, 'unknown') as platform,
    listed.username,
    listed.country,
    coalesce(zones.timezone, {{ var('pancake__default_timezone', 7) }}) as timezone,
    listed.shop_id,
    coalesce(
        {{ pancake.json_text('listed.business', 'name') }}, {{ pancake.json_text('listed.business', 'value') }}
    ) as business_name,
    listed.tag_sync_group_id,
    listed.quick_reply_sync_group_id,
    listed.page_content_sync_group_id,
    listed.category,
    listed.inserted_at as added_at,
    listed.page_id is not null as is_listed,
    coalesce(health.status = 'gone', false) as is_gone,
    pages.first_message_at as first_seen_at,
    {{ pancake.local_time('pages.first_message_at', 'zones.timezone') }} as first_seen_at_local,
    pages.last_message_at as last_seen_at,
    {{ pancake.local_time('pages.last_message_at', 'zones.timezone') }} as last_seen_at_local,
    pages.message_count,
    pages.conversation_count,
    coalesce(customers.customer_count, 0) as customer_count,
    coalesce(staff.staff_count, 0) as staff_count,
    coalesce(staff.active_staff_count, 0) as active_staff_count
from pages
left join {{ ref('stg_pancake__pages') }} as listed on listed.page_id = pages.page_id
left join {{ ref('pancake__sync_health') }} as health on health.page_id = pages.page_id
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = pages.page_id
left join customers on customers.page_id = pages.page_id
left join staff on staff.page_id = pages.page_id
