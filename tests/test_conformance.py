"""What the output of every stream must keep to, and what checking tools are known to miss."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tap_pancake.rows import times
from tests.accounts import AROUND_MAY, DIALECTS, MAY
from tests.pancake_api import Account, PancakeServer
from tests.tap import KEYS, REPLICATION_KEYS, full_config, patched, select, sync
from tests.targets import TARGET_CSV, csv_rows, run_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json, Run

STATE_AT_EVERY_TURN = (
    "from tap_pancake.reading import state\nstate.STATE_INTERVAL, state.STATE_RATE = 0.0, 1e12\n"
)


@pytest.fixture(name="runs", scope="module", params=DIALECTS)
def two_runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Run]:
    """A first run of all streams and one that goes on from it, with as many STATEs as can be."""
    directory = tmp_path_factory.mktemp("runs")
    env = patched(directory / "env", STATE_AT_EVERY_TURN)
    account = Account.generate(seed=81, pages=3, conversations=15, messages=(1, 40), **MAY)
    with PancakeServer(account, request.param) as server:
        options = {"catalog": select(*KEYS), "env": env}
        first = sync(directory, full_config(server, **AROUND_MAY), **options)
        for page in account.pages[:3]:
            page.receive(next(iter(page.conversations)), at=MAY["end"])
        second = sync(directory, full_config(server, **AROUND_MAY), state=first.state, **options)
    return first, second


def test_every_stream_has_rows_to_be_looked_at(runs: tuple[Run, Run]) -> None:
    assert runs[0].records.keys() == KEYS.keys()


def test_a_schema_comes_once_and_before_the_records(runs: tuple[Run, Run]) -> None:
    for run in runs:
        seen = Counter[str]()
        for message in messages_of(run):
            if message["type"] == "SCHEMA":
                seen[message["stream"]] += 1
                assert message["key_properties"] == list(KEYS[message["stream"]])
            elif message["type"] == "RECORD":
                assert seen[message["stream"]], "a RECORD came before its SCHEMA"
        assert set(seen.values()) == {1}


def test_a_key_comes_once_in_a_run_and_is_never_null(runs: tuple[Run, Run]) -> None:
    for run in runs:
        for stream in run.records:
            assert not run.repeated(stream), stream
            for key in run.by_key(stream):
                assert None not in key, stream


def test_the_state_is_small_and_has_nothing_of_the_sdk_in_it(runs: tuple[Run, Run]) -> None:
    for run in runs:
        for state in run.states:
            for bookmark in state.get("bookmarks", {}).values():
                partitions = bookmark.get("partitions", [])
                contexts = [tuple(part["context"]) for part in partitions]
                assert set(contexts) <= {("page_id",)}
                assert len(partitions) <= 3
            text = json.dumps(state)
            assert "progress_marker" not in text
            assert "starting_replication_value" not in text
            assert "signpost" not in text


def test_no_bookmark_ever_moves_back_or_is_lost(runs: tuple[Run, Run]) -> None:
    before: dict[tuple[str, str | None], str] = {}
    states = [state for run in runs for state in run.states]
    assert len(states) > 50
    for state in states:
        now = dict(bookmarks_in(state))
        assert before.keys() <= now.keys()
        assert all(now[place] >= value for place, value in before.items())
        before = now
    streams = {stream for stream, key in REPLICATION_KEYS.items() if key is not None}
    # `ads` has none of its own, but that of the list of conversations.
    assert {stream for stream, _ in before} == streams | {"ads"}


def bookmarks_in(state: Json) -> Iterator[tuple[tuple[str, str | None], str]]:
    for stream, bookmark in state.get("bookmarks", {}).items():
        for part in bookmark.get("partitions", [bookmark]):
            if "replication_key_value" in part:
                page = part.get("context", {}).get("page_id")
                yield (stream, page), part["replication_key_value"]


def messages_of(run: Run) -> Iterator[Json]:
    for line in run.stdout.splitlines():
        yield json.loads(line)


def test_all_rows_load_into_csv_files(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=82, pages=2, conversations=10, **MAY)) as server:
        run = sync(tmp_path, full_config(server, **AROUND_MAY), catalog=select(*KEYS))
    settings = {"output_path": str(tmp_path / "csv"), "file_naming_scheme": "{stream_name}.csv"}
    run_target(TARGET_CSV, tmp_path, settings, run.stdout)
    loaded = csv_rows(tmp_path / "csv")
    for stream, keys in KEYS.items():
        rows = loaded[stream]
        arrived = {tuple(row[name] for name in keys): row for row in rows}
        written = run.by_key(stream)
        assert len(rows) == len(written), stream
        assert arrived.keys() == {tuple(map(str, key)) for key in written}, stream
        for key, row in written.items():
            for name, schema in run.schemas[stream]["properties"].items():
                if schema.get("format") == "date-time" and row.get(name):
                    at = datetime.fromisoformat(arrived[tuple(map(str, key))][name])
                    assert times.text(at) == row[name], (stream, name)
                elif schema["type"] == ["string", "null"]:
                    assert arrived[tuple(map(str, key))][name] == (row.get(name) or "")
