"""Conversations whose messages could not be read: set aside, and tried again by later runs.

One that is refused for ever must not stop its page. It is kept in the state of `messages`, with
from where it is to be read, and waits as long again as it has been aside, up to a day. So are
advertisements that the API refuses, in the state of `ads`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from tap_pancake.api.errors import PageFailed, PageSkipped, TransientError
from tap_pancake.reading.coverage import BEGINNING, DAY
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tap_pancake.reading.state import Bookmark

MOST = 1_000
"""More than so many on a page are no matter of single ones."""
_KEPT_FOR = 30 * DAY
# Where the first conversations of a page are all denied, its messages are.
_DENIED = 3
# So many faults one after the other are not those of a conversation.
_FAULTS = {True: 2, False: 3}


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation that is aside. Times are microseconds since 1970."""

    conversation_id: str
    """Of `ads`, that of an advertisement."""
    customer_id: str | None
    since: int
    first: int
    last: int

    def is_due(self, now: int) -> bool:
        """Tell whether it is to be tried again."""
        return now - self.last >= min(DAY, self.last - self.first)


@dataclass
class Aside:
    """What is set aside of one page."""

    bookmarks: Sequence[Bookmark]
    """Of `messages` and `conversation_details`, whichever is selected; or of `ads`."""
    now: Callable[[], int]
    new: Callable[[PageFailed], object]
    """Is told of each conversation that is set aside for the first time."""
    since: dict[str, int] = field(default_factory=dict)
    """From where each one is to be read; the reading thread looks at it, too."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _denied: list[tuple[Entry, PageFailed]] = field(default_factory=list)
    _faults: int = 0
    _any_read: bool = False
    _earlier: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take up what the state holds."""
        kept = chain.from_iterable(bookmark.fact("aside") for bookmark in self.bookmarks)
        for conversation_id, customer_id, since, first, last in kept:
            low = times.micros(since) if since else BEGINNING
            low = min(low, self.since.get(conversation_id, low))
            entry = Entry(
                conversation_id, customer_id, low, times.micros(first), times.micros(last)
            )
            self._entries[conversation_id] = entry
            self.since[conversation_id] = low
        self._earlier = [*self._entries]

    def due(self) -> Iterator[Entry]:
        """Return those of earlier runs that are to be tried again now."""
        now = self.now()
        entries = [self._entries[each] for each in self.waiting]
        yield from [entry for entry in entries if entry.is_due(now)]

    @property
    def waiting(self) -> list[str]:
        """Which ones are aside since earlier runs."""
        return [each for each in self._earlier if each in self._entries]

    def read(self, conversation_id: str, since: int) -> None:
        """Note that the messages of a conversation were read from a time on."""
        self._any_read, self._faults = True, 0
        denied, self._denied = self._denied, []
        for entry, failure in denied:
            self._put(entry, failure)
        kept = self._entries.get(conversation_id)
        if kept is not None and since <= kept.since:
            del self._entries[conversation_id]
            del self.since[conversation_id]
            self._keep()

    def failed(
        self, conversation_id: str, customer_id: str | None, since: int, failure: PageFailed
    ) -> None:
        """Set a conversation aside.

        Raises:
            PageSkipped: the messages of the whole page are denied.
            PageFailed: something larger is wrong.
        """
        now = self.now()
        entry = Entry(conversation_id, customer_id, since, now, now)
        if isinstance(failure, PageSkipped) and not self._any_read:
            self._denied.append((entry, failure))
            self._keep()  # a signal may end the run before more is known
            if len(self._denied) >= _DENIED:
                raise failure
            return
        if isinstance(failure, TransientError):
            self._faults += 1
            if self._faults >= _FAULTS[failure.whole_page]:
                raise failure
        else:
            self._faults = 0
        self._put(entry, failure)

    def failed_again(self, entry: Entry) -> bool:
        """Keep one that was tried in vain; return whether it is given up."""
        now = self.now()
        if now - entry.first > _KEPT_FOR:
            del self._entries[entry.conversation_id]
            del self.since[entry.conversation_id]
            self._keep()
            return True
        self._entries[entry.conversation_id] = replace(entry, last=now)
        self._keep()
        return False

    def end(self) -> None:
        """End the page.

        Raises:
            PageSkipped: all conversations that were asked for were denied.
        """
        if self._denied:
            raise self._denied[0][1]

    def _put(self, entry: Entry, failure: PageFailed) -> None:
        known = self._entries.get(entry.conversation_id)
        if known is not None:
            entry = replace(known, since=min(known.since, entry.since), last=entry.last)
        else:
            self.new(failure)
        self._entries[entry.conversation_id] = entry
        self.since[entry.conversation_id] = entry.since
        if len(self._entries) > MOST:
            msg = (
                f"{failure}: more than {MOST:,} of this page are set aside, so the stream fails:"
                " there must be a common cause"
            )
            raise PageFailed(msg)
        self._keep()

    def _keep(self) -> None:
        """Write into the state what is aside."""
        denied = {entry.conversation_id: entry for entry, _ in self._denied}
        entries = [
            [
                entry.conversation_id,
                entry.customer_id,
                "" if entry.since == BEGINNING else times.from_micros(entry.since),
                times.from_micros(entry.first),
                times.from_micros(entry.last),
            ]
            for entry in (denied | self._entries).values()
        ]
        for bookmark in self.bookmarks:
            bookmark.note("aside", entries)
