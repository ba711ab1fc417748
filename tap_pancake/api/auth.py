"""Page tokens: from settings, from list-pages, re-read once. Never generated, never renewed.

Exactly one token of a page is valid at a time; making a new one would shut out everybody else
(reference, section 1.3). List-pages already holds each page's current token.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tap_pancake.api.errors import PageFailed, PageLost, RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_pancake.api.redaction import Redactor


class PageTokens:
    """The current token of each page."""

    def __init__(
        self,
        configured: Mapping[str, str],
        redactor: Redactor,
    ) -> None:
        """Start with what the settings hold.

        Args:
            configured: page id to token, from `page_access_tokens`; these go before listed ones.
            redactor: learns each token.
        """
        self._configured = dict(configured)
        self._listed: dict[str, str] = {}
        self.relist: Callable[[], object] | None = None
        """Asks list-pages again, and hands the tokens to `learn`; None without a user token."""
        self._asked_again: set[str] = set()
        self._asking = threading.Lock()
        self._redactor = redactor
        redactor.learn(self._configured.values())

    def learn(self, listed: Mapping[str, str]) -> None:
        """Take the tokens that list-pages answered with."""
        self._redactor.learn(listed.values())
        self._listed.update(listed)

    def of(self, page_id: str) -> str:
        """Return a page's token.

        Raises:
            PageLost: there is none.
        """
        token = self._configured.get(page_id) or self._listed.get(page_id)
        if not token:
            msg = (
                f"page {page_id}: the page has no page token: ask an administrator of the page to"
                " create one in Pancake under the page's Settings → Tools, or put its token into"
                " `page_access_tokens`"
            )
            raise PageLost(msg)
        return token

    def newer(self, page_id: str, refused: str) -> bool:
        """Look for another token than the one that was refused; list-pages is asked once in a run.

        Returns:
            Whether there is one now.

        Raises:
            PageLost: list-pages could not be asked.
        """
        with self._asking:  # one answer of list-pages serves all that wait for it
            if self.of(page_id) != refused:
                return True
            if self.relist is None or page_id in self._asked_again:
                return False
            self._asked_again.add(page_id)
            try:
                self.relist()
            except (RunStopped, PageFailed) as refusal:
                # Not the run's end: other pages' tokens may still be good.
                msg = (
                    f"page {page_id}: its token was replaced, and the tap cannot get the new one:"
                    f" {refusal}"
                )
                raise PageLost(msg) from None
            found = self._listed.get(page_id)
            if not found or found == refused:
                return False
            # A token of the settings was replaced in Pancake: the listed one is the current one.
            self._configured.pop(page_id, None)
            return True
