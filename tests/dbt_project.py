"""The dbt project in transform/: built in DuckDB and PostgreSQL, compiled for two others.

`scripts/test_dbt.sh` sets up dbt and runs it, in `.ci/run`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest
import yaml

from scripts.dbt import streams
from tests.accounts import BEFORE_AND_AFTER, full_account
from tests.loaded import from_table, make_difficult
from tests.meltano_project import new_project, own_definition
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, run_process
from tests.stream_truth import OTHERS, records
from tests.tap import ALL_KEYS, full_config, hours_later, key_of, select, sync
from tests.targets import load_jsonl, load_postgres
from tests.transform import (
    DBT,
    DEFAULTS,
    OFFLINE,
    PYTHON,
    TRANSFORM,
    Project,
    in_duckdb,
    in_postgres,
    without_comments,
)
from tests.truth import rows_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from scripts.dbt import Column
    from tests.tap import Json

    Truth = dict[str, dict[tuple[str, ...], Json]]

ENGINES = ("duckdb", "postgres")
STREAMS = tuple(sorted(ALL_KEYS))
MISSING = {
    "messages alone": set(STREAMS) - {"messages"},
    "all but messages": {"messages"},
    # Each of the others is missing where most are there, too.
    "one half": set(STREAMS[::2]) - {"messages"},
    "the other half": set(STREAMS[1::2]) - {"messages"},
}
"""Builds without some streams. Each stream is missing in two at least."""
TURNED_OFF = ("one half", "the other half")
"""Those in which the files are there, and the variables say that they are not to be read."""
EVERYTHING = {
    "lookback_days": 4000,
    "message_lookback_minutes": 4000 * 1440,
    "statistics_lookback_days": 4000,
}
"""Lookbacks with which a second run writes all rows again."""
COMMENTS = {
    "duckdb": """
        select table_name as model, '' as name, comment from duckdb_tables()
        union all
        select table_name, column_name, comment from duckdb_columns() where schema_name = 'pancake'
    """,
    "postgres": """
        select relname as model, coalesce(attname, '') as name, description as comment
        from pg_description
        join pg_class on pg_class.oid = objoid
        left join pg_attribute on attrelid = objoid and attnum = nullif(objsubid, 0)
        where relnamespace = '{schema}'::regnamespace
    """,
}
"""What the databases say of tables and columns; of a table, with an empty name."""
PARSE = """
import json, sys
import sqlglot
from sqlglot import exp

wrong = {}
for path, sql in json.load(sys.stdin).items():
    try:
        found = sqlglot.parse(sql, read=sys.argv[1])
        if len(found) != 1 or isinstance(found[0], exp.Command):
            wrong[path] = "not one query"
    except sqlglot.errors.SqlglotError as error:
        wrong[path] = str(error)
