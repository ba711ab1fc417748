{# Upper limits, in minutes, of the classes of response times. A last class without a limit follows. #}
{% macro response_classes() %}{{ return([1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440]) }}{% endmacro %}

{# The Monday of a date's week. `date_trunc('week', …)` starts weeks on different days in different databases. #}
{% macro monday_of(day) -%}
    cast({{ dbt.dateadd('day', '-mod(' ~ dbt.datediff("cast('1970-01-05' as date)", day, 'day') ~ ', 7)', day) }} as date)
{%- endmacro %}
