-- The member of staff behind each id or name, on each page.
--
-- Streams name the same person by a Pancake id or by a Facebook id. If any row has both, the Pancake id counts; a
-- Facebook id is the same person on all pages. A name without an id is the only member of staff of the page with that
-- name. If several or none have it, the name itself is the id.
with pairs as (
    select fb_id, min(user_id) as user_id
    from {{ ref('int_pancake__staff_named') }}
    where user_id is not null and fb_id is not null
    group by fb_id
    -- If several accounts share a Facebook id, the id does not identify a person.
    having count(distinct user_id) = 1
),

identified as (
    select distinct
        named.page_id,
        named.user_id,
        named.fb_id,
        named.name,
        coalesce(
            named.user_id,
            pairs.user_id,
            -- In customer_feedbacks, this may be a Pancake id.
            named.fb_id
        ) as staff_id
    from {{ ref('int_pancake__staff_named') }} as named
    left join pairs on pairs.fb_id = named.fb_id
),

names as (
    select page_id, name, min(staff_id) as staff_id
    from identified
    where staff_id is not null and name is not null
    group by page_id, name
    having count(distinct staff_id) = 1
)

select
    identified.page_id,
    {{ pancake.staff_key('identified.user_id', 'identified.fb_id', 'identified.name') }} as staff_key,
    identified.user_id,
    identified.fb_id,
    identified.name,
    coalesce(identified.staff_id, names.staff_id, identified.name) as staff_id
from identified
left join names on names.page_id = identified.page_id and names.name = identified.name