print(json.dumps(wrong))
"""


OTHER_VALUES: Json = {
    "pancake__as_of": "2026-03-01",
    "pancake__default_timezone": -3,
    "pancake__loaded_at_column": "loaded",
    "pancake__stale_after_hours": 1,
    "pancake__stale_severity": "error",
    "pancake__open_days": 3,
    "pancake__start_date": "2026-01-05",
    "pancake__response_target_minutes": 1,
    "pancake__session_hours": 1,
    "pancake__order_days": 1,
    "pancake__attribution_days": 30,
    "pancake__credit_days": 1,
    "pancake__average_response_time_unit": "milliseconds",
    "pancake__auto_reply_seconds": 60,
    "pancake__automation_app_ids": [5],
    "pancake__reload_hours": 0,
    "pancake__closing_texts": [],
    "pancake__closing_particles": [],
}
"""Of each variable another one than its default."""


@dataclass
class Shop:
    """An account that was read and loaded, and what the server holds."""

    account: Account
    truth: Truth
    files: Path
    database: str


@pytest.fixture(name="shop", scope="module")
def loaded_shop(tmp_path_factory: pytest.TempPathFactory, database: str) -> Shop:
    """Read an account twice, so that all rows come again and some of them changed."""
    directory = tmp_path_factory.mktemp("shop")
    files = directory / "files"
    account = full_account(messages=(1, 12))
    make_difficult(account)
    with PancakeServer(account) as server:
        config = full_config(server, **BEFORE_AND_AFTER, **EVERYTHING)
        ran: dict[tuple[str, ...], Json] = {}
        state: Json = {}
        for turn in range(2):
            if turn:
                change(account)
            run = sync(directory, config, catalog=select(*ALL_KEYS), state=state)
            state = hours_later(run.state)
            load_jsonl(directory, files, run.stdout)
            load_postgres(directory, database, run.stdout)
            ran |= run.by_key("sync_runs")
        truth = rows_of(server) | {stream: records(server, stream) for stream in OTHERS}
    # No target takes a NUL; the tap writes another letter for it.
    kept = json.dumps([[stream, list(rows.values())] for stream, rows in truth.items()])
    truth = {
        stream: {key_of(stream, row): row for row in rows}
        for stream, rows in json.loads(kept.replace(r"\u0000", r"\ufffd"))
    }
    return Shop(account, truth | {"sync_runs": ran}, files, database)


def change(account: Account) -> None:
    """Let rows that were read be others when they are read again."""
    page = account.pages[0]
    for tag in page.tags.values():
        tag.text = f"{tag.text} (2)"
    *_, conversation = page.conversations.values()
    conversation.messages[-1].text = "said otherwise"


@pytest.fixture(name="builds", scope="module")
def built_projects(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Build all of the project, with its own tests, in both engines."""
    builds = {
        "duckdb": in_duckdb(tmp_path_factory.mktemp("duckdb"), shop.files),
        "postgres": in_postgres(tmp_path_factory.mktemp("postgres"), shop.database, "models"),
    }
    before = files_of_project()
    for project in builds.values():
        project.dbt("build")
    assert files_of_project() == before
    return builds


@pytest.fixture(name="project", params=ENGINES)
def each_engine(request: pytest.FixtureRequest, builds: dict[str, Project]) -> Project:
    return builds[request.param]


def files_of_project() -> set[Path]:
    """Return all that is in the project's directory."""
    return set(TRANSFORM.rglob("*"))


# What is built


def test_all_models_are_built_and_all_tests_pass(project: Project) -> None:
    results = project.results()
    nodes = {
        name
        for name, node in project.manifest()["nodes"].items()
        if node["config"]["materialized"] != "ephemeral"
    }
    assert nodes <= results.keys()
    assert set(results.values()) <= {"success", "pass", "warn"}


def test_a_stream_has_the_rows_that_the_server_holds(project: Project, shop: Shop) -> None:
    for stream, columns in streams().items():
        key_of_row = staged_key(stream, columns)
        rows = {key_of_row(row): row for row in project.rows(f"stg_pancake__{stream}")}
        truth = {tuple(map(str, key)): row for key, row in shop.truth[stream].items()}
        assert truth, stream
        assert rows.keys() == truth.keys(), stream
        for key, row in rows.items():
            for name, kind, staged, _ in columns:
                assert same(row[staged], truth[key].get(name), kind), (stream, name, key)


def staged_key(stream: str, columns: list[Column]) -> Callable[[Json], tuple[str, ...]]:
    """Return what finds the key of a row of a staging model, as the stream has it."""
    staged = {column.name: column.staged for column in columns}
    names = [staged[name] for name in ALL_KEYS[stream]]
    return lambda row: tuple(as_label(row[name]) for name in names)


def as_label(cell: Any) -> str:
    """Return a part of a key as text; an hour as the API has it."""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%dT%H:%M:%S}"
    return str(cell)


