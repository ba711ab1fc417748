{# Upper ends, in minutes, of the classes in which response times are counted; the last class has none. #}
{% macro response_classes() %}{{ return([1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440]) }}{% endmacro %}

{# The Monday of a date's week. Warehouses do not agree on the first day of a week. #}
{% macro monday_of(day) -%}
    cast({{ dbt.dateadd('day', '-mod(' ~ dbt.datediff("cast('1970-01-05' as date)", day, 'day') ~ ', 7)', day) }} as date)
{%- endmacro %}
