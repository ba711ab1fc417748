"""Runs works, prints their results, and writes them into the README."""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks import report
from benchmarks.contestants import CONTESTANTS
from benchmarks.extraction import check
from benchmarks.measure import Failed
from benchmarks.works import WORKS, Plan


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="sh benchmarks/run.sh", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of: {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument(
        "--only",
        default="",
        metavar="A,B",
        help="only these contestants, nothing is written into the README;"
        f" of: {', '.join(one.key for one in CONTESTANTS)}",
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="use little data, to try the benchmark itself; nothing is written into the README",
    )
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(",")))
    unknown = set(chosen.works) - set(WORKS) | only - {one.key for one in CONTESTANTS}
    if unknown or chosen.rounds < 1:
        parser.error(f"unknown: {', '.join(sorted(unknown))}" if unknown else "--rounds is below 1")
    chosen.only = frozenset(only)
    return chosen


def main() -> int:
    """Run the works one after the other."""
    # As an exception, so that `finally` ends the processes that were started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chosen = arguments()
    plan = Plan(rounds=chosen.rounds, small=chosen.small, only=chosen.only)
    names = [name for name in WORKS if name in chosen.works or not chosen.works]
    needed = {one for name in names for one in WORKS[name].contestants}
    print(report.circumstances(plan.rounds), file=sys.stderr)
    try:
        check(plan.among(*(one for one in CONTESTANTS if one in needed)))
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            section = WORKS[name].run(plan)
            goals = report.goals_table(report.goals_rows(name, section.goals))
            print(f"\n## {name}", *section.text, goals, sep="\n\n", flush=True)
            if not (plan.small or plan.only):
                report.write(name, list(WORKS), section, plan.rounds)
    except Failed as failure:
        print(f"{sys.argv[0]}: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
