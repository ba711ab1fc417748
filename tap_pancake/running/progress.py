"""What a run has done so far: a line about it every ten seconds, and a summary at its end.

Figures are noted where they arise, from any thread; the lines are written by the main thread, which
has nothing else to do.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from tap_pancake.api.limits import Limits
    from tap_pancake.running.account import RunAccount, Tally

INTERVAL = 10.0
"""Seconds between two lines."""
# Seconds after which a line names what is waited for.
_LONG_WAIT = 5.0
# Pages named in a line: those that are furthest behind, and those that are slowed most.
_SLOW = 3
# Those of an answer may hold what the API says, which may have brackets of its own.
_FACTS = re.compile(r" \((?:(?:HTTP|error) \d.*|[^()]*)\)$")
# Of all that failed or was skipped for the same reason, so many are named.
_NAMED = 5


def without_facts(reason: str) -> str:
    """Return a reason without the facts at its end, such as the id of the one request."""
    return _FACTS.sub("", reason)


def by_reason(texts: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    """Sort texts of a place, a colon and a reason: each reason as the first has it, its places."""
    found: dict[str, tuple[str, list[str]]] = {}
    for text in texts:
        place, _, reason = text.partition(": ")
        found.setdefault(without_facts(reason), (reason, []))[1].append(place)
    return found.values()


@dataclass
class _Way:
    """How far the walk over a page's conversations is, which goes back in time."""

    place: str
    start: str | None
    first_seen: float = field(default_factory=time.monotonic)

    def share(self, now: str) -> float:
        """Return how much of the time between now and the start is behind it; 0 if unknown."""
        if self.start is None:
            return 0.0
        start, place, end = map(times.unix, (self.start, self.place, now))
        return 1.0 if end <= start else min(1.0, max(0.0, (end - place) / (end - start)))


@dataclass
class _Wait:
    """A call whose answer is waited for."""

    place: str
    began: float = field(default_factory=time.monotonic)
    number: str = ""
    """Of the try, such as "2 of 8"; empty for the first."""
    refusals: int = 0
    """Answers 429 so far."""

    @property
    def seconds(self) -> float:
        """How long it has been waited for."""
        return time.monotonic() - self.began


