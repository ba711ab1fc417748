"""Airflow DAG: reads the pages of a Pancake account every hour, split over shards.

For Airflow 3.2 or newer, with any executor. Put this file into the DAGs folder. What it needs: on
each worker the Meltano project with its plugins installed (`meltano install`), and `meltano`; a
pool; and, if there is more than one worker, a state backend that all reach. See docs/scaling.md.

    airflow pools set pancake 8 "Runs of tap-pancake at a time"

Set by the environment of the workers:

- `PANCAKE_PROJECT`: the Meltano project; by default the directory above this file.
- `PANCAKE_SHARDS`: how many shards, 4 by default. Another number begins with new states: first
  merge those of before, with merge_states.py.
- `PANCAKE_RUN`: what `meltano run` is given, by default `tap-pancake target-postgres`.
- `PANCAKE_MELTANO`: the command, `meltano` by default.
- `PANCAKE_RETRY_SECONDS`: how long after a failure a shard is tried again, 360 by default: Meltano
  takes a run that was killed to be under way for five minutes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(os.environ.get("PANCAKE_PROJECT") or Path(__file__).resolve().parents[1])
SHARDS = int(os.environ.get("PANCAKE_SHARDS") or 4)
RUN = shlex.split(os.environ.get("PANCAKE_RUN") or "tap-pancake target-postgres")
MELTANO = os.environ.get("PANCAKE_MELTANO") or "meltano"
RETRY_DELAY = timedelta(seconds=float(os.environ.get("PANCAKE_RETRY_SECONDS") or 360))
# What the tap logs at level WARNING of something that it may not read, or cannot read since an
# earlier run, of one page; of a page that is not there any more; and of one without traffic, of
# which nothing is missing. And in the end.
UNREAD = ("Skipped: ", "Still set aside: ")
GONE = ", though earlier runs have read it: "
IDLE = ": the API answers HTTP 500, as it may for a page without traffic: "
DONE = re.compile(r"(pages? done( \([\d,]+ failed\))?|No page was read) in ")
# So many are named; of thousands of pages, the log has the rest.
NAMED = 100

Json = dict[str, Any]


def system_directory(name: str) -> Path:
    """Make a system directory for one shard, in which the project's plugins are installed.

    Runs of one plugin in one system directory write over each other's catalog, and fail.
    """
    root = (PROJECT / (os.environ.get("MELTANO_SYS_DIR_ROOT") or ".meltano")).resolve()
    own = root / "shards" / name
    own.mkdir(parents=True, exist_ok=True)
    for plugins in ("extractors", "loaders", "mappers", "utilities"):
        link = own / plugins
        if (root / plugins).is_dir() and not link.exists():
            link.unlink(missing_ok=True)  # one that leads nowhere
            link.symlink_to(Path("..", "..", plugins), target_is_directory=True)
    return own


def run_shard(index: int, count: int) -> list[str]:
    """Run one shard, and show its log.

    Returns:
        What the tap says that it skipped, that is still set aside, or is gone.

    Raises:
        RuntimeError: the run failed; the log tells why. What was read is loaded.
    """
    name = f"shard-{index}-of-{count}"
    environment = os.environ | {
        "MELTANO_SYS_DIR_ROOT": str(system_directory(name)),
        "MELTANO_CLI_LOG_FORMAT": "json",
        "MELTANO_CLI_LOG_LEVEL": "info",
        "TAP_PANCAKE_SHARD_INDEX": str(index),
        "TAP_PANCAKE_SHARD_COUNT": str(count),
    }
    unread, done = [], False
    with (
        subprocess.Popen(
            [MELTANO, "run", f"--state-id-suffix={name}", *RUN],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
        ended_with_this_task(process),
    ):
        for line in process.stdout or []:
            entry = parsed(line)
            print(shown(entry), flush=True)
            done = done or bool(DONE.search(str(entry.get("event"))))
            if what := unread_by(entry):
                unread.append(what)
    if process.returncode:
        msg = f"{name}: `meltano run` ended with code {process.returncode}, see its log above"
        raise RuntimeError(msg)
    if not done:
        msg = (
            f"{name}: the log does not say what was read: take away the project's logging.yaml, or"
            " let it write JSON at level INFO to standard error"
        )
        raise RuntimeError(msg)
    return unread


@contextmanager
def ended_with_this_task(process: subprocess.Popen[str]) -> Iterator[None]:
    """Pass on SIGTERM, with which workers are stopped: Airflow's own handler does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parsed(line: str) -> Json:
    """Read a line of Meltano's log."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"event": line.rstrip("\n")}


def unread_by(entry: Json) -> str | None:
    """Return what a line of the log says is not read of a page, or None."""
    event = str(entry.get("event"))
    if entry.get("level") != "warning" or IDLE in event:
        return None
    if GONE in event:
        return f"misses a page: {event}"
    what, _, text = event.partition(": ")
    return f"{what.lower()} {text}" if event.startswith(UNREAD) else None


def shown(entry: Json) -> str:
    """Return the parts of a line of the log that a person reads."""
    parts = [entry.get("level"), entry.get("event")]
    parts += [entry.get(name) for name in ("err", "exit_codes", "plugin_exception")]
    return " ".join(str(part) for part in parts if part)


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
    def shards() -> list[dict[str, int]]:
        """Return the shards to read: all tasks of a run keep to this number."""
        return [{"index": index, "count": SHARDS} for index in range(SHARDS)]

    @task(pool="pancake", multiple_outputs=False)
    def read(shard: dict[str, int]) -> Json:
        """Read one shard. A retry goes on where the try before it was."""
        unread = run_shard(shard["index"], shard["count"])
        return {"shard": shard["index"], "number": len(unread), "unread": unread[:NAMED]}

    @task(trigger_rule="all_done", retries=0)
    def check(expected: list[dict[str, int]], done: list[Json]) -> None:
        """Fail if a shard failed, left something of a page unread, or misses a page."""
        ended = {one["shard"]: one for one in done}
        problems = []
        for index in (shard["index"] for shard in expected):
            if index not in ended:
                problems.append(f"shard {index} failed")
                continue
            one = ended[index]
            problems += [f"shard {index} {text}" for text in one["unread"]]
            if one["number"] > len(one["unread"]):
                problems.append(f"shard {index} left {one['number']} unread in all, see its log")
        if problems:
            raise AirflowFailException("\n".join(problems))

    expected = shards()
    check(expected, read.expand(shard=expected))


pancake()
