"""Kept rows: the rows of an answer stay JSON, and are decoded when they are written.

As JSON a row takes a fifth of the memory. Until it is written, the tap needs only its id and its
times, and decodes no other field.
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
# Fields besides the rows that are decoded at once: they show whether the answer is an error.
_ENVELOPE = ("success", "error_code", "message")


def read(content: bytes) -> Any:
    """Return the value of JSON, also of what only Python's own parser accepts; None if invalid."""
    try:
        return _decode(content)
    except (ValueError, RecursionError):
        return _read_leniently(content)


class KeptRow(dict[str, Any]):
    """A row of which only some fields are decoded; `json` has all of it."""

    __slots__ = ("json",)

    def __init__(self, decoded: Mapping[str, Any], content: bytes) -> None:
        """Keep a row.

        Args:
            decoded: its id and its times.
            content: the whole row, as JSON.
        """
        super().__init__(decoded)
        self.json = content

    @classmethod
    def of(cls, row: Mapping[str, Any], names: Iterable[str]) -> KeptRow:
        """Return a row that was decoded already as a kept one, with the fields of these names."""
        return cls({name: row[name] for name in names if name in row}, msgspec.json.encode(row))


def full_row(row: Row) -> Row:
    """Return a row with all its fields; the row may be a kept one.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return read_again(row.json) if isinstance(row, KeptRow) else row


def read_again(content: bytes) -> Any:
    """Return the value of JSON from one or more kept rows.

    Raises:
        RecursionError: it is nested too deeply; it was valid JSON before.
    """
    if (value := read(content)) is None:
        raise RecursionError
    return value


def json_of(row: Row) -> bytes:
    """Return the whole row as JSON."""
    return row.json if isinstance(row, KeptRow) else msgspec.json.encode(row)


class KeptAnswer(dict[str, Any]):
    """An answer with kept rows; `fields_beside_rows` has its other fields, as JSON."""

    __slots__ = ("fields_beside_rows",)

    def __init__(
        self, decoded: Mapping[str, Any], fields_beside_rows: Mapping[str, msgspec.Raw]
    ) -> None:
        """Keep an answer.

        Args:
            decoded: its kept rows, and the fields that show whether it is an error.
            fields_beside_rows: all fields except the rows, as JSON.
        """
        super().__init__(decoded)
        self.fields_beside_rows = fields_beside_rows


def fields_beside_rows(answer: Mapping[str, Any], rows: str, **more: object) -> bytes:
    """Return the fields of an answer except its rows, as JSON.

    Args:
        answer: its body, which may be a kept one.
        rows: the name of the list of rows.
        more: fields to add.
    """
    parts = answer.fields_beside_rows if isinstance(answer, KeptAnswer) else answer
    return msgspec.json.encode({name: part for name, part in parts.items() if name != rows} | more)


class PartialDecoder:
    """A decoder of answers that decodes only some fields of each row, and keeps the row as JSON."""

    def __init__(self, rows: str, *names: str) -> None:
        """Set what to decode.

        Args:
            rows: the name of the list of rows.
            names: the fields of a row to decode.
        """
        self._rows = rows
        # A type made at run time, as each list has other fields.
        fields = TypedDict("fields", dict.fromkeys(names, Any), total=False)  # type: ignore[misc]
        self._decode_fields = msgspec.json.Decoder(fields).decode

    def read(self, content: bytes) -> Any:
        """Return an answer with kept rows, or fully decoded if it has an unexpected shape."""
        try:
            parts = _decode_parts(content)
            rows = _decode_rows(parts.pop(self._rows))
            kept = [KeptRow(self._decode_fields(row), bytes(row)) for row in rows]
            envelope = {name: _decode(parts[name]) for name in _ENVELOPE if name in parts}
            return KeptAnswer(envelope | {self._rows: kept}, parts)
        except (ValueError, LookupError, RecursionError):
            return read(content)


def _read_leniently(content: bytes) -> Any:
    """Return the value of what Python's own parser accepts, made valid JSON; None if it fails."""
    try:
        # Replace an invalid character, such as one that was cut in two, and keep the rest.
        text = content.decode(json.detect_encoding(content), "replace")
        # NaN, Infinity and numbers that are too large are not JSON; no target accepts them.
        body = json.loads(
            text,
            parse_constant=lambda _: None,
            parse_float=_finite_or_none,
            parse_int=_integer_or_none,
        )
        # UTF-8 cannot encode half of an emoji, from a text that was cut off.
        return _decode(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer_or_none(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # Python refuses thousands of digits
        return None
