"""The ways to walk a list that moves while it is read: down, up, and page after page.

Each step of a walk proves itself. An answer must be in order, within its bound, and hold rows that
are known already (the *overlap*): then nothing lies between it and what was read before, whether
bounds are inclusive or not, and however many rows an answer holds. And nothing is concluded from
what did not come: a missing overlap, an empty answer and an end are asked for again. Whatever does
not fit is a `Stray`, and the list is then paged through.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.reading.coverage import SECOND
from tap_pancake.reading.listing import FIRST_SECOND, Stray, second
from tap_pancake.reading.sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_pancake.reading.listing import Answer, LiveList, Query

    Row = dict[str, Any]

# So often is asked for what must be there: one answer in a hundred was seen to be empty.
_TRIES = 4
# So many rows that were read last are known, and may be the overlap.
_KNOWN = 120


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
        self._known: OrderedDict[str, Row] = OrderedDict()
        self._timeless: set[str] = set()
        self._loose: dict[str, Row] = {}
        """Rows without a time of answers that were only asked to prove something."""

    def answers(self, head: Answer | None = None) -> Iterator[list[Row]]:
        """Give the rows of each answer that are in the stretch and were not given before.

        Args:
            head: the list's first answer, if the stretch begins there.

        Raises:
            Stray: the list does not sort, filter or go on as it should.
            Unsettled: it moves too fast.
        """
        if head is None:
            rows = self._enter()
        else:
            self._check_order()
            self._live.head = head.rows
            # Where it demands bounds, rows between those of the head and the stretch may be wanted.
            self._place = max(self._place, self._live.now)
            rows = head.rows or self._enter(1)
        while rows is not None:
            self.finished = any(map(self._is_past, rows))
            new = [row for row in self._new(rows) if not self._is_past(row)]
            self._remember(rows)
            if self.finished:
                yield new + self._rest()
                return
            yield new
            if head is not None and self._is_all(head):
                break
            head = None
            if not self._known:
                msg = "has rows without a time only"
                raise Stray(msg)
            rows = self._step()
        if rest := self._rest():
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

    def _is_all(self, head: Answer) -> bool:
        """Tell whether a head that is short is all of the list, by what follows it: nothing."""
        live = self._live
        if not live.listing.newest_first or self.sign < 0 or not head.rows:
            return False
        size = len(head.rows) if head.size is None else head.size
        if size >= live.listing.page_size:
            return False
        follows = live.query().after(head.rows, live.listing.row_id, size)
        if live.ask(follows).rows:
            return False
        if size == len(head.rows) > 1:
            # From one row further up: the last one may be gone, and its cursor with it.
            follows = live.query().after(head.rows[:-1], live.listing.row_id)
        known = {live.id(row) for row in head.rows}
        return all(live.id(row) in known for row in live.ask(follows).rows)

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
            if not any(self._is_known(row) for row in rows):
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
        msg = "does not go on where an answer ended"
        raise Stray(msg)

    def _is_end(self) -> bool:
        """Tell whether one answer shows that nothing follows the last row that was read.

        It begins above that row, so that something must come: an empty answer shows nothing.
        """
        live, known = self._live, list(self._known.values())
        if live.listing.bounded or self.sign < 0 or not live.is_steady:
            return False
        # Without a bound, which would leave out rows that have no time.
        found = live.ask(live.query().after(known[:-1] or known, live.listing.row_id)).rows
        self._check_order()
        self._keep(found)
        is_short = len(found) < live.listing.page_size
        is_last = live.id(known[-1]) in set(map(live.id, found))
        return is_short and is_last and all(live.at(row) is None for row in self._new(found))

    def _look_for_timeless(self) -> None:
        """Page past the last row, where rows may follow that have no time and pass no bound."""
        live, known = self._live, list(self._known.values())
        if live.listing.bounded or self.sign < 0:
            return
        for further_up in range(1, _TRIES):
            # The row that is the cursor may be gone.
            query = live.query().after(known[:-further_up] or known[:1], live.listing.row_id)
            found = [
                row
                for rows in Sweeps(live, query, self._is_above, may_be_empty=True).rows()
                for row in rows
            ]
            self._keep(found)
            if any(map(self._is_known, found)):
                return

    def _is_above(self, row: Row) -> bool:
        at = self._live.at(row)
        return at is not None and at > self._place

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
            self._look_for_timeless()
            return None
        self._place = place
        return self._enter()

    def _places(self) -> Iterator[int]:
        """Give times to go on from: of the last row, then of rows before it, which may stay."""
        known = [self._live.at(row) or 0 for row in reversed(self._known.values())]
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
        return rows if self._new(rows) else self._after_gap()

    def _asked(self, query: Query) -> list[Row]:
        """Ask once, and learn from the answer.

        Raises:
            Stray: it is not in order, or not within its bound.
        """
        rows = self._live.ask(query).rows
        self._check_order()
        if any(self._is_out(row, query) for row in rows):
            raise Stray(self._outside())
        before = [*self._live.head, *self._known.values()]
        self._live.evidence.see_bounds(query, rows, before)
        self._keep(rows)
        return rows

    def _check_order(self) -> None:
        if not self._live.evidence.allows(self.sign):
            msg = f"is not sorted by `{self._live.listing.key}`"
            raise Stray(msg)

    def _outside(self) -> str:
        return f"does not filter by `{self._live.listing.key}`"

    # What is known

    def _is_known(self, row: Row) -> bool:
        known = self._known.get(self._live.id(row))
        return known is not None and self._live.at(known) == self._live.at(row)

    def _new(self, rows: list[Row]) -> list[Row]:
        return [
            row
            for row in rows
            if not self._is_known(row) and self._live.id(row) not in self._timeless
        ]

    def _leads_on(self, rows: list[Row]) -> bool:
        """Tell whether an answer has a new row beyond the place of the walk."""
        return any(
            (at := self._live.at(row)) is not None and (at - self._place) * self.sign <= 0
            for row in self._new(rows)
        )

    def _keep(self, rows: list[Row]) -> None:
        self._loose |= {self._live.id(row): row for row in rows if self._live.at(row) is None}

    def _rest(self) -> list[Row]:
        """Return rows without a time that were met and not given."""
        return [row for row_id, row in self._loose.items() if row_id not in self._timeless]

    def _remember(self, rows: list[Row]) -> None:
        for row in rows:
            at = self._live.at(row)
            if at is None:
                self._timeless.add(self._live.id(row))
                continue
            self._known[self._live.id(row)] = row
            self._known.move_to_end(self._live.id(row))
            self._place = at
        while len(self._known) > max(_KNOWN, len(rows)):
            self._known.popitem(last=False)


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
