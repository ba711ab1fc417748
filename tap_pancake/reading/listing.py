"""A list of one page: what is known of it, what is asked of it, and what its answers have shown.

Nothing here trusts the documents: which time a list sorts by, and which one its bounds compare, is
read off its answers (`Evidence`). Times are whole microseconds since 1970, bounds whole seconds.
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
"""The lowest bound that is sent where one is demanded: 0 may be taken for none."""
_AHEAD = 86_400
"""Seconds: so far in the future may an upper bound be."""


class Stray(Exception):
    """A list does not sort, filter or go on as it should: the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The facts of a list, declared beside its stream."""

    times: tuple[str, ...]
    """The times that it might sort and filter by. The first is asked for, and orders the stream."""
    row_id: str = "id"
    late: str | None = None
    """The time when Pancake stored a row, if the list can be asked for by it: such rows may come
    into sight long after their first time."""
    bounded: bool = False
    """Whether it demands both bounds."""
    longest: int | None = None
    """Seconds that its bounds may be apart."""
    first: int = FIRST_SECOND
    """The Unix second before which it has no rows."""
    page_size: int = 0
    """Rows that a full answer is known to hold; 0 if that is not known. It is never relied on."""
    least: int = 0
    """Rows that are asked for at least, where full answers fail; 0 if always as many."""
    newest_first: bool = True
    """Whether its newest row is expected first; if not, no more is asked for than is wanted."""

    @property
    def key(self) -> str:
        """The time that orders the stream."""
        return self.times[0]

    @property
    def is_read_at_once(self) -> bool:
        """Whether one query is for all of it; where there is one time, old rows are not wanted."""
        return self.longest is None and (self.newest_first or len(self.times) > 1)

    def by_late(self) -> Listing:
        """Return the same list, ordered by when rows were stored."""
        assert self.late is not None  # noqa: S101 - the caller asked
        others = (name for name in self.times if name != self.late)
        return replace(self, times=(self.late, *others), late=None)


@dataclass(frozen=True, slots=True)
class Query:
    """What one call asks for. Bounds are Unix seconds; None is no bound."""

    order_by: str
    since: int | None = None
    until: int | None = None
    page: int = 1
    last_id: str | None = None
    """For lists with a cursor: the id of the last row of the answer before."""
    offset: int = 0
    """For lists with an offset: how many rows came before."""

    def after(self, rows: Sequence[Row], row_id: str, size: int | None = None) -> Query:
        """Return the query for what follows an answer of so many rows."""
        size = len(rows) if size is None else size
        return replace(
            self, page=self.page + 1, last_id=rows[-1][row_id], offset=self.offset + size
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    rows: list[Row]
    asked: int
    """The server's time when it was asked for, never later than that."""
    size: int | None = None
    """How many rows it held, those that were left out included; None if none was."""
    is_timed: bool = True
    """Whether the server told the time; if not, `asked` is the machine's, which may be wrong."""


def second(at: int) -> int:
    """Return the whole Unix second of a time."""
    return at // SECOND


