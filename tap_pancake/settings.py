"""The settings: their JSON Schema, and error messages, which never show a value."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singer_sdk import typing as th

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jsonschema import ValidationError

# Maximum of lookbacks in days: more than any history, and few enough for a datetime.
_CENTURY = 36_500

SETTINGS: dict[str, Any] = th.PropertiesList(
    th.Property(
        "access_token",
        th.StringType(nullable=True),
        secret=True,
        title="User access token",
        description="User token, with which the tap finds your pages and their page tokens. Copy it"
        " from Account → Personal settings in Pancake. It expires after 90 days, or when you log"
        " out. If not set, `page_access_tokens` is required.",
    ),
    th.Property(
        "page_access_tokens",
        th.ObjectType(additional_properties=th.StringType(min_length=1), nullable=True),
        secret=True,
        title="Page access tokens",
        description="Page tokens, by page id. Use them without a user token, or to replace tokens"
        " that the user token finds. Copy a page token from the page's Settings → Tools in Pancake."
        " If not set, `access_token` is required.",
    ),
    th.Property(
        "page_ids",
        th.ArrayType(th.StringType(min_length=1), nullable=True),
        title="Page ids",
        description="Ids of the pages to read. If not set, the tap reads all activated pages, and"
        " the pages in `page_access_tokens`.",
    ),
    th.Property(
        "shard_index",
        th.IntegerType(minimum=0),
        default=0,
        title="Shard index",
        description="Index of the shard (the share of the pages) that this run reads, from 0 to"
        " `shard_count` - 1.",
    ),
    th.Property(
        "shard_count",
        th.IntegerType(minimum=1),
        default=1,
        title="Shard count",
        description="Number of runs that share the pages. Each run has its own `shard_index` and"
        " state. With 1, one run reads all pages.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType(nullable=True),
        title="Start date",
        description="Earliest time of the rows to read. If not set, the tap reads all history.",
    ),
    th.Property(
        "end_date",
        th.DateTimeType(nullable=True),
        title="End date",
        description="Latest time of the rows to read. The bookmark does not pass it. If not set,"
        " the tap reads up to now.",
    ),
    th.Property(
        "lookback_days",
        th.NumberType(minimum=0, maximum=_CENTURY),
        default=1,
        title="Lookback (days)",
        description="Days before the bookmark from which lists, such as `conversations` and"
        " `customers`, are read again. This finds tags and assignments that changed without a new"
        " message.",
    ),
    th.Property(
        "message_lookback_minutes",
        th.NumberType(minimum=0, maximum=_CENTURY * 1440),
        default=15,
        title="Message lookback (minutes)",
        description="Minutes before the bookmark from which messages are read again. This finds"
        " messages that became visible late.",
    ),
    th.Property(
        "message_refresh_days",
        th.NumberType(minimum=0, maximum=_CENTURY),
        default=3,
        title="Message refresh (days)",
        description="Days before the bookmark from which messages are written again if an answer"
        " contains them anyway. This finds edits, removals and reactions, and costs no request.",
    ),
    th.Property(
        "head_refresh_minutes",
        th.NumberType(exclusive_minimum=0, maximum=_CENTURY * 1440),
        default=10,
        title="Head refresh (minutes)",
        description="Minutes between two readings of the newest rows while the tap reads history.",
    ),
    th.Property(
        "statistics_lookback_days",
        th.NumberType(minimum=0, maximum=_CENTURY),
        default=3,
        title="Statistics lookback (days)",
        description="Days before the bookmark from which statistics are read again, at most every"
        " 6 hours, because Pancake corrects them later. The current day is read in each run.",
    ),
    th.Property(
        "statistics_window_days",
        th.IntegerType(minimum=1, maximum=31),
        default=7,
        title="Statistics window (days)",
        description="Days per request for statistics whose rows have an hour or date. Other"
        " statistics take one request per day.",
    ),
    th.Property(
        "sip_package_ids",
        th.ObjectType(
            additional_properties=th.CustomType({"type": ["string", "integer"], "minLength": 1}),
            nullable=True,
        ),
        title="SIP package ids",
        description="Ids of the pages' SIP packages, by page id. The tap reads `call_logs` only for"
        " these pages.",
    ),
    th.Property(
        "personal_data",
        th.StringType,
        allowed_values=["keep", "hash", "drop"],
        default="keep",
        title="Personal data",
        description="What happens to phone numbers, e-mail addresses, names, addresses, birthdays"
        " and pictures: `keep` writes them unchanged, `hash` replaces them with a hash (with"
        " `personal_data_key`), `drop` removes them.",
    ),
    th.Property(
        "personal_data_of",
        th.StringType,
        allowed_values=["customers", "everybody"],
        default="customers",
        title="Personal data of",
        description="People whose data `personal_data` applies to: `customers`, or `everybody`"
        " (customers and staff).",
    ),
    th.Property(
        "personal_data_key",
        th.StringType(min_length=1, nullable=True),
        secret=True,
        title="Personal data key",
        description="Secret key of the hash. Required for `personal_data: hash`. Use a long random"
        " text, and the same one in every run.",
    ),
    th.Property(
        "conversations_api",
        th.StringType,
        allowed_values=["v2", "v1"],
        default="v2",
        title="Conversations API",
        description="API version for the list of conversations. `v1` is the older one.",
    ),
    th.Property(
        "fail_on_skip",
        th.BooleanType,
        default=False,
        title="Fail on skip",
        description="Whether the exit code is 1 if something is skipped because a plan or"
        " permission is missing. If false, a skip is only a warning.",
    ),
    th.Property(
        "requests_per_second",
        th.NumberType(exclusive_minimum=0, maximum=10_000),
        default=4.95,
        title="Requests per second",
        description="Maximum number of requests per second for each page. Pancake allows 5.",
    ),
    th.Property(
        "max_parallel_pages",
        th.IntegerType(minimum=1, maximum=1000),
        default=256,
        title="Parallel pages",
        description="Maximum number of pages that are read at the same time.",
    ),
    th.Property(
        "request_timeout",
        th.NumberType(exclusive_minimum=0, maximum=86_400),
        default=60,
        title="Request timeout (seconds)",
        description="Seconds to wait for a connection, and again for the complete answer.",
    ),
    th.Property(
        "user_agent",
        th.StringType(min_length=1, pattern=r"^([!-~][ -~]*)?$(?!\n)", nullable=True),
        title="User agent",
        description="User-Agent header of the requests. If not set, it is `tap-pancake/VERSION`.",
    ),
    th.Property(
        "api_url",
        th.StringType(pattern=r"^https?://[^\s/?#]+[^\s?#]*$(?!\n)"),
        default="https://pages.fm",
        title="API URL",
        description="Base URL of the API.",
    ),
    th.Property(
        "batch_config",
        th.ObjectType(
            th.Property(
                "storage",
                th.ObjectType(
                    th.Property("root", th.StringType(min_length=1), required=True),
                    th.Property("prefix", th.StringType),
                    additional_properties=False,
                ),
                required=True,
            ),
            th.Property(
                "encoding",
                th.ObjectType(
                    th.Property("format", th.StringType, allowed_values=["jsonl"]),
                    th.Property("compression", th.StringType, allowed_values=["gzip"]),
                    additional_properties=False,
                ),
            ),
            th.Property("batch_size", th.IntegerType(minimum=1)),
            additional_properties=False,
            nullable=True,
        ),
        title="Batch files",
        description="Storage for batch files, for targets that load files. `storage.root` is a"
        " directory, or a URL that fsspec supports. If not set, the tap writes each record as a"
        " RECORD message.",
    ),
    additional_properties=False,
).to_dict()

_JSON_NAMES = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}

_LIMITS = {
    "minimum": "{} or more",
    "maximum": "{} or less",
    "exclusiveMinimum": "more than {}",
}

_PATTERNS = {
    "api_url": "like https://pages.fm",
    "user_agent": "one line of plain (ASCII) characters that does not begin with a space",
}


def check(config: Mapping[str, Any], errors: Iterable[ValidationError]) -> None:
    """Check the settings, and report all problems in one line.

    Args:
        config: the settings.
        errors: the errors of the JSON Schema validation.

    Raises:
        ConfigurationError: a setting is wrong or missing.
    """
    problems = [problem for error in errors for problem in _problems(error)]
    if not problems:
        problems = list(_conflicts(config))
    if problems:
        raise ConfigurationError("; ".join(problems))


# Characters that copying adds to a token.
_EXTRA = re.compile(r"^\s|\s$|[\r\n]|^bearer ", re.IGNORECASE)
_EXAMPLES = {"page_ids": '["100000000000001"]', "page_access_tokens": '{"100000000000001": "…"}'}


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to a name; None if none is similar enough."""
    import difflib  # noqa: PLC0415 - for errors only

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _problems(error: ValidationError) -> Iterator[str]:
    """Yield messages for a validation error, with the name of the setting but not its value."""
    path = ".".join(str(part) for part in error.absolute_path)
    where = path or "the configuration"
    limit: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        known = schema.get("properties", {})
        for name in sorted(set(instance) - set(known)):
            near = nearest(name, known)
            whole = f"{path}.{name}" if path else name
            yield f"setting `{whole}` does not exist" + (
                f": did you mean `{near}`?" if near else ": remove it"
            )
    elif error.validator == "type":
        names = [limit] if isinstance(limit, str) else limit
        kinds = _kinds(names)
        like = _EXAMPLES.get(where.partition(".")[0])
        yield f"setting `{where}` must be {kinds}" + (f", like {like}" if like else "")
    elif error.validator == "required":
        missing = next(name for name in limit if name not in instance)
        yield f"setting `{where}.{missing}` is missing"
    elif error.validator in _LIMITS:
        yield f"setting `{where}` must be {_LIMITS[error.validator].format(limit)}"
    elif error.validator == "enum":
        yield f"setting `{where}` must be one of {', '.join(map(str, limit))}"
    elif error.validator == "minLength":
        yield f"setting `{where}` must not be empty"
    elif error.validator == "pattern":
        yield f"setting `{where}` must be {_PATTERNS[where]}"
    elif error.validator in {"anyOf", "oneOf"} and error.context:
        inner = max(error.context, key=lambda each: len(each.absolute_path))
        if len(inner.absolute_path) > len(error.absolute_path):
            yield from _problems(inner)
        else:
            names = [name for each in limit if isinstance(each, dict) for name in _types(each)]
            yield f"setting `{where}` must be {_kinds(names)}"
    else:
        yield f"setting `{where}` is not valid ({error.validator}): see docs/settings.md"


