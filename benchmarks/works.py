"""The works: the data, the contestants, and the tables and goals of each one.

Works under a rate limit and works on later runs have modules of their own.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import later_runs, measure, under_limit
from benchmarks.busy import Busy, BusyPage
from benchmarks.contestants import (
    AIRBYTE,
    BARE,
    DLT,
    DLT_EXTRACT,
    STOCK,
    STOCK_BY_PAGE,
    TAP,
)
from benchmarks.extraction import Outcome, extract, middle, race, report, rotated, serving
from benchmarks.later_runs import first_run
from benchmarks.measure import Failed, scratch
from benchmarks.plan import COLUMNS, MILLION, Plan, Work, cells, described, named
from benchmarks.report import Section, at_most, table
from benchmarks.server import FAULTS, RATE, Data
from benchmarks.under_limit import PATIENCE, UNDER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable


# Without a limit

EVERYBODY = (TAP, STOCK, STOCK_BY_PAGE, DLT, DLT_EXTRACT, AIRBYTE, BARE)
MANY_MESSAGES = Data(pages=10, conversations=328, messages=(1, 120))


def cpu(plan: Plan) -> Section:
    """Compare the CPU time for each message."""
    data = plan.sized(MANY_MESSAGES)
    messages = data.pages * sum(data.message_counts)
    competing = plan.among(*EVERYBODY)
    found = race(data, competing, plan.rounds)

    def each(outcome: Outcome) -> float:
        return outcome.usage.cpu / messages

    rows = [
        [
            named(one, found[one.key], plan.rounds),
            f"{middle(found[one.key], each) * MILLION:.0f}",
            *cells(found[one.key]),
            f"{middle(found[one.key], lambda o: o.books['cpu']):.1f}",
        ]
        for one in competing
    ]
    text = [
        described(data),
        table(["", "CPU ms per 1,000 messages", *COLUMNS, "server CPU s"], rows),
    ]
    goals = [
        at_most(
            f"CPU for each message ≤ {most:g} of {what}",
            median(
                each(ours) / each(theirs)
                for ours, theirs in zip(found[TAP.key], found[peer.key], strict=True)
            ),
            most,
            "{:.2f}",
        )
        for peer, most, what in (
            (STOCK, 0.08, "the stock tap's"),
            (BARE, 3, "the bare script's"),
        )
        if {TAP.key, peer.key} <= found.keys()
    ]
    return Section(text=text, goals=goals)


def memory(plan: Plan) -> Section:
    """Compare the tap's peak memory with that for four times the data."""
    usual = plan.sized(MANY_MESSAGES)
    sizes = [usual, replace(usual, conversations=usual.conversations * 4)]
    found: dict[int, list[Outcome]] = {data.conversations: [] for data in sizes}
    for number in range(plan.rounds):
        for data in rotated(sizes, number):
            with serving(data) as (server, truth):
                outcome = extract(server, truth, TAP)
            report(f"round {number + 1}, {data.conversations} conversations a page", outcome)
            found[data.conversations].append(outcome)
    once, four_times = (found[data.conversations] for data in sizes)
    ratio = median(
        ours.usage.peak_mb / theirs.usage.peak_mb
        for ours, theirs in zip(four_times, once, strict=True)
    )
    rows = [
        [f"{data.pages * data.conversations:,} conversations", *cells(found[data.conversations])]
        for data in sizes
    ]
    return Section(
        text=[
            "The data of `cpu`, and four times as many conversations, read by the tap.",
            table(["", *COLUMNS], rows),
        ],
        goals=[
            at_most("peak memory with four times the data ≤ 1.05 of that", ratio, 1.05, "{:.3f}"),
            at_most(
                "peak memory < 110 MB",
                middle(four_times, lambda o: o.usage.peak_mb),
                110,
                "{:.1f} MB",
            ),
        ],
    )


# The costs of many pages

