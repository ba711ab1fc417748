"""The SDK's own standard tests, and what `singer-check-tap` says, on data of the bundled server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_pancake.tap import TapPancake
from tests.accounts import AROUND_MAY, MAY
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, run_process
from tests.tap import KEYS, full_config, select, sync

if TYPE_CHECKING:
    from pathlib import Path

# The SDK's tests are made when this module is read, so their server runs from then on; its threads
# are daemons.
SERVER = PancakeServer(Account.generate(seed=3, pages=2, conversations=12, **MAY)).start()


TestTapPancake = get_tap_test_class(
    TapPancake,
    config=full_config(SERVER, **AROUND_MAY),
    catalog=select(*KEYS),
    suite_config=SuiteConfig(max_records_limit=None),
    parse_env_config=False,
)
# Optional fields that the invented account has no value for are not worth a warning.
TestTapPancake.pytestmark = [  # type: ignore[attr-defined]
    pytest.mark.filterwarnings("ignore:Fields in transformed catalog but not in records"),
    pytest.mark.filterwarnings("ignore:No records were available to test"),
]

SINGER_CHECK_TAP = ROOT / ".venv-singer-tools" / "bin" / "singer-check-tap"


def test_singer_check_tap_finds_the_output_valid(tmp_path: Path) -> None:
    # In an environment of its own, since it needs the old package `backoff`.
    assert SINGER_CHECK_TAP.exists(), "scripts/test.sh installs singer-tools"
    with PancakeServer(Account.generate(seed=5, pages=2, conversations=20, **MAY)) as server:
        run = sync(tmp_path, full_config(server, **AROUND_MAY), catalog=select(*KEYS))
    assert run.records.keys() == KEYS.keys()
    check = run_process([SINGER_CHECK_TAP], given=run.stdout, cwd=tmp_path)
    assert check.returncode == 0, check.stdout + check.stderr
    assert "The output is valid" in check.stdout
