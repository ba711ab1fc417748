"""What one run reads of one list of a page, and in which order.

First the head, then rows that came into sight late, then what is open, the newest first. While
history is filled in, the head is read again every few minutes. At the end it is read until nothing
unread is in it: only then is it certain that no row has moved past the walks.

A `ListReader` runs ahead, in a thread of its own. It decides by its own copies of the coverage, and
gives `Part`s; the lane that writes a part then calls its `then`, which notes in the state what was
read. So the state never holds more than what was written.
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
"""So often is the head read again at the end, while each reading finds something unread."""


class Walk:
    """One stretch of a list on its way from open to read."""

    def __init__(
        self,
        live: LiveList,
        stretch: Stretch,
        sign: int,
        *,
        head: Answer | None = None,
        is_newest: bool = False,
    ) -> None:
        """Begin it.

        Args:
            live: the list.
            stretch: what is to be read.
            sign: 1 to walk down, -1 to walk up.
            head: the list's first answer, if the stretch begins there.
            is_newest: whether nothing was read above it, so that a walk up goes on to the end.
        """
        self.stretch = stretch
        high = NEVER if is_newest and sign < 0 else stretch.high
        self.steps = (StepDown if sign > 0 else StepUp)(live, stretch.low, high)
        self.answers = self.steps.answers(head)
        self._down = sign > 0

    def note(self, at: int | None, bookmark: Bookmark) -> None:
        """Note that all up to a row was read."""
        if at is None:
            return
        if self._down:
            bookmark.coverage.read(at, self.stretch.high)
        else:
            bookmark.coverage.read_up(self.stretch.low, at)

    def close(self, bookmark: Bookmark) -> None:
        """Note that all of it was read."""
        bookmark.coverage.close(self.stretch.low, self.stretch.high)


class ListReader:
    """Reads one list of one page, in one run."""

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
        """Ask for nothing yet.

        Args:
            live: the list.
            selection: decides what is read of each row.
            head: reads the list's first answer.
            late: reads what came into sight late; None if the list cannot be asked for that.
            refresh: seconds after which the head is read again, while history comes.
            reach: how far in the past a row may move to, by a platform's own time, in microseconds.
            warn: says something about the list to the user.
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
        """Is called by the lane when the first head was written."""
        self._walks: list[Walk] = []
        """On their way, the newest first."""
        self._walked: list[Walk] = []
        """Read to their end; rows may have moved from them to the head meanwhile."""
        self._unread_low = NEVER
        """Where the lowest stretch begins that no earlier run has read."""
        self._lowest = NEVER
        """The lowest time of a row that was met."""
        self._began = 0
        """When the first head was asked for."""
        self._head_read: float | None = None
        """When the head was read last; None while it is."""

    def parts(self) -> Iterator[Part]:
        """Read all that is to be read.

        Raises:
            HeadFault: the head is older than what was read before.
            Unsettled: it moves faster than it can be read; what is missing stays open.
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
            # Without bounds, a walk that went on may have shown it meanwhile.
            is_unproven = self._must_read_whole
            if not is_unproven:
                yield from self._settle()
        except Stray as stray:
            if self._live.listing.newest_first:  # else no order was promised
                self._warn(f"the list {stray}: the tap reads all of it")
            yield from self._read_whole()
        else:
            if is_unproven or self._walked:  # whose filter no answer has shown
                yield from self._read_whole()

    def _read_whole(self) -> Iterator[Part]:
        yield from self._whole.parts()
        if self._late is not None:
            yield from self._late.parts()

    # The head

    def _read_first_head(self) -> Iterator[Part]:
        """Read the head, and open what is below it."""
        answer, asked = self._ask_head()
        self._began = asked
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
        """Read the head again, down to where it was read last."""
        answer, asked = self._ask_head()
        low = min(share.next_low for share in self._selection.shares)
        yield Part(then=self._selection.begin(asked))
        if deep:  # as far as a row may have moved up to, out of what was unread
            low = min(low, max(self._unread_low, self._lowest + 1, self._began - self._reach))
        high = max(share.plan.top or asked for share in self._selection.shares)
        yield from self._walk([Stretch(min(low, asked), high)], answer)

    def _ask_head(self) -> tuple[Answer, int]:
        self._head_read = None
        return self._head.ask()

    def _walk(self, stretches: Sequence[Stretch], head: Answer) -> Iterator[Part]:
        """Begin to walk; if the head is all there is in the first stretch, nothing has moved."""
        listing, sign = self._live.listing, 1 if self._live.evidence.allows(1) else -1
        in_head = sign > 0 or not listing.newest_first
        first = Walk(self._live, stretches[0], sign, head=head if in_head else None, is_newest=True)
        before = [*self._walked]
        self._walks[:0] = [first, *(Walk(self._live, stretch, sign) for stretch in stretches[1:])]
        yield from self._step()
        if self._live.evidence.ordered:
            yield Part(then=self._selection.note(self._head.note))
        self._head_read = time.monotonic()
        if self._must_read_whole and (listing.bounded or not listing.newest_first):
            self._walks.clear()
        elif first in self._walked:
            yield from self._close([*before, first])

    @property
    def _must_read_whole(self) -> bool:
        """Whether nothing shows by which time the list sorts, and it may have news."""
        return not self._live.evidence.ordered and self._whole.is_due()

    # What is below it

    def _step(self) -> Iterator[Part]:
        """Read one answer of the newest stretch."""
        walk = self._walks[0]
        rows = next(walk.answers, None)
        for row in rows or ():
            proven = self._live.evidence.sure
            note = self._selection.note(partial(self._note_row, walk, self._live.at(row)))
            yield self._selection.part(row, note if proven else nothing)
            self._lowest = min(self._lowest, self._live.at(row) or NEVER)
            if self._head_read and time.monotonic() - self._head_read >= self._refresh:
                yield from self._read_head()
                if self._late is not None:
                    yield from self._late.parts()
        if walk.steps.sign > 0 and not self._live.evidence.filters_shown:
            self._live.probe()
        if rows is None or walk.steps.finished:
            self._walks.remove(walk)
            self._walked.append(walk)

    def _note_row(self, walk: Walk, at: int | None, bookmark: Bookmark) -> None:
        walk.note(at, bookmark)
        self._note_evidence(bookmark)

    def _note_evidence(self, bookmark: Bookmark) -> None:
        """Keep what was shown: a run that goes on may meet no row that shows it."""
        bookmark.note("sorts", self._live.evidence.sorts)
        bookmark.note("filters", self._live.evidence.filters)

    def _settle(self) -> Iterator[Part]:
        """Read the head until no row can have moved past the walks."""
        if all(walk.steps.sign < 0 for walk in self._walked):
            # Up, a row moves to what is still to be read.
            yield from self._close(self._walked)
            return
        for reading in range(READINGS):
            unread = self._selection.unread
            # Where a platform's own times count, a row may have moved to any place that was read.
            deep = not reading and not self._selection.forgets
            yield from self._read_head(deep=deep)
            if not self._walks:  # the head was all
                return
            while self._walks:
                yield from self._step()
            if self._selection.unread == unread:
                yield from self._close(self._walked)
                return
        msg = "changes faster than it can be read"
        raise Unsettled(msg)

    def _close(self, walks: Sequence[Walk]) -> Iterator[Part]:
        """Note that stretches were read, if the list has shown that they can be trusted."""
        evidence = self._live.evidence
        if not walks or not evidence.sure:
            return
        self._walked = [walk for walk in self._walked if walk not in walks]
        self._head.check()

        def note(bookmark: Bookmark) -> None:
            self._head.note(bookmark)
            for walk in walks:
                walk.close(bookmark)
            self._note_evidence(bookmark)

        yield Part(then=self._selection.note(note))
