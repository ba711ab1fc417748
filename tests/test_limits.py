"""The limiter keeps a page's calls to its pace, whatever they wait for."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tap_pancake.api.limits import Limiter, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_429_pauses_the_page_and_widens_its_gaps_a_little() -> None:
    clock = Clock()
    limiter = Limiter(RATE, clock=clock)
    departures(10, clock, limiter)
    before = clock.now
    limiter.pause(2.0)
    left = departures(21, clock, limiter)
    assert left[0] - before == pytest.approx(2.0)
    assert left[20] - left[0] == pytest.approx(20 * 1.01 / RATE)
    for _ in range(100):
        limiter.pause(0.0)
    left = departures(21, clock, limiter)
    assert left[20] - left[0] == pytest.approx(20 * 1.25 / RATE), "no further than that"


def test_each_page_has_a_limiter_of_its_own() -> None:
    limits = Limits(RATE)
    assert limits.of("1") is limits.of("1")
    assert len({id(limits.of(page)) for page in ("1", "2", None)}) == 3
