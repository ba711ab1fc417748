"""All streams reach JSON lines, CSV and a real PostgreSQL as docs/targets.md says."""

from __future__ import annotations

import ast
import csv
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scripts.docs import type_of
from tests.meltano_project import ROOT
from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import OTHERS, assert_same, records
from tests.tap import INBOX, KEYS, config_for, key_of, select, sync
from tests.targets import TARGET_CSV, load_jsonl, load_postgres, run_target
from tests.test_streams import BEFORE_AND_AFTER, DIALECTS, account_of, settings_of
from tests.truth import rows_of, text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tap import Json, Run

    Rows = dict[tuple[str, ...], Json]

DOCUMENT = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
LARGE = 9_007_199_254_740_993
"""The first whole number that a float cannot hold."""
SAID = 'Xong ạ 👨‍👩‍👧‍👦 🇻🇳 ❤️, "mai" nhận;\n\\N \x00'


@dataclass
class Loaded:
    """What the server holds, and the run that read it."""

    run: Run
    truth: dict[str, Rows]


@pytest.fixture(name="loaded", scope="module", params=DIALECTS)
def read_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    account = account_of(request.param)
    make_difficult(account)
    with PancakeServer(account, request.param) as server:
        settings = settings_of(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path_factory.mktemp("tap"), settings, catalog=select(*KEYS))
        truth = rows_of(server) | {stream: records(server, stream) for stream in OTHERS}
    # Two rows may have one key where a label has no year; and no target takes a NUL.
    kept = json.dumps([[stream, list(rows.values())] for stream, rows in truth.items()])
    rows = dict(json.loads(kept.replace(r"\u0000", r"\ufffd")))
    assert rows.keys() == KEYS.keys()
    assert all(rows.values())
    return Loaded(run, {name: {key_of(name, row): row for row in rows[name]} for name in KEYS})


def make_difficult(account: Account) -> None:
    """Let the account hold what targets are known to have trouble with."""
    (conversation, *_) = account.pages[0].conversations.values()
    message = conversation.messages[-1]
    message.text = SAID
    message.like_count = LARGE
    message.attachments = [{"id": str(LARGE), "type": "sticker", "size": LARGE, "name": "'"}]
    for other in account.pages[0].conversations.values():
        for order in other.orders:
            order.id = LARGE * 1000 + order.id % 1000


def test_what_is_difficult_is_there(loaded: Loaded) -> None:
    """So that the other tests are about it."""
    messages = loaded.truth["messages"].values()
    (difficult,) = (row for row in messages if row.get("like_count") == LARGE)
    assert difficult["original_message"] == SAID.replace("\x00", "\ufffd")
    assert difficult["attachments"]


# JSON lines


def test_json_lines_hold_each_row_as_it_is_and_once_a_run(tmp_path: Path, loaded: Loaded) -> None:
    files = tmp_path / "files"
    for _ in range(2):
        states = load_jsonl(tmp_path, files, loaded.run.stdout)
        assert json.loads(states) == loaded.run.state
    for stream, truth in loaded.truth.items():
        lines = (files / f"{stream}.jsonl").read_text(encoding="ascii").splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == 2 * len(loaded.run.records[stream])
        assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
        assert_same({key_of(stream, row): row for row in rows}, truth)


# CSV


