{# Add `count` minutes, hours or days to a time; a negative count subtracts. The cast is for BigQuery: its
   `datetime_add` returns a `datetime`, which does not compare with a timestamp. #}
{% macro shifted(part, count, at) -%}
    cast({{ dbt.dateadd(part, count, at) }} as {{ dbt.type_timestamp() }})
{%- endmacro %}

{# Minutes that a page's clock is ahead of UTC. `timezone` is in hours, and may have a fraction. #}
{% macro offset_minutes(timezone) -%}
    cast(round(coalesce({{ timezone }}, {{ var('pancake__default_timezone', 7) }}) * 60) as {{ dbt.type_int() }})
{%- endmacro %}

{# Convert a time in UTC to the page's time zone. #}
{% macro local_time(at, timezone) -%}
    {{ pancake.shifted('minute', pancake.offset_minutes(timezone), at) }}
{%- endmacro %}

{# Convert a time in the page's time zone to UTC. #}
{% macro utc_time(at, timezone) -%}
    {{ pancake.shifted('minute', '-' ~ pancake.offset_minutes(timezone), at) }}
{%- endmacro %}

{# Seconds from one time to another, with their fraction. #}
{% macro seconds_between(earlier, later) -%}
    {{ adapter.dispatch('seconds_between', 'pancake')(earlier, later) }}
{%- endmacro %}
{% macro default__seconds_between(earlier, later) -%}
    (date_diff('microsecond', {{ earlier }}, {{ later }}) / 1000000.0)
{%- endmacro %}
{% macro postgres__seconds_between(earlier, later) -%}
    extract(epoch from {{ later }} - {{ earlier }})
{%- endmacro %}
{% macro bigquery__seconds_between(earlier, later) -%}
    (datetime_diff(cast({{ later }} as datetime), cast({{ earlier }} as datetime), microsecond) / 1000000)
{%- endmacro %}
{% macro snowflake__seconds_between(earlier, later) -%}
    (timestampdiff('microsecond', {{ earlier }}, {{ later }}) / 1000000)
{%- endmacro %}

{# The time that all numbers are as of; see int_pancake__clock. #}
{% macro as_of() -%}
    {% if var('pancake__as_of', none) %}cast('{{ var("pancake__as_of") }}' as {{ dbt.type_timestamp() }}){% else %}(select max(as_of) from {{ ref('int_pancake__clock') }}){% endif %}
{%- endmacro %}

{# A percentile of the values; `part` is from 0 to 1. BigQuery has only approximate ones. #}
{% macro percentile(expression, part) -%}
    {{ adapter.dispatch('percentile', 'pancake')(expression, part) }}
{%- endmacro %}
{% macro default__percentile(expression, part) -%}
    percentile_cont({{ part }}) within group (order by {{ expression }})
{%- endmacro %}
{% macro bigquery__percentile(expression, part) -%}
    approx_quantiles({{ expression }}, 1000)[offset({{ (part * 1000) | int }})]
{%- endmacro %}
