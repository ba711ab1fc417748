"""Statistics: whole hours and days in the page's time zone, and the walk over them.

Pancake counts by hour or day in the page's time zone, not in UTC, and expects ranges in the same
time zone. So a walk goes over whole local days, the newest first, and each day belongs to one call.
The coverage (`coverage.py`) keeps what was read: its `top` is the hour or day that was in progress
when the run read it. That bucket was not complete, so the next run begins with it.

Pancake corrects numbers later. So a run reads the lookback, the last `statistics_lookback_days`,
again, at most every 6 hours. The state keeps the time of that as `lookback`. If a run is killed,
the rest of the lookback stays open. Each lookback begins that many days before the last lookback,
not before the last run. So no correction within these days is missed.

A span of days that cannot be read is set aside: it stays open, the other days are read, and each
later run tries it again after everything else.

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
"""Hours ahead of UTC of a page without a time zone: Vietnam, Thailand and western Indonesia."""
BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)
"""The start of statistics if no other is set: before Pancake and its channels existed."""
MOST_FAILURES = 3
"""Number of failed spans in a row that ends the stream: the rest would probably fail, too."""

LOOKBACK_INTERVAL = timedelta(hours=6)
"""The shortest time between two readings of the lookback."""

HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
# Time zones differ from UTC by whole quarters of an hour, and by at most 14 hours.
_ZONE_STEP = timedelta(minutes=15)
_LARGEST_OFFSET = timedelta(hours=14)
_DAY_MONTH = re.compile(r"(\d{1,2})/(\d{1,2})(?:/(\d{4}))?")


def zone_or_none(hours: object) -> tzinfo | None:
    """Return a page's time zone from its `timezone`: hours ahead of UTC, negative or fractional.

    Returns:
        None if the value is missing or not a possible time zone.
    """
    try:
        # A value that is not a number, or too large, raises one of these errors.
        return timezone(timedelta(hours=float(hours)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def zone_of(hours: object) -> tzinfo:
    """Return a page's time zone from its `timezone`; `USUAL_TIMEZONE` if that is not usable."""
    return zone_or_none(hours) or timezone(timedelta(hours=USUAL_TIMEZONE))


@dataclass(frozen=True)
class PageTimeZone:
    """A page's time zone by its sources, since list-pages may not have it.

    Rows of `user_statistics` show it, because they also have their hour in UTC. That stream is read
    first. Each statistics stream keeps the time zone in its state.
    """

    listed: tzinfo | None
    """The time zone from list-pages."""
    shown: str | None
    """The one from rows of this run, as hours ahead of UTC."""
    kept: str | None
    """The one from rows of an earlier run, as hours ahead of UTC."""

    @property
    def zone(self) -> tzinfo:
        """The page's time zone, or `USUAL_TIMEZONE`."""
        return self.listed or zone_of(self.shown or self.kept)

    @property
    def is_guessed(self) -> bool:
        """Whether no source has it: the assumed one may then be up to 19 hours off."""
        return self.listed is None and self.shown is None and self.kept is None

    @property
    def is_news(self) -> bool:
        """Whether rows of this run show a time zone that the state does not have."""
        return self.listed is None and self.shown is not None and self.shown != self.kept