def _types(schema: Mapping[str, Any]) -> list[str]:
    """Return the JSON types that a schema names."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _kinds(types: Iterable[str]) -> str:
    return " or ".join(_JSON_NAMES[name] for name in types if name != "null")


def _is_address(url: str) -> bool:
    """Return whether a URL has a host and a port that can exist."""
    try:
        address = urlsplit(url)
        host = (address.hostname or "").encode("idna")
        return bool(host) and address.port != 0
    except ValueError:
        return False


def _conflicts(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems that JSON Schema cannot express, such as two settings in conflict."""
    if not config.get("access_token") and not config.get("page_access_tokens"):
        yield (
            "one of the settings `access_token` (Pancake: Account → Personal settings) and"
            " `page_access_tokens` (Pancake: the page's Settings → Tools) is needed; variables"
            " TAP_PANCAKE_… are read with --config=ENV"
        )
    yield from _wrong_tokens(config)
    if config.get("personal_data") == "hash" and not config.get("personal_data_key"):
        yield (
            "setting `personal_data_key` is missing: `personal_data: hash` needs one, a long text"
            " that nobody can guess, the same in each run"
        )
    if not _is_address(str(config.get("api_url"))):
        yield (
            "setting `api_url` must have a valid host, and a port from 1 to 65535 if it has a port,"
            " like https://pages.fm"
        )
    if config.get("page_ids") == []:
        yield "setting `page_ids` must not be empty: remove it to read all pages"
    index, count = config.get("shard_index"), config.get("shard_count")
    if isinstance(index, int) and isinstance(count, int) and index >= count:
        yield (
            f"setting `shard_index` must be less than `shard_count`, which is {count}: the shards"
            " are counted from 0"
        )
    dates = {}
    for name in ("start_date", "end_date"):
        if config.get(name):
            try:
                dates[name] = times.parse(config[name])
            except ValueError:
                yield f"setting `{name}` must be a time like 2024-01-31T00:00:00Z"
    if "start_date" in dates and dates["start_date"] > datetime.now(UTC) + timedelta(days=1):
        yield "setting `start_date` is in the future, so nothing would be read: correct it"
    if len(dates) == 2 and dates["start_date"] > dates["end_date"]:  # noqa: PLR2004
        yield "setting `end_date` must not be before `start_date`"


