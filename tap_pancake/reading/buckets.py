"""Statistics: whole hours and days of a page's own time, and the walk over them.

Pancake counts by the hour or the day of the page, not of UTC, and asks for ranges in the same time.
So a walk goes over whole local days, the newest first, and each of them belongs to one call. What
was read is kept as coverage (`coverage.py`): its `top` is the hour or day that was running when the
run read it. That bucket was not complete, so the next run begins with it.

Numbers are corrected later, too. So a run reads the lookback, the last `statistics_lookback_days`,
again, but at most every 6 hours. The state keeps when that was, as `lookback`; what a killed run
did not read of it is open. Each lookback begins so many days before the last one, not before the
last run. So no correction that is made within these days is missed.

A span of days that cannot be read is set aside: it stays open, the others are read, and each later
run tries it again, after all else.

Source: reference, sections 3, 12 to 17 and 24.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tap_pancake.reading import coverage as coverages
from tap_pancake.reading.coverage import Stretch, without
from tap_pancake.reading.state import DATE, INSTANT
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tap_pancake.api.errors import PageFailed
    from tap_pancake.reading.state import Bookmark, Form

USUAL_TIMEZONE = 7.0
"""Hours ahead of UTC of a page that does not say: Vietnam, Thailand and western Indonesia."""
BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)
"""Where statistics begin if nothing tells: before Pancake and its channels did."""
MOST_FAILURES = 3
"""So many spans in a row that cannot be read end the stream: the rest would hardly fare better."""

LOOKBACK_INTERVAL = timedelta(hours=6)
"""The days of `statistics_lookback_days` are read again once in this time at most."""

HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
# Time zones are whole quarters of an hour, and none is further from UTC.
_ZONES_DIFFER = timedelta(minutes=15)
_FURTHEST = timedelta(hours=14)
_DAY_MONTH = re.compile(r"(\d{1,2})/(\d{1,2})(?:/(\d{4}))?")


def told_zone(hours: object) -> tzinfo | None:
    """Return a page's own time from its `timezone`: hours ahead of UTC, negative or fractional.

    Returns:
        None if it does not say, or says what cannot be.
    """
    try:
        # What is no number, or so many hours that there is no such time, raises, as it should.
        return timezone(timedelta(hours=float(hours)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def zone_of(hours: object) -> tzinfo:
    """Return a page's own time from its `timezone`, or the usual one if it does not say."""
    return told_zone(hours) or timezone(timedelta(hours=USUAL_TIMEZONE))


@dataclass(frozen=True)
class OwnTime:
    """What is known of a page's own time, which list-pages may not tell.

    Rows of `user_statistics` show it, since they have their hour in UTC, too. That stream is read
    first, and what it showed is kept in the state of each.
    """

    told: tzinfo | None
    """By list-pages."""
    shown: str | None
    """By rows of this run: hours ahead of UTC."""
    kept: str | None
    """By rows of an earlier run."""

    @property
    def zone(self) -> tzinfo:
        """The page's own time, or the usual one."""
        return self.told or zone_of(self.shown or self.kept)

    @property
    def is_guessed(self) -> bool:
        """Whether nothing tells it: hours may then be up to 19 from where they are looked for."""
        return self.told is None and self.shown is None and self.kept is None

    @property
    def is_news(self) -> bool:
        """Whether rows showed what the state does not have."""
        return self.told is None and self.shown is not None and self.shown != self.kept


