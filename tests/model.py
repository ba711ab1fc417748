"""The rows that a target must hold after runs of the tap, whatever happened during them.

For each stream and page, written from the promises of the documents, and from what can be seen from
outside: settings, output and exit code. From a STATE it reads the bookmarks and lookbacks, to know
which rows are read again, and the conversations that are set aside.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests import stream_truth, truth
from tests.pancake_api.statistics import HOURLY
from tests.tap import INBOX, KEYS, key_of, part_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.pancake_api import Page, PancakeServer
    from tests.tap import Json

    Key = tuple[str, ...]
    Rows = dict[str, dict[Key, Json]]

SIX_HOURS = timedelta(hours=6, minutes=1)
MIN, MAX = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
NOT_MODELLED = {
    "multi_page_user_statistics",
    "customer_feedbacks",
    "conversation_details",
    "ads",
}
"""Streams that the model leaves out, as they have tests of their own."""
STREAMS = tuple(name for name in KEYS if name not in NOT_MODELLED)
FULL_TABLES = frozenset({"pages", "tags", "users"})
TIMES = {
    "conversations": "updated_at",
    "messages": "inserted_at",
    "customers": "updated_at",
    "posts": "inserted_at",
    "call_logs": "start_time",
    "ad_conversations": "updated_at",
}


def same(found: Json, row: Json) -> bool:
    """Return whether a record has a row's values; a null may stand for a missing field."""
    return {name: part for name, part in found.items() if part is not None or name in row} == row


def page_of(stream: str, row: Json) -> str:
    """Return the id of a row's page."""
    return str(row["id" if stream == "pages" else "page_id"])


class History:
    """The rows that a server held, at each look."""

    def __init__(self, server: PancakeServer) -> None:
        """Begin without looks."""
        self._server = server
        self._versions: dict[tuple[str, Key], list[tuple[int, Json]]] = defaultdict(list)
        self.looks = 0
        self.began = MIN
        """The time at which the last run began."""
        self.gone: set[tuple[str, Key]] = set()
        """Rows that were deleted, or whose page is no longer read."""
        self.owed: dict[tuple[str, Key], int] = {}
        """Rows that changed without a new time within a lookback, with the look that showed it."""
        self.appeared: dict[tuple[str, Key], datetime] = {}
        self.late = timedelta(0)
        """The longest time after its own time that a row may appear, besides a lookback."""
        self.lookback = timedelta(0)
        self.statistics_lookback = timedelta(0)

    def look(self, streams: Iterable[str]) -> Rows:
        """Note and return the rows that the server holds of some streams now."""
        with self._server.account.lock:
            now = self._server.account.now()
            held: Rows = {}
            if not INBOX_SET.isdisjoint(streams):
                held = truth.rows_of(self._server)
            for stream in streams:
                if stream not in INBOX_SET:
                    held[stream] = stream_truth.records(self._server, stream)
            self.looks += 1
            for stream, rows in held.items():
                for key, row in rows.items():
                    self._note(stream, key, row, now)
            for stream, key in self._versions:
                if stream in held and key not in held[stream]:
                    self.gone.add((stream, key))
                    self.owed.pop((stream, key), None)
            return held

    def _note(self, stream: str, key: Key, row: Json, now: datetime) -> None:
        versions = self._versions[stream, key]
        self.appeared.setdefault((stream, key), now)
        self.gone.discard((stream, key))
        if versions and versions[-1][1] == row:
            return
        if versions and stream not in FULL_TABLES and stream != "messages":
            at = self.time(stream, row)
            back = self.statistics_lookback if stream in stream_truth.DATED else self.lookback
            if at == self.time(stream, versions[-1][1]) and at >= now - back:
                self.owed[stream, key] = self.looks
        versions.append((self.looks, row))

    def since(self, stream: str, key: Key, look: int) -> list[Json]:
        """Return the versions of a row at a look and later."""
        versions = self._versions[stream, key]
        old = [row for at, row in versions if at <= look]
        return old[-1:] + [row for at, row in versions if at > look]

    def ever(self, stream: str, key: Key) -> list[Json]:
        """Return all versions of a row."""
        return [row for _, row in self._versions[stream, key]]

    def time(self, stream: str, row: Json) -> datetime:
        """Return a row's time."""
        if stream in HOURLY:
            return datetime.fromisoformat(row["hour_utc"])
        if stream in stream_truth.DATED:
            zone = self._server.account.page(row["page_id"]).statistics.zone
            return datetime.fromisoformat(row["date"]).replace(tzinfo=zone)
        return datetime.fromisoformat(row[TIMES[stream]])

    def whole(self, stream: str, page: Page, at: datetime) -> datetime:
        """Return the beginning of a time's hour or day, for streams of hours or days."""
        if at in {MIN, MAX} or stream not in stream_truth.DATED:
            return at
        local = at.astimezone(page.statistics.zone).replace(minute=0, second=0, microsecond=0)
        return local if stream in HOURLY else local.replace(hour=0)


INBOX_SET = frozenset(INBOX)
ELSEWHERE = frozenset({"customers", "posts", "call_logs", "ad_conversations"})


@dataclass
class Checkpoint:
    """A STATE that a target passed on."""

    state: Json | None = None

    def part(self, stream: str, page_id: str) -> Json:
        """Return a page's part of a stream in the STATE."""
        return part_of(self.state or {}, stream, page_id)

    def bookmark(self, stream: str, page: Page) -> datetime | None:
        """Return a page's bookmark of a stream."""
        value = self.part(stream, page.id).get("replication_key_value")
        if value is None:
            return None
        at = datetime.fromisoformat(value)
        return at if at.tzinfo else at.replace(tzinfo=page.statistics.zone)


