"""What the STATE keeps of each stream of each page, and when it is written.

State is keyed by page, never by conversation. A part of it holds a `Coverage` (`coverage.py`): its
`top` as `replication_key_value`, so that people and Meltano see a time that they know, its `open`
stretches and its `floor`; and what else later runs must know, such as what is set aside.
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

# Seconds between two STATE messages of a long run; 5 is promised, of a STATE that is not large.
STATE_INTERVAL = 3.0
# The same where records go into files, which are written before each STATE: not many small ones.
BATCH_INTERVAL = 30.0
# Bytes a second that STATE messages take at most: of thousands of pages, each has some 100 KB.
STATE_RATE = 100_000

KEY, TOP, OPEN, FLOOR = "replication_key", "replication_key_value", "open", "floor"
FACTS: dict[str, object] = {
    "ads": [],  # which advertisements wait to be asked for, and when others were asked for
    "aside": [],  # what could not be read, and is tried again by later runs
    "doubt": [],  # how often, and since when, the head was older than what was read before
    "filters": None,  # which time the bounds of the list were seen to compare
    "late": None,  # rows that were stored before this time were all met
    "lookback": [],  # when the lookback of statistics was last read, and of how many seconds
    "newest": None,  # the newest time of a row that was read
    "pages": [],  # which pages a total is of
    "rows": None,  # a digest of all rows of a list without an order that one answer held
    "sorts": None,  # by which time the list was seen to sort
    "whole": [],  # when the list was last read whole, and with how many calls
    "zone": None,  # hours ahead of UTC of a page that does not say, as its rows showed
}
"""What a part may hold beside its coverage, and what stands for nothing."""


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


@dataclass(frozen=True)
class Form:
    """How the times of a stream's state are written."""

    text: Callable[[int], str]
    """Writes microseconds since 1970."""
    read: Callable[[str], int]
    """Reads what `text` wrote; raises ValueError if it is no time."""


INSTANT = Form(times.from_micros, times.micros)
DATE = Form(
    lambda at: times.from_micros(at)[: len("2024-01-31")],
    lambda value: times.micros(times.day(value)),
)


class Bookmark:
    """One stream's part of the state for one page."""

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
        """Stand for a place in the state.

        Args:
            part: the page's dict in the state; `save` and `note` write to it.
            key: the stream's replication key; empty if it has none.
            incremental: false if the user asked for the full table; nothing is kept then.
            form: how its times are written.
            start: nothing older is read by this run.
            end: nothing newer is; None is no end.
        """
        self._part = part if incremental else {}
        self._before = dict(self._part)
        self._key = key
        self._form = form
        top, floor = self._part.get(TOP), self._part.get(FLOOR)
        self.coverage = Coverage(
            top=form.read(top) if top else None,
            floor=None if floor is None else self._floor(floor),
            stretches=[
                Stretch(self._floor(low), form.read(high)) for low, high in self._part.get(OPEN, [])
            ],
            start=start,
            end=end,
        )

    @property
    def top(self) -> str | None:
        """The top as the state has it."""
        return self._part.get(TOP)

    def freeze(self) -> None:
        """Let the state be as it is now, whatever else this run notes."""
        self._part = {}

    def take_back(self) -> None:
        """Let the state be as it was before this run."""
        self._part.clear()
        self._part.update(self._before)
        self.freeze()

    def _floor(self, value: str) -> int:
        return self._form.read(value) if value else BEGINNING

    def _floor_text(self, at: int) -> str:
        return "" if at == BEGINNING else self._form.text(at)

    def save(self) -> None:
        """Write the coverage into the state."""
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
        """Return what an earlier run noted under one of the names of `FACTS`."""
        return self._part.get(name, FACTS[name])

    def note(self, name: str, value: object) -> None:
        """Keep something for later runs under one of the names of `FACTS`."""
        self._put(name, value, FACTS[name])

    def _put(self, name: str, value: object, nothing: object) -> None:
        # A stream's own part writes each name: Meltano merges states, and brings back a name that
        # is not there. Lists of parts it replaces.
        if value != nothing or "context" not in self._part:
            self._part[name] = value
        else:
            self._part.pop(name, None)


def check(state: object, keys: Mapping[str, str | None]) -> None:
    """Check a state, which may be anybody's.

    What this version does not know is refused rather than passed over: it may be the progress of a
    run, and rows would be lost. Only a stream that it does not know is left as it is.

    Args:
        state: what `--state` held.
        keys: the replication key of each stream; None for a full table.

    Raises:
        ConfigurationError: it is no state of this tap; the text names stream and page.
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
    """Return the pages of which a state that was checked keeps something."""
    streams = [one for one in state.get("bookmarks", {}).values() if isinstance(one, dict)]
    parts = [part for one in streams for part in one.get("partitions") or []]
    contexts = [part.get("context") for part in parts if isinstance(part, dict)]
    return {one["page_id"] for one in contexts if isinstance(one, dict) and one.get("page_id")}


def in_the_future(place: str, at: str) -> PageFailed:
    """Return the error of a part of the state that says that the future was read."""
    msg = (
        f"{place}: the state has {at}, which is in the future: correct the clock of the machine"
        " that wrote it, and remove this entry from the state to read it again"
    )
    return PageFailed(msg)


_REMEDY = "give the state that the tap wrote, or run without state to read everything again"
_NAMES = frozenset({"context", "partitions", KEY, TOP, OPEN, FLOOR, *FACTS})
# Of these, conversations or advertisements are set aside, and of others days.
_INBOX = frozenset({"ads", "conversations", "messages", "conversation_details"})
# Of versions before coverage, of which none was released.
_EARLIER = frozenset({"resume", "ordered"})


def _check_part(part: dict[str, Any], key: str | None, what: str, *, of_inbox: bool) -> None:
    """Check one stream's part of the state, of a page or of its own."""
    if (by := part.get(KEY, key)) != key:
        msg = f"the state of {what} has the replication key `{by}`, not the stream's: {_REMEDY}"
        raise ConfigurationError(msg)
    if unknown := part.keys() - _NAMES - _EARLIER:
        msg = (
            f"the state of {what} has `{min(unknown)}`, which this version does not know:"
            f" use the version that wrote it, or a newer one; or {_REMEDY}"
        )
        raise ConfigurationError(msg)
    if _EARLIER & part.keys() or (part.get(TOP) is not None and FLOOR not in part):
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
    """Return what reads each value of a part as a run would in the middle of its work.

    Each raises TypeError, ValueError or AttributeError if the tap did not write the value so.

    Args:
        form: of the times of the stream.
        of_inbox: whether conversations are set aside, and not stretches.
    """
    return {
        TOP: lambda value: form.read(value) if value else None,
        FLOOR: lambda value: form.read(value) if value else None,
        OPEN: partial(_read_stretches, form),
        "aside": _read_conversations if of_inbox else partial(_read_stretches, form),
        "ads": _read_ads,
        "doubt": _read_counted,
        "filters": _read_text,
        "late": _read_time,
        "lookback": _read_counted,
        "newest": _read_time,
        "pages": _read_list,
        "rows": _read_text,
        "sorts": _read_text,
        "whole": _read_counted,
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


def _read_counted(value: Any) -> None:
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
