"""Coverage: what was read of a stream of a page, and what is still open.

Everything from `floor` up to `top` was read, except the `open` stretches. So one state serves a
first run that is years from its end, a run every quarter of an hour, and a run that was killed:

- a reading of the head opens the stretch above the last one, and moves `top` at once;
- what is read shrinks the stretches, from the newest row down, or up where a list is oldest first;
- an earlier start opens a stretch below, and a later one forgets what is below it.

Times are whole microseconds since 1970, so that they compare exactly. Of statistics they are the
beginnings of hours, or the midnights of dates, as if these were in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Iterable

BEGINNING = times.micros("0001-01-01T00:00:00")
"""Before everything."""
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
MOST = 8
"""So many stretches are kept of a stream of a page; of more, neighbours are joined."""


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A stretch of time, both ends included."""

    low: int
    high: int

    def holds(self, at: int) -> bool:
        """Tell whether a time is in it."""
        return self.low <= at <= self.high


def joined(stretches: Iterable[Stretch], most: int | None = None) -> list[Stretch]:
    """Join stretches that meet, and then, of more than `most`, those with the least between them.

    Returns:
        Stretches with something between them, the newest first.
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
    """Return stretches without what lies between two times, both included."""
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
    """What was read of one stream of one page."""

    def __init__(
        self,
        *,
        top: int | None = None,
        floor: int | None = None,
        stretches: Iterable[Stretch] = (),
        start: int = BEGINNING,
        end: int | None = None,
    ) -> None:
        """Hold what earlier runs have read.

        Args:
            top: up to where all was read but the stretches; None before the first reading.
            floor: where the last run began.
            stretches: what is open.
            start: nothing older is read by this run.
            end: nothing newer is, so that what is above it stays as it was; None is no end.
        """
        self.top = top
        self.floor = start if floor is None else floor
        self.start = start
        self.end = end
        self.stretches = joined(stretches, MOST)

    def copy(self) -> Coverage:
        """Return one that changes by itself."""
        return Coverage(
            top=self.top,
            floor=self.floor,
            stretches=self.stretches,
            start=self.start,
            end=self.end,
        )

    @property
    def lowest(self) -> int:
        """Where the lowest open stretch begins; `top` if none is open."""
        if self.stretches:
            return self.stretches[-1].low
        return BEGINNING if self.top is None else self.top

    def holds(self, at: int) -> bool:
        """Tell whether a time is open."""
        return any(stretch.holds(at) for stretch in self.stretches)

    def begin(self, top: int, back: int) -> Stretch:
        """Begin a reading of the head: move `top`, and open what is above the last reading.

        Args:
            top: when the answer was asked for.
            back: how far before the last `top` to begin, in microseconds.

        Returns:
            The stretch to read.
        """
        low = self.start if self.top is None else max(self.start, self.top - back)
        # A clock may have gone back, or a copy lag: what lies between is met all the same.
        self.top = top if self.top is None else max(top, self.top)
        stretch = Stretch(min(low, top), self._within(self.top))
        self._set([*self.stretches, stretch])
        return stretch

    def move_floor(self, high: int | None = None) -> None:
        """Take the start of this run as the floor.

        An earlier one opens what is below the old floor. Below a later one, nothing counts as read
        any more: rows that are not looked at may change there, or move away unread.

        Args:
            high: where the stretch below ends; None is the old floor.
        """
        if self.start < self.floor and self.top is not None:
            self._set([*self.stretches, Stretch(self.start, self.floor if high is None else high)])
        self.stretches = without(self.stretches, BEGINNING, self.start - 1)
        self.floor = self.start

    def reopen(self) -> None:
        """Open all that was read."""
        if self.top is not None:
            self._set([*self.stretches, Stretch(self.floor, self.top)])

    def read(self, low: int, high: int) -> None:
        """Note that all above `low`, up to `high`, was read; at `low` itself there may be more."""
        self._take(low + 1, high)

    def read_up(self, low: int, high: int) -> None:
        """Note that all from `low` to below `high` was read; at `high` itself there may be more."""
        self._take(low, high - 1)

    def close(self, low: int, high: int) -> None:
        """Note that all from `low` to `high` was read."""
        self._take(low, high)

    def _within(self, at: int) -> int:
        return at if self.end is None else min(at, self.end)

    def _take(self, low: int, high: int) -> None:
        if low <= (high := self._within(high)):
            self.stretches = without(self.stretches, low, high)

    def _set(self, stretches: Iterable[Stretch]) -> None:
        self.stretches = joined(stretches, MOST)
