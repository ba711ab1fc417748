{#
  Read a stream: all its columns, typed, one row for each key.

  If a table or column does not exist, its columns are null with the right type. So the models work
  with any selection of streams. With `--no-introspect`, dbt does not query the database, and the
  macros assume that every table and column exists.
#}

{% macro uses(stream) %}
    {{ return(var('pancake__using_' ~ stream, true)) }}
{% endmacro %}

{% macro newest(stream) %}
    {% set relation = source('pancake', stream) %}
    {% set columns = pancake.columns()[stream] %}
    {% set found = pancake.found_columns(stream, relation) if pancake.uses(stream) else [] %}
    {% if not found %}
        select
            {% for name, kind in columns.items() -%}
            cast(null as {{ pancake.type_of(kind) }}) as {{ pancake.column(name) }},
            {% endfor -%}
            cast(null as {{ dbt.type_timestamp() }}) as loaded_at
        {{ pancake.from_nothing() }}
    {% else %}
        {{ adapter.dispatch('newest_rows', 'pancake')(stream, relation, columns, found) }}
    {% endif %}
{% endmacro %}

{% macro from_nothing() %}
    {{ adapter.dispatch('from_nothing', 'pancake')() }}
{% endmacro %}
{% macro default__from_nothing() %}where 1 = 0{% endmacro %}
{% macro bigquery__from_nothing() %}from (select 1) where 1 = 0{% endmacro %}

{# The columns of a stream that were loaded; empty if the stream was not loaded. #}
{% macro found_columns(stream, relation) %}
    {% if not flags.INTROSPECT or not execute %}
        {{ return(pancake.columns()[stream].keys() | list + [pancake.batched_at()]) }}
    {% endif %}
    {{ return(adapter.dispatch('found_columns', 'pancake')(stream, relation)) }}
{% endmacro %}

{% macro default__found_columns(stream, relation) %}
    {% set table = adapter.get_relation(relation.database, relation.schema, relation.identifier) %}
    {% if table is none %}{{ return([]) }}{% endif %}
    {{ return(adapter.get_columns_in_relation(table) | map(attribute='name') | map('lower') | list) }}
{% endmacro %}

{% macro duckdb__found_columns(stream, relation) %}
    {% set files = run_query("select count(*) from glob('" ~ pancake.files_of(stream) ~ "') where " ~ pancake.is_file_of(stream, 'file')) %}
    {{ return(pancake.columns()[stream].keys() | list if files.rows[0][0] else []) }}
{% endmacro %}

{% macro files_of(stream) %}
    {{ return(((var('pancake_files') or env_var('PANCAKE_FILES', '../output')) ~ '/' ~ stream ~ '*.jsonl') | replace("'", "''")) }}
{% endmacro %}

{# Whether target-jsonl wrote the file for this stream: `tags.jsonl`, or `tags-20260131T080000.jsonl` with
   `do_timestamp_file`. #}
{% macro is_file_of(stream, file) -%}
    regexp_matches(parse_filename({{ file }}), '^{{ stream }}(-\d{8}T\d{6})?\.jsonl$')
{%- endmacro %}

{# Name of the column in which Singer targets write when a row was loaded. #}
{% macro batched_at() %}{{ return(var('pancake__loaded_at_column', '_sdc_batched_at')) }}{% endmacro %}

{% macro typed(name, kind, found) -%}
    {% if name in found %}{{ adapter.dispatch('typed', 'pancake')(pancake.column(name), kind) }}{% else %}cast(null as {{ pancake.type_of(kind) }}){% endif %} as {{ pancake.column(name) }}
{%- endmacro %}

{% macro default__typed(column, kind) -%}
    {% if kind == 'json' %}{{ column }}{% else %}cast({{ column }} as {{ pancake.type_of(kind) }}){% endif %}
{%- endmacro %}
{% macro bigquery__typed(column, kind) -%}
    {% if kind == 'json' %}case when json_type({{ column }}) <> 'null' then {{ column }} end{% else %}{{ pancake.default__typed(column, kind) }}{% endif %}
{%- endmacro %}
{% macro snowflake__typed(column, kind) -%}
    {% if kind == 'json' %}strip_null_value({{ column }}){% else %}{{ pancake.default__typed(column, kind) }}{% endif %}
{%- endmacro %}
{# target-postgres writes lists as arrays, `jsonb[]` or `text[]`. #}
{% macro postgres__typed(column, kind) -%}
    {% if kind == 'json' %}nullif(to_jsonb({{ column }}), 'null'::jsonb){% else %}cast({{ column }} as {{ pancake.type_of(kind) }}){% endif %}
{%- endmacro %}
{% macro duckdb__typed(column, kind) -%}
    {% if kind == 'json' %}nullif({{ column }}, 'null'::json){% else %}cast({{ column }} as {{ pancake.type_of(kind) }}){% endif %}
{%- endmacro %}

{% macro type_of(kind) %}
    {{ return({
        'text': dbt.type_string(), 'integer': dbt.type_bigint(), 'number': pancake.type_number(),
        'boolean': dbt.type_boolean(), 'timestamp': dbt.type_timestamp(), 'date': 'date',
        'json': pancake.type_json(),
    }[kind]) }}
{% endmacro %}

{# A type with fractions that is exact enough for sums of money. DuckDB's `float` has only seven digits. #}
{% macro type_number() %}{{ return(adapter.dispatch('type_number', 'pancake')()) }}{% endmacro %}
{% macro default__type_number() %}{{ return(dbt.type_float()) }}{% endmacro %}
{% macro duckdb__type_number() %}{{ return('double') }}{% endmacro %}

{% macro type_json() %}{{ return(adapter.dispatch('type_json', 'pancake')()) }}{% endmacro %}
{% macro default__type_json() %}{{ return('json') }}{% endmacro %}
{% macro postgres__type_json() %}{{ return('jsonb') }}{% endmacro %}
{% macro snowflake__type_json() %}{{ return('variant') }}{% endmacro %}

{# target-postgres and target-snowflake keep one row for each key. #}
{% macro default__newest_rows(stream, relation, columns, found) %}
    select
        {% for name, kind in columns.items() -%}
        {{ pancake.typed(name, kind, found) }},
        {% endfor -%}
        {% if pancake.batched_at() in found %}cast({{ pancake.batched_at() }} as {{ dbt.type_timestamp() }}){% else %}cast(null as {{ dbt.type_timestamp() }}){% endif %} as loaded_at
    from {{ relation }}
{% endmacro %}

{# BigQuery targets may append rows: the row that was loaded last is the newest. #}
{% macro bigquery__newest_rows(stream, relation, columns, found) %}
    {{ pancake.default__newest_rows(stream, relation, columns, found) }}
    qualify row_number() over (
        partition by {{ pancake.primary_keys()[stream] | join(', ') }} order by {{ pancake.batched_at() }} desc
    ) = 1
{% endmacro %}

{# target-jsonl appends to its files: the last line of a key is the newest. #}
{% macro duckdb__newest_rows(stream, relation, columns, found) %}
    select
        {% for name, kind in columns.items() -%}
        {{ pancake.typed(name, kind, found) }},
        {% endfor -%}
        cast(null as timestamp) as loaded_at
    from (
        select *, row_number() over () as line_number
        from read_json(
            '{{ pancake.files_of(stream) }}',
            format = 'newline_delimited', maximum_object_size = 268435456, filename = true,
            columns = {
                {%- for name, kind in columns.items() %}
                '{{ name }}': '{{ {"json": "JSON", "timestamp": "VARCHAR", "date": "VARCHAR"}.get(kind, pancake.type_of(kind)) }}'{{ ',' if not loop.last }}
                {%- endfor %}
            }
        )
        where {{ pancake.is_file_of(stream, 'filename') }}
    )
    qualify row_number() over (
        partition by {{ pancake.primary_keys()[stream] | join(', ') }} order by line_number desc
    ) = 1
{% endmacro %}

{# Quoted, because names such as `from` are reserved words. Snowflake's targets create columns in capitals. #}
{% macro column(name) %}{{ return(adapter.dispatch('column', 'pancake')(name)) }}{% endmacro %}
{% macro default__column(name) %}{{ return(adapter.quote(name)) }}{% endmacro %}
{% macro snowflake__column(name) %}{{ return('"' ~ name | upper ~ '"') }}{% endmacro %}
