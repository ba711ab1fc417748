"""Page tokens: from the settings, or from list-pages, which is requested again at most once a page.

The tap never generates or renews a token. Exactly one token of a page is valid at a time, so a new
one would lock out every other program (reference, section 1.3). List-pages returns each page's
current token.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tap_pancake.api.errors import PageFailed, PageUnreadable, RunStopped

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
        """Start with the tokens of the settings.

        Args:
            configured: page id to token, from `page_access_tokens`; they take precedence.
            redactor: removes each token from the log.
        """
        self._configured = dict(configured)
        self._listed: dict[str, str] = {}
        self.relist: Callable[[], object] | None = None
        """Function that requests list-pages and passes its tokens to `learn`; None without a user
        token."""
        self._relisted_for: set[str] = set()
        self._relist_lock = threading.Lock()
        self._redactor = redactor
        redactor.learn(self._configured.values())

    def learn(self, listed: Mapping[str, str]) -> None:
        """Store the tokens that list-pages returned."""
        self._redactor.learn(listed.values())
        self._listed.update(listed)

    def of(self, page_id: str) -> str:
        """Return a page's token.

        Raises:
            PageUnreadable: the page has no token.
        """
        token = self._configured.get(page_id) or self._listed.get(page_id)
        if not token:
            msg = (
                f"page {page_id}: the page has no page token: ask an administrator of the page to"
                " create one in Pancake under the page's Settings → Tools, or put its token into"
                " `page_access_tokens`"
            )
            raise PageUnreadable(msg)
        return token

    def newer(self, page_id: str, refused: str) -> bool:
        """Return whether the page has a token other than the refused one.

        List-pages is requested for it, once for each page in a run.

        Raises:
            PageUnreadable: the request of list-pages failed.
        """
        with self._relist_lock:  # one response of list-pages serves every thread that waits
            if self.of(page_id) != refused:
                return True
            if self.relist is None or page_id in self._relisted_for:
                return False
            self._relisted_for.add(page_id)
            try:
                self.relist()
            except (RunStopped, PageFailed) as refusal:
                # The run goes on: the tokens of other pages may still be valid.
                msg = (
                    f"page {page_id}: its token was replaced, and the tap cannot get the new one:"
                    f" {refusal}"
                )
                raise PageUnreadable(msg) from None
            found = self._listed.get(page_id)
            if not found or found == refused:
                return False
            # Pancake replaced the token of the settings: list-pages has the current one.
            self._configured.pop(page_id, None)
            return True
