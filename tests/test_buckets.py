"""Statistics are read in whole days of a page's own time, each once, and again by the lookback."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from tap_pancake.reading.buckets import BEGINNING, BucketWalk, Span, Unit, zone_of
from tap_pancake.reading.state import Bookmark
from tap_pancake.reading.statistics import shape_of

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ZONES = (7, 5.5, 5.75, 0, -3.5, -5, 14, -11)
SETTINGS: dict[str, Any] = {"statistics_lookback_days": 3}
NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def walk(
    bookmark: str | None = None,
    *,
    unit: Unit = Unit.HOUR,
    hours: float = 7,
    now: datetime = NOON,
    added: str | None = "2026-02-10T20:00:00.000000Z",
    **settings: Any,
) -> tuple[BucketWalk, dict[str, Any]]:
    """Begin a walk; give the state that it writes to as well."""
    state = {} if bookmark is None else {"replication_key_value": bookmark}
    kept = Bookmark(state, "hour_utc", incremental=True)
    begun = BucketWalk(
        SETTINGS | settings, kept, unit=unit, zone=zone_of(hours), added=added, now=now
    )
    return begun, state


@pytest.mark.parametrize(
    ("given", "hours"),
    [
        (7, 7),
        (7.0, 7),
        (-5, -5),
        (5.75, 5.75),
        ("5.5", 5.5),
        (0, 0),
        (None, 7),
        ("Asia/Bangkok", 7),
        ([7], 7),
        (float("nan"), 7),
        (float("inf"), 7),
        (24, 7),
        (-1e9, 7),
    ],
)
def test_a_pages_time_is_as_it_says_or_the_usual_one(given: object, hours: float) -> None:
    assert zone_of(given).utcoffset(None) == timedelta(hours=hours)


@pytest.mark.parametrize("hours", ZONES)
@pytest.mark.parametrize("days", [1, 7, 31])
@pytest.mark.parametrize(
    ("start", "now"),
    [
        ("2025-12-30T10:15:00Z", "2026-01-02T03:04:05Z"),
        ("2024-02-27T23:59:59Z", "2024-03-02T00:00:00Z"),
        ("2026-02-27T16:59:59Z", "2026-03-05T17:00:00Z"),
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
    ],
)
def test_every_local_hour_is_in_one_span_and_one_call(
    start: str, now: str, days: int, hours: float
) -> None:
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(now)
    begun, _ = walk(hours=hours, now=last, start_date=start, added=None)
    spans = list(begun.spans(days))
    zone = zone_of(hours)
    at = first.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    asked = {(span.since, span.until) for span in spans}
    assert len(asked) == len(spans)
    while at <= last:
        assert begun.wants(at)
        assert sum(span.holds(at) for span in spans) == 1
        assert sum(since <= at.timestamp() < until for since, until in asked) == 1
        at += HOUR
    assert not begun.wants(first.astimezone(zone) - HOUR)
    assert all(before.after == after.first for before, after in pairwise(spans))
    assert all(before.until + 1 == after.since for before, after in pairwise(spans))
    assert all(span.after - span.first <= days * DAY for span in spans)
    assert all((span.first.hour, span.first.minute) == (0, 0) for span in spans)


def test_ranges_are_written_as_the_api_wants_them() -> None:
    zone = timezone(timedelta(hours=7))
    span = Span(datetime(2025, 12, 29, tzinfo=zone), datetime(2026, 1, 5, tzinfo=zone))
    assert span.date_range == "29/12/2025 00:00:00 - 04/01/2026 23:59:59"
    assert span.days == "29/12/2025 - 04/01/2026"
    assert span.since == datetime(2025, 12, 28, 17, tzinfo=UTC).timestamp()
    assert span.until == datetime(2026, 1, 4, 16, 59, 59, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("hours", ZONES)
def test_an_hour_is_that_of_the_page(hours: float) -> None:
    zone = zone_of(hours)
    span = Span(datetime(2026, 1, 1, tzinfo=zone), datetime(2026, 1, 2, tzinfo=zone))
    at = span.hour_of("2026-01-01T00:00:00")
    assert at.astimezone(UTC) == datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=hours)
    assert span.holds(at)
    for end in ("Z", "+00:00", "+07:00", ".000000Z"):
        assert span.hour_of(f"2026-01-01T00:00:00{end}") == at


@pytest.mark.parametrize(
    ("label", "day"),
    [
        ("30/12/2025", date(2025, 12, 30)),
        ("3/1/2026", date(2026, 1, 3)),
        ("03/01/2026", date(2026, 1, 3)),
        ("30/12", date(2025, 12, 30)),
        ("3/1", date(2026, 1, 3)),
        ("5/1", date(2026, 1, 5)),
        ("28/12", date(2025, 12, 28)),
        ("2026-01-03", date(2026, 1, 3)),
        ("2026-01-03T00:00:00", date(2026, 1, 3)),
        ("2026-01-03T23:00:00", date(2026, 1, 3)),
        ("2026-01-02T17:00:00Z", date(2026, 1, 2)),
        ("15/6", None),
        ("29/2", None),
        ("31/13/2025", None),
        ("31/11", None),
        ("7", None),
        ("", None),
        ("today", None),
    ],
)
def test_a_label_tells_its_day_if_that_is_certain(label: str, day: date | None) -> None:
    zone = zone_of(7)
    span = Span(datetime(2025, 12, 29, tzinfo=zone), datetime(2026, 1, 5, tzinfo=zone))
    found = span.day_of(label)
    assert (found and found.date()) == day
    assert found is None or (found.hour == 0 and found.utcoffset() == timedelta(hours=7))


def test_the_29th_of_february_is_found_in_its_year() -> None:
    zone = zone_of(7)
    span = Span(datetime(2024, 2, 26, tzinfo=zone), datetime(2024, 3, 4, tzinfo=zone))
    assert span.day_of("29/2") == datetime(2024, 2, 29, tzinfo=zone)


# Where a walk begins, and what its bookmark says.


def test_statistics_begin_a_day_before_the_page_was_added() -> None:
    begun, _ = walk()
    assert begun.start == datetime(2026, 2, 9, 20, tzinfo=UTC)


def test_statistics_of_a_page_of_unknown_age_begin_before_pancake_did() -> None:
    begun, _ = walk(added=None)
    assert begun.start == BEGINNING


def test_a_start_date_before_the_page_was_added_costs_nothing() -> None:
    begun, _ = walk(start_date="2020-01-01")
    assert begun.start == datetime(2026, 2, 9, 20, tzinfo=UTC)
    begun, _ = walk(start_date="2026-02-20")
    assert begun.start == datetime(2026, 2, 20, tzinfo=UTC)
    begun, _ = walk(start_date="2020-01-01", added=None)
    assert begun.start == datetime(2020, 1, 1, tzinfo=UTC)
    begun, _ = walk(added="0001-01-01T00:00:00.000000Z")
    assert begun.start == BEGINNING


@pytest.mark.parametrize(
    ("unit", "bookmark", "start"),
    [
        (Unit.HOUR, "2026-03-01T09:00:00.000000Z", datetime(2026, 2, 26, 9, tzinfo=UTC)),
        (Unit.DAY, "2026-03-01", datetime(2026, 2, 25, 17, tzinfo=UTC)),
        (Unit.DAY, "2026-03-01T00:00:00.000000Z", datetime(2026, 2, 25, 17, tzinfo=UTC)),
    ],
)
def test_a_later_walk_begins_before_the_bookmark_by_the_lookback(
    unit: Unit, bookmark: str, start: datetime
) -> None:
    begun, _ = walk(bookmark, unit=unit)
    assert begun.start == start


def test_a_lookback_reaches_no_further_than_the_start() -> None:
    begun, _ = walk("2026-02-11T00:00:00.000000Z", statistics_lookback_days=1e12)
    assert begun.start == datetime(2026, 2, 9, 20, tzinfo=UTC)
    begun, _ = walk("2026-02-11T00:00:00.000000Z", start_date="2026-02-10T12:00:00Z")
    assert begun.start == datetime(2026, 2, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "value"), [(Unit.HOUR, "2026-03-01T12:00:00.000000Z"), (Unit.DAY, "2026-03-01")]
)
def test_the_bookmark_is_the_bucket_that_was_running(unit: Unit, value: str) -> None:
    begun, state = walk(unit=unit)
    seen = []
    for span in begun.spans(7):
        begun.passed(span)
        seen.append(state["replication_key_value"])
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen)
    assert seen[-1] == value


def test_the_bookmark_does_not_pass_the_end_date() -> None:
    begun, state = walk(end_date="2026-02-20T10:30:00Z")
    spans = list(begun.spans(7))
    for span in spans:
        begun.passed(span)
    assert state["replication_key_value"] == "2026-02-20T10:00:00.000000Z"
    assert begun.wants(datetime(2026, 2, 20, 10, tzinfo=UTC))
    assert not begun.wants(datetime(2026, 2, 20, 11, tzinfo=UTC))
    assert spans[-1].after == datetime(2026, 2, 20, 17, tzinfo=UTC)


def test_the_bookmark_never_moves_back() -> None:
    begun, state = walk("2026-03-01T09:00:00.000000Z")
    seen = []
    for span in begun.spans(1):
        begun.passed(span)
        seen.append(state["replication_key_value"])
    assert seen[0] == "2026-03-01T09:00:00.000000Z"
    assert seen[-1] == "2026-03-01T12:00:00.000000Z"


def test_a_start_in_the_future_asks_for_nothing() -> None:
    begun, _ = walk(start_date="2027-01-01")
    assert list(begun.spans(7)) == []


# What an error shows.


def test_a_shape_is_the_names_of_keys_and_never_a_value() -> None:
    body = {
        "success": True,
        "data": {"series": [{"name": "secret", "data": [1]}], "empty": [], "none": None},
        "deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
        **{f"key{number}": number for number in range(20)},
        "k" * 100: "last",
    }
    shape = shape_of(body)
    assert shape.startswith(
        "{success: bool, data: {series: [{name: str, data: [int]}], empty: [], none: null},"
        " deep: {a: {b: {c: {d: {e: {…}}}}}}, key0: int, "
    )
    assert shape.endswith(", …}")
    assert "secret" not in shape
    assert shape_of({"k" * 100: 1}) == "{" + "k" * 40 + ": int}"
