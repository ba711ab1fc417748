"""The rows that a walk has read last, and the proof that no row follows them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from tap_pancake.reading.sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_pancake.reading.listing import LiveList

    Row = dict[str, Any]

# Number of rows to remember for the overlap; an answer with more rows is remembered whole.
_REMEMBERED = 120
# Number of rows to try as the cursor, since a row may be gone.
_CURSORS = 3


class KnownRows:
    """The rows that a walk has read last, to find the overlap and the new rows of an answer."""

    def __init__(self, live: LiveList) -> None:
        """Begin without rows."""
        self._live = live
        self._known: OrderedDict[str, Row] = OrderedDict()
        self._timeless_read: set[str] = set()
        self._timeless_met: dict[str, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """The rows with a time, in the order in which they were read."""
        return list(self._known.values())

    def has(self, row: Row) -> bool:
        """Return whether a row was read with the same time."""
        known = self._known.get(self._live.id(row))
        return known is not None and self._live.at(known) == self._live.at(row)

    def new(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that were not read, or that have another time now."""
        ids = self._timeless_read
        return [row for row in rows if not self.has(row) and self._live.id(row) not in ids]

    def read(self, rows: list[Row]) -> int | None:
        """Remember the rows of an answer; return the time of its last row with a time."""
        place = None
        for row in rows:
            at = self._live.at(row)
            if at is None:
                self._timeless_read.add(self._live.id(row))
                continue
            self._known[self._live.id(row)] = row
            self._known.move_to_end(self._live.id(row))
            place = at
        while len(self._known) > max(_REMEMBERED, len(rows)):
            self._known.popitem(last=False)
        return place

    def meet(self, rows: Iterable[Row]) -> None:
        """Keep the rows without a time of an answer, until they are read."""
        self._timeless_met |= {
            self._live.id(row): row for row in rows if self._live.at(row) is None
        }

    @property
    def loose(self) -> list[Row]:
        """The rows without a time that were met and not read."""
        return [
            row for row_id, row in self._timeless_met.items() if row_id not in self._timeless_read
        ]


class ListEnd:
    """The proof that a list that is newest first ends with the last row that was read."""

    def __init__(self, live: LiveList, known: KnownRows) -> None:
        """Begin without a request."""
        self._live = live
        self._known = known

    def is_shown(self) -> bool:
        """Return whether one request proves it; this needs answers of the full page size so far.

        The request begins above the last row, which must come: an empty answer proves nothing.
        """
        live, known = self._live, self._known.rows
        if live.listing.bounded or not live.is_steady:
            return False
        # A bound would leave out rows without a time.
        found = live.following(known[:-1] or known)
        self._known.meet(found)
        is_short = len(found) < live.listing.page_size
        is_last = live.id(known[-1]) in set(map(live.id, found))
        return is_short and is_last and all(live.at(row) is None for row in self._known.new(found))

    def look_past(self) -> None:
        """Page past the last row, to find rows without a time, which no bound includes."""
        live, known = self._live, self._known.rows
        if live.listing.bounded:
            return
        place = live.at(known[-1]) or 0

        def is_above(row: Row) -> bool:
            return (live.at(row) or 0) > place

        for further_up in range(1, 1 + _CURSORS):
            query = live.query().after(known[:-further_up] or known[:1], live.listing.row_id)
            sweeps = Sweeps(live, query, is_above, may_be_empty=True)
            found = [row for rows in sweeps.rows() for row in rows]
            self._known.meet(found)
            if any(map(self._known.has, found)):
                return
