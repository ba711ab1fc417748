"""Progress of a run: a log line every ten seconds, and a summary at the end.

All threads record their figures here. The main thread, which is otherwise idle, writes the lines.
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
# Seconds of waiting for an answer after which a line shows it.
_LONG_WAIT = 5.0
# Maximum number of pages in a line: pages that are furthest behind, and pages slowed the most.
_NAMED_PAGES = 3
# Facts of an answer may contain a message of the API, which may have brackets itself.
_FACTS = re.compile(r" \((?:(?:HTTP|error) \d.*|[^()]*)\)$")
# Maximum number of places in the summary that are named for each reason.
_NAMED = 5


def without_facts(reason: str) -> str:
    """Return a reason without the facts in brackets at its end, such as the id of the request."""
    return _FACTS.sub("", reason)


def by_reason(texts: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    """Group texts of the form "place: reason": return each reason with its places."""
    found: dict[str, tuple[str, list[str]]] = {}
    for text in texts:
        place, _, reason = text.partition(": ")
        found.setdefault(without_facts(reason), (reason, []))[1].append(place)
    return found.values()


@dataclass
class _Walk:
    """Position of the reading of a page's conversations, which goes back in time."""

    place: str
    start: str | None
    first_seen: float = field(default_factory=time.monotonic)

    def share(self, now: str) -> float:
        """Return the share of the time from now back to the start that is read; 0 if unknown."""
        if self.start is None:
            return 0.0
        start, place, end = map(times.unix, (self.start, self.place, now))
        return 1.0 if end <= start else min(1.0, max(0.0, (end - place) / (end - start)))


@dataclass
class _Wait:
    """A request whose answer has not arrived."""

    place: str
    began: float = field(default_factory=time.monotonic)
    number: str = ""
    """Number of the try, such as "2 of 8"; empty for the first."""
    refusals: int = 0
    """Number of answers with HTTP 429 so far."""

    @property
    def seconds(self) -> float:
        """Seconds since the first try."""
        return time.monotonic() - self.began


