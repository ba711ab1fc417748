"""The state of each stream and page, and the time to write the next STATE.

The state has an entry for each page, never for a conversation. An entry has a `Coverage`
(`coverage.py`): its `top` as `replication_key_value`, which is the name that people and Meltano
expect, its `open` stretches and its `floor`. It also has facts for later runs, such as what is set
aside.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tap_pancake.api.errors import ConfigurationError, PageFailed
from tap_pancake.reading.coverage import BEGINNING, Coverage, Stretch
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Seconds between two STATE messages. The documents promise 5, for a STATE that is not large.
STATE_INTERVAL = 3.0
# The same for records in files. A file ends before each STATE, so this avoids many small files.
BATCH_INTERVAL = 30.0
# Largest rate of STATE messages, in bytes a second: with thousands of pages, each has about 100 KB.
STATE_RATE = 100_000

KEY, TOP, OPEN, FLOOR = "replication_key", "replication_key_value", "open", "floor"
FACTS: dict[str, object] = {
    "ads": [],  # ids of ads, each with the day of its request, empty while it waits
    "aside": [],  # conversations, days or ads that could not be read, for later runs
    "doubt": [],  # since when, and in how many runs, the head was older than rows read before
    "filters": None,  # the time by which the bounds of the list filter, as the answers showed
    "late": None,  # all rows that were stored before this time are read
    "lookback": [],  # the time of the last lookback of statistics, and its length in seconds
    "newest": None,  # the newest time of a row that was read
    "pages": [],  # the pages of a total
    "rows": None,  # a digest of all rows of a list without an order, if one answer had them all
    "sorts": None,  # the time by which the list sorts, as the answers showed
    "whole": [],  # the time when the list was last read whole, and the number of calls
    "zone": None,  # hours ahead of UTC as rows showed, for a page without a time zone
}
"""The names that an entry may have besides its coverage, with their empty values."""


class StateClock:
    """The schedule of STATE messages."""

    def __init__(self, write: Callable[[], int], interval: float = STATE_INTERVAL) -> None:
        """Begin now.

        Args:
            write: a function that writes a STATE message and returns its length in bytes.
            interval: smallest number of seconds between two messages.
        """
        self._write = write
        self._interval = interval
        self._due = time.monotonic() + interval

    def tick(self) -> None:
        """Write a STATE if it is due."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write a STATE now."""
        length = self._write()
        self._due = time.monotonic() + max(self._interval, length / STATE_RATE)


@dataclass(frozen=True)
class Form:
    """The text form of times in the state of a stream."""

    text: Callable[[int], str]
    """A function from microseconds since 1970 to text."""
    read: Callable[[str], int]
    """The inverse of `text`; it raises ValueError if the text is not a time."""


INSTANT = Form(times.from_micros, times.micros)
DATE = Form(
    lambda at: times.from_micros(at)[: len("2024-01-31")],
    lambda value: times.micros(times.day(value)),
)


