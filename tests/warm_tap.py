"""Runs of the tap that cost about 100 ms each, as forks of a process that has loaded it.

Each run is a process of its own, which a signal can end, and has its own clock. Waits take no time,
and a STATE is written as often as possible. `Scale` makes lists and batches short, so that few rows
fill several answers.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.forks import forks
from tests.tap import read_output

if TYPE_CHECKING:
    from tests.pancake_api import PancakeServer
    from tests.tap import Run

    Json = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """The page sizes of the server and of the tap."""

    rows: int = 60
    """The most rows of a list's answer."""
    messages: int = 30
    """The most messages of a batch."""

    def shrink_server(self, server: PancakeServer) -> None:
        """Make a server's answers short."""
        if self == Scale():
            return
        server.page_size = server.v1_page_size = self.rows
        for endpoint in ("customers", "posts", "call_logs", "ad_conversations"):
            server.desk.cuts[endpoint] = self.rows
        dialect: Any = type(server.dialect)()  # the others are shared by all servers
        dialect.first_batch = dialect.next_batch = self.messages
        server.dialect = dialect

    def shrink_tap(self) -> None:
        """Make the tap in this process expect short batches; it finds the size of lists itself."""
        from tap_pancake.reading import batches  # noqa: PLC0415 - in the tap's process only

        batches._SHORTEST_FULL = min(batches._SHORTEST_FULL, self.messages)  # noqa: SLF001


@dataclass(frozen=True)
class Job:
    """One run of the tap."""

    config: Json
    catalog: Json
    state: Json | None
    shift: float
    """Seconds by which its clock is ahead of the machine's."""
    scale: Scale
    directory: str
    """The directory for the files `stdout` and `stderr`."""

    def of(self, config: Json, state: Json | None = None) -> Job:
        """Return the same job with other settings and another state."""
        return replace(self, config=config, state=state)


class WarmTap:
    """Runs one job after the other."""

    def start(self, job: Job) -> int:
        """Begin a run, and return the id of its process."""
        files = [Path(job.directory, name) for name in ("stdout", "stderr")]
        with files[0].open("w") as stdout, files[1].open("w") as stderr:
            self._fork = forks().start({**vars(job), "scale": vars(job.scale)}, stdout, stderr)
        return self._fork.pid

    def wait(self) -> int:
        """Wait for the end of the run, and return its exit code."""
        return self._fork.wait()

    def finish(self, job: Job) -> Run:
        """Wait for the end of the run, and read its output."""
        code = self.wait()
        files = [Path(job.directory, name).read_text("utf-8") for name in ("stdout", "stderr")]
        return read_output(files[0], code, files[1])

    def run(self, job: Job) -> Run:
        """Run the tap to its end, with any exit code."""
        self.start(job)
        return self.finish(job)


def be_the_tap(job: Json) -> None:
    """Run the tap once in this process, and exit."""
    import time_machine  # noqa: PLC0415 - in the tap's process only
    from singer_sdk.singerlib import Catalog  # noqa: PLC0415

    from tap_pancake.api.errors import PancakeError  # noqa: PLC0415
    from tap_pancake.api.limits import Limiter  # noqa: PLC0415
    from tap_pancake.reading import state  # noqa: PLC0415
    from tap_pancake.running import interrupts  # noqa: PLC0415
    from tap_pancake.running import run as running  # noqa: PLC0415
    from tap_pancake.tap import TapPancake  # noqa: PLC0415

    running.STATE_INTERVAL = 0.0  # type: ignore[attr-defined] # imported there
    state.STATE_RATE = sys.maxsize
    interrupts._POLL_SECONDS = 0.005  # noqa: SLF001 - a whole run may take less time
    sleep, refused = time.sleep, Limiter.refused
    time.sleep = lambda seconds: sleep(min(float(seconds), 0.001))
    Limiter.refused = lambda self, call, _=0: refused(self, call)  # type: ignore[method-assign,assignment]
    Scale(**job["scale"]).shrink_tap()
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=job["shift"]), tick=True).start()
    code: Any = 0
    try:
        TapPancake(
            config=job["config"], catalog=Catalog.from_dict(job["catalog"]), state=job["state"]
        ).read_all()
    except PancakeError as error:
        TapPancake.logger.critical("%s", error)
        code = 1
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - should never happen; the exit code shows it
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    os._exit(code)
