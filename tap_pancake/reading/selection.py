"""Selection: the rows of a list that a run reads, and how far back it reads their children."""

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
"""A time after all rows."""


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """A row to write, if there is one, and a function to call after that."""

    row: Row | None = None
    is_wanted: bool = False
    """Whether to write the row itself."""
    since: int | None = None
    """The time to read its children back to; None if they are not read."""
    then: Callable[[], object] = nothing
    """A function to call when the row and its children are written."""


class Share:
    """The part of a list that one stream reads. Several streams may share one list."""

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
        """Copy the coverage of the bookmark.

        Args:
            bookmark: the bookmark of the stream; only the lane uses it.
            place: the stream and page, for messages to the user.
            first_back: the lookback below `top` of the first reading of the head, in microseconds.
            back: the lookback of later readings, in microseconds; at least a minute is used.
            end: the latest time to read; None is no end.
            opens_to_top: whether an earlier start opens everything up to `top`, because rows of any
                time may have children as old as the start.
            newest_alone: whether only the newest children of a row are read.
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
        """The time down to which the next reading of the head goes."""
        if self.plan.top is None:
            return self.plan.start
        low = max(self.plan.start, self.plan.top - self._next_back)
        if self._begun:  # the walks already read what is open
            return low
        return min([low, *(each.low for each in self.plan.stretches if each.high >= low)])

    @property
    def unread_low(self) -> int:
        """The low end of the range that earlier runs have not read."""
        if self.plan.top is None:
            return self.plan.start
        return min(self.plan.top, *(stretch.low for stretch in self.plan.stretches), NEVER)

    def begin(self, asked: int) -> Callable[[], object]:
        """Begin a reading of the head; return a function that records it in the state.

        Args:
            asked: the time of the request.
        """
        back, self._next_back, self._begun = self._next_back, self.back, True
        self.plan.begin(asked, back)

        def then() -> None:
            self.bookmark.coverage.begin(asked, back)
            self.bookmark.save()

        return then

    def is_in_bounds(self, at: int | None) -> bool:
        """Return whether the time of a row is within the start and end of the settings."""
        return at is None or (at >= self.plan.start and (self._end is None or at <= self._end))

    def wants(self, at: int | None) -> bool:
        """Return whether a row of this time is still to be read."""
        top = self.plan.top
        return self.is_in_bounds(at) and (
            at is None or top is None or at > top or self.plan.holds(at)
        )

    def reach(self, at: int | None, *, late: bool) -> int:
        """Return the time to read the children of a row back to.

        Args:
            at: the time of the row.
            late: whether the row may have become visible late.
        """
        if self._newest_alone and at is not None:
            return at
        return self.plan.start if late else self.plan.lowest


@dataclass(frozen=True, slots=True)
class _Reading:
    """The last reading of a row in this run."""

    at: int | None
    """The time of the row."""
    asked: int
    """The time of the request."""
    since: int
    """The time back to which its children were read."""


class Memory:
    """The rows of all pages that a run has read, up to a limit.

    Without it, a row that gets a message while history is open would be read from its beginning
    again. That took 69 % of the calls of a busy page.
    """

    def __init__(self, most: int = 150_000) -> None:
        """Begin without rows; remember at most `most`."""
        self._most = most
        self._rows: dict[int, _Reading] = {}

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached, so that some rows may not be remembered."""
        return len(self._rows) >= self._most

    def get(self, page_id: str, row_id: str) -> _Reading | None:
        """Return the last reading of a row; None if there was none, or it is not remembered."""
        return self._rows.get(hash((page_id, row_id)))

    def put(self, page_id: str, row_id: str, read: _Reading) -> None:
        """Remember a row. At the limit, the earlier rows stay, since they are the newest ones."""
        key = hash((page_id, row_id))
        if key in self._rows or len(self._rows) < self._most:
            self._rows[key] = read


