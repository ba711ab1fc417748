"""Writes the tables of streams and settings into README.md: `python scripts/readme_tables.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_pancake.client import USER_API
from tap_pancake.settings import SETTINGS
from tap_pancake.tap import TapPancake

if TYPE_CHECKING:
    from tap_pancake.client import PancakeStream

README = Path(__file__).parents[1] / "README.md"


def streams_table() -> str:
    """Give the table of streams as Markdown."""
    lines = [
        "| stream | endpoint | key | replication | parent | cut | one call brings |",
        "|---|---|---|---|---|---|---|",
    ]
    streams = TapPancake(validate_config=False).discover_streams()
    names: dict[type, str] = {type(stream): stream.name for stream in streams}
    for stream in streams:
        key = ", ".join(f"`{name}`" for name in stream.primary_keys)
        parent = stream.parent_stream_type
        cells = [
            f"`{stream.name}`" + ("" if stream.selected_by_default else " (not by default)"),
            f"`{endpoint_of(stream)}`",
            key,
            f"`{stream.replication_key}`" if stream.replication_key else "full table",
            f"`{names[parent]}`" if parent else "",
            str(stream.cut.rows) if stream.cut else "",
            stream.brings,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def endpoint_of(stream: PancakeStream) -> str:
    """Give the path of a stream, without what all paths of pages have in common."""
    return f"{USER_API}{stream.path}" if stream.api == USER_API else stream.path.split("/", 3)[3]


def type_of(schema: dict[str, Any]) -> str:
    """Give the type of a setting in a user's words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "date-time":
        return "time"
    (name,) = (name for name in schema["type"] if name != "null")
    return f"{name}, secret" if schema.get("secret") else str(name)


def default_of(schema: dict[str, Any]) -> str:
    """Give the default as text; empty if there is none."""
    default = schema.get("default", "")
    return default if isinstance(default, str) else json.dumps(default)


def settings_table() -> str:
    """Give the table of settings as Markdown."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, schema in SETTINGS["properties"].items():
        default = f"`{default_of(schema)}`" if "default" in schema else ""
        lines.append(f"| `{name}` | {type_of(schema)} | {default} | {schema['description']} |")
    return "\n".join(lines) + "\n"


TABLES = {"streams": streams_table, "settings": settings_table}


def split(readme: str, name: str) -> tuple[str, str, str]:
    """Give what is before, between and after the markers of a table."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = readme.partition(begin)
    between, _, after = rest.partition(end)
    return before + begin, between, end + after


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        before, _, after = split(text, name)
        text = before + table() + after
    README.write_text(text, encoding="utf-8")
