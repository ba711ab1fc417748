"""The limiter keeps a page's calls to its pace, and its pace to what the API accepts.

Time is simulated: that of calls, of answers, and of the limits that an API may have.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections import deque
from functools import partial
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest

from tap_pancake.api.limits import Departure, Limiter, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    Limit = Callable[[float], bool]
    """Accepts a call that arrives at a time, or does not."""

RATE = 4.95


class Clock:
    """A clock that goes on only while somebody sleeps, and then maybe too long."""

    def __init__(self, oversleep: Callable[[], float] = lambda: 0.0) -> None:
        self.now = 100.0
        self._oversleep = oversleep

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Go on."""
        self.now += seconds + self._oversleep()


def departures(count: int, clock: Clock, limiter: Limiter) -> list[float]:
    """Let calls leave one after the other, each as soon as it may."""
    left = []
    for _ in range(count):
        limiter.wait(clock.sleep)
        left.append(clock.now)
    return left


def most_in_a_second(left: list[float]) -> int:
    """Count as Pancake does, over any second."""
    return max(sum(at <= other < at + 1 for other in left) for at in left)


def test_calls_are_spaced_evenly_from_the_first_on() -> None:
    clock = Clock()
    left = departures(100, clock, Limiter(RATE, clock=clock))
    assert left[0] == 100.0
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert min(gaps) == pytest.approx(1 / RATE)
    assert max(gaps) == pytest.approx(1 / RATE)


@pytest.mark.parametrize("seed", range(5))
def test_calls_that_leave_late_are_made_up_for_and_never_more_than_five_a_second(seed: int) -> None:
    rng = random.Random(seed)
    clock = Clock(lambda: rng.choice([0, 0, 0, 0.03]))
    left = departures(400, clock, Limiter(RATE, clock=clock))
    assert most_in_a_second(left) <= 5
    assert min(later - earlier for earlier, later in pairwise(left)) >= 0.79 / RATE
    # 7 ms late on average: without making up for it, the rate would be 3.5 % lower.
    assert 399 / (left[-1] - left[0]) > 0.985 * RATE


def test_each_page_has_a_limiter_of_its_own() -> None:
    limits = Limits(RATE)
    assert limits.of("1") is limits.of("1")
    assert len({id(limits.of(page)) for page in ("1", "2", None)}) == 3


# The pace


def limit(calls: int, seconds: float = 1.0, *, fixed: bool = False) -> Limit:
    """So many calls in any span of so many seconds, or in each that the clock cuts."""
    accepted: deque[float] = deque()

    def accept(at: float) -> bool:
        low = math.floor(at / seconds) * seconds if fixed else at - seconds
        while accepted and (accepted[0] < low or (accepted[0] == low and not fixed)):
            accepted.popleft()
        if len(accepted) == calls:
            return False
        accepted.append(at)
        return True

    return accept


class Reading:
    """A page that is read by some threads, each of which waits for its answer."""

    def __init__(self, accept: Limit, *, latency: float = 0.3, seed: int = 0) -> None:
        self.clock = Clock(lambda: self._rng.random() * 0.002)
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.limiter = Limiter(RATE, clock=self.clock)
        self._accept = accept
        self._latency = latency
        self._rng = random.Random(seed)
        self._idle = max(4, round(3 + latency * 8))
        self._answers: list[tuple[float, int, Departure, bool]] = []
        self._number = count()

    def read(self, *, calls: int = sys.maxsize, until: float = math.inf) -> float:
        """Read until so many calls were accepted, or until a time; give the seconds it took."""
        began = self.clock.now
        while len(self.accepted) < calls and self.clock.now < until:
            if self._idle:
                self._idle -= 1
                self._ask()
            else:
                self._take(self._answers[0][0])
        return self.clock.now - began

    def in_span(self, since: float, until: float) -> int:
        """Count the calls that were accepted."""
        return sum(since <= at < until for at in self.accepted)

    @property
    def share(self) -> float:
        """The share of the calls that was refused."""
        return len(self.refused) / len(self.accepted + self.refused)

    def _ask(self) -> None:
        call = self.limiter.wait(self._sleep)
        arrival = call.at + 0.02 + self._rng.expovariate(500)
        good = self._accept(arrival)
        (self.accepted if good else self.refused).append(call.at)
        answered = arrival + self._latency * self._rng.uniform(0.9, 1.3)
        heapq.heappush(self._answers, (answered, next(self._number), call, good))

    def _sleep(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self._answers and self._answers[0][0] <= until:
            self._take(self._answers[0][0])
        self.clock.sleep(max(0.0, until - self.clock.now))

    def _take(self, at: float) -> None:
        self.clock.now = max(self.clock.now, at)
        _, _, call, good = heapq.heappop(self._answers)
        self._idle += 1
        (self.limiter.accepted if good else self.limiter.refused)(call)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("latency", [0.1, 0.3])
@pytest.mark.parametrize("rate", [3, 2, 1])
def test_a_lower_limit_is_found_and_kept(rate: int, latency: float, *, fixed: bool) -> None:
    for seed in range(5):
        reading = Reading(limit(rate, fixed=fixed), latency=latency, seed=seed)
        took = reading.read(calls=150 * rate)
        assert reading.share <= 0.045
        assert took <= 1.13 * 150


@pytest.mark.parametrize("rate", [3, 2, 1])
def test_slow_answers_cost_the_calls_that_left_before_the_first_429_came(rate: int) -> None:
    reading = Reading(limit(rate), latency=1.5)
    took = reading.read(calls=300 * rate)
    assert reading.share <= 0.07
    assert took <= 1.2 * 300


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("calls", "seconds"), [(30, 60), (60, 60), (20, 10), (30, 10)])
def test_a_limit_of_longer_spans_is_found_and_kept(
    calls: int, seconds: float, *, fixed: bool
) -> None:
    reading = Reading(limit(calls, seconds, fixed=fixed))
    took = reading.read(calls=int(600 * calls / seconds))
    assert reading.share <= 0.1
    assert took <= 1.1 * 600


