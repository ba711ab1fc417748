"""What is read of a page's lists, what their bookmarks mean, and when STATE is written.

State is keyed by page, never by conversation. A *walk* reads a list from old to new. The one over a
page's conversations serves two streams:

- the bookmark of `conversations` is the newest `updated_at` that was written, but at most
  `message_lookback_minutes` before the walk began, since younger rows can still appear late;
- the bookmark of `messages` is the start of the last walk that came to its end: every message of
  the page that was sent before it has been written. So it is no message's time, and moves only when
  a walk is done. (The newest message seen would lose data: a conversation can be passed over while
  it moves.)

The walk over any other list (customers, posts, …) serves the one stream, as that of conversations
does without `messages`. Statistics have walks of their own, see `buckets.py`.

An unfinished walk leaves `resume` in the state of the streams it reads: where it began, how far it
came, and the `end_date` it had, if any. The next run goes on from there; a finished walk leaves
none. The rows' has `settled`, too: the rows before are not read again by the runs that go on, so
their bookmark stops where the first of them could have left it at most, and the lookback of the run
after that reaches what changed meanwhile. `ordered` is kept of a list that was seen to sort as was
asked, see `windows.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Seconds between two STATE messages of a long run; 5 is promised, of a STATE that is not large.
STATE_INTERVAL = 3.0
# The same where records go into files, which are written before each STATE: not many small ones.
BATCH_INTERVAL = 30.0
# Bytes a second that STATE messages take at most: of thousands of pages, each has some 100 KB.
STATE_RATE = 100_000

BOOKMARK = "replication_key_value"
RESUME = "resume"
ORDERED = "ordered"
_START, _REACHED, _END, _SETTLED = "start", "reached", "end", "settled"

# Sorts before every time.
BEGINNING = ""


class StateClock:
    """Says when it is time for the next STATE."""

    def __init__(self, write: Callable[[], int], interval: float = STATE_INTERVAL) -> None:
        """Count from now.

        Args:
            write: writes a STATE message, at once; gives its length in bytes.
            interval: seconds between two.
        """
        self._write = write
        self._interval = interval
        self._due = time.monotonic() + interval

    def tick(self) -> None:
        """Write a STATE if the last one is a while ago."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write a STATE."""
        length = self._write()
        self._due = time.monotonic() + max(self._interval, length / STATE_RATE)


class Bookmark:
    """One stream's part of the state for one page."""

    def __init__(self, state: dict[str, Any], key: str, *, incremental: bool) -> None:
        """Stand for a place in the state.

        Args:
            state: the page's dict in the state; it is written to.
            key: the stream's replication key.
            incremental: false if the user asked for the full table; nothing is kept then.
        """
        self._state = state if incremental else {}
        self._key = key

    @property
    def value(self) -> str:
        """The bookmark; `BEGINNING` if there is none."""
        return str(self._state.get(BOOKMARK) or BEGINNING)

    def advance(self, value: str) -> None:
        """Move the bookmark; it never moves back."""
        if value > self.value:
            self._state["replication_key"] = self._key
            self._state[BOOKMARK] = value

    def resume_from(self, start: str, end: str | None) -> str:
        """Give where to go on: behind what an unfinished walk from `start` or before has done."""
        resume = self._state.get(RESUME)
        if not resume or resume[_START] > start:
            self._state.pop(RESUME, None)
            return start
        if resume.get(_END) not in {None, end}:
            # What that walk passed above its end, it did not read up to now.
            resume[_REACHED] = min(resume[_REACHED], resume.pop(_END))
        return max(start, str(resume[_REACHED]))

    def settled(self, settled: str) -> str:
        """Give what was settled when the walk began, maybe runs ago; now it is `settled`."""
        return min(settled, str(self._state.get(RESUME, {}).get(_SETTLED, settled)))

    def reached(self, start: str, end: str | None, place: str, settled: str | None = None) -> None:
        """Keep how far an unfinished walk has come, and what was settled when it began."""
        before = self._state.get(RESUME, {}).get(_REACHED, start)
        # The start is this walk's own: one that began later has not done what lies before it.
        kept = {} if settled is None else {_SETTLED: self.settled(settled)}
        self._state[RESUME] = {_START: start, _REACHED: max(place, before), **kept}
        if end is not None:
            self._state[RESUME][_END] = end

    def finish(self) -> None:
        """Forget the walk: it is done."""
        self._state.pop(RESUME, None)

    @property
    def is_ordered(self) -> bool:
        """Whether a run has seen that the list sorts by the replication key."""
        return self._state.get(ORDERED) is True

    def note_ordered(self) -> None:
        """Keep for later runs that the list sorts by the replication key."""
        self._state[ORDERED] = True


