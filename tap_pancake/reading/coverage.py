"""Coverage: the range of time of a stream and page that is read, and the part that is still open.

Everything from `floor` up to `top` is read, except the open stretches. So the same state works for
a first run with years of history to read, a run every 15 minutes, and a run that was killed:

- a reading of the head moves `top` at once, and opens the stretch above the last reading;
- each row shrinks a stretch, from its high end down, or up if a list is oldest first;
- an earlier start opens a stretch below the floor; below a later start, nothing counts as read.

Times are whole microseconds since 1970, so that they compare exactly. For statistics, they are the
beginnings of hours, or of dates as if these were in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Iterable

BEGINNING = times.micros("0001-01-01T00:00:00")
"""A time before all rows."""
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
MOST = 8
"""Largest number of stretches of a stream and page; if there are more, neighbours are joined."""


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A range of time, both ends included."""

    low: int
    high: int

    def holds(self, at: int) -> bool:
        """Return whether a time is in the stretch."""
        return self.low <= at <= self.high


def joined(stretches: Iterable[Stretch], most: int | None = None) -> list[Stretch]:
    """Join stretches that meet; while more than `most` are left, join the two closest ones.

    Returns:
        Stretches that do not meet, the newest first.
    """
    done: list[Stretch] = []
    for stretch in sorted(stretches):
        if done and stretch.low <= done[-1].high:
            done[-1] = Stretch(done[-1].low, max(done[-1].high, stretch.high))
        else:
            done.append(stretch)
    while most is not None and len(done) > most:
        at = min(range(1, len(done)), key=lambda i: done[i].low - done[i - 1].high)
        done[at - 1 : at + 1] = [Stretch(done[at - 1].low, done[at].high)]
    return done[::-1]


def without(stretches: Iterable[Stretch], low: int, high: int) -> list[Stretch]:
    """Return stretches without the range between two times, both included."""
    left = []
    for stretch in stretches:
        if stretch.high < low or stretch.low > high:
            left.append(stretch)
            continue
        if stretch.low < low:
            left.append(Stretch(stretch.low, low - 1))
        if stretch.high > high:
            left.append(Stretch(high + 1, stretch.high))
    return left


class Coverage:
    """The range of time that is read of one stream and page."""

    def __init__(
        self,
        *,
        top: int | None = None,
        floor: int | None = None,
        stretches: Iterable[Stretch] = (),
        start: int = BEGINNING,
        end: int | None = None,
    ) -> None:
        """Begin with what earlier runs have read.

        Args:
            top: the time up to which everything is read, except the stretches; None before the
                first reading.
            floor: the start of the last run; None if there was none.
            stretches: the open stretches.
            start: the earliest time that this run reads.
            end: the latest time that this run reads; what is above stays as it is. None is no end.
        """
        self.top = top
        self.floor = start if floor is None else floor
        self.start = start
        self.end = end
        self.stretches = joined(stretches, MOST)

    def copy(self) -> Coverage:
        """Return an independent copy."""
        return Coverage(
            top=self.top,
            floor=self.floor,
            stretches=self.stretches,
            start=self.start,
            end=self.end,
        )

    @property
    def lowest(self) -> int:
        """The low end of the lowest open stretch; `top` if none is open."""
        if self.stretches:
            return self.stretches[-1].low
        return BEGINNING if self.top is None else self.top

    def holds(self, at: int) -> bool:
        """Return whether a time is in an open stretch."""
        return any(stretch.holds(at) for stretch in self.stretches)

    def begin(self, top: int, back: int) -> Stretch:
        """Begin a reading of the head: move `top`, and open the stretch above the last reading.

        Args:
            top: the time when the answer was requested.
            back: the lookback below the last `top`, in microseconds.

        Returns:
            The stretch to read.
        """
        low = self.start if self.top is None else max(self.start, self.top - back)
        # The new `top` may be below the old one, if a clock went back, or if an old copy of the
        # data answered. The stretch includes the time in between.
        self.top = top if self.top is None else max(top, self.top)
        stretch = Stretch(min(low, top), self._capped(self.top))
        self._set([*self.stretches, stretch])
        return stretch

    def move_floor(self, high: int | None = None) -> None:
        """Set the floor to the start of this run.

        An earlier start opens the stretch below the old floor. Below a later start, nothing counts
        as read: rows there may change, or move away, without being read.

        Args:
            high: the high end of the stretch that opens; None is the old floor.
        """
        if self.start < self.floor and self.top is not None:
            self._set([*self.stretches, Stretch(self.start, self.floor if high is None else high)])
        self.stretches = without(self.stretches, BEGINNING, self.start - 1)
        self.floor = self.start

    def reopen(self) -> None:
        """Open everything that was read."""
        if self.top is not None:
            self._set([*self.stretches, Stretch(self.floor, self.top)])

    def read(self, low: int, high: int) -> None:
        """Record that everything above `low`, up to `high`, is read; more rows may be at `low`."""
        self._remove(low + 1, high)

    def read_up(self, low: int, high: int) -> None:
        """Record that everything from `low` to below `high` is read; more may be at `high`."""
        self._remove(low, high - 1)

    def close(self, low: int, high: int) -> None:
        """Record that everything from `low` to `high` is read."""
        self._remove(low, high)

    def _capped(self, at: int) -> int:
        return at if self.end is None else min(at, self.end)

    def _remove(self, low: int, high: int) -> None:
        if low <= (high := self._capped(high)):
            self.stretches = without(self.stretches, low, high)

    def _set(self, stretches: Iterable[Stretch]) -> None:
        self.stretches = joined(stretches, MOST)
