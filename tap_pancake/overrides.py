"""Checks of what users change of a stream: by a catalog, Meltano's extras or stream maps.

The tap applies the changes that it can. It rejects any other with an error of one line, because
without it rows would be lost, or shown, unnoticed. Every stream can be deselected, and read as a
full table.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singer_sdk import Stream

    Json = Mapping[str, Any]

_DISCOVER = "write the catalog again with --discover, or correct the override"
_METHODS = ("FULL_TABLE", "INCREMENTAL")
_ALL_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
# Keywords of JSON Schema that restrict a type.
_CONSTRAINTS = (
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "uniqueItems",
)


def check_catalog(catalog: Json, streams: Iterable[Stream]) -> None:
    """Check the entries of a catalog.

    Args:
        catalog: the content of `--catalog`.
        streams: all streams of the tap.

    Raises:
        ConfigurationError: an entry requests what the tap cannot do.
    """
    known = {stream.name: stream for stream in streams}
    for entry in catalog["streams"]:
        name = entry.get("tap_stream_id")
        metadata = _root_metadata(entry)
        stream = known.get(name)
        if stream is None:
            if metadata.get("selected"):
                msg = f"the catalog selects a stream `{name}`, {_unknown(name, known)}: {_DISCOVER}"
                raise ConfigurationError(msg)
            continue
        for problem in _problems(entry, metadata, stream):
            msg = f"the catalog's stream `{name}` {problem}: {_DISCOVER}"
            raise ConfigurationError(msg)


def _root_metadata(entry: Json) -> Json:
    """Return the metadata of an entry's stream, which has an empty breadcrumb."""
    for part in entry.get("metadata") or []:
        if not part.get("breadcrumb"):
            found: Json = part.get("metadata") or {}
            return found
    return {}


def _problems(entry: Json, metadata: Json, stream: Stream) -> Iterator[str]:
    if (alias := entry.get("stream", stream.name)) != stream.name:
        yield f"is called `{alias}`: use the setting `stream_maps` to rename it"
    # The keys of the class: the SDK lets a catalog change those of the object.
    declared: Any = type(stream)
    ours, own = list(declared.primary_keys), declared.replication_key
    own = own if isinstance(own, str) else None
    for keys in (entry.get("key_properties"), metadata.get("table-key-properties")):
        if keys and sorted(keys) != sorted(ours):
            yield f"has the key {', '.join(keys)}, but must have the key {', '.join(ours)}"
    for key in (entry.get("replication_key"), metadata.get("replication-key")):
        if key and key != own:
            allowed = f"must have `{own}`" if own else "the stream has none"
            yield f"has the replication key `{key}`, but {allowed}"
    methods = _METHODS if own else _METHODS[:1]
    for name in ("replication-method", "forced-replication-method"):
        for method in (entry.get(name.replace("-", "_")), metadata.get(name)):
            if method and method not in methods:
                yield f"has the replication method {method}, but must have {' or '.join(methods)}"
    yield from _changed_columns(entry.get("schema") or {}, stream.schema, "")


def _changed_columns(theirs: Json, ours: Json, path: str) -> Iterator[str]:
    """Yield the problems of columns that a catalog adds, or whose type it restricts."""
    for name, part in (theirs.get("properties") or {}).items():
        own = ours.get("properties", {}).get(name)
        if own is None:
            near = nearest(name, ours.get("properties", {}))
            hint = f" (did you mean `{near}`?)" if near else ""
            yield f"has a column `{path}{name}`, which this tap does not have{hint}"
            continue
        yield from _narrowed(part, own, f"{path}{name}")


