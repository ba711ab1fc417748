-- Counts of rows beside Pancake's own counts, by page and day. A ratio far below 1 shows that rows may be missing. It
-- need not be 1: Pancake does not document what it counts.
{% set of_customer = "sender_kind = 'customer'" %}
{% set of_page = "sender_kind in ('staff', 'outside', 'automation')" %}
{% set counted = {
    'customer_inbox_message': ("conversation_type = 'INBOX' and " ~ of_customer, 'customer_inbox_count'),
    'page_inbox_message': ("conversation_type = 'INBOX' and " ~ of_page, 'page_inbox_count'),
    'customer_comment_message': ("conversation_type = 'COMMENT' and " ~ of_customer, 'customer_comment_count'),
    'page_comment_message': ("conversation_type = 'COMMENT' and " ~ of_page, 'page_comment_count')
} %}
{% set measures = counted.keys() | list + ['new_conversation', 'new_customer'] %}
with from_messages as (
    select
        page_id,
        date_day,
        {% for measure, parts in counted.items() -%}
        sum(case when {{ parts[0] }} then 1 else 0 end) as {{ measure }}_count{{ ',' if not loop.last }}
        {% endfor -%}
    from {{ ref('int_pancake__messages') }}
    where date_day is not null
    group by page_id, date_day
),

from_conversations as (
    select page_id, cast(inserted_at_local as date) as date_day, count(*) as new_conversation_count
    from {{ ref('stg_pancake__conversations') }}
    where type = 'INBOX' and inserted_at is not null
    group by page_id, cast(inserted_at_local as date)
),

from_customers as (
    select page_id, cast(added_at_local as date) as date_day, count(*) as new_customer_count
    from {{ ref('pancake__customers') }}
    where added_at is not null
    group by page_id, cast(added_at_local as date)
),

from_pages as (
    select
        page_id,
        cast(hour_at_local as date) as date_day,
        {% for measure, parts in counted.items() -%}
        sum({{ parts[1] }}) as reported_{{ measure }}_count,
        {% endfor -%}
        sum(new_inbox_count) as reported_new_conversation_count,
        sum(new_customer_count) as reported_new_customer_count
    from {{ ref('stg_pancake__page_statistics') }}
    group by page_id, cast(hour_at_local as date)
),

all_days as (
    {% for source in ('from_messages', 'from_conversations', 'from_customers', 'from_pages') -%}
    select page_id, date_day from {{ source }}
    union all
    {% endfor -%}
    select page_id, date_day from {{ ref('stg_pancake__new_customer_statistics') }}
),

days as (
    select page_id, date_day from all_days group by page_id, date_day
),

joined as (
    select
        days.page_id,
        days.date_day,
        {% for measure in counted -%}
        coalesce(from_messages.{{ measure }}_count, 0) as {{ measure }}_count,
        from_pages.reported_{{ measure }}_count,
        {% endfor -%}
        coalesce(from_conversations.new_conversation_count, 0) as new_conversation_count,
        coalesce(from_pages.reported_new_conversation_count, statistics.new_page_inbox_count)
            as reported_new_conversation_count,
        coalesce(from_customers.new_customer_count, 0) as new_customer_count,
        coalesce(statistics.new_customer_count, from_pages.reported_new_customer_count) as reported_new_customer_count,
        coalesce(complete.is_customer_complete, false) as is_customer_complete,
        coalesce(complete.is_page_statistics_complete, false) as is_page_statistics_complete
    from days
    left join from_messages on from_messages.page_id = days.page_id and from_messages.date_day = days.date_day
    left join from_conversations
        on from_conversations.page_id = days.page_id and from_conversations.date_day = days.date_day
    left join from_customers on from_customers.page_id = days.page_id and from_customers.date_day = days.date_day
    left join from_pages on from_pages.page_id = days.page_id and from_pages.date_day = days.date_day
    left join {{ ref('stg_pancake__new_customer_statistics') }} as statistics
        on statistics.page_id = days.page_id and statistics.date_day = days.date_day
    left join {{ ref('int_pancake__complete_days') }} as complete
        on complete.page_id = days.page_id and complete.date_day = days.date_day
),

totalled as (
    select
        joined.*,
        {% for start in ('', 'reported_') -%}
        {% for measure in counted %}{{ ' + ' if not loop.first }}{{ start ~ measure }}_count{% endfor %}
            as {{ start }}message_count{{ ',' if not loop.last }}
        {% endfor -%}
    from joined
)

select
    page_id,
    date_day,
    {% for measure in ['message'] + measures -%}
    cast({{ measure }}_count as {{ dbt.type_bigint() }}) as {{ measure }}_count,
    cast(reported_{{ measure }}_count as {{ dbt.type_bigint() }}) as reported_{{ measure }}_count,
    1.0 * {{ measure }}_count / nullif(reported_{{ measure }}_count, 0) as {{ measure }}_ratio,
    {% endfor -%}
    is_customer_complete and is_page_statistics_complete as is_complete
from totalled
