"""Sweeps: reading a list answer after answer, if it does not show an order to walk by."""

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
"""The time after which a list is read whole again, in microseconds: a little less than a day, since
a daily run may start earlier than the run before."""
# Largest number of calls with which each run that may have news reads a list whole.
_MOST_CALLS_WITH_NEWS = 500
# Largest number of calls with which every run reads a list whole.
_MOST_CALLS = 50
# Largest number of sweeps; moving rows can disturb some of them.
_MOST_SWEEPS = 10
# Number of sweeps without a new row that are enough if the answers had different lengths.
_QUIET_SWEEPS = 3
# Number of retries of an answer without a new row.
_RETRIES = 2


class Unsettled(Exception):
    """A list cannot be read to its end: the text says what it does."""


class Sweeps:
    """Passes through all answers of a list, repeated until a sweep finds no new row.

    If a row moves while it is the cursor, or between two answers, a sweep may miss other rows. In
    the next sweep, the row is in another place.
    """

    def __init__(
        self,
        live: LiveList,
        query: Query,
        is_past: Callable[[Row], bool],
        *,
        may_be_empty: bool = False,
    ) -> None:
        """Begin without rows.

        Args:
            live: the list.
            query: the query for the first answer.
            is_past: a function that returns whether a row, and all rows after it, need not be read.
            may_be_empty: whether no other answer has shown that there are rows.
        """
        self._live = live
        self._query = query
        self._is_past = is_past
        self._may_be_empty = may_be_empty
        self._seen_ids: set[int] = set()
        self._seen_keys: set[int] = set()
        self._began = 0
        self._reached_end = False
        self._had_short_answer = False
        """Whether an answer before the last one was short, as an old copy of the data may cause."""

    def rows(self) -> Iterator[list[Row]]:
        """Yield the rows of each answer that are new, or that have another time than before.

        Raises:
            Unsettled: too many sweeps find new rows, or do not reach the end.
        """
        quiet = 0
        for sweep in range(_MOST_SWEEPS):
            found = False
            for rows in self._sweep():
                keys = [hash((self._live.id(row), self._live.at(row))) for row in rows]
                new = [
                    row for key, row in zip(keys, rows, strict=True) if key not in self._seen_keys
                ]
                self._seen_keys.update(keys)
                ids = {hash(self._live.id(row)): row for row in rows}
                unmet = [row for key, row in ids.items() if key not in self._seen_ids]
                self._seen_ids.update(ids)
                found = found or any(self._needs_sweep(row) or not sweep for row in unmet)
                yield new
            quiet = quiet + 1 if self._reached_end and not found else 0
            if quiet and (quiet == _QUIET_SWEEPS or not self._had_short_answer):
                return
        msg = "changes faster than it can be read, or gives the same rows again and again"
        raise Unsettled(msg)

    def _needs_sweep(self, row: Row) -> bool:
        """Return whether a new row requires one more sweep: not if it changed during the sweep."""
        at = self._live.at(row)
        return at is None or at < self._began

    def _sweep(self) -> Iterator[list[Row]]:
        """Yield the answers from the top to a row that is past, or to the end of the list."""
        self._reached_end, self._had_short_answer, self._began = False, False, self._live.now
        query, asked_again, longest = self._query, 0, 0
        sweep_ids: set[str] = set()
        before: tuple[Query, list[Row]] | None = None
        while True:
            rows = self._live.ask(query).rows
            ids = {self._live.id(row) for row in rows}
            if sweep_ids.issuperset(ids):
                if asked_again == _RETRIES:
                    # This is the end if the API repeats its last answer. It is not the end if a
                    # cursor leads back, or if the API ignores it and repeats a full answer.
                    last = {self._live.id(row) for row in before[1]} if before else set()
                    self._reached_end = last.issuperset(ids) and not (ids and self._live.is_full)
                    self._reached_end &= bool(sweep_ids) or self._may_be_empty
                    return
                asked_again += 1
                if rows:  # rows that moved to the top have pushed these down
                    query = self._live.follow(rows)
                elif before is not None and len(before[1]) > 1:
                    # Begin one row further up: the last row may be gone, or have moved.
                    query = before[0].after(before[1][:-1], self._live.listing.row_id)
                continue
            if before is not None and len(before[1]) < longest:
                self._had_short_answer = True
            longest = max(longest, len(rows))
            yield rows
            sweep_ids |= ids
            if any(map(self._is_past, rows)):
                self._reached_end = True
                return
            before, asked_again = (self._live.asked, rows), 0
            query = self._live.follow(rows)


