"""The walks through a list that changes while it is read: down or up, one answer at a time.

Each step of a walk proves itself. An answer must be in order, within its bound, and contain rows of
the answer before (the *overlap*). Then no row lies between the two answers, whether bounds are
inclusive or not, and whatever the page size is. If an overlap is missing, or an answer is empty or
seems to be the last one, the tap requests it again. Any contradiction raises `Stray`, and the list
is then read whole, answer after answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.reading.coverage import SECOND
from tap_pancake.reading.known import KnownRows, ListEnd
from tap_pancake.reading.listing import FIRST_SECOND, Stray, second
from tap_pancake.reading.sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_pancake.reading.listing import Answer, LiveList, Query

    Row = dict[str, Any]

# Number of requests for rows that must be there, since a single answer may be empty by mistake.
_TRIES = 4


class StepDown:
    """A walk through a stretch of a list from its newest row down, one call a step."""

    sign = 1
    """The direction: 1 for a walk down, -1 for a walk up."""
    end_checks = 2
    """Number of answers without a new row that confirm the end: a walk down reaches it only once
    in the life of a page."""

    def __init__(self, live: LiveList, low: int, high: int) -> None:
        """Begin outside of the stretch.

        Args:
            live: the list.
            low: the low end of the stretch.
            high: the high end of the stretch, where the walk begins if it does not get the head.
        """
        self.low = low
        self.high = high
        self.finished = False
        """Whether the answer that was yielded last reaches the end of the stretch."""
        self._live = live
        self._place = high
        self._known = KnownRows(live)
        self._list_end = ListEnd(live, self._known)

    def answers(self, head: Answer | None = None) -> Iterator[list[Row]]:
        """Yield the rows of each answer that are in the stretch and are new.

        Args:
            head: the head of the list, if the stretch begins there.

        Raises:
            Stray: the list does not sort, filter or continue as expected.
            Unsettled: the list changes too fast.
        """
        if head is None:
            rows = self._enter()
            if rows is None and self.sign > 0 and not self._live.listing.bounded:
                # The last row is gone. Rows without a time, which no bound includes, are only found
                # after that row.
                msg = "is empty where it had rows before"
                raise Stray(msg)
        else:
            self._check_order()
            self._live.head = head.rows
            if self.sign > 0:
                # If the list requires bounds, there may be rows between the head and the stretch.
                # A walk up repeats the request of an empty head as it was.
                self._place = max(self._place, self._live.now)
            rows = head.rows or self._enter(1)
        while rows is not None:
            self.finished = any(map(self._is_past, rows))
            new = [row for row in self._known.new(rows) if not self._is_past(row)]
            if (place := self._known.read(rows)) is not None:
                self._place = place
            if self.finished:
                yield new + self._known.loose
                return
            yield new
            if head is not None and self.sign > 0 and self._live.is_all(head):
                break
            head = None
            if not self._known.rows:
                msg = "has only rows without a time"
                raise Stray(msg)
            rows = self._step()
        if rest := self._known.loose:
            yield rest

    # What differs between down and up

    def _query(self, at: int) -> Query:
        """Return the query for rows from a time on, in the direction of the walk."""
        return self._live.query(until=min(second(at) + 1, self._live.latest))

    def _is_past(self, row: Row) -> bool:
        """Return whether a row is beyond the end of the stretch."""
        at = self._live.at(row)
        return at is not None and at < self.low

    def _is_outside(self, row: Row, query: Query) -> bool:
        """Return whether a row is outside of the bound of a query."""
        at = self._live.at(row)
        assert query.until is not None  # noqa: S101 - `_query` sets it
        return at is not None and at >= (query.until + 1) * SECOND

    def _next_gap(self) -> int | None:
        """Return where to go on if the list ends at its bounds only; None if it really ends."""
        longest = self._live.listing.longest
        if longest is None:
            return None
        place = (second(self._place) + 1 - longest) * SECOND
        return place if place > self.low else None

    # The walk

    def _enter(self, tries: int = _TRIES) -> list[Row] | None:
        """Request the first rows of the stretch, without an overlap; None if there are none."""
        place: int | None = self._place
        while place is not None:
            self._place = place
            for _ in range(tries if self._live.listing.longest is None else 2):
                if rows := self._request(self._query(place)):
                    return rows
            place = self._next_gap()
        return None

    def _step(self) -> list[Row] | None:
        """Request the rows that follow; return None if there are none."""
        live = self._live
        if live.size < live.listing.page_size and self._is_end():
            return None
        for at in self._restart_times():
            query = self._query(at)
            rows = self._request(query)
            if not any(map(self._known.has, rows)):
                continue
            if self._leads_beyond(rows):
                return rows
            if live.is_full or at != self._place:
                return self._read_second(query)
            # This seems to be the end.
            follows = live.follow(rows)
            if self._is_end():
                return None
            # Check the rows that follow, and the rows from a second further on.
            beyond = self._query(self._place - self.sign * SECOND)
            if self._has_more(follows, rows) or self._leads_beyond(self._request(beyond)):
                return self._read_second(query)
            return self._after_gap()
        msg = "does not continue where an answer ended"
        raise Stray(msg)

    def _is_end(self) -> bool:
        """Return whether one more answer shows the end of the list."""
        if self.sign < 0 or not self._list_end.is_shown():
            return False
        self._check_order()
        return True

    def _has_more(self, query: Query, rows: list[Row]) -> bool:
        """Return whether new rows follow; `end_checks` answers without one confirm the end."""
        seen, quiet = set(map(self._live.id, rows)), 0
        while quiet < self.end_checks:
            rows = self._request(query)
            if self._leads_beyond(rows):
                return True
            if seen.issuperset(map(self._live.id, rows)):
                quiet += 1
                continue
            seen.update(map(self._live.id, rows))
            query = self._live.follow(rows)
        return False

    def _after_gap(self) -> list[Row] | None:
        if (place := self._next_gap()) is None:
            if self.sign > 0:
                self._list_end.look_past()
            return None
        self._place = place
        return self._enter()

    def _restart_times(self) -> Iterator[int]:
        """Yield times to go on from: the one of the last row, then those of rows before it."""
        read = [self._live.at(row) or 0 for row in reversed(self._known.rows)]
        yield from [self._place] * 2
        for share in (8, 2, 1):
            yield read[len(read) // share - 1] if len(read) >= share else self._place

    def _read_second(self, query: Query) -> list[Row] | None:
        """Read all rows of one second if they fill an answer, sweep by sweep, and one row past it.

        Returns:
            The rows of the second and the first row past it. If none is new, the rows that follow;
            None if there are none.
        """
        edge = second(self._place)

        def is_past(row: Row) -> bool:
            at = self._live.at(row)
            return at is not None and (second(at) - edge) * self.sign < 0

        # All rows of the answer may have moved away meanwhile.
        sweeps = Sweeps(self._live, query, is_past, may_be_empty=True)
        rows = [row for some in sweeps.rows() for row in some]
        if any(self._is_outside(row, query) for row in rows):
            raise Stray(self._filter_fault())
        rows.sort(key=lambda row: self._live.at(row) or 0, reverse=self.sign > 0)
        # Keep only the nearest row past it: an old copy of the data may lack rows in between.
        inside = [row for row in rows if not is_past(row)]
        rows = inside + [row for row in rows if is_past(row)][:1]
        return rows if self._known.new(rows) else self._after_gap()

    def _request(self, query: Query) -> list[Row]:
        """Return the rows of one answer, and record what they show of the list.

        Raises:
            Stray: the answer is not in order, or not within its bound.
        """
        rows = self._live.ask(query).rows
        self._check_order()
        if any(self._is_outside(row, query) for row in rows):
            raise Stray(self._filter_fault())
        before = [*self._live.head, *self._known.rows]
        self._live.evidence.record_bounds(query, rows, before)
        self._known.meet(rows)
        return rows

    def _check_order(self) -> None:
        if not self._live.evidence.allows(self.sign):
            msg = f"is not sorted by `{self._live.listing.key}`"
            raise Stray(msg)

    def _filter_fault(self) -> str:
        return f"does not filter by `{self._live.listing.key}`"

    def _leads_beyond(self, rows: list[Row]) -> bool:
        """Return whether an answer has a new row at or beyond the place of the walk."""
        return any(
            (at := self._live.at(row)) is not None and (at - self._place) * self.sign <= 0
            for row in self._known.new(rows)
        )


class StepUp(StepDown):
    """A walk through a stretch of a list that is oldest first, from its oldest row up."""

    sign = -1
    end_checks = 3  # each run reaches the end

    def __init__(self, live: LiveList, low: int, high: int) -> None:
        """Begin outside of the stretch; the walk ends above `high`."""
        super().__init__(live, low, high)
        self._place = low

    @override
    def _query(self, at: int) -> Query:
        return self._live.query(since=max(FIRST_SECOND, second(at)))

    @override
    def _is_past(self, row: Row) -> bool:
        at = self._live.at(row)
        return at is not None and at > self.high

    @override
    def _is_outside(self, row: Row, query: Query) -> bool:
        at = self._live.at(row)
        assert query.since is not None  # noqa: S101 - `_query` sets it
        return at is not None and at < query.since * SECOND

    @override
    def _next_gap(self) -> int | None:
        return None
