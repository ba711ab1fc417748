"""Rate limits: one limiter for each page spaces its calls evenly, just below the limit.

Pancake allows 5 calls a second for each page (reference, section 2.4). Other programs that read the
page share that limit, and lower limits were seen. So a page begins at the pace of the settings.
After an answer 429 it goes on at the pace at which calls were accepted. All streams, threads and
retries of a page share its limiter. A pace is in calls a second, a time in seconds.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Maximum calls over which the pace is kept, as Pancake counts the calls of a second. The call after
# a late one may leave sooner, so a busy machine stays at the limit.
_WINDOW = 5
# Smallest gap between two calls, as a share of the even gap.
_MIN_GAP = 0.8
# Seconds after which a waiting call checks whether the pace has changed.
_RECHECK = 0.2
# One call in ten seconds.
_LOWEST_PACE = 0.1
# The pace falls to at most this share of the refused pace.
_MAX_SHARE = 0.96
# Calls that count as accepted at the start of a rise, as an early answer 429 may be chance.
_PRIOR_ACCEPTED = 8
# Accepted calls, or seconds, after which the pace is back at the refused pace, or has risen by
# `_MAX_RISE` if that is less. It takes longer after the pace has fallen once, and twice, to about
# the same pace, because each attempt costs an answer 429. The pace rises with the third power of
# the progress, so slowly at first. After that, the progress grows by 1 in `_BEYOND_LENGTH` more.
_RISE_LENGTHS = (15, 60, 100)
_BEYOND_LENGTH = 40
_MAX_RISE = 0.4
# Two paces are about the same if the lower one is at least this share of the other.
_SAME_SHARE = 0.7


class Departure(NamedTuple):
    """The departure of a call."""

    at: float
    """Seconds, by the limiter's clock."""
    pace: float
    """The page's pace at that time, in calls a second."""


class Pace:
    """The pace of a page: the accepted calls a second, and slowly more.

    Each answer 429 halves the pace, unless its call left before the last change of the pace. With
    the first accepted call after that, the pace becomes the refused pace times the share of calls
    that were accepted.
    """

    def __init__(self, most: float, now: float) -> None:
        """Begin at the highest pace."""
        self._highest = most
        self._lowest = min(_LOWEST_PACE, most)
        self._base = self._refused_pace = most
        self._changed_at = self._refused_since = now
        self._halvings = 0
        """Times that the pace was halved since the last accepted call."""
        self._accepted_since_fall = 0
        """Calls accepted since the pace last fell."""
        self._same_falls = 0
        """Times in a row that the pace fell to about the same."""
        self._accepted, self._missed = 0.5, 0.0
        """Calls since the pace last fell: accepted ones, and ones refused or prevented by a pause.
        Half a call at first, as a call that is accepted after a pause could have left sooner."""

    def at(self, now: float) -> float:
        """Return the pace at a time."""
        if self._halvings:
            return max(self._lowest, self._refused_pace / 2.0**self._halvings)
        risen = max(self._accepted_since_fall, now - self._changed_at)
        length = _RISE_LENGTHS[min(self._same_falls, len(_RISE_LENGTHS) - 1)]
        progress = min(1.0, risen / length) + max(0.0, risen - length) / _BEYOND_LENGTH
        rise = min(self._refused_pace - self._base, _MAX_RISE)
        return min(self._highest, self._base + rise * progress**3)

    def refused_for(self, now: float) -> float:
        """Return the seconds since the first of the refusals; 0 after an accepted call."""
        return now - self._refused_since if self._halvings else 0.0

    def refuse(self, call: Departure, now: float, retry_after: float) -> float:
        """Record an answer 429; return the seconds in which no call may leave."""
        self._missed += 1
        if call.at < self._changed_at:
            return retry_after
        if not self._halvings:
            self._refused_pace, self._refused_since = call.pace, now
        pause = max(1 / max(self._lowest, self._refused_pace / 2.0**self._halvings), retry_after)
        self._missed += pause * self._refused_pace
        self._halvings += 1
        self._changed_at = now
        return pause

    def accept(self, call: Departure, now: float) -> None:
        """Record any other answer."""
        if self._halvings and call.at >= self._changed_at:
            share = self._accepted / (self._accepted + self._missed)
            base = max(self._lowest, min(share, _MAX_SHARE) * self._refused_pace)
            is_about_same = _SAME_SHARE <= base / self._base <= 1 / _SAME_SHARE
            self._base = base
            self._same_falls = self._same_falls + 1 if is_about_same else 0
            self._accepted, self._missed = float(_PRIOR_ACCEPTED), 0.0
            self._halvings = self._accepted_since_fall = 0
            self._changed_at = now
        self._accepted += 1
        self._accepted_since_fall += 1


