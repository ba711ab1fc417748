"""Runs the real tap, and reads its output as a target would."""

from __future__ import annotations

import gc
import gzip
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch
from urllib.parse import urlparse

import msgspec
from jsonschema import Draft202012Validator, FormatChecker
from singer_sdk.singerlib import Catalog

from tap_pancake.api import limits
from tap_pancake.api.errors import PancakeError
from tap_pancake.api.limits import Departure, Limiter
from tap_pancake.rows import times
from tap_pancake.streams import STREAMS
from tap_pancake.tap import TapPancake
from tests import forks
from tests.processes import output_of, run_process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from tests.pancake_api import PancakeServer

Json = dict[str, Any]
T = TypeVar("T")

COMMAND = (sys.executable, "-m", "tap_pancake")
KEYS = {
    "pages": ("id",),
    "conversations": ("page_id", "id"),
    "messages": ("conversation_id", "id"),
    "conversation_details": ("page_id", "conversation_id"),
    "tags": ("page_id", "id"),
    "users": ("page_id", "id"),
    "customers": ("page_id", "id"),
    "posts": ("page_id", "id"),
    "call_logs": ("page_id", "call_id"),
    "page_statistics": ("page_id", "hour"),
    "user_statistics": ("page_id", "user_id", "hour"),
    "multi_page_user_statistics": ("user_id", "date"),
    "tag_statistics": ("page_id", "tag_id", "category"),
    "new_customer_statistics": ("page_id", "date"),
    "customer_feedbacks": ("page_id", "id"),
    "customer_engagements": ("page_id", "date"),
    "user_engagements": ("page_id", "user_id", "date"),
    "ad_statistics": ("page_id", "date", "ad_id"),
    "campaign_statistics": ("page_id", "date", "ad_id"),
    "ad_conversations": ("page_id", "id"),
    "ads": ("page_id", "id"),
}
"""The primary keys of the streams that read the API."""
BY_DEFAULT = len(KEYS) - len({"pages", "multi_page_user_statistics", "call_logs"})
"""Number of a page's streams that are selected by default, without `call_logs`, which needs a
setting."""
ALL_KEYS = KEYS | {"sync_runs": ("run_id", "page_id")}
REPLICATION_KEYS = {
    stream.name: key if isinstance(key := stream.replication_key, str) else None
    for stream in STREAMS
    if stream.name in KEYS
}
INBOX = ("pages", "conversations", "messages")
"""The streams that tests select by default. Most behaviours do not depend on statistics."""
NO_CATALOG: Json = {}
"""For a run without a catalog, which reads the streams that the tap selects by default."""
SNAPSHOTS = Path(__file__).parent / "snapshots"


@dataclass
class Run:
    """The exit code, log and output of a run of the tap."""

    returncode: int
    stdout: str
    stderr: str
    schemas: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The key of each stream in its SCHEMA."""
    records: dict[str, list[Json]] = field(default_factory=dict)
    states: list[Json] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    """The number of rows of each BATCH; the rows are in `records`, too."""

    @property
    def state(self) -> Json:
        """The last STATE; empty if there is none."""
        return self.states[-1] if self.states else {}

    def by_key(self, stream: str) -> dict[tuple[str, ...], Json]:
        """Return the records of a stream by primary key; a later record replaces an earlier one."""
        return {key_of(stream, row): row for row in self.records.get(stream, [])}

    def repeated(self, stream: str) -> list[tuple[str, ...]]:
        """Return the keys that were written more than once."""
        keys = Counter(key_of(stream, row) for row in self.records.get(stream, []))
        return [key for key, count in keys.items() if count > 1]

    def part(self, stream: str, page_id: str) -> Json:
        """Return a page's part of a stream in the last STATE; empty if there is none."""
        return part_of(self.state, stream, page_id)

    def bookmark(self, stream: str, page_id: str) -> str | None:
        """Return a page's bookmark in the last STATE."""
        return self.part(stream, page_id).get("replication_key_value")

    def check_records(self) -> None:
        """Assert that every record is valid by its SCHEMA."""
        for stream, rows in self.records.items():
            validator = Draft202012Validator(self.schemas[stream], format_checker=FormatChecker())
            for row in rows:
                validator.validate(row)


def part_of(state: Json, stream: str, page_id: str) -> Json:
    """Return a page's part of a stream in a state; empty if there is none."""
    for part in state.get("bookmarks", {}).get(stream, {}).get("partitions", []):
        if part["context"].get("page_id") == page_id:
            return dict(part)
    return {}


