"""Rows that come into sight late: long after their own time, and so below what was read.

On TikTok a conversation was seen up to 55 hours late (reference, 24.1). The same list in the order
of when rows were stored shows each of them, whatever its delay, at one call on a quiet page.
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

# So often an empty answer is asked for again, where there are rows.
_TRIES = 3


class LateRows:
    """Reads rows that came into sight after their time was read, by when they were stored.

    In this order a list only grows at its top. A pass goes down to where the last one began.
    """

    def __init__(
        self,
        main: LiveList,
        live: LiveList,
        selection: Selection,
        warn: Callable[[str], object],
    ) -> None:
        """Ask for nothing yet.

        Args:
            main: the list.
            live: the same in the order of when rows were stored.
            selection: decides what is read of each row.
            warn: says something about the list to the user.
        """
        self._main = main
        self._live = live
        self._selection = selection
        self._warn = warn
        self._given_up = False
        self.is_first = False
        """Whether no run has made a pass: then what is late is met below the head."""

    def begin(self, asked: int) -> Callable[[Bookmark], object]:
        """Begin a run, whose first head was asked for then; return what to note."""
        shares = self._selection.shares
        marks = [mark for share in shares if (mark := share.bookmark.fact("late"))]
        self.is_first = not marks
        self._selection.stored_since = min([asked, *map(times.micros, marks)])

        def note(bookmark: Bookmark) -> None:
            bookmark.note("late", bookmark.fact("late") or times.from_micros(asked))

        return note

    def parts(self) -> Iterator[Part]:
        """Make one pass.

        Raises:
            Unsettled: all of the list is to be looked through, and cannot be read to its end.
        """
        live, selection = self._live, self._selection
        if self._given_up or selection.stored_since is None:
            return
        began, stray = live.now, None
        try:
            answer = self._ask()
            began = live.passed(answer.asked - SECOND)
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
            # The order is not heeded, or nothing shows that it is.
            if began - selection.stored_since < WHOLE_AGAIN:
                return
            yield from self._look_through()
        mark = max(selection.stored_since, began - max(share.back for share in selection.shares))
        selection.stored_since = mark
        text = times.from_micros(mark)
        yield Part(then=selection.note(lambda bookmark: bookmark.note("late", text)))

    def _look_through(self) -> Iterator[Part]:
        """Read all of the list, or what its bounds allow of it."""
        live = self._main if self._live.listing.longest is None else self._live
        empty = self._may_be_empty
        for rows in Sweeps(live, live.query(), lambda _: False, may_be_empty=empty).rows():
            yield from map(self._selection.part, rows)

    @property
    def _may_be_empty(self) -> bool:
        """Whether within its bounds no row may have been stored, or none is there at all."""
        return self._live.listing.longest is not None or self._main.newest is None

    def _ask(self) -> Answer:
        """Ask for the rows that were stored last; there are some, if the head has shown any."""
        for _ in range(_TRIES):
            answer = self._live.ask(self._live.query())
            if answer.rows:
                return answer
        if self._may_be_empty:
            return answer
        msg = "is empty"
        raise Stray(msg)
