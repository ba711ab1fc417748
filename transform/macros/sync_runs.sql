{# Streams whose `top` in `sync_runs` is a date of the page, not a time in UTC. #}
{% macro streams_by_date() %}
    {{ return([
        'ad_statistics', 'campaign_statistics', 'customer_engagements', 'new_customer_statistics',
        'tag_statistics', 'user_engagements'
    ]) }}
{% endmacro %}

{# Streams that no `pancake__using_<stream>` turns off. #}
{% macro used_streams() %}
    {% set used = [] %}
    {% for stream in pancake.columns() if pancake.uses(stream) %}{% do used.append(stream) %}{% endfor %}
    {{ return(used) }}
{% endmacro %}

{# Streams whose days can be complete, with the column of a row's local time. #}
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
  For `dbt source freshness`: the time of the last complete run of the stream that is furthest behind, over
  all pages. A stream that was never complete counts as 1970. Pages that are gone and skipped streams do not
  count. The macro queries the sources, so no model has to be built first.
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
        ) as entries
        where page_id <> 'account' and stream in ('{{ pancake.used_streams() | join("', '") }}')
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
