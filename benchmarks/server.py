"""The bundled Pancake server in a process of its own, with books of the calls.

`python -m benchmarks.server DATA` (a `Data` as JSON) prints its URL and user token as one line of
JSON. Each line of standard input is then a command. Its answer is one line of JSON:

- `reset`: forget all calls;
- `books`: return the counts of the calls since then, see `books`;
- `truth FILE`: write the keys of all rows of a full extraction to a file, see `truth`;
- `fresh`: return when the last day was complete, see `fresh`;
- `receive NUMBER`: add a message to so many conversations of each page, and return their keys;
- `move NUMBER`: from now on, add so many messages a second, in any conversation;
- `rest`: add no more messages, and return how many were added;
- `ahead SECONDS`: from now on, send a `Date` that is so far ahead of the true time.

The server ends with its standard input, so it never outlives the process that started it.
"""

from __future__ import annotations

import gc
import json
import math
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.pancake_api import Account, Fault, PancakeServer
from tests.pancake_api.invented import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 5.0
"""Requests a second that Pancake allows for each page, the reference, section 2.4."""
FULL_LIST = 60
"""Conversations of a full response, the reference, section 7.1."""
FULL_BATCH = 30
"""Messages of a full batch, the reference, section 8."""
HTTP_OK, TOO_MANY = 200, 429
IN_CAMPAIGNS = 0.3  # the share of an uneven page's conversations
# Fault → it hits every so many calls. Primes, so that two seldom hit the same call. Together 2 %.
FAULTS = {"500": 307, "http:502": 311, "429": 313, "reset": 317, "cut": 331, "not_json": 337}
SEASONS_START = datetime(2025, 1, 1, tzinfo=UTC)
SEASONS_END = datetime(2026, 6, 1, tzinfo=UTC)
# Spread → days before now at which the conversations begin and end.
LATELY = {"year": (365, 0), "month": (30, 0), "quiet": (32, 2)}


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data that the server holds, and the way it answers."""

    pages: int
    conversations: int
    """Number of conversations of each page."""
    messages: tuple[int, int]
    """Fewest and most messages of a conversation; most conversations are short."""
    seed: int = 7
    spread: Literal["even", "uneven", "year", "month", "quiet"] = "even"
    """Over 17 months, evenly or unevenly; or evenly over one of `LATELY`."""
    rate: float = 0.0
    """Calls a second for each page; 0 for no limit."""
    latency: float = 0.0
    """Seconds before each answer."""
    faulty: bool = False
    """Whether about 2 % of the calls fail once, see `FAULTS`."""

    def as_json(self) -> str:
        """Return the data as JSON, for the command line."""
        return json.dumps(asdict(self))

    @property
    def message_counts(self) -> list[int]:
        """The number of messages of each conversation, the same for every page."""
        fewest, most = self.messages
        # The same shape as in `Account.generate`, without chance.
        return [
            fewest + int((most - fewest + 1) * ((i + 0.5) / self.conversations) ** 3)
            for i in range(self.conversations)
        ]

    @property
    def calls_of_page(self) -> int:
        """The fewest calls that can read a page."""
        lists = max(1, math.ceil(self.conversations / FULL_LIST))
        return lists + sum(max(1, math.ceil(n / FULL_BATCH)) for n in self.message_counts)

    @property
    def fewest_calls(self) -> int:
        """The fewest calls that can read everything, with the one that lists the pages."""
        return 1 + self.pages * self.calls_of_page


def spans(data: Data, rng: random.Random) -> Iterator[tuple[datetime, datetime]]:
    """Yield when each conversation of a page begins and ends."""
    if data.spread == "even":
        while True:
            yield SEASONS_START, SEASONS_END
    if data.spread in LATELY:
        now = datetime.now(UTC)
        begin, end = (now - timedelta(days=days) for days in LATELY[data.spread])
        while True:
            yield begin, end
    # Uneven: a shop that grows, with silent weeks, and campaigns of two days each.
    whole = SEASONS_END - SEASONS_START
    campaigns = [rng.random() for _ in range(4)]
    silences = [rng.random() for _ in range(4)]
    while True:
        if rng.random() < IN_CAMPAIGNS:
            at = rng.choice(campaigns) + rng.random() * (timedelta(days=2) / whole)
        else:
            at = rng.random() ** 0.4
            if any(begin < at < begin + timedelta(days=21) / whole for begin in silences):
                continue
        begin = SEASONS_START + min(at, 0.999) * whole
        yield begin, begin + timedelta(hours=1)


def account_of(data: Data) -> Account:
    """Return an invented account with pages of equal size, of all channels."""
    account = Account(data.seed)
    for index in range(data.pages):
        page = account.add_page(platform=CHANNELS[index % len(CHANNELS)].platform)
        rng = random.Random(f"{data.seed}:{index}")
        counts = data.message_counts
        rng.shuffle(counts)
        for count, (start, end) in zip(counts, spans(data, rng), strict=False):
            page.fill(1, (count, count), start, end)
    return account


def books(server: PancakeServer, cpu_before: float) -> dict[str, Any]:
    """Return the number of calls, by endpoint, with 429s and faults, and the server's CPU seconds.

    For each page: the number of answered calls, and the times of the first and the last call.
    """
    endpoints: dict[str, int] = {}
    pages: dict[str, dict[str, Any]] = {}
    with server.account.lock:
        calls = list(server.calls)
    for call in calls:
        endpoints[call.endpoint] = endpoints.get(call.endpoint, 0) + 1
        if call.page_id is None:
            continue
        page = pages.setdefault(call.page_id, {"answered": 0, "first": call.time})
        if call.status != TOO_MANY:
            page["answered"] += 1
            page["last"] = call.time
    return {
        "calls": len(calls),
        "refused": sum(call.status == TOO_MANY for call in calls),
        "faults": sum(call.fault is not None for call in calls),
        "endpoints": endpoints,
        "pages": pages,
        "cpu": time.process_time() - cpu_before,
    }


def truth(server: PancakeServer) -> dict[str, list[tuple[str, ...]]]:
    """Return the keys of all rows: page ids, (page, conversation) and (conversation, message)."""
    held = server.expected()
    return {
        "pages": [(page_id,) for page_id in held.pages],
        "conversations": list(held.conversations),
        "messages": list(held.messages),
    }


def receive(account: Account, number: int) -> list[tuple[str, str]]:
    """Add a message to conversations from all of each page's history, and return their keys."""
    changed = []
    for page in account.pages:
        ids = list(page.conversations)
        for conversation_id in ids[:: max(1, len(ids) // number)][:number]:
            page.receive(conversation_id)
            changed.append((page.id, conversation_id))
    return changed


def fresh(server: PancakeServer, began: float, last_day: datetime) -> dict[str, Any]:
    """Return when all messages of the last day had been sent, and the calls that this needs.

    Returns:
        `seconds` since `began`, None if some messages were not requested; `conversations` with
        messages of the last day; `calls`, the fewest calls of the largest page.
    """
    needed: dict[str, set[int]] = {}
    most = 0
    for page in server.account.pages:
        calls = conversations = 0
        for talk in page.conversations.values():
            new = sum(message.inserted_at >= last_day for message in talk.messages)
            if new:
                conversations += 1
                # Offsets from the newest message to the first one of the last day.
                needed[talk.id] = set(range(new))
                calls += math.ceil(new / FULL_BATCH)
        most = max(most, calls + math.ceil(conversations / FULL_LIST))
    total, done = len(needed), 0.0
    with server.account.lock:
        made = list(server.calls)
    for call in made:
        left = needed.get(call.conversation_id or "")
        if left is None or call.status != HTTP_OK or call.fault:
            continue
        offset = int(call.params.get("current_count") or 0)
        left.difference_update(range(offset, offset + FULL_BATCH))
        if not left:
            del needed[call.conversation_id or ""]
            done = call.time
    return {
        "seconds": None if needed else done - began,
        "conversations": total,
        "calls": most,
    }


class Mover:
    """Adds messages in a thread, while a contestant reads."""

    def __init__(self, account: Account, number: float) -> None:
        """Begin to add messages, so many a second."""
        self._account = account
        self._pause = 1 / number
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)
        self._thread.start()
        self.arrived = 0

    def _move(self) -> None:
        rng = random.Random(self._account.seed)
        talks = [(page, talk) for page in self._account.pages for talk in page.conversations]
        while not self._over.wait(self._pause):
            page, talk = rng.choice(talks)
            page.receive(talk)
            self.arrived += 1

    def rest(self) -> int:
        """Stop, and return the number of messages that arrived."""
        self._over.set()
        self._thread.join()
        return self.arrived


def serve(server: PancakeServer) -> None:
    """Run the commands of standard input until it ends."""
    mover: Mover | None = None
    cpu_before, began = time.process_time(), time.time()
    last_day = datetime.now(UTC) - timedelta(days=1)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        answer: Any = None
        match command:
            case "reset":
                server.reset_calls()
                cpu_before, began = time.process_time(), time.time()
            case "fresh":
                answer = fresh(server, began, last_day)
            case "books":
                answer = books(server, cpu_before)
            case "truth":
                Path(argument).write_text(json.dumps(truth(server)), encoding="utf-8")
            case "receive":
                answer = receive(server.account, int(argument))
            case "move":
                mover = Mover(server.account, float(argument))
            case "rest" if mover is not None:
                answer = mover.rest()
            case "ahead":
                server.world.date_ahead = timedelta(seconds=float(argument))
            case _:
                message = f"unknown command: {line}"
                raise ValueError(message)
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Serve the data of the command line."""
    data = Data(**json.loads(sys.argv[1]))
    account = account_of(data)
    # The account stays in memory, so garbage collection need not look at it.
    gc.collect()
    gc.freeze()
    with PancakeServer(account, rate=data.rate or None, latency=data.latency) as server:
        if data.faulty:
            server.faults.extend(Fault(kind, every=every) for kind, every in FAULTS.items())
        print(json.dumps({"url": server.url, "token": account.user_token}), flush=True)
        serve(server)


if __name__ == "__main__":
    main()
