"""Answers questions from what target-jsonl wrote, with the SQL of docs/recipes.md.

`python -m scripts.recipes output ["New customers by ad" ...]`
"""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from scripts.summary import show

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
RECIPES = (
    "First response time by staff and hour",
    "Open conversations without an answer",
    "Messages per channel and day",
    "Tag funnel",
    "New customers by ad",
)


def sql(heading: str) -> str:
    """Give the first SQL below a heading of the document."""
    below = DOCUMENT.read_text(encoding="utf-8").partition(f"# {heading}\n")[2]
    section = re.split(r"^#+ ", below, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(r"^```sql\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    if not found:
        message = f"{DOCUMENT.name} has no SQL below the heading {heading!r}"
        raise ValueError(message)
    return found[1]


def opened(directory: Path, as_of: datetime | None = None) -> duckdb.DuckDBPyConnection:
    """Make the document's views of the files in a directory.

    Args:
        directory: Where target-jsonl wrote.
        as_of: What time it is; by default the time of each query.

    Returns:
        The connection, to a database in memory.
    """
    if not any(directory.glob("*.jsonl")):
        message = f"{directory} has no .jsonl files: has target-jsonl been run?"
        raise SystemExit(message)
    connection = duckdb.connect()
    files = str(directory / "*.jsonl").replace("'", "''")
    connection.execute(f"SET VARIABLE files = '{files}'")
    connection.execute(sql("Views for DuckDB"))
    connection.execute(sql("Views of both"))
    if as_of:
        connection.execute(clock(as_of))
    return connection


def clock(as_of: datetime) -> str:
    """Give the SQL that makes it this time, in both engines."""
    return f"CREATE OR REPLACE VIEW shop.clock AS SELECT TIMESTAMPTZ '{as_of.isoformat()}' AS as_of"


def answer(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """Give the rows of a query."""
    found = connection.execute(query)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def table(title: str, rows: Sequence[dict[str, Any]], most: int | None) -> None:
    """Print a title and the first rows."""
    print(f"\n{title}:")
    shown = rows[:most]
    if shown:
        cells = [tuple("" if value is None else value for value in row.values()) for row in shown]
        show([tuple(rows[0]), *cells])
    if len(rows) > len(shown) or not rows:
        print(f"({len(rows)} rows{', these are the first' if shown else ''})")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the report has, too."""
    parser.add_argument("directory", type=Path, help="where target-jsonl wrote")
    parser.add_argument(
        "--as-of", type=datetime.fromisoformat, help="what time it is; by default, now"
    )


def main() -> None:
    """Print the answers."""
    parser = argparse.ArgumentParser(prog="python -m scripts.recipes", description=__doc__)
    arguments(parser)
    parser.add_argument("recipe", nargs="*", default=RECIPES, help="by default, all")
    parser.add_argument("--rows", type=int, help="at most so many of each; by default, all")
    options = parser.parse_args()
    if unknown := set(options.recipe) - set(RECIPES):
        parser.error(f"no such recipe: {', '.join(unknown)}; there are: {', '.join(RECIPES)}")
    connection = opened(options.directory, options.as_of)
    for recipe in options.recipe:
        table(recipe, answer(connection, sql(recipe)), options.rows)


if __name__ == "__main__":
    main()
