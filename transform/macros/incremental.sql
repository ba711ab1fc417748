{# When the rows of this model were loaded last, less `pancake__reload_hours`: what was loaded at the same time may
   have been written to the database later. #}
{% macro loaded_before() -%}
    select cast(
        {{ dbt.dateadd('minute', -60 * var('pancake__reload_hours', 3), 'max(loaded_at)') }}
        as {{ dbt.type_timestamp() }}
    ) as loaded_at
    from {{ this }}
{%- endmacro %}

{# Conversations that have messages loaded since then. #}
{% macro loaded_anew() -%}
    select distinct messages.page_id, messages.conversation_id
    from {{ ref('int_pancake__messages') }} as messages
    cross join ({{ pancake.loaded_before() }}) as loaded_before
    where messages.loaded_at is null or messages.loaded_at >= loaded_before.loaded_at
        or loaded_before.loaded_at is null
{%- endmacro %}
