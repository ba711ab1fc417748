"""What the streams of one run share: connection, limits, tokens, walks, and how pages fared."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tap_pancake.auth import PageTokens
from tap_pancake.errors import PageFailed, PageSkipped, PancakeError
from tap_pancake.limits import Limits
from tap_pancake.redaction import Redactor
from tap_pancake.state import PageWalk, StateClock
from tap_pancake.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_pancake.interrupts import Interrupts


class Run:
    """One run of the tap."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        interrupts: Interrupts,
        write_state: Callable[[], None],
        user_agent: str,
    ) -> None:
        """Hold the settings; nothing is asked for, and no setting is looked at, before it is used.

        Args:
            config: the settings.
            interrupts: whether the run was told to end.
            write_state: writes a STATE message, at once.
            user_agent: the header of that name, where the settings have none.
        """
        self._config = config
        self._user_agent = user_agent
        self._logger = logging.getLogger("tap-pancake")
        self.interrupts = interrupts
        self.redactor = Redactor()
        self.state_clock = StateClock(write_state)
        self.walks: dict[str, PageWalk] = {}
        """The walk that is under way, by page."""
        self._failed: list[PageFailed] = []
        self._skipped: list[PageSkipped] = []

    @cached_property
    def transport(self) -> Transport:
        """Sends the calls."""
        return Transport(
            timeout=float(self._config["request_timeout"]),
            user_agent=self._config.get("user_agent") or self._user_agent,
        )

    @cached_property
    def limits(self) -> Limits:
        """Spaces the calls of each page."""
        return Limits(float(self._config["requests_per_second"]))

    @cached_property
    def tokens(self) -> PageTokens:
        """Knows the page tokens."""
        return PageTokens(self._config.get("page_access_tokens") or {}, self.redactor)

    def page_failed(self, failure: PageFailed) -> None:
        """Note that a page cannot be read; its bookmarks stay where they are."""
        self._failed.append(failure)
        self._logger.error("%s", failure)

    def page_skipped(self, refusal: PageSkipped) -> None:
        """Note that a page may not be read; its bookmarks stay where they are."""
        self._skipped.append(refusal)
        self._logger.warning("Skipped: %s", refusal)

    def raise_for_failed_pages(self) -> None:
        """End a run in which a page failed with an error.

        Raises:
            PancakeError: at least one page failed.
        """
        if self._skipped:
            self._logger.warning("Pages skipped: %d, see the warnings above", len(self._skipped))
        if self._failed:
            msg = f"pages that failed: {len(self._failed)}; all others were read: {self._failed[0]}"
            raise PancakeError(msg)
