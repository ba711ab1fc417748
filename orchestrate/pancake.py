"""Airflow DAG: reads the pages of a Pancake account every hour, split over shards.

For Airflow 3, with any executor. Put this file into the DAGs folder. What it needs: on each worker
the Meltano project with its plugins installed (`meltano install`), and `meltano`; a pool; and, if
there is more than one worker, a state backend that all of them reach. See docs/scaling.md.

    airflow pools set pancake 8 "Runs of tap-pancake at a time"

Set by the environment of the workers:

- `PANCAKE_PROJECT`: the Meltano project; by default the directory above this file.
- `PANCAKE_SHARDS`: how many shards, 4 by default. Another number begins with new states: first
  merge those of before, with merge_states.py.
- `PANCAKE_RUN`: what `meltano run` is given, by default `tap-pancake target-postgres`.
- `PANCAKE_MELTANO`: the command, `meltano` by default.
- `PANCAKE_RETRY_SECONDS`: how long after a failure a shard is tried again, 60 by default.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

PROJECT = Path(os.environ.get("PANCAKE_PROJECT") or Path(__file__).resolve().parents[1])
SHARDS = int(os.environ.get("PANCAKE_SHARDS") or 4)
RUN = shlex.split(os.environ.get("PANCAKE_RUN") or "tap-pancake target-postgres")
MELTANO = os.environ.get("PANCAKE_MELTANO") or "meltano"
RETRY_DELAY = timedelta(seconds=float(os.environ.get("PANCAKE_RETRY_SECONDS") or 60))
# What the tap logs of something that it may not read, of one page.
SKIPPED = "Skipped: "


def system_directory(name: str) -> Path:
    """Make a system directory for one shard, in which the project's plugins are installed.

    Runs of one plugin in one system directory write over each other's catalog, and fail.
    """
    root = Path(os.environ.get("MELTANO_SYS_DIR_ROOT") or PROJECT / ".meltano").resolve()
    own = root / "shards" / name
    own.mkdir(parents=True, exist_ok=True)
    for plugins in ("extractors", "loaders", "mappers", "utilities"):
        link = own / plugins
        if (root / plugins).is_dir() and not link.is_symlink():
            link.symlink_to(root / plugins, target_is_directory=True)
    return own


def run_shard(index: int, count: int) -> list[str]:
    """Run one shard, and show its log.

    Returns:
        What the tap says that it skipped.

    Raises:
        RuntimeError: the run failed; the log tells why. What was read is loaded.
    """
    name = f"shard-{index}-of-{count}"
    environment = os.environ | {
        "MELTANO_SYS_DIR_ROOT": str(system_directory(name)),
        "MELTANO_CLI_LOG_FORMAT": "json",
        "TAP_PANCAKE_SHARD_INDEX": str(index),
        "TAP_PANCAKE_SHARD_COUNT": str(count),
    }
    skipped = []
    with subprocess.Popen(
        [MELTANO, "run", f"--state-id-suffix={name}", *RUN],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or []:
                event = event_of(line)
                print(event, flush=True)
                if event.startswith(SKIPPED):
                    skipped.append(event.removeprefix(SKIPPED))
        finally:
            process.terminate()  # when Airflow ends the task; does nothing to a run that has ended
    if process.returncode:
        msg = f"{name}: `meltano run` ended with code {process.returncode}, see its log above"
        raise RuntimeError(msg)
    return skipped


def event_of(line: str) -> str:
    """Give what a line of Meltano's log says."""
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return line.rstrip("\n")


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run reads all that is new, whenever the last one was
    max_active_runs=1,  # two runs of a shard would write one state
    default_args={"retries": 2, "retry_delay": RETRY_DELAY},
    tags=["pancake"],
)
def pancake() -> None:
    """Read the pages of all shards."""

    @task
    def shards() -> list[int]:
        """Give the shards to read."""
        return list(range(SHARDS))

    @task(pool="pancake")
    def read(shard: int) -> dict[str, Any]:
        """Read one shard. A retry goes on where the try before it was."""
        return {"shard": shard, "skipped": run_shard(shard, SHARDS)}

    @task(trigger_rule="all_done", retries=0)
    def check(done: list[dict[str, Any]]) -> None:
        """Fail if a shard failed, or skipped something of a page."""
        skipped = {one["shard"]: one["skipped"] for one in done}
        problems = [f"shard {shard} failed" for shard in range(SHARDS) if shard not in skipped]
        problems += [
            f"shard {shard} skipped {text}" for shard, texts in skipped.items() for text in texts
        ]
        if problems:
            raise AirflowFailException("\n".join(problems))

    check(read.expand(shard=shards()))


pancake()
