"""Computes how long a worker reads its pages, and what bounds it.

A page's calls leave at the page's limit. Calls that need the answer before them leave one after
the other. Pages that are read at the same time share one processor, as the lanes of a Python
process do. If they need more than one processor, all of them slow down by the same factor.

The model leaves out 429s, faults, messages that arrive meanwhile (see `busy.py`), and the target,
which is a process of its own. So a real run takes at least as long.
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
"""Calls a second for each page, the default of `requests_per_second`."""
ALL_PAGES = 256
"""The default of `max_parallel_pages`: at most so many pages are read at the same time."""
LIST = 59
"""New conversations of a full answer: 60 (the reference, section 7), of which one is repeated."""
BATCH = 29
"""New messages of a full batch: 30 (the reference, section 8), of which one is repeated."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The measured CPU seconds of the tap."""

    start: float
    """For a run without anything to read."""
    page: float
    """For a page, without its calls and rows."""
    call: float
    row: float


class Page(NamedTuple):
    """The calls and rows of a page."""

    one_by_one: float
    """Number of calls that wait for the answer before them."""
    ahead: float
    """Number of calls that leave at the page's limit."""
    rows: float

    @property
    def calls(self) -> float:
        """The number of all calls."""
        return self.one_by_one + self.ahead

    def seconds(self, latency: float) -> float:
        """Return the seconds that the page takes, with a latency in seconds."""
        return self.one_by_one * max(latency, 1 / RATE) + self.ahead / RATE


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one worker's run."""

    seconds: float
    calls: float
    rows: float
    busy: float
    """CPU seconds."""
    slowest_page: float
    """Seconds that the slowest page took."""
    ends: list[float]
    """The second at which each page was done."""


def read(pages: Sequence[Page], *, lanes: int, latency: float, costs: Costs) -> Outcome:
    """Compute a run that reads pages in their order, at most `lanes` at the same time."""
    calls, rows = sum(page.calls for page in pages), sum(page.rows for page in pages)
    busy = len(pages) * costs.page + calls * costs.call + rows * costs.row
    alone = sum(page.seconds(latency) for page in pages)
    # The share of the processor that one page takes on average.
    share = busy / alone
    now, alike = costs.start, 0.0
    under_way: list[tuple[float, float]] = []
    """For each page that is being read: the common progress at its end, and the time it began."""
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
    """Measured rows of a call for streams other than the inbox, on pages of median size."""

    list: int
    """`tags`, `users`, `posts`, `customers`, `ad_conversations`."""
    week: int
    """Statistics with several days in a call."""
    day: int
    """Statistics with one day in a call."""

    def read(self, *, weeks: int, days: int) -> Page:
        """Return the calls and rows of a run."""
        # Usually `posts` takes 2 calls and `ad_conversations` 3.
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
    """Pages of very different sizes: the logarithm of the size is normally distributed."""

    pages: int
    median: float
    """Conversations that change a day, on the page of median size."""
    sigma: float
    """Deviation of the logarithm; with 1.5, 1 % of the pages have 33 times the median or more."""
    days: int
    """Days of history."""
    others: Others
    seed: int = 7

    def ids(self) -> Iterator[str]:
        """Yield invented ids of the pages."""
        return (str(100_000_000_000_000 + n) for n in range(self.pages))

    def a_day(self, page_id: str) -> float:
        """Return the number of a page's conversations that change a day."""
        rng = random.Random(f"{self.seed} {page_id}")
        return self.median * math.exp(rng.gauss(0, self.sigma))

    def backfill(self, page_id: str) -> Page:
        """Return the calls and rows of a page's history; each conversation changes on one day."""
        number = self.a_day(page_id) * self.days
        others = self.others.read(weeks=math.ceil(self.days / 7), days=self.days)
        return Page(
            one_by_one=others.one_by_one,
            ahead=others.ahead + 2 + number / LIST + number * _BATCHES,
            rows=others.rows + number * (1 + _MESSAGES),
        )

    def hourly(self, page_id: str) -> Page:
        """Return the calls and rows of an hourly run.

        It reads the conversations of the last day again, and messages of the last hour. On a sixth
        of the pages, it also reads the statistics of the last days, which happens every six hours.
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


# Most conversations are short, as in the tests' accounts: 16 messages on average, 60 at most.
_SIZES = [1 + int(60 * (place / 10_000) ** 3) for place in range(10_000)]
_MESSAGES = sum(_SIZES) / len(_SIZES)
_BATCHES = sum(math.ceil(size / BATCH) for size in _SIZES) / len(_SIZES)
