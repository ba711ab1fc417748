"""States of versions before coverage, of which none was released, are refused in one line.

`states/0.1.json` was written by such a version: by a run up to 4 May, and a second one up to 10 May
that SIGTERM ended in the middle of the first page's messages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.reading.state import check
from tests.pancake_api import Account, PancakeServer
from tests.tap import KEYS, REPLICATION_KEYS, config_for, log_lines, run_tap, select

if TYPE_CHECKING:
    from tests.tap import Json

STATES = sorted((Path(__file__).parent / "states").glob("*.json"))


NEWER = {"customer_feedbacks", "conversation_details", "ads"}
"""Streams that came after these versions."""


def state_in(path: Path) -> Json:
    state: Json = json.loads(path.read_text(encoding="utf-8"))
    return state


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_a_state_of_before_is_refused_in_one_line(tmp_path: Path, path: Path) -> None:
    """Before anything is asked for."""
    account = Account.generate(seed=71, pages=2, conversations=3)
    with PancakeServer(account) as server:
        run = run_tap(tmp_path, config_for(server), catalog=select(*KEYS), state=state_in(path))
        assert server.count() == 0
    assert run.returncode == 1
    assert not run.stdout
    assert "Traceback" not in run.stderr
    (line,) = log_lines(run, "CRITICAL")
    assert "a version whose state this version cannot read" in line
    assert "run once without state" in line


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_one_stream_of_such_a_state_is_enough(path: Path) -> None:
    """The others of it may have been read anew meanwhile."""
    for stream, bookmark in state_in(path)["bookmarks"].items():
        with pytest.raises(ConfigurationError, match=rf"stream {stream}\b.* a version whose state"):
            check({"bookmarks": {stream: bookmark}}, REPLICATION_KEYS)


def test_there_is_a_state_of_before_with_each_kind_of_place() -> None:
    assert STATES
    for path in STATES:
        bookmarks = state_in(path)["bookmarks"]
        assert bookmarks.keys() == KEYS.keys() - {"pages", "tags", "users"} - NEWER
        parts = [part for one in bookmarks.values() for part in one.get("partitions", [one])]
        assert {name for part in parts for name in part} >= {"replication_key_value", "resume"}