def counted(number: int, one: str, more: str = "") -> str:
    """Return a number of things."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _limited(totals: Mapping[str, Tally]) -> str:
    number = sum(tally.limited for tally in totals.values())
    return counted(number, "answer 429", "answers 429")


def _waits_for(wait: _Wait) -> str:
    where = f"{wait.place}, {wait.seconds:.0f} s so far"
    if wait.refusals:
        return f"refused {counted(wait.refusals, 'time')} with HTTP 429: {where}"
    return f"waiting for an answer: {where}" + (f" (try {wait.number})" if wait.number else "")


def _slowed(paces: Mapping[str, float]) -> Iterator[str]:
    """Say to how many calls a second pages are slowed, the slowest first."""
    slowest = sorted(paces, key=lambda page: paces[page])[:_SLOW]
    for page in slowest:
        yield f"page {page} is slowed to {paces[page]:.1f} calls/s"
    if more := len(paces) - len(slowest):
        yield f"{counted(more, 'more page is', 'more pages are')} slowed"


class Progress:
    """The figures of a run."""

    def __init__(
        self, limits: Limits, account: RunAccount, seconds: Callable[[str], float]
    ) -> None:
        """Wait for the first line.

        Args:
            limits: tell the pace of each page.
            account: knows what was done.
            seconds: how long a stream was read, of all pages together: they are side by side.
        """
        self._limits = limits
        self._account = account
        self._seconds = seconds
        self._logger = logging.getLogger("tap-pancake")
        self._lock = threading.Lock()
        self._under_way: dict[str, _Way | None] = {}
        self._waits: dict[int, _Wait] = {}  # by thread
        self._since: dict[str, float] = {}  # when a page began, or the last line was written
        self._allowed = 0.0  # calls since the last line that the rate limits of ended pages allowed
        self._ended: set[str] = set()
        self._pages = 0
        self._began = self._told = time.monotonic()
        self._calls_told = 0

    # Noted by lanes and by what asks ahead

    def retried(self, number: str) -> None:
        """Note that this thread's call is to be made again, and that it is try "2 of 8"."""
        self._waits[threading.get_ident()].number = number

    def refused(self) -> None:
        """Note that this thread's call was answered 429, and is to be made again."""
        self._waits[threading.get_ident()].refusals += 1

    @contextmanager
    def waiting(self, place: str) -> Iterator[None]:
        """Note that this thread waits for an answer, of all tries together."""
        # Without the lock: an entry is its thread's own, and a thousand threads come by here.
        thread = threading.get_ident()
        outer = self._waits.get(thread)  # which waits for a newer page token
        self._waits[thread] = _Wait(place)
        try:
            yield
        finally:
            if outer:
                self._waits[thread] = outer
            else:
                del self._waits[thread]

    def expect(self, pages: int) -> None:
        """Note how many pages there are."""
        self._pages = pages

    def begin(self, page_id: str) -> None:
        """Note that a page is being read."""
        with self._lock:
            self._under_way[page_id] = None
            self._since[page_id] = time.monotonic()

    def end(self, page_id: str) -> None:
        """Note that a page has been read, or given up."""
        with self._lock:
            self._under_way.pop(page_id, None)
            seconds = time.monotonic() - self._since.pop(page_id)
            self._allowed += seconds * self._limits.of(page_id).pace
            self._ended.add(page_id)

    def reached(self, page_id: str, place: str, start: str | None) -> None:
        """Note where the walk over a page's conversations is.

        Args:
            page_id: of which page.
            place: the time of the conversation that is written.
            start: where the walk ends, if that is known; both in the tap's form of time.
        """
        way = self._under_way.get(page_id)
        if way is None:
            with self._lock:
                self._under_way[page_id] = _Way(place, start)
        else:
            way.place = place

    # Told by the main thread

    def tick(self) -> None:
        """Write a line, if the last one is ten seconds ago."""
        now = time.monotonic()
        if now - self._told >= INTERVAL:
            self._logger.info("%s", self._line(now - self._told))
            self._told = now

    def _line(self, seconds: float) -> str:
        with self._lock:
            under_way = dict(self._under_way)
            allowed = self._calls_allowed() / seconds
            wait = max(list(self._waits.values()), key=lambda wait: wait.seconds, default=None)
        totals = self._account.totals()
        calls = sum(tally.calls for tally in totals.values())
        rate, self._calls_told = (calls - self._calls_told) / seconds, calls
        if wait is not None and not self._pages:
            return _waits_for(wait)  # there is nothing else to tell yet
        slowed = {page: pace for page, pace in self._limits.slowed().items() if page in under_way}
        inbox = [
            (totals[f"{name}s"].rows if f"{name}s" in totals else 0, name)
            for name in ("conversation", "message")
        ]
        others = sum(tally.rows for tally in totals.values()) - sum(rows for rows, _ in inbox)
        written = [counted(rows, name) for rows, name in [*inbox, (others, "other row")]]
        return "; ".join(
            [
                f"{self._pages_done()}, {len(under_way)} under way",
                ", ".join(written),
                f"{rate:.1f} calls/s" + (f" of at most {allowed:.1f}" if allowed else ""),
                _limited(totals),
                *_slowed(slowed),
                *self._slow(under_way),
                *([_waits_for(wait)] if wait and wait.seconds >= _LONG_WAIT else []),
            ]
        )

    def _calls_allowed(self) -> float:
        """Return the number of calls that the rate limits allowed since the last line."""
        now = time.monotonic()
        allowed, self._allowed = self._allowed, 0.0
        for page_id, since in self._since.items():
            allowed += (now - since) * self._limits.of(page_id).pace
            self._since[page_id] = now
        return allowed

    def _pages_done(self) -> str:
        with self._lock:
            under_way, ended = set(self._under_way), set(self._ended)
        failed = set(self._account.failing) - under_way
        pages = self._pages + len(failed - ended)  # those that do not exist
        text = f"{len(ended - failed):,} of {counted(pages, 'page')} done"
        return text + (f" ({len(failed):,} failed)" if failed else "")

    def _slow(self, under_way: Mapping[str, _Way | None]) -> Iterable[str]:
        """Say where the pages are that were read for a while and are furthest behind."""
        now, then = times.text(datetime.now(UTC)), time.monotonic() - INTERVAL
        ways = {page: way for page, way in under_way.items() if way and way.first_seen < then}
        newest = sorted(ways, key=lambda page: ways[page].place, reverse=True)
        for page in sorted(newest, key=lambda page: ways[page].share(now))[:_SLOW]:
            way = ways[page]
            yield (
                f"page {page} has read back to {way.place[:10]}"
                + (f" ({way.share(now):.0%} of the way to {way.start[:10]})" if way.start else "")
            )

    def summarise(
        self, failures: Mapping[str, Iterable[str]], selected: Collection[str] = ()
    ) -> None:
        """Write the summary.

        Args:
            failures: how it is called (failed, skipped) → place, colon and reason of each.
            selected: streams that are named even if they made no call.
        """
        quiet, totals = [], self._account.totals()
        for name, tally in sorted(totals.items()):
            if tally.rows or tally.retries:
                self._logger.info(
                    "%s: %s, %s, %s, %.1f s",
                    name,
                    counted(tally.rows, "row"),
                    counted(tally.calls, "call"),
                    counted(tally.retries, "retry", "retries"),
                    self._seconds(name),
                )
            elif tally.calls or name in selected:
                quiet.append(f"{name} ({counted(tally.calls, 'call')})")
        if quiet:
            self._logger.info("No rows: %s", ", ".join(quiet))
        for what, cases in failures.items():
            for reason, ones in by_reason(cases):
                more = f" and {len(ones) - _NAMED:,} more" if len(ones) > _NAMED else ""
                places = "; ".join(ones[:_NAMED]) + more
                self._logger.info("%s: %s: %s", what, places, without_facts(reason))
        self._logger.info(
            "%s in %.1f s: %s, %s, %s",
            self._pages_done() if self._pages else "No page was read",
            time.monotonic() - self._began,
            counted(sum(tally.rows for tally in totals.values()), "row"),
            counted(sum(tally.calls for tally in totals.values()), "call"),
            _limited(totals),
        )
