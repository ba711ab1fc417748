"""The options of a measurement, and the common columns and texts of all works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.extraction import Outcome, middle
from benchmarks.report import Section, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.server import Data

MILLION = 1_000_000
COLUMNS = ("wall s", "CPU s", "peak MB", "calls", "429s", "rows", "lost")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of a measurement."""

    rounds: int
    small: bool
    """Whether to use a small part of the data, to try the benchmark itself."""
    only: frozenset[str]
    """Keys of the contestants that take part; empty for all."""

    def among(self, *competing: Contestant) -> list[Contestant]:
        """Return the contestants that take part."""
        return [one for one in competing if not self.only or one.key in self.only]

    def sized(self, data: Data) -> Data:
        """Return the data, or a small part of it."""
        if not self.small:
            return data
        return replace(
            data,
            pages=max(2, data.pages // 10) if data.pages > data.conversations else data.pages,
            conversations=max(2, data.conversations // 6),
        )


@dataclass(frozen=True, kw_only=True)
class Work:
    """One benchmark."""

    contestants: tuple[Contestant, ...]
    run: Callable[[Plan], Section]


def cells(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the common columns, as medians over rounds; rows only if no run was ended."""
    if not outcomes:
        return [""] * len(COLUMNS)
    unknown = any(one.usage.ended for one in outcomes)
    return [
        f"{middle(outcomes, lambda one: one.usage.wall):.1f}",
        f"{middle(outcomes, lambda one: one.usage.cpu):.2f}",
        f"{middle(outcomes, lambda one: one.usage.peak_mb):.0f}",
        f"{middle(outcomes, lambda one: one.books['calls']):,.0f}",
        f"{middle(outcomes, lambda one: one.books['refused']):,.0f}",
        "" if unknown else f"{middle(outcomes, lambda one: one.written):,.0f}",
        "" if unknown else f"{middle(outcomes, lambda one: one.lost):,.0f}",
    ]


def named(contestant: Contestant, outcomes: Sequence[Outcome], rounds: int) -> str:
    """Return a contestant's name, with a note if its runs were not complete."""
    if not outcomes:
        return f"{contestant.title} (ended with an error)"
    if any(one.usage.ended for one in outcomes):
        return f"{contestant.title} (ended before it was done)"
    once = len(outcomes) < rounds
    return f"{contestant.title} (one round)" if once else contestant.title


def described(data: Data) -> str:
    """Return what the server holds, as text."""
    messages = data.pages * sum(data.message_counts)
    calls = f"{data.rate:g} call{'' if data.rate == 1 else 's'}"
    limit = f"{calls} a second for each page" if data.rate else "no limit"
    return (
        f"{counted(data.pages, 'page')} of {data.conversations:,} conversations,"
        f" {messages:,} messages; {limit}, {data.latency:g} s before each answer;"
        f" {data.fewest_calls:,} calls at least."
    )
