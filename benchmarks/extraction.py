"""One extraction by one contestant, and rounds of them against the same server."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks import measure
from benchmarks.contestants import STREAMS, Contestant, Job
from benchmarks.measure import STATE_BEGINS, Failed, Server, Usage, Watch, scratch
from benchmarks.server import Data

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    Truth = Mapping[str, set[tuple[str, ...]]]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one extraction used, asked for and wrote."""

    usage: Usage
    books: dict[str, Any]
    """The server's, see `benchmarks.server.books`."""
    rows: dict[str, int]
    """Rows written, by stream."""
    keys: dict[str, set[tuple[str, ...]]]
    """Their keys."""
    lost: int
    """Rows that the server holds and that were not written."""
    state_bytes: int
    """Bytes of STATE lines."""
    output_bytes: int
    """Bytes of standard output, of all lines."""

    @property
    def written(self) -> int:
        """Rows of all streams."""
        return sum(self.rows.values())

    @property
    def slowest_page(self) -> float:
        """Calls a second of the page that got the fewest, between its first and last call."""
        rates = [
            # The last call ends the time that is measured, and does not use any of it.
            (page["answered"] - 1) / (page["last"] - page["first"])
            for page in self.books["pages"].values()
            if page["answered"] > 1
        ]
        return min(rates, default=0.0)


def extract(
    server: Server,
    truth: Truth,
    contestant: Contestant,
    *,
    seconds: int = 600,
    into: Path | None = None,
    state: Path | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Run one contestant against a server, and compare what it wrote with what the server holds.

    Args:
        server: Where to read from; its books are begun anew.
        truth: What it holds.
        contestant: Who reads.
        seconds: After which it is ended.
        into: An existing directory that is to keep what it wrote; by default none does.
        state: The STATE to go on from.
        watch: Looks at the contestant meanwhile.

    Returns:
        What came out of it.
    """
    with scratch() as temporary:
        directory = into or Path(temporary)
        job = Job(
            url=server.url, token=server.token, data=server.data, directory=directory, state=state
        )
        command = contestant.command(job)
        server.ask("reset")
        usage = measure.run(command, directory, seconds=seconds, watch=watch)
        books = server.ask("books")
        rows = dict.fromkeys(STREAMS, 0)
        keys: dict[str, set[tuple[str, ...]]] = {stream: set() for stream in STREAMS}
        if usage.ended:
            print(f"  {contestant.title}: ended after {seconds} s", file=sys.stderr)
        else:
            measure.succeeded(usage, directory, contestant.title)
            for stream, row in contestant.rows(directory):
                rows[stream] += 1
                keys[stream].add(tuple(row[name] for name in STREAMS[stream]))
        return Outcome(
            usage=usage,
            books=books,
            rows=rows,
            keys=keys,
            lost=sum(len(truth[stream] - keys[stream]) for stream in STREAMS),
            state_bytes=state_bytes(directory / "out"),
            output_bytes=(directory / "out").stat().st_size,
        )


def state_bytes(output: Path) -> int:
    """Count the bytes of STATE lines."""
    with output.open("rb") as file:
        return sum(len(line) for line in file if line.startswith(STATE_BEGINS))


@contextmanager
def serving(data: Data) -> Iterator[tuple[Server, Truth]]:
    """Have a server, and what it holds."""
    with Server(data) as server, scratch() as directory:
        yield server, server.truth(Path(directory))


def race(
    data: Data,
    competing: Sequence[Contestant],
    rounds: int,
    *,
    once: Collection[Contestant] = (),
    may_fail: Collection[Contestant] = (),
    seconds: int = 600,
) -> dict[str, list[Outcome]]:
    """Let contestants extract the same data in rounds, each round beginning with another one.

    Args:
        data: What the server holds.
        competing: Who takes part.
        rounds: How often.
        once: Those that take part in the first round only.
        may_fail: Those whose error leaves the round without an outcome, and does not end all.
        seconds: After which an extraction is ended.

    Returns:
        By the contestant's key, what came out of each round.
    """
    found: dict[str, list[Outcome]] = {contestant.key: [] for contestant in competing}
    with serving(data) as (server, truth):
        for number in range(rounds):
            for contestant in rotated(competing, number):
                if number and contestant in once:
                    continue
                try:
                    outcome = extract(server, truth, contestant, seconds=seconds)
                except Failed as failure:
                    if contestant not in may_fail:
                        raise
                    print(f"  {str(failure)[-500:]}", file=sys.stderr, flush=True)
                    continue
                found[contestant.key].append(outcome)
                report(f"round {number + 1}, {contestant.title}", outcome)
    return found


def rotated(things: Sequence[T], number: int) -> list[T]:
    """Begin with another one in each round, so that all meet the same noise."""
    start = number % len(things)
    return [*things[start:], *things[:start]]


def report(what: str, outcome: Outcome) -> None:
    """Tell who watches how one extraction went."""
    usage = outcome.usage
    print(
        f"  {what}: {usage.wall:.1f} s, CPU {usage.cpu:.2f} s, {usage.peak_mb:.0f} MB,"
        f" {outcome.books['calls']} calls, {outcome.books['refused']} refused,"
        f" {outcome.written} rows, {outcome.lost} lost",
        file=sys.stderr,
        flush=True,
    )


def middle(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
    """Return the median of a figure over rounds."""
    return median(value(outcome) for outcome in outcomes)


def check(competing: Sequence[Contestant]) -> None:
    """Make sure that on a small server each contestant works and loses nothing.

    Their files are compiled and cached after that, too, which the first round would pay for else.
    """
    data = Data(pages=3, conversations=70, messages=(1, 70), spread="uneven")
    with serving(data) as (server, truth):
        for contestant in competing:
            outcome = extract(server, truth, contestant, seconds=120)
            report(f"check, {contestant.title}", outcome)
            if outcome.lost or outcome.usage.ended:
                message = f"{contestant.title} lost {outcome.lost} rows of a small account"
                raise Failed(message)
