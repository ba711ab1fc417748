"""A list that is read page after page, since its answers do not show that it can be walked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tap_pancake.reading.coverage import MINUTE
from tap_pancake.reading.listing import FIRST_SECOND, second
from tap_pancake.reading.selection import Part
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tap_pancake.reading.head import Head
    from tap_pancake.reading.listing import Answer, LiveList, Query
    from tap_pancake.reading.selection import Row, Selection
    from tap_pancake.reading.state import Bookmark

WHOLE_AGAIN = 23 * 60 * MINUTE
"""A list is read whole once a day; a daily run may start a little earlier than the one before."""
# One that takes fewer calls is read whole by each run that may have met only a part of the news.
_MANY = 500
# And one that takes so few by each run.
_FEW = 50
# So many sweeps may be led astray by rows that move.
_SWEEPS = 10
# So many sweeps that find nothing new are enough where answers had different lengths.
_QUIET = 3
# So often is asked again for a page that brings nothing new.
_AGAIN = 2


class Unsettled(Exception):
    """A list cannot be read to its end: the text says what it does."""


class Sweeps:
    """Pages through a list, again and again until a sweep finds nothing new.

    A row that moves while it is the cursor, or between two pages, can hide others from one sweep;
    it is in another place in the next one.
    """

    def __init__(
        self,
        live: LiveList,
        query: Query,
        is_past: Callable[[Row], bool],
        *,
        may_be_empty: bool = False,
    ) -> None:
        """Begin with nothing seen.

        Args:
            live: the list.
            query: asks for its first answer.
            is_past: tells of a row that neither it nor what follows it is wanted.
            may_be_empty: whether no other answer has shown that there are rows.
        """
        self._live = live
        self._query = query
        self._is_past = is_past
        self._may_be_empty = may_be_empty
        self._ids: set[int] = set()
        self._seen: set[int] = set()
        self._began = 0
        self._reached = False
        self._ragged = False
        """Whether an answer before the last one was short, as that of a copy that lags may be."""

    def rows(self) -> Iterator[list[Row]]:
        """Return the rows of each answer that no answer before it had, or that have moved since.

        Raises:
            Unsettled: each sweep finds more.
        """
        quiet = 0
        for sweep in range(_SWEEPS):
            found = False
            for rows in self._sweep():
                keys = [hash((self._live.id(row), self._live.at(row))) for row in rows]
                new = [row for key, row in zip(keys, rows, strict=True) if key not in self._seen]
                self._seen.update(keys)
                ids = {hash(self._live.id(row)): row for row in rows}
                unmet = [row for key, row in ids.items() if key not in self._ids]
                self._ids.update(ids)
                found = found or any(self._counts(row) or not sweep for row in unmet)
                yield new
            quiet = quiet + 1 if self._reached and not found else 0
            if quiet and (quiet == _QUIET or not self._ragged):
                return
        msg = "changes faster than it can be read, or gives the same rows again and again"
        raise Unsettled(msg)

    def _counts(self, row: Row) -> bool:
        """Tell whether a new row asks for one more sweep; one touched meanwhile does not."""
        at = self._live.at(row)
        return at is None or at < self._began

    def _sweep(self) -> Iterator[list[Row]]:
        """Page from the top to what is past, or to where nothing more comes."""
        self._reached, self._ragged, self._began = False, False, self._live.now
        query, asked_again, longest = self._query, 0, 0
        here: set[str] = set()
        before: tuple[Query, list[Row]] | None = None
        while True:
            rows = self._live.ask(query).rows
            ids = {self._live.id(row) for row in rows}
            if here.issuperset(ids):
                if asked_again == _AGAIN:
                    # An API may answer with its last page again. But a cursor may lead back, too,
                    # and where one is not heeded, a full answer comes again and again.
                    last = {self._live.id(row) for row in before[1]} if before else set()
                    self._reached = last.issuperset(ids) and not (ids and self._live.is_full)
                    self._reached &= bool(here) or self._may_be_empty
                    return
                asked_again += 1
                if rows:  # pushed down by rows that moved to the top
                    query = self._live.follow(rows)
                elif before is not None and len(before[1]) > 1:
                    # From one row further up: the last one may be gone, or have moved.
                    query = before[0].after(before[1][:-1], self._live.listing.row_id)
                continue
            if before is not None and len(before[1]) < longest:
                self._ragged = True
            longest = max(longest, len(rows))
            yield rows
            here |= ids
            if any(map(self._is_past, rows)):
                self._reached = True
                return
            before, asked_again = (self._live.asked, rows), 0
            query = self._live.follow(rows)


class WholeList:
    """Reads all of a list in whose order nothing can be trusted."""

    def __init__(
        self, live: LiveList, selection: Selection, head: Head, warn: Callable[[str], object]
    ) -> None:
        """Ask for nothing yet.

        Args:
            live: the list.
            selection: decides what is read of each row.
            head: is told when all was read.
            warn: says something about the list to the user.
        """
        self._live = live
        self._selection = selection
        self._head = head
        self._warn = warn
        self._known = {share.bookmark.fact("rows") for share in selection.shares} - {None}
        """Tells the rows of the list when it was read whole."""
        self._in_one: set[tuple[object, ...]] | None = None
        """The ids and times of the rows, if one answer may have held all of them."""
        self._is_read = False
        """Whether the head did."""

    def is_head(self, head: Answer) -> bool:
        """Tell whether the first head of a run is all of a list that shows no order.

        It is if it holds the rows that the list had when it was read whole: by whichever time it
        sorts, newest first, a new row would be above the lowest of them, and a row that was touched
        is one of them, with another time. Oldest first, it would follow. Or if the head is short,
        nothing follows it, and it is the same after that: no row has moved up to the top from where
        it was not seen.
        """
        live, listing = self._live, self._live.listing
        self._in_one = self._marks(head.rows)
        may_be_all = not live.evidence.ordered and self._in_one is not None
        if listing.newest_first and not live.evidence.allows(1):
            may_be_all = False
        if may_be_all and self._digest() in self._known:
            self._is_read = listing.newest_first or live.is_surely_all(head)
        elif may_be_all and not listing.bounded and len(head.rows) < listing.page_size:
            self._is_read = live.is_surely_all(head) and (
                self._in_one == self._marks(live.ask(live.query()).rows)
            )
        return self._is_read

    def from_head(self, head: Sequence[Row]) -> Iterator[Part]:
        """Read a list that is all in its head.

        Raises:
            HeadFault: all of it is older than what was read before.
        """
        yield from map(self._selection.part, head)
        yield self._close(1)

    def _marks(self, rows: Sequence[Row]) -> set[tuple[object, ...]] | None:
        """Return ids and times of rows; None if they cannot be those of a whole list."""
        live, listing = self._live, self._live.listing
        if not listing.is_read_at_once or any(live.at(row) is None for row in rows):
            return None
        return {
            (live.id(row), *(times.micros_or_none(row.get(name)) for name in listing.times))
            for row in rows
        }

    def _digest(self) -> str | None:
        """Tell the rows from others; None if they did not come in one answer, or are ordered."""
        if self._in_one is None or self._live.evidence.ordered:
            return None
        text = "\n".join(sorted(map(repr, self._in_one)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _close(self, calls: int) -> Part:
        """Note that all was read.

        Raises:
            HeadFault: all of it is older than what was read before.
        """
        self._head.check()
        read, sorts = [times.from_micros(self._live.now), calls], self._live.evidence.sorts
        digest = self._digest()

        def note(bookmark: Bookmark) -> None:
            bookmark.note("whole", read)
            bookmark.note("rows", digest)
            bookmark.note("sorts", sorts)
            if (top := bookmark.coverage.top) is not None:
                bookmark.coverage.close(bookmark.coverage.start, top)
            self._head.note(bookmark)

        return Part(then=self._selection.note(note))

    def parts(self) -> Iterator[Part]:
        """Page through all of the list; one that shows its order, down to what was read.

        Raises:
            HeadFault: all of it is older than what was read before.
            Unsettled: it moves too fast.
        """
        live, shares = self._live, self._selection.shares
        low = min(share.plan.lowest for share in shares)
        if not live.evidence.ordered and not self.is_due():
            if self._has_news:
                self._warn(
                    "no answer shows how the list is sorted, so the tap reads all of it, once a day"
                    " since that takes many calls: some changes of today may come tomorrow"
                )
            return

        def is_past(row: Row) -> bool:
            at = live.at(row)
            return live.evidence.sorts == live.listing.key and at is not None and at < low

        calls, queries, first = live.calls, list(self._queries(low)), True
        for sweep in range(_SWEEPS):
            unread = self._selection.unread
            for query in queries:
                whole = live.listing.longest is None and query.since in {None, FIRST_SECOND}
                may_be_empty = live.newest is None or not whole
                for rows in Sweeps(live, query, is_past, may_be_empty=may_be_empty).rows():
                    marks = self._marks(rows)
                    if first:
                        self._in_one, first = marks, False
                    elif marks is None or not marks <= (self._in_one or set()):
                        self._in_one = None
                    yield from map(self._selection.part, rows)
            if live.listing.longest is None or (sweep and self._selection.unread == unread):
                break
            # A row may have moved out of a stretch of time that was to come, to where all was read.
            queries = [live.query()]
        else:
            msg = "changes faster than it can be read"
            raise Unsettled(msg)
        yield self._close(live.calls - calls)

    def _queries(self, low: int) -> Iterator[Query]:
        """Return what asks for all of the list: one query, unless its bounds are limited."""
        listing = self._live.listing
        if listing.longest is None:
            since = None if listing.is_read_at_once else max(FIRST_SECOND, second(low))
            yield self._live.query(since=since)
            return
        # By which time bounds filter may not be known: then an old row may be one touched today.
        last = second(low) if self._live.evidence.filters_shown else listing.first
        query = self._live.query()
        while query.until is not None and query.until >= last:
            yield query
            query = self._live.query(until=query.until - listing.longest)

    @property
    def _has_news(self) -> bool:
        """Whether there may be more to read; the head of a list that sorts otherwise lacks it."""
        evidence = self._live.evidence
        return bool(self._selection.unread) or not (evidence.allows(1) or evidence.allows(-1))

    def is_due(self) -> bool:
        """Tell whether the list was not read whole within a day, or may have news and is short."""
        if self._is_read:
            return False
        for share in self._selection.shares:
            at, calls = share.bookmark.fact("whole") or [None, 0]
            if at is None or self._live.now - times.micros(at) >= WHOLE_AGAIN:
                return True
            if calls <= (_MANY if self._has_news else _FEW):
                return True
        return False
