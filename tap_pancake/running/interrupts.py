"""SIGTERM and SIGINT: end soon, between two lines of output and never inside of one.

Python gives signals to the main thread. While a run goes on, that thread only waits in `wait`, so
the handler need not interrupt anything; how the run is ended is in `lanes.py`. A signal some
seconds after the first one ends the process at once, whatever it is doing.
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

# A process that a signal ended has by convention this much on top of the signal's number.
_SIGNAL_EXIT = 128
# Seconds: the system may give a signal to any thread, and Python's main thread, which alone runs
# handlers, then only learns of it when it wakes up.
_LOOK = 0.2
# Seconds after the first signal; sooner ones are of those who stop a pipeline, and tell each part.
_HELD_UP = 3.0


class Interrupted(SystemExit):
    """The run was told to end. Its code is 143 for SIGTERM and 130 for SIGINT.

    A SystemExit, since nothing failed and nobody should catch it as an error.
    """

    def __init__(self, signum: int) -> None:
        """Take the number of the signal."""
        super().__init__(_SIGNAL_EXIT + signum)
        self.name = signal.Signals(signum).name


class Interrupts:
    """Whether a run has ended, or was told to."""

    def __init__(self) -> None:
        """Begin undisturbed."""
        self._under_way = False
        self._interrupted: float | None = None
        self._told: SimpleQueue[BaseException | None] = SimpleQueue()

    def handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass a signal on to who waits for the run; a later one ends the process at once.

        Raises:
            Interrupted: no run is under way.
        """
        if not self._under_way:
            raise Interrupted(signum)
        now = time.monotonic()
        if self._interrupted is not None and now - self._interrupted > _HELD_UP:
            # The end is held up, as by a target that does not read.
            os._exit(_SIGNAL_EXIT + signum)
        self._interrupted = self._interrupted or now
        self.tell(Interrupted(signum))

    def begin(self) -> None:
        """Say that a run begins, which `wait` waits for."""
        self._under_way = True

    def tell(self, outcome: BaseException | None) -> None:
        """Say that the run has ended, and with what it raised; for any thread or handler."""
        self._told.put(outcome)

    def wait(self, meanwhile: Callable[[], object]) -> None:
        """Wait for the end of the run, or for a signal.

        Args:
            meanwhile: is called some times a second.

        Raises:
            Interrupted: a signal came.
            BaseException: what the run raised.
        """
        outcome: BaseException | None = None
        while True:
            with suppress(Empty):
                outcome = self._told.get(timeout=_LOOK)
                break
            meanwhile()
        if outcome is not None:
            raise outcome