class PageWalk:
    """What one run reads of one list of a page, and of what hangs on it. Times are in one form."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        rows: Bookmark | None,
        messages: Bookmark | None = None,
        now: str,
    ) -> None:
        """Decide where to begin.

        Args:
            config: the settings.
            rows: the bookmark of the list's own stream; None if it is not selected.
            messages: the bookmark of `messages`; None if it is not selected, or hangs on another.
            now: the start of this walk.
        """
        self._rows = rows
        self._messages = messages
        lookback = float(config["message_lookback_minutes"])
        first = times.normalise(config["start_date"]) if config.get("start_date") else BEGINNING
        self.end: str | None = (
            times.normalise(config["end_date"]) if config.get("end_date") else None
        )
        self.settled = _whole(times.before(now, minutes=lookback))
        """Rows younger than this can still appear late, so a walk that goes on reads them again."""
        self._done = now if self.end is None else min(now, self.end)

        starts = []
        if rows is not None:
            self._rows_start = max(first, _back(rows, days=float(config["lookback_days"])))
            self.rows_since: str | None = rows.resume_from(self._rows_start, self.end)
            starts.append(self.rows_since)
        else:
            self.rows_since = None
        if messages is not None:
            # Where the API cuts off fractions, a message is up to a second younger than it says.
            self.messages_since = max(first, _whole(_back(messages, minutes=lookback)))
            self._touched_since: str | None = _whole(
                messages.resume_from(self.messages_since, self.end)
            )
            starts.append(self._touched_since)
        else:
            self.messages_since = BEGINNING
            self._touched_since = None
        self.start: str | None = min(starts, default=BEGINNING) or None
        """The first time to ask for; None is the beginning of all."""
        # A conversation touched after the end date may hold messages sent before it.
        self.stop: str | None = self.end if messages is None else None
        """The last time to ask for; None is no end."""
        self.messages: Iterator[bytes] | None = None
        """The messages that are read ahead, of the conversation that is written now."""

    def wants_row(self, at: str | None) -> bool:
        """Tell whether a row of the list is written."""
        if self.rows_since is None:
            return False
        if at is None:
            return True
        return at >= self.rows_since and (self.end is None or at <= self.end)

    def wants_messages(self, updated_at: str | None) -> bool:
        """Tell whether a conversation can have messages to read; if not, it costs no call."""
        if self._touched_since is None:
            return False
        return updated_at is None or updated_at >= self._touched_since

    def wants_message(self, inserted_at: str | None) -> bool:
        """Tell whether a message is written."""
        if inserted_at is None:
            return True
        return inserted_at >= self.messages_since and (self.end is None or inserted_at <= self.end)

    def passed(self, at: str) -> None:
        """Note that a row, and all that came before it, is done."""
        if self._rows is not None and self.wants_row(at):
            self._advance_rows(at)
        self.cleared(at)

    def cleared(self, until: str) -> None:
        """Note that nothing is left to read before a time."""
        place = min(until, self.settled)
        if self._rows is not None:
            self._rows.reached(self._rows_start, self.end, place, self.settled)
        if self._messages is not None:
            self._messages.reached(self.messages_since, self.end, place)

    def finish(self, newest: str) -> None:
        """Note that the whole page is done.

        Args:
            newest: the highest time of a row written; `BEGINNING` if there was none.
        """
        if self._rows is not None:
            self._advance_rows(newest)
            self._rows.finish()
        if self._messages is not None:
            self._messages.advance(self._done)
            self._messages.finish()

    def _advance_rows(self, at: str) -> None:
        """Move the bookmark of the rows, but not to where they can still appear late."""
        assert self._rows is not None  # noqa: S101 - the callers asked
        self._rows.advance(min(at, self._rows.settled(self.settled), self._done))


def _back(bookmark: Bookmark, *, days: float = 0, minutes: float = 0) -> str:
    """Give the time so much before a bookmark, if there is one."""
    if not bookmark.value:
        return BEGINNING
    return times.before(bookmark.value, days=days, minutes=minutes)


def _whole(value: str) -> str:
    """Give the whole second of a time."""
    return value and value[: len("2024-01-31T00:00:00")] + ".000000Z"


def check(state: object, keys: Mapping[str, str | None]) -> None:
    """Bring the bookmarks of a state to the tap's one form of time, in place.

    What this version does not know is refused rather than passed over: it may be the progress of a
    walk, and rows would be lost. Only a stream that it does not know is left as it is.

    Args:
        state: what `--state` held.
        keys: the replication key of each stream; None for a full table.

    Raises:
        ConfigurationError: it is no state of this tap; the text names stream and page.
    """
    if not isinstance(state, dict) or (state and not isinstance(state.get("bookmarks"), dict)):
        msg = f"the state has no object `bookmarks`: {_REMEDY}"
        raise ConfigurationError(msg)
    bookmarks = state.get("bookmarks", {})
    if bookmarks and bookmarks.keys().isdisjoint(keys):
        msg = f"the state has no stream of this tap, but {min(bookmarks)}: {_REMEDY}"
        raise ConfigurationError(msg)
    for stream in bookmarks.keys() & keys.keys():
        bookmark = bookmarks[stream]
        partitions = bookmark.get("partitions", []) if isinstance(bookmark, dict) else None
        if not isinstance(partitions, list):
            msg = f"the state of stream {stream} is damaged: {_REMEDY}"
            raise ConfigurationError(msg)
        _check_part(bookmark, keys[stream], f"stream {stream}")
        pages = set()
        for partition in partitions:
            context = partition.get("context") if isinstance(partition, dict) else None
            page_id = context.get("page_id") if isinstance(context, dict) else None
            if not isinstance(page_id, str) or page_id in pages:
                msg = f"the state of stream {stream} has a part of no one page: {_REMEDY}"
                raise ConfigurationError(msg)
            pages.add(page_id)
            _check_part(partition, keys[stream], f"stream {stream}, page {page_id}")


_REMEDY = "give the state that the tap wrote, or run without state to read everything again"
_NAMES = frozenset({"context", "partitions", "replication_key", BOOKMARK, RESUME, ORDERED})
_RESUME_NAMES = frozenset({_START, _REACHED, _END, _SETTLED})


def _check_part(part: dict[str, Any], key: str | None, what: str) -> None:
    """Bring one stream's bookmark, of a page or of its own, to the tap's one form of time."""
    if (by := part.get("replication_key", key)) != key:
        msg = f"the state of {what} is by `{by}` and not by `{key}`: {_REMEDY}"
        raise ConfigurationError(msg)
    resume = part.get(RESUME)
    unknown = (
        part.keys() - _NAMES
        | (resume.keys() if isinstance(resume, dict) else set()) - _RESUME_NAMES
    )
    if unknown:
        msg = (
            f"the state of {what} has `{min(unknown)}`, which this version does not know:"
            f" use the version that wrote it, or a newer one; or {_REMEDY}"
        )
        raise ConfigurationError(msg)
    try:
        if (value := part.get(BOOKMARK)) is not None:
            part[BOOKMARK] = times.day(value) if key == "date" else times.normalise(value)
        if resume is not None:
            for name in {_START, _REACHED} | resume.keys():
                if resume[name] != BEGINNING:
                    resume[name] = times.normalise(resume[name])
    except (TypeError, ValueError, KeyError, AttributeError):
        msg = f"the state of {what} has no valid time: {_REMEDY}"
        raise ConfigurationError(msg) from None
