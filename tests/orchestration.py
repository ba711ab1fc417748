"""The DAG of orchestrate/, run by a real Airflow; scripts/test_orchestration.sh runs this."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tap_pancake.shards import Shard
from tests.meltano_project import MELTANO, ROOT, Project, new_project, own_definition
from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import OTHERS, records
from tests.tap import KEYS
from tests.targets import for_target, postgres
from tests.test_docs import blocks
from tests.truth import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW = Path(os.environ["AIRFLOW"])
"""The directory of Airflow's programs."""
SHARDS = 3
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


@pytest.fixture(name="database", scope="module")
def real_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory) as url:
        yield url


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
    packages = {page.id: page.belongings.sip_package_id for page in server.account.pages}
    project.environment |= {
        "TAP_PANCAKE_API_URL": server.url,
        "TAP_PANCAKE_ACCESS_TOKEN": server.account.user_token,
        "TAP_PANCAKE_REQUESTS_PER_SECOND": "1000",
        "TAP_PANCAKE_START_DATE": "2026-03-02T00:00:00Z",
        "TAP_PANCAKE_END_DATE": "2026-03-06T00:00:00Z",
        "TAP_PANCAKE_SIP_PACKAGE_IDS": json.dumps(packages),
        "TAP_PANCAKE__SELECT": '["*.*"]',
        "TARGET_POSTGRES_SQLALCHEMY_URL": for_target(database),
        "AIRFLOW_HOME": str(base / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "orchestrate"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
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
    """Give what a table holds, by key, without the columns of the target."""
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT to_jsonb(t) FROM {}.{} t".format(schema, stream)  # noqa: UP032
        ).fetchall()
    rows = [
        {name: value for name, value in row.items() if not name.startswith("_sdc_")}
        for (row,) in found
    ]
    return {tuple(str(row[name]) for name in KEYS[stream]): row for row in rows}


def test_all_shards_together_load_what_one_run_loads_row_for_row(
    project: Project, server: PancakeServer, database: str
) -> None:
    whole = {"TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA": "whole"}
    one = project.meltano("run", "tap-pancake", "target-postgres", **whole)
    assert one.returncode == 0, one.stderr[-3000:]
    server.reset_calls()
    done = run_dag(project, TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA="sharded")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert server.count("pages") == SHARDS
    truth = {name: set(rows) for name, rows in rows_of(server).items()}
    truth |= {name: set(records(server, name)) for name in OTHERS}
    for stream in KEYS:
        loaded = rows_in(database, "sharded", stream)
        assert loaded == rows_in(database, "whole", stream)
        assert loaded.keys() == {tuple(map(str, key)) for key in truth[stream]}, stream
        assert loaded, stream
