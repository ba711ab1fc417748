-- Time from which the rows of each stream of each page can be complete.
--
-- sync_runs does not contain `start_date`. So the history of a stream begins with its first row or its first run,
-- whichever is earlier, unless `pancake__start_date` is set.
with first_rows as (
    {% for stream, at in pancake.dated_streams().items() -%}
    select
        page_id,
        '{{ stream }}' as stream,
        {%- if stream == 'messages' %}
        -- The hour of the first message counts as a full hour.
        cast({{ dbt.date_trunc('hour', 'min(' ~ at ~ ')') }} as {{ dbt.type_timestamp() }}) as first_row_at_local
        {%- else %}
        min(cast({{ at }} as {{ dbt.type_timestamp() }})) as first_row_at_local
        {%- endif %}
    from {{ ref('stg_pancake__' ~ stream) }}
    group by page_id
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

begun as (
    select page_id, stream, first_row_at_local as at_local from first_rows
    union all
    select page_id, stream, first_read_at_local from {{ ref('int_pancake__streams') }}
    where stream in ('{{ pancake.dated_streams().keys() | join("', '") }}')
)

{% set start -%}
    {% if var('pancake__start_date', none) -%}
    {% set start_date = "cast('" ~ var('pancake__start_date') ~ "' as " ~ dbt.type_timestamp() ~ ")" -%}
    min({{ pancake.local_time(start_date, 'zones.timezone') }})
    {%- else -%}
    min(begun.at_local)
    {%- endif %}
{%- endset %}
select
    begun.page_id,
    begun.stream,
    min(begun.at_local) as seen_from_local,
    case
        when begun.stream in ('customers', 'messages') then {{ start }}
        -- The tap requests statistics for whole days.
        else cast(cast({{ start }} as date) as {{ dbt.type_timestamp() }})
    end as begins_at_local
from begun
left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = begun.page_id
where begun.at_local is not null
group by begun.page_id, begun.stream
