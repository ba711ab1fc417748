"""The targets of docs/targets.md, each in an environment of its own, with all streams and dialects.

`scripts/test_targets.sh` sets up the environments and runs it, in `.ci/run`.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.accounts import DIALECTS
from tests.loaded import (
    DOCUMENT,
    FLATTENED,
    Loaded,
    assert_holds,
    assert_types,
    assert_values,
    by_text_key,
    documented,
    read_all,
    same_but_empty_text,
    same_in_csv,
    same_in_table,
)
from tests.processes import ROOT, output_of
from tests.stream_truth import assert_same
from tests.tap import key_of
from tests.targets import (
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

    from tests.tap import Json

ENVIRONMENTS = {
    "target-jsonl": "target-jsonl",
    "meltanolabs-target-csv": "target-csv",
    "meltanolabs-target-postgres": "target-postgres",
    "pipelinewise-target-postgres": "pipelinewise-target-postgres",
    "target-duckdb": "target-duckdb",
    "meltanolabs-target-snowflake": "target-snowflake",
}
"""Package → what the name of its environment ends with."""
SNOWFLAKE_TYPES = """
import json, sys
from snowflake.sqlalchemy.snowdialect import dialect
from target_snowflake.connector import SnowflakeConnector

connector = SnowflakeConnector(config={})
schemas = json.load(sys.stdin)
types = [
    (stream, name, connector.to_sql_type(column).compile(dialect=dialect()))
    for stream, schema in schemas.items()
    for name, column in schema["properties"].items()
]
print(json.dumps(types))
"""


@pytest.fixture(name="dialect", scope="module", params=DIALECTS)
def each_dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="loaded", scope="module")
def read_once(dialect: str, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return read_all(tmp_path_factory.mktemp("tap"), dialect)


@pytest.fixture(name="flat", scope="module")
def read_flattened(dialect: str, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return read_all(tmp_path_factory.mktemp("tap"), dialect, **FLATTENED)


def program(environment: str, name: str) -> Path:
    """Return a program of a target's environment."""
    return ROOT / f".venv-{environment}" / "bin" / name


def python(environment: str, code: str, written: str = "") -> str:
    """Run a program in a target's environment; give what it prints."""
    return output_of([program(environment, "python"), "-c", code], given=written)


@pytest.mark.parametrize("package", ENVIRONMENTS)
def test_the_version_in_the_document_is_the_one_that_is_tried(package: str) -> None:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    installed = python(ENVIRONMENTS[package], code)
    assert installed.startswith(f"{documented('version tried')[package]}.")


