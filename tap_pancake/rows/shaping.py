"""Conversion of API rows to records that fit the stream's schema.

Fields that the schema does not declare go into the row's `other_fields` and are counted, so that a
user sees additions to the API. Below the top level they stay in their object, unless only a part of
it is selected or flattening makes columns of it. Credentials are removed at any depth. Every value
gets a declared type here, so the SDK's own conformance is switched off.

Personal data is protected here, too, if a setting asks for it. A protected field keeps its type.
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

# Names of fields that are never written, at any depth: those of the reference (sections 6 and 7.5),
# and similar ones. `settings` of a page contains its token.
_CREDENTIAL = re.compile(
    r"settings|token_for_business|(.*_)?(auth|authorization|bearer|jwt|otp|pwd|session|signature)"
    r"|.*(token|secret|passw(or)?d|passcode|session_?id|(api|private)_?key|cookie)s?",
    re.IGNORECASE,
)
# Maximum undeclared fields that are counted, as their names may be ids.
_MAX_FIELDS = 30
# Bits of an integer without its sign: the largest that the columns of targets hold.
_INTEGER_BITS = 63
# Maximum shapes of an object that are cached, as its names may be ids.
_MAX_SHAPES = 300
_NULL = type(None)


@lru_cache(maxsize=10_000)
def is_credential(name: str) -> bool:
    """Return whether a field of this name is never written."""
    return _CREDENTIAL.fullmatch(name) is not None


OTHERS = "other_fields"
"""The column of each stream with the fields that its schema does not declare."""
BARE = "x-bare"
"""Keyword in the schema of an object: the field for a value that is not an object, by the JSON type
of the value; `any` means all other types."""
FORM = "x-form"
"""Keyword in the schema of a text: its format, where JSON Schema has none, or where a validator of
SCHEMA reports a `format` inside an object that is null."""
PERSONAL = "x-personal"
"""Keyword in the schema of a value: its kind of personal data, see `personal.py`. A `text` may
contain phone numbers and e-mail addresses; a `snippet` is such a text that is cut off."""
PERSON = "x-person"
"""Keyword in the schema of a row, object or value: whose personal data it contains."""
CUSTOMER, STAFF = "customer", "staff"


class Findings:
    """Differences between a stream's rows and its schema: names of fields, with their counts."""

    def __init__(self) -> None:
        """Start without findings."""
        self.unknown: Counter[str] = Counter()
        """Undeclared fields that were written to `other_fields`."""
        self.left_out: Counter[str] = Counter()
        """Undeclared fields below the top level that were left out."""
        self.mistyped: Counter[str] = Counter()
        """Fields whose value fits no declared type and became null."""

    @staticmethod
    def count(what: Counter[str], name: str) -> None:
        """Count a name, unless too many names are counted already."""
        if name in what or len(what) < _MAX_FIELDS:
            what[name] += 1


