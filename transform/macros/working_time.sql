{# Minutes since midnight of a text such as '08:30'. #}
{% macro clock_minute(text) -%}
    (cast({{ dbt.split_part(text, "':'", 1) }} as {{ dbt.type_int() }}) * 60
        + cast({{ dbt.split_part(text, "':'", 2) }} as {{ dbt.type_int() }}))
{%- endmacro %}

{# Minutes since midnight of a time, with their fraction. #}
{% macro minute_of_day(at) -%}
    ({{ pancake.seconds_between(
        'cast(cast(' ~ at ~ ' as date) as ' ~ dbt.type_timestamp() ~ ')',
        'cast(' ~ at ~ ' as ' ~ dbt.type_timestamp() ~ ')'
    ) }} / 60)
{%- endmacro %}

{# 1 is Monday, 7 is Sunday, whatever the database calls the first day of a week. #}
{% macro weekday(day) -%}
    (mod({{ dbt.datediff("cast('1900-01-01' as date)", day, 'day') }}, 7) + 1)
{%- endmacro %}

{# Joins the row of int_pancake__working_time, under the name `alias`, that the local time `at` lies in. #}
{% macro join_working_time(alias, page_id, at) -%}
    left join {{ ref('int_pancake__working_time') }} as {{ alias }}
        on {{ alias }}.page_id = {{ page_id }}
        and {{ alias }}.date_day = cast({{ at }} as date)
        and {{ alias }}.from_minute <= {{ pancake.minute_of_day(at) }}
        and {{ alias }}.to_minute > {{ pancake.minute_of_day(at) }}
{%- endmacro %}

{# Working minutes from the first day of the page until the local time `at`; two of them differ by what lies between. #}
{% macro working_minutes_until(alias, at) -%}
    ({{ alias }}.minutes_before + least(
        greatest({{ pancake.minute_of_day(at) }} - {{ alias }}.opens_minute, 0),
        {{ alias }}.closes_minute - {{ alias }}.opens_minute
    ))
{%- endmacro %}

{# Minutes as a number of the same type in every database, without the noise of the last digits. #}
{% macro minutes(expression) -%}
    cast(cast({{ expression }} as numeric(18, 4)) as {{ pancake.type_number() }})
{%- endmacro %}
