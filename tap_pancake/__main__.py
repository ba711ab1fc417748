"""The command `tap-pancake`: every end that the user can act on is one line and an exit code."""

from __future__ import annotations

import sys

from tap_pancake.errors import PancakeError
from tap_pancake.tap import TapPancake


def main() -> None:
    """Run the command line."""
    try:
        TapPancake.cli()
    except PancakeError as exc:
        TapPancake.logger.critical("%s", exc)
        sys.exit(1)


if __name__ == "__main__":
    main()