def ahead_of_utc(at: datetime, digits: object) -> timedelta | None:
    """Return how far a local hour is ahead of the same hour in UTC, such as ``20240102030000``.

    Returns:
        None if that is no time, or so far from the hour that no time zone is.
    """
    try:
        instant = datetime.strptime(str(digits), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    ahead = at.replace(tzinfo=UTC) - instant
    return ahead if abs(ahead) <= _FURTHEST and not ahead % _ZONES_DIFFER else None


def is_day_and_month(label: str) -> bool:
    """Return whether a label is ``D/M``, without a year."""
    found = _DAY_MONTH.fullmatch(label)
    return found is not None and found[3] is None


class Unit(Enum):
    """The length of a stream's buckets."""

    MOMENT = "moment"
    """Rows are no counts of a bucket: each has its own time."""
    HOUR = "hour"
    DAY = "day"

    @property
    def form(self) -> Form:
        """How the state writes a bucket: an hour as a time in UTC, a day as the local date."""
        return DATE if self is Unit.DAY else INSTANT

    def floor(self, at: datetime) -> datetime:
        """Return the beginning of the bucket that a local time is in."""
        if self is Unit.MOMENT:
            return at
        whole = at.replace(minute=0, second=0, microsecond=0)
        return whole if self is Unit.HOUR else whole.replace(hour=0)

    def place(self, at: datetime) -> int:
        """Return where a local time is in a `Coverage`: microseconds since 1970."""
        return times.micros(times.text(at.replace(tzinfo=UTC) if self is Unit.DAY else at))

    def at(self, place: int, zone: tzinfo) -> datetime:
        """Return the local time of a place in a `Coverage`, or the edge of what can be written."""
        at = times.parse(times.from_micros(place))
        return at.replace(tzinfo=zone) if self is Unit.DAY else local(at, zone)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole local days, which one call asks for."""

    first: datetime
    """Midnight, local time."""
    after: datetime
    """The midnight behind the last day."""
    newest: bool = False
    """Whether it ends with the running day, so that whatever is later belongs to it, too."""

    @property
    def zone(self) -> tzinfo | None:
        """The page's own time."""
        return self.first.tzinfo

    @property
    def since(self) -> int:
        """The first second, in Unix seconds."""
        return math.floor(self.first.timestamp())

    @property
    def until(self) -> int:
        """The last second, in Unix seconds: inclusive or not, it cuts off no bucket."""
        return math.floor(self.after.timestamp()) - 1

    @property
    def date_range(self) -> str:
        """The API's text for it, such as ``27/07/2021 00:00:00 - 26/08/2021 23:59:59``."""
        return f"{self.first:%d/%m/%Y} 00:00:00 - {self.after - _DAY:%d/%m/%Y} 23:59:59"

    @property
    def days(self) -> str:
        """The API's text for it without times, such as ``20/07/2020 - 20/08/2020``."""
        return f"{self.first:%d/%m/%Y} - {self.after - _DAY:%d/%m/%Y}"

    @property
    def wider(self) -> Span:
        """The same with a day more at both ends.

        Rows that tell their own hour or day are asked for so: the page's own time may have been
        guessed, or have changed, and then the hours of these days lie elsewhere in time.
        """
        return Span(self.first - _DAY, self.after + _DAY)

    @property
    def halves(self) -> list[Span]:
        """The newer and the older half, of whole days; none of a single day."""
        days = (self.after - self.first) // _DAY
        if days == 1:
            return []
        middle = self.first + days // 2 * _DAY
        return [Span(middle, self.after, self.newest), Span(self.first, middle)]

    def holds(self, at: datetime) -> bool:
        """Return whether a bucket belongs to this span: it is one of its days by its label."""
        return self.first <= at and (self.newest or at < self.after)

    def hour_of(self, text: str) -> datetime:
        """Read an hour of the API, which is local, whatever offset it may be given with.

        Raises:
            ValueError: it is none.
        """
        return datetime.fromisoformat(text).replace(tzinfo=self.zone)

    def day_of(self, label: str) -> datetime | None:
        """Work out the day that a label names: ``D/M/YYYY``, ``D/M``, or an ISO date or time.

        The year of ``D/M`` is the one that lies within the span, or next to it: as far as an answer
        for the wider one may reach in another time zone.

        Returns:
            Its midnight; None if the label does not tell.
        """
        found = _DAY_MONTH.fullmatch(label)
        try:
            if found is None:
                return Unit.DAY.floor(self.hour_of(label))
            day, month, year = found.groups()
            if year is not None:
                return datetime(int(year), int(month), int(day), tzinfo=self.zone)
        except ValueError:
            return None
        low, high = self.first - 2 * _DAY, self.after + _DAY
        for year in {low.year, high.year}:
            try:
                at = datetime(year, int(month), int(day), tzinfo=self.zone)
            except ValueError:  # such as 29/2 of most years
                continue
            if low <= at <= high:
                return at
        return None


@dataclass(frozen=True)
class Bounds:
    """Which buckets a run reads of a page, in the page's own time."""

    start: datetime
    """The first one."""
    running: datetime
    """The last one that is asked for: it runs now, or at the end date."""
    last: datetime | None
    """The last one that is written; None if there is no end date."""

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        *,
        unit: Unit,
        zone: tzinfo,
        added: str | None,
        now: datetime,
        slack: timedelta = timedelta(0),
    ) -> Self:
        """Read the settings.

        Args:
            config: the settings.
            unit: the length of the stream's buckets.
            zone: the page's own time.
            added: when the page was added to Pancake, before which there are no statistics.
            now: the start of this run.
            slack: how much earlier than the start date to begin.
        """
        # Before a page was added there is nothing, and asking for it can cost a call a day.
        known = [BEGINNING]
        if config.get("start_date"):
            known += [_before(times.parse(config["start_date"]), slack / _DAY)]
        known += [_before(times.parse(added), 1)] if added is not None else []
        end = times.parse(config["end_date"]) if config.get("end_date") else None
        return cls(
            unit.floor(local(max(known), zone)),
            unit.floor(local(now if end is None else min(now, end), zone)),
            None if end is None else unit.floor(local(end, zone)),
        )

    def hold(self, at: datetime) -> bool:
        """Return whether a bucket is written."""
        return self.start <= at and (self.last is None or at <= self.last)