@dataclass
class Promise:
    """The promise of one run for a stream of a page: all rows between its start and its end."""

    history: History
    checkpoint: Checkpoint
    stream: str
    page: Page
    config: Json
    aside: frozenset[str] = frozenset()
    """Conversations that the log names as set aside, as their messages cannot be read."""
    lag: timedelta = timedelta(0)
    """The delay of the copies of the data that answered some calls of the run."""
    looked: datetime = MAX
    """The storage time up to which the run looked for rows, if the list ignores `order_by`."""

    def __post_init__(self) -> None:
        """Compute the start and the end."""
        start, end = (self.config.get(name) for name in ("start_date", "end_date"))
        self.start = datetime.fromisoformat(start) if start else MIN
        self.first = self.history.whole(self.stream, self.page, self.start)
        self.end = datetime.fromisoformat(end) if end else MAX
        self.bookmark = self.checkpoint.bookmark(self.stream, self.page)

    def __str__(self) -> str:
        """Return what is needed to understand a broken promise."""
        state = self.checkpoint.part(self.stream, self.page.id)
        return f"start {self.start}, end {self.end}, state {state}"

    def holds(self, at: datetime) -> bool:
        """Return whether the run must have read a row of this time."""
        return self.first <= at <= self.end

    def excuses(self, key: Key, at: datetime) -> bool:
        """Return whether a row may be missing for a documented reason."""
        if self.stream == "messages" and key[0] in self.aside:
            return True
        appeared = self.history.appeared[self.stream, key]
        if self.lag and appeared > self.history.began - self.lag:
            return True
        if self.stream in {"conversations", "messages"} and appeared > self.looked:
            return True
        # Only conversations can be requested by the time at which they were stored.
        reach = max(self.history.late, self.history.lookback)
        return self.stream in ELSEWHERE and self.bookmark is not None and appeared - at > reach

    @property
    def looks_back(self) -> bool:
        """Whether the run must read the lookback; statistics read theirs at most every 6 hours."""
        last = self.checkpoint.part(self.stream, self.page.id).get("lookback")
        if not last or self.config["statistics_lookback_days"] * 86_400 > last[1]:
            return True
        # The run may have a clock that is half a minute behind.
        return self.history.began - datetime.fromisoformat(last[0]) > SIX_HOURS

    @property
    def fresh_from(self) -> datetime:
        """The time from which rows are read again."""
        if self.bookmark is None:
            return MIN
        if self.stream == "messages" or self.lag:
            return MAX
        if self.stream in stream_truth.DATED:
            days = timedelta(days=self.config["statistics_lookback_days"] * self.looks_back)
            return self.history.whole(self.stream, self.page, self.bookmark - days)
        return self.bookmark - timedelta(days=self.config["lookback_days"])


class Target:
    """A target that upserts."""

    def __init__(self) -> None:
        """Begin without rows."""
        self.rows: Rows = defaultdict(dict)

    def take(self, stream: str, row: Json) -> None:
        """Store a record."""
        self.rows[stream][key_of(stream, row)] = row


def _differences(row: Json, found: Json | None) -> Json:
    """Return the fields in which a record differs from a row, with both values."""
    other = found or {}
    return {
        name: (part, other.get(name))
        for name, part in row.items()
        if part != other.get(name) and (found or name.endswith(("_at", "time", "date", "_utc")))
    }


def check_records(
    history: History, began: int, records: Iterator[tuple[str, Json]], *, lags: bool
) -> None:
    """Assert that each record is a version of a row during the run, or before it if copies lag."""
    for stream, row in records:
        key = key_of(stream, row)
        versions = history.ever(stream, key) if lags else history.since(stream, key, began)
        assert any(same(row, version) for version in versions), (
            "a record that the server did not hold during the run",
            stream,
            [_differences(version, row) for version in versions],
        )


def check_arrived(
    history: History, target: Target, promise: Promise, held: dict[Key, Json], began: int
) -> None:
    """Assert that a target holds the rows that a run promised for a stream of a page.

    Args:
        history: The rows of the server.
        target: The rows that arrived.
        promise: The promise of the run.
        held: The server's rows of the stream when the run began.
        began: The look at that moment.
    """
    stream = promise.stream
    found: Any
    for key, row in held.items():
        if page_of(stream, row) != promise.page.id or (stream, key) in history.gone:
            continue
        versions = history.since(stream, key, began)
        found = target.rows[stream].get(key)
        about = (stream, key, str(promise), _differences(row, found))
        if stream in FULL_TABLES:
            assert found is not None, ("lost", *about)
            assert any(same(found, one) for one in versions), ("stale", *about)
            continue
        times = [history.time(stream, one) for one in versions]
        owed = history.owed.get((stream, key))
        if not all(map(promise.holds, times)):
            # The run need not read it, or it moved out of the range that the run reads.
            history.owed.pop((stream, key), None)
            continue
        if found is None and promise.excuses(key, times[0]):
            continue
        assert found is not None, ("lost", *about)
        fresh = any(same(found, one) for one in versions)
        if times[0] >= promise.fresh_from:
            assert fresh or promise.excuses(key, times[0]), ("stale", *about)
        else:
            known = [one for one in history.ever(stream, key) if one not in versions]
            assert fresh or any(
                same(found, one) and history.time(stream, one) == times[0] for one in known
            ), ("old", *about)
        if owed is not None and owed <= began and not promise.lag and promise.looks_back:
            late = history.since(stream, key, owed)
            assert any(same(found, one) for one in late), ("a change was passed over", *about)
            del history.owed[stream, key]
