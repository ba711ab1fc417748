"""Time windows: how a live list, newest first and cut short, is read without losing a row.

Deep paging through such a list loses rows, since a row that is touched leaves its place and the
rest move up. So time is cut into windows, walked from old to new, one call a window:

- an answer that is full may have been cut at its lower end: what is below it is asked for in
  narrower windows, and only then is it given out itself, if it was kept (`_Kept`);
- each row belongs to exactly one half-open window ``[low, high)``, whatever the server thinks of
  its bounds: it is asked for one second more at the lower end, and the rest is filtered here;
- the last window has no upper end, so a row that was touched during the run, and so left its
  window, is met again there;
- a window of one second that is still full is paged through.

What comes out is sorted by time, so a run can go on where another one stopped.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]

# Of a full answer's rows, the share that a window aims at: room for a busier hour.
_AIM = 2 / 3
# A window grows over empty time, and after one with few rows, at most so much at a time.
_GROWTH = 8
# A list that demands an upper end gets one in the future, so far from now. Nor can a row be touched
# later than that.
_AHEAD = 86_400
# Clocks and rounding: a row this many seconds outside of its window is no sign of anything.
_SLACK = 2
# So many sweeps may be led astray by a cursor that moves.
_PATIENCE = 10
# A row touched within so many seconds can be anywhere in an answer.
_RECENT = 600
# So many full answers are kept at most.
_KEPT = 6


@dataclass(slots=True)
class Cut:
    """How answers of a list are cut and sorted; shared by a stream's pages in one run."""

    rows: int
    """An answer with so many rows may have been cut."""
    proven: int
    """An answer with at most so many rows is known to be whole."""
    ordered: bool = False
    """Whether an answer has shown that the list sorts by the time that was asked for."""
    strayed: bool = False
    """Whether an answer has shown that the list does not filter, or sort, by it."""

    @classmethod
    def of(cls, rows: int) -> Cut:
        """State a cut that is well known, so that a shorter answer needs no second look."""
        return cls(rows=rows, proven=rows - 1)

    @classmethod
    def assumed(cls, rows: int, *, at_least: int) -> Cut:
        """State a cut that may be lower: answers longer than any before are looked at again."""
        return cls(rows=rows, proven=at_least - 1)


def _descending(times: list[float]) -> bool:
    """Tell whether times go from new to old."""
    return all(later >= earlier for later, earlier in pairwise(times))


@dataclass(frozen=True, slots=True)
class Window:
    """What one call asks for. Bounds are Unix seconds; None is no bound."""

    since: int | None
    until: int | None
    page: int = 1
    last_id: str | None = None
    """For lists with a cursor: the id of the last row of the answer before."""
    offset: int = 0
    """For lists with an offset: how many rows the pages before this one had."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The rows of a full answer, which are all that there are in a stretch of time."""

    rows: bytes
    """As JSON again, which takes a fifth of the memory."""
    low: int
    high: int


@dataclass(slots=True)
class _Sweeps:
    """Paging from the newest row down, again and again until a sweep finds nothing new.

    A row that moves while it is the cursor, or between two pages, can hide others from one sweep;
    it is in another place in the next one.
    """

    id: str
    """The field that identifies a row."""
    key: Callable[[Row], Any]
    counts: Callable[[Row], bool]
    """Whether a row that is new asks for one more sweep; one touched meanwhile does not."""
    page: int = 1
    last_id: str | None = None
    offset: int = 0
    finished: bool = False
    repeated: int = 0
    """How many sweeps were led back to rows they had had."""
    _seen: set[Any] = field(default_factory=set)
    _in_this_sweep: set[str] = field(default_factory=set)
    _last: list[str] = field(default_factory=list)
    _found: bool = False

    def take(self, rows: list[Row], *, at_end: bool) -> list[Row]:
        """Move on by one answer; give those of its rows that no sweep had before.

        Args:
            rows: an answer, in the order it came.
            at_end: the rows below this answer are not wanted, or there are none.
        """
        ids = [row[self.id] for row in rows]
        # A list may answer with its last page again. (One led back to its top by a cursor that
        # moved there begins with that row.)
        at_end = at_end or ids == self._last
        self._last = ids
        keys = [self.key(row) for row in rows]
        new = [row for key, row in zip(keys, rows, strict=True) if key not in self._seen]
        self._seen.update(keys)
        self._found = self._found or any(map(self.counts, new))
        if not at_end and not self._in_this_sweep.issuperset(ids):
            self._in_this_sweep.update(ids)
            self.page, self.last_id = self.page + 1, rows[-1][self.id]
            self.offset += len(rows)
            return new
        # A sweep that only came back to where it had been has shown nothing about the rest.
        self.repeated += not at_end
        if at_end and not self._found:
            self.finished = True
        self.page, self.last_id, self.offset, self._found = 1, None, 0, False
        self._in_this_sweep, self._last = set(), []
        return new


