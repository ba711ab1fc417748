-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    cast(loaded.id as {{ dbt.type_string() }}) as tag_id,
    loaded.{{ pancake.column('text') }} as tag_name,
    loaded.color as color,
    loaded.lighten_color as lighten_color,
    loaded.is_deactive as is_switched_off,
    loaded.is_lead_event as is_lead_event,
    loaded.description as description,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('tags') }}) as loaded
