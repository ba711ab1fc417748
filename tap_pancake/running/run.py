"""What the streams of one run share: connection, limits, tokens, walks, and how pages fared."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tap_pancake.api.auth import PageTokens
from tap_pancake.api.errors import PageFailed, PancakeError
from tap_pancake.api.limits import Limits
from tap_pancake.api.redaction import Redactor
from tap_pancake.api.transport import Transport
from tap_pancake.reading.state import BATCH_INTERVAL, STATE_INTERVAL, StateClock
from tap_pancake.running.lanes import Lanes
from tap_pancake.running.progress import Progress
from tap_pancake.running.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


AHEAD = 12
"""How many things of a page are asked for ahead at most, each in a chain of calls of its own."""
_AHEAD_AT_LEAST = 3
# More for each second that an answer takes: Pancake's limit of 5 a second, and the share of the
# chains that have ended and wait for their turn.
_AHEAD_PER_SECOND = 8


def reach_at(latency: float) -> int:
    """Give how many things of a page to ask for ahead where an answer takes so many seconds."""
    return min(AHEAD, _AHEAD_AT_LEAST + round(latency * _AHEAD_PER_SECOND))


class Run:
    """One run of the tap."""

    tries = 8
    """How often a call is made, while its fault may pass: for about a minute, as that may take."""

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
        self.walks: dict[str, Any] = {}
        """The walk over conversations that is under way, by page."""
        self._said: set[str] = set()
        self._failed: list[PageFailed] = []
        self._skipped: list[PageFailed] = []
        self._set_aside: list[PageFailed] = []
        self._still_aside: list[str] = []

    @cached_property
    def shard(self) -> Shard:
        """Which pages are read."""
        return Shard.of(self._config)

    @cached_property
    def transport(self) -> Transport:
        """Sends the calls."""
        return Transport(
            timeout=float(self._config["request_timeout"]),
            user_agent=self._config.get("user_agent") or self._user_agent,
            connections=self._most_pages * AHEAD,
        )

    @cached_property
    def lanes(self) -> Lanes:
        """The lanes of pages. Who needs them first holds their baton."""
        return Lanes(self._most_pages, self.state_clock.tick)

    def reach(self) -> int:
        """Give how many things of a page to ask for ahead, so that its limit is reached.

        No more than that: what is read before it can be written takes memory.
        """
        return reach_at(self.transport.latency)

    @property
    def _most_pages(self) -> int:
        return int(self._config["max_parallel_pages"])

    @cached_property
    def progress(self) -> Progress:
        """Counts what is done, and tells of it."""
        return Progress(float(self._config["requests_per_second"]), self.streams)

    @cached_property
    def limits(self) -> Limits:
        """Spaces the calls of each page."""
        return Limits(float(self._config["requests_per_second"]))

    @cached_property
    def tokens(self) -> PageTokens:
        """Knows the page tokens."""
        return PageTokens(self._config.get("page_access_tokens") or {}, self.redactor)

    def is_new(self, what: str) -> bool:
        """Tell whether something is to be said for the first time in this run."""
        new = what not in self._said
        self._said.add(what)
        return new

    def page_failed(self, failure: PageFailed) -> None:
        """Note that something of a page cannot be read; its bookmarks stay where they are."""
        self._failed.append(failure)
        self._logger.error("%s", failure)

    def page_skipped(self, refusal: PageFailed) -> None:
        """Note that something of a page may not be read; its bookmarks stay where they are."""
        self._skipped.append(refusal)
        self._logger.warning("Skipped: %s", refusal)

    def set_aside(self, failure: PageFailed) -> None:
        """Note that a part of a stream cannot be read, from now on: later runs try it again."""
        self._set_aside.append(failure)
        self._logger.error("Set aside: %s", failure)

    def still_aside(self, text: str) -> None:
        """Note what an earlier run set aside and this one could not read: place, colon, reason."""
        self._still_aside.append(text)
        self._logger.warning("Still set aside: %s", text)

    def summarise(self) -> None:
        """Say what was done, and what was not and why."""
        ended = {"Failed": self._failed, "Skipped": self._skipped}
        self.progress.summarise(
            {
                what: [str(failure).partition(": ")[::2] for failure in failures]
                for what, failures in ended.items()
            }
        )

    def raise_for_failed_pages(self) -> None:
        """End a run in which something failed with an error.

        Raises:
            PancakeError: something of at least one page failed.
        """
        if self._skipped:
            self._logger.warning("In all %d skipped: see the warnings above", len(self._skipped))
        failures = [*self._failed, *self._set_aside]
        if failures:
            counts = {"failed": len(self._failed), "set aside": len(self._set_aside)}
            named = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
            text = "what was read is written, the rest is tried by the next run"
            msg = f"{named}: {text}; the first: {failures[0]}"
            raise PancakeError(msg)
