"""A backfill brings everything that the server holds, once, in every dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake import times
from tests.pancake_api import Account, PancakeServer
from tests.tap import config_for, sync

if TYPE_CHECKING:
    from pathlib import Path

DIALECTS = ("observed", "documented", "older")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_everything_arrives_once(tmp_path: Path, dialect: str) -> None:
    account = Account.generate(seed=11, pages=4, conversations=130, messages=(1, 80))
    with PancakeServer(account, dialect) as server:
        run = sync(tmp_path, config_for(server))
        truth = server.expected()

        assert run.by_key("pages").keys() == {(page_id,) for page_id in truth.pages}
        assert run.by_key("conversations").keys() == truth.conversations.keys()
        assert run.by_key("messages").keys() == truth.messages.keys()
        assert not [run.repeated(stream) for stream in run.records if run.repeated(stream)]
        assert server.violations == []
