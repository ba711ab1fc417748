"""Prints how many rows target-jsonl wrote to a directory: `python scripts/summary.py output`."""

from __future__ import annotations

import sys
import unicodedata
from decimal import Decimal
from pathlib import Path

import duckdb

# Field → type. Other fields of the files are not read.
FIELDS = {
    "pages": {"id": "VARCHAR", "name": "VARCHAR", "platform": "VARCHAR"},
    "conversations": {"page_id": "VARCHAR", "id": "VARCHAR"},
    "messages": {
        "page_id": "VARCHAR",
        "conversation_id": "VARCHAR",
        "id": "VARCHAR",
        "inserted_at": "TIMESTAMP",
    },
}
# Keys are counted, not lines: target-jsonl appends, and a tap may write a row again.
BY_PAGE = """
WITH latest AS (
    SELECT id, any_value(platform) AS platform, any_value(name) AS name FROM pages GROUP BY id
), listed AS (
    SELECT page_id AS id, count(DISTINCT id) AS conversations FROM conversations GROUP BY page_id
), dated AS (
    SELECT page_id AS id, count(DISTINCT (conversation_id, id)) AS messages,
        min(inserted_at) AS "first", max(inserted_at) AS "last"
    FROM messages GROUP BY page_id
)
SELECT coalesce(platform, 'unknown'), coalesce(name, id),
    coalesce(conversations, 0), coalesce(messages, 0),
    coalesce(strftime("first", '%Y-%m-%d %H:%M'), ''),
    coalesce(strftime("last", '%Y-%m-%d %H:%M'), '')
FROM latest LEFT JOIN listed USING (id) LEFT JOIN dated USING (id)
ORDER BY platform, id
"""
NUMBERS = (int, Decimal)
HEADER = ("channel", "page", "conversations", "messages", "first message", "last message")


def main(directory: Path) -> None:
    """Print the tables."""
    connection = duckdb.connect()
    lines = {}
    for stream, fields in FIELDS.items():
        file = directory / f"{stream}.jsonl"
        if not file.exists():
            sys.exit(f"{file} is not there: has `meltano run tap-pancake target-jsonl` been run?")
        names = connection.read_json(str(file), format="newline_delimited", columns=fields)
        names.create(stream)
        lines[stream] = connection.table(stream).shape[0]
    rows = connection.execute(BY_PAGE).fetchall()
    pages = "1 page" if len(rows) == 1 else f"{len(rows)} pages"
    total = ("all", pages, sum(row[2] for row in rows), sum(row[3] for row in rows))
    show([HEADER, *rows, (*total, "", "")])
    for file in sorted(directory.glob("*.jsonl")):
        if file.stem not in lines:
            with file.open("rb") as written:
                lines[file.stem] = sum(1 for _ in written)
    counts = ", ".join(f"{count} {stream}" for stream, count in lines.items())
    print(f"Rows are counted once by their key. Lines in {directory}, of all runs: {counts}.")


def show(rows: list[tuple[object, ...]]) -> None:
    """Print rows as a table, with numbers aligned to the right."""
    widths = [max(width(str(value)) for value in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for value, most in zip(row, widths, strict=True):
            blank = " " * (most - width(str(value)))
            cells.append(f"{blank}{value}" if isinstance(value, NUMBERS) else f"{value}{blank}")
        print("  ".join(cells).rstrip())


def width(text: str) -> int:
    """Return the number of terminal columns that a text fills."""
    return sum(
        0
        if unicodedata.category(letter) in {"Mn", "Me", "Cf"}
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in text
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "output"))
