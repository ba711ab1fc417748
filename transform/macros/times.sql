{# A time by the page's own clock: `timezone` is in hours ahead of UTC, and may have a fraction. BigQuery adds to
   `datetime` alone, which it does not compare with a timestamp. #}
{% macro local_time(at, timezone) -%}
    cast({{ dbt.dateadd('minute', 'cast(round(coalesce(' ~ timezone ~ ', ' ~ var('pancake__default_timezone', 7) ~ ') * 60) as ' ~ dbt.type_int() ~ ')', at) }} as {{ dbt.type_timestamp() }})
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

{# The time that the numbers are as of: a variable, or the newest end of a run. Never the clock. #}
{% macro as_of() -%}
    {% if var('pancake__as_of', none) %}cast('{{ var("pancake__as_of") }}' as {{ dbt.type_timestamp() }}){% else %}(select max(as_of) from {{ ref('int_pancake__clock') }}){% endif %}
{%- endmacro %}

{# The share `part` (0 to 1) of values is not greater. #}
{% macro percentile(expression, part) -%}
    {{ adapter.dispatch('percentile', 'pancake')(expression, part) }}
{%- endmacro %}
{% macro default__percentile(expression, part) -%}
    percentile_cont({{ part }}) within group (order by {{ expression }})
{%- endmacro %}
{% macro bigquery__percentile(expression, part) -%}
    approx_quantiles({{ expression }}, 1000)[offset({{ (part * 1000) | int }})]
{%- endmacro %}
