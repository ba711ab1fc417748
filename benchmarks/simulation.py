"""A worker in simulated time: how long it reads its pages, by the tap's own limiter and reader.

The tap's `Limiter` spaces the calls of each page, its `ListReader` chooses what is asked of the
list of conversations, and its `shard_of` says which pages are a worker's. Simulated are the time,
the answers (what is there, after so many seconds), the lanes, and the processor, which is one, as a
Python process has it: whatever is done with an answer waits until what came before it is done.

Not simulated: 429s, faults, messages that arrive meanwhile (`busy.py` has them), and the target,
which is a process of its own.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.inbox import Inbox, Reading
from tap_pancake.api.limits import Limiter
from tap_pancake.running.run import reach_at

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    Chain = Generator[int, None, None]
    """Calls of which each is made when the one before is answered: the rows of each answer."""

DAY = 86_400.0
ALL_PAGES = 256
"""The default of `max_parallel_pages`: all pages are read side by side, up to so many."""
FULL_BATCH = 29
"""New messages of a full batch: 30 come, the reference, section 8, and one of them overlaps."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the tap was measured to take, in seconds of processor time."""

    start: float
    """Of a run without anything to read."""
    page: float
    """Of a page, whatever is in it."""
    call: float
    row: float


@dataclass(frozen=True, kw_only=True)
class Worker:
    """How a worker is set up."""

    lanes: int
    """`max_parallel_pages`: pages read side by side."""
    latency: float
    """Seconds before each answer."""
    costs: Costs
    calls_per_second: float = 4.95

    @property
    def reach(self) -> int:
        """How many chains of a page are under way at a time."""
        return reach_at(self.latency)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What there is to read of a page. Times are Unix seconds."""

    others: Sequence[tuple[int, int]]
    """Of each stream but the inbox, in their order: calls, and rows of each."""
    since: float | None
    """The time from which conversations are asked for; None is all history."""
    touched: list[float]
    """The time of the last message of each conversation, oldest first."""
    batches: Callable[[int], tuple[int, int]]
    """Of a conversation, by its place in `touched`: calls for its messages, and rows of each."""


@dataclass(kw_only=True)
class Outcome:
    """What one worker did."""

    seconds: float = 0.0
    calls: int = 0
    rows: int = 0
    busy: float = 0.0
    """Seconds of processor time."""
    slowest_page: float = 0.0
    """Seconds of the page that took longest."""
    ends: list[float] = field(default_factory=list)
    """When each page was done."""


def lists(page: Page, now: float) -> Iterator[tuple[list[int], int | None]]:
    """Ask for the conversations of a page, as the tap does.

    Yields:
        The rows of each call that was made, and then a conversation whose messages are to be read;
        None if there is none.
    """
    begin = int(now * 1e6)
    inbox = Inbox((int(at * 1e6) for at in page.touched), clock=lambda: begin)
    for part in Reading(inbox.ask, {}, now=begin, start=page.since).parts():
        made = [*inbox.answered]
        inbox.answered.clear()
        wanted = part.row is not None and part.since is not None
        yield made, int(part.row["id"]) if part.row is not None and wanted else None


class _Lane:
    """A page that is being read: which of its calls may be made when."""

    def __init__(self, page: Page, worker: Worker, now: float, began: float) -> None:
        self._page = page
        self._lists = lists(page, now)
        self._room = worker.reach
        self._others = deque(page.others)
        self._asked = 0  # of the stream that is read now
        self._waiting: deque[int] = deque()
        self._listed = False
        self._listing = False
        self._clock = began
        self.began = began
        self.under_way = 0
        self._limiter = Limiter(worker.calls_per_second, clock=lambda: self._clock)

    def leave(self, at: float) -> float:
        """Give when a call that could be made at a time leaves."""
        self._clock = max(self._clock, at)
        self._limiter.wait(self._sleep)
        return self._clock

    def _sleep(self, seconds: float) -> None:
        # Never nothing, which rounding would make of the last bit.
        self._clock = math.nextafter(self._clock + seconds, math.inf)

    def chains(self) -> Iterator[Chain]:
        """Give what can be begun now."""
        while self.under_way < self._room:
            if self._others:
                calls, rows = self._others[0]
                if self._asked == calls and not self.under_way:
                    # A stream begins when the one before is done.
                    self._others.popleft()
                    self._asked = 0
                    continue
                # The first call is made alone: it shows whether the page may use the stream.
                if self._asked == calls or (self._asked == 1 and self.under_way):
                    return
                self._asked += 1
                chain = self._one(rows)
            elif self._waiting:
                chain = self._messages(self._waiting.popleft())
            elif not (self._listed or self._listing):
                self._listing = True
                chain = self._list()
            else:
                return
            self.under_way += 1
            yield chain

    def _one(self, rows: int) -> Chain:
        yield rows

    def _messages(self, conversation: int) -> Chain:
        calls, rows = self._page.batches(conversation)
        for _ in range(calls):
            yield rows

    def _list(self) -> Chain:
        while len(self._waiting) < self._room:
            made, conversation = next(self._lists, ([], -1))
            if conversation == -1:
                self._listed = True
                break
            yield from made
            if conversation is not None and self._page.batches(conversation)[0]:
                self._waiting.append(conversation)
        self._listing = False


class Simulation:
    """One worker, from its start to its end."""

    def __init__(self, pages: Iterator[Page], worker: Worker, now: float) -> None:
        """Begin with nothing read.

        Args:
            pages: what there is, in the order in which it is read.
            worker: who reads it.
            now: Unix seconds, for the time of the list.
        """
        self._pages = pages
        self._worker = worker
        self._now = now
        self._order = count()
        self._answers: list[tuple[float, int, int, _Lane, Chain]] = []
        self._free = 0.0
        """When the processor has done what was there to do."""
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Read all pages, and say what it took."""
        costs, outcome = self._worker.costs, self._outcome
        self._work(0.0, costs.start)
        for _ in range(self._worker.lanes):
            self._begin()
        while self._answers:
            at, _, rows, lane, chain = heapq.heappop(self._answers)
            self._work(at, costs.call + rows * costs.row)
            outcome.calls += 1
            outcome.rows += rows
            if not self._ask(lane, chain):
                lane.under_way -= 1
            self._fill(lane)
            if not lane.under_way:
                outcome.slowest_page = max(outcome.slowest_page, self._free - lane.began)
                outcome.ends.append(self._free)
                self._begin()
        outcome.seconds = self._free
        return outcome

    def _work(self, at: float, seconds: float) -> None:
        """Use the processor, from a time on or when it is free."""
        self._free = max(self._free, at) + seconds
        self._outcome.busy += seconds

    def _begin(self) -> None:
        """Begin with the next page that has anything to ask for."""
        for page in self._pages:
            self._work(self._free, self._worker.costs.page)
            lane = _Lane(page, self._worker, self._now, self._free)
            self._fill(lane)
            if lane.under_way:
                return

    def _fill(self, lane: _Lane) -> None:
        """Begin what a page has room for."""
        for chain in lane.chains():
            if not self._ask(lane, chain):
                lane.under_way -= 1

    def _ask(self, lane: _Lane, chain: Chain) -> bool:
        """Make the next call of a chain; tell whether there is one."""
        rows = next(chain, None)
        if rows is None:
            return False
        answered = lane.leave(self._free) + self._worker.latency
        heapq.heappush(self._answers, (answered, next(self._order), rows, lane, chain))
        return True


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

    def read(self, *, weeks: int, days: int) -> list[tuple[int, int]]:
        """Give the calls of a run, stream after stream."""
        return [*[(1, self.list)] * 5, *[(weeks, self.week)] * 4, *[(days, self.day)] * 3]


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

    def ids(self) -> list[str]:
        """Invent the pages' ids."""
        return [str(100_000_000_000_000 + n) for n in range(self.pages)]

    def a_day(self, page_id: str) -> float:
        """Give how many conversations of a page are touched a day."""
        rng = random.Random(f"{self.seed} {page_id}")
        return self.median * math.exp(rng.gauss(0, self.sigma))

    def backfill(self, page_id: str, now: float) -> Page:
        """Give all history of a page: each conversation is touched on one day."""
        rng = random.Random(f"{self.seed} {page_id} history")
        number = round(self.a_day(page_id) * self.days)
        touched = sorted(now - rng.random() * self.days * DAY for _ in range(number))
        # As in the tests' accounts most are short: 15 messages on average, 60 at most.
        sizes = [1 + int(60 * rng.random() ** 3) for _ in range(number)]

        def batches(place: int) -> tuple[int, int]:
            calls = math.ceil(sizes[place] / FULL_BATCH)
            return calls, round(sizes[place] / calls)

        others = self.others.read(weeks=math.ceil(self.days / 7), days=self.days)
        return Page(others=others, since=None, touched=touched, batches=batches)

    def hourly(self, page_id: str, now: float) -> Page:
        """Give what an hourly run reads: the last day again, messages of the last hour.

        Of a sixth of the pages, statistics of the last days, too: it is done every six hours.
        """
        rng = random.Random(f"{self.seed} {page_id} hour")
        a_day = self.a_day(page_id)
        number = int(a_day) + (rng.random() < a_day % 1)
        touched = sorted(now - rng.random() * DAY for _ in range(number))
        new = bisect_left(touched, now - 3600)
        return Page(
            others=self.others.read(weeks=1, days=4 if rng.random() < 1 / 6 else 1),
            since=now - DAY - 3600,
            touched=touched,
            batches=lambda place: (1, 3) if place >= new else (0, 0),
        )
