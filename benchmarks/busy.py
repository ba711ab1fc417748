"""A busy page in simulated time, to count the calls of a first run that bring nothing new.

The tap's own `ListReader` and `MessageBatches` choose the calls. Simulated are the time (one call
after the other, at the limit) and the inbox, in which messages arrive between the calls.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.inbox import Inbox, Reading
from benchmarks.server import FULL_BATCH, RATE
from tap_pancake.reading.batches import BatchSizes, MessageBatches
from tap_pancake.reading.coverage import DAY, MINUTE, SECOND
from tap_pancake.reading.sweeps import Unsettled
from tap_pancake.rows import times

if TYPE_CHECKING:
    from benchmarks.inbox import State
    from tap_pancake.reading.listing import Answer, Query

START = times.micros("2026-06-01T00:00:00")


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A busy page."""

    history: int = 100_000
    """Number of conversations when the first run begins."""
    a_day: int = 30_000
    """Number of conversations that get a message each day."""
    seed: int = 7


@dataclass(kw_only=True)
class Calls:
    """The calls of a run, and what they brought."""

    lists: int = 0
    messages: int = 0
    again: int = 0
    """Number of calls that brought no new message, and no row that was new or had changed."""
    hours: float = 0.0
    missing: int = 0
    """Number of messages that existed when the run began, and were not read."""
    warnings: int = 0
    unsettled: bool = False
    """Whether the run ended with an error, because the newest rows changed too fast."""

    @property
    def all(self) -> int:
        """The number of calls of both kinds."""
        return self.lists + self.messages

    @property
    def share(self) -> float:
        """The share of the calls that brought nothing new."""
        return self.again / self.all


class BusyPage:
    """An inbox, its messages, and which of them were read."""

    def __init__(self, busy: Busy) -> None:
        """Invent a year of history, most of it in the last months, as on a page that grows."""
        self._random = random.Random(busy.seed)
        self._pause = DAY / busy.a_day
        self._now = float(START)
        self._arrives = self._now + self._pause
        ages = (self._random.random() ** 3 * 365 * DAY for _ in range(busy.history))
        self.inbox = Inbox((START - int(age) for age in ages), clock=lambda: int(self._now))
        # Most are short, as in the tests' accounts: 16 messages on average, 60 at most.
        self.messages = [
            self._history(at, 1 + int(60 * self._random.random() ** 3)) for at in self.inbox.touched
        ]
        self._seen: list[int] = [0] * busy.history
        """For each conversation, a bit for each message that was read."""
        self._rows: set[tuple[str, str]] = set()
        self._recent: list[int] = []
        self._sizes = BatchSizes()

    def _history(self, last: int, number: int) -> list[int]:
        return [last - n * 5 * MINUTE for n in reversed(range(number))]

    def monotonic(self) -> float:
        """Return the simulated time in seconds, as `time.monotonic` does."""
        return self._now / SECOND

    def wait(self, seconds: float) -> None:
        """Move the time forward; messages arrive meanwhile."""
        self._now += seconds * SECOND
        while self._arrives <= self._now:
            self._arrive(int(self._arrives))
            self._arrives += self._random.expovariate(1 / self._pause)

    def _arrive(self, at: int) -> None:
        """Add a message: one third to new conversations, one third to the last thousand."""
        kind = self._random.randrange(3)
        if kind == 0 or not self._recent:
            conversation = len(self.messages)
            self.messages.append([])
            self._seen.append(0)
        elif kind == 1:
            conversation = self._random.choice(self._recent[-1000:])
        else:
            conversation = self._random.randrange(len(self.messages))
        self.messages[conversation].append(at)
        self._recent.append(conversation)
        self.inbox.touch(conversation, at)

    def runs(self, number: int) -> list[Calls]:
        """Read the page in several runs, with an hour between them."""
        state: State = {}
        found = []
        for _ in range(number):
            found.append(self.run(state))
            self.wait(3600)
        return found

    def run(self, state: State) -> Calls:
        """Read the page in one run."""
        calls, began = Calls(), self._now
        there = [len(messages) for messages in self.messages]

        def ask(query: Query) -> Answer:
            self.wait(1 / RATE)
            answer = self.inbox.ask(query)
            rows = {(row["id"], row["updated_at"]) for row in answer.rows}
            calls.lists += 1
            calls.again += rows <= self._rows
            self._rows |= rows
            return answer

        reading = Reading(ask, state, now=int(self._now))
        with patch("tap_pancake.reading.reader.time", SimpleNamespace(monotonic=self.monotonic)):
            try:
                for part in reading.parts():
                    if part.row is not None and part.since is not None:
                        self._read(int(part.row["id"]), part.since, calls)
            except Unsettled:
                calls.unsettled = True
        calls.hours = (self._now - began) / SECOND / 3600
        calls.warnings = len(reading.warnings)
        calls.missing = sum(
            number - (seen & ((1 << number) - 1)).bit_count()
            for number, seen in zip(there, self._seen, strict=False)
        )
        return calls

    def _read(self, conversation: int, since: int, calls: Calls) -> None:
        """Read the messages of a conversation back to a time."""
        batches = MessageBatches(
            since=since, expected=len(self.messages[conversation]), sizes=self._sizes
        )
        while not batches.finished:
            self.wait(1 / RATE)
            messages = self.messages[conversation]
            high = max(0, len(messages) - batches.offset)
            found = range(max(0, high - FULL_BATCH), high)
            bits = sum(1 << n for n in found)
            calls.messages += 1
            calls.again += not bits & ~self._seen[conversation]
            self._seen[conversation] |= bits
            batches.add_batch(
                [{"id": n, "inserted_at": times.from_micros(messages[n])} for n in found]
            )
