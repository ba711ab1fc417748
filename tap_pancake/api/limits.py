"""One limiter for each page: calls spaced evenly, just under what the API accepts.

Pancake allows 5 calls a second for each page, separately (reference, section 2.4). Other programs
that read the page share that limit, and lower ones were met. So a page begins at the pace of the
settings, and after an answer 429 goes on at the pace at which calls were accepted. All streams,
threads and retries of a page share its limiter.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# The pace is kept over the calls of a second, and at most so many, as Pancake counts them: one that
# left late may be followed sooner, which is what keeps a busy machine at the limit.
_COUNTED = 5
# But never sooner than this share of an even gap.
_SOONEST = 0.8
# Seconds after which a call that waits looks again whether the pace has changed.
_LOOK = 0.2
# The lowest pace: one call in ten seconds.
_LOWEST = 0.1
# The pace falls to this share of the refused one, or lower.
_BELOW = 0.96
# When it falls again soon, so many calls count as accepted before: a 429 may be chance.
_TRUSTED = 8
# After so many accepted calls, or seconds, the pace is where it was refused, or so much (calls a
# second) higher than it fell to; it takes longer after it has fallen once, and twice, to about the
# same, since each try costs a 429. It rises with the third power of them, so slowly at first; past
# that place, each time by as much in so many.
_RISING = (15, 60, 100)
_BEYOND = 40
_RISE = 0.4
# A pace is about the same if it is no less than this share of the other one.
_SAME = 0.7


class Departure(NamedTuple):
    """A call that left."""

    at: float
    """Seconds, by the limiter's clock."""
    pace: float
    """Calls a second at that time."""


class Pace:
    """How many calls a second a page is asked: as many as are accepted, and slowly more.

    Each 429 halves the pace, but for one whose call left before the last of them. With the first
    call that is accepted then, the pace becomes the share of the refused one that was accepted.
    """

    def __init__(self, most: float, now: float) -> None:
        """Begin at the highest pace."""
        self._most = most
        self._lowest = min(_LOWEST, most)
        self._base = self._refused = most
        self._changed = self._began = now
        self._halved = 0
        """How often, since a call was accepted."""
        self._risen = 0
        """Calls accepted since the pace fell."""
        self._found = 0
        """How often it fell to about the same."""
        self._accepted, self._missed = 0.5, 0.0
        """Calls since then that were accepted, and those refused or that a pause left no time for.
        Half a call at first: one that is accepted after a pause could have left sooner."""

    def at(self, now: float) -> float:
        """Return the calls a second."""
        if self._halved:
            return max(self._lowest, self._refused / 2.0**self._halved)
        risen = max(self._risen, now - self._changed)
        rising = _RISING[min(self._found, len(_RISING) - 1)]
        way = min(1.0, risen / rising) + max(0.0, risen - rising) / _BEYOND
        return min(self._most, self._base + min(self._refused - self._base, _RISE) * way**3)

    def refused_for(self, now: float) -> float:
        """Return for how many seconds every call was refused."""
        return now - self._began if self._halved else 0.0

    def refuse(self, call: Departure, now: float, retry_after: float) -> float:
        """Note an answer 429; return for how many seconds no call may leave."""
        self._missed += 1
        if call.at < self._changed:
            return retry_after
        if not self._halved:
            self._refused, self._began = call.pace, now
        pause = max(1 / max(self._lowest, self._refused / 2.0**self._halved), retry_after)
        self._missed += pause * self._refused
        self._halved += 1
        self._changed = now
        return pause

    def accept(self, call: Departure, now: float) -> None:
        """Note any other answer."""
        if self._halved and call.at >= self._changed:
            share = self._accepted / (self._accepted + self._missed)
            before, self._base = self._base, max(self._lowest, min(share, _BELOW) * self._refused)
            is_same = _SAME <= self._base / before <= 1 / _SAME
            self._found = self._found + 1 if is_same else 0
            self._accepted, self._missed = float(_TRUSTED), 0.0
            self._halved = self._risen = 0
            self._changed = now
        self._accepted += 1
        self._risen += 1


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
        self._clock = clock
        self._pace = Pace(calls_per_second, clock())
        self._turn = threading.Lock()
        self._noting = threading.Lock()
        self._left: deque[float] = deque(maxlen=_COUNTED)
        self._paused_until = clock()

    @property
    def pace(self) -> float:
        """Calls a second at present."""
        return self._pace.at(self._clock())

    @property
    def refused_for(self) -> float:
        """For how many seconds every call was refused."""
        return self._pace.refused_for(self._clock())

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for its place."""
        return self._turn.locked()

    def wait(
        self,
        sleep: Callable[[float], None] = time.sleep,
        *,
        connect: Callable[[], object] = lambda: None,
    ) -> Departure:
        """Wait for the next free place for a call, and take it.

        Args:
            sleep: waits for so many seconds.
            connect: waits for what the call needs; it leaves after that, and so those behind it.
        """
        with self._turn:  # the others wait for theirs behind it
            while (ahead := self._next() - self._clock()) > 0:
                sleep(min(ahead, _LOOK))
            connect()
            with self._noting:
                self._left.append(self._clock())
                return Departure(self._left[-1], self.pace)

    def refused(self, call: Departure, retry_after: float = 0.0) -> None:
        """Slow the page down, since there was one call too many.

        Args:
            call: the one that was answered 429.
            retry_after: seconds that the answer asked to wait.
        """
        with self._noting:
            now = self._clock()
            pause = self._pace.refuse(call, now, retry_after)
            self._paused_until = max(self._paused_until, now + pause)
            if pause:
                self._left.clear()  # what left at a higher pace does not count for this one

    def accepted(self, call: Departure) -> None:
        """Note that a call was answered, and not with 429."""
        with self._noting:
            self._pace.accept(call, self._clock())

    def _next(self) -> float:
        """Return when the next call may leave, counted from when those before it really left."""
        with self._noting:
            if not self._left:
                return self._paused_until
            gap = 1 / self.pace
            counted = min(_COUNTED, math.ceil(self.pace))
            if len(self._left) < counted or counted == 1:
                return max(self._paused_until, self._left[-1] + gap)
            soonest = self._left[-1] + gap * _SOONEST
            return max(self._paused_until, soonest, self._left[-counted] + gap * counted)


class Limits:
    """The limiters of all pages, and of the user API."""

    def __init__(self, calls_per_second: float) -> None:
        """Remember the highest rate, which holds for each page."""
        self.calls_per_second = calls_per_second
        self._limiters: dict[str | None, Limiter] = {}
        self._lock = threading.Lock()

    def of(self, page_id: str | None) -> Limiter:
        """Return a page's limiter; None is the user API."""
        limiter = self._limiters.get(page_id)
        if limiter is None:
            with self._lock:
                limiter = self._limiters.setdefault(page_id, Limiter(self.calls_per_second))
        return limiter

    def slowed(self) -> dict[str, float]:
        """Return the calls a second of each page that answers 429 have slowed."""
        with self._lock:
            limiters = dict(self._limiters)
        paces = {page: limiter.pace for page, limiter in limiters.items() if page is not None}
        return {page: pace for page, pace in paces.items() if pace < self.calls_per_second}
