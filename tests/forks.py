"""Runs of the tap that start at once, as forks of a process that has loaded it.

Loading the tap takes half a second, which is too long for thousands of runs. Each run is still a
process of its own, with its own arguments, environment and signals, and ends as Python does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

_NAME = "tap-pancake"
MOST = 1 << 20
"""The most bytes of a job."""


class Forks:
    """The process that forks the runs; it ends with the process that started it."""

    def __init__(self) -> None:
        """Start the process, and wait until it has loaded the tap."""
        self._directory = tempfile.TemporaryDirectory()
        self._address = str(Path(self._directory.name, "forks"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", self._address], stdin=subprocess.PIPE, text=True
        )
        atexit.register(self.close)
        while not Path(self._address).exists():
            assert self._process.poll() is None
            time.sleep(0.01)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._directory.cleanup()

    def start(self, job: Json, stdout: TextIO, stderr: TextIO) -> Fork:
        """Start a run of a `warm_tap.Job`, or with arguments and an environment."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(self._address)
        socket.send_fds(link, [json.dumps(job).encode()], [stdout.fileno(), stderr.fileno()])
        return Fork(int(link.recv(99)), link)


class Fork:
    """One run of the tap."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        """Take the run's process.

        Args:
            pid: The id of the process.
            link: The socket that sends the exit code.
        """
        self.pid = pid
        self._link = link

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            TimeoutError: The run did not end.
        """
        self._link.settimeout(timeout)
        code = int(self._link.recv(99))
        self._link.close()
        return code


@cache
def forks() -> Forks:
    """Return the process that all tests of this process share."""
    return Forks()


def run(
    arguments: Sequence[str], env: Mapping[str, str], timeout: float, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `tap-pancake` to its end.

    Args:
        arguments: The arguments of the command line.
        env: The whole environment.
        timeout: Seconds.
        first: Python code that runs before the tap.

    Raises:
        subprocess.TimeoutExpired: The run did not end, and was killed; it has the output.
    """
    job = {
        "arguments": [*arguments],
        "env": {**env},
        "directory": str(Path.cwd()),
        "first": first,
    }
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as stdout,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as stderr,
    ):
        fork = forks().start(job, stdout, stderr)
        try:
            code = fork.wait(timeout)
        except TimeoutError:
            os.kill(fork.pid, signal.SIGKILL)
            fork.wait()
            code = None
        for file in (stdout, stderr):
            file.seek(0)
        texts = stdout.read(), stderr.read()
        if code is None:
            raise subprocess.TimeoutExpired(_NAME, timeout, *texts)
        return subprocess.CompletedProcess([_NAME], code, *texts)


# The process itself.


def _serve(address: str) -> Json:
    """Fork a child for each job that comes, until standard input ends; return in a child only."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Otherwise each child looks through all loaded objects at its end, and copies their memory,
    # which would be most of the cost of a short run.
    gc.collect()
    gc.freeze()
    children: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(f"{address}.")
        door.listen(128)
        Path(f"{address}.").rename(address)
        while True:
            ready, _, _ = select.select([sys.stdin, door, woken], [], [])
            if sys.stdin in ready:
                os._exit(0)
            if woken in ready:
                os.read(woken, 99)
            while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                with children.pop(pid) as link:
                    link.send(str(os.waitstatus_to_exitcode(status)).encode())
            if door not in ready:
                continue
            link, _ = door.accept()
            text, files, _, _ = socket.recv_fds(link, MOST, 2)
            if pid := os.fork():
                for file in files:
                    os.close(file)
                link.send(str(pid).encode())
                children[pid] = link
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (*children.values(), link):
                other.close()
            for number, file in zip((1, 2), files, strict=True):
                os.dup2(file, number)
                os.close(file)
            os.close(woken)
            os.close(wake)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return dict(json.loads(text))


def _be_the_tap(job: Json) -> None:
    if "scale" in job:
        from tests import warm_tap  # noqa: PLC0415 - in the tap's process only

        warm_tap.be_the_tap(job)
    os.chdir(job["directory"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    exec(job["first"], {})
    sys.argv = [_NAME, *job["arguments"]]
    main()


if __name__ == "__main__":
    # time_machine loads pytest if it can, and each run would then have to clean it up.
    sys.modules["pytest"] = None  # type: ignore[assignment]
    import time_machine  # noqa: F401 - of runs at another time
    from singer_sdk.configuration import _dict_config

    # The SDK looks for a `.env` in the directories above its own, where the developer's may be.
    _dict_config.find_dotenv = lambda *_: ""  # type: ignore[attr-defined] # imported there
    from tap_pancake.__main__ import main

    del sys.modules["pytest"]
    _be_the_tap(_serve(sys.argv[1]))
