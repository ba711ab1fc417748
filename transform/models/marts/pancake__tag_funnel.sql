-- All changes count, also removals, because a removed tag was there before. Only other changes show when it was added.
with entries as (
    select
        page_id,
        conversation_id,
        coalesce(tag_id, tag_name) as tag_id,
        tag_name,
        1 as is_now,
        cast(null as {{ dbt.type_timestamp() }}) as tagged_at_local
    from {{ ref('stg_pancake__conversation_tags') }}
    union all
    select
        page_id, conversation_id, tag_id, tag_name, 0, case when action <> 'remove' then changed_at_local end
    from {{ ref('pancake__tag_changes') }}
),

tagged as (
    select
        page_id,
        conversation_id,
        tag_id,
        max(tag_name) as tag_name,
        max(is_now) as is_now,
        cast(min(tagged_at_local) as date) as first_tagged_day
    from entries
    group by 1, 2, 3
),

weeks as (
    select tagged.*, {{ pancake.monday_of('first_tagged_day') }} as week_start_day
    from tagged
)

select
    weeks.page_id,
    weeks.tag_id,
    coalesce(max(tags.tag_name), max(weeks.tag_name), weeks.tag_id) as tag_name,
    weeks.week_start_day,
    count(*) as ever_count,
    sum(weeks.is_now) as now_count,
    sum(case when conversations.has_phone then 1 else 0 end) as with_phone_count
from weeks
left join {{ ref('stg_pancake__tags') }} as tags on tags.page_id = weeks.page_id and tags.tag_id = weeks.tag_id
left join {{ ref('stg_pancake__conversations') }} as conversations
    on conversations.page_id = weeks.page_id and conversations.conversation_id = weeks.conversation_id
group by 1, 2, 4
