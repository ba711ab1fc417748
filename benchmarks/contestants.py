"""The contestants: how their users start each of them, and where its rows are."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.measure import ROOT, STATE_BEGINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.server import Data

    Row = dict[str, Any]
    Rows = Iterator[tuple[str, Row]]

PEERS = ROOT / "benchmarks" / "peers"
STREAMS = {
    "pages": ("id",),
    "conversations": ("page_id", "id"),
    "messages": ("conversation_id", "id"),
}
"""The streams that all contestants extract, with their keys."""
PACE = 4.95
"""Calls a second of the bare script for each page, just below the limit."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One extraction: its server and its files."""

    url: str
    token: str
    data: Data
    directory: Path
    state: Path | None = None
    """The STATE of the run before, for the tap only."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to extract the three streams."""

    key: str
    title: str
    environment: str
    """The directory of its virtual environment."""
    command: Callable[[Job], list[str | Path]]
    rows: Callable[[Path], Rows]
    """Reads the rows in a job's directory."""

    @property
    def programs(self) -> Path:
        """The directory of its programs."""
        return ROOT / self.environment / "bin"


def written(path: Path, content: Any) -> Path:
    """Write a JSON file, and return its path."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def workers(data: Data, each: int) -> int:
    """Return the number of threads of tools that share them: so many for each page, at most 256."""
    return min(each * data.pages, 256)


# The tap


@cache
def tap_says(*arguments: str) -> Any:
    """Run the tap's command, and return the JSON that it prints."""
    command = [str(TAP.programs / "tap-pancake"), *arguments]
    process = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    return json.loads(process.stdout)


def tap_catalog() -> Any:
    """Return the tap's catalog with only the three streams selected."""
    catalog = tap_says("--discover")
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] in STREAMS
    return catalog


def tap_command(job: Job, *, by_default: bool = False) -> list[str | Path]:
    """Return the tap's command. Settings are the defaults, except the rate where there is no limit.

    Args:
        job: What to extract.
        by_default: Whether to read the streams that are selected by default.
    """
    config: Row = {"access_token": job.token, "api_url": job.url}
    state: list[str | Path] = ["--state", job.state] if job.state else []
    if not job.data.rate:
        config["requests_per_second"] = 10_000
    catalog: list[str | Path] = []
    if not by_default:
        catalog = ["--catalog", written(job.directory / "catalog.json", tap_catalog())]
    file = written(job.directory / "config.json", config)
    return [TAP.programs / "tap-pancake", "--config", file, *catalog, *state]


def lines(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file, without STATE, which may be large."""
    with file.open("rb") as output:
        for line in output:
            if not line.startswith(STATE_BEGINS):
                yield line


def singer_rows(directory: Path) -> Rows:
    """Yield the rows of the three streams from Singer messages."""
    for line in lines(directory / "out"):
        message = orjson.loads(line)
        if message["type"] == "RECORD" and message["stream"] in STREAMS:
            yield message["stream"], message["record"]


# The peers


def stock_command(job: Job, *, by_page: bool = False) -> list[str | Path]:
    """Return the command of the stock tap, which reads all its streams."""
    config = {"access_token": job.token, "api_url": job.url, "state_by_page": by_page}
    file = written(job.directory / "config.json", config)
    return [STOCK.programs / "python", PEERS / "stock_tap.py", "--config", file]


def dlt_command(job: Job) -> list[str | Path]:
    """Return the command of dlt's pipeline."""
    arguments = ["--url", job.url, "--token", job.token, "--workers", str(workers(job.data, 2))]
    script = PEERS / "dlt_pages.py"
    return [DLT.programs / "python", script, *arguments, "--directory", job.directory]


def dlt_extract_command(job: Job) -> list[str | Path]:
    """Return the command of the first of the pipeline's three steps."""
    return [*dlt_command(job), "--extract-only"]


def dlt_rows(directory: Path) -> Rows:
    """Yield the rows that dlt loaded into a directory for each table."""
    for stream in STREAMS:
        for file in (directory / "written" / "inbox" / stream).glob("*.jsonl"):
            for line in lines(file):
                yield stream, orjson.loads(line)


def dlt_extract_rows(directory: Path) -> Rows:
    """Yield the rows that dlt extracted as lines of lists."""
    for stream in STREAMS:
        for file in (directory / "pipelines").rglob(f"new_jobs/{stream}.*.typed-jsonl"):
            for line in lines(file):
                for row in orjson.loads(line):
                    yield stream, row


def airbyte_command(job: Job) -> list[str | Path]:
    """Return the command of Airbyte's `read`, with the limit of all pages together."""
    config = {
        "access_token": job.token,
        "api_url": job.url,
        "workers": workers(job.data, 16),
        "calls_per_second": int(job.data.rate * job.data.pages) or 1_000_000,
    }
    catalog = {
        "streams": [
            {
                "stream": {
                    "name": stream,
                    "json_schema": {},
                    "supported_sync_modes": ["full_refresh"],
                },
                "sync_mode": "full_refresh",
                "destination_sync_mode": "overwrite",
            }
            for stream in STREAMS
        ]
    }
    return [
        AIRBYTE.programs / "python",
        PEERS / "airbyte_source.py",
        "read",
        "--config",
        written(job.directory / "config.json", config),
        "--catalog",
        written(job.directory / "catalog.json", catalog),
    ]


def airbyte_rows(directory: Path) -> Rows:
    """Yield the rows of Airbyte's messages."""
    for line in lines(directory / "out"):
        message = orjson.loads(line)
        if message["type"] == "RECORD":
            yield message["record"]["stream"], message["record"]["data"]


def bare_command(job: Job) -> list[str | Path]:
    """Return the command of the bare script."""
    pace = ["--rate", str(PACE)] if job.data.rate else []
    arguments = ["--url", job.url, "--token", job.token, *pace]
    return [BARE.programs / "python", PEERS / "bare.py", *arguments]


def bare_rows(directory: Path) -> Rows:
    """Yield the rows of the bare script's lines."""
    for line in lines(directory / "out"):
        row = orjson.loads(line)
        yield row["stream"], row["record"]


TAP = Contestant(
    key="tap",
    title="tap-pancake",
    environment=".venv-bench-tap",
    command=tap_command,
    rows=singer_rows,
)
STOCK = Contestant(
    key="stock",
    title="stock singer-sdk tap",
    environment=".venv-bench-stock",
    command=stock_command,
    rows=singer_rows,
)
STOCK_BY_PAGE = Contestant(
    key="stock-by-page",
    title="stock singer-sdk tap, state by page",
    environment=STOCK.environment,
    command=partial(stock_command, by_page=True),
    rows=singer_rows,
)
DLT = Contestant(
    key="dlt",
    title="dlt REST source",
    environment=".venv-bench-dlt",
    command=dlt_command,
    rows=dlt_rows,
)
DLT_EXTRACT = Contestant(
    key="dlt-extract",
    title="dlt, its extraction only",
    environment=".venv-bench-dlt",
    command=dlt_extract_command,
    rows=dlt_extract_rows,
)
AIRBYTE = Contestant(
    key="airbyte",
    title="Airbyte CDK, declarative",
    environment=".venv-bench-airbyte",
    command=airbyte_command,
    rows=airbyte_rows,
)
BARE = Contestant(
    key="bare",
    title="bare asyncio script",
    environment=".venv-bench",
    command=bare_command,
    rows=bare_rows,
)
CONTESTANTS = (TAP, STOCK, STOCK_BY_PAGE, DLT, DLT_EXTRACT, AIRBYTE, BARE)