PAGE_NUMBERS = (500, 1000, 2000)
LINEAR = 1.15
"""The most that a page may cost between the two larger sizes, relative to the two smaller ones."""


def many_pages(plan: Plan) -> Section:
    """Measure STATE and CPU as the number of pages grows."""
    found: dict[tuple[str, int], list[Outcome]] = {}
    rows: list[list[str]] = []
    for number in PAGE_NUMBERS:
        data = plan.sized(Data(pages=number, conversations=2, messages=(1, 3)))
        competing = plan.among(TAP, STOCK) if number == PAGE_NUMBERS[0] else plan.among(TAP)
        outcomes = race(data, competing, plan.rounds, once=[STOCK], seconds=600)
        for one in competing:
            found[one.key, number] = outcomes[one.key]
            megabytes = middle(outcomes[one.key], lambda o: o.state_bytes) / MILLION
            name = named(one, outcomes[one.key], plan.rounds)
            rows.append(
                [f"{name}, {data.pages:,} pages", f"{megabytes:.2f}", *cells(outcomes[one.key])]
            )
    about = (
        "Pages of 2 conversations with 1 to 3 messages; no limit. After 600 s a run is ended; STATE"
        " is then what it had written."
    )
    text = [about, table(["", "STATE MB", *COLUMNS], rows)]
    if (TAP.key, PAGE_NUMBERS[0]) not in found:
        return Section(text=text)
    few, more, most = (
        middle(found[TAP.key, number], lambda o: o.usage.cpu) for number in PAGE_NUMBERS
    )
    state = middle(found[TAP.key, PAGE_NUMBERS[-1]], lambda o: o.state_bytes)
    return Section(
        text=text,
        goals=[
            at_most("STATE of 2,000 pages ≤ 5 MB in all", state / MILLION, 5, "{:.2f} MB"),
            at_most(
                f"CPU linear in pages: one of pages 1,001 to 2,000 costs ≤ {LINEAR:g} of one of"
                " pages 501 to 1,000",
                (most - more) / 2 / (more - few),
                LINEAR,
                "{:.2f}",
            ),
        ],
    )


# Calls


def calls(plan: Plan) -> Section:
    """Count the calls of a backfill."""
    rows: list[list[str]] = []
    ratios: list[float] = []
    for seed in (1, 2, 3):
        data = plan.sized(
            Data(pages=3, conversations=800, messages=(1, 70), spread="uneven", seed=seed)
        )
        (outcome,) = race(data, [TAP], 1)[TAP.key]
        ratios.append(outcome.books["calls"] / data.fewest_calls)
        endpoints = outcome.books["endpoints"]
        rows.append(
            [
                f"seed {seed}",
                f"{data.fewest_calls:,}",
                f"{outcome.books['calls']:,}",
                f"{ratios[-1]:.3f}",
                f"{endpoints['conversations']:,}",
                f"{endpoints['messages']:,}",
                f"{outcome.lost:,}",
            ]
        )
    header = ["", "fewest", "calls", "ratio", "lists of conversations", "of messages", "lost"]
    about = (
        f"{described(data)} A shop that grows, with silent weeks and campaigns of two days. One run"
        " for each seed, since calls are the same in every run."
    )
    return Section(
        text=[about, table(header, rows)],
        goals=[
            at_most(
                "calls of a backfill ≤ 1.03 of the fewest possible (worst of 3 seeds)",
                max(ratios),
                1.03,
                "{:.3f}",
            )
        ],
    )


