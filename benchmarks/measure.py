"""Runs a process and says what it used, beside a server that says what was asked of it."""

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
"""How a line with a STATE begins, as the SDK's writers format it."""


class Failed(Exception):
    """Something in the benchmark itself went wrong: its figures would mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a process used, its own children included."""

    wall: float
    cpu: float
    """Seconds of processor time, user and system."""
    peak_mb: float
    """Of the largest process among them."""
    code: int
    ended: bool
    """Whether it was ended for taking too long."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How a process was at a moment; Linux only."""

    resident_mb: float
    threads: int
    files: int
    """Open files and connections."""


class Watch:
    """Looks at the process that a shim started, twice a second."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.samples: list[Sample] = []
        self._over = threading.Event()

    def begin(self, shim: int) -> None:
        """Look from now on, in a thread of its own."""
        threading.Thread(target=self._look, args=(shim,), daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self, shim: int) -> None:
        while not self._over.wait(0.5):
            with suppress(OSError, IndexError):  # it has not begun, or has ended
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
    """Make a directory on disk for what a process writes; it is removed at the end."""
    return tempfile.TemporaryDirectory(prefix="tap-pancake-benchmark-")


def run(
    command: Sequence[str | Path],
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    seconds: int = 600,
    watch: Watch | None = None,
) -> Usage:
    """Run a command in a directory, with its output and log in the files `out` and `log` there."""
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
            # Does nothing to one that has ended; the shim ends what it started.
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
    """Return the process's variables without other projects' settings and a scratch directory."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TAP_", "DLT_", "RUNTIME__", "EXTRACT__", "PYTHON"))
    }
    return kept | {"TMPDIR": str(directory), "DLT_DATA_DIR": str(directory / "dlt")}


class Server:
    """The bundled server as a process of its own, as a context manager."""

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
        """Return it a command, see `benchmarks.server`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def truth(self, directory: Path) -> dict[str, set[tuple[str, ...]]]:
        """Ask for the keys of all rows, by stream."""
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
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it: it stops with its input."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
