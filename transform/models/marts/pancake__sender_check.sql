{{ config(enabled=pancake.uses('messages')) }}
-- Shows whether the sender fields of your pages' messages differ from the recorded ones.
select
    messages.page_id,
    pages.page_name,
    messages.platform,
    messages.conversation_type,
    messages.sender_kind,
    messages.sender_signature,
    messages.app_id,
    count(*) as message_count,
    min(messages.sent_at) as first_sent_at,
    max(messages.sent_at) as last_sent_at
from {{ ref('int_pancake__messages') }} as messages
left join {{ ref('stg_pancake__pages') }} as pages on pages.page_id = messages.page_id
group by
    messages.page_id, pages.page_name, messages.platform, messages.conversation_type,
    messages.sender_kind, messages.sender_signature, messages.app_id
