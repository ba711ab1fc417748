"""A list of one page: its facts, its queries and answers, and what the answers show of it.

Nothing here trusts the API's documentation. The answers show by which time a list sorts, and by
which time its bounds filter (`Evidence`). Times are microseconds since 1970, bounds Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from tap_pancake.reading.coverage import SECOND
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Row = dict[str, Any]
    Ask = Callable[["Query"], "Answer"]

    T = TypeVar("T")

FIRST_SECOND = 1
"""The lowest bound to send if the list requires one: 0 may count as no bound."""
_AHEAD = 86_400
"""The furthest that an upper bound may be in the future, in seconds."""


class Stray(Exception):
    """A list does not sort, filter or continue as expected: the text says what it does."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The facts of a list, declared beside its stream."""

    times: tuple[str, ...]
    """The fields that the list may sort and filter by. The first is the order to request, and the
    replication key."""
    row_id: str = "id"
    """The field with the id of a row."""
    stored_at_field: str | None = None
    """The field with the time when Pancake stored a row, if the list can be sorted by it. Rows may
    become visible long after their first time."""
    bounded: bool = False
    """Whether the list requires both bounds."""
    longest: int | None = None
    """The longest distance between its bounds, in seconds; None if there is no limit."""
    first: int = FIRST_SECOND
    """The Unix second of the earliest rows that the list may have."""
    page_size: int = 0
    """Number of rows in a full answer; 0 if unknown. No proof relies on it alone."""
    smallest_page_size: int = 0
    """The smallest page size to request if full answers fail; 0 if the page size is fixed."""
    newest_first: bool = True
    """Whether the newest row is expected first. If not, the head has a lower bound: the time where
    the run begins to read."""

    @property
    def key(self) -> str:
        """The replication key: the time that orders the stream."""
        return self.times[0]

    @property
    def is_read_at_once(self) -> bool:
        """Whether one query reads the whole list, with the rows that are older than this run."""
        return self.longest is None and (self.newest_first or len(self.times) > 1)

    def by_late(self) -> Listing:
        """Return the same list, sorted by the time when rows were stored."""
        assert self.stored_at_field is not None  # noqa: S101 - the caller checks it
        others = (name for name in self.times if name != self.stored_at_field)
        return replace(self, times=(self.stored_at_field, *others), stored_at_field=None)


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one request. Bounds are Unix seconds; None is no bound."""

    order_by: str
    since: int | None = None
    until: int | None = None
    page: int = 1
    last_id: str | None = None
    """The cursor, for lists with one: the id of the last row of the answer before."""
    offset: int = 0
    """The offset, for lists with one: the number of rows that came before."""

    def after(self, rows: Sequence[Row], row_id: str, size: int | None = None) -> Query:
        """Return the query for the rows after an answer.

        Args:
            rows: the rows of the answer.
            row_id: the field with the id of a row.
            size: the number of its rows, with those that are left out; None if none is left out.
        """
        size = len(rows) if size is None else size
        return replace(
            self, page=self.page + 1, last_id=rows[-1][row_id], offset=self.offset + size
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a query."""

    rows: list[Row]
    asked: int
    """The time of the request by the server's clock, or earlier; microseconds since 1970."""
    size: int | None = None
    """The number of rows, with those that are left out; None if none is left out."""
    is_timed: bool = True
    """Whether the server sent its time. If not, `asked` is from the machine's clock, which may be
    wrong."""


def second(at: int) -> int:
    """Return the Unix second of a time in microseconds, rounded down."""
    return at // SECOND