class TimeWindows:
    """Walks one list of one page, from a start to now.

    Use: ask for `window`, hand the rows of the answer to `take`, until `finished`.
    """

    def __init__(
        self,
        *,
        start: float | None,
        end: float | None,
        cut: Cut,
        time_of: Callable[[Row], float | None],
        row_id: str = "id",
        longest: int | None = None,
        bounded: bool = False,
        newest_first: bool = False,
        other_time: Callable[[Row], float | None] | None = None,
        settled: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin with one window over everything.

        Args:
            start: Unix seconds; older rows are not given out. None is all there is.
            end: Unix seconds; newer rows are not given out. None is no end.
            cut: the length of a full answer.
            time_of: a row's time in Unix seconds, by which the list sorts and filters.
            row_id: the field that identifies a row.
            longest: seconds that a window may span at most; None is any.
            bounded: the list demands both bounds.
            newest_first: the list is known to be sorted by this time, so that a full answer is all
                there is above its last row. It still must look so.
            other_time: a row's other time, by which the list may sort and filter instead. If given,
                no lower bound is asked for: answers are longer, but show by which time they are. If
                it filters by the other one, the newest rows are above the upper bound. If it sorts
                by the other one, rows that were never touched look the same, so an answer in which
                the two times differ must have shown the order before it says where to stop.
            settled: Unix seconds: rows may still move to where it is later than this.
            clock: Unix seconds now.
        """
        self._start = start
        self._end = end
        self._cut = cut
        self._time_of = time_of
        self._id = row_id
        self._longest = longest
        self._bounded = bounded
        self._newest_first = newest_first
        self._other_time = other_time
        self._settled = settled
        self._clock = clock
        self.low = start or 0.0
        """Unix seconds: every row older than this has been given out."""
        self._width = math.inf
        self._narrowed = False
        self._marks: list[float] = []
        self._marks_top: int | None = None
        self._kept: list[_Kept] = []
        """The lowest is last."""
        self._doubted: list[Row] | None = None
        self._doubted_page = 2
        self._sweeps: _Sweeps | None = None
        self._gathered: list[Row] = []
        self._ordered = True
        self._above: set[str] = set()
        """Rows that were seen above their window, and so must be met again: of a list that may
        filter by another time, since of others it is certain, and such a row was deleted."""
        self._all_below = start is None
        """Whether every row that was there before `low`, by whichever time, has been seen."""
        self.sorted = True
        """Whether rows come oldest first. False once the list is read whole."""
        self.finished = False
        self._empty = False
        self._high: int | None = None
        self._set_high()

    @property
    def window(self) -> Window:
        """What to ask for next."""
        page, last_id, offset = 1, None, 0
        if self._doubted is not None and self._doubted_page > 1:
            page, last_id = self._doubted_page, self._doubted[-1][self._id]
            offset = len(self._doubted)
        elif self._sweeps is not None:
            page, last_id, offset = self._sweeps.page, self._sweeps.last_id, self._sweeps.offset
        since = math.floor(self.low) - 1 if self.sorted and self._other_time is None else 0
        until = self._high if self.sorted else None
        if self._bounded:
            until = math.ceil(self._clock()) + _AHEAD if until is None else until
            return Window(max(since, 0), until, page, last_id, offset)
        return Window(since if since > 0 else None, until, page, last_id, offset)

    def take(self, rows: list[Row], total: int | None = None) -> list[Row]:
        """Move on by one answer.

        Args:
            rows: the answer to `window`, in the order it came.
            total: how many rows the API says there are, on all pages of this window.

        Returns:
            The rows that are now certain, oldest first; often none, sometimes of several answers.

        Raises:
            ValueError: the rows have no times to go by.
        """
        strays = self._strays(rows)
        self._cut.strayed = self._cut.strayed or strays
        self._cut.ordered = self._cut.ordered or self._shows_order(rows)
        if not self.sorted:
            return self._take_whole(rows, total)
        if strays:
            return self._read_whole()
        if self._other_time is not None:
            self._above.update(row[self._id] for row in rows if self._is_above(row))
        if self._doubted is not None:
            return self._settle(rows)
        if self._sweeps is not None:
            return self._page_through(rows)
        answered = getattr(rows, "answered", len(rows))  # with those left out
        full = answered >= self._cut.rows
        cut = full or (answered > self._cut.proven if total is None else answered < total)
        if not (rows and cut) or self._shows_end(rows):
            return self._close(rows)
        if self._below(rows):
            return self._read_whole()
        if full:
            return self._narrow(rows)
        self._doubted, self._doubted_page = rows, 2
        return []

    @property
    def unsettled(self) -> bool:
        """Whether the list moves too much under its cursor to be read to its end."""
        return self._sweeps is not None and self._sweeps.repeated >= _PATIENCE

    def _strays(self, rows: list[Row]) -> bool:
        """Tell whether an answer shows that the list does not filter by the time it sorts by."""
        # A row touched just now may have left its window, or its place, while the answer was made;
        # but most of a full answer has not, and asking for less would never lead past such rows.
        now = self._clock()
        recent = now - _RECENT
        times = self._times(rows)
        full = len(rows) >= self._cut.rows
        above = [at for at in times if at >= (self._high or math.inf) + _SLACK]
        far = any(not recent <= at < now + _AHEAD for at in above)
        if far or (full and 2 * len(above) > len(rows)):
            return True
        if self._other_time is not None:
            settled = [at for at in times if at < recent]
            unsure = full and not settled and not self._cut.ordered
            return not _descending(times if unsure else settled)
        return any(at < self.low - 1 - _SLACK for at in times)

    def _shows_order(self, rows: list[Row]) -> bool:
        """Tell whether an answer is in the order of the time, and not in that of the other one."""
        if self._other_time is None:
            return False
        recent = self._clock() - _RECENT
        times, others = [], []
        for row in rows:
            at, other = self._time_of(row), self._other_time(row)
            if at is not None and other is not None and at < recent:
                times.append(at)
                others.append(other)
        return _descending(times) and not _descending(others)

    @property
    def _knows_order(self) -> bool:
        """Whether rows may be trusted to have none behind them that were touched later."""
        return self._other_time is None or self._cut.ordered or self._all_below

    def _times(self, rows: list[Row]) -> list[float]:
        """Give the times of an answer's rows, in its order, but for those that have none."""
        return [at for row in rows if (at := self._time_of(row)) is not None]

    def _below(self, rows: list[Row]) -> bool:
        """Tell whether an answer reaches back past the window."""
        times = [self._at(row) for row in rows]
        # One touched just now can be anywhere in a list that sorts by another time.
        settled = [at for at in times if at < self._clock() - _RECENT]
        return any(
            bool(some) and some[-1] < self.low and _descending(some) for some in (times, settled)
        )

    def _shows_end(self, rows: list[Row]) -> bool:
        """Tell whether an answer reaches back past the window, so that nothing of it is cut off."""
        return self._below(rows) and self._knows_order

    def _read_whole(self) -> list[Row]:
        """Forget the windows: begin to read the list from its top to its end."""
        self.sorted, self._high, self._doubted, self._gathered = False, None, None, []
        self._sweeps = self._new_sweeps(key=lambda row: (row[self._id], self._time_of(row)))
        return []

    def _settle(self, rows: list[Row]) -> list[Row]:
        """Find out whether an answer was whole: from a second page, and then the first one again.

        An empty second page shows that all rows fit on the first, but not on the one that came
        before it: a row may have moved up meanwhile.
        """
        first, page = self._doubted or [], self._doubted_page
        known = {row[self._id] for row in first}
        fresh = any(row[self._id] not in known for row in rows)
        if page == 2:  # noqa: PLR2004
            if fresh:
                self._doubted, self._cut.rows = None, len(first)
                return self._narrow(first)
            self._doubted_page = 1
            return []
        if fresh:
            self._doubted, self._doubted_page = rows, 2
            return []
        self._doubted = None
        # So many rows can come at once; whether more can is still open.
        self._cut.proven = max(self._cut.proven, len(first) - 1)
        return self._close(rows)

    def _narrow(self, rows: list[Row]) -> list[Row]:
        """Answer to a full window: keep its rows, or just their times, and ask for less."""
        times = sorted(self._times(rows))
        if not times:
            msg = "no row of a full answer has a time that can be read"
            raise ValueError(msg)
        high = self._high or math.ceil(max(self._clock(), times[-1])) + 1
        if high - self.low <= 1:
            self._sweeps = self._new_sweeps(key=lambda row: row[self._id])
            return self._page_through(rows)
        enough = int(times[int(len(times) * _AIM)]) + 1
        if times[0] < times[-1] and self._times(rows) == times and enough < high:
            # A list that is oldest first shows itself where the window should end.
            self._marks, self._high, self._narrowed = [], enough, True
            return []
        # A server that counts `until` in also answers with rows of the next window.
        self._marks, self._marks_top = [at for at in times if at < high], self._high
        oldest = min(int(times[0]) + 1, high)
        self._keep(rows, oldest, high)
        if not (self._narrowed or self._empty) and self.low < oldest < high:
            # All but perhaps a few rows have been seen: ask for those few, and then for the rest.
            self._high = oldest
        else:
            self._high = max(int(self.low) + 1, (int(self.low) + oldest) // 2)
        self._narrowed = True
        return []

    def _keep(self, rows: list[Row], low: int, high: int) -> None:
        """Keep the rows of an answer that was cut off below a time, to give them out in their turn.

        Not what is recent, which may not have come to its place yet: a row that comes there from
        below, where the list has yet to be read, would be in neither.
        """
        high = int(min(high, self._clock() - _RECENT, self._settled))
        if not self._newest_first or low >= high:
            return
        times = self._times(rows)
        if _descending(times) and times[0] > times[-1] and len(times) == len(rows):
            self._kept = [*self._kept[-_KEPT + 1 :], _Kept(msgspec.json.encode(rows), low, high)]

    def _new_sweeps(self, key: Callable[[Row], Any]) -> _Sweeps:
        """Begin to page; rows touched from now on are the next run's."""
        began = self._clock()
        return _Sweeps(id=self._id, key=key, counts=lambda row: self._at(row) < began)

    def _page_through(self, rows: list[Row]) -> list[Row]:
        """Gather all of one second, however many answers that takes."""
        sweeps = self._sweeps
        assert sweeps is not None  # noqa: S101
        at_end = len(rows) < self._cut.rows or self._shows_end(rows)
        self._gathered += sweeps.take(rows, at_end=at_end)
        if not sweeps.finished:
            return []
        gathered, self._gathered, self._sweeps = self._gathered, [], None
        return self._close(gathered)

    def _take_whole(self, rows: list[Row], total: int | None) -> list[Row]:
        """Read a list whole: all of it that is new enough, in its own order."""
        sweeps = self._sweeps
        assert sweeps is not None  # noqa: S101
        times = self._times(rows)
        # What comes out of order may be followed by anything: then the list is read to its end.
        self._ordered = self._ordered and _descending(times)
        old = self._start is not None and min(times, default=math.inf) < self._start
        # An answer may be short for any reason: only an empty one, or `total`, shows the end.
        read = total is not None and sweeps.offset + len(rows) >= total
        at_end = not rows or read or (old and self._ordered and self._knows_order)
        new = sweeps.take(rows, at_end=at_end)
        self.finished = sweeps.finished
        return list(filter(self._wanted, new))

    def _close(self, rows: list[Row]) -> list[Row]:
        """Give out a whole window, and what was kept above it, and go on above both."""
        inside = [row for row in rows if self._inside(self._time_of(row))]
        high = self._high
        while self._kept and self._kept[-1].low == high:
            kept = self._kept.pop()
            rows = msgspec.json.decode(kept.rows)
            inside += [row for row in rows if kept.low <= self._at(row) < kept.high]
            high = kept.high
        inside = sorted(filter(self._wanted, inside), key=self._at)
        self._all_below = True
        self._above.difference_update(row[self._id] for row in inside)
        if high is None or (self._end is not None and high > self._end):
            if self._above:
                return self._read_whole()
            self.finished = True
            return inside
        aim = self._cut.rows * _AIM
        growth = min(_GROWTH, aim / len(inside)) if inside else _GROWTH
        self._width = (high - self.low) * growth
        self.low, self._empty, self._narrowed = float(high), not inside, False
        self._set_high()
        return inside

    def _at(self, row: Row) -> float:
        return self._time_of(row) or 0.0

    def _wanted(self, row: Row) -> bool:
        """Tell whether a row is between start and end; one without a time always is."""
        at = self._time_of(row)
        if at is None:
            return True
        return (self._start is None or at >= self._start) and (self._end is None or at <= self._end)

    def _inside(self, at: float | None) -> bool:
        """Tell whether a row belongs to the present window."""
        if at is None:
            return True
        return self.low <= at and (self._high is None or at < self._high)

    def _is_above(self, row: Row) -> bool:
        """Tell whether a row that is wanted was touched just now, and so left its window."""
        return self._wanted(row) and self._at(row) >= (self._high or math.inf) + _SLACK

    def _set_high(self) -> None:
        """Choose the upper end of the window that begins at `low`; None is open."""
        now = self._clock()
        high = self._guess_high()
        if high is not None and high >= now:
            high = None
        if self._end is not None and self._end < now:
            stop = math.floor(self._end) + 1
            high = stop if high is None else min(high, stop)
        if self._longest is not None:
            longest = int(self.low) + self._longest
            if high is not None:
                high = min(high, longest)
            elif longest < now + _AHEAD:
                high = min(longest, int(now))
        if self._kept:
            high = self._kept[-1].low if high is None else min(high, self._kept[-1].low)
        self._high = high

    def _guess_high(self) -> int | None:
        """Guess where a window that begins at `low` has a good number of rows."""
        ahead = [at for at in self._marks if at >= self.low]
        if ahead and len(ahead) < len(self._marks):
            # Every row from here to the top of the marks has been seen: no need to guess.
            aim = int(self._cut.rows * _AIM)
            return self._marks_top if len(ahead) <= aim else int(ahead[aim - 1]) + 1
        if math.isinf(self._width):
            return None
        low = int(self.low)
        if not ahead:
            return max(low + 1, int(self.low + self._width))
        gap = ahead[0] - self.low
        if self._empty and gap > self._marks[-1] - self._marks[0]:
            # Below the first mark there are rows, but none in the lower half: look in the upper.
            return max(low + 1, int(self.low + gap / 2))
        return max(low + 1, min(int(self.low + self._width), int(ahead[0]) + 1))
