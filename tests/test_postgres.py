"""Rows reach a real PostgreSQL through target-postgres, and a second load changes no count."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.pancake_api import Account, PancakeServer
from tests.tap import KEYS, config_for, select, sync
from tests.targets import load_postgres, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Run


@pytest.fixture(name="database", scope="module")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory) as database:
        yield database


@pytest.mark.parametrize("dialect", ["observed", "documented", "older"])
def test_rows_load_twice_with_the_same_counts_and_values(
    tmp_path: Path, database: str, dialect: str
) -> None:
    first, last = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 7, tzinfo=UTC)
    account = Account.generate(
        seed=21, pages=8, conversations=8, messages=(1, 40), start=first, end=last
    )
    packages = {page.id: page.belongings.sip_package_id for page in account.pages}
    with PancakeServer(account, dialect) as server:
        config = config_for(
            server, sip_package_ids=packages, start_date="2026-05-01", end_date="2026-05-08"
        )
        run = sync(tmp_path, config, catalog=select(*KEYS))
        truth = server.expected()
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")
    for _ in range(2):
        load_postgres(tmp_path, database, run.stdout)
        with psycopg.connect(database) as connection:
            rows = {
                stream: connection.execute(f"select {columns} from pancake.{stream}").fetchall()
                for stream, columns in {
                    "pages": "id",
                    "conversations": "page_id, id, updated_at, page_customer",
                    "messages": "conversation_id, id, inserted_at, attachments",
                }.items()
            }
            counts = {
                stream: (connection.execute(f"select count(*) from pancake.{stream}").fetchone(),)
                for stream in KEYS
            }
        assert counts == {stream: ((len(run.by_key(stream)),),) for stream in KEYS}
        assert {row[0] for row in rows["pages"]} == set(truth.pages)
        assert len(rows["pages"]) == len(truth.pages)
        assert times_of(rows["conversations"]) == {
            key: row["updated_at"] for key, row in truth.conversations.items()
        }
        assert times_of(rows["messages"]) == {
            key: row["inserted_at"] for key, row in truth.messages.items()
        }
        assert len(rows["messages"]) == len(truth.messages)
        for stream in KEYS:
            loaded = loaded_times(database, stream, run)
            assert loaded == written_times(stream, run), stream
        for stream, column in (("conversations", "page_customer"), ("messages", "attachments")):
            written = {key: row[column] for key, row in run.by_key(stream).items()}
            assert {row[:2]: row[3] for row in rows[stream]} == written


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
    assert times_of(rows) == {key: row["inserted_at"] for key, row in truth.messages.items()}


Times = dict[tuple[str, ...], dict[str, datetime | None]]


def times_in(stream: str, run: Run) -> list[str]:
    """Give the columns of a stream that are times."""
    properties = run.schemas[stream]["properties"]
    return [name for name, schema in properties.items() if schema.get("format") == "date-time"]


def written_times(stream: str, run: Run) -> Times:
    """Give the times that the tap wrote, which have microseconds."""
    return {
        tuple(map(str, key)): {
            name: datetime.fromisoformat(row[name]) if row.get(name) else None
            for name in times_in(stream, run)
        }
        for key, row in run.by_key(stream).items()
    }


def loaded_times(database: str, stream: str, run: Run) -> Times:
    """Give the same times as the table has them."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        rows = connection.execute(f"select * from pancake.{stream}").fetchall()
    return {
        tuple(str(row[name]) for name in KEYS[stream]): {
            name: row[name] and row[name].replace(tzinfo=UTC) for name in times_in(stream, run)
        }
        for row in rows
    }


def times_of(rows: list[tuple[Any, ...]]) -> dict[tuple[str, str], Any]:
    """The target writes timestamps without a zone, in UTC."""
    return {row[:2]: row[2].replace(tzinfo=UTC) for row in rows}
