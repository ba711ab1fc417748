"""Writes the report: one HTML file over the models of transform/, which loads nothing else.

`python -m scripts.report output/shop.duckdb [output/report.html]`, or with the URL of a
PostgreSQL database instead of the DuckDB file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from scripts.report import models

HERE = Path(__file__).parent
MOST_BYTES = 9_500_000
"""Maximum size of the file, for mail programs and phones."""
SHORTER = 0.9
"""Share of the days that stays each time the file is too large."""


def script_of(value: Any) -> str:
    """Return a value as JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def report(data: dict[str, Any], most_bytes: int = MOST_BYTES) -> str:
    """Return the page, with as many of the newest days as fit into `most_bytes`."""
    parts = {
        "STYLE": part("style.css"),
        "PLOTLY": get_plotlyjs(),
        "TEXTS": script_of(json.loads(part("texts.json"))),
        "SCRIPT": part("report.js"),
    }
    text = part("page.html")
    for name, content in parts.items():
        text = text.replace(f"@{name}@", content)
    room = most_bytes - len(text.encode())
    first = models.first_day(data)
    data["first"], data["shortened"] = first, False
    while len((embedded := script_of(data)).encode()) > room and first is not None:
        last = max(one for one in data["messages"]["day"] + data["waits"]["day"] + [first])
        if last == first:
            break
        first = last - int((last - first) * SHORTER)
        data = models.later_than(data, first) | {"first": first, "shortened": True}
    return text.replace("@DATA@", embedded)


def part(name: str) -> str:
    """Return the text of a file of this package."""
    return (HERE / name).read_text(encoding="utf-8")


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m scripts.report", description=__doc__)
    parser.add_argument("database", help="the DuckDB file, or postgresql://…")
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        help="default: report.html beside the DuckDB file; for PostgreSQL, in this directory",
    )
    parser.add_argument(
        "--schema", help="schema of the models; default: pancake, in PostgreSQL pancake_models"
    )
    options = parser.parse_args()
    is_url = "://" in options.database
    if not is_url and not Path(options.database).is_file():
        parser.error(f"there is no file {options.database}")
    output = options.output or (
        Path("report.html") if is_url else Path(options.database).with_name("report.html")
    )
    with models.opened(options.database, options.schema) as ask:
        output.write_text(report(models.read(ask)), encoding="utf-8")
    print(f"Report: {output}")


if __name__ == "__main__":
    main()
