"""The head of a list: its first answer, checked against the newest row of earlier runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tap_pancake.reading.coverage import DAY, MINUTE, SECOND
from tap_pancake.reading.listing import second
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_pancake.reading.listing import Answer, LiveList
    from tap_pancake.reading.selection import Selection
    from tap_pancake.reading.state import Bookmark

# Number of requests in a run for a head that is older than rows read before.
_TRIES = 3
# Number of runs, over at least a day, after which such a head is accepted: its rows may be deleted.
_DOUBTING_RUNS = 3


class HeadFault(Exception):
    """The newest row of a list is older than a row read before, as in an old copy of the data."""

    def __init__(self, doubt: list[Any]) -> None:
        """Keep the value of `doubt` for the state: the time of the first such run, and a count."""
        super().__init__()
        self.doubt = doubt


class Head:
    """A reader of the first answer of a list."""

    def __init__(
        self, live: LiveList, selection: Selection, end: int | None, warn: Callable[[str], object]
    ) -> None:
        """Load the time of the newest row from the state.

        Args:
            live: the list.
            selection: the streams that read the list, with their bookmarks.
            end: the latest time to read; None is no end.
            warn: a function to log a WARNING about the list.
        """
        self._live = live
        self._selection = selection
        self._end = end
        self._warn = warn
        bookmarks = [share.bookmark for share in selection.shares]
        kept = [str(newest) for bookmark in bookmarks if (newest := bookmark.fact("newest"))]
        self.newest = max(map(times.micros, kept), default=None)
        """The newest time of a row that was read, in microseconds."""
        # A list that came in one answer may do so again.
        self._came_in_one_answer = any(bookmark.fact("rows") for bookmark in bookmarks)
        self._lower_bound = 0
        """The lower bound of the head, in Unix seconds; 0 if there is none."""
        self._doubt: list[Any] = max((b.fact("doubt") for b in bookmarks), key=len, default=[])

    def ask(self) -> tuple[Answer, int]:
        """Request the head.

        Returns:
            The answer, and the time up to which it counts: a second before the request, or earlier.

        Raises:
            HeadFault: the head is older than rows read before, in each answer.
        """
        live = self._live
        low = min(share.next_low for share in self._selection.shares)
        from_top = live.listing.newest_first or self._came_in_one_answer
        query = live.query(since=None if from_top else max(1, second(low)))
        self._lower_bound = 0 if query.since is None else query.since
        answer = live.ask(query)
        tries = 1
        if self._expected is not None and self._is_doubtful(answer):
            self._warn("the newest row is older than one read before: the tap asks again")
        # An empty list is requested once more only: the page may be new.
        while tries < (_TRIES if self._expected else _TRIES - 1) and self._is_doubtful(answer):
            answer = live.ask(query)
            tries += 1
        if not live.listing.newest_first:
            live.evidence.record_bounds(query, answer.rows, ())
        asked, found = live.certain_time(answer.asked - SECOND), live.newest_in(answer.rows)
        if self._expected is not None and self._is_doubtful(answer):
            lags_little = found is not None and found >= self._expected - self._lookback
            if not answer.rows or (live.evidence.ordered and not lags_little):
                self._accept_or_fail(answer.asked)
            # The next run reads what an old copy lacks, if that is not older than its lookback.
            # In a list without a proven order, the newest row may be in another answer.
            if live.evidence.ordered and found is not None:
                asked = min(asked, found)
        if live.evidence.ordered:
            self._record(found)
        return answer, asked if self._end is None else min(asked, self._end)

    def check(self) -> None:
        """Check the newest row of all answers, since the head alone may not show the order.

        Raises:
            HeadFault: the row is older than rows read before.
        """
        if not self._live.listing.newest_first:
            return
        met, expected = self._live.newest, self._expected
        if expected is not None and (met is None or met < expected - self._lookback):
            self._accept_or_fail(self._live.now)
        self._record(met)

    def _record(self, at: int | None) -> None:
        """Record the newest time, unless it is in the future."""
        if at is not None and at >= self._live.now + MINUTE:
            return
        self.newest = max((each for each in (at, self.newest) if each is not None), default=None)

    @property
    def _expected(self) -> int | None:
        """The newest time that was read; None if it may be below the lower bound of the head."""
        if self.newest is None or self.newest < (self._lower_bound + 1) * SECOND:
            return None
        return self.newest

    @property
    def _lookback(self) -> int:
        return min(share.back for share in self._selection.shares)

    def note(self, bookmark: Bookmark) -> None:
        """Write the newest time into the state, for later runs."""
        bookmark.note("newest", None if self.newest is None else times.from_micros(self.newest))
        bookmark.note("doubt", [])

    def _is_doubtful(self, answer: Answer) -> bool:
        """Return whether an answer is empty, or older than rows read before."""
        if not self._live.listing.newest_first:
            return False
        if self._expected is None or not answer.rows:
            return not answer.rows
        found = self._live.newest_in(answer.rows)
        return found is not None and self._live.evidence.allows(1) and found < self._expected

    def _accept_or_fail(self, asked: int) -> None:
        """Accept a head that is older than rows read before, once several runs have seen it.

        Raises:
            HeadFault: too few runs have seen it, or all within a day.
        """
        first, count = self._doubt or [times.from_micros(asked), 0]
        if count + 1 < _DOUBTING_RUNS or asked - times.micros(first) < DAY:
            raise HeadFault([first, count + 1])
        self._warn(
            "the newest rows of an earlier run are not there any more, as several runs over a day"
            " or more have seen: they were deleted in Pancake"
        )
        self.newest = None
