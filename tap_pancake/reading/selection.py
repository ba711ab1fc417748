"""Which rows of a list a run reads, how far back their children, and what is noted then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tap_pancake.reading.coverage import MINUTE
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tap_pancake.reading.listing import LiveList
    from tap_pancake.reading.state import Bookmark

    Row = dict[str, Any]

NEVER = 10**18
"""Later than any time."""


def nothing() -> None:
    """Note nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """A row to write, or none, and what to note when it was written."""

    row: Row | None = None
    is_wanted: bool = False
    """Whether the row itself is written."""
    since: int | None = None
    """How far back its children are read; None if not at all."""
    then: Callable[[], object] = nothing
    """To be called when the row and its children were written."""


class Share:
    """What one stream reads of a list, which may be walked for several."""

    def __init__(
        self,
        bookmark: Bookmark,
        *,
        place: str,
        first_back: int,
        back: int,
        end: int | None = None,
        opens_to_top: bool = False,
        newest_alone: bool = False,
    ) -> None:
        """Copy what was read.

        Args:
            bookmark: of the stream; only the lane touches it.
            place: names stream and page to the user.
            first_back: how far before `top` the first reading of the head begins, in microseconds.
            back: how far the ones after it do, a minute at least.
            end: rows after it are not read; None is no end.
            opens_to_top: whether an earlier start concerns rows of any time, as their children may
                be as old as it.
            newest_alone: whether of a row's children the newest ones are enough.
        """
        self.bookmark = bookmark
        self.place = place
        bookmark.coverage.move_floor(bookmark.coverage.top if opens_to_top else None)
        self.plan = bookmark.coverage.copy()
        self.back = max(back, MINUTE)
        self._next_back = first_back
        self._begun = False
        self._end = end
        self._newest_alone = newest_alone

    @property
    def next_low(self) -> int:
        """Where the next reading of the head begins."""
        if self.plan.top is None:
            return self.plan.start
        low = max(self.plan.start, self.plan.top - self._next_back)
        if self._begun:  # what is open is on its way
            return low
        return min([low, *(each.low for each in self.plan.stretches if each.high >= low)])

    @property
    def unread_low(self) -> int:
        """Where begins what no earlier run has read."""
        if self.plan.top is None:
            return self.plan.start
        return min(self.plan.top, *(stretch.low for stretch in self.plan.stretches), NEVER)

    def begin(self, asked: int) -> Callable[[], object]:
        """Begin a reading of the head; return what notes it."""
        back, self._next_back, self._begun = self._next_back, self.back, True
        self.plan.begin(asked, back)

        def then() -> None:
            self.bookmark.coverage.begin(asked, back)
            self.bookmark.save()

        return then

    def takes(self, at: int | None) -> bool:
        """Tell whether a row of this time is one that the settings ask for."""
        return at is None or (at >= self.plan.start and (self._end is None or at <= self._end))

    def wants(self, at: int | None) -> bool:
        """Tell whether a row of this time is still to be read."""
        top = self.plan.top
        return self.takes(at) and (at is None or top is None or at > top or self.plan.holds(at))

    def reach(self, at: int | None, *, late: bool) -> int:
        """Return how far back the children of a row of this time are read."""
        if self._newest_alone and at is not None:
            return at
        return self.plan.start if late else self.plan.lowest


@dataclass(frozen=True, slots=True)
class _Read:
    """How a row was read in this run."""

    at: int | None
    asked: int
    since: int


class Memory:
    """Which rows a run has read, of all pages: a bounded number of them.

    Without it, a row that is touched while history is open would be read from its beginning again,
    which was 69 % of the calls of a busy page.
    """

    def __init__(self, most: int = 150_000) -> None:
        """Remember nothing yet."""
        self._most = most
        self._rows: dict[int, _Read] = {}

    @property
    def is_full(self) -> bool:
        """Whether some rows may not be remembered."""
        return len(self._rows) >= self._most

    def get(self, page_id: str, row_id: str) -> _Read | None:
        """Return how a row was read; None if it was not, or is forgotten."""
        return self._rows.get(hash((page_id, row_id)))

    def put(self, page_id: str, row_id: str, read: _Read) -> None:
        """Remember a row. Without room those remembered stay: they are the newest ones."""
        key = hash((page_id, row_id))
        if key in self._rows or len(self._rows) < self._most:
            self._rows[key] = read


