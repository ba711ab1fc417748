"""One limiter for each page: calls spaced evenly, just under what the API allows.

Pancake counts 5 calls a second for each page, separately (reference, section 2.4). All streams and
retries of a page share its limiter; an answer 429 pauses the whole page.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limiter:
    """Spaces the calls of one page."""

    def __init__(
        self, calls_per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow the first call at once.

        Args:
            calls_per_second: the highest rate, above 0.
            clock: seconds that only grow.
        """
        self._gap = 1 / calls_per_second
        self._clock = clock
        self._next = clock()

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait for the next free place for a call, and take it.

        The place after it is counted from when this call really leaves, so that a late one is not
        followed too soon.
        """
        while (ahead := self._next - self._clock()) > 0:
            sleep(ahead)
        self._next = self._clock() + self._gap

    def pause(self, seconds: float) -> None:
        """Let no call begin for so many seconds."""
        self._next = max(self._next, self._clock() + seconds)


class Limits:
    """The limiters of all pages, and of the user API."""

    def __init__(self, calls_per_second: float) -> None:
        """Remember the rate that holds for each page."""
        self._calls_per_second = calls_per_second
        self._limiters: dict[str | None, Limiter] = {}

    def of(self, page_id: str | None) -> Limiter:
        """Give a page's limiter; None is the user API."""
        if page_id not in self._limiters:
            self._limiters[page_id] = Limiter(self._calls_per_second)
        return self._limiters[page_id]
