"""The SQL of docs/monitoring.md, in DuckDB and PostgreSQL, beside what the runs were like."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.accounts import AROUND_MAY, MAY
from tests.documents import blocks
from tests.pancake_api import Account, Fault, PancakeServer
from tests.processes import ROOT
from tests.tap import NO_CATALOG, Run, config_for, full_config, hurried, run_tap, select
from tests.targets import load_jsonl, load_postgres, postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Row = dict[str, Any]

DOCUMENT = ROOT / "docs" / "monitoring.md"
FRESH, INCOMPLETE, DAYS = blocks(DOCUMENT, "sql")
VIEWS = {engine: blocks(DOCUMENT, f"sql-{engine}")[0] for engine in ("postgres", "duckdb")}


@pytest.fixture(name="account", scope="module")
def generated_account() -> Account:
    return Account.generate(seed=181, pages=3, conversations=4)


@pytest.fixture(name="runs", scope="module")
def two_runs(account: Account, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Read the account twice; the first page's tags fail in both, the second's in the first."""
    directory = tmp_path_factory.mktemp("tap")
    runs: list[Run] = []
    first, second = account.pages[:2]
    catalog = select("pages", "tags", "conversations", "messages", "sync_runs")
    with PancakeServer(account) as server:
        for failing in ([first, second], [first]):
            server.faults = [
                Fault("missing_list", endpoint="tags", page_id=page.id) for page in failing
            ]
            state = runs[-1].state if runs else None
            config, env = config_for(server), hurried(directory)
            runs.append(run_tap(directory, config, state=state, catalog=catalog, env=env))
    assert [run.returncode for run in runs] == [1, 1]
    return runs


@pytest.fixture(name="ask", scope="module", params=["postgres", "duckdb"])
def asked(
    request: pytest.FixtureRequest, runs: list[Run], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Load the runs, and give what answers a query."""
    directory = tmp_path_factory.mktemp("target")
    if request.param == "duckdb":
        for run in runs:
            load_jsonl(directory, directory / "output", run.stdout)
        with closing(duckdb.connect()) as connection:
            connection.execute("SET TimeZone = 'America/New_York'")
            connection.execute(VIEWS["duckdb"].replace("'output/", f"'{directory}/output/"))

            def ask(sql: str) -> list[Row]:
                answer = connection.execute(sql)
                names = [column[0] for column in answer.description or ()]
                return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

            yield ask
        return
    with postgres() as database:
        for run in runs:
            load_postgres(directory, database, run.stdout)
        with psycopg.connect(database, row_factory=dict_row) as session:
            session.execute("SET TIME ZONE 'America/New_York'")
            session.execute(VIEWS["postgres"].encode())
            yield lambda sql: session.execute(sql.encode()).fetchall()


def test_what_was_not_read_to_its_end_is_found(
    account: Account, ask: Callable[[str], list[Row]]
) -> None:
    assert ask(FRESH) == []  # the tags of the first page were never read
    later = FRESH.replace("INTERVAL '2 hours'", "INTERVAL '-2 hours'")
    first, *others = (page.id for page in account.pages[:3])
    inbox = {"conversations", "messages"}
    assert {(row["page_id"], row["name"]) for row in ask(later)} == {
        ("account", "pages"),
        *((first, name) for name in inbox),
        *((page_id, name) for page_id in others for name in inbox | {"tags"}),
    }
    assert all(row["last_complete"] for row in ask(later))


def test_streams_of_the_nightly_job_may_be_older(ask: Callable[[str], list[Row]]) -> None:
    nightly = ("page_statistics", "user_engagements", "customer_feedbacks")
    rows = " UNION ALL ".join(
        f"SELECT page_id, page_name, '{name}', status, ended_at - INTERVAL '{hours} hours'"
        f" FROM sync_runs WHERE page_id = 'account' AND status = 'complete'"
        for hours, names in ((3, ("conversations", *nightly)), (1, ("messages",)))
        for name in names
    )
    source = f"FROM ({rows}) AS one (page_id, page_name, name, status, ended_at)"
    assert {row["name"] for row in ask(FRESH.replace("FROM sync_streams", source))} == {
        "conversations"
    }
    older = source.replace("'3 hours'", "'27 hours'")
    assert {row["name"] for row in ask(FRESH.replace("FROM sync_streams", older))} == {
        "conversations",
        *nightly,
    }


def test_what_is_incomplete_is_told_by_the_last_run(
    account: Account, ask: Callable[[str], list[Row]]
) -> None:
    (row,) = ask(INCOMPLETE)
    assert (row["page_id"], row["name"], row["status"]) == (account.pages[0].id, "tags", "failed")
    assert row["page_name"] == account.pages[0].name
    assert "tags: the answer has no list" in row["reason"]


def test_rows_of_a_day_stand_beside_those_of_a_week_before(
    runs: list[Run], ask: Callable[[str], list[Row]]
) -> None:
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update({row["page_id"]: row["row_count"] for row in run.records["sync_runs"]})
    found: Counter[str] = Counter()
    for row in ask(DAYS):  # two, if midnight fell between the runs
        found[row["page_id"]] += int(row["row_count"])
        assert row["week_before"] is None
    assert found == counts
    a_week_later = DAYS.replace(
        "FROM sync_runs",
        "FROM (SELECT page_id, ended_at, row_count FROM sync_runs UNION ALL SELECT page_id,"
        " ended_at + INTERVAL '7 days', row_count FROM sync_runs) AS both_weeks",
    )
    beside = [row for row in ask(a_week_later) if row["week_before"] is not None]
    assert beside
    assert all(row["week_before"] == row["row_count"] for row in beside)


def test_the_rows_of_a_run_are_those_that_a_target_holds_then(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=182, pages=2, conversations=5, **MAY)) as server:
        run = run_tap(tmp_path, full_config(server, **AROUND_MAY), catalog=NO_CATALOG)
    counted: Counter[str] = Counter()
    for row in run.records["sync_runs"]:
        counted.update({one["name"]: one["row_count"] for one in row["streams"]})
        assert row["row_count"] == sum(one["row_count"] for one in row["streams"])
    assert sum(counted.values()) > 100
    with postgres() as database:
        load_postgres(tmp_path, database, run.stdout)
        with psycopg.connect(database) as session:
            for stream, count in counted.items():
                if count:
                    (held,) = session.execute(f"SELECT count(*) FROM pancake.{stream}").fetchall()
                    assert held == (count,), stream
