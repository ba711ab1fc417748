"""The command `tap-pancake`: every end that the user can act on is one line and an exit code."""

from __future__ import annotations

import gc
import sys

# Loading the SDK makes no garbage, but Python looks for it dozens of times meanwhile.
gc.disable()

from tap_pancake.api.errors import PancakeError  # noqa: E402
from tap_pancake.tap import TapPancake  # noqa: E402

gc.enable()


def main() -> None:
    """Run the command line."""
    try:
        TapPancake.cli()
    except PancakeError as exc:
        TapPancake.logger.critical("%s", exc)
        sys.exit(1)


if __name__ == "__main__":
    main()