class Limiter:
    """The limiter of one page, which spaces its calls."""

    def __init__(
        self, calls_per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a limiter whose first call may leave at once.

        Args:
            calls_per_second: the highest pace, above 0.
            clock: returns seconds and never goes back.
        """
        self._clock = clock
        self._pace = Pace(calls_per_second, clock())
        self._turn_lock = threading.Lock()
        self._lock = threading.Lock()
        self._departures: deque[float] = deque(maxlen=_WINDOW)
        self._paused_until = clock()

    @property
    def pace(self) -> float:
        """The present pace, in calls a second."""
        return self._pace.at(self._clock())

    @property
    def refused_for(self) -> float:
        """Seconds since the first of the refusals; 0 after an accepted call."""
        return self._pace.refused_for(self._clock())

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for its turn, or leaves now."""
        return self._turn_lock.locked()

    def wait(
        self,
        sleep: Callable[[float], None] = time.sleep,
        *,
        connect: Callable[[], object] = lambda: None,
    ) -> Departure:
        """Wait until the next call may leave, and return its departure.

        Args:
            sleep: waits for a number of seconds.
            connect: waits for a connection; this call and the next ones leave after it.
        """
        with self._turn_lock:  # the other calls wait here for their turn
            while (ahead := self._next() - self._clock()) > 0:
                sleep(min(ahead, _RECHECK))
            connect()
            with self._lock:
                self._departures.append(self._clock())
                return Departure(self._departures[-1], self.pace)

    def refused(self, call: Departure, retry_after: float = 0.0) -> None:
        """Slow the page down after an answer 429.

        Args:
            call: the refused call.
            retry_after: seconds that the answer asked to wait.
        """
        with self._lock:
            now = self._clock()
            pause = self._pace.refuse(call, now, retry_after)
            self._paused_until = max(self._paused_until, now + pause)
            if pause:
                self._departures.clear()  # calls at a higher pace do not count for the new pace

    def accepted(self, call: Departure) -> None:
        """Record an answer other than 429."""
        with self._lock:
            self._pace.accept(call, self._clock())

    def _next(self) -> float:
        """Return when the next call may leave, by the real departures of the calls before it."""
        with self._lock:
            if not self._departures:
                return self._paused_until
            gap = 1 / self.pace
            counted = min(_WINDOW, math.ceil(self.pace))
            if len(self._departures) < counted or counted == 1:
                return max(self._paused_until, self._departures[-1] + gap)
            soonest = self._departures[-1] + gap * _MIN_GAP
            return max(self._paused_until, soonest, self._departures[-counted] + gap * counted)


class Limits:
    """The limiters of all pages, and of the user API."""

    def __init__(self, calls_per_second: float) -> None:
        """Set the highest pace of each page."""
        self.calls_per_second = calls_per_second
        self._limiters: dict[str | None, Limiter] = {}
        self._lock = threading.Lock()

    def of(self, page_id: str | None) -> Limiter:
        """Return the limiter of a page; None for that of the user API."""
        limiter = self._limiters.get(page_id)
        if limiter is None:
            with self._lock:
                limiter = self._limiters.setdefault(page_id, Limiter(self.calls_per_second))
        return limiter

    def slowed(self) -> dict[str, float]:
        """Return the pace, in calls a second, of each page that answers 429 have slowed down."""
        with self._lock:
            limiters = dict(self._limiters)
        paces = {page: limiter.pace for page, limiter in limiters.items() if page is not None}
        return {page: pace for page, pace in paces.items() if pace < self.calls_per_second}