class _Failure(NamedTuple):
    span: Span
    failure: PageFailed
    told: bool


class BucketWalk:
    """What one run reads of one page's statistics, in one stream."""

    def __init__(
        self,
        bookmark: Bookmark,
        bounds: Bounds,
        *,
        unit: Unit,
        now: datetime,
        lookback: float,
        slack: float = 0,
        tell: Callable[[PageFailed, bool], object],
    ) -> None:
        """Open what is new since the last run; nothing of it is in the state before a span is read.

        Args:
            bookmark: the stream's for this page, which begins where the bounds do.
            bounds: what is read.
            unit: the length of the stream's buckets.
            now: the start of this run.
            lookback: how many days before the last `top` are read again, at most every 6 hours.
            slack: how many days before it are read again in each run.
            tell: is called with what set a span aside, and whether it was aside before.
        """
        self.bookmark = bookmark
        self.bounds = bounds
        self.has_read = bookmark.coverage.top is not None
        """Whether an earlier run has read something."""
        self.read = False
        """Whether some span could be read in this run."""
        self._unit = unit
        self._tell = tell
        self._pending: list[_Failure] = []
        form = unit.form
        self._aside = [
            Stretch(form.read(low), form.read(high)) for low, high in bookmark.fact("aside")
        ]
        self._looked: list[Any] | None = None
        """When this run reads the lookback, and of how many seconds; None if it does not."""
        coverage, running = bookmark.coverage, unit.place(bounds.running)
        coverage.move_floor()
        back = max(int(slack * coverages.DAY), self._lookback(lookback, now))
        if max(coverage.start, (coverage.top or coverage.start) - back) <= running:
            coverage.begin(running, back)

    def _lookback(self, days: float, now: datetime) -> int:
        """Return how far before `top` to begin, in microseconds: 0 if that is not due."""
        top, running = self.bookmark.coverage.top, self._unit.place(self.bounds.running)
        # Else an end date, or a clock that went back, keeps the run from reading up to `top`.
        reaches_top = top is None or top <= running
        back, last = int(days * coverages.DAY), self.bookmark.fact("lookback")
        seconds = back // coverages.SECOND  # a whole number: target-csv fails at others in a state
        if top is not None and last:
            at, most = times.parse(last[0]), last[1]
            # A time in the future is a wrong clock's: no reason to wait.
            if reaches_top and seconds <= most and timedelta(0) <= now - at < LOOKBACK_INTERVAL:
                return 0
            assert self.zone is not None  # noqa: S101 - local times have one
            back += max(0, top - self._unit.place(self._unit.floor(local(at, self.zone))))
        if reaches_top:
            self._looked = [times.text(now), seconds]
        return back

    @property
    def zone(self) -> tzinfo | None:
        """The page's own time."""
        return self.bounds.running.tzinfo

    def open_days(self) -> set[date]:
        """Return the local days of which something is open."""
        return self._days_of(self.bookmark.coverage.stretches)

    def aside_days(self) -> set[date]:
        """Return the local days that earlier runs, or this one, have set aside."""
        return self._days_of(self._aside)

    def wants(self, span: Span) -> bool:
        """Return whether something of a span is open."""
        low, high = self._range(span)
        return any(one.low <= high and one.high >= low for one in self.bookmark.coverage.stretches)

    def spans(self, most: int) -> Iterator[Span]:
        """Cut what is open into spans, see `spans_of`."""
        return spans_of([self], most)

    def reopen(self) -> None:
        """Open all that was read before: it is to be read again."""
        self.bookmark.coverage.reopen()

    def passed(self, span: Span) -> None:
        """Note that the rows of a span are written."""
        low, high = self._range(span)
        coverage = self.bookmark.coverage
        coverage.close(low, high)
        # Ends of buckets, as the state shows them.
        coverage.stretches = [
            Stretch(stretch.low, max(stretch.low, self._whole(stretch.high)))
            for stretch in coverage.stretches
        ]
        self._aside = without(self._aside, low, high)
        self.read = True
        self.settle()
        self._save()

    def failed(self, span: Span, failure: PageFailed, *, told: bool = False) -> None:
        """Note that a span cannot be read.

        Args:
            span: the days.
            failure: why.
            told: whether that is said of another stream, which the same call is for.

        Raises:
            PageFailed: it is not this span alone, but the stream, that cannot be read.
        """
        self._pending.append(_Failure(span, failure, told))
        new = [one.failure for one in self._pending if not self._is_aside(one.span)]
        if len(new) == MOST_FAILURES:
            if self.read:
                # The next run then reads first what lies behind them.
                self._put_aside()
                self._save()
            raise new[0]

    def finish(self) -> None:
        """Set aside what failed last.

        Raises:
            PageFailed: nothing at all could be read.
        """
        if self._pending and not self.read:
            raise self._pending[0].failure
        self.settle()

    def settle(self) -> None:
        """Set aside what failed, if others of the stream could be read; else wait for that."""
        if not self._pending or not self.read:
            return
        for one in self._pending:
            if not one.told:
                self._tell(one.failure, self._is_aside(one.span))
        self._put_aside()
        self._save()

    def _put_aside(self) -> None:
        for one in self._pending:
            low, high = self._range(one.span)
            if not self._is_aside(one.span):
                self._aside.append(Stretch(low, self._whole(high)))
        self._pending = []

    def _save(self) -> None:
        text = self._unit.form.text
        self.bookmark.save()
        if self._looked is not None:
            # What is not read yet of these days is open, so it is read in any case.
            self.bookmark.note("lookback", self._looked)
        self.bookmark.note(
            "aside", [[text(stretch.low), text(stretch.high)] for stretch in sorted(self._aside)]
        )

    def _is_aside(self, span: Span) -> bool:
        return span.first.date() in self.aside_days()

    def _range(self, span: Span) -> tuple[int, int]:
        """Return where a span begins and ends in the coverage: no further than this run reads."""
        place = self._unit.place
        low = max(place(span.first), self.bookmark.coverage.start)
        return low, min(place(span.after) - 1, place(self.bounds.running))

    def _at(self, place: int) -> datetime:
        assert self.zone is not None  # noqa: S101 - local times have one
        return self._unit.at(place, self.zone)

    def _whole(self, place: int) -> int:
        """Return the beginning of the bucket that a place is in."""
        return self._unit.place(self._unit.floor(self._at(place)))

    def _days_of(self, stretches: Iterable[Stretch]) -> set[date]:
        days: set[date] = set()
        for stretch in stretches:
            day = max(self._at(stretch.low), self.bounds.start).date()
            last = min(self._at(stretch.high), self.bounds.running).date()
            while day <= last:
                days.add(day)
                day += _DAY
        return days


