"""Works under a rate limit: the real one, with slow answers or a slow target, and lower ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.contestants import AIRBYTE, BARE, DLT, STOCK, TAP, Contestant
from benchmarks.extraction import Outcome, middle, race
from benchmarks.measure import ROOT
from benchmarks.plan import COLUMNS, MILLION, Plan, Work, cells, described, named
from benchmarks.report import Goal, Section, at_least, at_most, table
from benchmarks.server import RATE, Data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Job

PATIENCE = 2400
"""The seconds after which an extraction is ended."""
PAGE_OF_60 = Data(pages=1, conversations=60, messages=(1, 180), rate=RATE, latency=0.3)
UNDER_LIMIT = (TAP, STOCK, DLT, AIRBYTE, BARE)
# The stock tap reads one page after the other: 50 pages would take it six times as long as 8.
SIDE_BY_SIDE = (TAP, DLT, AIRBYTE, BARE)
# Many answers 429 may end them.
MAY_FAIL = (DLT, AIRBYTE)
AGAINST_BOUND = ("slowest page, calls/s", "wall ÷ bound", *COLUMNS)


def beside_bound(name: str, outcomes: Sequence[Outcome], bound: float) -> list[str]:
    """Return the row of a contestant under the limit; `bound` is in seconds."""
    if not outcomes:
        return [name, "", "", *cells(outcomes)]
    return [
        name,
        f"{middle(outcomes, lambda o: o.slowest_page):.2f}",
        f"{middle(outcomes, lambda o: o.usage.wall) / bound:.2f}",
        *cells(outcomes),
    ]


def refused(outcomes: Sequence[Outcome]) -> float:
    """Return the share of calls with the answer 429."""
    return middle(outcomes, lambda o: o.books["refused"] / o.books["calls"])


# The real limit


@dataclass(frozen=True, kw_only=True)
class Limited:
    """An extraction under the limit, and its goals."""

    data: Data
    among: tuple[Contestant, ...]
    once: tuple[Contestant, ...]
    """The contestants that take part in the first round only."""
    slack: float
    """The wall time that it may take, in multiples of the bound."""
    share: float | None = None
    """The share of the limit that each page is to reach."""
    peak_mb: float | None = None

    @property
    def work(self) -> Work:
        """The work."""
        return Work(contestants=self.among, run=self.run)

    def run(self, plan: Plan) -> Section:
        """Measure all contestants."""
        data = plan.sized(self.data)
        competing = plan.among(*self.among)
        found = race(
            data, competing, plan.rounds, once=self.once, may_fail=MAY_FAIL, seconds=PATIENCE
        )
        bound = data.calls_of_page / data.rate
        rows = [
            beside_bound(named(one, found[one.key], plan.rounds), found[one.key], bound)
            for one in competing
        ]
        text = [
            f"{described(data)} So no page can be read in less than {bound:.1f} s.",
            table(["", *AGAINST_BOUND], rows),
        ]
        taps = found.get(TAP.key)
        return Section(text=text, goals=self.goals(taps, bound) if taps else [])

    def goals(self, taps: Sequence[Outcome], bound: float) -> list[Goal]:
        """Return the goals of the tap."""
        goals = [
            at_most(
                f"wall time ≤ {self.slack:.2f} of the largest page's bound",
                middle(taps, lambda o: o.usage.wall) / bound,
                self.slack,
                "{:.3f}",
            ),
            at_most("429s ≤ 0.5 % of calls", refused(taps), 0.005, "{:.2%}"),
        ]
        if self.share:
            text = f"every page at {self.share:.0%} of {RATE:g} calls/s or more"
            rate = middle(taps, lambda o: o.slowest_page)
            goals.insert(0, at_least(text, rate / RATE, self.share, "{:.1%}"))
        if self.peak_mb:
            peak = middle(taps, lambda o: o.usage.peak_mb)
            text = f"peak memory ≤ {self.peak_mb:g} MB"
            goals.append(at_most(text, peak, self.peak_mb, "{:.1f} MB"))
        return goals


# Slow answers, and a slow target

TARGET_READS = MILLION
"""Bytes a second."""


def into_slow_target(job: Job) -> list[str | Path]:
    """Return the command of the tap with a pipe to a target that reads slowly."""
    target = ROOT / "benchmarks" / "slow_target.py"
    return [sys.executable, "-I", "-S", target, str(TARGET_READS), *TAP.command(job)]


TAP_INTO_SLOW_TARGET = replace(
    TAP, key="tap-into-slow-target", title="a slow target", command=into_slow_target
)
SLOW_ANSWERS = replace(PAGE_OF_60, pages=60, latency=1.5)
# About 120 MB. With 60 conversations a page, the target would take more than six minutes.
FOR_SLOW_TARGET = replace(PAGE_OF_60, pages=130, conversations=18)
SLOW_PEAK_MB = 250


def slow(plan: Plan) -> Section:
    """Measure the tap while it waits for slow answers, and for a slow target."""
    rows, text, goals = [], [], []
    for contestant, what, size in (
        (TAP, "slow answers", SLOW_ANSWERS),
        (TAP_INTO_SLOW_TARGET, "a slow target", FOR_SLOW_TARGET),
    ):
        data = plan.sized(size)
        outcomes = race(data, [contestant], plan.rounds, seconds=PATIENCE)[contestant.key]
        bound = data.calls_of_page / data.rate
        megabytes = middle(outcomes, lambda o: o.output_bytes) / MILLION
        if contestant is not TAP:
            bound = max(bound, megabytes * MILLION / TARGET_READS)
        text.append(f"With {what}: {described(data)} The bound is {bound:.1f} s.")
        rows.append([*beside_bound(f"tap-pancake, {what}", outcomes, bound), f"{megabytes:.1f}"])
        peak = middle(outcomes, lambda o: o.usage.peak_mb)
        lost = max(o.lost for o in outcomes)
        goals += [
            at_most(f"{what}: peak memory ≤ {SLOW_PEAK_MB} MB", peak, SLOW_PEAK_MB, "{:.1f} MB"),
            at_most(f"{what}: rows lost", float(lost), 0, "{:.0f}"),
        ]
    text.append(
        f"The slow target reads {TARGET_READS / MILLION:g} MB a second from the tap's pipe; wall"
        " time is its own, and its bound is the time that it needs to read what was written."
    )
    return Section(
        text=[" ".join(text), table(["", *AGAINST_BOUND, "MB written"], rows)], goals=goals
    )


# Fewer calls than documented

RATES = (3, 2, 1)


def adapt(plan: Plan) -> Section:
    """Measure under limits below the tap's default rate."""
    competing = plan.among(TAP, DLT, BARE)
    rows, text, goals = [], [], []
    for rate in RATES:
        # So that all rates take about the same time.
        data = plan.sized(replace(PAGE_OF_60, pages=8, conversations=40 * rate, rate=float(rate)))
        found = race(
            data, competing, plan.rounds, once=(DLT, BARE), may_fail=MAY_FAIL, seconds=PATIENCE
        )
        bound = data.calls_of_page / data.rate
        text.append(f"{described(data)} The bound is {bound:.1f} s.")
        for one in competing:
            name, outcomes = named(one, found[one.key], plan.rounds), found[one.key]
            share = f"{refused(outcomes):.1%}" if outcomes else ""
            rows.append([*beside_bound(f"{name}, {rate} calls/s", outcomes, bound), share])
        if taps := found.get(TAP.key):
            wall = middle(taps, lambda o: o.usage.wall) / bound
            goals += [
                at_most(f"{rate} calls/s: 429s ≤ 5 % of calls", refused(taps), 0.05, "{:.2%}"),
                at_most(f"{rate} calls/s: wall time ≤ 1.15 of the bound", wall, 1.15, "{:.3f}"),
            ]
    text.append("The tap has its default `requests_per_second`.")
    return Section(
        text=[" ".join(text), table(["", *AGAINST_BOUND, "429s of calls"], rows)], goals=goals
    )


LIMIT8 = Limited(
    data=replace(PAGE_OF_60, pages=8),
    among=UNDER_LIMIT,
    once=(STOCK, AIRBYTE),
    share=0.95,
    slack=1.06,
)
LIMIT50 = Limited(
    data=replace(PAGE_OF_60, pages=50),
    among=SIDE_BY_SIDE,
    once=(AIRBYTE,),
    share=0.9,
    slack=1.1,
)
LIMIT130 = Limited(
    data=replace(PAGE_OF_60, pages=130),
    among=SIDE_BY_SIDE,
    once=(DLT, AIRBYTE),
    slack=1.25,
    peak_mb=200,
)
WORKS = {
    "limit8": LIMIT8.work,
    "limit50": LIMIT50.work,
    "limit130": LIMIT130.work,
    "slow": Work(contestants=(TAP,), run=slow),
    "adapt": Work(contestants=(TAP, DLT, BARE), run=adapt),
}
