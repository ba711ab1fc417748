"""The command `tap-pancake`: errors that the user can act on are one line and exit code 1."""

# Nothing that is slow to load: until `main` begins, a signal ends the process as Python does.
# `signal` itself takes 8 ms, which its part in C does not.
import _signal  # type: ignore[import-not-found]
import gc
import io
import os
import sys

# Bytes of the output buffer. Python's own 8 KB hold only a few rows, and another thread would take
# over after each write.
_OUTPUT_BUFFER = 2**17
_SIGNALS = (_signal.SIGTERM, _signal.SIGINT)


def main() -> None:
    """Run the command line."""
    # Until the tap handles signals (`interrupts.py`): loading it takes a large part of a second.
    for signum in _SIGNALS:
        _signal.signal(signum, _end_at_once)
    # Loading the SDK makes no garbage, but Python would search for it dozens of times.
    gc.disable()
    from tap_pancake.api.errors import PancakeError  # noqa: PLC0415
    from tap_pancake.tap import TapPancake  # noqa: PLC0415

    gc.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = open(  # noqa: SIM115 - open until the process ends
            sys.stdout.fileno(),
            "w",
            _OUTPUT_BUFFER,
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
        # Keep the exit code. Before its end, Python restores the default handlers, with which a
        # signal would end the process.
        for signum in _SIGNALS:
            _signal.signal(signum, _signal.SIG_IGN)


def _end_at_once(signum: int, frame: object) -> None:  # noqa: ARG001
    """End the process, which has not read or written anything yet."""
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
