"""The ways to walk a list that moves while it is read: down, up, and page after page.

Each step of a walk proves itself. An answer must be in order, within its bound, and hold rows that
are known already (the *overlap*): then nothing lies between it and what was read before, whether
bounds are inclusive or not, and however many rows an answer holds. And nothing is concluded from
what did not come: a missing overlap, an empty answer and an end are asked for again. Whatever does
not fit is a `Stray`, and the list is then paged through.
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

# So often is asked for what must be there: one answer in a hundred was seen to be empty.
_TRIES = 4


class StepDown:
    """Walks a stretch of a list from its newest row down, a call a step."""

    sign = 1
    """-1 for a walk up."""
    ends = 2
    """So often is asked for what follows the last row of all: here once in the life of a page."""

    def __init__(self, live: LiveList, low: int, high: int) -> None:
        """Begin outside of the stretch.

        Args:
            live: the list.
            low: the walk ends below it.
            high: where it begins, if it is not handed the head.
        """
        self.low = low
        self.high = high
        self.finished = False
        """Whether the last answer that was given was the last one."""
        self._live = live
        self._place = high
        self._known = KnownRows(live)
        self._end = ListEnd(live, self._known)

    def answers(self, head: Answer | None = None) -> Iterator[list[Row]]:
        """Return the rows of each answer that are in the stretch and were not given before.

        Args:
            head: the list's first answer, if the stretch begins there.

        Raises:
            Stray: the list does not sort, filter or go on as it should.
            Unsettled: it moves too fast.
        """
        if head is None:
            rows = self._enter()
            if rows is None and self.sign > 0 and not self._live.listing.bounded:
                # The last row is gone, from which on those without a time, which pass no bound,
                # would have been found.
                msg = "is empty where it had rows before"
                raise Stray(msg)
        else:
            self._check_order()
            self._live.head = head.rows
            if self.sign > 0:
                # Where it demands bounds, rows between those of the head and the stretch may be
                # wanted. Up, an empty head is asked for again as it was.
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
        """Return the query for rows from a time on."""
        return self._live.query(until=min(second(at) + 1, self._live.latest))

    def _is_past(self, row: Row) -> bool:
        """Tell whether a row is behind the stretch."""
        at = self._live.at(row)
        return at is not None and at < self.low

    def _is_out(self, row: Row, query: Query) -> bool:
        """Tell whether a row is where the bound of a query does not allow it."""
        at = self._live.at(row)
        assert query.until is not None  # noqa: S101 - of `_query`
        return at is not None and at >= (query.until + 1) * SECOND

    def _next_gap(self) -> int | None:
        """Return where to go on where the list ends only for its bounds; None if it really does."""
        longest = self._live.listing.longest
        if longest is None:
            return None
        place = (second(self._place) + 1 - longest) * SECOND
        return place if place > self.low else None

    # The walk

    def _enter(self, tries: int = _TRIES) -> list[Row] | None:
        """Ask for the first rows of the stretch, of which none is known; None if there are none."""
        place: int | None = self._place
        while place is not None:
            self._place = place
            for _ in range(tries if self._live.listing.longest is None else 2):
                if rows := self._asked(self._query(place)):
                    return rows
            place = self._next_gap()
        return None

    def _step(self) -> list[Row] | None:
        """Ask for what follows; None if that is nothing."""
        live = self._live
        if live.size < live.listing.page_size and self._is_end():
            return None
        for at in self._places():
            query = self._query(at)
            rows = self._asked(query)
            if not any(map(self._known.has, rows)):
                continue
            if self._leads_on(rows):
                return rows
            if live.is_full or at != self._place:
                return self._page_through(query)
            # The end, it seems.
            follows = live.follow(rows)
            if self._is_end():
                return None
            # What follows it, and what is a second beyond it.
            beyond = self._query(self._place - self.sign * SECOND)
            if self._goes_on(follows, rows) or self._leads_on(self._asked(beyond)):
                return self._page_through(query)
            return self._after_gap()
        msg = "does not continue where an answer ended"
        raise Stray(msg)

    def _is_end(self) -> bool:
        """Tell whether one answer shows that this is the end of all."""
        if self.sign < 0 or not self._end.is_shown():
            return False
        self._check_order()
        return True

    def _goes_on(self, query: Query, rows: list[Row]) -> bool:
        """Tell whether anything new follows an answer, until nothing at all came twice."""
        seen, quiet = set(map(self._live.id, rows)), 0
        while quiet < self.ends:
            rows = self._asked(query)
            if self._leads_on(rows):
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
                self._end.look_past()
            return None
        self._place = place
        return self._enter()

    def _places(self) -> Iterator[int]:
        """Return times to go on from: of the last row, then of rows before it, which may stay."""
        known = [self._live.at(row) or 0 for row in reversed(self._known.rows)]
        yield from [self._place] * 2
        for share in (8, 2, 1):
            yield known[len(known) // share - 1] if len(known) >= share else self._place

    def _page_through(self, query: Query) -> list[Row] | None:
        """Read a second that fills an answer, sweep by sweep, and one row past it.

        Returns:
            All its rows and the first ones past it; None if there is nothing new.
        """
        edge = second(self._place)

        def is_past(row: Row) -> bool:
            at = self._live.at(row)
            return at is not None and (second(at) - edge) * self.sign < 0

        # All that the answer had may have moved away meanwhile.
        sweeps = Sweeps(self._live, query, is_past, may_be_empty=True)
        rows = [row for some in sweeps.rows() for row in some]
        if any(self._is_out(row, query) for row in rows):
            raise Stray(self._outside())
        rows.sort(key=lambda row: self._live.at(row) or 0, reverse=self.sign > 0)
        # Of the rows past it only the nearest: an answer of a copy that lags has others in between.
        inside = [row for row in rows if not is_past(row)]
        rows = inside + [row for row in rows if is_past(row)][:1]
        return rows if self._known.new(rows) else self._after_gap()

    def _asked(self, query: Query) -> list[Row]:
        """Ask once, and learn from the answer.

        Raises:
            Stray: it is not in order, or not within its bound.
        """
        rows = self._live.ask(query).rows
        self._check_order()
        if any(self._is_out(row, query) for row in rows):
            raise Stray(self._outside())
        before = [*self._live.head, *self._known.rows]
        self._live.evidence.see_bounds(query, rows, before)
        self._known.meet(rows)
        return rows

    def _check_order(self) -> None:
        if not self._live.evidence.allows(self.sign):
            msg = f"is not sorted by `{self._live.listing.key}`"
            raise Stray(msg)

    def _outside(self) -> str:
        return f"does not filter by `{self._live.listing.key}`"

    def _leads_on(self, rows: list[Row]) -> bool:
        """Tell whether an answer has a new row beyond the place of the walk."""
        return any(
            (at := self._live.at(row)) is not None and (at - self._place) * self.sign <= 0
            for row in self._known.new(rows)
        )


class StepUp(StepDown):
    """Walks a stretch of a list that is oldest first."""

    sign = -1
    ends = 3  # in each run

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
    def _is_out(self, row: Row, query: Query) -> bool:
        at = self._live.at(row)
        assert query.since is not None  # noqa: S101 - of `_query`
        return at is not None and at < query.since * SECOND

    @override
    def _next_gap(self) -> int | None:
        return None
