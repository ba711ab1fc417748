"""Conversion of times: the API's forms, the tap's form, microseconds and Unix seconds.

Pancake writes record times in naive UTC, with six digits of a second, with none, or (in its
documents) with an offset. The tap writes one form only, so that times compare as strings:
``2024-01-02T03:04:05.000000Z``. Request parameters are Unix seconds.

Source: reference, section 3 (record times are UTC, shown by read watermarks).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_WITH_MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MICROS = int(_LAST_SECOND) * 1_000_000
_WITH_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
# Seconds of a unit, its name, and the minimum seconds for which it is used.
_UNITS = (
    (86_400, "days", 172_800),
    (3_600, "hours", 7_200),
    (60, "minutes", 120),
    (1, "seconds", 0),
)


def parse(value: str) -> datetime:
    """Return the aware UTC time of a text from the API, a setting or a bookmark.

    Args:
        value: ISO 8601, with or without fraction and offset; without offset it is UTC.

    Raises:
        ValueError: the text is not a time, or is outside the years 1 to 9999.
    """
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(value) from exc


def day(value: str) -> str:
    """Return the date of a bookmark as ``2024-01-31``.

    Raises:
        ValueError: the text is neither a date nor a time.
    """
    return datetime.fromisoformat(value).date().isoformat()


def text(time: datetime) -> str:
    """Return an aware time in the tap's form: UTC with microseconds and ``Z``."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def normalise(value: str) -> str:
    """Return a time of the API in the tap's form.

    Raises:
        ValueError: the text is not a time.
    """
    # The two common forms need a check only, no conversion.
    if _WITH_MICROSECONDS.fullmatch(value):
        datetime.fromisoformat(value)
        return value + "Z"
    if _WITH_SECONDS.fullmatch(value):
        datetime.fromisoformat(value)
        return value + ".000000Z"
    return text(parse(value))


def normalised_or_none(value: object) -> str | None:
    """Return a time of the API in the tap's form; None if it is not a time."""
    try:
        return normalise(value) if isinstance(value, str) else None
    except ValueError:
        return None


def unix(value: str) -> float:
    """Return the Unix seconds, with fraction, of a time of the API."""
    return parse(value).timestamp()


def micros(value: str) -> int:
    """Return the microseconds since 1970 of a time of the API, an integer that compares exactly.

    Raises:
        ValueError: the text is not a time.
    """
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:  # as nearly all times are
        since = time - _NAIVE_EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return (parse(value) - _EPOCH) // _MICROSECOND


def micros_or_none(value: object) -> int | None:
    """Return the microseconds since 1970 of a row's time; None if it is not a time."""
    try:
        return micros(value) if isinstance(value, str) else None
    except ValueError:
        return None


def from_micros(at: int) -> str:
    """Return microseconds since 1970 in the tap's form, at most the last second of 9999."""
    return text(instant(at))


def instant(at: int) -> datetime:
    """Return the aware UTC time of microseconds since 1970, at most the last second of 9999."""
    return _EPOCH + min(at, _LAST_MICROS) * _MICROSECOND


def from_unix(seconds: float) -> datetime:
    """Return the aware UTC time of Unix seconds, at most the last second of the year 9999."""
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)


def before(value: str, *, days: float = 0, minutes: float = 0) -> str:
    """Return an earlier time, in the tap's form; never before the year 1."""
    try:
        return text(parse(value) - timedelta(days=days, minutes=minutes))
    except OverflowError:
        return text(datetime.min.replace(tzinfo=UTC))


def in_words(seconds: float) -> str:
    """Return a time span in the largest unit of which it has two or more, such as `3 hours`."""
    size, unit, _ = next(each for each in _UNITS if seconds >= each[2])
    return f"{seconds / size:.0f} {unit}"
