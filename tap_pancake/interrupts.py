"""SIGTERM and SIGINT: end soon, between two lines of output and never inside of one.

The handler only sets a flag, so that no record or STATE is torn. A wait of the network, the limiter
or a backoff may last a minute, so inside of `Interrupts.waiting` (and nowhere else) the handler
raises at once: what is given up there is an answer that nobody has seen yet.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# A process that a signal ended has by convention this much on top of the signal's number.
_SIGNAL_EXIT = 128


class Interrupted(SystemExit):
    """The run was told to end. Its code is 143 for SIGTERM and 130 for SIGINT.

    A SystemExit, since nothing failed and nobody should catch it as an error.
    """


class Interrupts:
    """Whether the run was told to end, and where it may stop."""

    def __init__(self) -> None:
        """Begin undisturbed."""
        self._signal: int | None = None
        self._waiting = False

    def handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the signal; raise only out of a wait."""
        self._signal = signum
        if self._waiting:
            self._waiting = False
            raise Interrupted(_SIGNAL_EXIT + signum)

    def check(self) -> None:
        """Stop here if a signal came.

        Raises:
            Interrupted: one did.
        """
        if self._signal is not None:
            raise Interrupted(_SIGNAL_EXIT + self._signal)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a stretch that only waits and may be given up at any moment.

        Raises:
            Interrupted: a signal came before or meanwhile.
        """
        outer, self._waiting = self._waiting, True
        try:
            self.check()
            yield
        finally:
            self._waiting = outer
