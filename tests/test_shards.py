"""Several runs that share the pages of an account: nothing is lost, and nothing read twice."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.merge_states import merge
from tap_pancake.api.errors import ConfigurationError
from tap_pancake.running.shards import Shard
from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, Fault, PancakeServer
from tests.processes import ROOT, run_process
from tests.stream_truth import OTHERS, assert_same, records
from tests.tap import (
    KEYS,
    config_for,
    finish,
    full_config,
    log_lines,
    run_command,
    run_here,
    select,
    start_tap,
)
from tests.truth import assert_all_arrived, merged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable
    from pathlib import Path

    from tests.pancake_api import Page
    from tests.tap import Json, Run

START = datetime(2026, 3, 2, tzinfo=UTC)
ALL = select(*KEYS)


def shop(pages: int = 7) -> Account:
    """Return an account of a few days, whose pages spread over the shards."""
    account = Account.generate(
        seed=5, pages=pages, conversations=4, start=START, end=START + timedelta(days=3)
    )
    for page in account.pages[:pages]:
        next(iter(page.conversations.values())).ad_ids = [f"4{page.number:014d}"]
    return account


def settings_for(server: PancakeServer, **settings: Any) -> Json:
    dates = {"start_date": "2026-03-02T00:00:00Z", "end_date": "2026-03-05T00:00:00Z"}
    return full_config(server, **dates, **settings)


def run_shards(
    server: PancakeServer, shards: int, states: Iterable[Json] | None = None, **settings: Any
) -> list[Run]:
    """Run each of so many shards, of all streams."""
    states = [{}] * shards if states is None else list(states)
    return [
        run_here(
            settings_for(server, shard_index=index, shard_count=shards, **settings),
            catalog=ALL,
            state=states[index],
        )
        for index in range(shards)
    ]


def activated(account: Account) -> list[Page]:
    return [page for page in account.pages if page.category == "activated"]


def shard_of(page: Page, count: int) -> int:
    (index,) = (index for index in range(count) if Shard(index, count).has_page(page.id))
    return index


def pages_in(state: Json) -> set[str]:
    """Return the pages of which a state knows something."""
    return {
        partition["context"]["page_id"]
        for bookmark in state["bookmarks"].values()
        for partition in bookmark.get("partitions", [])
    }


# Which shard


@given(st.text(min_size=1), st.integers(min_value=1, max_value=2000))
def test_every_page_is_in_exactly_one_shard(page_id: str, count: int) -> None:
    assert sum(Shard(index, count).has_page(page_id) for index in range(count)) == 1


@pytest.mark.parametrize(
    ("page_id", "of_3", "of_5"),
    [("100000000000001", 0, 4), ("zl_100000000000002", 0, 4), ("igo_100000000000003", 0, 1)],
)
def test_a_page_stays_in_its_shard_for_ever(page_id: str, of_3: int, of_5: int) -> None:
    """Each new version of the tap must find a page where the last one left its state."""
    assert Shard(of_3, 3).has_page(page_id)
    assert Shard(of_5, 5).has_page(page_id)


def test_shards_are_of_about_the_same_size() -> None:
    ids = [str(100_000_000_000_000 + n) for n in range(10_000)]
    sizes = [sum(Shard(index, 8).has_page(page_id) for page_id in ids) for index in range(8)]
    assert sum(sizes) == len(ids)
    assert max(sizes) < 1.1 * len(ids) / 8


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"shard_index": 3, "shard_count": 3}, "setting `shard_index` must be less than"),
        ({"shard_index": 1}, "setting `shard_index` must be less than `shard_count`, which is 1"),
        ({"shard_index": -1, "shard_count": 3}, "setting `shard_index` must be 0 or more"),
        ({"shard_count": 0}, "setting `shard_count` must be 1 or more"),
        ({"shard_count": 2.5}, "setting `shard_count` must be"),
    ],
)
def test_a_shard_that_is_none_is_refused(settings: Json, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        TapPancake(config={"access_token": "invented", **settings})


# What is read


def test_all_shards_together_read_what_one_run_reads_row_for_row() -> None:
    account = shop()
    with PancakeServer(account) as server:
        (whole,) = run_shards(server, 1)
        shards = run_shards(server, 3)
        assert_all_arrived(server, *shards)
        for stream in OTHERS:
            assert_same(merged(stream, *shards), records(server, stream))
    assert [run.returncode for run in (whole, *shards)] == [0] * 4
    for stream in KEYS:
        rows = [Counter(json.dumps(row) for row in run.records.get(stream, [])) for run in shards]
        assert sum(rows, Counter()) == Counter(map(json.dumps, whole.records[stream])), stream
    for index, run in enumerate(shards):
        own = {page.id for page in activated(account) if shard_of(page, 3) == index}
        assert own, "the test needs a page in each shard"
        assert {row["id"] for row in run.records["pages"]} == own
        assert pages_in(run.state) == own


def test_a_page_is_asked_for_by_its_own_shard_only() -> None:
    account = shop()
    with PancakeServer(account) as server:
        for index in range(3):
            server.reset_calls()
            run_here(settings_for(server, shard_index=index, shard_count=3))
            asked = {call.page_id for call in server.calls if call.page_id}
            assert asked == {page.id for page in activated(account) if shard_of(page, 3) == index}


def test_page_ids_apply_before_shards() -> None:
    account = shop()
    chosen = [page.id for page in activated(account)[:4]]
    with PancakeServer(account) as server:
        runs = [
            run_here(
                settings_for(server, page_ids=[*chosen, "404"], shard_index=index, shard_count=3)
            )
            for index in range(3)
        ]
    read = [row["id"] for run in runs for row in run.records.get("pages", [])]
    assert sorted(read) == sorted(chosen)
    lines = [line for run in runs for line in log_lines(run, "ERROR")]
    assert len(lines) == 1
    assert "page 404 of `page_ids` is not in this account" in lines[0]
    assert sorted(run.returncode for run in runs) == [0, 0, 1]


def test_a_shard_without_a_page_ends_well_and_says_nothing_of_the_account() -> None:
    account = shop(pages=1)
    empty = 1 - shard_of(activated(account)[0], 2)
    with PancakeServer(account) as server:
        run = run_here(settings_for(server, shard_index=empty, shard_count=2))
    assert run.returncode == 0
    assert not run.records
    assert not log_lines(run, "WARNING")


def test_the_test_is_of_the_pages_of_the_shard(tmp_path: Path) -> None:
    account = shop(pages=3)
    with PancakeServer(account) as server:
        config = settings_for(server, shard_index=1, shard_count=2)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        run = run_command("--test", "--config", str(path))
    own = [page.id for page in activated(account) if shard_of(page, 2) == 1]
    assert f"Pages to read in shard 1 of 2: {len(own)}" in run.stdout
    assert [line.split()[1] for line in run.stdout.splitlines() if line.startswith("page ")] == own
    assert "all pages together" not in run.stdout


# State


def test_a_shard_forgets_what_others_go_on_with() -> None:
    """An old bookmark that it passed on could later look like a new one."""
    account = shop()
    with PancakeServer(account) as server:
        (whole,) = run_shards(server, 1)
        shards = run_shards(server, 3, [whole.state] * 3)
    for index, run in enumerate(shards):
        own = {page.id for page in activated(account) if shard_of(page, 3) == index}
        assert pages_in(run.state) == own
        known = run.state["bookmarks"].get("multi_page_user_statistics", {})
        assert ("replication_key_value" in known) is (index == 0)
    assert bookmarks_of(merge([run.state for run in shards])) == bookmarks_of(whole.state)


def test_what_this_version_does_not_know_stays_in_one_shard() -> None:
    parts = [{"context": {"page_id": str(n)}} for n in range(9)]
    newer = {"partitions": [*parts, {"context": {}}], "replication_key_value": "x"}
    states: list[Json] = [{"bookmarks": {"tags": {}, "newer": dict(newer)}} for _ in range(3)]
    for index, state in enumerate(states):
        Shard(index, 3).keep(state)
    kept = [part for state in states for part in state["bookmarks"]["newer"]["partitions"]]
    assert sorted(map(str, kept)) == sorted(map(str, newer["partitions"]))
    assert merge(states)["bookmarks"]["newer"]["replication_key_value"] == "x"


def bookmarks_of(state: Json) -> dict[tuple[str, str | None], Json]:
    """Return what a state says of each stream and page, but for what a page learnt from others."""
    return {
        (stream, part.get("context", {}).get("page_id")): {
            **part,
            "sorts": None,
            "filters": None,
            "whole": None,
            "late": None,
        }
        for stream, bookmark in state["bookmarks"].items()
        for part in [bookmark, *bookmark.get("partitions", [])]
        if "partitions" not in part
    }


def test_states_that_know_the_same_are_not_merged() -> None:
    part = {"context": {"page_id": "1"}}
    one: Json = {"bookmarks": {"tags": {"partitions": [part]}}}
    with pytest.raises(ValueError, match="two states have the stream tags of page 1"):
        merge([one, one])
    total: Json = {"bookmarks": {"multi_page_user_statistics": {"replication_key_value": "x"}}}
    with pytest.raises(ValueError, match="two states have the stream multi_page_user"):
        merge([total, total])


def in_files(directory: Path, states: Iterable[Json]) -> list[str]:
    """Write states as `meltano state get` does."""
    directory.mkdir()
    paths = []
    for number, state in enumerate(states):
        path = directory / f"{number}.json"
        path.write_text(json.dumps({"singer_state": state}), encoding="utf-8")
        paths.append(str(path))
    return paths


def merge_files(*paths: str) -> subprocess.CompletedProcess[str]:
    return run_process([sys.executable, ROOT / "orchestrate" / "merge_states.py", *paths])


def test_three_shards_become_five_in_the_middle_of_the_history(tmp_path: Path) -> None:
    """One shard is done, one failed at a page, and one was ended in the middle of its pages."""
    account = shop(pages=12)
    done, failing, ended = (
        [page for page in activated(account) if shard_of(page, 3) == index] for index in range(3)
    )
    assert min(map(len, (done, failing, ended))) > 1
    with PancakeServer(account) as server:
        server.faults = [Fault("error:104", endpoint="messages", page_id=failing[0].id, at={3})]
        before = [
            run_here(config_for(server, shard_index=index, shard_count=3)) for index in range(2)
        ]
        assert [run.returncode for run in before] == [0, 1]
        config = config_for(server, shard_index=2, shard_count=3, max_parallel_pages=1)
        process = start_tap(tmp_path, config)
        last = ended[-1]
        calls_of_last = count()
        server.on_call = lambda call: (
            process.send_signal(signal.SIGTERM)
            if call.page_id == last.id and next(calls_of_last) == 1
            else None
        )
        before.append(finish(process))
        server.on_call = None
        assert before[2].returncode == 143
        unread = {page.id for page in activated(account)} - {
            partition["context"]["page_id"]
            for run in before
            for partition in run.state["bookmarks"]["messages"]["partitions"]
            if "replication_key_value" in partition and not partition.get("open")
        }
        assert unread == {failing[0].id, last.id}

        active = activated(account)[1]
        active.receive(next(iter(active.conversations)))
        files = in_files(tmp_path / "states", [run.state for run in before])
        state = json.loads(merge_files(*files).stdout)["singer_state"]
        server.reset_calls()
        after = [
            run_here(config_for(server, shard_index=index, shard_count=5), state=state)
            for index in range(5)
        ]
        assert [run.returncode for run in after] == [0] * 5
        assert_all_arrived(server, *before, *after)
        again = {call.page_id for call in server.calls if call.endpoint == "messages"}
    assert again == unread | {active.id}
    assert [pages_in(run.state) for run in after] == [
        {page.id for page in activated(account) if shard_of(page, 5) == index} for index in range(5)
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("no JSON", "Expecting value"),
        ('{"bookmarks": {}}', "a file is not a state from `meltano state get`"),
        ("[]", "a file is not a state from `meltano state get`"),
    ],
)
def test_what_is_no_state_is_not_merged(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = merge_files(str(path))
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert problem in line


def test_a_shard_without_state_is_merged_and_told(tmp_path: Path) -> None:
    files = in_files(tmp_path / "states", [{"bookmarks": {"tags": {"partitions": []}}}])
    empty = tmp_path / "empty.json"
    empty.write_text("{}", encoding="utf-8")
    done = merge_files(*files, str(empty))
    assert done.returncode == 0, done.stderr
    assert f"{empty} is empty: is its state id right?" in done.stderr
    merged_state = json.loads(done.stdout)["singer_state"]
    assert merged_state == {"bookmarks": {"tags": {"partitions": []}}}
