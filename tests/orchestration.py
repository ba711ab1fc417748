"""The DAG of orchestrate/, run by a real Airflow; scripts/test_orchestration.sh runs this."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tap_pancake.running.shards import shard_of
from tests.documents import blocks
from tests.meltano_project import MELTANO, Project, new_project, own_definition, variables_of
from tests.pancake_api import Account, Call, Fault, PancakeServer
from tests.processes import ROOT
from tests.stream_truth import OTHERS, records
from tests.tap import KEYS, full_config
from tests.targets import for_target
from tests.truth import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW = Path(os.environ["AIRFLOW"])
"""The directory of Airflow's programs."""
SHARDS = 3
SIX = """
from concurrent.futures import ThreadPoolExecutor
from pancake import run_shard

def read(shard):
    for _ in range(2):  # as Airflow does: two may make the same table at the same moment
        try:
            return run_shard(shard, 6)
        except RuntimeError:
            pass
    return run_shard(shard, 6)

with ThreadPoolExecutor(6) as threads:
    print(list(threads.map(read, range(6))))
"""
START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(name="server", scope="module")
def bundled_server() -> Iterator[PancakeServer]:
    account = Account.generate(
        seed=5, pages=7, conversations=6, start=START, end=START + timedelta(days=3)
    )
    for page in account.pages[:7]:
        next(iter(page.conversations.values())).ad_ids = [f"4{page.number:014d}"]
    with PancakeServer(account) as server:
        yield server


