"""A worker by arithmetic: how long it reads its pages side by side, and what bounds it.

A page's calls leave at the page's limit, or one after the other where each waits for the answer
before it. The pages that are under way share one processor, as the lanes of a Python process do: if
they need more of it than there is, all go slower alike.

Not in it: 429s, faults, messages that arrive meanwhile (`busy.py` has them), and the target, which
is a process of its own. So a run takes no less than this says.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RATE = 4.95
"""Calls a second of a page, the default of `requests_per_second`."""
ALL_PAGES = 256
"""The default of `max_parallel_pages`: all pages are read side by side, up to so many."""
LIST = 59
"""New conversations of a full answer: 60 come, the reference, section 7, and one overlaps."""
BATCH = 29
"""New messages of a full batch: 30 come, the reference, section 8, and one overlaps."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the tap was measured to take, in seconds of processor time."""

    start: float
    """Of a run without anything to read."""
    page: float
    """Of a page, whatever is in it."""
    call: float
    row: float


class Page(NamedTuple):
    """What there is to read of a page."""

    one_by_one: float
    """Calls that are made when the one before is answered."""
    ahead: float
    """Calls that are made at the page's limit."""
    rows: float

    @property
    def calls(self) -> float:
        """All of them."""
        return self.one_by_one + self.ahead

    def seconds(self, latency: float) -> float:
        """Return how long it takes, with so many seconds before each answer."""
        return self.one_by_one * max(latency, 1 / RATE) + self.ahead / RATE


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one worker did."""

    seconds: float
    calls: float
    rows: float
    busy: float
    """Seconds of processor time."""
    slowest_page: float
    """Seconds of the page that took longest."""
    ends: list[float]
    """When each page was done."""


def read(pages: Sequence[Page], *, lanes: int, latency: float, costs: Costs) -> Outcome:
    """Read pages in their order, so many side by side."""
    calls, rows = sum(page.calls for page in pages), sum(page.rows for page in pages)
    busy = len(pages) * costs.page + calls * costs.call + rows * costs.row
    alone = sum(page.seconds(latency) for page in pages)
    # One page under way takes so much of the processor, on average.
    share = busy / alone
    now, alike = costs.start, 0.0
    under_way: list[tuple[float, float]] = []
    """Of each page, how far all will have come alike when it ends, and when it began."""
    slowest, ends = 0.0, []
    waiting = deque(pages)
    while waiting or under_way:
        if waiting and len(under_way) < lanes:
            heapq.heappush(under_way, (alike + waiting.popleft().seconds(latency), now))
            continue
        slower = max(1.0, len(under_way) * share)
        end, began = heapq.heappop(under_way)
        now, alike = now + (end - alike) * slower, end
        slowest = max(slowest, now - began)
        ends.append(now)
    return Outcome(
        seconds=now,
        calls=calls,
        rows=rows,
        busy=costs.start + busy,
        slowest_page=slowest,
        ends=ends,
    )


# Shops


@dataclass(frozen=True, kw_only=True)
class Others:
    """Rows that calls of all streams but the inbox bring: measured, of pages of median size."""

    list: int
    """`tags`, `users`, `posts`, `customers`, `ad_conversations`."""
    week: int
    """Statistics of several days a call."""
    day: int
    """Statistics of a day a call."""

    def read(self, *, weeks: int, days: int) -> Page:
        """Return the calls of a run."""
        # `posts` take 2 calls, and `ad_conversations` 3, as a rule.
        lists = 1 + 1 + 2 + 1 + 3
        first = 7  # the first call of each of the statistics shows whether the page has them
        ahead = weeks * 4 + days * 3
        return Page(
            one_by_one=lists + first,
            ahead=ahead - first,
            rows=5 * self.list + weeks * 4 * self.week + days * 3 * self.day,
        )


@dataclass(frozen=True, kw_only=True)
class Shops:
    """Pages of very different size: the logarithm of their size is normally distributed."""

    pages: int
    median: float
    """Conversations touched a day, of the page in the middle."""
    sigma: float
    """Of the logarithm; with 1.5 one page of a hundred has 33 times the median or more."""
    days: int
    """Of history."""
    others: Others
    seed: int = 7

    def ids(self) -> Iterator[str]:
        """Invent the pages' ids."""
        return (str(100_000_000_000_000 + n) for n in range(self.pages))

    def a_day(self, page_id: str) -> float:
        """Return how many conversations of a page are touched a day."""
        rng = random.Random(f"{self.seed} {page_id}")
        return self.median * math.exp(rng.gauss(0, self.sigma))

    def backfill(self, page_id: str) -> Page:
        """Return all history of a page: each conversation is touched on one day."""
        number = self.a_day(page_id) * self.days
        others = self.others.read(weeks=math.ceil(self.days / 7), days=self.days)
        return Page(
            one_by_one=others.one_by_one,
            ahead=others.ahead + 2 + number / LIST + number * _BATCHES,
            rows=others.rows + number * (1 + _MESSAGES),
        )

    def hourly(self, page_id: str) -> Page:
        """Return what an hourly run reads: the last day again, messages of the last hour.

        Of a sixth of the pages, statistics of the last days, too: it is done every six hours.
        """
        rng = random.Random(f"{self.seed} {page_id} hour")
        number = self.a_day(page_id)
        days = 4 if rng.random() < 1 / 6 else 1
        others = self.others.read(weeks=1, days=days)
        new = number / 24
        return Page(
            one_by_one=others.one_by_one + 2,
            ahead=others.ahead + number / LIST + new,
            rows=others.rows + (days - 1) * 4 * self.others.week + number + 3 * new,
        )


# As in the tests' accounts most conversations are short: 16 messages on average, 60 at most.
_SIZES = [1 + int(60 * (place / 10_000) ** 3) for place in range(10_000)]
_MESSAGES = sum(_SIZES) / len(_SIZES)
_BATCHES = sum(math.ceil(size / BATCH) for size in _SIZES) / len(_SIZES)
