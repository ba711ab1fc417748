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
    """The costs, calls and rows of one extraction."""

    usage: Usage
    books: dict[str, Any]
    """The server's counts, see `benchmarks.server.books`."""
    rows: dict[str, int]
    """Number of rows written, by stream."""
    keys: dict[str, set[tuple[str, ...]]]
    """Their keys."""
    lost: int
    """Number of rows that the server holds and that were not written."""
    state_bytes: int
    """Size of the STATE lines."""
    output_bytes: int
    """Size of standard output."""

    @property
    def written(self) -> int:
        """Number of rows of all streams."""
        return sum(self.rows.values())

    @property
    def slowest_page(self) -> float:
        """The lowest rate of a page: calls a second between its first and last answered call."""
        rates = [
            # The first call begins the time, so it is not counted.
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
        server: The server to read from. Its books are reset.
        truth: The keys of the rows that it holds.
        contestant: The contestant that reads.
        seconds: The time after which the contestant is ended.
        into: An existing directory that keeps the output; by default it is removed.
        state: The STATE to continue from.
        watch: Takes samples of the contestant's process.
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
    """Start a server; yield it and the keys of its rows."""
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
    """Extract the same data with each contestant, in rounds that begin with another one each.

    Args:
        data: What the server holds.
        competing: The contestants.
        rounds: The number of rounds.
        once: The contestants that take part in the first round only.
        may_fail: The contestants whose errors do not end the benchmark.
        seconds: The time after which an extraction is ended.

    Returns:
        By the contestant's key, the outcome of each round that did not fail.
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
    """Return the things in an order that begins with another one in each round."""
    start = number % len(things)
    return [*things[start:], *things[:start]]


def report(what: str, outcome: Outcome) -> None:
    """Print how one extraction went."""
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
    """Check that each contestant reads a small server without losing a row.

    It also compiles and caches their files, so that the first round is not slower.

    Raises:
        Failed: A contestant lost rows, or did not end.
    """
    data = Data(pages=3, conversations=70, messages=(1, 70), spread="uneven")
    with serving(data) as (server, truth):
        for contestant in competing:
            outcome = extract(server, truth, contestant, seconds=120)
            report(f"check, {contestant.title}", outcome)
            if outcome.lost or outcome.usage.ended:
                message = f"{contestant.title} lost {outcome.lost} rows of a small account"
                raise Failed(message)