def _wrong_tokens(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of tokens: extra characters, or the token of another page."""
    page_tokens = config.get("page_access_tokens")
    tokens_of_pages = page_tokens if isinstance(page_tokens, dict) else {}
    tokens = {
        "access_token": [config.get("access_token")],
        "page_access_tokens": tokens_of_pages.values(),
    }
    for name, values in tokens.items():
        if any(isinstance(value, str) and _EXTRA.search(value) for value in values):
            yield f"setting `{name}` holds more than a token: copy the token alone, without spaces"
    for page_id, token in tokens_of_pages.items():
        other = _page_of(token)
        if other not in {None, str(page_id)}:
            yield (
                f"setting `page_access_tokens`: the token of page {page_id} is that of page"
                f" {other}: copy the right one from the page's Settings → Tools"
            )


def _page_of(token: object) -> str | None:
    """Return the page id in a page token; None if it has none (reference, 24.7)."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:  # noqa: PLR2004 - a JWT
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    page = payload.get("id") if isinstance(payload, dict) else None
    return page if isinstance(page, str) else None


_BOOLEANS = frozenset({"true", "1", "yes", "on", "false", "0", "no", "off"})


def from_text(name: str, schema: Mapping[str, Any], value: Any, text: str) -> Any:
    """Return the value of an environment variable, as a number where the setting is a number.

    Args:
        name: the setting.
        schema: its JSON Schema.
        value: the value as the SDK parsed it.
        text: the text of the variable.

    Raises:
        ConfigurationError: the text is not a number, or not a boolean.
    """
    types = schema.get("type", [])
    if "boolean" in types and text.lower() not in _BOOLEANS:  # the SDK would parse it as false
        msg = f"setting `{name}` must be true or false"
        raise ConfigurationError(msg)
    if "number" not in types or not isinstance(value, str):
        return value
    if not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", value):
        msg = f"setting `{name}` must be a number"
        raise ConfigurationError(msg)
    return float(value)


# Hosts on this machine, which need no encryption.
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# Minimum number of characters of a safe key.
_SAFE_KEY = 16


def warnings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about settings that are valid but may be a mistake."""
    address = urlsplit(str(config["api_url"]))
    if address.scheme == "http" and address.hostname not in _LOCAL_HOSTS:
        yield (
            f"setting `api_url`: tokens go to {address.hostname} without encryption: use https://"
        )
    how, key = config["personal_data"], config.get("personal_data_key")
    if how == "keep" and (key or config["personal_data_of"] != "customers"):
        yield (
            "setting `personal_data` is `keep`, so all personal data is written: set it to `hash`"
            " or `drop`, or remove the other settings of personal data"
        )
    if how == "hash" and len(str(key).strip()) < _SAFE_KEY:
        yield (
            f"setting `personal_data_key` has fewer than {_SAFE_KEY} characters, so that somebody"
            " can guess it: make a key with `openssl rand -hex 32`"
        )


def unknown_variable(variables: Iterable[str], known: Iterable[str]) -> str | None:
    """Return a message for the first variable that looks like a misspelt setting; None if none."""
    names = {f"TAP_PANCAKE_{name.upper()}" for name in known}
    for variable in variables:
        if variable.startswith("TAP_PANCAKE_") and variable not in names:
            near = nearest(variable, names, cutoff=0.9)
            if near is not None:
                return f"the environment variable {variable} is not a setting: did you mean {near}?"
    return None
