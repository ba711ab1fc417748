{# Minutes from midnight to a time such as '08:30'. #}
{% macro clock_minute(text) -%}
    (cast({{ dbt.split_part(text, "':'", 1) }} as {{ dbt.type_int() }}) * 60
        + cast({{ dbt.split_part(text, "':'", 2) }} as {{ dbt.type_int() }}))
{%- endmacro %}

{# Minutes from midnight to a timestamp, with a fraction. #}
{% macro minute_of_day(at) -%}
    ({{ pancake.seconds_between(
        'cast(cast(' ~ at ~ ' as date) as ' ~ dbt.type_timestamp() ~ ')',
        'cast(' ~ at ~ ' as ' ~ dbt.type_timestamp() ~ ')'
    ) }} / 60)
{%- endmacro %}

{# Weekday from 1 (Monday) to 7 (Sunday). Databases number weekdays differently. #}
{% macro weekday(day) -%}
    (mod({{ dbt.datediff("cast('1900-01-01' as date)", day, 'day') }}, 7) + 1)
{%- endmacro %}

{# Join, as `alias`, the row of int_pancake__working_time that contains the local time `at`. #}
{% macro join_working_time(alias, page_id, at) -%}
    left join {{ ref('int_pancake__working_time') }} as {{ alias }}
        on {{ alias }}.page_id = {{ page_id }}
        and {{ alias }}.date_day = cast({{ at }} as date)
        and {{ alias }}.from_minute <= {{ pancake.minute_of_day(at) }}
        and {{ alias }}.to_minute > {{ pancake.minute_of_day(at) }}
{%- endmacro %}

{# Working minutes from the page's first day to the local time `at`. The difference of two of them is the working time
   between. #}
{% macro working_minutes_until(alias, at) -%}
    ({{ alias }}.minutes_before + least(
        greatest({{ pancake.minute_of_day(at) }} - {{ alias }}.opens_minute, 0),
        {{ alias }}.closes_minute - {{ alias }}.opens_minute
    ))
{%- endmacro %}

{# Minutes as a number of the same type in every database, rounded to four decimals. #}
{% macro minutes(expression) -%}
    cast(cast({{ expression }} as numeric(18, 4)) as {{ pancake.type_number() }})
{%- endmacro %}
