"""Statistics are read in whole days of a page's own time, each once, and again by the lookback."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice, pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.api.errors import PageFailed
from tap_pancake.reading.buckets import BEGINNING, Bounds, BucketWalk, Span, Unit, zone_of
from tap_pancake.reading.state import Bookmark
from tap_pancake.reading.statistics import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ZONES = (7, 5.5, 5.75, 0, -3.5, -5, 14, -11)
NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FAILURE = PageFailed("page 1, page_statistics: no")


KEYS = {Unit.MOMENT: "inserted_at", Unit.HOUR: "hour_utc", Unit.DAY: "date"}


def grid(unit: Unit) -> Unit:
    """The buckets that a test looks at; of rows with times of their own, those at whole hours."""
    return Unit.HOUR if unit is Unit.MOMENT else unit


class World:
    """One stream of a page, and the state that its runs leave."""

    def __init__(self, *, unit: Unit = Unit.HOUR, hours: float = 7, **settings: Any) -> None:
        self.unit, self.zone = unit, zone_of(hours)
        self.settings: dict[str, Any] = {"statistics_lookback_days": 3} | settings
        self.added: str | None = "2026-02-10T20:00:00.000000Z"
        self.now = NOON
        self.state: dict[str, Any] = {"context": {}}
        self.was_aside: list[bool] = []
        """For each span that was logged as set aside: whether an earlier run had set it aside."""

    def walk(self, **settings: Any) -> BucketWalk:
        """Begin a run."""
        config = self.settings | settings
        bounds = Bounds.of(config, unit=self.unit, zone=self.zone, added=self.added, now=self.now)
        bookmark = Bookmark(
            self.state,
            KEYS[self.unit],
            incremental=True,
            form=self.unit.form,
            start=self.unit.place(bounds.start),
        )
        return BucketWalk(
            bookmark,
            bounds,
            unit=self.unit,
            now=self.now,
            lookback=config["statistics_lookback_days"],
            slack=config.get("slack", 0),
            log_aside=lambda _, known: self.was_aside.append(known),
        )

    def read(self, days: int = 7, most: int | None = None, **settings: Any) -> list[Span]:
        """Read all, or so many spans before a kill; give those that were asked for."""
        walk = self.walk(**settings)
        spans = list(islice(walk.spans(days), most))
        for span in spans:
            walk.span_read(span)
        return spans

    @property
    def top(self) -> str | None:
        """The bookmark, as Meltano shows it."""
        value: str | None = self.state.get("replication_key_value")
        return value


def dates(spans: Iterable[Span]) -> list[str]:
    """The first and last day of each span, as ``0210-0216``."""
    return [f"{span.first:%m%d}-{span.after - DAY:%m%d}" for span in spans]


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
    world = World(hours=hours, start_date=start)
    world.added = None
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(now)
    world.now = last
    walk = world.walk()
    spans = list(walk.spans(days))
    zone = zone_of(hours)
    at = first.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    asked = {(span.since, span.until) for span in spans}
    assert len(asked) == len(spans)
    while at <= last:
        assert walk.bounds.hold(at)
        assert sum(span.holds(at) for span in spans) == 1
        assert sum(since <= at.timestamp() < until for since, until in asked) == 1
        at += HOUR
    assert not walk.bounds.hold(first.astimezone(zone) - HOUR)
    assert all(after.first == before.after for after, before in pairwise(spans))
    assert all(span.after - span.first <= days * DAY for span in spans)
    assert all((span.first.hour, span.first.minute) == (0, 0) for span in spans)
    assert [span.newest for span in spans] == [True] + [False] * (len(spans) - 1)


@pytest.mark.parametrize("real", ZONES)
@pytest.mark.parametrize("guessed", [7, -5, 0])
def test_a_day_more_at_both_ends_holds_each_hour_whatever_zone_is_guessed(
    guessed: float, real: float
) -> None:
    """An hour is of the day that its label says; the call must reach to where it really is."""
    world = World(hours=guessed, start_date="2026-02-01T00:00:00Z")
    world.added = None
    spans = list(world.walk().spans(7))
    at = datetime(2026, 2, 2, tzinfo=zone_of(real))
    while at < NOON - DAY:
        label = at.replace(tzinfo=zone_of(guessed))
        (span,) = [span for span in spans if span.holds(label)]
        assert span.wider.since <= at.timestamp() <= span.wider.until
        at += HOUR


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


# Where a walk begins.


def start_of(world: World, **settings: Any) -> datetime:
    """Where a run begins."""
    return world.walk(**settings).bounds.start


def test_statistics_begin_a_day_before_the_page_was_added() -> None:
    assert start_of(World()) == datetime(2026, 2, 9, 20, tzinfo=UTC)


def test_statistics_of_a_page_of_unknown_age_begin_before_pancake_did() -> None:
    world = World()
    world.added = None
    assert start_of(world) == BEGINNING
    assert start_of(world, start_date="2020-01-01") == datetime(2020, 1, 1, tzinfo=UTC)
    world.added = "0001-01-01T00:00:00.000000Z"
    assert start_of(world) == BEGINNING


def test_a_start_date_before_the_page_was_added_costs_nothing() -> None:
    world = World()
    assert start_of(world, start_date="2020-01-01") == datetime(2026, 2, 9, 20, tzinfo=UTC)
    assert start_of(world, start_date="2026-02-20") == datetime(2026, 2, 20, tzinfo=UTC)


def test_a_start_in_the_future_asks_for_nothing_and_leaves_no_state() -> None:
    world = World(start_date="2027-01-01")
    assert world.read() == []
    assert world.state == {"context": {}}


@pytest.mark.parametrize(
    ("unit", "top"), [(Unit.HOUR, "2026-03-01T12:00:00.000000Z"), (Unit.DAY, "2026-03-01")]
)
def test_the_newest_span_comes_first_and_the_state_says_at_once_what_is_open(
    unit: Unit, top: str
) -> None:
    world = World(unit=unit)
    assert dates(world.read(7, most=1)) == ["0223-0301"]
    begin, end = world.state["open"][0]
    assert world.top == top
    assert (begin, end) == (world.state["floor"], unit.form.text(unit.place(local_hour(unit))))
    assert dates(world.read(7)) == ["0301-0301", "0216-0222", "0210-0215"]
    assert "open" not in world.state
    assert world.top == top


def local_hour(unit: Unit) -> datetime:
    """The last bucket of 22 February of a page seven hours ahead of UTC."""
    return datetime(2026, 2, 22, 23 if unit is Unit.HOUR else 0, tzinfo=zone_of(7))


@pytest.mark.parametrize("unit", Unit)
def test_a_later_run_reads_the_lookback_again_in_one_call(unit: Unit) -> None:
    world = World(unit=unit)
    world.read()
    world.now += DAY
    assert dates(world.read()) == ["0226-0302"]
    assert dates(world.read(statistics_lookback_days=0)) == ["0302-0302"]


@pytest.mark.parametrize("unit", Unit)
def test_an_hourly_run_reads_the_running_day_and_the_lookback_every_six_hours(unit: Unit) -> None:
    world = World(unit=unit)
    world.now = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)  # 8:30 of the page
    world.read()
    days = []
    for _ in range(19):
        world.now += HOUR
        days += dates(world.read())
    lookbacks = {5: "0226-0301", 11: "0226-0301", 17: "0226-0302"}
    running = ["0301-0301"] * 15 + ["0301-0302"] + ["0302-0302"] * 3
    # The day that was over at midnight is read to its end with the first run after it.
    assert days == [lookbacks.get(number, day) for number, day in enumerate(running)]


@pytest.mark.parametrize("unit", Unit)
def test_a_run_that_was_killed_in_its_lookback_is_continued(unit: Unit) -> None:
    world = World(unit=unit)
    world.now = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
    world.read()
    world.now += 6 * HOUR
    assert dates(world.read(1, most=0)) == []
    assert dates(world.read(1, most=2)) == ["0301-0301", "0228-0228"]
    world.now += HOUR
    assert dates(world.read(1, most=2)) == ["0301-0301", "0227-0227"]
    world.now += HOUR
    assert dates(world.read(1)) == ["0301-0301", "0226-0226"]
    world.now += HOUR
    assert dates(world.read(1)) == ["0301-0301"]


def test_a_lookback_that_fails_is_due_again() -> None:
    world = World()
    world.read()
    world.now += 3 * HOUR
    world.read()
    world.now += 3 * HOUR
    before = dict(world.state)
    with pytest.raises(PageFailed):
        fail(world, 0)
    assert world.state == before
    assert dates(world.read()) == ["0226-0302"]


def test_a_longer_lookback_takes_effect_at_once() -> None:
    world = World()
    world.read()
    world.now += HOUR
    assert dates(world.read(31, statistics_lookback_days=5)) == ["0224-0301"]
    assert dates(world.read(31, statistics_lookback_days=4)) == ["0301-0301"]


def test_a_lookback_that_was_read_in_the_future_is_read_again() -> None:
    """As it is when a clock was ahead, and was set right."""
    world = World()
    world.now += 2 * HOUR
    world.read()
    world.now = NOON
    for _ in range(2):
        assert dates(world.read()) == ["0226-0301"]
    world.now += 2 * HOUR
    world.state["lookback"] = ["2026-03-01T14:30:00.000001Z", 259_200]
    assert dates(world.read()) == ["0226-0301"]
    assert dates(world.read()) == ["0301-0301"]


def test_a_run_whose_end_or_clock_is_before_the_top_reads_the_lookback_and_leaves_it_due() -> None:
    world = World()
    world.read()
    world.now += 3 * HOUR
    world.read()
    world.now -= 2 * HOUR
    assert dates(world.read()) == ["0226-0301"]
    world.now += 5 * HOUR
    assert dates(world.read(end_date="2026-02-27T12:00:00Z")) == ["0226-0227"]
    assert dates(world.read()) == ["0226-0302"]
    assert dates(world.read()) == ["0302-0302"]


@pytest.mark.parametrize("unit", Unit)
def test_where_a_pages_time_is_guessed_each_run_begins_a_day_earlier(unit: Unit) -> None:
    world = World(unit=unit, slack=1)
    world.read()
    world.now += HOUR
    assert dates(world.read()) == ["0228-0301"]
    world.now += 5 * HOUR
    assert dates(world.read()) == ["0226-0302"]


@pytest.mark.parametrize("seed", range(200))
def test_each_correction_within_the_lookback_is_read(seed: int) -> None:
    """Whatever is corrected, and whenever runs are, or are killed: at the latest 6 hours later."""
    rng = Random(seed)
    unit = rng.choice(list(Unit))
    back = rng.choice((0.1, 0.5, 1, 3))
    world = World(unit=unit, hours=rng.choice(ZONES), statistics_lookback_days=back)
    size = DAY if unit is Unit.DAY else HOUR
    read: dict[datetime, datetime] = {}
    corrected: dict[datetime, datetime] = {}

    def run(most: int | None = None, **settings: Any) -> None:
        walk = world.walk(**settings)
        for span in islice(walk.spans(rng.choice((1, 7))), most):
            if rng.random() < bad:
                walk.failed(span, FAILURE)
                continue
            walk.span_read(span)
            at = span.first
            while at < span.after:
                if at <= walk.bounds.running and walk.bounds.hold(at):
                    read[at] = world.now
                at += size
        if most is None:
            walk.finish()

    bad = 0.0
    run()
    bad = 0.1
    for _ in range(40):
        world.now += timedelta(minutes=rng.choice((10, 60, 61, 200, 2_000)))
        at = grid(unit).floor(
            (world.now - timedelta(days=back) * rng.random()).astimezone(world.zone)
        )
        corrected[at] = world.now
        world.now += timedelta(minutes=rng.randint(1, 30))
        end = {"end_date": world.now - DAY * rng.random()} if rng.random() < 0.1 else {}
        with suppress(PageFailed):
            run(rng.choice((None, None, 0, 1, 2)), **{key: str(at) for key, at in end.items()})
    bad = 0.0
    world.now += 6 * HOUR
    run()
    assert all(read[at] >= then for at, then in corrected.items())


def test_a_lookback_reaches_no_further_than_the_start() -> None:
    world = World()
    world.read()
    assert dates(world.read(31, statistics_lookback_days=1e12)) == ["0210-0301"]
    world.now += 6 * HOUR
    days = dates(world.read(31, statistics_lookback_days=1e12, start_date="2026-02-20T12:00:00Z"))
    assert days == ["0220-0302"]


def test_an_end_date_is_not_passed_and_what_lies_behind_it_stays_open() -> None:
    world = World()
    walk = world.walk(end_date="2026-02-20T10:30:00Z")
    assert walk.bounds.hold(datetime(2026, 2, 20, 10, tzinfo=UTC))
    assert not walk.bounds.hold(datetime(2026, 2, 20, 11, tzinfo=UTC))
    assert dates(world.read(end_date="2026-02-20T10:30:00Z")) == ["0214-0220", "0210-0213"]
    assert world.top == "2026-02-20T10:00:00.000000Z"
    assert dates(world.read(statistics_lookback_days=0)) == ["0223-0301", "0220-0222"]
    # The end date of a later run closes only what it reads.
    world.now += 6 * DAY
    world.read(most=1)
    assert dates(world.read(end_date="2026-02-20T10:30:00Z")) == []
    assert world.top == "2026-03-07T12:00:00.000000Z"
    assert world.read()[-1].first.date() == date(2026, 2, 26)


def test_an_end_date_in_the_middle_of_an_open_day_leaves_its_rest_open() -> None:
    world = World(statistics_lookback_days=0)
    world.read(most=1)
    world.read(end_date="2026-02-20T10:30:00Z")
    assert world.state["open"] == [["2026-02-20T10:00:00.000001Z", "2026-02-22T16:00:00.000000Z"]]
    assert dates(world.read()) == ["0301-0301", "0220-0222"]
    assert "open" not in world.state


@pytest.mark.parametrize("unit", Unit)
def test_an_earlier_start_opens_what_lies_below(unit: Unit) -> None:
    world = World(unit=unit, statistics_lookback_days=0, start_date="2026-02-22T17:00:00Z")
    world.read()
    assert dates(world.read(start_date="2026-02-15")) == ["0301-0301", "0217-0223", "0215-0216"]
    assert "open" not in world.state
    assert dates(world.read(start_date="2026-02-15")) == ["0301-0301"]


@pytest.mark.parametrize("unit", Unit)
def test_a_later_start_forgets_what_is_below_and_does_not_read_it(unit: Unit) -> None:
    world = World(unit=unit, statistics_lookback_days=0)
    world.read(most=1)
    assert dates(world.read(start_date="2026-02-25")) == ["0301-0301"]
    assert "open" not in world.state
    assert dates(world.read()) == ["0301-0301", "0219-0225", "0212-0218", "0210-0211"]


# What cannot be read.


def fail(world: World, *bad: int, days: int = 7, asked: list[Span] | None = None) -> list[Span]:
    """Read all, where the spans of these numbers fail; give all that were asked for."""
    walk, asked = world.walk(), [] if asked is None else asked
    for number, span in enumerate(walk.spans(days)):
        asked.append(span)
        if number in bad:
            walk.failed(span, FAILURE)
        else:
            walk.span_read(span)
    walk.finish()
    return asked


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_span_that_fails_is_set_aside_and_the_others_are_read(unit: Unit, bad: int) -> None:
    world = World(unit=unit, statistics_lookback_days=0)
    spans = fail(world, bad)
    aside = spans[bad]
    assert dates(spans) == ["0223-0301", "0216-0222", "0210-0215"]
    assert world.was_aside == [False]
    assert world.state["open"] == world.state["aside"]
    # Later runs try it after all else, and say that it is still so.
    world.now += DAY
    again = fail(world, 1)
    assert dates(again)[0] == ("0302-0302" if bad == 0 else "0301-0302")
    assert dates(again)[1] == dates([aside])[0]
    assert world.was_aside == [False, True]
    assert len(world.state["aside"]) == 1
    assert dates(fail(world))[1] == dates([aside])[0]
    assert {"open", "aside"}.isdisjoint(world.state)


def test_a_stream_of_which_nothing_can_be_read_fails_and_leaves_the_state_as_it_was() -> None:
    world = World()
    with pytest.raises(PageFailed):
        fail(world, 0, 1, 2, 3)
    assert world.state == {"context": {}}
    world.read()
    before = dict(world.state)
    world.now += DAY
    with pytest.raises(PageFailed):
        fail(world, 0)
    assert world.state == before
    assert not world.was_aside


def test_three_spans_in_a_row_that_fail_end_the_stream_and_the_next_run_begins_behind_them() -> (
    None
):
    world, asked = World(), list[Span]()
    with pytest.raises(PageFailed):
        fail(world, *range(1, 99), days=1, asked=asked)
    assert dates(asked) == ["0301-0301", "0228-0228", "0227-0227", "0226-0226"]
    world.settings["statistics_lookback_days"] = 0
    days = dates(fail(world, days=1))
    assert days[:2] == ["0301-0301", "0225-0225"]
    assert days[-3:] == dates(asked[1:])
    assert {"open", "aside"}.isdisjoint(world.state)


@pytest.mark.parametrize("seed", range(200))
def test_nothing_is_lost_whatever_fails_and_whenever_runs_are_killed(seed: int) -> None:
    """Each bucket is read after it ended, or is set aside, when a run has come to its end."""
    rng = Random(seed)
    unit = rng.choice(list(Unit))
    world = World(unit=unit, hours=rng.choice(ZONES))
    world.settings["statistics_lookback_days"] = 0
    world.settings["start_date"] = first = (
        f"2026-02-{rng.randint(10, 25)}T{rng.randint(0, 23):02}:10:00Z"
    )
    read: dict[datetime, datetime] = {}
    for last in [False] * rng.randint(1, 6) + [True]:
        world.now += timedelta(hours=rng.choice((1, 5, 30, 100)))
        if rng.random() < 0.3:
            first = world.settings["start_date"] = f"2026-02-{rng.randint(10, 25)}"
        walk, kill = world.walk(), 99 if last else rng.randint(0, 5)
        aside: list[Span] = []
        spans = list(islice(walk.spans(rng.choice((1, 2, 7))), kill))
        with suppress(PageFailed):
            for span in spans:
                if rng.random() < 0.15 and not last:
                    walk.failed(span, FAILURE)
                    aside.append(span)
                    continue
                at = span.first
                while at < span.after and at <= walk.bounds.running:
                    if walk.bounds.hold(at):
                        read[at] = world.now
                    at += DAY if unit is Unit.DAY else HOUR
                walk.span_read(span)
        if kill == 99:
            walk.finish()
    size = DAY if unit is Unit.DAY else HOUR
    start = datetime.fromisoformat(first).replace(tzinfo=UTC).astimezone(world.zone)
    at = grid(unit).floor(start)
    if unit is Unit.MOMENT and at < start:
        at += size
    while at <= world.now:
        assert at in read, at
        ended = at if unit is Unit.MOMENT else min(at + size, world.now)
        assert read[at] >= ended, at
        at += size
    assert "open" not in world.state
    # What is aside below the start stays there, since it is not asked for.
    assert all(low < first for low, _ in world.state.get("aside", []))


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