class Selection:
    """Decides what is read of each row that is met."""

    def __init__(
        self,
        page_id: str,
        live: LiveList,
        *,
        rows: Share | None,
        children: Sequence[Share],
        memory: Memory,
        aside: Mapping[str, int],
        named: Share | None = None,
    ) -> None:
        """Hold what decides.

        Args:
            page_id: of which page and stream: what tells its rows from others in the memory.
            live: the list.
            rows: what the list's own stream reads; None if it is not selected.
            children: what each stream below it reads that is selected.
            memory: what the run has read.
            aside: rows whose children could not be read, and from where they are to be read.
            named: what a stream reads of it whose ids the rows name; None if there is none.
        """
        self.shares = [share for share in (rows, *children, named) if share is not None]
        self.stored_since: int | None = None
        """Rows that were stored at or after this time are read whole."""
        self.unread = 0
        """How many rows were met that had to be read."""
        self._page_id = page_id
        self._live = live
        self._rows = rows
        self._children = children
        self._back = max((share.back for share in children), default=0)
        self._named = named
        self._memory = memory
        self._aside = aside

    @property
    def forgets(self) -> bool:
        """Whether rows may have been read that are not remembered."""
        return self._memory.is_full

    def part(self, row: Row, then: Callable[[], object] = nothing) -> Part:
        """Decide what is read of a row, and remember that it is."""
        at, row_id = self._live.at(row), self._live.id(row)
        late = self.is_late(row)
        is_wanted = self._rows is not None and self._is_wanted(self._rows, at, late)
        wanting = [share for share in self._children if self._is_wanted(share, at, late)]
        since = min((share.reach(at, late=late) for share in wanting), default=NEVER)
        is_met = self._named is not None and self._is_wanted(self._named, at, late)
        if not (is_wanted or is_met) and since == NEVER:
            return Part(then=then)
        read = self._memory.get(self._page_id, row_id)
        whole, is_news = since, True
        if read is not None and read.since <= since:
            is_news = read.at != at
            if not is_news and not self._may_have_news(at, read):
                return Part(then=then)
            whole = read.since
            if since != NEVER:
                since = max(since, read.asked - self._back)
        since = min(since, self._aside.get(row_id, NEVER)) if since != NEVER else since
        self._memory.put(self._page_id, row_id, _Read(at, self._live.passed(self._live.now), whole))
        self.unread += is_news
        return Part(row, is_wanted, None if since == NEVER else since, then)

    def _may_have_news(self, at: int | None, read: _Read) -> bool:
        """Tell whether a row of the same time is to be read again: what came may not show.

        It shows in no row that has no time. And a message that is older than the last one changes
        no time: it may come so long after that as the next run would look back.
        """
        if at is None:
            return any(read.asked < (share.plan.top or 0) for share in self.shares)
        return read.asked < at + self._back <= self._live.now

    def is_late(self, row: Row) -> bool:
        """Tell whether a row may have come into sight after its time was read."""
        if self.stored_since is None or self._live.listing.late is None:
            return False
        stored = times.micros_or_none(row.get(self._live.listing.late))
        return stored is not None and stored >= self.stored_since

    def _is_wanted(self, share: Share, at: int | None, late: bool) -> bool:  # noqa: FBT001
        return share.wants(at) or (late and share.takes(at))

    def begin(self, asked: int) -> Callable[[], object]:
        """Begin a reading of the head; return what notes it when the lane calls it."""
        notes = [share.begin(asked) for share in self.shares]

        def then() -> None:
            for note in notes:
                note()

        return then

    def note(self, what: Callable[[Bookmark], object]) -> Callable[[], object]:
        """Return what notes something in the state of each stream, when the lane calls it."""
        bookmarks: Sequence[Bookmark] = [share.bookmark for share in self.shares]

        def then() -> None:
            for bookmark in bookmarks:
                what(bookmark)
                bookmark.save()

        return then
