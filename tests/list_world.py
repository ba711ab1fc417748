"""A model of a hostile list without HTTP: rows move between calls, and answers may be wrong.

Written from the reference (7, 8, 9, 19, 20 and 24) and from reports of other clients, not from the
tap. `World` holds rows and their messages, and answers queries. `read` reads it with the tap's own
reader, as a run would, into a `Warehouse`.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from tap_pancake.reading.coverage import BEGINNING, DAY, MINUTE, SECOND
from tap_pancake.reading.head import Head, HeadFault
from tap_pancake.reading.late import LateRows
from tap_pancake.reading.listing import Answer, Listing, LiveList, Stray
from tap_pancake.reading.reader import ListReader
from tap_pancake.reading.selection import Memory, Part, Selection, Share
from tap_pancake.reading.state import Bookmark
from tap_pancake.reading.sweeps import Unsettled
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_pancake.reading.listing import Ask, Query

Json = dict[str, Any]

START = times.micros("2026-01-01T00:00:00")
PAGE = "100"


@dataclass
class Message:
    """A message of a row."""

    id: str
    at: int
    seen_from: int
    """The time from which it can be seen."""


@dataclass
class Row:
    """A row, such as a conversation."""

    id: str
    stored: int
    """The time from which it is in the list."""
    messages: list[Message]
    timeless: bool = False
    moved_far: bool = False
    """Whether a late message moved the row into a range that was read already."""

    def touched(self, now: int) -> int:
        """Return the time of the last message that can be seen."""
        return max((m.at for m in self.messages if m.seen_from <= now), default=self.stored)


@dataclass(frozen=True)
class Shape:
    """The switches of a world: how its list behaves."""

    rows: int = 20
    spread: int = 10 * DAY
    """The history's length, in microseconds."""
    bunched: bool = False
    """Whether many rows share few seconds."""
    cut: int = 60
    varying_cut: bool = False
    sorts: str = "updated_at"
    filters: str = "updated_at"
    ascending: bool = False
    inclusive: bool = True
    whole_seconds: bool = False
    heeds_order_by: bool = True
    paging: str = "cursor"
    lost_cursor: str = "top"
    empties: float = 0.0
    lag: int = 0
    lag_share: float = 0.0
    drift: float = 0.5
    """The probability that something happens during a call."""
    platform_time: int = 0
    """The most that a new message may be older than now."""
    late_rows: bool = False
    deletes: bool = False
    timeless: bool = False
    timeless_last: bool = False
    """Whether rows without a time come last, and bounds exclude them."""
    call: int = SECOND // 4
    """The duration of a call."""


