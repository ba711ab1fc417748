"""The API's time forms to one UTC form, and back.

Pancake writes record times in naive UTC, with six digits of a second, with none, or (in its
documents) with an offset. The tap writes one form only, so that times compare as strings:
``2024-01-02T03:04:05.000000Z``. Requests take Unix seconds.

Source: reference, section 3 (record times are UTC, shown by read watermarks).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = int(_LAST) * 1_000_000
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
# Seconds, the name of the unit, and from how many seconds on it is used.
_UNITS = (
    (86_400, "days", 172_800),
    (3_600, "hours", 7_200),
    (60, "minutes", 120),
    (1, "seconds", 0),
)


def parse(value: str) -> datetime:
    """Read a time as the API, a setting or a bookmark gives it.

    Args:
        value: ISO 8601, with or without fraction and offset; without offset it is UTC.

    Returns:
        The same instant, aware, in UTC.

    Raises:
        ValueError: the text is not a time, or lies outside of the years 1 to 9999.
    """
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(value) from exc


def day(value: str) -> str:
    """Bring the date of a bookmark to its one form, ``2024-01-31``.

    Raises:
        ValueError: the text is neither a date nor a time.
    """
    return datetime.fromisoformat(value).date().isoformat()


def text(time: datetime) -> str:
    """Write an aware time in the tap's one form, UTC with microseconds and ``Z``."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def normalise(value: str) -> str:
    """Bring a time of the API to the tap's one form.

    Raises:
        ValueError: the text is not a time.
    """
    # The two common forms need a check only, not a round trip through datetime.
    if _MICROSECONDS.fullmatch(value):
        datetime.fromisoformat(value)
        return value + "Z"
    if _SECONDS.fullmatch(value):
        datetime.fromisoformat(value)
        return value + ".000000Z"
    return text(parse(value))


def normalised_or_none(value: object) -> str | None:
    """Bring a time of the API to the tap's one form; None if it is no time."""
    try:
        return normalise(value) if isinstance(value, str) else None
    except ValueError:
        return None


def unix(value: str) -> float:
    """Return the Unix seconds, with fraction, of a time of the API."""
    return parse(value).timestamp()


def micros(value: str) -> int:
    """Return the whole microseconds since 1970 of a time of the API, which compare exactly.

    Raises:
        ValueError: the text is not a time.
    """
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:  # as nearly all are
        since = time - _NAIVE_EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return (parse(value) - _EPOCH) // _MICROSECOND


def micros_or_none(value: object) -> int | None:
    """Return the microseconds since 1970 of a row's time; None if it has none that can be read."""
    try:
        return micros(value) if isinstance(value, str) else None
    except ValueError:
        return None


def from_micros(at: int) -> str:
    """Write microseconds since 1970 in the tap's one form, at most the year 9999's last second."""
    return text(instant(at))


def instant(at: int) -> datetime:
    """Return the aware UTC time of microseconds since 1970, at most the year 9999's last second."""
    return _EPOCH + min(at, _LATEST) * _MICROSECOND


def from_unix(seconds: float) -> datetime:
    """Return the aware UTC time of Unix seconds, at most the last second of the year 9999."""
    return datetime.fromtimestamp(min(seconds, _LAST), UTC)


def before(value: str, *, days: float = 0, minutes: float = 0) -> str:
    """Return the time so much before another, both in the tap's form; never before the year 1."""
    try:
        return text(parse(value) - timedelta(days=days, minutes=minutes))
    except OverflowError:
        return text(datetime.min.replace(tzinfo=UTC))


def in_words(seconds: float) -> str:
    """Return a time span in its largest unit of which it has two or more."""
    size, unit, _ = next(each for each in _UNITS if seconds >= each[2])
    return f"{seconds / size:.0f} {unit}"
