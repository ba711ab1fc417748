"""Runs a process and measures what it used; starts the server that counts its calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.server import Data

ROOT = Path(__file__).resolve().parents[1]
SHIM = ROOT / "benchmarks" / "shim.py"
STATE_BEGINS = (b'{"type":"STATE"', b'{"type": "STATE"')
"""The beginnings of a STATE line, by the SDK's writers."""


class Failed(Exception):
    """Raised when the benchmark itself went wrong, so that its figures would mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The time and memory that a process and its children used."""

    wall: float
    cpu: float
    """Seconds of processor time, user and system."""
    peak_mb: float
    """Peak memory of the largest of these processes."""
    code: int
    ended: bool
    """Whether it was ended because it took too long."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The memory, threads and files of a process at a moment; Linux only."""

    resident_mb: float
    threads: int
    files: int
    """Number of open files and connections."""


class Watch:
    """Takes samples of the process that a shim started, twice a second."""

    def __init__(self) -> None:
        """Begin without samples."""
        self.samples: list[Sample] = []
        self._over = threading.Event()

    def begin(self, shim: int) -> None:
        """Take samples from now on, in a thread."""
        threading.Thread(target=self._look, args=(shim,), daemon=True).start()

    def end(self) -> None:
        """Take no more samples."""
        self._over.set()

    def _look(self, shim: int) -> None:
        while not self._over.wait(0.5):
            with suppress(OSError, IndexError):  # the process has not begun, or has ended
                children = Path(f"/proc/{shim}/task/{shim}/children").read_text(encoding="ascii")
                process = Path("/proc", children.split()[0])
                status = (process / "status").read_text(encoding="utf-8")
                found = dict(line.split(":", 1) for line in status.splitlines())
                sample = Sample(
                    resident_mb=int(found["VmRSS"].split()[0]) / 1024,
                    threads=int(found["Threads"]),
                    files=len(list((process / "fd").iterdir())),
                )
                self.samples.append(sample)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory for what a process writes."""
    return tempfile.TemporaryDirectory(prefix="tap-pancake-benchmark-")


def run(
    command: Sequence[str | Path],
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    seconds: int = 600,
    watch: Watch | None = None,
) -> Usage:
    """Run a command in a directory; its output and log are in the files `out` and `log` there."""
    result = directory / "usage.json"
    shim = [sys.executable, "-I", "-S", str(SHIM), str(result), str(seconds)]
    with (directory / "out").open("wb") as out, (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*shim, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            cwd=directory,
            env=environment(directory) | dict(env or {}),
        )
        try:
            if watch:
                watch.begin(process.pid)
            process.wait()
        finally:
            if watch:
                watch.end()
            # No effect if it has ended. The shim ends the process that it started.
            process.terminate()
            process.wait()
    return Usage(**json.loads(result.read_text(encoding="utf-8")))


def succeeded(usage: Usage, directory: Path, what: str) -> Usage:
    """Return what a process used.

    Raises:
        Failed: The process ended with an error; the message has the end of its log.
    """
    if usage.code:
        log = (directory / "log").read_text(encoding="utf-8", errors="replace")
        message = f"{what} ended with code {usage.code}:\n{log[-3000:]}"
        raise Failed(message)
    return usage


def last_state(output: Path) -> Any:
    """Return the value of the last STATE that a run wrote, as a target would."""
    with output.open("rb") as file:
        states = [line for line in file if line.startswith(STATE_BEGINS)]
    if not states:
        message = "the tap wrote no STATE"
        raise Failed(message)
    return json.loads(states[-1])["value"]


def environment(directory: Path) -> dict[str, str]:
    """Return environment variables with a scratch directory, and no settings of other projects."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TAP_", "DLT_", "RUNTIME__", "EXTRACT__", "PYTHON"))
    }
    return kept | {"TMPDIR": str(directory), "DLT_DATA_DIR": str(directory / "dlt")}


class Server:
    """The bundled server in a process of its own; a context manager."""

    def __init__(self, data: Data) -> None:
        """Start it, and wait until it has invented its account."""
        self.data = data
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", data.as_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
        )
        hello = self._read()
        self.url: str = hello["url"]
        self.token: str = hello["token"]

    def ask(self, command: str) -> Any:
        """Send a command, and return the answer; see `benchmarks.server`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def truth(self, directory: Path) -> dict[str, set[tuple[str, ...]]]:
        """Return the keys of all rows, by stream."""
        file = directory / "truth.json"
        self.ask(f"truth {file}")
        keys = json.loads(file.read_text(encoding="utf-8"))
        file.unlink()
        return {stream: {tuple(key) for key in rows} for stream, rows in keys.items()}

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            message = "the server ended by itself"
            raise Failed(message)
        return json.loads(line)

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server by closing its input."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
