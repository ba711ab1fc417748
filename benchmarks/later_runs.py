"""Works on runs that continue from the STATE of the run before, when little is new."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import TAP, tap_command, written
from benchmarks.extraction import Outcome, extract, middle, report, serving
from benchmarks.measure import last_state, scratch
from benchmarks.plan import COLUMNS, Plan, Work, cells, described
from benchmarks.report import Section, at_most, table
from benchmarks.server import RATE, Data

if TYPE_CHECKING:
    from benchmarks.contestants import Contestant
    from benchmarks.extraction import Truth
    from benchmarks.measure import Server


def first_run(
    server: Server, truth: Truth, kept: Path, contestant: Contestant = TAP, **how: Any
) -> tuple[Outcome, Path]:
    """Run the tap without a STATE.

    Args:
        server: The server to read from.
        truth: The keys of the rows that it holds.
        kept: An existing directory for the output and the STATE.
        contestant: How the tap is started.
        how: Other arguments of `extract`.

    Returns:
        The outcome, and a file with the last STATE.
    """
    into = kept / "first"
    into.mkdir()
    outcome = extract(server, truth, contestant, into=into, **how)
    report("first run", outcome)
    return outcome, written(kept / "state.json", last_state(into / "out"))


# Little is new

CHANGED = 40


def incremental(plan: Plan) -> Section:
    """Count the calls of a second run after a few changes."""
    data = plan.sized(Data(pages=1, conversations=10_000, messages=(1, 3), spread="year"))
    rows = []
    with serving(data) as (server, truth), scratch() as kept:
        first, state = first_run(server, truth, Path(kept))
        changed = server.ask(f"receive {CHANGED}")
        new = server.truth(Path(kept))
        new["conversations"] = {tuple(key) for key in changed}
        new["messages"] -= truth["messages"]
        second = extract(server, new, TAP, state=state)
        report("second run", second)
    for name, outcome in (("first run", first), ("second run", second)):
        endpoints = outcome.books["endpoints"]
        rows.append(
            [
                name,
                f"{outcome.books['calls']:,}",
                f"{endpoints['conversations']:,}",
                f"{endpoints['messages']:,}",
                *(f"{outcome.rows[stream]:,}" for stream in ("conversations", "messages")),
                f"{outcome.lost:,}",
            ]
        )
    header = ["", "calls", "lists of conversations", "of messages", "conversations", "messages"]
    about = (
        f"{described(data)} Over the year before now. Then {CHANGED} conversations from all of it"
        " get a message, and the tap goes on from its STATE; lost is what it then does not write"
        " of these. Calls include the one that lists the pages. One run."
    )
    return Section(
        text=[about, table([*header, "lost"], rows)],
        goals=[
            at_most(
                f"second run ≤ 1.2 calls for each of {CHANGED} changed conversations + 2",
                second.books["calls"],
                1.2 * CHANGED + 2,
                "{:.0f} calls",
            )
        ],
    )


# Nothing is new

QUIET = Data(pages=130, conversations=60, messages=(1, 30), spread="quiet", rate=RATE, latency=0.3)
BESIDE_BOUND = 6
"""Seconds."""
CALLS_OF_PAGE, CALLS_OF_HOUR = 2, 12


def quiet130(plan: Plan) -> Section:
    """Measure runs over pages without anything new."""
    data = plan.sized(QUIET)
    with serving(data) as (server, truth), scratch() as kept:
        first, state = first_run(server, truth, Path(kept))
        nothing_new = {**truth, "conversations": set(), "messages": set()}
        later = []
        for number in range(plan.rounds):
            later.append(extract(server, nothing_new, TAP, state=state))
            report(f"round {number + 1}, second run", later[-1])
    calls = middle(later, calls_of_page)
    wall = middle(later, lambda o: o.usage.wall)
    bound = calls / data.rate
    rows = [
        [name, f"{middle(outcomes, calls_of_page):,.0f}", *cells(outcomes)]
        for name, outcomes in (("first run", [first]), ("second run", later))
    ]
    about = (
        f"{described(data)} Over a month that ended two days ago. Nothing is new when the tap goes"
        " on from the STATE of its first run; each round begins with that STATE. The bound of its"
        f" calls is those of the page with most, at {RATE:g} a second: {bound:.1f} s. Lost are, in"
        " the second run, pages only."
    )
    return Section(
        text=[about, table(["", "calls of the page with most", *COLUMNS], rows)],
        goals=[
            at_most(
                f"wall time ≤ {BESIDE_BOUND} s more than the bound of its calls",
                wall - bound,
                BESIDE_BOUND,
                "{:.1f} s",
            ),
            at_most(f"calls of each page ≤ {CALLS_OF_PAGE}", calls, CALLS_OF_PAGE, "{:.0f}"),
        ],
    )


def calls_of_page(outcome: Outcome) -> int:
    """Return the number of answered calls of the page with the most."""
    return max(page["answered"] for page in outcome.books["pages"].values())


TAP_BY_DEFAULT = replace(
    TAP, title="tap-pancake without a catalog", command=partial(tap_command, by_default=True)
)


def hourly(plan: Plan) -> Section:
    """Count the calls of an hourly run of a quiet page, with the streams selected by default."""
    data = plan.sized(Data(pages=1, conversations=60, messages=(1, 30), spread="quiet"))
    with serving(data) as (server, truth), scratch() as kept:
        server.ask("ahead -3600")
        first, state = first_run(server, truth, Path(kept), TAP_BY_DEFAULT)
        server.ask("ahead 0")
        nothing_new = {**truth, "conversations": set(), "messages": set()}
        second = extract(server, nothing_new, TAP_BY_DEFAULT, state=state)
        report("second run", second)
    runs = [outcome.books for outcome in (first, second)]
    endpoints = sorted({name for run in runs for name in run["endpoints"]})
    rows = [
        [f"`{name}`", *(f"{run['endpoints'].get(name, 0):,}" for run in runs)] for name in endpoints
    ]
    rows.append(["all", *(f"{run['calls']:,}" for run in runs)])
    about = (
        f"{described(data)} Over a month that ended two days ago. All streams that are selected by"
        " default. The server's clock is an hour behind during the first run, so that the second"
        " one comes an hour later; nothing is new. One run."
    )
    return Section(
        text=[about, table(["calls by endpoint", "first run", "an hour later"], rows)],
        goals=[
            at_most(
                f"calls of an hourly run of a quiet page ≤ {CALLS_OF_HOUR}, list of pages included",
                second.books["calls"],
                CALLS_OF_HOUR,
                "{:.0f}",
            )
        ],
    )


WORKS = {
    "incremental": Work(contestants=(TAP,), run=incremental),
    "quiet130": Work(contestants=(TAP,), run=quiet130),
    "hourly": Work(contestants=(TAP,), run=hourly),
}