@pytest.mark.parametrize("group", ["pipelinewise-target-postgres", "target-duckdb"])
def test_the_document_installs_what_is_tried(group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for requirement in project["dependency-groups"][group]:
        assert requirement in DOCUMENT


# Files


def test_json_lines_hold_each_row(tmp_path: Path, loaded: Loaded) -> None:
    load_jsonl(tmp_path, tmp_path, loaded.run.stdout)
    rows = json_lines(tmp_path)
    assert rows.keys() == loaded.truth.keys()
    for stream, truth in loaded.truth.items():
        assert len(rows[stream]) == len(truth)
        assert_same({key_of(stream, row): row for row in rows[stream]}, truth)


def load_csv(directory: Path, loaded: Loaded) -> dict[str, list[Json]]:
    target = program("target-csv", "target-csv")
    run_target(target, directory, {"output_path": str(directory)}, loaded.run.stdout)
    return csv_rows(directory)


def test_csv_holds_each_row(tmp_path: Path, loaded: Loaded) -> None:
    assert_holds(loaded, load_csv(tmp_path, loaded), same_in_csv)


def test_flattened_csv_holds_each_row(tmp_path: Path, flat: Loaded) -> None:
    assert_holds(flat, load_csv(tmp_path, flat), same_in_csv)


# PostgreSQL


def load_meltanolabs(directory: Path, database: str, loaded: Loaded) -> dict[str, list[Json]]:
    """Load all twice; a row that comes again replaces the one before."""
    empty(database)
    for _ in range(2):
        target = program("target-postgres", "target-postgres")
        load_postgres(directory, database, loaded.run.stdout, target=target)
    return tables(database)


def test_postgresql_holds_each_row(tmp_path: Path, database: str, loaded: Loaded) -> None:
    assert_holds(loaded, load_meltanolabs(tmp_path, database, loaded), same_in_table)


def test_flattened_postgresql_holds_each_row(tmp_path: Path, database: str, flat: Loaded) -> None:
    assert_holds(flat, load_meltanolabs(tmp_path, database, flat), same_in_table)


def same_in_pipelinewise(cell: Any, value: Any, column: Json) -> bool:
    """Tell whether a table has a value; line breaks are escaped, see docs/targets.md."""
    if value and isinstance(value, str):
        # In JSON, of which PostgreSQL undoes what stands before quotes and backslashes only.
        escaped = json.dumps(value, ensure_ascii=False)[1:-1]
        value = re.sub(r'\\(["\\])', r"\1", escaped)
    return same_but_empty_text(cell, value, column)


def test_postgresql_of_pipelinewise_holds_each_row(
    tmp_path: Path, database: str, loaded: Loaded
) -> None:
    empty(database)
    known = conninfo_to_dict(database)
    settings = {
        "host": known["host"],
        "port": known.get("port", 5432),
        "user": known["user"],
        "password": "of no account here",
        "dbname": known["dbname"],
        "default_target_schema": "pancake",
    }
    target = program("pipelinewise-target-postgres", "target-postgres")
    # Twice; a row that comes again replaces the one before. In any time zone, see docs/targets.md.
    for _ in range(2):
        run_target(target, tmp_path, settings, loaded.run.stdout)
    assert_holds(loaded, tables(database), same_in_pipelinewise)
    assert_types(loaded, "pipelinewise-target-postgres", types_of(database))
    (restored,) = re.findall(r"`(replace\(original_message, .*?\))`", DOCUMENT)
    with psycopg.connect(database) as connection:
        texts = connection.execute(
            f"select conversation_id, id, coalesce({restored}, '') from pancake.messages"
        ).fetchall()
    assert {(talk, message): text for talk, message, text in texts} == {
        key: row["original_message"] or "" for key, row in loaded.truth["messages"].items()
    }


# DuckDB


def load_duckdb(environment: str, directory: Path, loaded: Loaded) -> Path:
    """Load all; give the file of the database."""
    path = directory / "shop.duckdb"
    settings = {"path": str(path), "default_target_schema": "pancake"}
    run_target(program(environment, "target-duckdb"), directory, settings, loaded.run.stdout)
    return path


def duckdb_tables(path: Path) -> dict[str, list[Json]]:
    """Return the rows of all tables."""
    found = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for (table,) in connection.sql("select table_name from duckdb_tables()").fetchall():
            rows = connection.sql(f"select * from pancake.{table}")
            found[table] = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
    return found


def test_duckdb_1_1_holds_each_row(tmp_path: Path, loaded: Loaded) -> None:
    # Twice; a row that comes again replaces the one before.
    for _ in range(2):
        path = load_duckdb("target-duckdb", tmp_path, loaded)
    assert_holds(loaded, duckdb_tables(path), same_but_empty_text)
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.sql(
            "select table_name, column_name, lower(data_type) from duckdb_columns()"
            " where schema_name = 'pancake'"
        ).fetchall()
    assert_types(loaded, "target-duckdb", {(table, name): found for table, name, found in rows})


def test_newer_duckdb_lacks_first_rows_and_nothing_else(tmp_path: Path, loaded: Loaded) -> None:
    """If this fails since nothing is lost, the remedy in docs/targets.md is no longer needed."""
    rows = duckdb_tables(load_duckdb("target-duckdb-alone", tmp_path, loaded))
    assert rows.keys() == loaded.truth.keys()
    lost = {}
    for stream, truth in loaded.truth.items():
        arrived = by_text_key(stream, rows[stream])
        assert len(arrived) == len(rows[stream])
        first, *_ = by_text_key(stream, loaded.run.records[stream])
        missing = by_text_key(stream, truth.values()).keys() - arrived.keys()
        assert missing <= {first}, stream
        lost[stream] = missing
        assert_values(loaded, stream, arrived, same_but_empty_text)
    assert lost["messages"]
    assert not all(lost.values())


# Snowflake


def test_snowflake_has_a_type_for_each_column(loaded: Loaded) -> None:
    """Offline: how its types are chosen, without a load."""
    types = json.loads(python("target-snowflake", SNOWFLAKE_TYPES, json.dumps(loaded.run.schemas)))
    assert_types(
        loaded,
        "meltanolabs-target-snowflake",
        {(stream, name): found.lower() for stream, name, found in types},
    )
