"""Compares the rows of a target after a run of all streams with those of the server."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from scripts.schemas import form_of, types_of
from tests.accounts import BEFORE_AND_AFTER, full_account
from tests.pancake_api import PancakeServer
from tests.processes import ROOT
from tests.stream_truth import OTHERS, records
from tests.tap import ALL_KEYS, full_config, key_of, select, sync
from tests.truth import rows_of, text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from tests.pancake_api import Account
    from tests.tap import Json, Run

    Rows = dict[tuple[str, ...], Json]
    Same = Callable[[Any, Any, Json], bool]
    """Returns whether a target's cell has the server's value, by the column's schema."""

DOCUMENT = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
FLATTENED = {"flattening_enabled": True, "flattening_max_depth": 1}
LARGE = 9_007_199_254_740_993
"""The first whole number that a float cannot hold."""
LABEL = r"Khách \N, sỉ"
"""DuckDB 1.2 reads the backslash as an escape."""
MESSAGE_TEXT = 'Xong ạ 👨‍👩‍👧‍👦 🇻🇳 ❤️, "mai" nhận;\n\\N \x00'


@dataclass
class Loaded:
    """A run, and the rows of the server in the columns of its SCHEMA."""

    run: Run
    truth: dict[str, Rows]


def read_all(directory: Path, dialect: str, **settings: Any) -> Loaded:
    """Read all streams of the bundled server."""
    account = full_account(dialect)
    make_difficult(account)
    with PancakeServer(account, dialect) as server:
        config = full_config(server, **BEFORE_AND_AFTER, **settings)
        run = sync(directory, config, catalog=select(*ALL_KEYS))
        truth = rows_of(server) | {stream: records(server, stream) for stream in OTHERS}
        truth["sync_runs"] = run.by_key("sync_runs")  # no server has them
    # Two rows may have the same key if a label has no year. No target accepts a NUL.
    kept = json.dumps([[stream, list(rows.values())] for stream, rows in truth.items()])
    rows = dict(json.loads(kept.replace(r"\u0000", r"\ufffd")))
    assert rows.keys() == run.schemas.keys() == ALL_KEYS.keys()
    assert all(rows.values())
    if "flattening_enabled" in settings:
        columns = {name: schema["properties"].keys() for name, schema in run.schemas.items()}
        rows = {name: [flattened(row, columns[name]) for row in rows[name]] for name in rows}
    return Loaded(run, {name: {key_of(name, row): row for row in rows[name]} for name in ALL_KEYS})


def make_difficult(account: Account) -> None:
    """Add values to the account that are difficult for targets."""
    (conversation, *_) = account.pages[0].conversations.values()
    message = conversation.messages[-1]
    message.text = MESSAGE_TEXT
    message.like_count = LARGE
    message.attachments = [{"id": str(LARGE), "type": "sticker", "size": LARGE, "name": "'"}]
    for tag in account.pages[0].tags.values():
        tag.text = LABEL
    for other in account.pages[0].conversations.values():
        for order in other.orders:
            order.id = LARGE * 1000 + order.id % 1000


def flattened(row: Json, columns: Collection[str]) -> Json:
    """Return a row with a column for each value of its objects, as the tap flattens them."""
    return {
        path: value
        for name, part in row.items()
        for path, value in (
            {f"{name}__{inner}": value for inner, value in part.items()}
            if isinstance(part, dict) and name not in columns
            else {name: part}
        ).items()
    }


def assert_holds(loaded: Loaded, tables: Mapping[str, list[Json]], same: Same) -> None:
    """Assert that a target has each row of each stream once, with all values."""
    assert tables.keys() == loaded.truth.keys()
    for stream, rows in tables.items():
        by_key = by_text_key(stream, rows)
        assert len(rows) == len(by_key), stream
        assert by_key.keys() == by_text_key(stream, loaded.truth[stream].values()).keys(), stream
        assert_values(loaded, stream, by_key, same)


def by_text_key(stream: str, rows: Iterable[Json]) -> Rows:
    """Return rows by key, with the parts of the key as text."""
    return {tuple(map(str, key_of(stream, row))): row for row in rows}


def assert_values(loaded: Loaded, stream: str, by_key: Rows, same: Same) -> None:
    """Assert that rows of a target have all columns, and the values of the server."""
    truth = by_text_key(stream, loaded.truth[stream].values())
    properties = loaded.run.schemas[stream]["properties"]
    for key, row in by_key.items():
        assert row.keys() == properties.keys(), stream
        assert {name for name, value in truth[key].items() if value is not None} <= row.keys()
        for name, cell in row.items():
            value = truth[key].get(name)
            assert same(cell, value, properties[name]), (stream, name, cell, value)


def same_in_csv(cell: str, value: Any, column: Json) -> bool:
    """Return whether a CSV cell has a value."""
    if isinstance(value, (dict, list)):
        # JSON if the tap flattened it, otherwise as Python writes it.
        read = json.loads if "string" in column["type"] else ast.literal_eval
        return bool(read(cell) == value)
    if value is None:
        return cell == ""
    if "number" in column["type"]:
        return bool(float(cell) == value)
    if column.get("format") == "date-time":
        return cell == str(datetime.fromisoformat(value))
    return cell == str(value)


def same_in_table(cell: Any, value: Any, _: Json) -> bool:
    """Return whether a database cell has a value."""
    if isinstance(value, (dict, list)) and isinstance(cell, str):
        return bool(json.loads(cell) == value)
    return bool(from_table(cell) == value)


def same_but_empty_text(cell: Any, value: Any, column: Json) -> bool:
    """Return whether a database cell has a value, with NULL for the empty text."""
    return cell is None if value == "" else same_in_table(cell, value, column)


def from_table(cell: Any) -> Any:
    """Return a database value in the form of the tap's JSON."""
    match cell:
        case datetime():  # a timestamp without a zone, in UTC
            assert cell.tzinfo is None
            return text(cell.replace(tzinfo=UTC))
        case date():
            return cell.isoformat()
        case Decimal():
            return float(cell) if cell % 1 else int(cell)
    return cell


def documented(heading: str) -> dict[str, str]:
    """Return a column of the document's tables, by their first column."""
    for table in re.findall(r"(?:^\|.*\n)+", DOCUMENT, flags=re.MULTILINE):
        head, _, *rows = (
            [cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()
        )
        if heading in head:
            return {row[0]: row[head.index(heading)] for row in rows}
    raise AssertionError(heading)


def assert_types(loaded: Loaded, heading: str, types: dict[tuple[str, str], str]) -> None:
    """Assert that a target has exactly the columns of SCHEMA, with the documented types."""
    expected = documented(heading)
    assert types == {
        (stream, name): expected.get(type_of(column), expected["other arrays"])
        for stream, schema in loaded.run.schemas.items()
        for name, column in schema["properties"].items()
    }


def type_of(schema: Json) -> str:
    """Return the type of a column, such as `string` or `array of object`."""
    names, form = types_of(schema), form_of(schema)
    if form in {"date-time", "date"}:
        return {"date-time": "time", "date": "date"}[form]
    if len(names) > 5:
        return "any"
    if names == ["array"]:
        return f"array of {type_of(schema['items'])}"
    return " or ".join(names)
