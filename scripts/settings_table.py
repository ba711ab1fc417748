"""Writes the table of settings into README.md: `python scripts/settings_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tap_pancake.settings import SETTINGS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


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


def table() -> str:
    """Give the table as Markdown."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, schema in SETTINGS["properties"].items():
        default = f"`{default_of(schema)}`" if "default" in schema else ""
        lines.append(f"| `{name}` | {type_of(schema)} | {default} | {schema['description']} |")
    return "\n".join(lines) + "\n"


def split(readme: str) -> tuple[str, str, str]:
    """Give what is before, between and after the markers."""
    before, _, rest = readme.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before + BEGIN, between, END + after


if __name__ == "__main__":
    before, _, after = split(README.read_text(encoding="utf-8"))
    README.write_text(before + table() + after, encoding="utf-8")
