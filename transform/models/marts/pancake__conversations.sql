-- Conversations that were loaded, or that have messages that were loaded.
with messages as (
    select * from {{ ref('int_pancake__messages') }}
), loaded as (
    select * from {{ ref('stg_pancake__conversations') }}
), all_ids as (
    select page_id, conversation_id
    from (
        select page_id, conversation_id from loaded
        union all
        select page_id, conversation_id from messages
    ) as both_streams
    group by page_id, conversation_id
), counts as (
    select
        page_id,
        conversation_id,
        min(sent_at) as first_message_at,
        min(sent_at_local) as first_message_at_local,
        max(sent_at) as last_message_at,
        max(sent_at_local) as last_message_at_local,
        max(case when sender_kind = 'customer' then sent_at end) as last_customer_message_at,
        count(*) as message_count,
        sum(case when sender_kind = 'customer' then 1 else 0 end) as customer_message_count,
        sum(case when sender_kind = 'staff' then 1 else 0 end) as staff_message_count,
        sum(case when sender_kind = 'outside' then 1 else 0 end) as outside_message_count,
        sum(case when sender_kind = 'automation' then 1 else 0 end) as automation_message_count,
        max(case when has_phone and sender_kind = 'customer' then 1 else 0 end) as has_phone
    from messages
    group by page_id, conversation_id
), last_messages as (
    select
        page_id,
        conversation_id,
        sender_kind,
        row_number() over (partition by page_id, conversation_id order by sequence desc) as choice
    from messages
    where sender_kind <> 'nobody'
), staff as (
    select messages.page_id, messages.conversation_id, ids.staff_id, max(messages.staff_name) as staff_name
    from messages
    left join {{ ref('int_pancake__staff_ids') }} as ids
        on ids.page_id = messages.page_id and ids.staff_key = messages.staff_key
    where messages.sender_kind = 'staff'
    group by messages.page_id, messages.conversation_id, ids.staff_id
), staff_lists as (
    select
        page_id,
        conversation_id,
        count(*) as staff_count,
        {{ dbt.listagg('coalesce(staff_name, staff_id)', "', '", 'order by coalesce(staff_name, staff_id)') }}
            as staff_names
    from staff
    group by page_id, conversation_id
), tag_lists as (
    select
        page_id,
        conversation_id,
        count(*) as tag_count,
        {{ dbt.listagg('coalesce(tag_name, tag_id)', "', '", 'order by position') }} as tag_names
    from {{ ref('stg_pancake__conversation_tags') }}
    group by page_id, conversation_id
), ads as (
    select
        page_id,
        conversation_id,
        ad_id,
        clicked_at,
        row_number() over (
            partition by page_id, conversation_id
            order by case when clicked_at is null then 1 else 0 end, clicked_at, position
        ) as choice,
        count(*) over (partition by page_id, conversation_id) as ad_click_count
    from {{ ref('stg_pancake__conversation_ads') }}
), waits as (
    select
        waits.*,
        row_number() over (partition by page_id, conversation_id order by asked_at desc) as last_choice,
        row_number() over (partition by page_id, conversation_id order by asked_at) as first_choice
    from {{ ref('int_pancake__waits') }} as waits
), newest_runs as (
    select
        page_id,
        run_id,
        row_number() over (partition by page_id order by started_at desc, run_id desc) as choice
    from {{ ref('stg_pancake__sync_run_streams') }}
    where stream = 'messages'
), set_aside as (
    select aside.page_id, aside.conversation_id
    from {{ ref('stg_pancake__conversations_set_aside') }} as aside
    inner join newest_runs
        on newest_runs.page_id = aside.page_id and newest_runs.run_id = aside.run_id and newest_runs.choice = 1
    where aside.stream = 'messages'
    group by aside.page_id, aside.conversation_id
)
select
    all_ids.page_id,
    all_ids.conversation_id,
    loaded.type as conversation_type,
    {{ pancake.json_text('loaded.page_customer', 'id') }} as page_customer_id,
    loaded.customer_id,
    coalesce(
        {{ pancake.json_text('loaded.page_customer', 'name') }}, {{ pancake.json_text('loaded.sender', 'name') }}
    ) as customer_name,
    loaded.post_id,
    loaded.inserted_at,
    loaded.inserted_at_local,
    loaded.updated_at,
    counts.first_message_at,
    counts.first_message_at_local,
    counts.last_message_at,
    counts.last_message_at_local,
    counts.last_customer_message_at,
    last_messages.sender_kind as last_sender_kind,
    coalesce(last_waits.asked_at is not null and last_waits.ended_by is null, false) as is_open,
    case
        when last_waits.asked_at is null then null
        when last_waits.ended_by is null then 'open'
        when last_waits.ended_by in ('answer', 'private_reply') then 'answered'
        else last_waits.ended_by
    end as state,
    case when last_waits.ended_by is null then last_waits.asked_at else last_waits.ended_at end as state_since_at,
    loaded.message_count as stated_message_count,
    coalesce(counts.message_count, 0) as message_count,
    coalesce(counts.customer_message_count, 0) as customer_message_count,
    coalesce(counts.staff_message_count, 0) as staff_message_count,
    coalesce(counts.outside_message_count, 0) as outside_message_count,
    coalesce(counts.automation_message_count, 0) as automation_message_count,
    first_waits.asked_at as first_asked_at,
    case when first_waits.answer_message_id is not null then first_waits.ended_at end as first_answered_at,
    case when first_waits.answer_message_id is not null then first_waits.wait_minutes end as first_response_minutes,
    case when first_waits.answer_message_id is not null then first_waits.working_minutes end
        as first_response_working_minutes,
    case when first_waits.answer_message_id is not null then first_waits.staff_id end as first_response_staff_id,
    coalesce(staff_lists.staff_count, 0) as staff_count,
    staff_lists.staff_names,
    coalesce(tag_lists.tag_count, 0) as tag_count,
    tag_lists.tag_names,
    coalesce(ads.ad_click_count, 0) as ad_click_count,
    ads.ad_id as first_ad_id,
    ads.clicked_at as first_ad_clicked_at,
    coalesce(loaded.has_phone, false) or coalesce(counts.has_phone = 1, false) as has_phone,
    set_aside.conversation_id is not null as is_set_aside
from all_ids
left join loaded on loaded.page_id = all_ids.page_id and loaded.conversation_id = all_ids.conversation_id
left join counts on counts.page_id = all_ids.page_id and counts.conversation_id = all_ids.conversation_id
left join last_messages
    on last_messages.page_id = all_ids.page_id
    and last_messages.conversation_id = all_ids.conversation_id
    and last_messages.choice = 1
left join staff_lists on staff_lists.page_id = all_ids.page_id and staff_lists.conversation_id = all_ids.conversation_id
left join tag_lists on tag_lists.page_id = all_ids.page_id and tag_lists.conversation_id = all_ids.conversation_id
left join ads on ads.page_id = all_ids.page_id and ads.conversation_id = all_ids.conversation_id and ads.choice = 1
left join waits as last_waits
    on last_waits.page_id = all_ids.page_id
    and last_waits.conversation_id = all_ids.conversation_id
    and last_waits.last_choice = 1
-- A first wait that was cut off has no response time.
left join waits as first_waits
    on first_waits.page_id = all_ids.page_id
    and first_waits.conversation_id = all_ids.conversation_id
    and first_waits.first_choice = 1
    and not first_waits.is_cut_off
left join set_aside on set_aside.page_id = all_ids.page_id and set_aside.conversation_id = all_ids.conversation_id
