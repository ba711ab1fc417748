"""Runs the recipes of docs/recipes.md on the models of transform/.

`python -m scripts.recipes output/demo.duckdb ["New customers by ad" ...]`, or with the URL of
a PostgreSQL database instead of the file.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from scripts.report.models import opened
from scripts.summary import show

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
_RECIPE = re.compile(
    r"^## ([^\n]+)\n(?:(?!## )[^\n]*\n)*?```sql\n(.*?)^```", re.MULTILINE | re.DOTALL
)


def recipes() -> dict[str, str]:
    """Return the SQL of each recipe, by its heading."""
    return dict(_RECIPE.findall(DOCUMENT.read_text(encoding="utf-8")))


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
        "--schema", help="of the models: by default pancake, in PostgreSQL pancake_models"
    )
    options = parser.parse_args()
    titles = {title.casefold(): title for title in sql}
    if unknown := [name for name in options.recipe if name.casefold() not in titles]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are: {', '.join(sql)}")
    chosen = [titles[name.casefold()] for name in options.recipe]
    with opened(options.database, options.schema) as ask:
        for recipe in chosen:
            table(recipe, ask(sql[recipe]), options.rows)


if __name__ == "__main__":
    main()
