{# Streams that tell how far they are read by a date of the page, not by a time in UTC. #}
{% macro streams_by_date() %}
    {{ return([
        'ad_statistics', 'campaign_statistics', 'customer_engagements', 'new_customer_statistics',
        'tag_statistics', 'user_engagements'
    ]) }}
{% endmacro %}

{# Streams that `pancake__using_…` does not turn off. #}
{% macro used_streams() %}
    {% set used = [] %}
    {% for stream in pancake.columns() if pancake.uses(stream) %}{% do used.append(stream) %}{% endfor %}
    {{ return(used) }}
{% endmacro %}

{# Streams whose days can be complete, with the column of a row's time by the page's own clock. #}
{% macro dated_streams() %}
    {{ return({
        'messages': 'inserted_at_local',
        'page_statistics': 'hour_at_local',
        'user_statistics': 'hour_at_local',
        'new_customer_statistics': 'date_day',
        'customer_engagements': 'date_day',
        'user_engagements': 'date_day',
        'tag_statistics': 'date_day',
        'ad_statistics': 'date_day',
        'campaign_statistics': 'date_day',
        'customer_feedbacks': 'inserted_at_local',
        'customers': 'inserted_at_local'
    }) }}
{% endmacro %}

{#
  When the worst page was last read to its end, for `dbt source freshness`: the stream of it that is furthest
  behind. One that never was makes it 1970. Pages that are gone, and streams that are skipped, do not count.
  It asks the database itself, so that no model has to be built.
#}
{% macro worst_page_read_at() %}
    select min(coalesce(read_at, cast('1970-01-01' as {{ dbt.type_timestamp() }})))
    from (
        select
            page_id,
            stream,
            max(ended_at) as ended_at,
            max(case when status = 'complete' then ended_at end) as read_at,
            max(case when status = 'skipped' then ended_at end) as skipped_at
        from (
            select
                runs.page_id,
                runs.ended_at,
                {{ pancake.json_text('each_one.entry', 'name') }} as stream,
                {{ pancake.json_text('each_one.entry', 'status') }} as status
            from ({{ pancake.newest('sync_runs') }}) as runs
            {{ pancake.unnested('runs.streams') }}
        ) as told
        where page_id <> '' and stream in ('{{ pancake.used_streams() | join("', '") }}')
        group by page_id, stream
    ) as streams
    where coalesce(skipped_at < ended_at, true)
        and page_id not in (
            select page_id
            from ({{ pancake.newest('sync_runs') }}) as runs
            group by page_id
            having max(ended_at) = max(case when status = 'gone' then ended_at end)
        )
{% endmacro %}