class Evidence:
    """The times by which a list sorts and filters, as far as its answers show them."""

    def __init__(
        self, listing: Listing, sorts: str | None = None, filters: str | None = None
    ) -> None:
        """Begin with what an earlier run has seen.

        Args:
            listing: the facts of the list.
            sorts: the order that an earlier run has seen; None if it has seen none. Only the
                expected order counts: another order may not hold any more.
            filters: the time by which an earlier run has seen the bounds filter; None if it has
                seen none. Only the expected time counts.
        """
        self._listing = listing
        self._orders = {(name, sign) for name in listing.times for sign in (1, -1)}
        for sign in (1,) if listing.newest_first else (1, -1):
            if sorts == _order_text((listing.key, sign)):
                self._orders = {(listing.key, sign)}
        self._filters = {filters} if filters == listing.key else set(listing.times)
        self._bound_used = False

    @property
    def sorts(self) -> str | None:
        """The order of the list, as text; None if more than one is possible, or none."""
        return _order_text(*self._orders) if len(self._orders) == 1 else None

    @property
    def filters(self) -> str | None:
        """The time by which the bounds filter; None if more than one is possible."""
        return next(iter(self._filters)) if len(self._filters) == 1 else None

    @property
    def ordered(self) -> bool:
        """Whether the answers show that the list sorts by its key, in either direction."""
        return len(self._orders) == 1 and all(name == self._listing.key for name, _ in self._orders)

    @property
    def filters_shown(self) -> bool:
        """Whether the answers show that the bounds filter by the key, or no bound was used."""
        return not self._bound_used or self._filters == {self._listing.key}

    @property
    def sure(self) -> bool:
        """Whether the answers show the order, and the filter if a bound was used."""
        return self.ordered and self.filters_shown

    def allows(self, sign: int) -> bool:
        """Return whether the list may sort by its key: newest first, or oldest first if -1."""
        return (self._listing.key, sign) in self._orders

    def record(self, rows: Sequence[Row]) -> None:
        """Exclude the orders that the rows of an answer contradict."""
        for name in self._listing.times:
            found = [at for row in rows if (at := times.micros_or_none(row.get(name))) is not None]
            for sign in (1, -1):
                absent = rows and not found and name != self._listing.key
                if absent or not _in_order(found, sign):
                    self._orders.discard((name, sign))

    def record_bounds(self, query: Query, rows: Sequence[Row], before: Iterable[Row]) -> None:
        """Exclude the filters that an answer contradicts, by the rows that it has or lacks.

        Args:
            query: the query.
            rows: the rows of the answer.
            before: rows of earlier answers.
        """
        self._bound_used = True
        key, ids = self._listing.key, {row[self._listing.row_id] for row in rows}
        missing = [row for row in before if row[self._listing.row_id] not in ids]
        for name in self._filters - {key}:
            # If bounds filtered by this time, the answer would lack a row that it has, or have a
            # row that it lacks.
            if any(not _within(row.get(name), query) for row in rows) or any(
                _within(row.get(name), query) and not _within(row.get(key), query, 2)
                for row in missing
                if times.micros_or_none(row.get(name)) is not None
                and times.micros_or_none(row.get(key)) is not None
            ):
                self._filters = self._filters - {name}


def _within(value: object, query: Query, slack: int = 1) -> bool:
    """Return whether a time is within bounds, with `slack` seconds more, or is no time.

    Bounds may be inclusive or not, and may compare whole seconds.
    """
    at = times.micros_or_none(value)
    if at is None:
        return True
    if query.since is not None and at < (query.since - slack + 1) * SECOND:
        return False
    return query.until is None or at < (query.until + slack) * SECOND


def _order_text(order: tuple[str, int]) -> str:
    name, sign = order
    return name if sign > 0 else f"{name}, oldest first"


def _in_order(found: Sequence[int], sign: int) -> bool:
    return all((later - earlier) * sign >= 0 for later, earlier in pairwise(found))