class RowShaper:
    """Converter of one stream's rows."""

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
            schema: the stream's schema.
            is_closed: returns whether the object at a path keeps declared fields only.
            protection: protects personal data; None keeps it.
            is_whole: returns whether the value at a path is selected with all its parts.
        """
        self.findings = Findings()
        self._protection = protection
        self._builder = _FieldBuilder(self.findings, is_closed, protection)
        self._person = schema.get(PERSON, CUSTOMER)
        self._is_whole = is_whole
        self._row_fields = _FieldsByShape(
            {
                name: self._builder.field(part, (name,), self._person)
                for name, part in schema["properties"].items()
            }
        )

    def shape(self, row: Mapping[str, Any], page_id: object = None) -> dict[str, Any]:
        """Return a row as a record that fits the schema.

        Args:
            row: the row of the API.
            page_id: its page, whose country is that of its phone numbers.
        """
        if self._protection is not None:
            self._protection.begin(row, page_id)
        shaped = dict(row)
        others: dict[str, Any] = {}
        declared, undeclared = self._row_fields.of(row)
        for name, field in declared:
            value = row[name]
            fitting = field.convert(value)
            shaped[name] = fitting if field.protect is None else field.protect(fitting)
            if fitting is None and value is not None and self._is_whole((name,)):
                others[name] = field.protect_misfit(_without_credentials(value))
        for name in undeclared:
            value = shaped.pop(name)
            if is_credential(name):
                continue
            if (kept_name := self._builder.field_name(name)) is not None:
                others[kept_name] = self._builder.convert_undeclared(value, name, self._person)
                self.findings.count(self.findings.unknown, kept_name)
        shaped[OTHERS] = others or None
        return shaped


class _Field(NamedTuple):
    """Conversion and protection of the value at one path."""

    convert: Convert
    """Converts to a declared type; a value that fits none becomes null."""
    protect: Convert | None
    """Protects the converted value; None if nothing is to protect."""
    protect_misfit: Convert
    """Protects a value that fits no declared type."""
    accepted: frozenset[type]
    """Python types of values that stay as they are."""


class _FieldsByShape:
    """Fields to convert in the objects at one path, cached by the shape of the object.

    A shape is the names of an object with the types of its values. The objects at one path have few
    shapes, and most of their values need no conversion.
    """

    def __init__(self, fields: Mapping[str, _Field]) -> None:
        self._fields = fields
        self._cache: dict[tuple[object, ...], tuple[list[tuple[str, _Field]], list[str]]] = {}

    def of(self, value: Mapping[str, Any]) -> tuple[list[tuple[str, _Field]], list[str]]:
        """Return the declared fields to convert or protect, and the undeclared names."""
        shape = (*value, *map(type, value.values()))
        cached = self._cache.get(shape)
        if cached is None:
            declared = [name for name in value if name in self._fields]
            cached = (
                [
                    (name, self._fields[name])
                    for name in declared
                    if type(value[name]) not in self._fields[name].accepted
                ],
                [name for name in value if name not in self._fields],
            )
            if len(self._cache) < _MAX_SHAPES:
                self._cache[shape] = cached
        return cached


class _FieldBuilder:
    """Builder of a stream's conversions. A value that fits no type becomes null and is counted."""

    def __init__(
        self,
        findings: Findings,
        is_closed: Callable[[Path], bool],
        protection: Protection | None,
    ) -> None:
        self._findings = findings
        self._is_closed = is_closed
        self._protection = protection

    def convert_undeclared(self, value: Any, name: str, person: str) -> Any:
        """Return an undeclared value without credentials, with personal data protected."""
        value = _without_credentials(value)
        if self._protection is None:
            return value
        return self._protection.protect_undeclared(value, name, person)

    def field_name(self, name: str, above: str = "") -> str | None:
        """Return the name of an undeclared field, protected; None if it must be left out."""
        return name if self._protection is None else self._protection.field_name(name, above)

    def field(self, schema: Schema, path: Path, person: str) -> _Field:
        """Return the conversion and the protection of the value at a path."""
        person = schema.get(PERSON, person)
        convert, kind = self._conversion(schema, path, person), schema.get(PERSONAL)
        kept = (_accepted_type(name, schema) for name in _types_of(schema))
        accepted = frozenset({_NULL, *(kind for kind in kept if kind is not None)})
        if self._protection is None:
            return _Field(convert, None, _without_credentials, accepted)
        misfit_kind = "name" if kind is None and _is_personal(schema) else kind
        protect = kind and self._protection.guard(kind, person)
        protect_misfit = misfit_kind and self._protection.guard(misfit_kind, person)
        return _Field(
            convert,
            protect or None,
            protect_misfit or self._undeclared_at(path, person),
            frozenset({_NULL}) if protect else accepted,
        )

    def part(self, schema: Schema, path: Path, person: str) -> _Field:
        """Return the same for a part of a value, with the protection inside the conversion."""
        field = self.field(schema, path, person)
        convert, protect = field.convert, field.protect
        if protect is None:
            return field
        return field._replace(convert=lambda value: protect(convert(value)), protect=None)

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
            return self._undeclared_at(path, person)
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

    def _undeclared_at(self, path: Path, person: str) -> Convert:
        return partial(self.convert_undeclared, name=path[-1].replace("[]", ""), person=person)

    def _text(self, schema: Schema, path: Path, person: str) -> Convert:
        cast = _text_cast(schema)
        if cast is not _string or self._protection is None:
            return cast
        convert = self._undeclared_at(path, person)
        return lambda value: _string(convert(value) if isinstance(value, (dict, list)) else value)

    def _object(self, schema: Schema, path: Path, person: str) -> Convert:
        fields = {
            name: self.part(part, (*path, name), person)
            for name, part in schema.get("properties", {}).items()
        }
        bare: Mapping[str, str] = schema.get(BARE, {})
        if not fields:
            convert_whole = self._undeclared_at(path, person)
            return lambda value: convert_whole(_as_object(value, bare))
        declared_fields, above = _FieldsByShape(fields), path[-1]
        convert_undeclared = partial(self.convert_undeclared, person=person)
        is_closed, text = self._is_closed(path), ".".join(path)
        count, left_out = self._findings.count, self._findings.left_out

        def cast(value: Any) -> Any:
            value = _as_object(value, bare)
            declared, undeclared = declared_fields.of(value)
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
                elif (kept_name := self.field_name(name, above)) is not None:
                    kept[kept_name] = convert_undeclared(part, name)
            return kept

        return cast

    def _array(self, schema: Schema, path: Path, person: str) -> Convert:
        item = self.part(schema.get("items", {}), (*path[:-1], f"{path[-1]}[]"), person).convert

        def cast(value: Any) -> Any:
            if isinstance(value, dict):  # some answers have a single item instead of a list
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
    """Return the JSON types that a schema declares."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _accepted_type(name: str, schema: Schema) -> type | None:
    """Return the Python type whose values need no conversion to a JSON type.

    None if each value must be checked, such as a number, which may be too large.
    """
    if name == "boolean":
        return bool
    return str if name == "string" and _text_cast(schema) is _string else None


def _text_cast(schema: Schema) -> Convert:
    """Return the conversion to the text format of a schema."""
    return _STRINGS.get(schema.get(FORM) or schema.get("format"), _string)


def _as_object(value: Any, bare: Mapping[str, str]) -> dict[str, Any]:
    """Return a value as an object.

    Args:
        value: an object, or a value instead of one.
        bare: the field for such a value by its JSON type, see `BARE`.

    Raises:
        TypeError: there is no field for the value.
    """
    if isinstance(value, dict):
        return value
    name = bare.get(_JSON_TYPES[type(value)]) or bare.get("any")
    if name is None:
        raise TypeError
    return {name: value}


def _is_personal(schema: Schema) -> bool:
    """Return whether a schema marks a value, or a part of it, as personal."""
    parts = [*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])]
    return PERSONAL in schema or any(map(_is_personal, parts))


def _without_credentials(value: Any) -> Any:
    """Return a value without the credentials in it."""
    if isinstance(value, dict):
        return {
            name: _without_credentials(part)
            for name, part in value.items()
            if not is_credential(name)
        }
    if isinstance(value, list):
        return [_without_credentials(part) for part in value]
    return value


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, dict, list)):
        return json.dumps(_without_credentials(value), ensure_ascii=False)
    return str(value)


def _time(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return times.normalise(value)


def _birthday(value: Any) -> str:
    """Return a birthday as text `YYYY-MM-DD`, with zeros for unknown parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise TypeError
    year, month, day = (int(value.get(name) or 0) for name in ("year", "month", "date"))
    return f"{year:04}-{month:02}-{day:02}"


def _address(value: Any) -> str:
    """Return a URL without its query, a signature that differs in each answer."""
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
    if whole.bit_length() > _INTEGER_BITS:
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
    if not math.isfinite(number):  # text may be NaN or infinite, JSON may not
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
