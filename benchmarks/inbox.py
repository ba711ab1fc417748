"""A page's list of conversations without a server, and the tap's own reader for it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any

from benchmarks.server import FULL_LIST
from tap_pancake.reading.coverage import BEGINNING, DAY, MINUTE, SECOND
from tap_pancake.reading.head import Head
from tap_pancake.reading.late import LateRows
from tap_pancake.reading.listing import Answer, Listing, LiveList
from tap_pancake.reading.reader import ListReader
from tap_pancake.reading.selection import Memory, Selection, Share
from tap_pancake.reading.state import Bookmark
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_pancake.reading.listing import Ask, Query
    from tap_pancake.reading.selection import Part

    State = dict[str, dict[str, Any]]

CONVERSATIONS = Listing(
    times=("updated_at", "inserted_at"), stored_at_field="inserted_at", page_size=FULL_LIST
)
"""As in `tap_pancake/streams/conversations.py`, which cannot be imported without the SDK."""
BACK = 15 * MINUTE
"""`message_lookback_minutes`."""


class Inbox:
    """The list of conversations of a page, newest first. Times are microseconds since 1970."""

    def __init__(self, touched: Iterable[int], clock: Callable[[], int]) -> None:
        """Create the conversations.

        Args:
            touched: The time of each conversation's last message. The index is the id.
            clock: Returns the time.
        """
        self.answered: list[int] = []
        """The number of rows of each answer."""
        self.touched = list(touched)
        # A conversation is stored when its first message arrives, some time before its last one.
        self.stored = [at - 5 * MINUTE for at in self.touched]
        self._clock = clock
        self._order = {
            "updated_at": sorted((at, n) for n, at in enumerate(self.touched)),
            "inserted_at": sorted((at, n) for n, at in enumerate(self.stored)),
        }

    def touch(self, conversation: int, at: int) -> None:
        """Add a message to a conversation, which may be new."""
        if conversation == len(self.touched):
            self.touched.append(at)
            self.stored.append(at)
            insort(self._order["inserted_at"], (at, conversation))
        else:
            order, old = self._order["updated_at"], (self.touched[conversation], conversation)
            del order[bisect_left(order, old)]
            self.touched[conversation] = at
        insort(self._order["updated_at"], (at, conversation))

    def ask(self, query: Query) -> Answer:
        """Answer a query as Pancake does."""
        order = self._order[query.order_by]
        low = 0 if query.since is None else bisect_left(order, (query.since * SECOND, 0))
        high = len(order)
        if query.until is not None:
            high = bisect_right(order, (query.until * SECOND, len(self.touched)))
        if query.last_id is not None:
            last = int(query.last_id)
            at = (self.touched if query.order_by == "updated_at" else self.stored)[last]
            high = min(high, bisect_left(order, (at, last)))
        found = [n for _, n in order[max(low, high - FULL_LIST) : high]][::-1]
        self.answered.append(len(found))
        rows = [
            {
                "id": str(n),
                "updated_at": times.from_micros(self.touched[n]),
                "inserted_at": times.from_micros(self.stored[n]),
            }
            for n in found
        ]
        return Answer(rows, self._clock())


class Reading:
    """One run over an inbox, by the tap's own reader."""

    def __init__(
        self,
        ask: Ask,
        state: State,
        *,
        now: int,
        start: float | None = None,
        refresh: float = 600.0,
    ) -> None:
        """Continue from a state, which is changed as rows are read.

        Args:
            ask: Returns the list's answer to a query.
            state: The state by stream; empty before the first run.
            now: The time when the run begins.
            start: Unix seconds; nothing older is read.
            refresh: The seconds after which the newest rows are read again during a backfill.
        """
        low = BEGINNING if start is None else int(start * SECOND)
        shares = {
            name: Share(
                Bookmark(
                    state.setdefault(name, {"context": {}}),
                    "updated_at",
                    incremental=True,
                    start=low,
                ),
                place=name,
                first_back=back,
                back=BACK,
                opens_to_top=name == "messages",
            )
            for name, back in (("conversations", DAY), ("messages", BACK))
        }
        seen = next(iter(shares.values())).bookmark.fact
        live = LiveList(CONVERSATIONS, ask, now=now, sorts=seen("sorts"), filters=seen("filters"))
        selection = Selection(
            "page",
            live,
            rows=shares["conversations"],
            children=[shares["messages"]],
            memory=Memory(),
            aside={},
        )
        self.warnings: list[str] = []
        warn = self.warnings.append
        late = LateRows(live, LiveList(CONVERSATIONS.by_late(), ask, now=now), selection, warn)
        head = Head(live, selection, None, warn)
        self._reader = ListReader(
            live, selection, head, late, refresh=refresh, reach=3 * DAY, warn=warn
        )

    def parts(self) -> Iterator[Part]:
        """Yield what is read; each part is in the state before the next one is requested."""
        for part in self._reader.parts():
            yield part
            part.then()