def _narrowed(theirs: Json, ours: Json, path: str) -> Iterator[str]:
    """Yield the ways in which a catalog's schema of a value is narrower than the stream's."""
    missing = _types_of(ours) - _types_of(theirs)
    if missing - ({"integer"} if "number" in _types_of(theirs) else set()):
        kinds, given = " or ".join(sorted(_types_of(ours))), " or ".join(sorted(_types_of(theirs)))
        yield f"has the type {given} for `{path}`, but rows have {kinds}"
    for word in _CONSTRAINTS:
        if word in theirs and theirs[word] not in (ours.get(word), True, {}):
            yield f"has `{word}` for `{path}`, which rows may not meet"
    if isinstance(theirs.get("items"), dict):
        yield from _narrowed(theirs["items"], ours.get("items", {}), f"{path}[]")
    yield from _changed_columns(theirs, ours, f"{path}.")


def _types_of(schema: Json) -> set[str]:
    types = schema.get("type", _ALL_TYPES)
    return {types} if isinstance(types, str) else set(types)


def _unknown(name: object, known: Iterable[str]) -> str:
    near = nearest(str(name), known)
    return "which this tap does not have" + (f" (did you mean `{near}`?)" if near else "")


# The options of the SDK in a stream map.
_OPTIONS = ("__filter__", "__alias__", "__else__", "__source__", "__key_properties__")
_MAPS = "see docs/meltano.md#stream-maps"


def check_else(maps: object) -> None:
    """Check `__else__`, because the SDK's own check of it ends with a traceback.

    Args:
        maps: the setting `stream_maps`.

    Raises:
        ConfigurationError: an `__else__` is not null, the only value of the SDK.
    """
    each = [maps, *maps.values()] if isinstance(maps, dict) else []
    for one in each:
        if isinstance(one, dict) and one.get("__else__") not in (None, "__NULL__"):
            msg = f"setting `stream_maps`: `__else__` must be null or absent: {_MAPS}"
            raise ConfigurationError(msg)


def check_flattening(config: Json) -> None:
    """Check the settings of flattening; the SDK's own error has two lines and no remedy.

    Raises:
        ConfigurationError: the depth is missing.
    """
    if config.get("flattening_enabled") and config.get("flattening_max_depth") in {None, -1}:
        msg = "setting `flattening_enabled` needs `flattening_max_depth`, such as 1: set both"
        raise ConfigurationError(msg)


def check_maps(maps: Json, streams: Iterable[Stream]) -> None:
    """Check that stream maps name streams and fields that exist.

    Args:
        maps: the setting `stream_maps`.
        streams: all streams of the tap.

    Raises:
        ConfigurationError: one does not exist, so the map would not hide what it should.
    """
    known = {stream.name: stream for stream in streams}
    for name, change in maps.items():
        if name == "__else__":
            continue
        source = change.get("__source__", name) if isinstance(change, dict) else name
        found = [each for each in known if fnmatch.fnmatch(each, str(source))]
        if not found:
            msg = f"setting `stream_maps` has `{source}`, {_unknown(source, known)}: {_MAPS}"
            raise ConfigurationError(msg)
        for problem in _map_problems(change if isinstance(change, dict) else {}, found, known):
            msg = f"setting `stream_maps`, stream `{source}` {problem}: {_MAPS}"
            raise ConfigurationError(msg)


def _map_problems(change: Json, found: list[str], streams: Mapping[str, Stream]) -> Iterator[str]:
    """Yield the problems of a map.

    Args:
        change: the map.
        found: names of the streams that it applies to.
        streams: all streams by name.
    """
    fields = {field for each in found for field in streams[each].schema["properties"]}
    if (alias := change.get("__alias__")) in streams and [alias] != found:
        yield f"is renamed to `{alias}`, which is another stream"
    for field, rule in change.items():
        if field.startswith("__"):
            if field not in _OPTIONS:
                near = nearest(field, _OPTIONS)
                hint = f" (did you mean `{near}`?)" if near else ""
                yield f"has the option `{field}`, which does not exist{hint}"
            continue
        if field in fields:
            continue
        removes = rule is None or rule == "__NULL__"
        near = nearest(field, fields, cutoff=0.6 if removes else 0.9)
        if removes or near:
            hint = f" (did you mean `{near}`? A new one needs another name)" if near else ""
            yield f"has no field `{field}`{hint}"