def same(cell: Any, value: Any, kind: str) -> bool:
    """Tell whether a cell is what the server holds."""
    if isinstance(cell, datetime) and kind == "text":
        return bool(as_label(cell) == value)
    if kind == "json" and isinstance(cell, str):
        return bool(json.loads(cell) == value)
    found = cell if isinstance(value, float) else from_table(cell)
    return str(found) == str(value) if isinstance(found, str) else bool(found == value)


def test_both_engines_have_the_same_rows(builds: dict[str, Project]) -> None:
    one, other = (builds[engine] for engine in ENGINES)
    assert one.columns() == other.columns()
    for model, columns in one.columns().items():
        names = sorted(columns - {"loaded_at"})
        found = [
            sorted([[as_text(row[name]) for name in names] for row in project.rows(model)])
            for project in (one, other)
        ]
        assert found[0] == found[1], model


def as_text(cell: Any) -> str:
    """Return a cell in the form that it has in both engines."""
    if isinstance(cell, (str, dict, list)):
        try:
            value = json.loads(cell) if isinstance(cell, str) and cell[:1] in "[{" else cell
        except ValueError:
            value = cell
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if isinstance(cell, (datetime, date)) or cell is None:
        return str(cell)
    return f"{float(cell):.9g}"


# Descriptions


