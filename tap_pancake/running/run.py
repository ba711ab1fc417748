"""Objects that the streams of a run share: connection, limits, tokens, and results of pages."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tap_pancake.api.auth import PageTokens
from tap_pancake.api.errors import PageIdle, PancakeError
from tap_pancake.api.limits import Limits
from tap_pancake.api.redaction import Redactor
from tap_pancake.api.transport import Transport, most_connections
from tap_pancake.reading.selection import Memory
from tap_pancake.reading.state import BATCH_INTERVAL, STATE_INTERVAL, StateClock
from tap_pancake.rows import times
from tap_pancake.rows.shaping import CUSTOMER, STAFF
from tap_pancake.running.account import Case, RunAccount
from tap_pancake.running.lanes import AHEAD, Lanes
from tap_pancake.running.progress import Progress, by_reason
from tap_pancake.running.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_pancake.api.errors import PageFailed, PageSkipped
    from tap_pancake.rows.personal import Protection


_AHEAD_AT_LEAST = 3
# More for each second of latency: Pancake's limit of 5 requests per second, and a reserve for
# conversations that are fully read and wait to be written.
_AHEAD_PER_SECOND = 8


def items_ahead_at(latency: float) -> int:
    """Return how many items of a page to request ahead, given the latency in seconds."""
    return min(AHEAD, _AHEAD_AT_LEAST + round(latency * _AHEAD_PER_SECOND))


# Seconds by which the clocks of machine and API may differ without a warning.
_CLOCKS_DIFFER = 60.0


class Run:
    """One run of the tap."""

    tries = 8
    """Maximum number of tries of a request after faults that may pass. They take about a minute, or
    two if answers are slow or do not come. HTTP 429 does not count as a try."""
    patience = 300.0
    """Seconds after which a request fails if all answers of its page are HTTP 429."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        write_state: Callable[[], int],
        user_agent: str,
    ) -> None:
        """Create the run, without any request.

        Args:
            config: the settings; most are read only when they are used.
            write_state: writes a STATE message at once, and returns its length.
            user_agent: the User-Agent header if the settings have none.
        """
        self._config = config
        self._user_agent = user_agent
        self._logger = logging.getLogger("tap-pancake")
        self.redactor = Redactor()
        interval = BATCH_INTERVAL if config.get("batch_config") else STATE_INTERVAL
        self.state_clock = StateClock(write_state, interval)
        self.streams: dict[str, Any] = {}
        """All streams, by name, for streams that use each other."""
        self.memory = Memory()
        """The rows that were read in this run."""
        self.answered: set[str | None] = set()
        """Ids of pages with a successful answer since the current stream of the page started; None
        is the user API."""
        self._clock_ahead = 0.0
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        self.account = RunAccount()
        self._left_out: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._skipped: defaultdict[str, list[str]] = defaultdict(list)
        """Skipped streams that are not logged yet, by page."""

    @cached_property
    def shard(self) -> Shard:
        """The shard of this run, which decides the pages to read."""
        return Shard.of(self._config)

    @cached_property
    def protection(self) -> Protection | None:
        """The protection of personal data; None if all of it is kept."""
        how = self._config["personal_data"]
        if how == "keep":
            return None
        # The import takes time, and most users do not need it.
        from tap_pancake.rows.personal import Protection  # noqa: PLC0415

        whose = {CUSTOMER, STAFF} if self._config["personal_data_of"] == "everybody" else {CUSTOMER}
        return Protection(whose, self._config["personal_data_key"] if how == "hash" else None)

    @cached_property
    def transport(self) -> Transport:
        """The HTTP transport."""
        # For each page: the requests of helper threads, and one of the lane itself. And one request
        # for the list of pages.
        needed = int(self._config["max_parallel_pages"]) * (AHEAD + 1) + 1
        allowed = most_connections() or needed
        return Transport(
            timeout=float(self._config["request_timeout"]),
            user_agent=self._config.get("user_agent") or self._user_agent,
            connections=min(needed, allowed),
            when_full=lambda: self._warn_connections(allowed),
        )

    def _warn_connections(self, allowed: int) -> None:
        """Log once that there are fewer connections than parallel requests."""
        if self.is_first_time("connections"):
            self._logger.warning(
                "The limit of open files of this process leaves %s connections, so pages wait for"
                " one another: raise the limit (`ulimit -n 4096`), or lower `max_parallel_pages`",
                f"{allowed:,}",
            )

    @cached_property
    def lanes(self) -> Lanes:
        """The lanes of pages. The thread that creates them holds the baton."""
        return Lanes(
            int(self._config["max_parallel_pages"]), self.state_clock.tick, self._calls_of_page
        )

    def items_ahead(self) -> int:
        """Return how many items of a page to request ahead, just enough to use its rate limit.

        Not more, because answers that wait to be written take memory.
        """
        return items_ahead_at(self.transport.latency)

    def _calls_of_page(self, page_id: str | None) -> int:
        """Return the maximum number of parallel requests of a page, one of them in the queue."""
        pace = self.limits.of(page_id).pace
        return min(AHEAD, math.ceil(pace * self.transport.latency) + 2)

    @cached_property
    def progress(self) -> Progress:
        """The progress of the run, which it logs."""
        return Progress(self.limits, self.account, lambda stream: self.streams[stream].seconds)

    @cached_property
    def limits(self) -> Limits:
        """The rate limiters, one for each page."""
        return Limits(float(self._config["requests_per_second"]))

    @cached_property
    def tokens(self) -> PageTokens:
        """The page tokens."""
        return PageTokens(self._config.get("page_access_tokens") or {}, self.redactor)

    def is_first_time(self, what: str) -> bool:
        """Return whether a key is new in this run, to log something once; thread-safe."""
        with self._lock:
            new = what not in self._noted
            self._noted.add(what)
        return new

    def clock(self) -> int:
        """Return the current time by the earlier of the two clocks, in microseconds since 1970."""
        return int((time.time() - max(0.0, self._clock_ahead)) * 1_000_000)

    def latest(self) -> int:
        """Return the current time by the later of the two clocks, in microseconds since 1970."""
        return int((time.time() - min(0.0, self._clock_ahead)) * 1_000_000)

    def compare_clocks(self, ahead: float | None) -> None:
        """Keep the difference between the clocks of machine and API, and log it once; thread-safe.

        Args:
            ahead: seconds that this machine's clock is ahead; negative if it is behind. None if the
                API did not return its time.
        """
        if ahead is None:
            if self.is_first_time("no clock"):
                self._logger.warning(
                    "The API does not send the time (no header `Date`), so the tap cannot check the"
                    " clock of this machine: lists are read again from their newest rows, and"
                    " statistics may lack hours if the clock is wrong: let proxies pass the header"
                )
            return
        self._clock_ahead = ahead
        if abs(ahead) > _CLOCKS_DIFFER and self.is_first_time("clocks"):
            self._logger.warning(
                "The clock of this machine is %s %s that of the API. Bookmarks follow the earlier"
                " of the two, so no row is lost, but some rows may be read again: set the clock",
                times.in_words(abs(ahead)),
                "ahead of" if ahead > 0 else "behind",
            )

    def page_failed(self, failure: PageFailed, stream: str, page_id: str | None) -> None:
        """Log and record that something of a page failed. Its bookmark does not move."""
        self._note(Case.FAILED, failure, stream, page_id)
        self._logger.error("%s", failure)

    def page_skipped(self, refusal: PageSkipped, stream: str, page_id: str | None) -> None:
        """Record that a stream of a page is skipped. Its bookmark does not move.

        It is logged when the page is done, because many streams may be skipped for the same reason.
        """
        case = Case.IDLE if isinstance(refusal, PageIdle) else Case.SKIPPED
        self._note(case, refusal, stream, page_id)
        if page_id is None:
            self._logger.warning("Skipped: %s", refusal)
        else:
            self._skipped[page_id].append(str(refusal))

    def log_skipped(self, *page_ids: str) -> None:
        """Log the skipped streams of some pages, or of all, in one line for each reason."""
        for page_id in page_ids or list(self._skipped):
            for reason, places in by_reason(self._skipped.pop(page_id, [])):
                first, *more = dict.fromkeys(places)
                names = [first, *(place.removeprefix(f"page {page_id}, ") for place in more)]
                self._logger.warning("Skipped: %s: %s", ", ".join(names), reason)

    def set_aside(self, failure: PageFailed, stream: str, page_id: str | None) -> None:
        """Log and record that a part of a stream is set aside for a retry by later runs."""
        self._note(Case.SET_ASIDE, failure, stream, page_id)
        self._logger.error("Set aside: %s", failure)

    def still_aside(self, text: str, stream: str, page_id: str | None) -> None:
        """Log and record what is still set aside; the text has the form "place: reason"."""
        self._note(Case.STILL_ASIDE, text, stream, page_id)
        self._logger.warning("Still set aside: %s", text)

    def lacking(self, text: str, stream: str, page_id: str | None) -> None:
        """Log and record once for a page that the API counts more than it returns; thread-safe."""
        if self.is_first_time(f"lacking {stream} {page_id}"):
            self._note(Case.LACKING, text, stream, page_id)
            self._logger.warning("%s", text)

    def _note(self, case: Case, what: object, stream: str, page_id: str | None) -> None:
        self.account.note(case, str(what), stream, page_id)

    def row_left_out(self, reason: str, stream: str, page_id: str | None) -> None:
        """Count a row that cannot be written; thread-safe.

        Args:
            reason: the problem, which continues "rows"; has names of keys, never values.
            stream: the stream of the row.
            page_id: the page of the row; None for all pages together.
        """
        with self._lock:
            self._left_out[stream][reason] += 1
        self.account.note(Case.LEFT_OUT, f"rows {reason}", stream, page_id)

    def summarise(self) -> None:
        """Log the rows left out, and the summary of the run."""
        for stream, reasons in sorted(self._left_out.items()):
            named = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
            msg = (
                f"{stream}: rows that cannot be written were left out: {named}: the API may have"
                " changed, please report this"
            )
            self._logger.error("%s", msg)
        kinds = {case: [case] for case in (Case.FAILED, Case.SET_ASIDE, Case.STILL_ASIDE)}
        kinds[Case.SKIPPED] = [Case.SKIPPED, Case.IDLE]
        self.progress.summarise(
            {name: self.account.cases(*cases) for name, cases in kinds.items()},
            [name for name, stream in self.streams.items() if stream.selected],
        )

    def raise_for_failed_pages(self) -> None:
        """Raise an error if anything failed, was set aside, or was left out.

        With the setting `fail_on_skip`, also if anything was skipped.

        Raises:
            PancakeError: the run was not successful.
        """
        if skipped := self.account.cases(Case.SKIPPED, Case.IDLE):
            self._logger.info("Skipped in all: %s (the log above says why)", f"{len(skipped):,}")
        denied = self.account.cases(Case.SKIPPED) if self._config.get("fail_on_skip") else []
        failed, aside = self.account.cases(Case.FAILED), self.account.cases(Case.SET_ASIDE)
        failures = failed + aside
        rows = sum(reasons.total() for reasons in self._left_out.values())
        parts = []
        if failures:
            counts = {"failed": len(failed), "set aside": len(aside)}
            named = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
            text = f"{named}: what was read is written, and the next run tries the rest again"
            parts.append(text)
        if rows:
            text = f"rows that cannot be written were left out: {rows:,}"
            parts.append(text)
        if denied:
            text = f"skipped, which is a failure with `fail_on_skip`: {len(denied):,}"
            parts.append(text)
        if first := [*failures, *denied][:1]:
            text = f"the first: {first[0]}"
            parts.append(text)
        if parts:
            raise PancakeError("; ".join(parts))