class WholeList:
    """A reader of a whole list whose order is not proven."""

    def __init__(
        self, live: LiveList, selection: Selection, head: Head, warn: Callable[[str], object]
    ) -> None:
        """Begin without a request.

        Args:
            live: the list.
            selection: decides how much of each row is read.
            head: checks and records the newest row when the list is read.
            warn: a function to log a WARNING about the list.
        """
        self._live = live
        self._selection = selection
        self._head = head
        self._warn = warn
        self._last_digests = {share.bookmark.fact("rows") for share in selection.shares} - {None}
        """The digests of the rows of the list when it was last read whole."""
        self._one_answer: set[tuple[object, ...]] | None = None
        """The ids and times of the rows, if one answer may have had all of them."""
        self._head_is_all = False
        """Whether the head had all of them."""

    def is_head(self, head: Answer) -> bool:
        """Return whether the first head of a run is the whole list, if the list shows no order.

        It is the whole list if it has the rows and times that the list had when it was last read
        whole. In a list that is newest first, by whichever time, a new row would be above the
        oldest row, and a changed row would have another time. In a list that is oldest first, a new
        row would follow the head, so one more request checks that.

        It is also the whole list if it is short, nothing follows it, and a second request returns
        the same head: then no row has moved to the top without being seen.
        """
        live, listing = self._live, self._live.listing
        self._one_answer = self._ids_and_times(head.rows)
        may_be_all = not live.evidence.ordered and self._one_answer is not None
        if listing.newest_first and not live.evidence.allows(1):
            may_be_all = False
        if may_be_all and self._digest() in self._last_digests:
            self._head_is_all = listing.newest_first or live.is_surely_all(head)
        elif may_be_all and not listing.bounded and len(head.rows) < listing.page_size:
            self._head_is_all = live.is_surely_all(head) and (
                self._one_answer == self._ids_and_times(live.ask(live.query()).rows)
            )
        return self._head_is_all

    def from_head(self, head: Sequence[Row]) -> Iterator[Part]:
        """Yield the rows of a list whose head is the whole list.

        Raises:
            HeadFault: all rows are older than rows read before.
        """
        yield from map(self._selection.part, head)
        yield self._close(1)

    def _ids_and_times(self, rows: Sequence[Row]) -> set[tuple[object, ...]] | None:
        """Return the ids and times of rows; None if they cannot be the rows of a whole list."""
        live, listing = self._live, self._live.listing
        if not listing.is_read_at_once or any(live.at(row) is None for row in rows):
            return None
        return {
            (live.id(row), *(times.micros_or_none(row.get(name)) for name in listing.times))
            for row in rows
        }

    def _digest(self) -> str | None:
        """Return a digest of the rows; None if they are not from one answer, or have an order."""
        if self._one_answer is None or self._live.evidence.ordered:
            return None
        text = "\n".join(sorted(map(repr, self._one_answer)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _close(self, calls: int) -> Part:
        """Return a part that records that the whole list is read, with a number of calls.

        Raises:
            HeadFault: all rows are older than rows read before.
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
        """Yield the rows of the whole list; if it shows its order, down to the rows read before.

        Raises:
            HeadFault: all rows are older than rows read before.
            Unsettled: the list changes too fast.
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
        for sweep in range(_MOST_SWEEPS):
            unread = self._selection.unread
            for query in queries:
                whole = live.listing.longest is None and query.since in {None, FIRST_SECOND}
                may_be_empty = live.newest is None or not whole
                for rows in Sweeps(live, query, is_past, may_be_empty=may_be_empty).rows():
                    marks = self._ids_and_times(rows)
                    if first:
                        self._one_answer, first = marks, False
                    elif marks is None or not marks <= (self._one_answer or set()):
                        self._one_answer = None
                    yield from map(self._selection.part, rows)
            if live.listing.longest is None or (sweep and self._selection.unread == unread):
                break
            # A row may have moved from a range still to be read to a range already read.
            queries = [live.query()]
        else:
            msg = "changes faster than it can be read"
            raise Unsettled(msg)
        yield self._close(live.calls - calls)

    def _queries(self, low: int) -> Iterator[Query]:
        """Yield the queries for the whole list: one, unless its bounds must be close together."""
        listing = self._live.listing
        if listing.longest is None:
            since = None if listing.is_read_at_once else max(FIRST_SECOND, second(low))
            yield self._live.query(since=since)
            return
        # If it is not shown by which time bounds filter, a row that changed today may be in an old
        # range.
        last = second(low) if self._live.evidence.filters_shown else listing.first
        query = self._live.query()
        while query.until is not None and query.until >= last:
            yield query
            query = self._live.query(until=query.until - listing.longest)

    @property
    def _has_news(self) -> bool:
        """Whether the list may have news: a row was unread, or the head may not have the newest."""
        evidence = self._live.evidence
        return bool(self._selection.unread) or not (evidence.allows(1) or evidence.allows(-1))

    def is_due(self) -> bool:
        """Return whether to read the whole list: after a day, or sooner if it takes few calls."""
        if self._head_is_all:
            return False
        for share in self._selection.shares:
            at, calls = share.bookmark.fact("whole") or [None, 0]
            if at is None or self._live.now - times.micros(at) >= WHOLE_AGAIN:
                return True
            if calls <= (_MOST_CALLS_WITH_NEWS if self._has_news else _MOST_CALLS):
                return True
        return False
