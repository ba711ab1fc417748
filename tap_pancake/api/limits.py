"""One limiter for each page: calls spaced evenly, just under what the API allows.

Pancake counts 5 calls a second for each page, separately (reference, section 2.4). All streams,
threads and retries of a page share its limiter; an answer 429 pauses the whole page.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# The pace is kept over so many calls, as Pancake counts them: one that left late may be followed
# sooner, which is what keeps a busy machine at the limit.
_COUNTED = 5
# But never sooner than this share of an even gap.
_SOONEST = 0.8
# After an answer 429 all gaps are so much wider, in all up to the second number: on a network where
# calls arrive less evenly than they leave, the pace settles where there are hardly any.
_WIDER, _WIDEST = 1.01, 1.25


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
        self._widest = self._gap * _WIDEST
        self._clock = clock
        self._turn = threading.Lock()
        self._pausing = threading.Lock()
        self._left: deque[float] = deque(maxlen=_COUNTED)
        self._paused_until = clock()

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for its place."""
        return self._turn.locked()

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait for the next free place for a call, and take it."""
        with self._turn:  # the others wait for theirs behind it
            while (ahead := self._next() - self._clock()) > 0:
                sleep(ahead)
            self._left.append(self._clock())

    def pause(self, seconds: float) -> None:
        """Let no call begin for so many seconds, since there was one too many."""
        with self._pausing:
            self._gap = min(self._gap * _WIDER, self._widest)
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _next(self) -> float:
        """Give when the next call may leave, counted from when those before it really left."""
        if not self._left:
            return self._paused_until
        if len(self._left) < _COUNTED:
            return max(self._paused_until, self._left[-1] + self._gap)
        soonest = self._left[-1] + self._gap * _SOONEST
        return max(self._paused_until, soonest, self._left[0] + self._gap * _COUNTED)


class Limits:
    """The limiters of all pages, and of the user API."""

    def __init__(self, calls_per_second: float) -> None:
        """Remember the rate that holds for each page."""
        self._calls_per_second = calls_per_second
        self._limiters: dict[str | None, Limiter] = {}
        self._lock = threading.Lock()

    def of(self, page_id: str | None) -> Limiter:
        """Give a page's limiter; None is the user API."""
        with self._lock:
            if page_id not in self._limiters:
                self._limiters[page_id] = Limiter(self._calls_per_second)
            return self._limiters[page_id]
