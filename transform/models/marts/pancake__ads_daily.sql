-- All counts are in the row of the day of the click, beside the spend of that day.
{% set attribution_days = var('pancake__attribution_days', 1) %}
with clicks as (
    select
        ads.page_id,
        ads.conversation_id,
        ads.ad_id,
        {{ pancake.json_text('conversations.page_customer', 'id') }} as page_customer_id,
        conversations.inserted_at as conversation_since,
        ads.clicked_at,
        cast({{ pancake.local_time('ads.clicked_at', 'zones.timezone') }} as date) as date_day
    from {{ ref('stg_pancake__conversation_ads') }} as ads
    join {{ ref('stg_pancake__conversations') }} as conversations
        on conversations.page_id = ads.page_id and conversations.conversation_id = ads.conversation_id
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = ads.page_id
    where ads.clicked_at is not null
),

numbered as (
    select
        clicks.*,
        row_number() over (
            partition by page_id, conversation_id order by clicked_at, ad_id
        ) as conversation_click_number,
        row_number() over (
            partition by page_id, page_customer_id order by clicked_at, ad_id, conversation_id
        ) as customer_click_number
    from clicks
),

click_days as (
    select
        numbered.page_id,
        numbered.ad_id,
        numbered.date_day,
        count(distinct numbered.conversation_id) as conversation_count,
        sum(case
            when numbered.conversation_click_number = 1
                and numbered.clicked_at
                    < {{ pancake.shifted('day', attribution_days, 'numbered.conversation_since') }}
                and numbered.clicked_at
                    > {{ pancake.shifted('day', -attribution_days, 'numbered.conversation_since') }} then 1
            else 0
        end) as new_conversation_count,
        sum(case when customers.page_customer_id is not null then 1 else 0 end) as new_customer_count,
        sum(case when customers.has_phone then 1 else 0 end) as new_customer_with_phone_count
    from numbered
    left join {{ ref('pancake__customers') }} as customers
        on customers.page_id = numbered.page_id
        and customers.page_customer_id = numbered.page_customer_id
        and numbered.customer_click_number = 1
        and numbered.clicked_at < {{ pancake.shifted('day', attribution_days, 'customers.added_at') }}
        and numbered.clicked_at > {{ pancake.shifted('day', -attribution_days, 'customers.added_at') }}
    group by 1, 2, 3
),

-- An order counts for the customer's last click before it.
timeline as (
    select page_id, page_customer_id, ordered_at as happened_at, order_id, 1 as is_order
    from {{ ref('int_pancake__conversation_orders') }}
    where ordered_at is not null
    union all
    select page_id, page_customer_id, clicked_at, null, 0 from numbered where page_customer_id is not null
),

counted as (
    select
        timeline.*,
        sum(1 - is_order) over (
            partition by page_id, page_customer_id order by happened_at, is_order
            rows between unbounded preceding and current row
        ) as click_number
    from timeline
),

order_days as (
    select clicks.page_id, clicks.ad_id, clicks.date_day, count(*) as order_count
    from counted
    join numbered as clicks
        on clicks.page_id = counted.page_id
        and clicks.page_customer_id = counted.page_customer_id
        and clicks.customer_click_number = counted.click_number
        and counted.happened_at < {{ pancake.shifted('day', attribution_days, 'clicks.clicked_at') }}
    where counted.is_order = 1
    group by 1, 2, 3
),

days as (
    select distinct page_id, ad_id, date_day
    from (
        select page_id, ad_id, date_day from {{ ref('stg_pancake__ad_statistics') }}
        union all
        select page_id, ad_id, date_day from click_days
    ) as all_days
),

-- Names and currencies from two streams: `ad_statistics` first, then the newest day.
named as (
    select page_id, ad_id, name, currency, date_day, 1 as place from {{ ref('stg_pancake__ad_statistics') }}
    union all
    select page_id, ad_id, name, currency, date_day, 2 from {{ ref('stg_pancake__campaign_statistics') }}
),

ranked as (
    select
        named.*,
        row_number() over (
            partition by page_id, ad_id order by case when name is null then 1 else 0 end, place, date_day desc
        ) as name_number,
        row_number() over (
            partition by page_id, ad_id order by case when currency is null then 1 else 0 end, place, date_day desc
        ) as currency_number
    from named
),

newest as (
    select
        page_id,
        ad_id,
        max(case when name_number = 1 then name end) as name,
        max(case when currency_number = 1 then currency end) as currency
    from ranked
    group by 1, 2
)

select
    days.page_id,
    days.ad_id,
    coalesce(ads.name, newest.name) as ad_name,
    ads.campaign_id,
    ads.campaign_name,
    coalesce(spent.currency, newest.currency) as currency,
    days.date_day,
    spent.spend,
    spent.reach as reach_count,
    spent.impressions as impression_count,
    spent.click_count,
    {% for name in [
        'conversation_count', 'new_conversation_count', 'new_customer_count', 'new_customer_with_phone_count'
    ] -%}
    coalesce(click_days.{{ name }}, 0) as {{ name }},
    {% endfor -%}
    coalesce(order_days.order_count, 0) as order_count,
    {% for name in ['new_conversation', 'new_customer', 'new_customer_with_phone'] -%}
    spent.spend / nullif(click_days.{{ name }}_count, 0) as cost_per_{{ name }},
    {% endfor -%}
    spent.spend / nullif(order_days.order_count, 0) as cost_per_order,
    spent.messaging_conversation_started_7d as pancake_conversation_started_7d_count,
    spent.sum_phone_number as pancake_phone_number_count,
    spent.total_order_count as pancake_order_count,
    coalesce(
        complete.is_customer_complete
        {% if pancake.uses('ad_statistics') %}and complete.is_ad_statistics_complete{% endif %},
        false
    ) as is_complete,
    coalesce(
        {{ pancake.shifted('day', attribution_days + 1, 'days.date_day') }}
            <= {{ pancake.local_time('clock.as_of', 'zones.timezone') }},
        false
    ) as is_attribution_complete
from days
cross join {{ ref('int_pancake__clock') }} as clock
left join click_days
    on click_days.page_id = days.page_id and click_days.ad_id = days.ad_id and click_days.date_day = days.date_day
left join order_days
    on order_days.page_id = days.page_id and order_days.ad_id = days.ad_id and order_days.date_day = days.date_day
left join {{ ref('stg_pancake__ad_statistics') }} as spent
    on spent.page_id = days.page_id and spent.ad_id = days.ad_id and spent.date_day = days.date_day
left join {{ ref('stg_pancake__ads') }} as ads on ads.page_id = days.page_id and ads.ad_id = days.ad_id
left join newest on newest.page_id = days.page_id and newest.ad_id = days.ad_id
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = days.page_id
left join {{ ref('int_pancake__complete_days') }} as complete
    on complete.page_id = days.page_id and complete.date_day = days.date_day
