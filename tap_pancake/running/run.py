"""What the streams of one run share: connection, limits, tokens, walks, and how pages fared."""

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
# More for each second that an answer takes: Pancake's limit of 5 a second, and the share of the
# chains that have ended and wait for their turn.
_AHEAD_PER_SECOND = 8


def reach_at(latency: float) -> int:
    """Return how many things of a page to ask for ahead where an answer takes so many seconds."""
    return min(AHEAD, _AHEAD_AT_LEAST + round(latency * _AHEAD_PER_SECOND))


# Seconds that the clocks of machine and API may differ without a word.
_CLOCKS_DIFFER = 60.0


class Run:
    """One run of the tap."""

    tries = 8
    """How often a call is made at most, while its fault may pass: for about a minute if answers
    come at once, for about two if they are slow, or never come. Answers 429 do not count."""
    patience = 300.0
    """Seconds in which all answers of a page may be 429."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        write_state: Callable[[], int],
        user_agent: str,
    ) -> None:
        """Hold the settings; nothing is asked for, and no setting is looked at, before it is used.

        Args:
            config: the settings.
            write_state: writes a STATE message, at once; gives its length.
            user_agent: the header of that name, where the settings have none.
        """
        self._config = config
        self._user_agent = user_agent
        self._logger = logging.getLogger("tap-pancake")
        self.redactor = Redactor()
        interval = BATCH_INTERVAL if config.get("batch_config") else STATE_INTERVAL
        self.state_clock = StateClock(write_state, interval)
        self.streams: dict[str, Any] = {}
        """The streams by name, for those that work together."""
        self.memory = Memory()
        """What was read in this run."""
        self.answered: set[str | None] = set()
        """The pages of which a good answer came since the page's stream began; None is the user
        API."""
        self._ahead = 0.0
        self._said: set[str] = set()
        self._saying = threading.Lock()
        self.account = RunAccount()
        self._left_out: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._skipped: defaultdict[str, list[str]] = defaultdict(list)
        """By page, what is not logged yet."""

    @cached_property
    def shard(self) -> Shard:
        """Which pages are read."""
        return Shard.of(self._config)

    @cached_property
    def protection(self) -> Protection | None:
        """What becomes of personal data; None if it is kept."""
        how = self._config["personal_data"]
        if how == "keep":
            return None
        # What it needs takes time to load, and few need it.
        from tap_pancake.rows.personal import Protection  # noqa: PLC0415

        whose = {CUSTOMER, STAFF} if self._config["personal_data_of"] == "everybody" else {CUSTOMER}
        return Protection(whose, self._config["personal_data_key"] if how == "hash" else None)

    @cached_property
    def transport(self) -> Transport:
        """Sends the calls."""
        # Beside those that ask ahead, a lane may ask itself; and one call asks for the pages.
        wanted = int(self._config["max_parallel_pages"]) * (AHEAD + 1) + 1
        allowed = most_connections() or wanted
        return Transport(
            timeout=float(self._config["request_timeout"]),
            user_agent=self._config.get("user_agent") or self._user_agent,
            connections=min(wanted, allowed),
            when_full=lambda: self._tell_connections(allowed),
        )

    def _tell_connections(self, allowed: int) -> None:
        """Say once that there are fewer connections than calls that could be under way."""
        if self.is_new("connections"):
            self._logger.warning(
                "The limit of open files of this process leaves %s connections, so pages wait for"
                " one another: raise the limit (`ulimit -n 4096`), or lower `max_parallel_pages`",
                f"{allowed:,}",
            )

    @cached_property
    def lanes(self) -> Lanes:
        """The lanes of pages. Who needs them first holds their baton."""
        return Lanes(
            int(self._config["max_parallel_pages"]), self.state_clock.tick, self._calls_of_page
        )

    def reach(self) -> int:
        """Return how many things of a page to ask for ahead, so that its limit is reached.

        No more than that: what is read before it can be written takes memory.
        """
        return reach_at(self.transport.latency)

    def _calls_of_page(self, page_id: str | None) -> int:
        """Return how many calls of a page can be under way: one of them waits for its turn."""
        pace = self.limits.of(page_id).pace
        return min(AHEAD, math.ceil(pace * self.transport.latency) + 2)

    @cached_property
    def progress(self) -> Progress:
        """Counts what is done, and tells of it."""
        return Progress(self.limits, self.account, lambda stream: self.streams[stream].seconds)

    @cached_property
    def limits(self) -> Limits:
        """Spaces the calls of each page."""
        return Limits(float(self._config["requests_per_second"]))

    @cached_property
    def tokens(self) -> PageTokens:
        """Knows the page tokens."""
        return PageTokens(self._config.get("page_access_tokens") or {}, self.redactor)

    def is_new(self, what: str) -> bool:
        """Tell whether something is to be said for the first time in this run; any thread may."""
        with self._saying:
            new = what not in self._said
            self._said.add(what)
        return new

    def clock(self) -> int:
        """Return the time now by the earlier of the two clocks, in microseconds since 1970."""
        return int((time.time() - max(0.0, self._ahead)) * 1_000_000)

    def latest(self) -> int:
        """Return the time now by the later of the two clocks, in microseconds since 1970."""
        return int((time.time() - min(0.0, self._ahead)) * 1_000_000)

    def compare_clocks(self, ahead: float | None) -> None:
        """Say once if the clocks of machine and API differ; any thread may.

        Args:
            ahead: seconds that this machine's is ahead; below 0 it is behind. None if the API did
                not tell.
        """
        if ahead is None:
            if self.is_new("no clock"):
                self._logger.warning(
                    "The API does not send the time (no header `Date`), so the tap cannot check the"
                    " clock of this machine: lists are read again from their newest rows, and"
                    " statistics may lack hours if the clock is wrong: let proxies pass the header"
                )
            return
        self._ahead = ahead
        if abs(ahead) > _CLOCKS_DIFFER and self.is_new("clocks"):
            self._logger.warning(
                "The clock of this machine is %s %s that of the API. Bookmarks follow the earlier"
                " of the two, so no row is lost, but some rows may be read again: set the clock",
                times.in_words(abs(ahead)),
                "ahead of" if ahead > 0 else "behind",
            )

    def page_failed(self, failure: PageFailed, stream: str, page_id: str | None) -> None:
        """Note that something of a page cannot be read; its bookmarks stay where they are."""
        self._note(Case.FAILED, failure, stream, page_id)
        self._logger.error("%s", failure)

    def page_skipped(self, refusal: PageSkipped, stream: str, page_id: str | None) -> None:
        """Note that something of a page may not be read; its bookmarks stay where they are.

        It is logged when the page is done: most of its streams may be skipped for one reason.
        """
        case = Case.IDLE if isinstance(refusal, PageIdle) else Case.SKIPPED
        self._note(case, refusal, stream, page_id)
        if page_id is None:
            self._logger.warning("Skipped: %s", refusal)
        else:
            self._skipped[page_id].append(str(refusal))

    def tell_skipped(self, *page_ids: str) -> None:
        """Log what was skipped of pages, in a line for each reason; without pages, of all."""
        for page_id in page_ids or list(self._skipped):
            for reason, places in by_reason(self._skipped.pop(page_id, [])):
                first, *more = dict.fromkeys(places)
                names = [first, *(place.removeprefix(f"page {page_id}, ") for place in more)]
                self._logger.warning("Skipped: %s: %s", ", ".join(names), reason)

    def set_aside(self, failure: PageFailed, stream: str, page_id: str | None) -> None:
        """Note that a part of a stream cannot be read, from now on: later runs try it again."""
        self._note(Case.SET_ASIDE, failure, stream, page_id)
        self._logger.error("Set aside: %s", failure)

    def still_aside(self, text: str, stream: str, page_id: str | None) -> None:
        """Note what an earlier run set aside and this one could not read: place, colon, reason."""
        self._note(Case.STILL_ASIDE, text, stream, page_id)
        self._logger.warning("Still set aside: %s", text)

    def lacking(self, text: str, stream: str, page_id: str | None) -> None:
        """Note once for a page that the API tells of more than it answers; any thread may."""
        if self.is_new(f"lacking {stream} {page_id}"):
            self._note(Case.LACKING, text, stream, page_id)
            self._logger.warning("%s", text)

    def _note(self, case: Case, what: object, stream: str, page_id: str | None) -> None:
        self.account.note(case, str(what), stream, page_id)

    def row_left_out(self, reason: str, stream: str, page_id: str | None) -> None:
        """Count a row that cannot be written; any thread may.

        Args:
            reason: what is wrong with it, after "rows"; names of keys, never values.
            stream: its stream.
            page_id: its page; None for all pages together.
        """
        with self._saying:
            self._left_out[stream][reason] += 1
        self.account.note(Case.LEFT_OUT, f"rows {reason}", stream, page_id)

    def summarise(self) -> None:
        """Say what was done, and what was not and why."""
        for stream, reasons in sorted(self._left_out.items()):
            named = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
            msg = (
                f"{stream}: rows that cannot be written were left out: {named}: the API may have"
                " changed, please report this"
            )
            self._logger.error("%s", msg)
        told = {case: [case] for case in (Case.FAILED, Case.SET_ASIDE, Case.STILL_ASIDE)}
        told[Case.SKIPPED] = [Case.SKIPPED, Case.IDLE]
        self.progress.summarise(
            {name: self.account.cases(*cases) for name, cases in told.items()},
            [name for name, stream in self.streams.items() if stream.selected],
        )

    def raise_for_failed_pages(self) -> None:
        """End a run in which something failed, or was set aside or left out, with an error.

        So does what was skipped, with the setting `fail_on_skip`.

        Raises:
            PancakeError: something of at least one page failed.
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