def models(project: Project) -> dict[str, Json]:
    """Return the models of the manifest, by name."""
    nodes = project.manifest()["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] in {"model", "seed"}}


def test_every_model_and_column_is_described(builds: dict[str, Project]) -> None:
    columns = builds["duckdb"].columns()
    for name, node in models(builds["duckdb"]).items():
        assert node["description"], name
        described = {column for column, entry in node["columns"].items() if entry["description"]}
        assert described == columns[name], name


@pytest.mark.parametrize("engine", ENGINES)
def test_the_descriptions_are_comments_in_the_database(
    builds: dict[str, Project], engine: str
) -> None:
    described = {
        (name, column): entry["description"]
        for name, node in models(builds[engine]).items()
        for column, entry in {"": node, **node["columns"]}.items()
    }
    found = builds[engine].query(COMMENTS[engine])
    assert {(row["model"], row["name"]): row["comment"] for row in found} == described


def test_every_model_has_a_key_that_is_tested(builds: dict[str, Project]) -> None:
    nodes = builds["duckdb"].manifest()["nodes"].values()
    tested = {
        node["attached_node"]
        for node in nodes
        if node.get("test_metadata", {}).get("name") == "unique_key"
    }
    held = {node["unique_id"] for node in nodes if node["resource_type"] == "model"}
    assert held == tested


def test_no_model_asks_for_the_time_or_is_written_for_one_engine(
    builds: dict[str, Project],
) -> None:
    other = re.compile(
        r"\bnow\(|\bcurrent_(time|date|timestamp)|::|\binterval\s*'|\bfilter\s*\(\s*where"
        r"|distinct\s+on\b|\bqualify\b|\blateral\b",
        re.IGNORECASE,
    )
    for name, node in models(builds["duckdb"]).items():
        found = other.search(without_comments(node["raw_code"]))
        assert not found, (name, found)


def test_the_file_of_duckdb_opens_in_older_versions_and_has_tables_only(
    builds: dict[str, Project],
) -> None:
    databases = builds["duckdb"].query("select tags from duckdb_databases() where not internal")
    assert [row["tags"]["storage_version"] for row in databases] == ["v1.0.0+"]
    kinds = builds["duckdb"].query(
        "select distinct table_schema, table_type from information_schema.tables"
    )
    assert kinds == [{"table_schema": "pancake", "table_type": "BASE TABLE"}]


def test_dbt_asks_no_host_and_writes_to_no_other_directory(project: Project) -> None:
    notes = project.notes()
    assert len(notes) > 100
    assert not [note for note in notes if note.startswith("asked")]
    written = {note.removeprefix("wrote ") for note in notes} - {"/dev/null"}
    assert not {path for path in written if not path.startswith(str(project.directory))}
    assert not list((project.directory / "home").iterdir())


def test_its_unit_tests_pass_whatever_the_variables_are(
    tmp_path: Path, builds: dict[str, Project]
) -> None:
    """They are run in the projects of those who use it."""
    of_places = {"pancake_schema", "pancake_files", "pancake__target_schema"}
    assert OTHER_VALUES.keys() == DEFAULTS.keys() - of_places
    assert not [name for name, value in OTHER_VALUES.items() if value == DEFAULTS[name]]
    built = {"PANCAKE_DUCKDB": str(builds["duckdb"].duckdb)}
    project = Project(tmp_path, environment=built, variables=builds["duckdb"].variables)
    project.dbt("test", "--select", "test_type:unit", **OTHER_VALUES)
    assert len(project.results()) > 20


# Streams that were not loaded


@pytest.mark.parametrize("missing", MISSING)
def test_streams_may_be_missing(
    tmp_path: Path, shop: Shop, builds: dict[str, Project], missing: str
) -> None:
    streams = MISSING[missing]
    if missing in TURNED_OFF:
        switched = {f"pancake__using_{stream}": False for stream in streams}
        project = in_duckdb(tmp_path, shop.files, **switched)
    else:
        files = tmp_path / "files"
        files.mkdir()
        for path in shop.files.iterdir():
            if path.stem not in streams:
                (files / path.name).symlink_to(path)
        project = in_duckdb(tmp_path, files)
    project.dbt("build", "--exclude-resource-type", "unit_test")
    assert set(project.results().values()) <= {"success", "pass", "warn"}
    assert_missing(project, streams, builds["duckdb"])


def test_tables_and_columns_may_be_missing_in_postgresql(
    tmp_path: Path, shop: Shop, builds: dict[str, Project]
) -> None:
    with psycopg.connect(shop.database) as connection:
        connection.execute("create schema little")
        connection.execute("create table little.messages as table pancake.messages")
        for column in ("attachments", "like_count", "_sdc_batched_at"):
            connection.execute(f"alter table little.messages drop column {column}".encode())
    project = in_postgres(tmp_path, shop.database, "of_little", pancake_schema="little")
    project.dbt("build", "--exclude-resource-type", "unit_test")
    assert_missing(project, MISSING["messages alone"], builds["postgres"])
    (row,) = project.query(
        "select count(like_count) as likes, count(attachments) as attachments,"
        " count(loaded_at) as loaded, count(original_message) as texts"
        " from {schema}.stg_pancake__messages"
    )
    assert row.pop("texts")
    assert row == {"likes": 0, "attachments": 0, "loaded": 0}


def assert_missing(project: Project, missing: set[str], whole: Project) -> None:
    """Assert that just the rows of some streams are missing, and no column of a model is."""
    for stream in STREAMS:
        model = f"stg_pancake__{stream}"
        count = 0 if stream in missing else len(whole.rows(model))
        assert len(project.rows(model)) == count, stream
    columns = project.columns()
    assert columns.items() <= whole.columns().items()
    left_out = {name: node for name, node in models(whole).items() if name not in columns}
    assert all(name.startswith("pancake__") for name in left_out)


# The file that takes the place of the one before


def test_a_build_takes_the_place_of_the_one_before(tmp_path: Path, shop: Shop) -> None:
    path = tmp_path / "pancake.duckdb"
    assert build(shop.files, path).returncode == 0
    before = path.stat().st_ino
    count = "select count(*) from pancake.pancake.stg_pancake__messages"
    with duckdb.connect(str(path), read_only=True) as reader:
        rows = reader.execute(count).fetchall()
        assert rows == [(len(shop.truth["messages"]),)]
        done = build(shop.files, path, pancake__using_messages=False)
        assert done.returncode == 0, done.stdout
        assert path.stat().st_ino != before
        assert reader.execute(count).fetchall() == rows
    with duckdb.connect(str(path), read_only=True) as reader:
        assert reader.execute(count).fetchall() == [(0,)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_build_with_relative_paths_leaves_the_file_and_nothing_else(
    tmp_path: Path, shop: Shop
) -> None:
    (tmp_path / "files").symlink_to(shop.files)
    before = set(TRANSFORM.iterdir())
    done = build(Path("files"), Path("output/shop.duckdb"), directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "output").iterdir()) == [tmp_path / "output" / "shop.duckdb"]
    assert set(TRANSFORM.iterdir()) == before


def test_a_build_that_fails_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path, files = tmp_path / "pancake.duckdb", tmp_path / "files"
    path.write_text("the file before", encoding="utf-8")
    files.mkdir()
    done = build(files, path)
    assert (done.returncode, done.stderr) == (
        1,
        f"{files} has no .jsonl files: has target-jsonl been run?\n",
    )
    (files / "tags.jsonl").write_text("no JSON\n", encoding="utf-8")
    done = build(files, path)
    assert done.returncode == 1
    assert "stg_pancake__tags" in done.stdout
    assert path.read_text(encoding="utf-8") == "the file before"
    assert set(tmp_path.iterdir()) == {path, files}


def build(
    files: Path, database: Path, *, directory: Path = ROOT, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run scripts/build.py in a directory."""
    return run_process(
        [PYTHON, "-m", "scripts.build", files, database, "--vars", json.dumps(variables)],
        cwd=directory,
        # Its tests have passed on these rows.
        env=os.environ | {"DBT_EXCLUDE_RESOURCE_TYPES": "test unit_test", "PYTHONPATH": str(ROOT)},
    )


# Meltano


def test_meltano_builds_the_models(tmp_path: Path, shop: Shop) -> None:
    """As this project's `meltano.yml` has it; tests/meltano_docs.py does it in PostgreSQL, too."""
    meltano = new_project(tmp_path / "project", tmp_path / "home")
    definition = yaml.safe_load(own_definition())
    for plugin in definition["plugins"]["utilities"]:
        del plugin["pip_url"]
        plugin["executable"] = str(DBT)
        plugin["commands"]["build"]["args"] += " test"  # they have passed on these rows
    text = yaml.safe_dump(definition)
    (meltano.directory / "meltano.yml").write_text(text, encoding="utf-8")
    shutil.copytree(TRANSFORM, meltano.directory / "transform")
    (meltano.directory / "output").symlink_to(shop.files)
    project = Project(tmp_path)
    meltano.environment["DBT_DUCKDB_PATH"] = str(project.duckdb)
    done = meltano.meltano("run", "dbt-duckdb:build")
    assert done.returncode == 0, meltano.output[-5000:]
    assert len(project.rows("stg_pancake__messages")) == len(shop.truth["messages"])
    done = meltano.meltano("invoke", "dbt-duckdb", "source", "freshness")
    assert done.returncode == 0, meltano.output[-5000:]
    (found,) = json.loads(
        (meltano.directory / "transform" / "target" / "sources.json").read_text(encoding="utf-8")
    )["results"]
    assert found["max_loaded_at"][:4] == "2026"
    # No usage report is sent.
    assert not list(meltano.directory.rglob(".user.yml"))


# Engines that are not here


@pytest.mark.parametrize("target", ["bigquery", "snowflake"])
def test_it_compiles_for_engines_that_are_not_here(tmp_path: Path, target: str) -> None:
    known = {"PANCAKE_BIGQUERY_METHOD": "oauth-secrets", "PANCAKE_BIGQUERY_TOKEN": "none"}
    project = Project(tmp_path, target, known)
    project.dbt("compile", *OFFLINE)
    assert not [note for note in project.notes() if note.startswith("asked")]
    compiled = project.compiled()
    names = {path.rpartition("/")[2].removesuffix(".sql") for path in compiled}
    found = {name for name, node in models(project).items() if node["resource_type"] == "model"}
    assert found <= names
    done = run_process([PYTHON, "-c", PARSE, target], given=json.dumps(compiled))
    assert json.loads(done.stdout) == {}
    assert not done.stderr