def test_csv_holds_each_value_as_text(tmp_path: Path, loaded: Loaded) -> None:
    files = tmp_path / "files"
    for _ in range(2):
        run_target(TARGET_CSV, tmp_path, {"output_path": str(files)}, loaded.run.stdout)
    for stream, truth in loaded.truth.items():
        with (files / f"{stream}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        # Of the second run alone: the file was emptied.
        assert len(rows) == len(loaded.run.records[stream])
        by_key = {tuple(row[name] for name in KEYS[stream]): row for row in rows}
        assert by_key.keys() == {tuple(map(str, key)) for key in truth}
        properties = loaded.run.schemas[stream]["properties"]
        for key, row in truth.items():
            for name, cell in by_key[tuple(map(str, key))].items():
                value = row.get(name)
                if isinstance(value, (dict, list)):
                    assert ast.literal_eval(cell) == value, (stream, name)
                elif value is not None and "number" in properties[name]["type"]:
                    assert float(cell) == value, (stream, name)
                elif value is not None and properties[name].get("format") == "date-time":
                    assert cell == str(datetime.fromisoformat(value)), (stream, name)
                else:
                    assert cell == ("" if value is None else str(value)), (stream, name)


def test_flattened_rows_have_no_python_in_csv(tmp_path: Path) -> None:
    account = Account.generate(seed=23, pages=2, conversations=20)
    (birthday,) = re.findall(r'`("customers": .*birthday.*)`', DOCUMENT)
    with PancakeServer(account) as server:
        settings = {
            "flattening_enabled": True,
            "flattening_max_depth": 1,
            "stream_maps": json.loads(f"{{{birthday}}}"),
        }
        catalog = select(*INBOX, "customers")
        run = sync(tmp_path, config_for(server, **settings), catalog=catalog)
        truth = rows_of(server)["conversations"]
        customers = records(server, "customers")
    run_target(TARGET_CSV, tmp_path, {"output_path": str(tmp_path)}, run.stdout)
    rows = csv_of(tmp_path, "conversations")
    assert rows.keys() == truth.keys()
    for key, row in truth.items():
        assert rows[key]["from__name"] == row["from"]["name"]
        assert json.loads(rows[key]["tags"]) == row["tags"]
    assert any(isinstance(row["birthday"], str) for row in customers.values())
    assert {key: row["birthday"] for key, row in csv_of(tmp_path, "customers").items()} == {
        key: row["birthday"] or "" for key, row in customers.items()
    }


def csv_of(directory: Path, stream: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Give a stream's rows by key, as they stand in its file."""
    with (directory / f"{stream}.csv").open(encoding="utf-8", newline="") as file:
        return {key_of(stream, row): row for row in csv.DictReader(file)}


# PostgreSQL


def test_postgresql_holds_each_value_in_its_type_and_each_row_once(
    tmp_path: Path, database: str, loaded: Loaded
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")
    for use_copy in (False, True):
        load_postgres(tmp_path, database, loaded.run.stdout, use_copy=use_copy)
        with psycopg.connect(database, row_factory=dict_row) as connection:
            for stream, truth in loaded.truth.items():
                rows = connection.execute(f"select * from pancake.{stream}").fetchall()
                assert len(rows) == len(truth), stream
                plain = [
                    {
                        name: from_postgres(value)
                        for name, value in row.items()
                        if not name.startswith("_sdc_")
                    }
                    for row in rows
                ]
                assert_same({key_of(stream, row): row for row in plain}, truth)


def from_postgres(value: Any) -> Any:
    """Give a value of a table as the tap's JSON has it."""
    match value:
        case datetime():  # a timestamp without a zone, in UTC
            assert value.tzinfo is None
            return text(value.replace(tzinfo=UTC))
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
    return value


def documented_types() -> dict[str, str]:
    """Give the types of PostgreSQL that the document has, by those of the tap."""
    rows = re.findall(r"^\| ([^|]+) \|.*\| `([a-z\[\] ]+)` \|$", DOCUMENT, flags=re.MULTILINE)
    return dict(rows)


def documented_type(name: str) -> str:
    """Give the type of PostgreSQL for one of the tap's."""
    types = documented_types()
    rest = "other arrays" if name.startswith("array of") else "object, or one of several types"
    return types.get(name, types[rest])


def test_postgresql_has_the_types_and_nulls_that_the_document_says(
    tmp_path: Path, database: str, loaded: Loaded
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")
    load_postgres(tmp_path, database, loaded.run.stdout)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select attrelid::regclass::text, attname::text, format_type(atttypid, null)"
            " from pg_attribute join pg_class on pg_class.oid = attrelid"
            " where relnamespace = 'pancake'::regnamespace and relkind = 'r' and attnum > 0"
        ).fetchall()
        nulls = connection.execute(
            "select count(*) filter (where private_reply_conversation is null),"
            " count(*) filter (where jsonb_typeof(private_reply_conversation) = 'null'),"
            " count(*) filter (where rich_message is null) from pancake.messages"
        ).fetchone()
    types = {(table.removeprefix("pancake."), column): found for table, column, found in rows}
    assert {key for key in types if not key[1].startswith("_sdc_")} == {
        (stream, name)
        for stream, schema in loaded.run.schemas.items()
        for name in schema["properties"]
    }
    for stream, schema in loaded.run.schemas.items():
        assert sum(key[0] == stream and key[1].startswith("_sdc_") for key in types) == 7
        for name, column in schema["properties"].items():
            assert types[stream, name] == documented_type(type_of(column)), (stream, name)
    messages = loaded.truth["messages"].values()
    assert nulls == (0, sum(row.get("private_reply_conversation") is None for row in messages), 0)


def test_rows_load_from_batch_files(tmp_path: Path, database: str) -> None:
    account = Account.generate(seed=22, pages=2, conversations=20)
    with PancakeServer(account) as server:
        files = {"storage": {"root": str(tmp_path / "files")}, "batch_size": 50}
        run = sync(tmp_path, config_for(server, batch_config=files))
        truth = server.expected()
    assert len(run.batches) > 3
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")
    load_postgres(tmp_path, database, run.stdout)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select conversation_id, id, inserted_at from pancake.messages"
        ).fetchall()
    assert {row[:2]: row[2].replace(tzinfo=UTC) for row in rows} == {
        key: row["inserted_at"] for key, row in truth.messages.items()
    }
