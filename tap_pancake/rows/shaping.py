"""Rows as the stream's schema says: its fields, its types, its one form of time.

What the schema does not declare is kept, in the row's `other_fields`, and counted, so that a user
learns of additions to the API. Below the top level it stays in its object, unless that is selected
in part or becomes columns by flattening. Credentials are dropped at any depth. Since every value
leaves here in a declared type, the SDK's own conformance is switched off.

Personal data is protected on the way, if that is wanted: a field keeps its type.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_pancake.rows.personal import Protection

    Convert = Callable[[Any], Any]
    Schema = Mapping[str, Any]
    Path = tuple[str, ...]

# Never emitted, at any depth (reference, sections 6 and 7.5), and whatever else is called so.
# `settings` of a page holds its token.
_CREDENTIAL = re.compile(
    r"settings|token_for_business|(.*_)?(auth|authorization|bearer|jwt|otp|pwd|session|signature)"
    r"|.*(token|secret|passw(or)?d|passcode|session_?id|(api|private)_?key|cookie)s?",
    re.IGNORECASE,
)
# So many fields that the schema does not declare are counted: their names may be ids.
_MOST = 30
# Of an integer, without its sign: what targets have columns for.
_BITS = 63
# So many shapes of an object are remembered: its names may be ids.
_MOST_SHAPES = 300
_NULL = type(None)


@lru_cache(maxsize=10_000)
def is_credential(name: str) -> bool:
    """Tell whether a field of this name is never emitted."""
    return _CREDENTIAL.fullmatch(name) is not None


OTHERS = "other_fields"
"""The column of each stream that holds what its schema does not declare."""
BARE = "x-bare"
"""In the schema of an object: the field of it that takes a value which is no object, by its JSON
type; `any` is of all other types."""
FORM = "x-form"
"""In the schema of a text: how it is written, where JSON Schema has no `format` for that, or where
a checker of SCHEMA takes a `format` below an object that is null for an error."""
PERSONAL = "x-personal"
"""In the schema of a value: what personal data it is, a kind that `personal.py` names; `text` is
what may hold phone numbers and e-mail addresses, `snippet` such a text that is cut off."""
PERSON = "x-person"
"""In the schema of a row, object or value: whose personal data it and all in it is."""
CUSTOMER, STAFF = "customer", "staff"


class Findings:
    """What the rows of one stream had that their schema does not say; names with how often."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.unknown: Counter[str] = Counter()
        """Fields that the schema does not declare, which are in `other_fields`."""
        self.left_out: Counter[str] = Counter()
        """Fields below the top level that it does not declare, and that were left out."""
        self.mistyped: Counter[str] = Counter()
        """Fields whose value fits no declared type, and became null."""

    @staticmethod
    def count(what: Counter[str], name: str) -> None:
        """Count a name, unless there are too many already."""
        if name in what or len(what) < _MOST:
            what[name] += 1


class RowShaper:
    """Shapes the rows of one stream."""

    def __init__(
        self,
        schema: Schema,
        is_closed: Callable[[Path], bool] = lambda _: False,
        protection: Protection | None = None,
        *,
        is_whole: Callable[[Path], bool] = lambda _: True,
    ) -> None:
        """Prepare one conversion for each field of the schema.

        Args:
            schema: the stream's own.
            is_closed: tells of the object at a path whether it keeps only what is declared.
            protection: of personal data; None keeps it.
            is_whole: tells of the value at a path whether all of it is selected.
        """
        self.findings = Findings()
        self._protection = protection
        self._build = _Build(self.findings, is_closed, protection)
        self._person = schema.get(PERSON, CUSTOMER)
        self._is_whole = is_whole
        self._shapes = _Shapes(
            {
                name: self._build.field(part, (name,), self._person)
                for name, part in schema["properties"].items()
            }
        )

    def shape(self, row: Mapping[str, Any], page_id: object = None) -> dict[str, Any]:
        """Return the row of a page as the schema says."""
        if self._protection is not None:
            self._protection.begin(row, page_id)
        shaped = dict(row)
        others: dict[str, Any] = {}
        declared, undeclared = self._shapes.of(row)
        for name, field in declared:
            value = row[name]
            fitting = field.convert(value)
            shaped[name] = fitting if field.guard is None else field.guard(fitting)
            if fitting is None and value is not None and self._is_whole((name,)):
                others[name] = field.rest(_free(value))
        for name in undeclared:
            value = shaped.pop(name)
            if not is_credential(name) and (known := self._build.name(name)) is not None:
                others[known] = self._build.free(value, name, self._person)
                self.findings.count(self.findings.unknown, known)
        shaped[OTHERS] = others or None
        return shaped


