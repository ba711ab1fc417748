-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.tag_id as tag_id,
    loaded.category as category,
    loaded.{{ pancake.column('date') }} as date_day,
    loaded.total as total_count,
    loaded.pin as pin,
    loaded.tag_text as tag_text,
    loaded.tag_color as tag_color,
    loaded.tag_lighten_color as tag_lighten_color,
    loaded.tag_description as tag_description,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('tag_statistics') }}) as loaded
