"""All streams reach JSON lines, CSV and a real PostgreSQL as docs/targets.md says.

Other targets, dialects and flattened rows are in tests/all_targets.py.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.loaded import (
    LARGE,
    MESSAGE_TEXT,
    Loaded,
    assert_holds,
    assert_types,
    read_all,
    same_in_csv,
    same_in_table,
)
from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import assert_same
from tests.tap import config_for, key_of, sync
from tests.targets import (
    TARGET_CSV,
    csv_rows,
    empty,
    json_lines,
    load_jsonl,
    load_postgres,
    run_target,
    tables,
    types_of,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="loaded", scope="module")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return read_all(tmp_path_factory.mktemp("tap"), "observed")


def test_what_is_difficult_is_there(loaded: Loaded) -> None:
    """So that the other tests are about it."""
    messages = loaded.truth["messages"].values()
    (difficult,) = (row for row in messages if row.get("like_count") == LARGE)
    assert difficult["original_message"] == MESSAGE_TEXT.replace("\x00", "\ufffd")
    assert difficult["attachments"]


def test_json_lines_hold_each_row_as_it_is_and_once_a_run(tmp_path: Path, loaded: Loaded) -> None:
    files = tmp_path / "files"
    for _ in range(2):
        states = load_jsonl(tmp_path, files, loaded.run.stdout)
        assert json.loads(states) == loaded.run.state
    assert json_lines(files).keys() == loaded.truth.keys()
    for stream, rows in json_lines(files).items():
        assert len(rows) == 2 * len(loaded.run.records[stream])
        assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
        assert_same({key_of(stream, row): row for row in rows}, loaded.truth[stream])


def test_csv_holds_each_value_as_text(tmp_path: Path, loaded: Loaded) -> None:
    # The second run empties the files.
    for _ in range(2):
        run_target(TARGET_CSV, tmp_path, {"output_path": str(tmp_path)}, loaded.run.stdout)
    assert_holds(loaded, csv_rows(tmp_path), same_in_csv)


def test_postgresql_holds_each_value_in_its_type_and_each_row_once(
    tmp_path: Path, database: str, loaded: Loaded
) -> None:
    empty(database)
    for use_copy in (False, True):
        load_postgres(tmp_path, database, loaded.run.stdout, use_copy=use_copy)
        assert_holds(loaded, tables(database), same_in_table)


def test_postgresql_has_the_types_and_nulls_that_the_document_says(
    tmp_path: Path, database: str, loaded: Loaded
) -> None:
    empty(database)
    load_postgres(tmp_path, database, loaded.run.stdout)
    with psycopg.connect(database) as connection:
        nulls = connection.execute(
            "select count(*) filter (where private_reply_conversation is null),"
            " count(*) filter (where jsonb_typeof(private_reply_conversation) = 'null'),"
            " count(*) filter (where rich_message is null) from pancake.messages"
        ).fetchone()
    types = types_of(database)
    added = [table for table, name in types if name.startswith("_sdc_")]
    assert sorted(added) == sorted([*loaded.run.schemas] * 7)
    assert_types(
        loaded,
        "PostgreSQL",
        {key: found for key, found in types.items() if not key[1].startswith("_sdc_")},
    )
    messages = loaded.truth["messages"].values()
    assert nulls == (0, sum(row.get("private_reply_conversation") is None for row in messages), 0)


def test_rows_load_from_batch_files(tmp_path: Path, database: str) -> None:
    account = Account.generate(seed=22, pages=2, conversations=20)
    with PancakeServer(account) as server:
        files = {"storage": {"root": str(tmp_path / "files")}, "batch_size": 50}
        run = sync(tmp_path, config_for(server, batch_config=files))
        truth = server.expected()
    assert len(run.batches) > 3
    empty(database)
    load_postgres(tmp_path, database, run.stdout)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select conversation_id, id, inserted_at from pancake.messages"
        ).fetchall()
    assert {row[:2]: row[2].replace(tzinfo=UTC) for row in rows} == {
        key: row["inserted_at"] for key, row in truth.messages.items()
    }
