"""SIGTERM and SIGINT: end the run soon, between two lines of output and never inside a line.

Python runs signal handlers in the main thread. During a run, that thread only waits in `wait`, so
the handler does not interrupt any work; `lanes.py` describes how the run ends. A signal some
seconds after the first one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNAL_EXIT = 128
"""By convention, the exit code after a signal is this plus the number of the signal."""
# Seconds between two checks in `wait`. The system may deliver a signal to any thread, but only
# Python's main thread runs handlers, and only when it wakes up.
_POLL_SECONDS = 0.2
# Seconds after the first signal in which more signals do not end the process: a tool that stops a
# pipeline may send several.
_GRACE = 3.0


class Interrupted(SystemExit):
    """A signal ended the run. The exit code is 143 for SIGTERM and 130 for SIGINT.

    A SystemExit, because nothing failed and no code should handle it as an error.
    """

    def __init__(self, signum: int) -> None:
        """Set the exit code and name of a signal, given its number."""
        super().__init__(SIGNAL_EXIT + signum)
        self.name = signal.Signals(signum).name


class Interrupts:
    """The end of a run: its result, or a signal."""

    def __init__(self) -> None:
        """Start without a run."""
        self._is_running = False
        self._interrupted_at: float | None = None
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()

    def handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass a signal to `wait`; a second one after the grace period ends the process at once.

        Raises:
            Interrupted: no run has started.
        """
        if not self._is_running:
            raise Interrupted(signum)
        now = time.monotonic()
        if self._interrupted_at is not None and now - self._interrupted_at > _GRACE:
            # Something blocks the end of the run, such as a target that does not read.
            os._exit(SIGNAL_EXIT + signum)
        self._interrupted_at = self._interrupted_at or now
        self.report_end(Interrupted(signum))

    def begin(self) -> None:
        """Start a run, for which `wait` waits."""
        self._is_running = True

    def report_end(self, outcome: BaseException | None) -> None:
        """Report the end of the run, with its exception or None; from any thread or handler."""
        self._outcomes.put(outcome)

    def wait(self, meanwhile: Callable[[], object]) -> None:
        """Wait for the end of the run, or for a signal.

        Args:
            meanwhile: called several times per second.

        Raises:
            Interrupted: a signal arrived.
            BaseException: the exception of the run.
        """
        outcome: BaseException | None = None
        while True:
            with suppress(Empty):
                outcome = self._outcomes.get(timeout=_POLL_SECONDS)
                break
            meanwhile()
        if outcome is not None:
            raise outcome
