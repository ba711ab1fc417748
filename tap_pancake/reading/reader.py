"""ListReader: the order in which one run reads one list of a page.

A run reads the head, then late rows, then the open stretches, the newest first. While it fills in
history, it reads the head again every few minutes. At the end it reads the head until it finds no
unread row. Only then is it certain that no row has moved past the walks.

A `ListReader` runs ahead, in its own thread. It works with its own copies of the coverage, and
yields `Part`s. The lane that writes a part then calls its `then`, which records in the state what
was read. So the state never has more than what is written.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tap_pancake.reading.coverage import Stretch, joined
from tap_pancake.reading.descent import StepDown, StepUp
from tap_pancake.reading.head import HeadFault
from tap_pancake.reading.listing import Stray
from tap_pancake.reading.selection import NEVER, Part, nothing
from tap_pancake.reading.sweeps import Unsettled, WholeList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tap_pancake.reading.head import Head
    from tap_pancake.reading.late import LateRows
    from tap_pancake.reading.listing import Answer, LiveList
    from tap_pancake.reading.selection import Selection
    from tap_pancake.reading.state import Bookmark

READINGS = 10
"""Largest number of readings of the head at the end, while each finds an unread row."""


class Walk:
    """One open stretch of a list that is being read."""

    def __init__(
        self,
        live: LiveList,
        stretch: Stretch,
        sign: int,
        *,
        head: Answer | None = None,
        is_newest: bool = False,
    ) -> None:
        """Begin without a request.

        Args:
            live: the list.
            stretch: the stretch to read.
            sign: 1 to walk down, -1 to walk up.
            head: the head of the list, if the stretch begins there.
            is_newest: whether nothing above it is read, so that a walk up goes on to the end.
        """
        self.stretch = stretch
        high = NEVER if is_newest and sign < 0 else stretch.high
        self.steps = (StepDown if sign > 0 else StepUp)(live, stretch.low, high)
        self.answers = self.steps.answers(head)
        self._down = sign > 0

    def note(self, at: int | None, bookmark: Bookmark) -> None:
        """Record that everything up to a row is read, given the time of the row."""
        if at is None:
            return
        if self._down:
            bookmark.coverage.read(at, self.stretch.high)
        else:
            bookmark.coverage.read_up(self.stretch.low, at)

    def close(self, bookmark: Bookmark) -> None:
        """Record that the whole stretch is read."""
        bookmark.coverage.close(self.stretch.low, self.stretch.high)


class ListReader:
    """A reader of one list of one page, for one run."""

    def __init__(
        self,
        live: LiveList,
        selection: Selection,
        head: Head,
        late: LateRows | None,
        *,
        refresh: float,
        reach: int,
        warn: Callable[[str], object],
    ) -> None:
        """Begin without a request.

        Args:
            live: the list.
            selection: decides how much of each row is read.
            head: reads the head of the list.
            late: reads late rows; None if the list has no order that shows them.
            refresh: seconds after which to read the head again, while history is filled in.
            reach: how far in the past a row may move to, if its new message becomes visible late,
                in microseconds.
            warn: a function to log a WARNING about the list.
        """
        self._live = live
        self._selection = selection
        self._head = head
        self._late = late
        self._whole = WholeList(live, selection, head, warn)
        self._refresh = refresh
        self._reach = reach
        self._warn = warn
        self.after_head: Callable[[], object] = nothing
        """A function that the lane calls when the first head is written."""
        self._walks: list[Walk] = []
        """The walks that are not at their end, the newest first."""
        self._finished_walks: list[Walk] = []
        """The walks at their end, whose rows may have moved to the head meanwhile."""
        self._unread_low = NEVER
        """The low end of the range that earlier runs have not read."""
        self._lowest_met = NEVER
        """The lowest time of a row of this run."""
        self._first_head_at = 0
        """The time of the first head."""
        self._head_read_at: float | None = None
        """The time of the last reading of the head, by `time.monotonic`; None during a reading."""

    def parts(self) -> Iterator[Part]:
        """Yield everything that this run reads of the list.

        Raises:
            HeadFault: the head is older than rows read before.
            Unsettled: the list changes faster than it can be read; the rest stays open.
        """
        try:
            yield from self._parts()
        except HeadFault as fault:
            doubt = fault.doubt
            yield Part(then=self._selection.note(lambda bookmark: bookmark.note("doubt", doubt)))
            raise

    def _parts(self) -> Iterator[Part]:
        try:
            yield from self._read_first_head()
            while self._walks:
                yield from self._step()
            # Walks without required bounds have gone on, and may have shown the order meanwhile.
            is_unproven = self._must_read_whole
            if not is_unproven:
                yield from self._settle()
        except Stray as stray:
            if self._live.listing.newest_first:  # other lists have no expected order
                self._warn(f"the list {stray}: the tap reads all of it")
            yield from self._read_whole()
        else:
            if is_unproven or self._finished_walks:  # no answer has shown their filter
                yield from self._read_whole()

    def _read_whole(self) -> Iterator[Part]:
        yield from self._whole.parts()
        if self._late is not None:
            yield from self._late.parts()

    # The head

    def _read_first_head(self) -> Iterator[Part]:
        """Yield the rows of the first head, and begin the walks through all open stretches."""
        answer, asked = self._ask_head()
        self._first_head_at = asked
        selection = self._selection
        self._unread_low = min(share.unread_low for share in selection.shares)
        note_begin = selection.begin(asked)
        note_late = self._late.begin(asked) if self._late else None

        def note() -> None:
            note_begin()
            if note_late is not None:
                selection.note(note_late)()

        yield Part(then=note)
        if self._whole.is_head(answer):
            yield from self._whole.from_head(answer.rows)
        else:
            stretches = joined(
                stretch for share in selection.shares for stretch in share.plan.stretches
            )
            yield from self._walk(stretches, answer)
        if self._late is not None and answer.rows and not self._late.is_first:
            yield from self._late.parts()
        yield Part(then=self.after_head)

    def _read_head(self, *, deep: bool = False) -> Iterator[Part]:
        """Yield the rows of the head again, and begin the walk down to its last reading."""
        answer, asked = self._ask_head()
        low = min(share.next_low for share in self._selection.shares)
        yield Part(then=self._selection.begin(asked))
        if deep:  # down to the lowest place that an unread row may have moved up to
            low = min(
                low, max(self._unread_low, self._lowest_met + 1, self._first_head_at - self._reach)
            )
        high = max(share.plan.top or asked for share in self._selection.shares)
        yield from self._walk([Stretch(min(low, asked), high)], answer)

    def _ask_head(self) -> tuple[Answer, int]:
        self._head_read_at = None
        return self._head.ask()

    def _walk(self, stretches: Sequence[Stretch], head: Answer) -> Iterator[Part]:
        """Begin walks, and yield the first answer of the newest one.

        If that answer is the whole stretch, no row can have moved, so the walks at their end close.
        """
        listing, sign = self._live.listing, 1 if self._live.evidence.allows(1) else -1
        in_head = sign > 0 or not listing.newest_first
        first = Walk(self._live, stretches[0], sign, head=head if in_head else None, is_newest=True)
        before = [*self._finished_walks]
        self._walks[:0] = [first, *(Walk(self._live, stretch, sign) for stretch in stretches[1:])]
        yield from self._step()
        if self._live.evidence.ordered:
            yield Part(then=self._selection.note(self._head.note))
        self._head_read_at = time.monotonic()
        if self._must_read_whole and (listing.bounded or not listing.newest_first):
            self._walks.clear()
        elif first in self._finished_walks:
            yield from self._close([*before, first])

    @property
    def _must_read_whole(self) -> bool:
        """Whether no answer shows the order of the list, and it is due to be read whole."""
        return not self._live.evidence.ordered and self._whole.is_due()

    # What is below it

    def _step(self) -> Iterator[Part]:
        """Yield the rows of one answer of the newest stretch."""
        walk = self._walks[0]
        rows = next(walk.answers, None)
        for row in rows or ():
            proven = self._live.evidence.sure
            note = self._selection.note(partial(self._note_row, walk, self._live.at(row)))
            yield self._selection.part(row, note if proven else nothing)
            self._lowest_met = min(self._lowest_met, self._live.at(row) or NEVER)
            if self._head_read_at and time.monotonic() - self._head_read_at >= self._refresh:
                yield from self._read_head()
                if self._late is not None:
                    yield from self._late.parts()
        if walk.steps.sign > 0 and not self._live.evidence.filters_shown:
            self._live.probe()
        if rows is None or walk.steps.finished:
            self._walks.remove(walk)
            self._finished_walks.append(walk)

    def _note_row(self, walk: Walk, at: int | None, bookmark: Bookmark) -> None:
        walk.note(at, bookmark)
        self._note_evidence(bookmark)

    def _note_evidence(self, bookmark: Bookmark) -> None:
        """Record what the answers have shown: a later run may meet no row that shows it."""
        bookmark.note("sorts", self._live.evidence.sorts)
        bookmark.note("filters", self._live.evidence.filters)

    def _settle(self) -> Iterator[Part]:
        """Yield the rows of the head, again and again until no row can have moved past the walks.

        Raises:
            Unsettled: the list changes faster than it can be read.
        """
        if all(walk.steps.sign < 0 for walk in self._finished_walks):
            # In a walk up, a row moves to a range that is still to be read.
            yield from self._close(self._finished_walks)
            return
        for reading in range(READINGS):
            unread = self._selection.unread
            # If a message becomes visible late, its row may have moved to any place already read.
            deep = not reading and not self._selection.forgets
            yield from self._read_head(deep=deep)
            if not self._walks:  # the head was the whole stretch
                return
            while self._walks:
                yield from self._step()
            if self._selection.unread == unread:
                yield from self._close(self._finished_walks)
                return
        msg = "changes faster than it can be read"
        raise Unsettled(msg)

    def _close(self, walks: Sequence[Walk]) -> Iterator[Part]:
        """Record that stretches are read, if the answers show the order and the filter."""
        evidence = self._live.evidence
        if not walks or not evidence.sure:
            return
        self._finished_walks = [walk for walk in self._finished_walks if walk not in walks]
        self._head.check()

        def note(bookmark: Bookmark) -> None:
            self._head.note(bookmark)
            for walk in walks:
                walk.close(bookmark)
            self._note_evidence(bookmark)

        yield Part(then=self._selection.note(note))
