"""Runs the recipes of docs/recipes.md on the models of transform/.

`python -m scripts.recipes output/pancake.duckdb ["New customers by ad" ...]`, or with the URL of
a PostgreSQL database instead of the file.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from scripts.summary import show

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
_RECIPE = re.compile(
    r"^## ([^\n]+)\n(?:(?!## )[^\n]*\n)*?```sql\n(.*?)^```", re.MULTILINE | re.DOTALL
)


def recipes() -> dict[str, str]:
    """Return the SQL of each recipe, by its heading."""
    return dict(_RECIPE.findall(DOCUMENT.read_text(encoding="utf-8")))


def answers(
    database: str, queries: Iterable[str], schema: str = "pancake_models"
) -> list[list[dict[str, Any]]]:
    """Return the rows of each query.

    Args:
        database: A DuckDB file, or the URL of a PostgreSQL database.
        queries: SQL over the models.
        schema: Schema of the models in PostgreSQL.
    """
    connection: Any
    if database.startswith(("postgres://", "postgresql://")):
        import psycopg  # noqa: PLC0415 - only PostgreSQL needs it

        connection = psycopg.connect(database)
        connection.execute("select set_config('search_path', %s, false)", [schema])
    else:
        connection = duckdb.connect(database, read_only=True)
        # DuckDB names the database after the file.
        connection.execute(f'use "{Path(database).stem}".pancake')
    with connection:
        return [rows(connection.execute(query)) for query in queries]


def rows(found: Any) -> list[dict[str, Any]]:
    """Return the rows of a cursor, as dictionaries by column name."""
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def cell(value: object) -> object:
    """Return a value for a table cell. Texts become one line: ad names may have several."""
    return " ".join(value.split()) if isinstance(value, str) else "" if value is None else value


def table(title: str, found: list[dict[str, Any]], most: int | None) -> None:
    """Print a title and the first `most` rows."""
    print(f"\n{title}:")
    shown = found[:most]
    if shown:
        cells = [tuple(map(cell, row.values())) for row in shown]
        show([tuple(found[0]), *cells])
    if len(found) > len(shown) or not found:
        print(f"({len(found)} rows{', these are the first' if shown else ''})")


def main() -> None:
    """Print the results of the chosen recipes."""
    sql = recipes()
    parser = argparse.ArgumentParser(prog="python -m scripts.recipes", description=__doc__)
    parser.add_argument("database", help="a DuckDB file, or the URL of a PostgreSQL database")
    parser.add_argument(
        "recipe", nargs="*", default=list(sql), help="headings of recipes; by default, all"
    )
    parser.add_argument("--rows", type=int, help="maximum rows of each recipe; by default, all")
    parser.add_argument(
        "--schema", default="pancake_models", help="schema of the models in PostgreSQL"
    )
    options = parser.parse_args()
    titles = {title.casefold(): title for title in sql}
    if unknown := [name for name in options.recipe if name.casefold() not in titles]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are: {', '.join(sql)}")
    chosen = [titles[name.casefold()] for name in options.recipe]
    queries = [sql[recipe] for recipe in chosen]
    for recipe, found in zip(
        chosen, answers(options.database, queries, options.schema), strict=True
    ):
        table(recipe, found, options.rows)


if __name__ == "__main__":
    main()
