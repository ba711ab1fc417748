{# A field of a JSON object, as text: `json_text('c.page_customer', 'id')`. JSON null becomes SQL null. #}
{% macro json_text(column) -%}
    {{ adapter.dispatch('json_text', 'pancake')(column, varargs) }}
{%- endmacro %}
{% macro default__json_text(column, path) -%}
    json_extract_string({{ column }}, '$.{{ path | join(".") }}')
{%- endmacro %}
{% macro postgres__json_text(column, path) -%}
    ({{ column }} #>> '{ {{- path | join(",") -}} }')
{%- endmacro %}
{% macro bigquery__json_text(column, path) -%}
    json_value({{ column }}, '$.{{ path | join(".") }}')
{%- endmacro %}
{% macro snowflake__json_text(column, path) -%}
    cast(get_path({{ column }}, '{{ path | join(".") }}') as varchar)
{%- endmacro %}

{# A field of a JSON object, as JSON. #}
{% macro json_part(column) -%}
    {{ adapter.dispatch('json_part', 'pancake')(column, varargs) }}
{%- endmacro %}
{% macro default__json_part(column, path) -%}
    json_extract({{ column }}, '$.{{ path | join(".") }}')
{%- endmacro %}
{% macro postgres__json_part(column, path) -%}
    ({{ column }} #> '{ {{- path | join(",") -}} }')
{%- endmacro %}
{% macro bigquery__json_part(column, path) -%}
    json_query({{ column }}, '$.{{ path | join(".") }}')
{%- endmacro %}
{% macro snowflake__json_part(column, path) -%}
    get_path({{ column }}, '{{ path | join(".") }}')
{%- endmacro %}

{# A JSON string or number, as text. #}
{% macro json_scalar(column) -%}
    {{ adapter.dispatch('json_scalar', 'pancake')(column) }}
{%- endmacro %}
{% macro default__json_scalar(column) -%}({{ column }} ->> '$'){%- endmacro %}
{% macro postgres__json_scalar(column) -%}({{ column }} #>> '{}'){%- endmacro %}
{% macro bigquery__json_scalar(column) -%}json_value({{ column }}){%- endmacro %}
{% macro snowflake__json_scalar(column) -%}cast({{ column }} as varchar){%- endmacro %}

{# Join one row for each entry of a JSON list: `each_one.entry` (JSON) and `each_one.position` (from 1). #}
{% macro unnested(column) -%}
    {{ adapter.dispatch('unnested', 'pancake')(column) }}
{%- endmacro %}
{% macro duckdb__unnested(column) -%}
    cross join lateral (
        select unnest(entries) as entry, generate_subscripts(entries, 1) as position
        from (select case when json_type({{ column }}) = 'ARRAY' then cast({{ column }} as json[]) end as entries)
    ) as each_one
{%- endmacro %}
{% macro postgres__unnested(column) -%}
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof({{ column }}) = 'array' then {{ column }} end
    ) with ordinality as each_one(entry, position)
{%- endmacro %}
{% macro bigquery__unnested(column) -%}
    cross join unnest(array(
        select as struct entry, offset + 1 as position
        from unnest(json_query_array({{ column }})) as entry with offset
    )) as each_one
{%- endmacro %}
{% macro snowflake__unnested(column) -%}
    cross join lateral (
        select value as entry, index + 1 as position from table(flatten(input => {{ column }}))
    ) as each_one
{%- endmacro %}
