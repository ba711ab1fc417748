{# Upper ends, in minutes, of the classes in which response times are counted; the last class has none. #}
{% macro response_classes() %}{{ return([1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440]) }}{% endmacro %}

{# The Monday of a date's week. Warehouses do not agree on the first day of a week. #}
{% macro monday_of(day) -%}
    cast({{ dbt.dateadd('day', '-mod(' ~ dbt.datediff("cast('1970-01-05' as date)", day, 'day') ~ ', 7)', day) }} as date)
{%- endmacro %}

{# The time in UTC of a time by the page's own clock. #}
{% macro utc_time(at_local, timezone) -%}
    cast({{ dbt.dateadd('minute', 'cast(round(coalesce(' ~ timezone ~ ', ' ~ var('pancake__default_timezone', 7) ~ ') * -60) as ' ~ dbt.type_int() ~ ')', at_local) }} as {{ dbt.type_timestamp() }})
{%- endmacro %}