class Evidence:
    """By which time a list sorts and filters, as far as its answers have shown."""

    def __init__(
        self, listing: Listing, sorts: str | None = None, filters: str | None = None
    ) -> None:
        """Begin with what an earlier run has seen.

        Args:
            listing: of which list.
            sorts: the order that an earlier run has seen, if one has. Only one that is expected
                counts: another may not hold any more.
            filters: the time that its bounds were seen to compare, if they were.
        """
        self._listing = listing
        self._orders = {(name, sign) for name in listing.times for sign in (1, -1)}
        for sign in (1,) if listing.newest_first else (1, -1):
            if sorts == _order_text((listing.key, sign)):
                self._orders = {(listing.key, sign)}
        self._filters = {filters} if filters == listing.key else set(listing.times)
        self._stepped = False

    @property
    def sorts(self) -> str | None:
        """The one order that the list can have, as text; None if that is not shown."""
        return _order_text(*self._orders) if len(self._orders) == 1 else None

    @property
    def filters(self) -> str | None:
        """The one time that its bounds can compare; None if that is not shown."""
        return next(iter(self._filters)) if len(self._filters) == 1 else None

    @property
    def ordered(self) -> bool:
        """Whether it was shown to sort as was asked, in either direction."""
        return len(self._orders) == 1 and all(name == self._listing.key for name, _ in self._orders)

    @property
    def filters_shown(self) -> bool:
        """Whether it was shown to filter as was asked, or no bound was relied on."""
        return not self._stepped or self._filters == {self._listing.key}

    @property
    def sure(self) -> bool:
        """Whether all that was relied on was shown."""
        return self.ordered and self.filters_shown

    def allows(self, sign: int) -> bool:
        """Tell whether the list may be sorted by its first time, newest first or, if -1, last."""
        return (self._listing.key, sign) in self._orders

    def see(self, rows: Sequence[Row]) -> None:
        """Learn from the order of an answer's rows."""
        for name in self._listing.times:
            found = [at for row in rows if (at := times.micros_or_none(row.get(name))) is not None]
            for sign in (1, -1):
                absent = rows and not found and name != self._listing.key
                if absent or not _in_order(found, sign):
                    self._orders.discard((name, sign))

    def see_bounds(self, query: Query, rows: Sequence[Row], before: Iterable[Row]) -> None:
        """Learn from the rows that an answer holds, and from those that it does not.

        Args:
            query: what was asked for.
            rows: the answer.
            before: rows that answers before it had.
        """
        self._stepped = True
        key, ids = self._listing.key, {row[self._listing.row_id] for row in rows}
        missing = [row for row in before if row[self._listing.row_id] not in ids]
        for name in self._filters - {key}:
            # By another time, the answer would not hold this one, or would hold that one.
            if any(not _within(row.get(name), query) for row in rows) or any(
                _within(row.get(name), query) and not _within(row.get(key), query, 2)
                for row in missing
                if times.micros_or_none(row.get(name)) is not None
                and times.micros_or_none(row.get(key)) is not None
            ):
                self._filters = self._filters - {name}


