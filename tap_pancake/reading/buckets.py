"""Statistics: whole hours and days of a page's own time, and the walk over them.

Pancake counts by the hour or the day of the page, not of UTC, and asks for ranges in the same time.
So a walk goes over whole local days, from old to new, and each of them belongs to one call. Numbers
are corrected later, and the hour or day that is still running is not complete: the bookmark is the
bucket that was running when everything before it had been read, and the next run begins
`statistics_lookback_days` before it.

Source: reference, sections 3 and 12 to 17.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_pancake.reading.state import Bookmark

USUAL_TIMEZONE = 7.0
"""Hours ahead of UTC of a page that does not say: Vietnam, Thailand and western Indonesia."""
BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)
"""Where statistics begin if nothing tells: before Pancake and its channels did."""

_DAY = timedelta(days=1)
_DAY_MONTH = re.compile(r"(\d{1,2})/(\d{1,2})(?:/(\d{4}))?")


def zone_of(hours: object) -> tzinfo:
    """Give a page's own time from its `timezone`: hours ahead of UTC, maybe negative or fractional.

    The usual one if there is none that can be.
    """
    try:
        # What is no number, or so many hours that there is no such time, raises, as it should.
        return timezone(timedelta(hours=float(hours)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return timezone(timedelta(hours=USUAL_TIMEZONE))


class Unit(Enum):
    """The length of a stream's buckets."""

    HOUR = "hour"
    DAY = "day"

    def floor(self, at: datetime) -> datetime:
        """Give the beginning of the bucket that a local time is in."""
        whole = at.replace(minute=0, second=0, microsecond=0)
        return whole if self is Unit.HOUR else whole.replace(hour=0)

    def text(self, bucket: datetime) -> str:
        """Write a bucket as a replication value: the time in UTC, or the local date."""
        return times.text(bucket) if self is Unit.HOUR else bucket.date().isoformat()

    def read(self, value: str, zone: tzinfo) -> datetime:
        """Read a replication value.

        Raises:
            ValueError: it is none.
        """
        if self is Unit.HOUR:
            return _local(times.parse(value), zone)
        return datetime.combine(date.fromisoformat(value[:10]), datetime.min.time(), zone)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole local days, which one call asks for."""

    first: datetime
    """Midnight, local time."""
    after: datetime
    """The midnight behind the last day."""

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

    def holds(self, at: datetime) -> bool:
        """Tell whether a bucket belongs to this span."""
        return self.first <= at < self.after

    def hour_of(self, text: str) -> datetime:
        """Read an hour of the API, which is local, whatever offset it may be given with.

        Raises:
            ValueError: it is none.
        """
        return datetime.fromisoformat(text).replace(tzinfo=self.zone)

    def day_of(self, label: str) -> datetime | None:
        """Work out the day that a label names: ``D/M/YYYY``, ``D/M``, or an ISO date or time.

        The year of ``D/M`` is the one that lies within the span, or next to it.

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
        for year in {self.first.year, self.after.year}:
            try:
                at = datetime(year, int(month), int(day), tzinfo=self.zone)
            except ValueError:  # such as 29/2 of most years
                continue
            if self.first - _DAY <= at <= self.after:
                return at
        return None


class BucketWalk:
    """What one run reads of one page's statistics, in one stream."""

    def __init__(
        self,
        config: Mapping[str, Any],
        bookmark: Bookmark | None,
        *,
        unit: Unit,
        zone: tzinfo,
        added: str | None,
        now: datetime,
    ) -> None:
        """Decide where to begin.

        Args:
            config: the settings.
            bookmark: the stream's for this page; None if it is not selected.
            unit: the length of its buckets.
            zone: the page's own time.
            added: when the page was added to Pancake, before which there are no statistics.
            now: the start of this walk.
        """
        self._bookmark = bookmark
        self._unit = unit
        # Before a page was added there is nothing, and asking for it can cost a call a day.
        known = [times.parse(config["start_date"])] if config.get("start_date") else []
        known += [_before(times.parse(added), 1)] if added is not None else []
        start = max(known, default=BEGINNING)
        if bookmark is not None and bookmark.value:
            lookback = float(config["statistics_lookback_days"])
            start = max(start, _before(unit.read(bookmark.value, zone), lookback))
        self.start = unit.floor(_local(start, zone))
        """The first bucket that is wanted, in local time."""
        end = times.parse(config["end_date"]) if config.get("end_date") else None
        self._last = None if end is None else unit.floor(_local(end, zone))
        self._running = unit.floor(_local(now if end is None else min(now, end), zone))

    def spans(self, days: int) -> Iterator[Span]:
        """Cut the walk into spans of so many days, up to the end of the running one."""
        first = Unit.DAY.floor(self.start)
        after = Unit.DAY.floor(self._running) + _DAY
        while first < after:
            end = min(first + days * _DAY, after)
            yield Span(first, end)
            first = end

    def wants(self, at: datetime) -> bool:
        """Tell whether a bucket is written."""
        return self.start <= at and (self._last is None or at <= self._last)

    def passed(self, span: Span) -> None:
        """Note that a span, and all that came before it, is done."""
        if self._bookmark is not None:
            self._bookmark.advance(self._unit.text(min(span.after, self._running)))


def _local(at: datetime, zone: tzinfo) -> datetime:
    """Give a time in a page's own time, or in UTC at the edges of what can be written."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.replace(tzinfo=zone)


def _before(at: datetime, days: float) -> datetime:
    """Give the time so many days before another, but none that cannot be."""
    try:
        return at - timedelta(days=days)
    except OverflowError:
        return BEGINNING