def hours_later(state: Json, hours: float = 6) -> Json:
    """Return a state in which the last lookbacks of statistics are some hours older."""
    state = copied(state)
    for bookmark in state["bookmarks"].values():
        for part in (bookmark, *bookmark.get("partitions", [])):
            if part.get("lookback"):
                at, seconds = part["lookback"]
                part["lookback"] = [times.before(at, minutes=60 * hours), seconds]
    return state


def key_of(stream: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a record's primary key."""
    return tuple(row[name] for name in ALL_KEYS[stream])


def read_output(stdout: str, returncode: int = 0, stderr: str = "") -> Run:
    """Read Singer messages; a last line without its end, as after a kill, is left out."""
    run = Run(returncode, stdout, stderr)
    for line in stdout.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        message = json.loads(line)
        match message["type"]:
            case "SCHEMA":
                run.schemas[message["stream"]] = message["schema"]
                run.keys[message["stream"]] = tuple(message["key_properties"])
            case "RECORD":
                assert message["stream"] in run.schemas, "a RECORD came before its SCHEMA"
                run.records.setdefault(message["stream"], []).append(message["record"])
            case "BATCH":
                assert message["stream"] in run.schemas, "a BATCH came before its SCHEMA"
                assert message["encoding"] == {"format": "jsonl", "compression": "gzip"}
                rows = [json.loads(line) for url in message["manifest"] for line in lines_of(url)]
                run.records.setdefault(message["stream"], []).extend(rows)
                run.batches.append(len(rows))
            case "STATE":
                run.states.append(message["value"])
            case other:
                msg = f"unexpected message {other}"
                raise AssertionError(msg)
    return run


def lines_of(url: str) -> list[bytes]:
    """Return the lines of a file that a BATCH names."""
    return gzip.decompress(Path(urlparse(url).path).read_bytes()).splitlines()


def config_for(server: PancakeServer, **settings: Any) -> Json:
    """Return settings for a server, with page tokens if its list of pages has none."""
    config: Json = {
        "api_url": server.url,
        "access_token": server.account.user_token,
        "requests_per_second": 10_000,
    }
    if server.dialect.name == "documented":
        config["page_access_tokens"] = {
            page.id: page.token
            for page in server.account.pages
            if page.token and page.category == "activated"
        }
    if server.dialect.name == "older":
        config["conversations_api"] = "v1"
    return config | settings


def full_config(server: PancakeServer, **settings: Any) -> Json:
    """Return settings for a server with which every stream can be read."""
    packages = {
        page.id: page.belongings.sip_package_id
        for page in server.account.pages
        if page.category == "activated"  # others are not in the list of pages of each dialect
    }
    return config_for(server, sip_package_ids=packages, **settings)


def start_tap(
    directory: Path,
    config: Mapping[str, Any],
    *,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: Any = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start the tap, with its files in a directory, see `arguments_of`."""
    return subprocess.Popen(
        [*COMMAND, *arguments_of(directory, config, state, catalog)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **(env or {})},
    )


def arguments_of(
    directory: Path,
    config: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    catalog: Mapping[str, Any] | None,
) -> list[str]:
    """Write the tap's files, and return the arguments that name them.

    Without a catalog, the tap reads `INBOX`; with `NO_CATALOG`, its default streams.
    """
    if catalog is None:
        catalog = select(*INBOX)
    arguments = []
    for name, content in (("config", config), ("state", state), ("catalog", catalog)):
        if content is not None and content is not NO_CATALOG:
            path = directory / f"{name}.json"
            path.write_text(json.dumps(content), encoding="utf-8")
            arguments += [f"--{name}", str(path)]
    return arguments


def run_tap(
    directory: Path,
    config: Mapping[str, Any],
    *,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> Run:
    """Run the tap to its end, with any exit code."""
    arguments = arguments_of(directory, config, state, catalog)
    try:
        process = _completed(arguments, env, timeout)
    except subprocess.TimeoutExpired as late:
        msg = f"the tap did not end within {timeout} s:\n{str(late.stderr)[-3000:]}"
        raise AssertionError(msg) from None
    return read_output(process.stdout, process.returncode, process.stderr)


def run_here(
    config: Mapping[str, Any],
    *,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
) -> Run:
    """Run the tap in this process, with waits that take no time.

    For tests with many runs, which would take too long as processes. The run leaves nothing behind
    in this process.
    """
    written, log = io.BytesIO(), io.StringIO()
    output = io.TextIOWrapper(written, encoding="utf-8")
    returncode, others = 0, threading.enumerate()
    catalog = select(*INBOX) if catalog is None else copied(catalog)
    with redirect_stdout(output), _logged(log), _put_back(), _hurried():
        tap = TapPancake(
            config=copied(config),
            state=copied(state or {}),
            catalog=Catalog.from_dict(catalog) if catalog else None,
        )
        try:
            tap.read_all()
        except PancakeError as error:  # as in `__main__.py`
            returncode = 1
            tap.logger.critical("%s", error)
        finally:
            _end_threads(tap, others)
    output.flush()
    return read_output(written.getvalue().decode(), returncode, log.getvalue())


def copied(content: Mapping[str, Any]) -> Json:
    """Return a copy of JSON, in a tenth of the time of a deep copy."""
    copy: Json = msgspec.json.decode(msgspec.json.encode(content))
    return copy


@contextmanager
def _logged(log: io.StringIO) -> Iterator[None]:
    """Write the log to a text, in the format of the SDK's standard error."""
    handler, root = logging.StreamHandler(log), logging.getLogger()
    handler.setFormatter(
        logging.Formatter("%(asctime)s | %(levelname)-8s | %(name)s | %(message)s")
    )
    handlers, level = root.handlers, root.level
    root.handlers = [handler]  # the tap adds its filter to all handlers
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


@contextmanager
def _put_back() -> Iterator[None]:
    """Restore what a run changes in its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threshold, connections = gc.get_threshold(), logging.getLogger("urllib3.connectionpool")
    filters = list(connections.filters)
    try:
        yield
    finally:
        connections.filters = filters
        gc.set_threshold(*threshold)
        gc.unfreeze()
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _HurriedLimiter(Limiter):
    """A limiter whose waits take no time, but move its own clock."""

    def __init__(self, calls_per_second: float) -> None:
        self._skipped = 0.0
        super().__init__(calls_per_second, clock=lambda: time.monotonic() + self._skipped)

    def wait(self, sleep: Callable[[float], None] | None = None, **connect: Any) -> Departure:
        return super().wait(sleep or self._skip, **connect)

    def _skip(self, seconds: float) -> None:
        self._skipped += seconds


@contextmanager
def _hurried() -> Iterator[None]:
    """Make the tap's waits take no time."""
    with (
        patch.object(time, "sleep", lambda _: None),
        patch.object(limits, "Limiter", _HurriedLimiter),
    ):
        yield


def _end_threads(tap: TapPancake, others: list[threading.Thread]) -> None:
    """End the threads and connections of a run, as the end of a process does."""
    names = [thread for thread in threading.enumerate() if thread.name.endswith("(_work)")]
    threads = [thread for thread in names if thread not in others]
    hook = threading.excepthook
    # Python ignores SystemExit of a thread, too.
    with patch.object(
        threading, "excepthook", lambda args: None if args.exc_type is SystemExit else hook(args)
    ):
        for _ in threads:
            tap.shared.lanes.threads._jobs.put(sys.exit)  # noqa: SLF001 - nobody else needs it
        for thread in threads:
            # Threads that yielded when the run was stopped wait forever.
            thread.join(timeout=0.2 if tap.shared.lanes.over else None)
    tap.shared.transport._adapter.close()  # noqa: SLF001


def sync(directory: Path, config: Mapping[str, Any], **options: Any) -> Run:
    """Run the tap, which must succeed, and check its records."""
    run = run_tap(directory, config, **options)
    assert run.returncode == 0, run.stderr
    run.check_records()
    return run


def select(*streams: str) -> Json:
    """Return the catalog of the snapshots with only these streams selected."""
    entries = [msgspec.json.decode(snapshot) for snapshot in snapshots()]
    for entry in entries:
        metadata_of({"streams": [entry]}, entry["tap_stream_id"])["selected"] = (
            entry["tap_stream_id"] in streams
        )
    return {"streams": entries}


@cache
def snapshots() -> list[bytes]:
    """Return the catalog's entries, each as JSON."""
    return [path.read_bytes() for path in SNAPSHOTS.glob("*.json")]


def metadata_of(catalog: Json, stream: str, *breadcrumb: str) -> Json:
    """Return the metadata of a stream or of one of its fields in a catalog; may be changed."""
    entry = next(entry for entry in catalog["streams"] if entry["tap_stream_id"] == stream)
    metadata: Json = next(
        part["metadata"] for part in entry["metadata"] if part["breadcrumb"] == list(breadcrumb)
    )
    return metadata


def catalog_of(directory: Path, select: Callable[[str], bool]) -> Json:
    """Return the discovered catalog, with streams selected by name."""
    catalog: Json = json.loads(output_of([*COMMAND, "--discover"], cwd=directory))
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == []:
                entry["metadata"]["selected"] = select(stream["tap_stream_id"])
    return catalog


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Run:
    """Wait for the end of a run, and read what it wrote."""
    stdout, stderr = process.communicate(timeout=timeout)
    return read_output(stdout, process.returncode, stderr)


def end(process: subprocess.Popen[str], signum: signal.Signals) -> Run:
    """End a run by a signal, and read what it wrote."""
    process.send_signal(signum)
    return finish(process)


def run_command(*arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Run:
    """Run the tap with arguments that `run_tap` does not have, such as `--config=ENV`."""
    process = _completed(arguments, env, timeout)
    return Run(process.returncode, process.stdout, process.stderr)


def _completed(
    arguments: Sequence[str], env: Mapping[str, str] | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **(env or {})}
    first = (env or {}).get("PANCAKE_FIRST", "")
    others = [name for name in env or {} if name.startswith("PYTHON")]
    # Such variables change how Python starts. Tests of a wheel have another command.
    if COMMAND[0] == sys.executable and (first or not others):
        return forks.run(arguments, whole, timeout, first)
    return run_process([*COMMAND, *arguments], env=whole, timeout=timeout)


def logged(run: Run) -> list[tuple[str, str]]:
    """Return the level and the message of each line that a run logged."""
    lines = (line.split(" | ", 3) for line in run.stderr.splitlines())
    return [(parts[1].strip(), parts[3]) for parts in lines if len(parts) == 4]


def log_lines(run: Run, level: str) -> list[str]:
    """Return the messages that a run logged at a level."""
    return [message for found, message in logged(run) if found == level]


def number(text: str) -> int:
    """Return a number of the log."""
    return int(text.replace(",", ""))


def patched(directory: Path, source: str) -> dict[str, str]:
    """Return an environment in which the tap's process runs some Python first."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(source, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(directory), os.getcwd()])}  # noqa: PTH109


HURRY = """
import time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.02))
from tap_pancake.running.run import Run
Run.patience = 5.0
"""
CLOCK = """
import datetime, time_machine
now = datetime.datetime.now(datetime.timezone.utc)
time_machine.travel(now + datetime.timedelta(seconds={}), tick=True).start()
"""


def hurried(directory: Path, *, ahead: timedelta = timedelta(0)) -> dict[str, str]:
    """Return an environment in which the tap's waits take no time.

    For tests of what happens after the last retry. The tap's clock may be ahead of the test's.
    """
    source = HURRY + (CLOCK.format(ahead.total_seconds()) if ahead else "")
    return patched(directory, source) | {"PANCAKE_FIRST": source}


def run_check(directory: Path, config: Json, *options: str) -> Run:
    """Run `tap-pancake --test`, in which waits take no time."""
    directory.mkdir(exist_ok=True)
    path = directory / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    run = run_command("--test", *options, "--config", str(path), env=hurried(directory / "env"))
    assert "Traceback" not in run.stderr
    return run


def side_by_side(jobs: Iterable[Callable[[], T]], *, at_once: int = 64) -> list[T]:
    """Return the results of jobs that mostly wait, such as runs of the tap, done in threads."""
    with ThreadPoolExecutor(at_once) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


@contextmanager
def begun(
    jobs: Mapping[str, Callable[[Path], T]], tests: Collection[str], root: Path
) -> Iterator[dict[str, Future[T]]]:
    """Begin the jobs of some tests in threads, so that they run while other tests go on.

    Args:
        jobs: The job of each test, by the test's name; it gets a directory that it creates.
        tests: The names of the tests that run.
        root: The directory above these directories.
    """
    with ThreadPoolExecutor(len(jobs)) as pool:
        yield {name: pool.submit(job, root / name) for name, job in jobs.items() if name in tests}