class Selection:
    """The choice of rows to read in a list, and of how much of each row."""

    def __init__(
        self,
        page_id: str,
        live: LiveList,
        *,
        rows: Share | None,
        children: Sequence[Share],
        memory: Memory,
        aside: Mapping[str, int],
        ads: Share | None = None,
    ) -> None:
        """Begin without rows.

        Args:
            page_id: the stream and page, as the key of its rows in the memory.
            live: the list.
            rows: the share of the list's own stream; None if it is not selected.
            children: the shares of the selected child streams.
            memory: the rows that the run has read.
            aside: rows whose children are set aside, with the time to read each from.
            ads: the share of a stream whose ids the rows have; None if there is none.
        """
        self.shares = [share for share in (rows, *children, ads) if share is not None]
        self.stored_since: int | None = None
        """Rows that Pancake stored at or after this time are read whole; None before the head."""
        self.unread = 0
        """The number of rows that were met and had to be read."""
        self._page_id = page_id
        self._live = live
        self._rows = rows
        self._children = children
        self._back = max((share.back for share in children), default=0)
        self._ads = ads
        self._memory = memory
        self._aside = aside

    @property
    def forgets(self) -> bool:
        """Whether the memory may lack rows that were read."""
        return self._memory.is_full

    def part(self, row: Row, then: Callable[[], object] = nothing) -> Part:
        """Return the part to read of a row, and remember the row."""
        at, row_id = self._live.at(row), self._live.id(row)
        late = self.is_late(row)
        is_wanted = self._rows is not None and self._is_wanted(self._rows, at, late)
        wanting = [share for share in self._children if self._is_wanted(share, at, late)]
        since = min((share.reach(at, late=late) for share in wanting), default=NEVER)
        is_met = self._ads is not None and self._is_wanted(self._ads, at, late)
        if not (is_wanted or is_met) and since == NEVER:
            return Part(then=then)
        read = self._memory.get(self._page_id, row_id)
        whole_since, is_news = since, True
        if read is not None and read.since <= since:
            is_news = read.at != at
            if not is_news and not self._may_have_news(at, read):
                return Part(then=then)
            whole_since = read.since
            if since != NEVER:
                since = max(since, read.asked - self._back)
        since = min(since, self._aside.get(row_id, NEVER)) if since != NEVER else since
        self._memory.put(
            self._page_id,
            row_id,
            _Reading(at, self._live.certain_time(self._live.now), whole_since),
        )
        self.unread += is_news
        return Part(row, is_wanted, None if since == NEVER else since, then)

    def _may_have_news(self, at: int | None, read: _Reading) -> bool:
        """Return whether to read a row again although its time is the same.

        A row without a time never shows a new message. And a late message does not change the time
        of a row: it may come until the lookback of the row's last message has passed.
        """
        if at is None:
            return any(read.asked < (share.plan.top or 0) for share in self.shares)
        return read.asked < at + self._back <= self._live.now

    def is_late(self, row: Row) -> bool:
        """Return whether a row may have become visible after its time was read."""
        if self.stored_since is None or self._live.listing.stored_at_field is None:
            return False
        stored = times.micros_or_none(row.get(self._live.listing.stored_at_field))
        return stored is not None and stored >= self.stored_since

    def _is_wanted(self, share: Share, at: int | None, late: bool) -> bool:  # noqa: FBT001
        return share.wants(at) or (late and share.is_in_bounds(at))

    def begin(self, asked: int) -> Callable[[], object]:
        """Begin a reading of the head; return a function for the lane that records it."""
        notes = [share.begin(asked) for share in self.shares]

        def then() -> None:
            for note in notes:
                note()

        return then

    def note(self, what: Callable[[Bookmark], object]) -> Callable[[], object]:
        """Return a function for the lane that records something in the state of each stream."""
        bookmarks: Sequence[Bookmark] = [share.bookmark for share in self.shares]

        def then() -> None:
            for bookmark in bookmarks:
                what(bookmark)
                bookmark.save()

        return then
