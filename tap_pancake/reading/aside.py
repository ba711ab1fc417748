"""Conversations whose messages could not be read: set aside, and tried again by later runs.

A conversation that is always refused must not stop its page. The state of `messages` keeps it, with
the time to read it from. It waits for the next try as long as it has already been set aside, at
most a day. Ads that the API refuses are kept in the state of `ads` in the same way.
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
"""Largest number of entries of a page; with more, the cause is not single conversations or ads."""
_DROP_AFTER = 30 * DAY
# If the first 3 conversations of a page are all denied, all messages of the page are.
_DENIED_LIMIT = 3
# Number of transient errors in a row that do not belong to single conversations, by whether they
# concern the whole page.
_FAULT_LIMITS = {True: 2, False: 3}


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation or an ad that is set aside. Times are microseconds since 1970."""

    conversation_id: str
    """For `ads`, the id of the ad."""
    customer_id: str | None
    since: int
    """The time from which to read its messages."""
    first: int
    """The time when it was set aside."""
    last: int
    """The time of the last try."""

    def is_due(self, now: int) -> bool:
        """Return whether to try it again now."""
        return now - self.last >= min(DAY, self.last - self.first)


@dataclass
class Aside:
    """The conversations or ads of one page that are set aside."""

    bookmarks: Sequence[Bookmark]
    """The bookmarks of `messages` and `conversation_details`, if selected; or the one of `ads`."""
    now: Callable[[], int]
    on_new: Callable[[PageFailed], object]
    """A function to call with the error when an entry is set aside for the first time."""
    read_from: dict[str, int] = field(default_factory=dict)
    """The time to read each one from, by id. The thread that reads the list uses it, too."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _denied: list[tuple[Entry, PageFailed]] = field(default_factory=list)
    _faults_in_a_row: int = 0
    _any_read: bool = False
    _from_earlier_runs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Load the entries of the state."""
        kept = chain.from_iterable(bookmark.fact("aside") for bookmark in self.bookmarks)
        for conversation_id, customer_id, since, first, last in kept:
            low = times.micros(since) if since else BEGINNING
            low = min(low, self.read_from.get(conversation_id, low))
            entry = Entry(
                conversation_id, customer_id, low, times.micros(first), times.micros(last)
            )
            self._entries[conversation_id] = entry
            self.read_from[conversation_id] = low
        self._from_earlier_runs = [*self._entries]

    def due(self) -> Iterator[Entry]:
        """Yield the entries of earlier runs that are due for a new try."""
        now = self.now()
        entries = [self._entries[each] for each in self.waiting]
        yield from [entry for entry in entries if entry.is_due(now)]

    @property
    def waiting(self) -> list[str]:
        """The ids that earlier runs have set aside and that are still set aside."""
        return [each for each in self._from_earlier_runs if each in self._entries]

    def item_read(self, conversation_id: str, since: int) -> None:
        """Record that the messages of a conversation were read from a time on."""
        self._any_read, self._faults_in_a_row = True, 0
        denied, self._denied = self._denied, []
        for entry, failure in denied:
            self._add(entry, failure)
        kept = self._entries.get(conversation_id)
        if kept is not None and since <= kept.since:
            del self._entries[conversation_id]
            del self.read_from[conversation_id]
            self._save()

    def item_failed(
        self, conversation_id: str, customer_id: str | None, since: int, failure: PageFailed
    ) -> None:
        """Set a conversation or an ad aside.

        Raises:
            PageSkipped: the messages of the whole page are denied.
            PageFailed: the cause is not a single conversation or ad.
        """
        now = self.now()
        entry = Entry(conversation_id, customer_id, since, now, now)
        if isinstance(failure, PageSkipped) and not self._any_read:
            self._denied.append((entry, failure))
            self._save()  # a signal may end the run before the next conversation
            if len(self._denied) >= _DENIED_LIMIT:
                raise failure
            return
        if isinstance(failure, TransientError):
            self._faults_in_a_row += 1
            if self._faults_in_a_row >= _FAULT_LIMITS[failure.whole_page]:
                raise failure
        else:
            self._faults_in_a_row = 0
        self._add(entry, failure)

    def failed_again(self, entry: Entry) -> bool:
        """Keep an entry whose new try failed; return whether it is dropped instead."""
        now = self.now()
        if now - entry.first > _DROP_AFTER:
            del self._entries[entry.conversation_id]
            del self.read_from[entry.conversation_id]
            self._save()
            return True
        self._entries[entry.conversation_id] = replace(entry, last=now)
        self._save()
        return False

    def check_denied(self) -> None:
        """End the page.

        Raises:
            PageSkipped: all conversations that were requested were denied.
        """
        if self._denied:
            raise self._denied[0][1]

    def _add(self, entry: Entry, failure: PageFailed) -> None:
        earlier = self._entries.get(entry.conversation_id)
        if earlier is not None:
            entry = replace(earlier, since=min(earlier.since, entry.since), last=entry.last)
        else:
            self.on_new(failure)
        self._entries[entry.conversation_id] = entry
        self.read_from[entry.conversation_id] = entry.since
        if len(self._entries) > MOST:
            msg = (
                f"{failure}: more than {MOST:,} of this page are set aside, so the stream fails:"
                " there must be a common cause"
            )
            raise PageFailed(msg)
        self._save()

    def _save(self) -> None:
        """Write the entries into the state."""
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
