"""The SDK's own standard tests, and what `singer-check-tap` says, on data of the bundled server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, run_process
from tests.tap import KEYS, config_for, select, sync

if TYPE_CHECKING:
    from pathlib import Path

# The SDK's tests are made when this module is read, so their server runs from then on; its threads
# are daemons.
MAY: Any = {"start": datetime(2026, 5, 1, tzinfo=UTC), "end": datetime(2026, 5, 9, tzinfo=UTC)}
SETTINGS: dict[str, Any] = {"start_date": "2026-05-01", "end_date": "2026-05-10"}
SERVER = PancakeServer(Account.generate(seed=3, pages=2, conversations=12, **MAY)).start()


def settings_of(server: PancakeServer) -> dict[str, Any]:
    """Return settings with which every stream has something to read."""
    pages = server.account.pages
    packages = {page.id: page.belongings.sip_package_id for page in pages}
    return config_for(server, sip_package_ids=packages, **SETTINGS)


TestTapPancake = get_tap_test_class(
    TapPancake,
    config=settings_of(SERVER),
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
        run = sync(tmp_path, settings_of(server), catalog=select(*KEYS))
    assert run.records.keys() == KEYS.keys()
    check = run_process([SINGER_CHECK_TAP], given=run.stdout, cwd=tmp_path)
    assert check.returncode == 0, check.stdout + check.stderr
    assert "The output is valid" in check.stdout
