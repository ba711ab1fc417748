"""Tables and goals in Markdown, and their places in the README."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.measure import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

README = ROOT / "benchmarks" / "README.md"
PACKAGES = ("tap-pancake", "singer-sdk", "dlt", "airbyte-cdk", "aiohttp", "orjson")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, and the measured figure."""

    text: str
    measured: str
    missed_by: str = ""
    """Empty if the goal was met."""


@dataclass(kw_only=True)
class Section:
    """The result of a work: Markdown, and goals."""

    text: list[str]
    goals: list[Goal] = field(default_factory=list)


def at_most(text: str, value: float, limit: float, form: str = "{:.2f}") -> Goal:
    """Return a goal that a figure meets at or below a limit."""
    missed = "" if value <= limit else f"{value / limit - 1:.1%}" if limit else form.format(value)
    return Goal(text=text, measured=form.format(value), missed_by=missed)


def at_least(text: str, value: float, limit: float, form: str = "{:.2f}") -> Goal:
    """Return a goal that a figure meets at or above a limit."""
    missed = "" if value >= limit else f"{1 - value / limit:.1%}"
    return Goal(text=text, measured=form.format(value), missed_by=missed)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], mark: str = "---:") -> str:
    """Return a table; all columns except the first are aligned by the mark, by default right."""
    marks = ["---", *[mark] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, marks, *rows))


def goals_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of goals."""
    return table(("work", "goal", "measured", "met"), rows, "---")


def goals_rows(work: str, goals: Sequence[Goal]) -> list[tuple[str, ...]]:
    """Return the goals of a work as rows."""
    return [
        (work, goal.text, goal.measured, f"missed by {goal.missed_by}" if goal.missed_by else "yes")
        for goal in goals
    ]


def counted(number: int, thing: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def circumstances(rounds: int) -> str:
    """Return the date, the machine and the versions of a measurement."""
    found = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+) kB", read("/proc/meminfo"))
    versions = [f"{name} {version}" for name in PACKAGES if (version := version_of(name))]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {commit()}, {counted(rounds, 'round')}."
        f" {os.cpu_count()} cores of {found[1] if found else platform.processor()},"
        f" {int(memory[1]) / 1024**2 if memory else 0:.0f} GB of memory,"
        f" Python {platform.python_version()}; {', '.join(versions)}."
    )


def read(path: str) -> str:
    """Return a file of the kernel; empty if there is none."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - not a file of the project
            return file.read()
    except OSError:
        return ""


def version_of(package: str) -> str:
    """Return a package's version in the benchmark's environments; empty if there is none."""
    for packages in sorted(ROOT.glob(".venv-bench*/lib/python*/site-packages")):
        for found in importlib.metadata.distributions(name=package, path=[str(packages)]):
            return found.version
    return ""


@cache
def commit() -> str:
    """Return the commit as it is before the README changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=, with changes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "no commit"


def write(work: str, order: Sequence[str], section: Section, rounds: int) -> None:
    """Write the result and the goals of a work into the README."""
    text = README.read_text(encoding="utf-8")
    body = "\n\n".join([*section.text, f"*{circumstances(rounds)}*"])
    text = replaced(text, work, body)
    rows = [row for row in goals_in(text) if row[0] != work] + goals_rows(work, section.goals)
    rows.sort(key=lambda row: order.index(row[0]))
    text = replaced(text, "goals", goals_table(rows))
    README.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, body: str) -> str:
    """Replace the text between two markers.

    Raises:
        ValueError: The text has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        message = f"{README} has no markers {begin} and {end}"
        raise ValueError(message)
    return f"{before}{begin}\n{body}\n{end}{after}"


def goals_in(text: str) -> list[tuple[str, ...]]:
    """Return the rows of the goals in the README."""
    _, _, rest = text.partition("<!-- goals -->")
    block, _, _ = rest.partition("<!-- /goals -->")
    rows = [tuple(line[2:-2].split(" | ")) for line in block.strip().splitlines()]
    return rows[2:]