def ahead_of_utc(at: datetime, digits: object) -> timedelta | None:
    """Return the UTC offset of a local hour, given the same hour in UTC as ``20240102030000``.

    Returns:
        None if the digits are no time, or if no time zone has such a difference.
    """
    try:
        instant = datetime.strptime(str(digits), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    ahead = at.replace(tzinfo=UTC) - instant
    return ahead if abs(ahead) <= _LARGEST_OFFSET and not ahead % _ZONE_STEP else None


def is_day_and_month(label: str) -> bool:
    """Return whether a label is ``D/M``, without a year."""
    found = _DAY_MONTH.fullmatch(label)
    return found is not None and found[3] is None


class Unit(Enum):
    """The length of a stream's buckets."""

    MOMENT = "moment"
    """No buckets: each row has its own time."""
    HOUR = "hour"
    DAY = "day"

    @property
    def form(self) -> Form:
        """The form of a bucket in the state: an hour is a time in UTC, a day is the local date."""
        return DATE if self is Unit.DAY else INSTANT

    def floor(self, at: datetime) -> datetime:
        """Return the beginning of the bucket of a local time."""
        if self is Unit.MOMENT:
            return at
        whole = at.replace(minute=0, second=0, microsecond=0)
        return whole if self is Unit.HOUR else whole.replace(hour=0)

    def place(self, at: datetime) -> int:
        """Return a local time in the unit of a `Coverage`: microseconds since 1970."""
        return times.micros(times.text(at.replace(tzinfo=UTC) if self is Unit.DAY else at))

    def at(self, place: int, zone: tzinfo) -> datetime:
        """Return the local time of a value in a `Coverage`; see `local` for extreme values."""
        at = times.parse(times.from_micros(place))
        return at.replace(tzinfo=zone) if self is Unit.DAY else local(at, zone)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole local days, requested with one call."""

    first: datetime
    """The start of the first day: midnight, local time."""
    after: datetime
    """The end of the last day: the next midnight."""
    newest: bool = False
    """Whether it ends with the current day, so that all later rows belong to it, too."""

    @property
    def zone(self) -> tzinfo | None:
        """The page's time zone."""
        return self.first.tzinfo

    @property
    def since(self) -> int:
        """The first second, in Unix seconds."""
        return math.floor(self.first.timestamp())

    @property
    def until(self) -> int:
        """The last second, in Unix seconds. It leaves out no bucket, inclusive or not."""
        return math.floor(self.after.timestamp()) - 1

    @property
    def date_range(self) -> str:
        """The API's `date_range`, such as ``27/07/2021 00:00:00 - 26/08/2021 23:59:59``."""
        return f"{self.first:%d/%m/%Y} 00:00:00 - {self.after - _DAY:%d/%m/%Y} 23:59:59"

    @property
    def days(self) -> str:
        """The API's `date_range` without times, such as ``20/07/2020 - 20/08/2020``."""
        return f"{self.first:%d/%m/%Y} - {self.after - _DAY:%d/%m/%Y}"

    @property
    def wider(self) -> Span:
        """The span with one more day at both ends.

        If rows have their own hour or day, the tap requests this one: the time zone may be assumed,
        or may have changed, and then the hours of these days are at other times.
        """
        return Span(self.first - _DAY, self.after + _DAY)

    @property
    def halves(self) -> list[Span]:
        """The newer and the older half, in whole days; empty for a single day."""
        days = (self.after - self.first) // _DAY
        if days == 1:
            return []
        middle = self.first + days // 2 * _DAY
        return [Span(middle, self.after, self.newest), Span(self.first, middle)]

    def holds(self, at: datetime) -> bool:
        """Return whether the local time of a bucket is in this span, or after it if `newest`."""
        return self.first <= at and (self.newest or at < self.after)

    def hour_of(self, text: str) -> datetime:
        """Return the local time of an hour in an answer; a UTC offset in the text is ignored.

        Raises:
            ValueError: the text is not a time.
        """
        return datetime.fromisoformat(text).replace(tzinfo=self.zone)

    def day_of(self, label: str) -> datetime | None:
        """Return the day of a label: ``D/M/YYYY``, ``D/M``, or an ISO date or time.

        The year of ``D/M`` is the one that puts the day into the span or up to two days outside of
        it, since `wider` is requested and the time zone may differ.

        Returns:
            Midnight of the day; None if the label shows no day.
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
    """The buckets that a run reads of a page, in the page's time zone."""

    start: datetime
    """The first bucket."""
    running: datetime
    """The last bucket to request: the current one, or the one of `end_date`."""
    last: datetime | None
    """The last bucket to write; None without `end_date`."""

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
        """Return the bounds that the settings and the age of the page give.

        Args:
            config: the settings.
            unit: the length of the stream's buckets.
            zone: the page's time zone.
            added: the time when the page was added to Pancake; it has no statistics before that.
            now: the start of this run.
            slack: the time to begin before `start_date`.
        """
        # A page has nothing before it was added, and the requests for it can cost a call a day.
        starts = [BEGINNING]
        if config.get("start_date"):
            starts += [_days_before(times.parse(config["start_date"]), slack / _DAY)]
        starts += [_days_before(times.parse(added), 1)] if added is not None else []
        end = times.parse(config["end_date"]) if config.get("end_date") else None
        return cls(
            unit.floor(local(max(starts), zone)),
            unit.floor(local(now if end is None else min(now, end), zone)),
            None if end is None else unit.floor(local(end, zone)),
        )

    def hold(self, at: datetime) -> bool:
        """Return whether to write a bucket."""
        return self.start <= at and (self.last is None or at <= self.last)


class _Failure(NamedTuple):
    span: Span
    failure: PageFailed
    is_logged: bool


class BucketWalk:
    """The walk of one run over the statistics of one page, in one stream."""

    def __init__(
        self,
        bookmark: Bookmark,
        bounds: Bounds,
        *,
        unit: Unit,
        now: datetime,
        lookback: float,
        slack: float = 0,
        log_aside: Callable[[PageFailed, bool], object],
    ) -> None:
        """Open the days since the last run. The state changes only when a span is read.

        Args:
            bookmark: the stream's bookmark of this page, with the same start as `bounds`.
            bounds: the buckets to read.
            unit: the length of the stream's buckets.
            now: the start of this run.
            lookback: number of days before the last `top` to read again, at most every 6 hours.
            slack: number of days before the last `top` to read again in each run.
            log_aside: a function to call when a span is set aside: with the error, and with
                whether an earlier run has set the span aside.
        """
        self.bookmark = bookmark
        self.bounds = bounds
        self.has_read = bookmark.coverage.top is not None
        """Whether an earlier run has read something."""
        self.read = False
        """Whether this run has read at least one span."""
        self._unit = unit
        self._log_aside = log_aside
        self._pending: list[_Failure] = []
        form = unit.form
        self._aside = [
            Stretch(form.read(low), form.read(high)) for low, high in bookmark.fact("aside")
        ]
        self._lookback_fact: list[Any] | None = None
        """The start of this run and the seconds of its lookback; None if it reads no lookback."""
        coverage, running = bookmark.coverage, unit.place(bounds.running)
        coverage.move_floor()
        back = max(int(slack * coverages.DAY), self._lookback(lookback, now))
        if max(coverage.start, (coverage.top or coverage.start) - back) <= running:
            coverage.begin(running, back)

    def _lookback(self, days: float, now: datetime) -> int:
        """Return the lookback below `top`, in microseconds; 0 if none is due."""
        top, running = self.bookmark.coverage.top, self._unit.place(self.bounds.running)
        # With an end date, or a clock that went back, the run may end below `top`.
        reaches_top = top is None or top <= running
        back, last = int(days * coverages.DAY), self.bookmark.fact("lookback")
        seconds = back // coverages.SECOND  # a whole number: target-csv fails at others in a state
        if top is not None and last:
            at, most = times.parse(last[0]), last[1]
            # A time in the future comes from a wrong clock, and is no reason to wait.
            if reaches_top and seconds <= most and timedelta(0) <= now - at < LOOKBACK_INTERVAL:
                return 0
            assert self.zone is not None  # noqa: S101 - local times have one
            back += max(0, top - self._unit.place(self._unit.floor(local(at, self.zone))))
        if reaches_top:
            self._lookback_fact = [times.text(now), seconds]
        return back

    @property
    def zone(self) -> tzinfo | None:
        """The page's time zone."""
        return self.bounds.running.tzinfo

    def open_days(self) -> set[date]:
        """Return the local days that are not completely read."""
        return self._days_of(self.bookmark.coverage.stretches)

    def aside_days(self) -> set[date]:
        """Return the local days that earlier runs, or this one, have set aside."""
        return self._days_of(self._aside)

    def wants(self, span: Span) -> bool:
        """Return whether a part of a span is open."""
        low, high = self._range(span)
        return any(one.low <= high and one.high >= low for one in self.bookmark.coverage.stretches)

    def spans(self, most: int) -> Iterator[Span]:
        """Return the open days as spans of at most `most` days; see `spans_of`."""
        return spans_of([self], most)

    def reopen(self) -> None:
        """Open everything that was read before, so that it is read again."""
        self.bookmark.coverage.reopen()

    def span_read(self, span: Span) -> None:
        """Record that the rows of a span are written."""
        low, high = self._range(span)
        coverage = self.bookmark.coverage
        coverage.close(low, high)
        # The state has the beginnings of buckets only.
        coverage.stretches = [
            Stretch(stretch.low, max(stretch.low, self._bucket_start(stretch.high)))
            for stretch in coverage.stretches
        ]
        self._aside = without(self._aside, low, high)
        self.read = True
        self.settle()
        self._save()

    def failed(self, span: Span, failure: PageFailed, *, is_logged: bool = False) -> None:
        """Record that a span cannot be read.

        Args:
            span: the days.
            failure: the error.
            is_logged: whether another stream, read with the same call, has already logged it.

        Raises:
            PageFailed: too many spans failed: the stream cannot be read.
        """
        self._pending.append(_Failure(span, failure, is_logged))
        new = [one.failure for one in self._pending if not self._is_aside(one.span)]
        if len(new) == MOST_FAILURES:
            if self.read:
                # The next run then reads the other days first.
                self._put_aside()
                self._save()
            raise new[0]

    def finish(self) -> None:
        """Set aside the last spans that failed.

        Raises:
            PageFailed: no span could be read.
        """
        if self._pending and not self.read:
            raise self._pending[0].failure
        self.settle()

    def settle(self) -> None:
        """Set aside the spans that failed, once this run has read another span of the stream."""
        if not self._pending or not self.read:
            return
        for one in self._pending:
            if not one.is_logged:
                self._log_aside(one.failure, self._is_aside(one.span))
        self._put_aside()
        self._save()

    def _put_aside(self) -> None:
        for one in self._pending:
            low, high = self._range(one.span)
            if not self._is_aside(one.span):
                self._aside.append(Stretch(low, self._bucket_start(high)))
        self._pending = []

    def _save(self) -> None:
        text = self._unit.form.text
        self.bookmark.save()
        if self._lookback_fact is not None:
            # The state can have it already, since its days that are not read yet are open.
            self.bookmark.note("lookback", self._lookback_fact)
        self.bookmark.note(
            "aside", [[text(stretch.low), text(stretch.high)] for stretch in sorted(self._aside)]
        )

    def _is_aside(self, span: Span) -> bool:
        return span.first.date() in self.aside_days()

    def _range(self, span: Span) -> tuple[int, int]:
        """Return the ends of a span in the coverage, no further than this run reads."""
        place = self._unit.place
        low = max(place(span.first), self.bookmark.coverage.start)
        return low, min(place(span.after) - 1, place(self.bounds.running))

    def _at(self, place: int) -> datetime:
        assert self.zone is not None  # noqa: S101 - local times have one
        return self._unit.at(place, self.zone)

    def _bucket_start(self, place: int) -> int:
        """Return the beginning of the bucket of a value in the coverage."""
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
    """Yield the days that are open in any of the walks, as spans of at most `most` days.

    The newest days come first. Then come the days that are set aside in each walk in which they are
    open, and last the days that open meanwhile.
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
            for low, high in _without_gaps(part, most):
                after = datetime.combine(high + _DAY, datetime.min.time(), zone)
                yield Span(
                    datetime.combine(low, datetime.min.time(), zone),
                    after,
                    newest=after > bounds.running,
                )


def _without_gaps(days: set[date], most: int) -> Iterator[tuple[date, date]]:
    """Yield the first and the last day of runs of days without a gap, the newest run first."""
    left = sorted(days)
    while left:
        high = low = left.pop()
        while left and low - left[-1] == _DAY and high - low < (most - 1) * _DAY:
            low = left.pop()
        yield low, high


def local(at: datetime, zone: tzinfo) -> datetime:
    """Return a time in a time zone; near year 1 or 9999, the same digits in that zone."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.replace(tzinfo=zone)


def _days_before(at: datetime, days: float) -> datetime:
    """Return the time a number of days before another; `BEGINNING` if that is before year 1."""
    try:
        return at - timedelta(days=days)
    except OverflowError:
        return BEGINNING
