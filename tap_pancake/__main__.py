"""The command `tap-pancake`: every end that the user can act on is one line and an exit code."""

from __future__ import annotations

import gc
import io
import sys

# Loading the SDK makes no garbage, but Python looks for it dozens of times meanwhile.
gc.disable()

from tap_pancake.api.errors import PancakeError  # noqa: E402
from tap_pancake.tap import TapPancake  # noqa: E402

gc.enable()


# Bytes of output that are written at a time. Python's own 8 KB are a few rows, after which another
# thread takes over.
_AT_A_TIME = 2**17


def main() -> None:
    """Run the command line."""
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


if __name__ == "__main__":
    main()
