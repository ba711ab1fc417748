"""The command `tap-pancake`: every end that the user can act on is one line and an exit code."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Bytes of output that are written at a time. Python's own 8 KB are a few rows, after which another
# thread takes over.
_AT_A_TIME = 2**17
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Run the command line."""
    # Until the tap handles them, see `interrupts.py`: loading it takes a good part of a second.
    for signum in _SIGNALS:
        signal.signal(signum, _end_at_once)
    # Loading the SDK makes no garbage, but Python looks for it dozens of times meanwhile.
    gc.disable()
    from tap_pancake.api.errors import PancakeError  # noqa: PLC0415
    from tap_pancake.tap import TapPancake  # noqa: PLC0415

    gc.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = open(  # noqa: SIM115 - for as long as the process is there
            sys.stdout.fileno(),
            "w",
            _AT_A_TIME,
            encoding=sys.stdout.encoding,
            errors=sys.stdout.errors,
            closefd=False,
        )
    try:
        TapPancake.cli()
    except PancakeError as exc:
        TapPancake.logger.critical("%s", exc)
        sys.exit(1)
    finally:
        # The exit code is settled. Python gives signals back to the system before its own end,
        # which would then be one by a signal.
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def _end_at_once(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """End before anything was read or written."""
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
