-- A view, so that messages are stored once. In DuckDB a table: other tools read the file, and it has only tables.
{{ config(enabled=pancake.uses('messages'), materialized='table' if target.type == 'duckdb' else 'view') }}
select
    messages.page_id,
    pages.page_name,
    messages.platform,
    messages.conversation_id,
    messages.conversation_type,
    messages.message_id,
    messages.sequence,
    messages.sent_at,
    messages.sent_at_local,
    messages.date_day,
    messages.hour_at_local,
    messages.sender_kind,
    messages.is_answer,
    messages.is_third_person,
    staff.staff_id,
    messages.staff_name,
    messages.kind,
    messages.text_length,
    messages.attachment_count,
    messages.has_phone,
    messages.is_closing_text,
    messages.is_hidden,
    messages.is_removed,
    messages.is_private_reply
from {{ ref('int_pancake__messages') }} as messages
left join {{ ref('stg_pancake__pages') }} as pages on pages.page_id = messages.page_id
left join {{ ref('int_pancake__staff_ids') }} as staff
    on staff.page_id = messages.page_id and staff.staff_key = messages.staff_key
