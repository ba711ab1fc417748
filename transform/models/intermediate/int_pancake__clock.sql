-- The time that all numbers are as of. It is never the machine's clock, so that the same rows give the same tables.
{% if var('pancake__as_of', none) %}
select cast('{{ var("pancake__as_of") }}' as {{ dbt.type_timestamp() }}) as as_of
{% else %}
select coalesce(
    (select max(ended_at) from {{ ref('stg_pancake__sync_runs') }}),
    (select max(inserted_at) from {{ ref('stg_pancake__messages') }})
) as as_of
{% endif %}