class LiveList:
    """A list of a page, while a run reads it."""

    def __init__(
        self,
        listing: Listing,
        ask: Ask,
        *,
        now: int,
        sorts: str | None = None,
        filters: str | None = None,
    ) -> None:
        """Begin without a request.

        Args:
            listing: the facts of the list.
            ask: a function that makes one request.
            now: the present time by the machine's clock, in microseconds since 1970.
            sorts: the order that an earlier run has seen; None if it has seen none.
            filters: the time by which an earlier run has seen the bounds filter; None if none.
        """
        self.listing = listing
        self.evidence = Evidence(listing, sorts, filters)
        self.is_full = False
        """Whether the last answer was as long as the longest one, so that more rows may follow."""
        self.is_steady = bool(listing.page_size)
        """Whether each answer before the last one had the full page size."""
        self.size = 0
        """The number of rows of the last answer."""
        self.now = now
        """The latest time of a request by the server's clock, in microseconds since 1970."""
        self.newest: int | None = None
        """The newest time of a row of any answer."""
        self.calls = 0
        """The number of requests."""
        self.asked = Query(listing.key)
        """The last query."""
        self.head: list[Row] = []
        """The rows of the head. The rows that a bound leaves out show by which time it filters."""
        self._is_probed = False
        self._is_timed = True
        self._longest_answer = 0
        self._ask = ask

    def certain_time(self, asked: int) -> int:
        """Return a time that had certainly passed when a request was made.

        Args:
            asked: the time of the request. Without the server's time, it is from the machine's
                clock, which may be hours ahead; then the time of the newest row is the limit.
        """
        return asked if self._is_timed else min(asked, self.newest or 0)

    @property
    def latest(self) -> int:
        """The highest bound to send, in Unix seconds."""
        return second(self.now) + _AHEAD

    def at(self, row: Row) -> int | None:
        """Return the time of a row; None if it has none."""
        return times.micros_or_none(row.get(self.listing.key))

    def newest_in(self, rows: Iterable[Row]) -> int | None:
        """Return the newest time of some rows; None if no row has a time."""
        return max((at for row in rows if (at := self.at(row)) is not None), default=None)

    def id(self, row: Row) -> str:
        """Return the id of a row."""
        return str(row[self.listing.row_id])

    def query(self, since: int | None = None, until: int | None = None) -> Query:
        """Return the query with some bounds, and with the bounds that the list requires."""
        listing = self.listing
        if listing.bounded:
            until = self.latest if until is None else until
            lowest = FIRST_SECOND if listing.longest is None else until - listing.longest
            since = max(lowest, since or FIRST_SECOND)
        return Query(listing.key, since, until)

    def follow(self, rows: Sequence[Row]) -> Query:
        """Return the query for the rows after the last answer."""
        return self.asked.after(rows, self.listing.row_id, self.size)

    def following(self, rows: Sequence[Row], size: int | None = None) -> list[Row]:
        """Request the rows after some rows of the list once, without a bound of the walk.

        Args:
            rows: rows that follow one another.
            size: the number of rows, with those that are left out; None if none is left out.
        """
        return self.ask(self.query().after(rows, self.listing.row_id, size)).rows

    def ask(self, query: Query) -> Answer:
        """Make a request; if the answer has only rows without a time, add the answers after it."""
        first = answer = self._request(query)
        rows = list(answer.rows)
        ids = {self.id(row) for row in rows}
        while answer.rows and all(self.at(row) is None for row in answer.rows):
            answer = self._request(self.follow(answer.rows))
            new = [row for row in answer.rows if self.id(row) not in ids]
            if not new:
                break
            rows += new
            ids.update(map(self.id, new))
        return replace(first, rows=rows)

    def is_all(self, head: Answer) -> bool:
        """Return whether a short head is the whole list: requests show that nothing follows it."""
        size = len(head.rows) if head.size is None else head.size
        if not self.listing.newest_first or not head.rows or size >= self.listing.page_size:
            return False
        if self.following(head.rows, size):
            return False
        if size == len(head.rows) > 1:
            # Begin one row further up: the last row, which is the cursor, may be gone.
            found = self.following(head.rows[:-1])
        else:
            found = self.following(head.rows, size)
        return {*map(self.id, found)}.issubset(map(self.id, head.rows))

    def is_surely_all(self, head: Answer) -> bool:
        """Return whether nothing follows a head, and one more answer has only its last row.

        A list with page numbers has no such answer.
        """
        rows = head.rows
        if len(rows) < 2 or head.size not in {None, len(rows)}:  # noqa: PLR2004
            return False
        if self.following(rows):
            return False
        return [*map(self.id, self.following(rows[:-1]))] == [self.id(rows[-1])]

    def probe(self) -> None:
        """Make a request, at most once, whose answer can show by which time bounds filter.

        This works for a list that is newest first and whose head was read: a row that another time
        lets in would be at the top.
        """
        if self._is_probed:
            return
        others = [name for name in self.listing.times if name != self.listing.key]
        for row in self.head:
            at = self.at(row)
            for other in (times.micros_or_none(row.get(name)) for name in others):
                # A bound between the two times of the row: below its key, above the other time.
                if at is not None and other is not None and second(at) - 2 > second(other):
                    self._is_probed = True
                    self._ask_between_steps(self.query(until=second(at) - 2))
                    return

    def _ask_between_steps(self, query: Query) -> None:
        """Make a request between two steps of a walk, and restore the place of the walk."""
        before = self.asked, self.size, self.is_full, self.is_steady
        rows = self.ask(query).rows
        is_whole = self.size == self.listing.page_size or not self._lacks_head_rows(query, rows)
        self.asked, self.size, self.is_full, self.is_steady = before
        self.is_steady &= is_whole
        self.evidence.record_bounds(query, rows, self.head)

    def _lacks_head_rows(self, query: Query, rows: Sequence[Row]) -> bool:
        """Return whether an answer lacks a row of the head that is certainly within its bound."""
        assert query.until is not None  # noqa: S101 - the caller asks down from a row
        ids = set(map(self.id, rows))
        missing = [self.at(row) for row in self.head if self.id(row) not in ids]
        return any(at is not None and second(at) < query.until for at in missing)

    def _request(self, query: Query) -> Answer:
        self.is_steady &= not self.calls or self.size == self.listing.page_size
        self.calls += 1
        self.asked = query
        answer = self._ask(query)
        self.evidence.record(answer.rows)
        self.size = len(answer.rows) if answer.size is None else answer.size
        self._longest_answer = max(self._longest_answer, self.size)
        self.is_full = self.size == self._longest_answer
        self._is_timed &= answer.is_timed
        # The first answer replaces the machine's time, which may be hours ahead.
        self.now = answer.asked if self.calls == 1 else max(self.now, answer.asked)
        both = (self.newest, self.newest_in(answer.rows))
        self.newest = max((at for at in both if at is not None), default=None)
        return answer
