-- Each combination of Pancake id, Facebook id and name by which a stream names a member of staff.
--
-- Messages of automation, such as flows, name no member of staff.
with senders as (
    select
        page_id,
        inserted_at,
        {{ pancake.json_text('sender', 'id') }} as sender_id,
        nullif({{ pancake.json_text('sender', 'uid') }}, '') as uid,
        nullif({{ pancake.json_text('sender', 'admin_id') }}, '') as admin_id,
        nullif({{ pancake.json_text('sender', 'admin_name') }}, '') as admin_name,
        coalesce(
            nullif({{ pancake.json_text('sender', 'flow_id') }}, ''),
            case when {{ pancake.json_text('sender', 'is_automated') }} = 'true' then 'true' end,
            case when {{ pancake.json_text('sender', 'ai_generated') }} = 'true' then 'true' end
            {%- if var('pancake__automation_app_ids', []) %},
            case
                when {{ pancake.json_text('sender', 'app_id') }}
                    in ('{{ var("pancake__automation_app_ids") | join("', '") }}') then 'app'
            end
            {%- endif %}
        ) as automated_by
    from {{ ref('stg_pancake__messages') }}
),

assignments as (
    select
        conversations.page_id,
        cast({{ pancake.json_text('each_one.entry', 'inserted_at') }} as {{ dbt.type_timestamp() }}) as changed_at,
        {{ pancake.json_part('each_one.entry', 'payload', 'added_users') }} as added,
        {{ pancake.json_part('each_one.entry', 'payload', 'deleted_users') }} as deleted
    from {{ ref('stg_pancake__conversations') }} as conversations
    {{ pancake.unnested('conversations.assignee_histories') }}
),

named as (
    select page_id, user_id, fb_id, name, cast(null as {{ dbt.type_timestamp() }}) as named_at, false as is_active_then
    from {{ ref('stg_pancake__users') }}

    union all
    select
        pages.page_id,
        {{ pancake.json_text('each_one.entry', 'user_id') }},
        {{ pancake.json_text('each_one.entry', 'fb_id') }},
        {{ pancake.json_text('each_one.entry', 'name') }},
        null,
        false
    from {{ ref('stg_pancake__pages') }} as pages
    {{ pancake.unnested('pages.users') }}

    union all
    select page_id, uid, admin_id, admin_name, inserted_at, true
    from senders
    where coalesce(sender_id, page_id) = page_id and automated_by is null and coalesce(admin_id, '') <> page_id

    union all
    -- An hour with zeros only does not show that the person worked.
    select
        page_id, user_id, user_fb_id, user_name, hour_at,
        coalesce(inbox_count, 0) + coalesce(comment_count, 0) + coalesce(private_reply_count, 0) > 0
    from {{ ref('stg_pancake__user_statistics') }}

    union all
    select
        engagements.page_id, engagements.user_id, null, engagements.name,
        {{ pancake.utc_time('cast(engagements.date_day as ' ~ dbt.type_timestamp() ~ ')', 'zones.timezone') }},
        coalesce(engagements.total_engagement, engagements.inbox_count, engagements.comment_count, 0) > 0
    from {{ ref('stg_pancake__user_engagements') }} as engagements
    left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = engagements.page_id

    union all
    select page_id, user_id, null, null, null, false
    from {{ ref('stg_pancake__conversation_assignees') }}

    union all
    select
        conversations.page_id,
        {{ pancake.json_text('each_one.entry', 'id') }},
        {{ pancake.json_text('each_one.entry', 'fb_id') }},
        {{ pancake.json_text('each_one.entry', 'name') }},
        null,
        false
    from {{ ref('stg_pancake__conversations') }} as conversations
    {{ pancake.unnested('conversations.current_assign_users') }}

    {% for users in ('added', 'deleted') -%}
    union all
    select
        assignments.page_id,
        {{ pancake.json_text('each_one.entry', 'id') }},
        {{ pancake.json_text('each_one.entry', 'fb_id') }},
        {{ pancake.json_text('each_one.entry', 'name') }},
        assignments.changed_at,
        {{ 'true' if users == 'added' else 'false' }}
    from assignments
    {{ pancake.unnested('assignments.' ~ users) }}

    {% endfor -%}
    union all
    select page_id, editor_id, null, editor_name, changed_at, true
    from {{ ref('stg_pancake__tag_changes') }}

    union all
    -- A survey does not show that the person worked.
    select page_id, null, admin_id, employee_name, inserted_at, false
    from {{ ref('stg_pancake__customer_feedbacks') }}
)

select
    page_id,
    nullif(user_id, '') as user_id,
    nullif(fb_id, '') as fb_id,
    nullif(name, '') as name,
    max(named_at) as last_named_at,
    min(case when is_active_then then named_at end) as first_seen_at,
    max(case when is_active_then then named_at end) as last_seen_at
from named
where coalesce(nullif(user_id, ''), nullif(fb_id, ''), nullif(name, '')) is not null
group by page_id, nullif(user_id, ''), nullif(fb_id, ''), nullif(name, '')