def busy(plan: Plan) -> Section:
    """Simulate a busy page: its first run, and runs an hour apart."""
    page = Busy(history=100_000 // (20 if plan.small else 1))
    runs = BusyPage(page).runs(RUNS_OF_BUSY)
    rows = []
    for number, run in enumerate(runs, 1):
        print(f"  run {number}: {run}", file=sys.stderr, flush=True)
        rows.append(
            [
                "first run" if number == 1 else f"an hour later, run {number}",
                f"{run.hours:.2f}",
                f"{run.all:,}",
                f"{run.lists:,}",
                f"{run.messages:,}",
                f"{run.again:,}",
                f"{run.share:.1%}",
                f"{run.missing:,}",
                "no" if run.unsettled else "yes",
            ]
        )
    header = ["", "hours", "calls", "lists of conversations", "of messages", "nothing new", "share"]
    about = (
        f"Simulated: a page with {page.history:,} conversations, of which {page.a_day:,} a day get"
        " a message while it is read, a call after the other at 5 calls a second. A third of the"
        " messages begins a conversation, a third comes in one of the last thousand, a third in"
        " any. A call brought nothing new if its answer has no row and no message that the tap had"
        " not read before. Missing are messages that were there when the run began and were never"
        " read. A run ends with an error if the newest rows change faster than they are read."
    )
    return Section(
        text=[about, table([*header, "missing", "without an error"], rows)],
        goals=[
            at_most(
                "calls of the first run of a busy page that bring nothing new ≤ 15 %",
                runs[0].share,
                0.15,
                "{:.1%}",
            ),
            at_most("rows missing", float(sum(run.missing for run in runs)), 0, "{:.0f}"),
        ],
    )


def fresh(plan: Plan) -> Section:
    """Measure the time until the messages of the last day are complete."""
    data = plan.sized(FRESH)
    competing = plan.among(*UNDER_LIMIT)
    found: dict[str, list[float | None]] = {one.key: [] for one in competing}
    facts: dict[str, Any] = {}
    with serving(data) as (server, truth):
        for number in range(plan.rounds):
            for contestant in rotated(competing, number):
                try:
                    extract(server, truth, contestant, seconds=FRESH_PATIENCE)
                except Failed as failure:  # a peer that many answers 429 have ended
                    if contestant is TAP:
                        raise
                    print(f"  {str(failure)[-500:]}", file=sys.stderr, flush=True)
                facts = server.ask("fresh")
                found[contestant.key].append(facts["seconds"])
                print(f"  {contestant.title}: {facts}", file=sys.stderr, flush=True)
    rows = []
    for one in competing:
        seconds = [value for value in found[one.key] if value is not None]
        complete = len(seconds) == len(found[one.key])
        rows.append([one.title, f"{median(seconds):.1f}" if complete else "not complete"])
    about = (
        f"{described(data)} Over the month before now; {facts['conversations']:,} conversations"
        f" have messages of the last day, so the page with the most of them needs"
        f" {facts['calls'] / RATE:.1f} s. Seconds from the start until the server has answered the"
        f" last call for a message of the last day; each is ended after {FRESH_PATIENCE} s."
    )
    return Section(text=[about, table(["", "seconds until the last day is complete"], rows)])


# A long run

SOAKED = Data(pages=100, conversations=168, messages=(1, 120), spread="year", faulty=True)
ARRIVING = 20
"""Messages a second that arrive during the run."""
PARTS = 4
FLAT = 1.05


def soak(plan: Plan) -> Section:
    """Measure memory, threads and open files over a long run with faults."""
    data = plan.sized(SOAKED)
    watch = measure.Watch()
    with serving(data) as (server, truth), scratch() as kept:
        server.ask(f"move {ARRIVING}")
        first, state = first_run(server, truth, Path(kept), seconds=PATIENCE, watch=watch)
        arrived = server.ask("rest")
        # The second run has to read the rows that the first one left.
        held = {
            stream: keys - first.keys[stream] for stream, keys in server.truth(Path(kept)).items()
        }
        second = extract(server, held, TAP, state=state)
        report("second run", second)
    runs = [("first run", first), ("second run", second)]
    size = len(watch.samples) // PARTS
    parts = [watch.samples[number * size : (number + 1) * size] for number in range(PARTS)]
    rows = [
        [
            f"quarter {number} of the first run",
            f"{median(one.resident_mb for one in part):.1f}",
            f"{max(one.threads for one in part)}",
            f"{max(one.files for one in part)}",
        ]
        for number, part in enumerate(parts, 1)
    ]
    about = (
        f"{described(data)} About 2 % of the calls fail, in {len(FAULTS)} ways that pass, and"
        f" {ARRIVING} messages a second arrive in any conversation, {arrived:,} in all. Then"
        " nothing moves, and a second run goes on from the STATE. Lost is, of the first run, what"
        " the server held when it began, and of the second, what neither wrote."
    )
    faults = [[name, *cells([one]), f"{one.books['faults']:,}"] for name, one in runs]
    before, last = parts[-2:]
    figures: dict[str, Callable[[list[measure.Sample]], float]] = {
        "memory": lambda part: median(one.resident_mb for one in part),
        "threads": lambda part: max(one.threads for one in part),
        "open files": lambda part: max(one.files for one in part),
    }
    return Section(
        text=[
            about,
            table(["", *COLUMNS, "faults"], faults),
            table(["", "resident MB (median)", "threads (most)", "open files (most)"], rows),
        ],
        goals=[
            *(
                at_most(
                    f"{what} flat at the end: last quarter ≤ {FLAT:g} of the one before",
                    figure(last) / figure(before),
                    FLAT,
                    "{:.3f}",
                )
                for what, figure in figures.items()
            ),
            at_most("rows lost", float(first.lost + second.lost), 0, "{:.0f}"),
        ],
    )


# Start-up

STARTS = 10


def startup(plan: Plan) -> Section:
    """Compare the time of `--version` with that of importing the SDK."""
    commands: dict[str, list[str | Path]] = {
        "tap-pancake --version": [TAP.programs / "tap-pancake", "--version"],
        'python -c "import singer_sdk"': [TAP.programs / "python", "-c", "import singer_sdk"],
    }
    found: dict[str, list[measure.Usage]] = {name: [] for name in commands}
    with scratch() as temporary:
        for number in range(1 + max(STARTS, plan.rounds)):
            for name in rotated(list(commands), number):
                usage = measure.run(commands[name], Path(temporary))
                measure.succeeded(usage, Path(temporary), name)
                # The first start of each may have to compile its imports.
                if number:
                    found[name].append(usage)
    walls = {name: median(one.wall for one in usages) for name, usages in found.items()}
    for name, wall in walls.items():
        print(f"  {name}: {wall:.3f} s", file=sys.stderr)
    ours, theirs = walls.values()
    rows = [
        [
            f"`{name}`",
            f"{walls[name] * 1000:.0f}",
            f"{median(one.cpu for one in usages) * 1000:.0f}",
        ]
        for name, usages in found.items()
    ]
    return Section(
        text=[
            f"Medians of {max(STARTS, plan.rounds)} alternating starts, in the tap's environment.",
            table(["", "wall ms", "CPU ms"], rows),
        ],
        goals=[at_most("`--version` ≤ 1.2 of importing the SDK", ours / theirs, 1.2, "{:.2f}")],
    )


FRESH = Data(pages=8, conversations=2000, messages=(1, 60), spread="month", rate=RATE, latency=0.3)
FRESH_PATIENCE = 180
"""The seconds after which a contestant is ended."""
RUNS_OF_BUSY = 4
WORKS = {
    **under_limit.WORKS,
    "cpu": Work(contestants=EVERYBODY, run=cpu),
    "memory": Work(contestants=(TAP,), run=memory),
    "pages2000": Work(contestants=(TAP, STOCK), run=many_pages),
    "calls": Work(contestants=(TAP,), run=calls),
    "busy": Work(contestants=(), run=busy),
    "fresh": Work(contestants=UNDER_LIMIT, run=fresh),
    **later_runs.WORKS,
    "soak": Work(contestants=(TAP,), run=soak),
    "startup": Work(contestants=(TAP,), run=startup),
}
"""The works by name, in the order of the README."""
