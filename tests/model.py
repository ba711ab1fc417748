"""What a target must hold after runs of the tap, whatever befell them.

Said of each stream and page, from what README promises, and from the outside of the tap: its
settings, its output, its exit code. Of a STATE it is only read whether there is a bookmark, from
which some rows before it are read again, and which conversations are set aside.
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
"""Streams with tests of their own, which the model does not know."""
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
    """Tell whether a record has what a row holds; a null may stand for what is not there."""
    return {name: part for name, part in found.items() if part is not None or name in row} == row


def page_of(stream: str, row: Json) -> str:
    """The id of a row's page."""
    return str(row["id" if stream == "pages" else "page_id"])


class History:
    """All that a server was seen to hold, and when."""

    def __init__(self, server: PancakeServer) -> None:
        """Begin with nothing seen."""
        self._server = server
        self._versions: dict[tuple[str, Key], list[tuple[int, Json]]] = defaultdict(list)
        self.looks = 0
        self.began = MIN
        """When the last run did."""
        self.gone: set[tuple[str, Key]] = set()
        """Rows that were deleted, or whose page is not read any more."""
        self.owed: dict[tuple[str, Key], int] = {}
        """Rows that changed without a new time while a lookback reached them: at which look."""
        self.appeared: dict[tuple[str, Key], datetime] = {}
        self.late = timedelta(0)
        """Rows may appear so long after their own time, and at most by a lookback more."""
        self.lookback = timedelta(0)
        self.statistics_lookback = timedelta(0)

    def look(self, streams: Iterable[str]) -> Rows:
        """See what the server holds of some streams now."""
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
        """A row as it was at a look, and as it was seen later."""
        versions = self._versions[stream, key]
        old = [row for at, row in versions if at <= look]
        return old[-1:] + [row for at, row in versions if at > look]

    def ever(self, stream: str, key: Key) -> list[Json]:
        """A row as it was at any time."""
        return [row for _, row in self._versions[stream, key]]

    def time(self, stream: str, row: Json) -> datetime:
        """A row's place in time."""
        if stream in HOURLY:
            return datetime.fromisoformat(row["hour_utc"])
        if stream in stream_truth.DATED:
            zone = self._server.account.page(row["page_id"]).statistics.zone
            return datetime.fromisoformat(row["date"]).replace(tzinfo=zone)
        return datetime.fromisoformat(row[TIMES[stream]])

    def whole(self, stream: str, page: Page, at: datetime) -> datetime:
        """The beginning of the hour or day that a time is in, for streams that count by these."""
        if at in {MIN, MAX} or stream not in stream_truth.DATED:
            return at
        local = at.astimezone(page.statistics.zone).replace(minute=0, second=0, microsecond=0)
        return local if stream in HOURLY else local.replace(hour=0)


INBOX_SET = frozenset(INBOX)
ELSEWHERE = frozenset({"customers", "posts", "call_logs", "ad_conversations"})


@dataclass
class Checkpoint:
    """A STATE as a target hands it back."""

    state: Json | None = None

    def part(self, stream: str, page_id: str) -> Json:
        """The part of the STATE that belongs to a stream of a page."""
        return part_of(self.state or {}, stream, page_id)

    def bookmark(self, stream: str, page: Page) -> datetime | None:
        """The bookmark of a stream of a page."""
        value = self.part(stream, page.id).get("replication_key_value")
        if value is None:
            return None
        at = datetime.fromisoformat(value)
        return at if at.tzinfo else at.replace(tzinfo=page.statistics.zone)


@dataclass
class Promise:
    """What one run promises of one stream of one page: all between its start and its end."""

    history: History
    checkpoint: Checkpoint
    stream: str
    page: Page
    config: Json
    aside: frozenset[str] = frozenset()
    """Conversations that a WARNING named, since their messages cannot be read."""
    lag: timedelta = timedelta(0)
    """So far behind were some of the answers that this run got."""
    looked: datetime = MAX
    """Up to when rows were stored that the run has looked for, if the list ignores `order_by`."""

    def __post_init__(self) -> None:
        """Work out what is to be read."""
        start, end = (self.config.get(name) for name in ("start_date", "end_date"))
        self.start = datetime.fromisoformat(start) if start else MIN
        self.first = self.history.whole(self.stream, self.page, self.start)
        self.end = datetime.fromisoformat(end) if end else MAX
        self.bookmark = self.checkpoint.bookmark(self.stream, self.page)

    def __str__(self) -> str:
        """Say what matters when a promise is broken."""
        state = self.checkpoint.part(self.stream, self.page.id)
        return f"start {self.start}, end {self.end}, state {state}"

    def holds(self, at: datetime) -> bool:
        """Tell whether a row of this time must have been read when the run is done."""
        return self.first <= at <= self.end

    def excuses(self, key: Key, at: datetime) -> bool:
        """Tell whether a row may be missing for a reason that the documents name."""
        if self.stream == "messages" and key[0] in self.aside:
            return True
        appeared = self.history.appeared[self.stream, key]
        if self.lag and appeared > self.history.began - self.lag:
            return True
        if self.stream in {"conversations", "messages"} and appeared > self.looked:
            return True
        # Only conversations can be asked for by when they were stored.
        reach = max(self.history.late, self.history.lookback)
        return self.stream in ELSEWHERE and self.bookmark is not None and appeared - at > reach

    @property
    def looks_back(self) -> bool:
        """Whether the lookback is surely read: that of statistics is at most every 6 hours."""
        last = self.checkpoint.part(self.stream, self.page.id).get("lookback")
        if not last or self.config["statistics_lookback_days"] * 86_400 > last[1]:
            return True
        # The run may have a clock that is half a minute behind.
        return self.history.began - datetime.fromisoformat(last[0]) > SIX_HOURS

    @property
    def fresh_from(self) -> datetime:
        """Rows from this time on are read again."""
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
        """Begin empty."""
        self.rows: Rows = defaultdict(dict)

    def take(self, stream: str, row: Json) -> None:
        """Store a record."""
        self.rows[stream][key_of(stream, row)] = row


def _differences(row: Json, found: Json | None) -> Json:
    """What a record has otherwise than a row: both values, by name."""
    other = found or {}
    return {
        name: (part, other.get(name))
        for name, part in row.items()
        if part != other.get(name) and (found or name.endswith(("_at", "time", "date", "_utc")))
    }


def check_records(
    history: History, began: int, records: Iterator[tuple[str, Json]], *, lags: bool
) -> None:
    """Assert that each record is a row as it was while the run went on, or before if copies lag."""
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
    """Assert that a target holds what a run promised of one stream of one page.

    Args:
        history: what the server held.
        target: what arrived.
        promise: of the run.
        held: what the server held of the stream when the run began.
        began: the look of that moment.
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
            # It was not to be read, or it moved to where nothing is to be read.
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
