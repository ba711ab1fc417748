-- Made by scripts/dbt.py from tap_pancake/schemas.
select
    loaded.page_id as page_id,
    loaded.id as ad_id,
    loaded.{{ pancake.column('name') }} as name,
    loaded.image_url as image_url,
    loaded.campaign_id as campaign_id,
    loaded.campaign_name as campaign_name,
    loaded.account_id as account_id,
    loaded.other_fields as other_fields,
    loaded.loaded_at
from ({{ pancake.newest('ads') }}) as loaded