def test_the_documented_limit_slows_nothing() -> None:
    reading = Reading(limit(5, fixed=True))
    reading.read(calls=1000)
    assert reading.share <= 0.001
    free = Reading(lambda _: True)
    assert reading.read(calls=2000) <= 1.01 * free.read(calls=1000)


def test_one_stray_429_costs_little() -> None:
    stray = iter([True] * 100 + [False] + [True] * 1000)
    struck, free = Reading(lambda _: next(stray)), Reading(lambda _: True)
    assert struck.read(calls=300) - free.read(calls=300) <= 1.5
    assert struck.limiter.pace == RATE


def test_a_limit_that_rises_is_used_within_three_minutes() -> None:
    low, high = limit(1), limit(5)
    reading = Reading(lambda at: low(at) if at < 300 else high(at))
    reading.read(until=500)
    assert reading.in_span(280, 300) <= 20
    assert reading.in_span(460, 500) >= 40 * 4


def test_other_programs_come_and_go() -> None:
    accept = limit(5)
    others = deque(at + number / 3 for at in range(160, 1300, 240) for number in range(360))

    def shared(at: float) -> bool:
        while others[0] < at:
            accept(others.popleft())
        return accept(at)

    reading = Reading(shared)
    reading.read(until=1120)
    assert reading.share <= 0.05
    # 2 a second are left of 5 in half of the time.
    assert reading.in_span(160, 1120) >= 0.75 * (5 + 2) / 2 * 960


def test_the_pace_falls_to_one_call_in_ten_seconds() -> None:
    reading = Reading(lambda at: at > 900)
    reading.read(until=890)
    gaps = [later - earlier for earlier, later in pairwise(reading.refused)]
    assert max(gaps) == pytest.approx(10, abs=0.5)
    assert reading.limiter.refused_for == pytest.approx(790, abs=15)
    assert Limiter(0.05).pace == 0.05, "unless the settings have a lower one"
    reading.read(until=1100)
    assert reading.limiter.refused_for == 0.0
    assert reading.in_span(1060, 1100) >= 40


def test_a_429_says_how_long_to_wait() -> None:
    clock = Clock()
    limiter = Limiter(RATE, clock=clock)
    first, second = (limiter.wait(clock.sleep) for _ in range(2))
    clock.now += 0.3
    now = clock.now
    limiter.refused(first, 7.0)
    limiter.refused(second, 9.0)  # it had left before, so it does not slow the page once more
    assert limiter.pace == RATE / 2
    assert limiter.wait(clock.sleep).at == pytest.approx(now + 9.0)


def test_a_call_that_waits_for_a_connection_leaves_when_it_has_one() -> None:
    clock = Clock()
    limiter = Limiter(RATE, clock=clock)
    left = [
        limiter.wait(clock.sleep, connect=partial(clock.sleep, seconds)).at
        for seconds in (0, 0, 3, 0, 0)
    ]
    assert left[2] >= left[1] + 3
    gaps = [later - earlier for earlier, later in pairwise(left[2:])]
    assert min(gaps) >= 0.15, "those behind it do not leave all at once"


def test_pages_that_are_slowed_are_known() -> None:
    limits = Limits(RATE)
    for page in ("1", "2", None):
        limiter = limits.of(page)
        call = limiter.wait()
        if page != "1":
            limiter.refused(call)
    assert limits.slowed() == {"2": RATE / 2}
