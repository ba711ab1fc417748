"""Rows as JSON: an answer's rows wait as they came, and are read when they are written.

As JSON a row takes a fifth of the memory. And of what is read twice, a list or a batch of messages,
only what decides is read the first time: the id and the times of each row.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = dict[str, Any]

_decode = msgspec.json.Decoder().decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
# What is read at once of what stands beside rows: it tells whether the answer is a good one.
_JUDGED = ("success", "error_code", "message")


def read(content: bytes) -> Any:
    """Read JSON, or what Python's own parser takes for it; None if it is neither."""
    try:
        return _decode(content)
    except (ValueError, RecursionError):
        return _lenient(content)


class KeptRow(dict[str, Any]):
    """What is looked at of a row before it is written; all of it is in `json`."""

    __slots__ = ("json",)

    def __init__(self, looked_at: Mapping[str, Any], content: bytes) -> None:
        """Keep a row.

        Args:
            looked_at: its id and its times.
            content: all of it, as JSON.
        """
        super().__init__(looked_at)
        self.json = content

    @classmethod
    def of(cls, row: Mapping[str, Any], names: Iterable[str]) -> KeptRow:
        """Keep a row that was read already."""
        return cls({name: row[name] for name in names if name in row}, msgspec.json.encode(row))


def whole(row: Row) -> Row:
    """Return all of a row, which may be a kept one.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return read_again(row.json) if isinstance(row, KeptRow) else row


def read_again(content: bytes) -> Any:
    """Read the JSON of one or more kept rows.

    Raises:
        RecursionError: it is nested too deeply, which nothing else can be wrong with it.
    """
    if (value := read(content)) is None:
        raise RecursionError
    return value


def json_of(row: Row) -> bytes:
    """Return all of a row as JSON."""
    return row.json if isinstance(row, KeptRow) else msgspec.json.encode(row)


class KeptAnswer(dict[str, Any]):
    """What is looked at of an answer; what stands beside its rows is in `beside`, as JSON."""

    __slots__ = ("beside",)

    def __init__(self, looked_at: Mapping[str, Any], beside: Mapping[str, msgspec.Raw]) -> None:
        """Keep an answer.

        Args:
            looked_at: its rows, and what tells whether it is a good one.
            beside: all but its rows.
        """
        super().__init__(looked_at)
        self.beside = beside


def beside(answer: Mapping[str, Any], rows: str, **more: object) -> bytes:
    """Return what stands beside the rows of an answer as JSON.

    Args:
        answer: its body, which may be a kept one.
        rows: the name of the list of rows.
        more: what is added to it.
    """
    parts = answer.beside if isinstance(answer, KeptAnswer) else answer
    return msgspec.json.encode({name: part for name, part in parts.items() if name != rows} | more)


class Glance:
    """Reads an answer, but of each row only what is looked at before it is written."""

    def __init__(self, rows: str, *names: str) -> None:
        """Look at some fields.

        Args:
            rows: the name of the list of rows.
            names: the fields of a row.
        """
        self._rows = rows
        # Made here, since a type that is written out would be one for each list.
        fields = TypedDict("fields", dict.fromkeys(names, Any), total=False)  # type: ignore[misc]
        self._look = msgspec.json.Decoder(fields).decode

    def read(self, content: bytes) -> Any:
        """Read an answer; it and its rows are kept ones, unless it is an odd one."""
        try:
            parts = _decode_parts(content)
            rows = _decode_rows(parts.pop(self._rows))
            kept = [KeptRow(self._look(row), bytes(row)) for row in rows]
            judged = {name: _decode(parts[name]) for name in _JUDGED if name in parts}
            return KeptAnswer(judged | {self._rows: kept}, parts)
        except (ValueError, LookupError, RecursionError):
            return read(content)


def _lenient(content: bytes) -> Any:
    """Read what Python's own parser takes for JSON, as something that can be written; or None."""
    try:
        # A broken letter, such as one that was cut in two, is no reason to lose the rest.
        text = content.decode(json.detect_encoding(content), "replace")
        # NaN, Infinity and what is too large are not JSON, and no target takes them.
        body = json.loads(
            text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_countable
        )
        # Half of an emoji, cut off somewhere, is in no UTF-8.
        return _decode(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _countable(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # thousands of digits
        return None