@pytest.fixture(name="project", scope="module")
def agency(
    tmp_path_factory: pytest.TempPathFactory, server: PancakeServer, database: str
) -> Project:
    """A Meltano project with its plugins, and an Airflow that knows the DAG."""
    base = tmp_path_factory.mktemp("agency")
    project = new_project(base / "project", base / "home")
    (backend,) = blocks(ROOT / "docs" / "scaling.md", "yaml")
    backend = backend.replace("/var/lib/meltano/state", str(base / "state"))
    (project.directory / "meltano.yml").write_text(own_definition() + backend, encoding="utf-8")
    config = full_config(server, start_date="2026-03-02T00:00:00Z", end_date="2026-03-06T00:00:00Z")
    project.environment |= variables_of(config) | {
        "TAP_PANCAKE__SELECT": '["*.*"]',
        "TARGET_POSTGRES_SQLALCHEMY_URL": for_target(database),
        "AIRFLOW_HOME": str(base / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "orchestrate"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PANCAKE_RETRY_SECONDS": "1",
        "PANCAKE_PROJECT": str(project.directory),
        "PANCAKE_SHARDS": str(SHARDS),
        "PANCAKE_MELTANO": str(MELTANO),
    }
    project.install("tap-pancake", "target-postgres")
    for command in (("db", "migrate"), ("pools", "set", "pancake", "8", "Runs at a time")):
        done = project.run(AIRFLOW / "airflow", *command)
        assert done.returncode == 0, done.stderr[-3000:]
    return project


def run_dag(project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the DAG once, all of its tasks in one process."""
    return project.run(AIRFLOW / "airflow", "dags", "test", "pancake", **environment)


def rows_in(database: str, schema: str, stream: str) -> dict[tuple[str, ...], Any]:
    """Return what a table holds, by key, without the columns of the target."""
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT to_jsonb(t) FROM {}.{} t".format(schema, stream)  # noqa: UP032
        ).fetchall()
    rows = [
        {name: value for name, value in row.items() if not name.startswith("_sdc_")}
        for (row,) in found
    ]
    return {tuple(str(row[name]) for name in KEYS[stream]): row for row in rows}


@pytest.fixture(name="whole", scope="module")
def loaded_by_one_run(project: Project) -> str:
    """The schema that one run without shards has loaded."""
    schema = {"TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA": "whole"}
    one = project.meltano("run", "tap-pancake", "target-postgres", **schema)
    assert one.returncode == 0, one.stderr[-3000:]
    return "whole"


def test_all_shards_together_load_what_one_run_loads_row_for_row(
    project: Project, server: PancakeServer, database: str, whole: str
) -> None:
    server.reset_calls()
    done = run_dag(project, TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA="sharded")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert server.count("pages") == SHARDS
    truth = {name: set(rows) for name, rows in rows_of(server).items()}
    truth |= {name: set(records(server, name)) for name in OTHERS}
    for stream in KEYS:
        loaded = rows_in(database, "sharded", stream)
        assert loaded == rows_in(database, whole, stream)
        assert loaded.keys() == {tuple(map(str, key)) for key in truth[stream]}, stream
        assert loaded, stream
    # As target-postgres is set up in meltano.yml, times are in UTC, whatever the database says.
    messages = rows_in(database, "sharded", "messages")
    for key, row in rows_of(server)["messages"].items():
        at = datetime.fromisoformat(row["inserted_at"]).replace(tzinfo=None)
        assert datetime.fromisoformat(messages[key]["inserted_at"]) == at


def test_what_was_skipped_or_failed_fails_the_last_task_which_names_it(
    project: Project, server: PancakeServer
) -> None:
    pages = {shard_of(page.id, SHARDS): page.id for page in server.account.pages[:7]}
    server.faults = [
        Fault("http:403", endpoint="page_statistics", page_id=pages[0]),
        Fault("error:100", endpoint="tags", page_id=pages[1]),
    ]
    try:
        done = run_dag(project, TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA="sharded")
    finally:
        server.faults = []
    assert done.returncode != 0
    log = done.stdout + done.stderr
    lines = [line for line in log.splitlines() if re.search(r"\bshard \d (failed|skipped)", line)]
    assert any("shard 1 failed" in line for line in lines)
    skipped = f"shard 0 skipped page {pages[0]}, page_statistics: permission was denied"
    assert any(skipped in line for line in lines)
    assert not any("shard 2" in line for line in lines)
    assert states_of(project) == {"shards": "success", "read": "failed", "check": "failed"}
    assert server.account.user_token not in log


def states_of(project: Project) -> dict[str, str]:
    """Return the state of each task of the last run; of mapped ones the worst."""
    last = airflow_list(project, "dags", "list-runs", "pancake")[0]["run_id"]
    states: dict[str, str] = {}
    for task in airflow_list(project, "tasks", "states-for-dag-run", "pancake", last):
        if states.get(task["task_id"]) in {None, "success"}:
            states[task["task_id"]] = task["state"]
    return states


def airflow_list(project: Project, *command: str) -> list[dict[str, Any]]:
    """Ask Airflow, which may log before it answers."""
    done = project.run(AIRFLOW / "airflow", *command, "--output", "json")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_six_shards_at_the_same_time_load_everything_into_one_schema(
    project: Project, database: str, whole: str
) -> None:
    """As an executor with workers does; the tables do not exist before."""
    done = project.run(
        AIRFLOW / "python",
        "-c",
        SIX,
        PYTHONPATH=str(ROOT / "orchestrate"),
        TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA="together",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stream in KEYS:
        assert rows_in(database, "together", stream) == rows_in(database, whole, stream)


def test_a_worker_that_is_stopped_stops_its_run(project: Project, server: PancakeServer) -> None:
    with subprocess.Popen(
        [AIRFLOW / "python", "-c", "from pancake import run_shard; run_shard(0, 1)"],
        env=project.environment
        | {
            "PYTHONPATH": str(ROOT / "orchestrate"),
            "PANCAKE_RUN": "tap-pancake target-postgres",
            "TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA": "stopped",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as worker:
        seen = threading.Event()

        def stop(call: Call) -> None:
            if call.endpoint == "messages" and not seen.is_set():
                seen.set()
                worker.send_signal(signal.SIGTERM)

        server.on_call = stop
        try:
            log, _ = worker.communicate(timeout=60)
        finally:
            server.on_call = None
            worker.kill()
    assert seen.is_set(), log
    assert worker.returncode == 1
    assert "`meltano run` ended with code" in log


def test_three_shards_become_five_as_the_document_says(
    project: Project, server: PancakeServer
) -> None:
    """In the middle of the history: a page failed, and another has a new message."""
    by_hand, change = blocks(ROOT / "docs" / "scaling.md", "bash")
    project.install("target-jsonl")
    environment = project.environment | {
        "PATH": f"{MELTANO.parent}{os.pathsep}{project.environment['PATH']}",
        "TAP_PANCAKE__SELECT": '["pages.*", "conversations.*", "messages.*"]',
    }
    del environment["TAP_PANCAKE_END_DATE"]
    project = replace(project, environment=environment)
    (project.directory / "orchestrate").symlink_to(ROOT / "orchestrate")
    failing, other = (page for page in server.account.pages[:2])
    server.faults = [Fault("error:100", endpoint="messages", page_id=failing.id, at={3})]
    run(project, as_many(by_hand, 3))
    server.faults = []
    before = project.rows("messages")
    other.receive(next(iter(other.conversations)))
    run(project, change)
    server.reset_calls()
    run(project, as_many(by_hand, 5))
    assert {call.page_id for call in server.calls if call.endpoint == "messages"} == {
        failing.id,
        other.id,
    }
    after = project.rows("messages")
    expected = server.expected().messages
    assert len(before) < len(expected)
    assert {(row["conversation_id"], row["id"]) for row in after} == set(expected)


def as_many(commands: str, count: int) -> str:
    """Return the document's commands for two shards for more."""
    shards = " ".join(map(str, range(count)))
    return (
        commands.replace("for shard in 0 1;", f"for shard in {shards};")
        .replace("SHARD_COUNT=2", f"SHARD_COUNT={count}")
        .replace("of-2", f"of-{count}")
    )


def run(project: Project, commands: str) -> None:
    done = project.run("bash", "-euo", "pipefail", "-c", commands)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