def spans_of(walks: Sequence[BucketWalk], most: int) -> Iterator[Span]:
    """Cut what is open in one of the walks into spans of so many days at most, the newest first.

    What is set aside in all of them comes after everything else. What opens meanwhile comes last.
    """
    asked: set[date] = set()
    bounds, zone = walks[0].bounds, walks[0].zone
    while True:
        opened = [walk.open_days() - asked for walk in walks]
        days = set[date]().union(*opened)
        if not days:
            return
        asked |= days
        first = set[date]().union(
            *(mine - walk.aside_days() for mine, walk in zip(opened, walks, strict=True))
        )
        for part in (first, days - first):
            for low, high in _cut(part, most):
                after = datetime.combine(high + _DAY, datetime.min.time(), zone)
                yield Span(
                    datetime.combine(low, datetime.min.time(), zone),
                    after,
                    newest=after > bounds.running,
                )


def _cut(days: set[date], most: int) -> Iterator[tuple[date, date]]:
    """Cut days into parts without a gap, the newest first: the first and the last day of each."""
    left = sorted(days)
    while left:
        high = low = left.pop()
        while left and low - left[-1] == _DAY and high - low < (most - 1) * _DAY:
            low = left.pop()
        yield low, high


def local(at: datetime, zone: tzinfo) -> datetime:
    """Return a time in a page's own time, or in UTC at the edges of what can be written."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.replace(tzinfo=zone)


def _before(at: datetime, days: float) -> datetime:
    """Return the time so many days before another, but none that cannot be."""
    try:
        return at - timedelta(days=days)
    except OverflowError:
        return BEGINNING