class Bookmark:
    """The entry of one stream and page in the state."""

    def __init__(
        self,
        part: dict[str, Any],
        key: str,
        *,
        incremental: bool,
        form: Form = INSTANT,
        start: int = BEGINNING,
        end: int | None = None,
    ) -> None:
        """Load an entry of the state.

        Args:
            part: the entry, to which `save` and `note` write.
            key: the stream's replication key; empty if it has none.
            incremental: whether the stream keeps a state; if not, as for a full table, the entry is
                not used.
            form: the text form of its times.
            start: the earliest time that this run reads.
            end: the latest time that this run reads; None is no end.
        """
        self._part = part if incremental else {}
        self._original = dict(self._part)
        self._key = key
        self._form = form
        top, floor = self._part.get(TOP), self._part.get(FLOOR)
        self.coverage = Coverage(
            top=form.read(top) if top else None,
            floor=None if floor is None else self._read_floor(floor),
            stretches=[
                Stretch(self._read_floor(low), form.read(high))
                for low, high in self._part.get(OPEN, [])
            ],
            start=start,
            end=end,
        )

    @property
    def top(self) -> str | None:
        """The `top` as text in the state; None if there is none."""
        return self._part.get(TOP)

    def freeze(self) -> None:
        """Keep the entry as it is now: later calls of this run do not change it."""
        self._part = {}

    def take_back(self) -> None:
        """Restore the entry as it was before this run, and keep it."""
        self._part.clear()
        self._part.update(self._original)
        self.freeze()

    def _read_floor(self, value: str) -> int:
        return self._form.read(value) if value else BEGINNING

    def _floor_text(self, at: int) -> str:
        return "" if at == BEGINNING else self._form.text(at)

    def save(self) -> None:
        """Write the coverage into the entry."""
        coverage = self.coverage
        if coverage.top is None:
            return
        if self._key:
            self._part[KEY] = self._key
        self._part[TOP] = self._form.text(coverage.top)
        self._part[FLOOR] = self._floor_text(coverage.floor)
        self._put(
            OPEN,
            [
                [self._floor_text(stretch.low), self._form.text(stretch.high)]
                for stretch in coverage.stretches
            ],
            [],
        )

    def fact(self, name: str) -> Any:
        """Return the value of one of the names of `FACTS`, or its empty value."""
        return self._part.get(name, FACTS[name])

    def note(self, name: str, value: object) -> None:
        """Write the value of one of the names of `FACTS` into the entry, for later runs."""
        self._put(name, value, FACTS[name])

    def _put(self, name: str, value: object, nothing: object) -> None:
        # The entry of a whole stream always has each name: Meltano merges states, and would restore
        # a name that is missing. Meltano replaces lists of entries, so the others can omit names.
        if value != nothing or "context" not in self._part:
            self._part[name] = value
        else:
            self._part.pop(name, None)


def check(state: object, keys: Mapping[str, str | None]) -> None:
    """Check that a state is one of this tap.

    An unknown name is refused, not ignored: it may be the progress of a run, and rows would be
    lost. Only the entries of unknown streams are left as they are.

    Args:
        state: the content of `--state`.
        keys: the replication key of each stream; None for a full table.

    Raises:
        ConfigurationError: it is not a state of this tap; the text has the stream and page.
    """
    if not isinstance(state, dict) or (state and not isinstance(state.get("bookmarks"), dict)):
        msg = f"the state has no object `bookmarks`: {_REMEDY}"
        if isinstance(state, dict) and state.get("type") == "STATE":
            msg = "the state is a whole STATE message: give the object in its `value`"
        raise ConfigurationError(msg)
    bookmarks = state.get("bookmarks", {})
    if bookmarks and bookmarks.keys().isdisjoint(keys):
        msg = f"the state has no stream of this tap, but {min(bookmarks)}: {_REMEDY}"
        raise ConfigurationError(msg)
    for stream in bookmarks.keys() & keys.keys():
        bookmark, place = bookmarks[stream], f"stream {stream}"
        partitions = bookmark.get("partitions", []) if isinstance(bookmark, dict) else None
        if not isinstance(partitions, list):
            raise _damaged(place, "partitions")
        _check_part(bookmark, keys[stream], place, of_inbox=stream in _INBOX)
        pages = set()
        for partition in partitions:
            context = partition.get("context") if isinstance(partition, dict) else None
            page_id = context.get("page_id") if isinstance(context, dict) else None
            if not isinstance(page_id, str) or page_id in pages:
                msg = f"the state of {place} has an entry without page, or a page twice: {_REMEDY}"
                raise ConfigurationError(msg)
            pages.add(page_id)
            _check_part(
                partition,
                keys[stream],
                f"{place}, page {page_id}",
                of_inbox=stream in _INBOX,
            )


def pages_in(state: Mapping[str, Any]) -> set[str]:
    """Return the ids of the pages that have an entry in a checked state."""
    streams = [one for one in state.get("bookmarks", {}).values() if isinstance(one, dict)]
    parts = [part for one in streams for part in one.get("partitions") or []]
    contexts = [part.get("context") for part in parts if isinstance(part, dict)]
    return {one["page_id"] for one in contexts if isinstance(one, dict) and one.get("page_id")}


