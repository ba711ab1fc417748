"""Generates the files of the dbt project that depend on the streams: `python scripts/dbt.py`.

These are the sources, the columns of each stream with their types, and the staging models with
their descriptions, all from `tap_pancake/schemas`. A test fails if the files are out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scripts.schemas import form_of, types_of
from tap_pancake.streams import STREAMS

ROOT = Path(__file__).parents[1]
TRANSFORM = ROOT / "transform"
HEAD = "Made by scripts/dbt.py from tap_pancake/schemas."

OF_THE_ACCOUNT = {"pages", "multi_page_user_statistics"}
"""Streams whose rows are not of one page: their times have no local time zone."""

FRESHNESS = {
    "freshness": {
        level: {"count": f"{{{{ var('pancake__stale_after_hours') * {times} }}}}", "period": "hour"}
        for level, times in (("warn_after", 1), ("error_after", 2))
    },
    "loaded_at_query": "{{ pancake.worst_page_read_at() }}",
}
"""Source freshness, on `sync_runs` only: it has the status of all pages and streams."""

# Names of `id` in the staging models.
_ENTITIES = {
    "ad_conversations": "conversation_id",
    "ads": "ad_id",
    "conversations": "conversation_id",
    "customer_feedbacks": "feedback_id",
    "customers": "page_customer_id",
    "messages": "message_id",
    "pages": "page_id",
    "posts": "post_id",
    "tags": "tag_id",
    "users": "user_id",
}
_NAMES = {
    "allow_use_data_for_training_ai": "is_ai_training_allowed",
    "answers_429": "answer_429_count",
    "calls": "call_count",
    "clicks": "click_count",
    "date": "date_day",
    "delete_comment": "is_comment_deletion_on",
    "from": "sender",
    "hour": "hour_at_local",
    "hour_utc": "hour_at",
    "ignore_comment": "is_comment_ignored",
    "link_click": "link_click_count",
    "need_fix_webhook": "is_webhook_broken",
    "rate": "rating",
    "retries": "retry_count",
    "show_info": "is_info_shown",
    "special_feature": "has_special_feature",
    "start_time": "started_at",
    "text": "tag_name",
    "total": "total_count",
    "user_likes": "is_liked_by_page",
}
_OF_STREAMS = {
    ("ad_statistics", "id"): "api_id",
    ("customer_engagements", "comment"): "comment_count",
    ("customer_engagements", "inbox"): "inbox_count",
    ("customer_engagements", "new_customer"): "new_customer_count",
    ("customer_engagements", "new_customer_from_inbox"): "new_customer_from_inbox_count",
    ("customer_engagements", "new_customer_replied"): "new_customer_replied_count",
    ("customer_engagements", "total"): "total_count",
    ("customer_feedbacks", "message"): "comment",
    ("messages", "from"): "sender",
    ("multi_page_user_statistics", "hour"): "hour_text",
    ("pages", "name"): "page_name",
    ("tags", "is_deactive"): "is_switched_off",
}
_BOOLEAN = ("is_", "has_", "can_")
"""Prefixes of boolean columns."""


class Column(NamedTuple):
    """A column of a stream, and of its staging model."""

    name: str
    kind: str
    """An argument of the macro `pancake.type_of`."""
    staged: str
    """The name in the staging model."""
    description: str


def streams() -> dict[str, list[Column]]:
    """Return the columns of each stream, by the name of the stream."""
    found = {}
    for path in sorted((ROOT / "tap_pancake" / "schemas").glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = [
            Column(name, _kind(spec), _staged(path.stem, name, spec), spec["description"])
            for name, spec in schema["properties"].items()
        ]
    return found


def _kind(spec: dict[str, Any]) -> str:
    kind = types_of(spec)[0]
    if kind == "string":
        return {"date-time": "timestamp", "date": "date"}.get(form_of(spec) or "", "text")
    return {"array": "json", "object": "json"}.get(kind, kind)


def _staged(stream: str, name: str, spec: dict[str, Any]) -> str:
    if name == "id" and stream in _ENTITIES:
        return _ENTITIES[stream]
    found = _OF_STREAMS.get((stream, name)) or _NAMES.get(name, name)
    if _kind(spec) == "boolean" and not found.startswith(_BOOLEAN):
        return f"is_{found}"
    return found


def keys() -> dict[str, list[str]]:
    """Return the primary key of each stream."""
    return {stream.name: list(stream.primary_keys) for stream in STREAMS}


def columns_macro() -> str:
    """Return the file of the macros `columns` and `primary_keys`."""
    listed = {
        stream: {column.name: column.kind for column in columns}
        for stream, columns in streams().items()
    }
    lines = [f"{{# {HEAD} #}}"]
    for name, value in (("columns", listed), ("primary_keys", keys())):
        lines += [f"{{% macro {name}() %}}", "{{ return({"]
        lines += [
            f"    {json.dumps(stream)}: {json.dumps(value[stream])}," for stream in sorted(value)
        ]
        lines += ["}) }}", "{% endmacro %}"]
    return "\n".join(lines) + "\n"


def sources() -> str:
    """Return the file of sources: one table for each stream."""
    tables = [
        {
            "name": stream,
            "description": f"Rows of the stream `{stream}`.",
            "columns": [
                {"name": column.name, "description": column.description} for column in columns
            ],
        }
        | ({"config": FRESHNESS} if stream == "sync_runs" else {})
        for stream, columns in streams().items()
    ]
    source = {
        "name": "pancake",
        "description": "Tables that the target of tap-pancake loads.",
        "schema": "{{ var('pancake_schema', 'pancake') }}",
        "tables": tables,
    }
    return _yaml({"version": 2, "sources": [source]})


def staging(stream: str, columns: list[Column]) -> str:
    """Return the SQL of the staging model of a stream."""
    lines = [f"-- {HEAD}", "select"]
    has_page = stream not in OF_THE_ACCOUNT
    selected = []
    for name, kind, staged, _ in columns:
        if kind == "text" and staged == "hour_at_local":
            selected.append(f"cast({_quoted(name)} as {{{{ dbt.type_timestamp() }}}}) as {staged}")
        elif stream == "tags" and name == "id":
            selected.append(f"cast({_quoted(name)} as {{{{ dbt.type_string() }}}}) as {staged}")
        else:
            selected.append(f"{_quoted(name)} as {staged}")
        if kind == "timestamp" and has_page and staged != "hour_at":
            local = f"{{{{ pancake.local_time('loaded.{name}', 'zones.timezone') }}}}"
            selected.append(f"{local} as {staged}_local")
    lines += [f"    {one}," for one in selected]
    lines += ["    loaded.loaded_at", f"from ({{{{ pancake.newest('{stream}') }}}}) as loaded"]
    if has_page and any("_local" in one and "zones" in one for one in selected):
        lines.append(
            "left join {{ ref('int_pancake__zones') }} as zones on zones.page_id = loaded.page_id"
        )
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return f"loaded.{{{{ pancake.column('{name}') }}}}" if name in _WORDS else f"loaded.{name}"


_WORDS = {"from", "hour", "date", "text", "type", "name"}
"""Column names that are reserved words in SQL."""


def staging_columns(stream: str, columns: list[Column]) -> list[dict[str, str]]:
    """Return the columns of a staging model, with their descriptions."""
    described = []
    for _, kind, staged, description in columns:
        described.append({"name": staged, "description": description})
        if kind == "timestamp" and stream not in OF_THE_ACCOUNT and staged != "hour_at":
            text = f"`{staged}` in the page's time zone."
            described.append({"name": f"{staged}_local", "description": text})
    text = "When the target loaded the row; null if the target does not write it."
    return [*described, {"name": "loaded_at", "description": text}]


def staging_properties() -> str:
    """Return the file of descriptions and tests of the staging models."""
    models = []
    for stream, columns in streams().items():
        staged = {column.name: column.staged for column in columns}
        key = [staged[name] for name in keys()[stream]]
        models.append(
            {
                "name": f"stg_pancake__{stream}",
                "description": f"Rows of the stream `{stream}`, with types."
                f" One row for each `{', '.join(key)}`.",
                "data_tests": [{"pancake.unique_key": {"arguments": {"columns": key}}}],
                "columns": [
                    column | ({"data_tests": ["not_null"]} if column["name"] in key else {})
                    for column in staging_columns(stream, columns)
                ],
            }
        )
    return _yaml({"version": 2, "models": models})


def _yaml(content: dict[str, Any]) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return f"# {HEAD}\n{text}"


def files() -> dict[Path, str]:
    """Return the text of each generated file, by path."""
    models = TRANSFORM / "models"
    written = {
        TRANSFORM / "macros" / "columns.sql": columns_macro(),
        models / "sources.yml": sources(),
        models / "staging" / "_staging.yml": staging_properties(),
    }
    for stream, columns in streams().items():
        written[models / "staging" / f"stg_pancake__{stream}.sql"] = staging(stream, columns)
    return written


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
