"""The settings: their schema, and errors about them that never show a value."""

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

SETTINGS: dict[str, Any] = th.PropertiesList(
    th.Property(
        "access_token",
        th.StringType(nullable=True),
        secret=True,
        title="User access token",
        description="User token, which lists pages and their page tokens. Found in Pancake under"
        " Account → Personal settings; valid for 90 days or until you log out.",
    ),
    th.Property(
        "page_access_tokens",
        th.ObjectType(additional_properties=th.StringType(min_length=1), nullable=True),
        secret=True,
        title="Page access tokens",
        description="Page id → page token, for users without a user token, or to override the"
        " listed ones. Found in Pancake under the page's Settings → Tools.",
    ),
    th.Property(
        "page_ids",
        th.ArrayType(th.StringType(min_length=1), nullable=True),
        title="Page ids",
        description="Read only these pages. Default: all activated pages.",
    ),
    th.Property(
        "shard_index",
        th.IntegerType(minimum=0),
        default=0,
        title="Shard",
        description="Which of `shard_count` shares of the pages this run reads, counted from 0.",
    ),
    th.Property(
        "shard_count",
        th.IntegerType(minimum=1),
        default=1,
        title="Number of shards",
        description="Over how many runs the pages are split, each with a state of its own.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType(nullable=True),
        title="Start date",
        description="Nothing older is read. Default: all history.",
    ),
    th.Property(
        "end_date",
        th.DateTimeType(nullable=True),
        title="End date",
        description="Nothing newer is read, and the bookmark does not pass it. Default: none.",
    ),
    th.Property(
        "lookback_days",
        th.NumberType(minimum=0),
        default=1,
        title="Lookback (days)",
        description="How far before the bookmark rows (of conversations and the like) are read"
        " again: tags and assignments change without moving `updated_at`.",
    ),
    th.Property(
        "message_lookback_minutes",
        th.NumberType(minimum=0),
        default=15,
        title="Message lookback (minutes)",
        description="How far before the bookmark messages are read again: late visibility, clock"
        " skew.",
    ),
    th.Property(
        "message_refresh_days",
        th.NumberType(minimum=0),
        default=3,
        title="Message refresh (days)",
        description="How far before the bookmark messages that an answer holds anyway are written"
        " again: edits, removals, reactions.",
    ),
    th.Property(
        "head_refresh_minutes",
        th.NumberType(exclusive_minimum=0),
        default=10,
        title="Head refresh (minutes)",
        description="While history is read, what is new is read again after so many minutes.",
    ),
    th.Property(
        "statistics_lookback_days",
        th.NumberType(minimum=0),
        default=3,
        title="Statistics lookback (days)",
        description="How far before the bookmark statistics are read again, at most every 6"
        " hours: they are corrected later. The running day is read in each run.",
    ),
    th.Property(
        "statistics_window_days",
        th.IntegerType(minimum=1, maximum=31),
        default=7,
        title="Statistics window (days)",
        description="How many days one call asks for, of statistics whose rows carry their own hour"
        " or date; the others take a day a call.",
    ),
    th.Property(
        "sip_package_ids",
        th.ObjectType(
            additional_properties=th.CustomType({"type": ["string", "integer"], "minLength": 1}),
            nullable=True,
        ),
        title="SIP package ids",
        description="Page id → id of the page's SIP package, which `call_logs` needs; pages that"
        " are not named have none.",
    ),
    th.Property(
        "personal_data",
        th.StringType,
        allowed_values=["keep", "hash", "drop"],
        default="keep",
        title="Personal data",
        description="What becomes of phone numbers, e-mail addresses, names, addresses, birthdays"
        " and pictures: kept, replaced by a hash with `personal_data_key`, or left out.",
    ),
    th.Property(
        "personal_data_of",
        th.StringType,
        allowed_values=["customers", "everybody"],
        default="customers",
        title="Whose personal data",
        description="Whose data `personal_data` is about: that of customers, or of staff too.",
    ),
    th.Property(
        "personal_data_key",
        th.StringType(min_length=1, nullable=True),
        secret=True,
        title="Key of personal data",
        description="Key of the hash, for `personal_data: hash`: a long text that nobody guesses,"
        " the same in each run.",
    ),
    th.Property(
        "conversations_api",
        th.StringType,
        allowed_values=["v2", "v1"],
        default="v2",
        title="Conversations API",
        description="Version of the list of conversations; `v1` is the older one.",
    ),
    th.Property(
        "fail_on_skip",
        th.BooleanType,
        default=False,
        title="Fail on what is skipped",
        description="Whether the exit code is 1 if something was skipped since a plan or a right is"
        " missing.",
    ),
    th.Property(
        "requests_per_second",
        th.NumberType(exclusive_minimum=0),
        default=4.95,
        title="Requests per second",
        description="Highest rate of calls for each page; Pancake allows 5.",
    ),
    th.Property(
        "max_parallel_pages",
        th.IntegerType(minimum=1, maximum=1000),
        default=256,
        title="Pages side by side",
        description="How many pages are read at a time at most, each at its own rate.",
    ),
    th.Property(
        "request_timeout",
        th.NumberType(exclusive_minimum=0),
        default=60,
        title="Request timeout (seconds)",
        description="How long to wait for a connection, and then for a whole answer.",
    ),
    th.Property(
        "user_agent",
        th.StringType(min_length=1, pattern=r"^[ -~]*$", nullable=True),
        title="User agent",
        description="The User-Agent header. Default: `tap-pancake/VERSION`.",
    ),
    th.Property(
        "api_url",
        th.StringType(pattern=r"^https?://[^\s/?#]+[^\s?#]*$"),
        default="https://pages.fm",
        title="API URL",
        description="Where the API is.",
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
        description="Where to write files of records, which BATCH messages name, for targets that"
        " load files: `storage.root` is a directory, or a URL that fsspec knows.",
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

_PATTERNS = {
    "api_url": "like https://pages.fm",
    "user_agent": "one line of plain (ASCII) characters",
}


def check(config: Mapping[str, Any], errors: Iterable[ValidationError]) -> None:
    """Raise one line about all that is wrong with the settings.

    Args:
        config: the settings.
        errors: what JSON Schema has to say about them.

    Raises:
        ConfigurationError: something is wrong.
    """
    problems = [problem for error in errors for problem in _problems(error)]
    if not problems:
        problems = list(_contradictions(config))
    if problems:
        raise ConfigurationError("; ".join(problems))


# What gets into a token by copying.
_SURPLUS = re.compile(r"^\s|\s$|[\r\n]|^bearer ", re.IGNORECASE)
_EXAMPLES = {"page_ids": '["100000000000001"]', "page_access_tokens": '{"100000000000001": "…"}'}


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like another one; None if none is so much alike."""
    import difflib  # noqa: PLC0415 - for errors only

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _problems(error: ValidationError) -> Iterator[str]:
    """Put an error of JSON Schema into words that name the setting and not its value."""
    where = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    limit: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        known = schema.get("properties", {})
        for name in sorted(set(instance) - set(known)):
            near = nearest(name, known)
            yield f"setting `{name}` does not exist" + (
                f": did you mean `{near}`?" if near else ": remove it"
            )
    elif error.validator == "type":
        names = [limit] if isinstance(limit, str) else limit
        kinds = " or ".join(_JSON_NAMES[name] for name in names if name != "null")
        like = _EXAMPLES.get(where.partition(".")[0])
        yield f"setting `{where}` must be {kinds}" + (f", like {like}" if like else "")
    elif error.validator == "required":
        missing = next(name for name in limit if name not in instance)
        yield f"setting `{where}.{missing}` is missing"
    elif error.validator == "minimum":
        yield f"setting `{where}` must be {limit} or more"
    elif error.validator == "maximum":
        yield f"setting `{where}` must be {limit} or less"
    elif error.validator == "exclusiveMinimum":
        yield f"setting `{where}` must be more than {limit}"
    elif error.validator == "enum":
        yield f"setting `{where}` must be one of {', '.join(map(str, limit))}"
    elif error.validator == "minLength":
        yield f"setting `{where}` must not be empty"
    elif error.validator == "pattern":
        yield f"setting `{where}` must be {_PATTERNS[where]}"
    else:
        yield f"setting `{where}` is not valid ({error.validator})"


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Find what no schema can say."""
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
    """Find tokens that cannot be right."""
    page_tokens = config.get("page_access_tokens")
    tokens_of_pages = page_tokens if isinstance(page_tokens, dict) else {}
    tokens = {
        "access_token": [config.get("access_token")],
        "page_access_tokens": tokens_of_pages.values(),
    }
    for name, values in tokens.items():
        if any(isinstance(value, str) and _SURPLUS.search(value) for value in values):
            yield f"setting `{name}` holds more than a token: copy the token alone, without spaces"
    for page_id, token in tokens_of_pages.items():
        other = _page_of(token)
        if other not in {None, str(page_id)}:
            yield (
                f"setting `page_access_tokens`: the token of page {page_id} is that of page"
                f" {other}: copy the right one from the page's Settings → Tools"
            )


def _page_of(token: object) -> str | None:
    """Return the page that a token says it is of; None if it does not say (reference, 24.7)."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:  # noqa: PLR2004 - a JWT
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    page = payload.get("id") if isinstance(payload, dict) else None
    return page if isinstance(page, str) else None


_TRUTHS = frozenset({"true", "1", "yes", "on", "false", "0", "no", "off"})


def from_text(name: str, schema: Mapping[str, Any], value: Any, text: str) -> Any:
    """Check what the SDK made of an environment variable; make a number of what is to be one.

    Raises:
        ConfigurationError: it is no number, no truth value, or an array that is not JSON.
    """
    types = schema.get("type", [])
    if "boolean" in types and text.lower() not in _TRUTHS:  # the SDK would take it for false
        msg = f"setting `{name}` must be true or false"
        raise ConfigurationError(msg)
    if "array" in types:
        try:
            json.loads(text)  # the SDK would split it at its commas
        except ValueError:
            msg = f"setting `{name}`: the environment variable must hold a JSON array"
            raise ConfigurationError(msg) from None
    if "number" not in types or not isinstance(value, str):
        return value
    if not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", value):
        msg = f"setting `{name}` must be a number"
        raise ConfigurationError(msg)
    return json.loads(str(float(value)))


# Hosts to which a token does not leave the machine.
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
# Letters of a key that nobody guesses.
_SAFE_KEY = 16


def doubts(config: Mapping[str, Any]) -> Iterator[str]:
    """Tell of settings that are valid, and may not be what was meant."""
    address = urlsplit(str(config["api_url"]))
    if address.scheme == "http" and address.hostname not in _HERE:
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
    """Return what is wrong with a variable that is named nearly like one of a setting."""
    names = {f"TAP_PANCAKE_{name.upper()}" for name in known}
    for variable in variables:
        if variable.startswith("TAP_PANCAKE_") and variable not in names:
            near = nearest(variable, names, cutoff=0.9)
            if near is not None:
                return f"the environment variable {variable} is not a setting: did you mean {near}?"
    return None