def _within(value: object, query: Query, slack: int = 1) -> bool:
    """Tell whether a time is within bounds that may be inclusive, or of whole seconds; None is."""
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
        """Ask for nothing yet.

        Args:
            listing: its facts.
            ask: asks for one answer.
            now: about the present time.
            sorts: the order that an earlier run has seen, if one has.
            filters: the time that its bounds were seen to compare, if they were.
        """
        self.listing = listing
        self.evidence = Evidence(listing, sorts, filters)
        self.is_full = False
        """Whether the last answer was as long as the longest one, and so may have been cut."""
        self.is_steady = bool(listing.page_size)
        """Whether each answer before the last one held as many rows as a full one."""
        self.size = 0
        """How many rows the last answer held."""
        self.now = now
        """When the last answer was asked for, in the server's microseconds."""
        self.newest: int | None = None
        """The newest time of a row that any answer held."""
        self.calls = 0
        self.asked = Query(listing.key)
        """The last query."""
        self.head: list[Row] = []
        """The rows of the head: which of them a bound leaves out shows by what it filters."""
        self._is_probed = False
        self._is_timed = True
        self._longest = 0
        self._ask = ask

    def passed(self, asked: int) -> int:
        """Return a time that has surely passed when an answer was asked for.

        Args:
            asked: when that was; if only the machine told, it may be hours ahead of the newest row.
        """
        return asked if self._is_timed else min(asked, self.newest or 0)

    @property
    def latest(self) -> int:
        """The highest bound that is sent."""
        return second(self.now) + _AHEAD

    def at(self, row: Row) -> int | None:
        """Return the time of a row; None if it has none."""
        return times.micros_or_none(row.get(self.listing.key))

    def newest_in(self, rows: Iterable[Row]) -> int | None:
        """Return the newest time of some rows; None if none has one."""
        return max((at for row in rows if (at := self.at(row)) is not None), default=None)

    def id(self, row: Row) -> str:
        """Return what tells a row from others."""
        return str(row[self.listing.row_id])

    def query(self, since: int | None = None, until: int | None = None) -> Query:
        """Return the query for some bounds, with those that the list demands."""
        listing = self.listing
        if listing.bounded:
            until = self.latest if until is None else until
            lowest = FIRST_SECOND if listing.longest is None else until - listing.longest
            since = max(lowest, since or FIRST_SECOND)
        return Query(listing.key, since, until)

    def follow(self, rows: Sequence[Row]) -> Query:
        """Return the query for what follows the last answer."""
        return self.asked.after(rows, self.listing.row_id, self.size)

    def following(self, rows: Sequence[Row], size: int | None = None) -> list[Row]:
        """Ask once for what follows some rows at the top of the list, without a bound.

        Args:
            rows: some.
            size: how many there were, those that were left out included, if any was.
        """
        return self.ask(self.query().after(rows, self.listing.row_id, size)).rows

    def ask(self, query: Query) -> Answer:
        """Ask once; an answer of rows without a time is paged past."""
        first = answer = self._asked(query)
        rows = list(answer.rows)
        known = {self.id(row) for row in rows}
        while answer.rows and all(self.at(row) is None for row in answer.rows):
            answer = self._asked(self.follow(answer.rows))
            new = [row for row in answer.rows if self.id(row) not in known]
            if not new:
                break
            rows += new
            known.update(map(self.id, new))
        return replace(first, rows=rows)

    def is_all(self, head: Answer) -> bool:
        """Tell whether a head that is short is all of the list, by what follows it: nothing."""
        size = len(head.rows) if head.size is None else head.size
        if not self.listing.newest_first or not head.rows or size >= self.listing.page_size:
            return False
        if self.following(head.rows, size):
            return False
        if size == len(head.rows) > 1:
            # From one row further up: the last one may be gone, and its cursor with it.
            found = self.following(head.rows[:-1])
        else:
            found = self.following(head.rows, size)
        return {*map(self.id, found)}.issubset(map(self.id, head.rows))

    def is_surely_all(self, head: Answer) -> bool:
        """Tell whether nothing follows a head, and one more answer holds its last row alone.

        Not by a page number, which leads to no such answer.
        """
        rows = head.rows
        if len(rows) < 2 or head.size not in {None, len(rows)}:  # noqa: PLR2004
            return False
        if self.following(rows):
            return False
        return [*map(self.id, self.following(rows[:-1]))] == [self.id(rows[-1])]

    def probe(self) -> None:
        """Ask once for what shows by which time bounds filter, if no answer has shown it so far.

        For a list that is newest first, with its head known: there a row that another time lets in
        would be at the top.
        """
        if self._is_probed:
            return
        others = [name for name in self.listing.times if name != self.listing.key]
        for row in self.head:
            at = self.at(row)
            for other in (times.micros_or_none(row.get(name)) for name in others):
                # Below the one time and above the other.
                if at is not None and other is not None and second(at) - 2 > second(other):
                    self._is_probed = True
                    self._ask_aside(self.query(until=second(at) - 2))
                    return

    def _ask_aside(self, query: Query) -> None:
        """Ask for what shows something, between two steps of a walk, which goes on as it was."""
        before = self.asked, self.size, self.is_full, self.is_steady
        rows = self.ask(query).rows
        is_whole = self.size == self.listing.page_size or not self._lacks(query, rows)
        self.asked, self.size, self.is_full, self.is_steady = before
        self.is_steady &= is_whole
        self.evidence.see_bounds(query, rows, self.head)

    def _lacks(self, query: Query, rows: Sequence[Row]) -> bool:
        """Tell whether an answer has not all of the head that is surely within its bound."""
        assert query.until is not None  # noqa: S101 - the caller asks down from a row
        known = set(map(self.id, rows))
        missing = [self.at(row) for row in self.head if self.id(row) not in known]
        return any(at is not None and second(at) < query.until for at in missing)

    def _asked(self, query: Query) -> Answer:
        self.is_steady &= not self.calls or self.size == self.listing.page_size
        self.calls += 1
        self.asked = query
        answer = self._ask(query)
        self.evidence.see(answer.rows)
        self.size = len(answer.rows) if answer.size is None else answer.size
        self._longest = max(self._longest, self.size)
        self.is_full = self.size == self._longest
        self._is_timed &= answer.is_timed
        # The machine's clock, with which it began, may be hours ahead.
        self.now = answer.asked if self.calls == 1 else max(self.now, answer.asked)
        both = (self.newest, self.newest_in(answer.rows))
        self.newest = max((at for at in both if at is not None), default=None)
        return answer
