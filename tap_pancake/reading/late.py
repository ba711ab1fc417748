"""Rows that become visible late: long after their own time, and so in a range already read.

On TikTok, a conversation was up to 55 hours late (reference, section 24.1). The same list, sorted
by the time when Pancake stored a row, shows all of them. This costs one call on a quiet page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_pancake.reading.coverage import SECOND
from tap_pancake.reading.descent import StepDown
from tap_pancake.reading.listing import Stray
from tap_pancake.reading.selection import Part
from tap_pancake.reading.sweeps import WHOLE_AGAIN, Sweeps
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_pancake.reading.listing import Answer, LiveList
    from tap_pancake.reading.selection import Selection
    from tap_pancake.reading.state import Bookmark

# Number of requests for an answer that must not be empty.
_TRIES = 3


class LateRows:
    """A reader of late rows, by the time when Pancake stored them.

    In this order, a list only grows at its top. A pass goes down to the time of the last pass, less
    the lookback.
    """

    def __init__(
        self,
        main: LiveList,
        live: LiveList,
        selection: Selection,
        warn: Callable[[str], object],
    ) -> None:
        """Begin without a request.

        Args:
            main: the list.
            live: the same list, sorted by the time when rows were stored.
            selection: decides how much of each row is read.
            warn: a function to log a WARNING about the list.
        """
        self._main = main
        self._live = live
        self._selection = selection
        self._warn = warn
        self._given_up = False
        self.is_first = False
        """Whether no run has made a pass. Then the walk below the head finds the late rows."""

    def begin(self, asked: int) -> Callable[[Bookmark], object]:
        """Begin a run, and return a function that records it in a bookmark.

        Args:
            asked: the time when the first head was requested.
        """
        shares = self._selection.shares
        marks = [mark for share in shares if (mark := share.bookmark.fact("late"))]
        self.is_first = not marks
        self._selection.stored_since = min([asked, *map(times.micros, marks)])

        def note(bookmark: Bookmark) -> None:
            bookmark.note("late", bookmark.fact("late") or times.from_micros(asked))

        return note

    def parts(self) -> Iterator[Part]:
        """Yield the rows of one pass.

        Raises:
            Unsettled: the whole list must be read, and changes too fast.
        """
        live, selection = self._live, self._selection
        if self._given_up or selection.stored_since is None:
            return
        began, stray = live.now, None
        try:
            answer = self._ask()
            began = live.certain_time(answer.asked - SECOND)
            for rows in StepDown(live, selection.stored_since, answer.asked).answers(answer):
                yield from map(selection.part, rows)
        except Stray as seen:
            stray = seen
        if stray:
            self._given_up = True
            self._warn(
                f"requested in the order of `{live.listing.key}`, the list {stray}: once a day, the"
                " tap looks for late rows in all of the list"
            )
        if stray or not live.evidence.sure:
            # The list contradicts this order, or does not show it.
            if began - selection.stored_since < WHOLE_AGAIN:
                return
            yield from self._read_whole()
        mark = max(selection.stored_since, began - max(share.back for share in selection.shares))
        selection.stored_since = mark
        text = times.from_micros(mark)
        yield Part(then=selection.note(lambda bookmark: bookmark.note("late", text)))

    def _read_whole(self) -> Iterator[Part]:
        """Yield all rows of the list, or the rows within its bounds."""
        live = self._main if self._live.listing.longest is None else self._live
        empty = self._may_be_empty
        for rows in Sweeps(live, live.query(), lambda _: False, may_be_empty=empty).rows():
            yield from map(self._selection.part, rows)

    @property
    def _may_be_empty(self) -> bool:
        """Whether there may be no row: none was stored within the bounds, or the list is empty."""
        return self._live.listing.longest is not None or self._main.newest is None

    def _ask(self) -> Answer:
        """Return the answer with the rows that were stored last.

        Raises:
            Stray: the answer is empty, although the list has rows.
        """
        for _ in range(_TRIES):
            answer = self._live.ask(self._live.query())
            if answer.rows:
                return answer
        if self._may_be_empty:
            return answer
        msg = "is empty"
        raise Stray(msg)
