"""The type and the form of a column, by its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tap_pancake.rows.shaping import FORM

if TYPE_CHECKING:
    from collections.abc import Mapping


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the JSON types of a column, without null."""
    types = schema.get("type", [])
    return [name for name in ([types] if isinstance(types, str) else types) if name != "null"]


def form_of(schema: Mapping[str, Any]) -> str | None:
    """Return the form of a text, such as `date-time` or `date`."""
    form: str | None = schema.get("format") or schema.get(FORM)
    return form
