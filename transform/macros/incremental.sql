{# Newest `loaded_at` of this model, less `pancake__reload_hours`: a target may write a row to the database some time
   after its `_sdc_batched_at`. #}
{% macro loaded_before() -%}
    select cast(
        {{ dbt.dateadd('minute', -60 * var('pancake__reload_hours', 3), 'max(loaded_at)') }}
        as {{ dbt.type_timestamp() }}
    ) as loaded_at
    from {{ this }}
{%- endmacro %}

{# Conversations with messages that were loaded since `loaded_before`. #}
{% macro newly_loaded() -%}
    select distinct messages.page_id, messages.conversation_id
    from {{ ref('int_pancake__messages') }} as messages
    cross join ({{ pancake.loaded_before() }}) as loaded_before
    where messages.loaded_at is null or messages.loaded_at >= loaded_before.loaded_at
        or loaded_before.loaded_at is null
{%- endmacro %}
