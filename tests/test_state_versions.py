"""A state file of every released shape still loads, and the next run goes on from it.

`states/0.1.json` was written by version 0.1: by a run up to 4 May, and a second one up to 10 May
that SIGTERM ended in the middle of the first page's messages. Such a file is never written again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import OTHERS, records
from tests.tap import KEYS, REPLICATION_KEYS, config_for, select, sync
from tests.truth import rows_of

if TYPE_CHECKING:
    from tests.tap import Json

STATES = sorted((Path(__file__).parent / "states").glob("*.json"))


def account() -> Account:
    """The account whose state the files are."""
    start, end = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 9, tzinfo=UTC)
    return Account.generate(
        seed=71, pages=2, conversations=30, messages=(1, 40), start=start, end=end
    )


def settings_of(server: PancakeServer) -> Json:
    packages = {page.id: page.belongings.sip_package_id for page in server.account.pages}
    return config_for(
        server, sip_package_ids=packages, start_date="2026-05-01", end_date="2026-05-10"
    )


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_a_run_goes_on_from_a_state_that_was_released(tmp_path: Path, path: Path) -> None:
    state = json.loads(path.read_text(encoding="utf-8"))
    places = {stream: places_of(bookmark) for stream, bookmark in state["bookmarks"].items()}
    with PancakeServer(account()) as server:
        run = sync(tmp_path, settings_of(server), catalog=select(*KEYS), state=state)
        truth = rows_of(server) | {stream: records(server, stream) for stream in OTHERS}
    for stream, rows in truth.items():
        arrived = run.by_key(stream).keys()
        key = REPLICATION_KEYS[stream]
        due = {
            name
            for name, row in rows.items()
            if key is None or row[key] >= places[stream].get(row.get("page_id"), "")
        }
        assert due <= arrived, stream
        assert key is None or arrived < rows.keys(), f"{stream} began again"
    assert "resume" not in json.dumps(run.state)
    assert run.state["bookmarks"].keys() >= state["bookmarks"].keys()


def places_of(bookmark: Json) -> dict[str | None, str]:
    """Give what a stream's state says has been read of each page."""
    return {
        part.get("context", {}).get("page_id"): part.get("resume", {}).get("reached")
        or part.get("replication_key_value", "")
        for part in bookmark.get("partitions", [bookmark])
    }


def test_every_kind_of_state_is_in_the_files() -> None:
    assert STATES
    for path in STATES:
        bookmarks = json.loads(path.read_text(encoding="utf-8"))["bookmarks"]
        assert bookmarks.keys() == KEYS.keys() - {"pages", "tags", "users"}
        parts = [part for one in bookmarks.values() for part in one.get("partitions", [one])]
        assert {name for part in parts for name in part} >= {"replication_key_value", "resume"}