def in_the_future(place: str, at: str) -> PageFailed:
    """Return the error for an entry whose `top` is in the future."""
    msg = (
        f"{place}: the state has {at}, which is in the future: correct the clock of the machine"
        " that wrote it, and remove this entry from the state to read it again"
    )
    return PageFailed(msg)


_REMEDY = "give the state that the tap wrote, or run without state to read everything again"
_NAMES = frozenset({"context", "partitions", KEY, TOP, OPEN, FLOOR, *FACTS})
# The streams that set conversations or ads aside. Others set days aside.
_INBOX = frozenset({"ads", "conversations", "messages", "conversation_details"})
# The names of earlier versions, which had no coverage. None was released.
_EARLIER_NAMES = frozenset({"resume", "ordered"})


def _check_part(part: dict[str, Any], key: str | None, what: str, *, of_inbox: bool) -> None:
    """Check one entry of the state, of a page or of a whole stream.

    Raises:
        ConfigurationError: it is not an entry of this tap.
    """
    if (by := part.get(KEY, key)) != key:
        msg = f"the state of {what} has the replication key `{by}`, not the stream's: {_REMEDY}"
        raise ConfigurationError(msg)
    if unknown := part.keys() - _NAMES - _EARLIER_NAMES:
        msg = (
            f"the state of {what} has `{min(unknown)}`, which this version does not know:"
            f" use the version that wrote it, or a newer one; or {_REMEDY}"
        )
        raise ConfigurationError(msg)
    if _EARLIER_NAMES & part.keys() or (part.get(TOP) is not None and FLOOR not in part):
        msg = (
            f"the state of {what} has no `{FLOOR}`: another tap wrote it, or a version whose state"
            " this version cannot read: run once without state"
        )
        raise ConfigurationError(msg)
    form = DATE if key == "date" else INSTANT
    readers = _readers(form, of_inbox=of_inbox)
    for name in part.keys() & readers.keys():
        try:
            readers[name](part[name])
        except (TypeError, ValueError, AttributeError):
            raise _damaged(what, name) from None


def _damaged(what: str, name: str) -> ConfigurationError:
    msg = f"the state of {what} has a damaged `{name}`: {_REMEDY}"
    return ConfigurationError(msg)


def _readers(form: Form, *, of_inbox: bool) -> dict[str, Callable[[Any], object]]:
    """Return a function for each name of an entry that reads its value as a run does.

    Each raises TypeError, ValueError or AttributeError if the value is damaged.

    Args:
        form: the text form of the times of the stream.
        of_inbox: whether conversations or ads are set aside, instead of stretches.
    """
    return {
        TOP: lambda value: form.read(value) if value else None,
        FLOOR: lambda value: form.read(value) if value else None,
        OPEN: partial(_read_stretches, form),
        "aside": _read_conversations if of_inbox else partial(_read_stretches, form),
        "ads": _read_ads,
        "doubt": _read_time_and_count,
        "filters": _read_text,
        "late": _read_time,
        "lookback": _read_time_and_count,
        "newest": _read_time,
        "pages": _read_list,
        "rows": _read_text,
        "sorts": _read_text,
        "whole": _read_time_and_count,
        "zone": _read_text,
    }


def _read_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _read_text(value: Any) -> None:
    if not isinstance(value, str | None):
        raise TypeError


def _read_time(value: Any) -> None:
    if value is not None:
        times.micros(value)


def _read_time_and_count(value: Any) -> None:
    if _read_list(value):
        at, count = value
        times.micros(at)
        if not isinstance(count, int):
            raise TypeError


def _read_ads(value: Any) -> None:
    for ad_id, day in _read_list(value):
        if not isinstance(ad_id, str):
            raise TypeError
        if day:
            DATE.read(day)


def _read_stretches(form: Form, value: Any) -> None:
    for low, high in _read_list(value):
        form.read(low or high)
        form.read(high)


def _read_conversations(value: Any) -> None:
    for conversation_id, customer_id, since, first, last in _read_list(value):
        if not isinstance(conversation_id, str):
            raise TypeError
        _read_text(customer_id)
        for at in (first, last, *filter(None, [since])):
            times.micros(at)
