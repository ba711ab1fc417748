-- Members of staff of each page, from every stream that names one. Includes people who left.
with listed as (
    select
        page_id,
        user_id,
        name,
        fb_id,
        case
            when is_disabled then false
            -- Each run reads all users of a page, so an old row is of a person who left.
            when loaded_at < {{ pancake.shifted('day', -1, 'max(loaded_at) over (partition by page_id)') }} then false
            else coalesce(status_in_page, 'active') = 'active'
        end as is_active
    from {{ ref('stg_pancake__users') }}
),

of_pages as (
    select
        pages.page_id,
        {{ pancake.json_text('each_one.entry', 'user_id') }} as user_id,
        min({{ pancake.json_text('each_one.entry', 'name') }}) as name,
        max(case when {{ pancake.json_text('each_one.entry', 'status') }} = 'active' then 1 else 0 end) = 1 as is_active
    from {{ ref('stg_pancake__pages') }} as pages
    {{ pancake.unnested('pages.users') }}
    group by pages.page_id, {{ pancake.json_text('each_one.entry', 'user_id') }}
),

lists as (
    select page_id
    from (select page_id from listed union all select page_id from of_pages) as listing
    group by page_id
),

people as (
    select
        ids.page_id,
        ids.staff_id,
        max(case when ids.user_id is null and ids.fb_id is null then 0 else 1 end) = 1 as has_id,
        min(ids.fb_id) as fb_id,
        min(named.first_seen_at) as first_seen_at,
        max(named.last_seen_at) as last_seen_at
    from {{ ref('int_pancake__staff_ids') }} as ids
    inner join {{ ref('int_pancake__staff_named') }} as named
        on named.page_id = ids.page_id
        and {{ pancake.staff_key('named.user_id', 'named.fb_id', 'named.name') }} = ids.staff_key
    group by ids.page_id, ids.staff_id
),

-- People change their names. The newest name counts.
names as (
    select
        ids.page_id,
        ids.staff_id,
        ids.name,
        row_number() over (
            partition by ids.page_id, ids.staff_id
            order by case when named.last_named_at is null then 1 else 0 end, named.last_named_at desc, ids.name
        ) as place
    from {{ ref('int_pancake__staff_ids') }} as ids
    inner join {{ ref('int_pancake__staff_named') }} as named
        on named.page_id = ids.page_id
        and {{ pancake.staff_key('named.user_id', 'named.fb_id', 'named.name') }} = ids.staff_key
    where ids.name is not null
)

select
    people.page_id,
    people.staff_id,
    coalesce(listed.name, of_pages.name, names.name) as staff_name,
    coalesce(listed.fb_id, people.fb_id) as fb_id,
    case
        when of_pages.user_id is not null then of_pages.is_active and coalesce(listed.is_active, true)
        when listed.user_id is not null then listed.is_active
        when people.has_id and lists.page_id is not null then false
    end as is_active,
    people.first_seen_at,
    people.last_seen_at
from people
left join listed on listed.page_id = people.page_id and listed.user_id = people.staff_id
left join of_pages on of_pages.page_id = people.page_id and of_pages.user_id = people.staff_id
left join lists on lists.page_id = people.page_id
left join names on names.page_id = people.page_id and names.staff_id = people.staff_id and names.place = 1
