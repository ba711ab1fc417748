"""Parts of the documents that tests use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Json = Mapping[str, Any]


def blocks(document: Path, language: str) -> list[str]:
    """Return a document's fenced blocks of a language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = re.compile(r"(?ms)^(?:<!-- not run: ([^\n]+) -->\n)?```(sh|bash)\n(.*?)^```$")
"""A block of commands: the reason why no test runs it, its language, its lines."""


def fields_of(schema: Json, before: str = "") -> Iterator[tuple[str, Json]]:
    """Return the fields of an object with their paths, each followed by those below it."""
    for name, field in schema.get("properties", {}).items():
        yield before + name, field
        deeper, path = field, before + name
        while "items" in deeper:
            deeper, path = deeper["items"], f"{path}[]"
        yield from fields_of(deeper, f"{path}.")