class World:
    """A list that changes while it is read."""

    def __init__(self, shape: Shape, seed: int, far: int) -> None:
        """Create the rows.

        Args:
            shape: How the list behaves.
            seed: The seed of what happens.
            far: The age from which a new message of a row that was read counts as too late.
        """
        self.shape = shape
        self.random = random.Random(seed)
        self.now = START
        self.calls = 0
        self.far = far
        self.is_read: Callable[[Row], bool] = lambda _: True
        self.deleted: set[str] = set()
        self._count = 0
        self.rows: dict[str, Row] = {}
        for _ in range(shape.rows):
            at = START - self.random.randrange(shape.spread)
            if shape.bunched:
                at -= at % (shape.spread // 4) - self.random.randrange(SECOND)
            self._add(at, at - self.random.choice([0, 0, DAY, self.random.randrange(DAY)]))

    def _add(self, at: int, stored: int) -> None:
        """Add a row with the time of its last message."""
        self._count += 1
        row_id = f"r{self._count}"
        first = min(at, stored)
        ats = sorted(
            [at, *(self.random.randint(first, at) for _ in range(self.random.randrange(3)))]
        )
        messages = [
            Message(f"{row_id}m{number}", each, max(each, stored))
            for number, each in enumerate(ats)
        ]
        timeless = self.shape.timeless and self.random.random() < 0.1
        self.rows[row_id] = Row(row_id, max(stored, 0), messages, timeless)

    def pass_time(self, duration: int) -> None:
        """Move the time forward; something may happen."""
        self.now += duration
        if self.random.random() < self.shape.drift:
            self.happen()

    def happen(self) -> None:
        """Add a message or a row, or delete a row."""
        kind = self.random.choices(["touch", "new", "late", "delete"], [6, 3, 2, 1])[0]
        rows = list(self.rows.values())
        if kind == "touch" and rows:
            row = self.random.choice(rows)
            at = self.now - self.random.randrange(self.shape.platform_time + 1)
            row.messages.append(Message(f"{row.id}m{len(row.messages)}x", at, self.now))
            row.moved_far |= at < self.now - self.far and self.is_read(row)
            # No answer ever shows a new message of these rows.
            row.moved_far |= row.timeless and self.shape.timeless_last and self.is_read(row)
        elif kind == "new":
            self._add(self.now, self.now)
        elif kind == "late" and self.shape.late_rows:
            self._add(self.now - self.random.randrange(3 * DAY), self.now)
        elif kind == "delete" and self.shape.deletes and rows:
            row = self.random.choice(rows)
            del self.rows[row.id]
            self.deleted.add(row.id)

    # Queries

    def ask(self, query: Query) -> Answer:
        """Return the answer of a server of this shape."""
        asked = self.now
        self.calls += 1
        self.pass_time(self.shape.call)
        shape = self.shape
        if self.random.random() < shape.empties:
            return Answer([], asked)
        seen = self.now - (shape.lag if self.random.random() < shape.lag_share else 0)
        by = query.order_by if shape.heeds_order_by else "updated_at"
        other = {"updated_at": "inserted_at", "inserted_at": "updated_at"}
        sorts = by if shape.sorts == "updated_at" else other[by]
        filters = by if shape.filters == "updated_at" else other[by]
        if by == "inserted_at":
            sorts = filters = "inserted_at"
        rows = [row for row in self.rows.values() if row.stored <= seen]
        both = {
            row.id: {"updated_at": row.touched(seen), "inserted_at": row.stored} for row in rows
        }
        last = {row.id for row in rows if shape.timeless_last and row.timeless}
        found = [
            row
            for row in rows
            if self._within(
                both[row.id][filters], query, row.id in last and filters == "updated_at"
            )
        ]
        found.sort(
            key=lambda row: (
                0 if row.id in last and sorts == "updated_at" else both[row.id][sorts],
                row.id,
            ),
            reverse=not shape.ascending,
        )
        cut = self.random.randint(1, shape.cut) if shape.varying_cut else shape.cut
        found = found[self._offset(found, query, cut) :][:cut]
        return Answer([self._wire(row, both[row.id]["updated_at"]) for row in found], asked)

    def _offset(self, found: list[Row], query: Query, cut: int) -> int:
        if self.shape.paging == "page":
            return (query.page - 1) * cut
        if self.shape.paging == "offset":
            return query.offset
        if query.last_id is None:
            return 0
        ids = [row.id for row in found]
        if query.last_id in ids:
            return ids.index(query.last_id) + 1
        return 0 if self.shape.lost_cursor == "top" else len(found)

    def _wire(self, row: Row, touched: int) -> Json:
        return {
            "id": row.id,
            "updated_at": None if row.timeless else times.from_micros(touched),
            "inserted_at": times.from_micros(row.stored),
        }

    def _within(self, at: int, query: Query, is_null: bool) -> bool:  # noqa: FBT001
        shape = self.shape
        if is_null:
            return query.since is None and query.until is None
        value = at // SECOND if shape.whole_seconds else at / SECOND
        if query.since is not None and not (
            value >= query.since if shape.inclusive else value > query.since
        ):
            # No source says that `since` is exclusive to the second that it names.
            return shape.whole_seconds and value == query.since
        return query.until is None or (
            value <= query.until if shape.inclusive else value < query.until
        )

    def messages(self, row_id: str, since: int) -> Iterator[str]:
        """Yield the messages of a row since a time."""
        row = self.rows.get(row_id)
        if row is None:
            return
        for message in row.messages:
            if message.seen_from <= self.now and message.at >= since:
                yield message.id

    def truth(self) -> dict[str, set[str]]:
        """Return the messages of each row that every copy of the data shows now."""
        now = self.now - (self.shape.lag if self.shape.lag_share else 0)
        return {
            row.id: {m.id for m in row.messages if m.seen_from <= now}
            for row in self.rows.values()
            if row.stored <= now
        }


@dataclass
class Warehouse:
    """The rows that were written, and the state that belongs to them."""

    rows: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    state: dict[str, Json] = field(
        default_factory=lambda: {"rows": {"context": {}}, "messages": {"context": {}}}
    )
    warnings: list[str] = field(default_factory=list)
    failure: str | None = None
    """The error that ended the last run, if any."""

    def has(self, row: Row) -> bool:
        """Return whether a row or one of its messages was written."""
        return row.id in self.rows or any(message.id in self.messages for message in row.messages)

    def is_complete(self, listing: Listing, streams: tuple[str, ...], since: int) -> bool:
        """Return whether the last run left nothing open, and looked for late rows up to a time."""
        parts = [self.state[stream] for stream in streams]
        if self.failure is not None or any(part.get("open") for part in parts):
            return False
        marks = [times.micros(mark) for part in parts if (mark := part.get("late"))]
        return not listing.stored_at_field or min(marks, default=since) >= since


MOST_CALLS = 4000


class TooMany(Exception):
    """Raised when a run does not end."""


class Killed(Exception):
    """Raised to kill a run."""


def read(  # noqa: C901 - a whole run: calls, writes and its ends
    world: World,
    warehouse: Warehouse,
    listing: Listing,
    *,
    back: int = 15 * MINUTE,
    start: int | None = None,
    kill_at: int | None = None,
    ahead: int = 0,
    streams: tuple[str, ...] = ("rows", "messages"),
) -> None:
    """Read the world into a warehouse, until the run ends or is killed at a call.

    A kill loses the parts that are read ahead, as in the tap.
    """
    warehouse.warnings.clear()
    warehouse.failure = None
    began = world.calls
    stop_at = began + (kill_at or 10 * MOST_CALLS)

    def count() -> None:
        if world.calls >= stop_at:
            raise Killed
        if world.calls - began > MOST_CALLS:
            raise TooMany

    def ask(query: Query) -> Answer:
        count()
        return world.ask(query)

    def write(part: Part) -> None:
        if part.row is not None and part.is_wanted:
            warehouse.rows.add(part.row["id"])
        if part.row is not None and part.since is not None:
            world.calls += 1
            count()
            warehouse.messages.update(world.messages(part.row["id"], part.since))
            world.pass_time(world.shape.call)
        part.then()

    shares = {name: _share(warehouse, name, back, start) for name in streams}
    warn = warehouse.warnings.append
    parts = _reader(listing, ask, warn, world.now, shares).parts()
    waiting: deque[Part] = deque()
    try:
        while True:
            waiting.extend(islice(parts, ahead + 1 - len(waiting)))
            if not waiting:
                return
            write(waiting.popleft())
    except Killed:
        return
    except (HeadFault, Unsettled, Stray) as failure:
        warehouse.failure = repr(failure)


def _share(warehouse: Warehouse, name: str, back: int, start: int | None) -> Share:
    begin = BEGINNING if start is None else start
    bookmark = Bookmark(warehouse.state[name], "updated_at", incremental=True, start=begin)
    first_back = DAY if name == "rows" else back
    return Share(
        bookmark, place=name, first_back=first_back, back=back, opens_to_top=name == "messages"
    )


def _reader(
    listing: Listing,
    ask: Ask,
    warn: Callable[[str], object],
    now: int,
    shares: dict[str, Share],
) -> ListReader:
    seen = next(iter(shares.values())).bookmark.fact
    live = LiveList(listing, ask, now=now, sorts=seen("sorts"), filters=seen("filters"))
    rows, children = shares.get("rows"), [shares["messages"]] if "messages" in shares else []
    selection = Selection(PAGE, live, rows=rows, children=children, memory=Memory(), aside={})
    late = None
    if listing.stored_at_field:
        late = LateRows(live, LiveList(listing.by_late(), ask, now=now), selection, warn)
    head = Head(live, selection, None, warn)
    return ListReader(live, selection, head, late, refresh=1e9, reach=3 * DAY, warn=warn)