class _Field(NamedTuple):
    """What is done with the value at one place."""

    convert: Convert
    """To a declared type; what has none becomes null."""
    guard: Convert | None
    """Protects it then; None if it need not."""
    rest: Convert
    """Protects a value that has no declared type."""
    keeps: frozenset[type]
    """The types of values of which nothing is to be done."""


class _Shapes:
    """What is to be done with objects of one place, decided once for each shape.

    A shape is the names of an object and the types of its values: most objects of one place have
    the same few, and most values are as they should be.
    """

    def __init__(self, fields: Mapping[str, _Field]) -> None:
        self._fields = fields
        self._known: dict[tuple[object, ...], tuple[list[tuple[str, _Field]], list[str]]] = {}

    def of(self, value: Mapping[str, Any]) -> tuple[list[tuple[str, _Field]], list[str]]:
        """Return the declared fields that need something, and the names that are not declared."""
        shape = (*value, *map(type, value.values()))
        known = self._known.get(shape)
        if known is None:
            declared = [name for name in value if name in self._fields]
            known = (
                [
                    (name, self._fields[name])
                    for name in declared
                    if type(value[name]) not in self._fields[name].keeps
                ],
                [name for name in value if name not in self._fields],
            )
            if len(self._known) < _MOST_SHAPES:
                self._known[shape] = known
        return known


class _Build:
    """Builds the conversions of one stream; what fits no type becomes null, counted."""

    def __init__(
        self,
        findings: Findings,
        is_closed: Callable[[Path], bool],
        protection: Protection | None,
    ) -> None:
        self._findings = findings
        self._is_closed = is_closed
        self._protection = protection

    def free(self, value: Any, name: str, person: str) -> Any:
        """Keep a value that no schema describes, less its credentials, and protected."""
        value = _free(value)
        return value if self._protection is None else self._protection.free(value, name, person)

    def name(self, name: str, above: str = "") -> str | None:
        """Return the name of a field that no schema describes; None if it may not be told."""
        return name if self._protection is None else self._protection.name(name, above)

    def field(self, schema: Schema, path: Path, person: str) -> _Field:
        """Build what is done with the value at one place."""
        person = schema.get(PERSON, person)
        convert, kind = self._conversion(schema, path, person), schema.get(PERSONAL)
        kept = (_kept(name, schema) for name in _types_of(schema))
        keeps = frozenset({_NULL, *(kind for kind in kept if kind is not None)})
        if self._protection is None:
            return _Field(convert, None, _free, keeps)
        rest = "name" if kind is None and _is_personal(schema) else kind
        guard = kind and self._protection.guard(kind, person)
        guard_rest = rest and self._protection.guard(rest, person)
        return _Field(
            convert,
            guard or None,
            guard_rest or self._free_at(path, person),
            frozenset({_NULL}) if guard else keeps,
        )

    def part(self, schema: Schema, path: Path, person: str) -> _Field:
        """Build the same for a part of a value: conversion and protection in one."""
        field = self.field(schema, path, person)
        convert, guard = field.convert, field.guard
        if guard is None:
            return field
        return field._replace(convert=lambda value: guard(convert(value)), guard=None)

    def _conversion(self, schema: Schema, path: Path, person: str) -> Convert:
        casts: dict[str, Convert] = {}
        for name in _types_of(schema):
            if name == "string":
                casts[name] = self._text(schema, path, person)
            elif name == "object":
                casts[name] = self._object(schema, path, person)
            elif name == "array":
                casts[name] = self._array(schema, path, person)
            elif name != "null":
                casts[name] = _SCALARS[name]
        if not casts:
            return self._free_at(path, person)
        count, mistyped, text = self._findings.count, self._findings.mistyped, ".".join(path)
        exact = {kind: [casts[name]] for kind, name in _JSON_TYPES.items() if name in casts}
        others = list(casts.values())

        def convert(value: Any) -> Any:
            if value is None:
                return None
            for cast in exact.get(type(value), others):
                try:
                    return cast(value)
                except (TypeError, ValueError, OverflowError):
                    continue
            count(mistyped, text)
            return None

        return convert

    def _free_at(self, path: Path, person: str) -> Convert:
        return partial(self.free, name=path[-1].replace("[]", ""), person=person)

    def _text(self, schema: Schema, path: Path, person: str) -> Convert:
        cast = _text_cast(schema)
        if cast is not _string or self._protection is None:
            return cast
        free = self._free_at(path, person)
        return lambda value: _string(free(value) if isinstance(value, (dict, list)) else value)

    def _object(self, schema: Schema, path: Path, person: str) -> Convert:
        fields = {
            name: self.part(part, (*path, name), person)
            for name, part in schema.get("properties", {}).items()
        }
        bare: Mapping[str, str] = schema.get(BARE, {})
        if not fields:
            free_whole = self._free_at(path, person)
            return lambda value: free_whole(_object_of(value, bare))
        shapes, free, above = _Shapes(fields), partial(self.free, person=person), path[-1]
        is_closed, text = self._is_closed(path), ".".join(path)
        count, left_out = self._findings.count, self._findings.left_out

        def cast(value: Any) -> Any:
            value = _object_of(value, bare)
            declared, undeclared = shapes.of(value)
            if not declared and not undeclared:
                return value
            kept = dict(value)
            for name, field in declared:
                kept[name] = field.convert(value[name])
            for name in undeclared:
                part = kept.pop(name)
                if is_credential(name):
                    continue
                if is_closed:
                    count(left_out, f"{text}.{name}")
                elif (known := self.name(name, above)) is not None:
                    kept[known] = free(part, name)
            return kept

        return cast

    def _array(self, schema: Schema, path: Path, person: str) -> Convert:
        item = self.part(schema.get("items", {}), (*path[:-1], f"{path[-1]}[]"), person).convert

        def cast(value: Any) -> Any:
            if isinstance(value, dict):  # the only one, of which some answers make no list
                value = [value]
            if not isinstance(value, list):
                raise TypeError
            return [item(part) for part in value]

        return cast


_JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}


def _types_of(schema: Schema) -> list[str]:
    """Return the types that a schema declares."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _kept(name: str, schema: Schema) -> type | None:
    """Return the type of Python whose values need no conversion to a type of JSON.

    None if each value must be looked at, such as a number, which may be too large.
    """
    if name == "boolean":
        return bool
    return str if name == "string" and _text_cast(schema) is _string else None


def _text_cast(schema: Schema) -> Convert:
    """Return what makes a text of the form that a schema says."""
    return _STRINGS.get(schema.get(FORM) or schema.get("format"), _string)


def _object_of(value: Any, bare: Mapping[str, str]) -> dict[str, Any]:
    """Return a value as an object.

    Args:
        value: an object, or what stands for one.
        bare: see `BARE`.

    Raises:
        TypeError: it stands for none.
    """
    if isinstance(value, dict):
        return value
    name = bare.get(_JSON_TYPES[type(value)]) or bare.get("any")
    if name is None:
        raise TypeError
    return {name: value}


def _is_personal(schema: Schema) -> bool:
    """Tell whether something in a value is marked as personal."""
    parts = [*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])]
    return PERSONAL in schema or any(map(_is_personal, parts))


def _free(value: Any) -> Any:
    """Keep a value that no schema describes, less its credentials."""
    if isinstance(value, dict):
        return {name: _free(part) for name, part in value.items() if not is_credential(name)}
    if isinstance(value, list):
        return [_free(part) for part in value]
    return value


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, dict, list)):
        return json.dumps(_free(value), ensure_ascii=False)
    return str(value)


def _time(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return times.normalise(value)


def _birthday(value: Any) -> str:
    """Return a birthday as text, in which parts that are not known are zeros."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise TypeError
    year, month, day = (int(value.get(name) or 0) for name in ("year", "month", "date"))
    return f"{year:04}-{month:02}-{day:02}"


def _address(value: Any) -> str:
    """Return an address without its query, which is a signature that differs at each call."""
    return _string(value).partition("?")[0]


_STRINGS: dict[str | None, Convert] = {
    "date-time": _time,
    "birthday": _birthday,
    "signed-address": _address,
}


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    try:
        whole = int(value) if not isinstance(value, float) else _whole(value)
    except ValueError:
        whole = _whole(float(value))
    if whole.bit_length() > _BITS:
        raise ValueError
    return whole


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)


def _number(value: Any) -> int | float:
    if isinstance(value, bool):
        raise TypeError
    number = value if isinstance(value, (int, float)) else float(value)
    if not math.isfinite(number):  # which text can say, and JSON cannot
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in {0, 1}:
        return bool(value)
    if value in {"true", "false"}:
        return bool(value == "true")
    raise TypeError


_SCALARS: dict[str, Convert] = {"integer": _integer, "number": _number, "boolean": _boolean}