def counted(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun, singular or plural."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _count_429(totals: Mapping[str, Tally]) -> str:
    number = sum(tally.limited for tally in totals.values())
    return counted(number, "answer 429", "answers 429")


def _waiting_text(wait: _Wait) -> str:
    where = f"{wait.place}, {wait.seconds:.0f} s so far"
    if wait.refusals:
        return f"refused {counted(wait.refusals, 'time')} with HTTP 429: {where}"
    return f"waiting for an answer: {where}" + (f" (try {wait.number})" if wait.number else "")


def _slowed_pages(paces: Mapping[str, float]) -> Iterator[str]:
    """Yield texts with the current rate of slowed pages, the slowest first."""
    slowest = sorted(paces, key=lambda page: paces[page])[:_NAMED_PAGES]
    for page in slowest:
        yield f"page {page} is slowed to {paces[page]:.1f} calls/s"
    if more := len(paces) - len(slowest):
        yield f"{counted(more, 'more page is', 'more pages are')} slowed"


class Progress:
    """The progress of a run."""

    def __init__(
        self, limits: Limits, account: RunAccount, seconds: Callable[[str], float]
    ) -> None:
        """Start the clock.

        Args:
            limits: the rate limiters, with the pace of each page.
            account: the results of the run.
            seconds: returns the time that a stream was read, for all pages in parallel.
        """
        self._limits = limits
        self._account = account
        self._seconds = seconds
        self._logger = logging.getLogger("tap-pancake")
        self._lock = threading.Lock()
        self._walks: dict[str, _Walk | None] = {}
        self._waits: dict[int, _Wait] = {}  # by thread
        self._since: dict[str, float] = {}  # when a page began, or the last line was logged
        self._allowed = 0.0  # calls since the last line that the rate limits of ended pages allowed
        self._ended: set[str] = set()
        self._pages = 0
        self._started = self._logged_at = time.monotonic()
        self._calls_logged = 0

    # Called by lanes and helper threads

    def retried(self, number: str) -> None:
        """Record a retry of this thread's request, with the number of the try, such as "2 of 8"."""
        self._waits[threading.get_ident()].number = number

    def refused(self) -> None:
        """Record that this thread's request was refused with HTTP 429 and is repeated."""
        self._waits[threading.get_ident()].refusals += 1

    @contextmanager
    def waiting(self, place: str) -> Iterator[None]:
        """Record that this thread waits for an answer, over all tries."""
        # Without the lock: each thread has its own entry, and a thousand threads call this.
        thread = threading.get_ident()
        outer = self._waits.get(thread)  # a request that waits for a newer page token
        self._waits[thread] = _Wait(place)
        try:
            yield
        finally:
            if outer:
                self._waits[thread] = outer
            else:
                del self._waits[thread]

    def expect(self, pages: int) -> None:
        """Record the number of pages to read."""
        self._pages = pages

    def begin(self, page_id: str) -> None:
        """Record that the reading of a page has started."""
        with self._lock:
            self._walks[page_id] = None
            self._since[page_id] = time.monotonic()

    def end(self, page_id: str) -> None:
        """Record that a page is done, or has failed."""
        with self._lock:
            self._walks.pop(page_id, None)
            seconds = time.monotonic() - self._since.pop(page_id)
            self._allowed += seconds * self._limits.of(page_id).pace
            self._ended.add(page_id)

    def reached(self, page_id: str, place: str, start: str | None) -> None:
        """Record the position of the reading of a page's conversations.

        Args:
            page_id: the page.
            place: the time of the current conversation.
            start: the time at which the reading ends, or None. Both are in the tap's time format.
        """
        way = self._walks.get(page_id)
        if way is None:
            with self._lock:
                self._walks[page_id] = _Walk(place, start)
        else:
            way.place = place

    # Called by the main thread

    def tick(self) -> None:
        """Log a line if the last one is ten seconds ago or more."""
        now = time.monotonic()
        if now - self._logged_at >= INTERVAL:
            self._logger.info("%s", self._line(now - self._logged_at))
            self._logged_at = now

    def _line(self, seconds: float) -> str:
        with self._lock:
            under_way = dict(self._walks)
            allowed = self._calls_allowed() / seconds
            wait = max(list(self._waits.values()), key=lambda wait: wait.seconds, default=None)
        totals = self._account.totals()
        calls = sum(tally.calls for tally in totals.values())
        rate, self._calls_logged = (calls - self._calls_logged) / seconds, calls
        if wait is not None and not self._pages:
            return _waiting_text(wait)  # there is nothing else to log yet
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
                _count_429(totals),
                *_slowed_pages(slowed),
                *self._furthest_behind(under_way),
                *([_waiting_text(wait)] if wait and wait.seconds >= _LONG_WAIT else []),
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
            under_way, ended = set(self._walks), set(self._ended)
        failed = set(self._account.failing) - under_way
        pages = self._pages + len(failed - ended)  # those that do not exist
        text = f"{len(ended - failed):,} of {counted(pages, 'page')} done"
        return text + (f" ({len(failed):,} failed)" if failed else "")

    def _furthest_behind(self, under_way: Mapping[str, _Walk | None]) -> Iterable[str]:
        """Yield texts about the pages that have been read for a while and are furthest behind."""
        now, then = times.text(datetime.now(UTC)), time.monotonic() - INTERVAL
        ways = {page: way for page, way in under_way.items() if way and way.first_seen < then}
        newest = sorted(ways, key=lambda page: ways[page].place, reverse=True)
        for page in sorted(newest, key=lambda page: ways[page].share(now))[:_NAMED_PAGES]:
            way = ways[page]
            yield (
                f"page {page} has read back to {way.place[:10]}"
                + (f" ({way.share(now):.0%} of the way to {way.start[:10]})" if way.start else "")
            )

    def summarise(
        self, failures: Mapping[str, Iterable[str]], selected: Collection[str] = ()
    ) -> None:
        """Log the summary.

        Args:
            failures: kind of problem, such as "Skipped" → texts of the form "place: reason".
            selected: streams to name even if they made no request.
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
            time.monotonic() - self._started,
            counted(sum(tally.rows for tally in totals.values()), "row"),
            counted(sum(tally.calls for tally in totals.values()), "call"),
            _count_429(totals),
        )
