"""The head of a list: its newest rows, checked against what was read before."""

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

# What is older than was read before is asked for so often in a run, and believed if so many runs
# over a day see the same: a page can be emptied.
_TRIES = 3
_DOUBTS = 3


class HeadFault(Exception):
    """The newest row of a list is older than one that was read: a fault, or a copy that lags."""

    def __init__(self, doubt: list[Any]) -> None:
        """Carry what the state is to keep of it."""
        super().__init__()
        self.doubt = doubt


class Head:
    """Reads the first answer of a list."""

    def __init__(
        self, live: LiveList, selection: Selection, end: int | None, warn: Callable[[str], object]
    ) -> None:
        """Take from the state what the newest row was.

        Args:
            live: the list.
            selection: whose shares have bookmarks.
            end: nothing newer is read; None is no end.
            warn: says something about the list to the user.
        """
        self._live = live
        self._selection = selection
        self._end = end
        self._warn = warn
        bookmarks = [share.bookmark for share in selection.shares]
        known = [str(newest) for bookmark in bookmarks if (newest := bookmark.fact("newest"))]
        self.newest = max(map(times.micros, known), default=None)
        """The newest time that was read."""
        # What came in one answer may do so again.
        self._is_short = any(bookmark.fact("rows") for bookmark in bookmarks)
        self._since = 0
        """Where the bounds of the head begin, in Unix seconds."""
        self._doubt: list[Any] = max((b.fact("doubt") for b in bookmarks), key=len, default=[])

    def ask(self) -> tuple[Answer, int]:
        """Ask for the head.

        Returns:
            The answer, and up to where it is of use: when it was asked for, less a second.

        Raises:
            HeadFault: it is older than what was read before, again and again.
        """
        live = self._live
        low = min(share.next_low for share in self._selection.shares)
        from_top = live.listing.newest_first or self._is_short
        query = live.query(since=None if from_top else max(1, second(low)))
        self._since = 0 if query.since is None else query.since
        answer = live.ask(query)
        tries = 1
        if self._expected is not None and self._is_doubtful(answer):
            self._warn("the newest row is older than one read before: the tap asks again")
        # An empty list is asked for once more only: its page may be new.
        while tries < (_TRIES if self._expected else _TRIES - 1) and self._is_doubtful(answer):
            answer = live.ask(query)
            tries += 1
        if not live.listing.newest_first:
            live.evidence.see_bounds(query, answer.rows, ())
        asked, found = live.passed(answer.asked - SECOND), live.newest_in(answer.rows)
        if self._expected is not None and self._is_doubtful(answer):
            lags_little = found is not None and found >= self._expected - self._back
            if not answer.rows or (live.evidence.ordered and not lags_little):
                self._doubted(answer.asked)
            # What a copy lacks that lags less than is read again, the next run reads. And without
            # an order, the newest row may be in another answer.
            if live.evidence.ordered and found is not None:
                asked = min(asked, found)
        if live.evidence.ordered:
            self._see(found)
        return answer, asked if self._end is None else min(asked, self._end)

    def check(self) -> None:
        """Check all that was read: a head that does not show its order says nothing.

        Raises:
            HeadFault: it is older than what was read before.
        """
        if not self._live.listing.newest_first:
            return
        met, expected = self._live.newest, self._expected
        if expected is not None and (met is None or met < expected - self._back):
            self._doubted(self._live.now)
        self._see(met)

    def _see(self, at: int | None) -> None:
        """Remember the newest time; one in the future says nothing of what is there."""
        if at is not None and at >= self._live.now + MINUTE:
            return
        self.newest = max((each for each in (at, self.newest) if each is not None), default=None)

    @property
    def _expected(self) -> int | None:
        """The newest time that was read, if the bounds of the head allow for it."""
        if self.newest is None or self.newest < (self._since + 1) * SECOND:
            return None
        return self.newest

    @property
    def _back(self) -> int:
        return min(share.back for share in self._selection.shares)

    def note(self, bookmark: Bookmark) -> None:
        """Keep for later runs what this one has seen."""
        bookmark.note("newest", None if self.newest is None else times.from_micros(self.newest))
        bookmark.note("doubt", [])

    def _is_doubtful(self, answer: Answer) -> bool:
        """Tell whether an answer lacks what must be there, or has nothing at all."""
        if not self._live.listing.newest_first:
            return False
        if self._expected is None or not answer.rows:
            return not answer.rows
        found = self._live.newest_in(answer.rows)
        return found is not None and self._live.evidence.allows(1) and found < self._expected

    def _doubted(self, asked: int) -> None:
        """Believe what several runs over a day have seen.

        Raises:
            HeadFault: they have not.
        """
        first, count = self._doubt or [times.from_micros(asked), 0]
        if count + 1 < _DOUBTS or asked - times.micros(first) < DAY:
            raise HeadFault([first, count + 1])
        self._warn(
            "the newest rows of an earlier run are not there any more, as several runs over a day"
            " or more have seen: they were deleted in Pancake"
        )
        self.newest = None
