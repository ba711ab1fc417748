"""`sync_runs`: each run accounts for what it did of each page, and the log says the same."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tap_pancake.running.account import ACCOUNT
from tap_pancake.running.shards import shard_of
from tap_pancake.streams import STREAMS
from tests.accounts import AROUND_MAY, DIALECTS, MAY
from tests.pancake_api import Account, Fault, PancakeServer
from tests.tap import (
    INBOX,
    NO_CATALOG,
    Run,
    config_for,
    finish,
    full_config,
    hurried,
    log_lines,
    metadata_of,
    number,
    run_tap,
    select,
    start_tap,
    sync,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Call
    from tests.pancake_api.account import Page
    from tests.tap import Json

RUNS = (*INBOX, "sync_runs")


def rows_by_page(run: Run) -> dict[str, Json]:
    """Return the rows of a run, by page; each has just one."""
    rows = run.records["sync_runs"]
    assert len({row["run_id"] for row in rows}) == 1
    assert len({row["page_id"] for row in rows}) == len(rows)
    run.check_records()
    return {row["page_id"]: row for row in rows}


def by_stream(row: Json) -> dict[str, Json]:
    return {one["name"]: one for one in row["streams"]}


def read(account: Account) -> list[Page]:
    """Return the pages that are in use, as the tap reads them."""
    return [page for page in account.pages if page.category == "activated"]


def made(server: PancakeServer, page_id: str | None) -> int:
    return sum(call.page_id == page_id for call in server.calls)


def assert_account(server: PancakeServer, run: Run) -> dict[str, Json]:
    """Compare the account with what the server counted, what was written, and what the log says."""
    rows = rows_by_page(run)
    for page_id, row in rows.items():
        assert row["calls"] == made(server, None if page_id == ACCOUNT else page_id), page_id
        assert row["calls"] == sum(one["calls"] for one in row["streams"])
        assert row["row_count"] == sum(one["row_count"] for one in row["streams"])
    written = {name: len(found) for name, found in run.records.items() if name != "sync_runs"}
    counts: Counter[str] = Counter()
    for row in rows.values():
        counts.update({name: one["row_count"] for name, one in by_stream(row).items()})
    assert {name: count for name, count in counts.items() if count} == written
    (line,) = [
        line for line in log_lines(run, "INFO") if re.search(r", [\d,]+ answers? 429$", line)
    ]
    found = re.search(r": ([\d,]+) rows?, ([\d,]+) calls?, ([\d,]+) answers? 429", line)
    assert found is not None
    assert [number(figure) for figure in found.groups()] == [
        sum(written.values()),
        sum(row["calls"] for row in rows.values()),
        sum(row["answers_429"] for row in rows.values()),
    ]
    return rows


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_complete_run_tells_what_the_server_counted(tmp_path: Path, dialect: str) -> None:
    account = Account.generate(seed=161, pages=3, conversations=12, **MAY)
    with PancakeServer(account, dialect) as server:
        run = sync(tmp_path, full_config(server, **AROUND_MAY), catalog=NO_CATALOG)
        rows = assert_account(server, run)
    assert rows.keys() == {ACCOUNT, *(page.id for page in read(account))}
    for page_id, row in rows.items():
        statuses = {name: one["status"] for name, one in by_stream(row).items()}
        assert row["status"] == max(statuses.values(), key=["complete", "skipped"].index)
        assert set(statuses.values()) <= {"complete", "skipped"}, statuses
        assert not any(one["open"] or one["set_aside"] for one in row["streams"])
        selected = {stream.name for stream in STREAMS if stream.selected_by_default}
        account_only = {"pages", "multi_page_user_statistics", "sync_runs"}
        of_account = selected & account_only - {"sync_runs"}
        expected = of_account if page_id == ACCOUNT else selected - account_only
        assert statuses.keys() == expected
        assert row["started_at"] <= row["ended_at"]
        if page_id != ACCOUNT:
            assert by_stream(row)["conversations"]["top"] == run.bookmark("conversations", page_id)
    names = {page.id: page.name for page in account.pages}
    assert all(row["page_name"] == names.get(page_id) for page_id, row in rows.items())


def test_an_account_of_a_run_comes_before_its_last_state_and_has_an_id_of_its_own(
    tmp_path: Path,
) -> None:
    with PancakeServer(Account.generate(seed=162, pages=2, conversations=3)) as server:
        config = config_for(server)
        first = sync(tmp_path, config, catalog=select(*RUNS))
        second = sync(tmp_path, config, catalog=select(*RUNS), state=first.state)
    for run in (first, second):
        kinds = [json.loads(line) for line in run.stdout.splitlines()]
        last = max(n for n, kind in enumerate(kinds) if kind.get("stream") == "sync_runs")
        assert any(kind["type"] == "STATE" for kind in kinds[last:])
        assert "run_id" not in json.dumps(run.state)
    (one,), (other,) = (
        {row["run_id"] for row in rows_by_page(run).values()} for run in (first, second)
    )
    assert one < other or one[:16] == other[:16]
    assert one != other


def test_what_fails_or_is_set_aside_or_refused_is_told_of_its_page(tmp_path: Path) -> None:
    account = Account.generate(seed=163, pages=4, conversations=9)
    failing, aside, refused, whole = read(account)
    bad = min(aside.conversations)
    with PancakeServer(account) as server:
        server.faults = [
            Fault("missing_list", endpoint="tags", page_id=failing.id),
            Fault("500", endpoint="messages", page_id=aside.id, conversation_id=bad),
            Fault("no_plan", endpoint="users", page_id=refused.id),
            Fault("429", endpoint="conversations", page_id=whole.id, at=[1]),
        ]
        names = (*RUNS, "tags", "users")
        run = run_tap(tmp_path, config_for(server), catalog=select(*names), env=hurried(tmp_path))
        rows = assert_account(server, run)
    assert run.returncode == 1
    assert any("3 of 4 pages done (1 failed) in " in line for line in log_lines(run, "INFO"))
    assert {page_id: row["status"] for page_id, row in rows.items()} == {
        ACCOUNT: "complete",
        failing.id: "failed",
        aside.id: "incomplete",
        refused.id: "skipped",
        whole.id: "complete",
    }
    errors = log_lines(run, "ERROR")
    assert rows[failing.id]["reason"] in errors
    assert by_stream(rows[failing.id])["conversations"]["status"] == "complete"
    assert f"Set aside: {rows[aside.id]['reason']}" in errors
    assert by_stream(rows[aside.id])["messages"]["set_aside"] == [bad]
    assert f"Skipped: {rows[refused.id]['reason']}" in log_lines(run, "WARNING")
    assert (rows[whole.id]["retries"], rows[whole.id]["answers_429"]) == (1, 1)
    assert rows[whole.id]["reason"] is None


def test_a_page_that_is_lost_tells_of_the_streams_that_were_not_asked_for(tmp_path: Path) -> None:
    account = Account.generate(seed=164, pages=2, conversations=3)
    lost, other = read(account)
    with PancakeServer(account) as server:
        server.faults = [Fault("error:102", page_id=lost.id)]
        run = run_tap(
            tmp_path,
            config_for(server),
            catalog=select(*RUNS, "tags", "users"),
            env=hurried(tmp_path),
        )
        rows = assert_account(server, run)
    assert rows[other.id]["status"] == "complete"
    assert {one["status"] for one in rows[lost.id]["streams"]} == {"failed"}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_tells_of_each_page_and_the_next_one_completes_it(
    tmp_path: Path, signum: signal.Signals
) -> None:
    account = Account.generate(seed=165, pages=3, conversations=40)
    with PancakeServer(account) as server:
        config = config_for(server, max_parallel_pages=1)
        process = start_tap(tmp_path, config, catalog=select(*RUNS, "tags"))

        def strike(call: Call) -> None:
            if call.page_id == read(account)[1].id and call.endpoint == "messages":
                process.send_signal(signum)

        server.on_call = strike
        run = finish(process)
        server.on_call = None
        rows = rows_by_page(run)
        rest = sync(tmp_path, config, state=run.state, catalog=select(*RUNS, "tags"))
        done = rows_by_page(rest)
    assert [rows[page.id]["status"] for page in read(account)] == [
        "complete",
        "interrupted",
        "interrupted",
    ]
    assert rows[ACCOUNT]["status"] == "interrupted"
    assert rows[ACCOUNT]["reason"] == rows[read(account)[1].id]["reason"]
    assert rows[read(account)[2].id]["started_at"] is None
    (line,) = [line for line in log_lines(run, "INFO") if re.search(r", \d+ answers? 429$", line)]
    found = re.search(r": ([\d,]+) rows?, ([\d,]+) calls?, ", line)
    assert found is not None
    assert number(found[1]) == sum(row["row_count"] for row in rows.values())
    assert number(found[2]) == sum(row["calls"] for row in rows.values())
    begun = by_stream(rows[read(account)[1].id])
    assert (begun["tags"]["status"], begun["messages"]["status"]) == ("complete", "interrupted")
    assert begun["messages"]["row_count"] == sum(
        row["page_id"] == read(account)[1].id for row in run.records.get("messages", [])
    )
    assert {row["status"] for row in done.values()} == {"complete"}


@pytest.mark.parametrize("fault", ["missing_list", "500", "empty", "error:102"])
def test_a_run_that_cannot_list_the_pages_tells_so_of_each_that_is_known(
    tmp_path: Path, fault: str
) -> None:
    account = Account.generate(seed=166, pages=2, conversations=1)
    known = {page.id for page in read(account)}
    env = hurried(tmp_path)
    with PancakeServer(account) as server:
        state = sync(tmp_path, config_for(server), catalog=select(*RUNS)).state
        server.faults = [Fault(fault, endpoint="pages")] if fault != "empty" else []
        if fault == "empty":
            account.pages.clear()
        config, catalog = config_for(server), select(*RUNS)
        run = run_tap(tmp_path, config, catalog=catalog, state=state, env=env)
        rows = rows_by_page(run)
        # What `page_ids` does not name is left out on purpose.
        config = config_for(server, page_ids=[min(known)])
        chosen = rows_by_page(run_tap(tmp_path, config, catalog=catalog, state=state, env=env))
        # A first run writes nothing: any row tells Meltano's test of a plugin that all is well.
        config = config_for(server)
        first = run_tap(tmp_path, config, catalog=catalog, env=env)
    assert run.returncode == 1
    assert rows.keys() == {ACCOUNT, *known}
    assert chosen.keys() == {ACCOUNT, min(known)}
    assert {row["status"] for row in (*rows.values(), *chosen.values())} == {"failed"}
    assert {row["reason"] for row in rows.values()} == {rows[ACCOUNT]["reason"]}
    assert rows[ACCOUNT]["reason"] in run.stderr
    assert server.account.user_token not in run.stdout
    if fault != "empty":
        assert (first.returncode, first.records) == (1, {})


def test_an_empty_list_of_pages_is_asked_for_again_where_the_state_knows_some(
    tmp_path: Path,
) -> None:
    account = Account.generate(seed=176, pages=2, conversations=2)
    catalog, env = select(*RUNS), hurried(tmp_path)
    pages, tokens = [*account.pages], {page.id: page.token for page in read(account)}
    with PancakeServer(account) as server:
        config = config_for(server)
        state = sync(tmp_path, config, catalog=catalog).state
        account.pages.clear()
        server.reset_calls()
        run = run_tap(tmp_path, config, catalog=catalog, state=state, env=env)
        assert run.returncode == 1
        assert server.count("pages") == server.count() == 8
        (line,) = log_lines(run, "CRITICAL")
        assert line.startswith("pages: the list of pages is empty, though earlier runs have read ")
        assert not log_lines(run, "WARNING")
        assert run.state["bookmarks"].items() >= state["bookmarks"].items()

        # One that passes costs calls only.
        server.reset_calls()
        server.on_call = lambda call: account.pages.extend(pages) if call.number == 2 else None
        rows = rows_by_page(sync(tmp_path, config, catalog=catalog, state=state, env=env))
        assert server.count("pages") == 2
        assert {row["status"] for row in rows.values()} == {"complete"}
        server.on_call = None

        # No fault: the list of an account that was read never, and one that is not asked for.
        account.pages.clear()
        assert "no activated page" in sync(tmp_path, config, catalog=catalog).stderr
        account.pages.extend(pages)
        del config["access_token"]
        config["page_access_tokens"] = tokens
        assert rows_by_page(sync(tmp_path, config, catalog=catalog, state=state)).keys() == {
            ACCOUNT,
            *tokens,
        }


def test_a_shard_without_a_page_of_a_list_that_has_some_is_no_fault(tmp_path: Path) -> None:
    account = Account.generate(seed=177, pages=4, conversations=1)
    with PancakeServer(account) as server:
        config = config_for(server, shard_count=2)
        state = sync(tmp_path, config, catalog=select(*RUNS)).state
        account.pages[:] = [page for page in account.pages if shard_of(page.id, 2) == 1]
        rows = rows_by_page(sync(tmp_path, config, catalog=select(*RUNS), state=state))
    assert {row["status"] for page_id, row in rows.items() if page_id != ACCOUNT} == {"gone"}


def test_a_page_that_is_gone_is_named_in_each_run_and_a_new_one_once(tmp_path: Path) -> None:
    account = Account.generate(seed=167, pages=4, conversations=3)
    gone, inactive, new, kept = read(account)
    with PancakeServer(account) as server:
        ids = [gone.id, inactive.id, kept.id]
        run = sync(tmp_path, config_for(server, page_ids=ids), catalog=select(*RUNS))
        account.pages.remove(gone)
        inactive.category = "inactivated"
        for turn in range(2):
            run = sync(tmp_path, config_for(server), catalog=select(*RUNS), state=run.state)
            rows = rows_by_page(run)
            assert {page_id: row["status"] for page_id, row in rows.items()} == {
                ACCOUNT: "complete",
                gone.id: "gone",
                inactive.id: "gone",
                new.id: "complete",
                kept.id: "complete",
            }
            warnings = log_lines(run, "WARNING")
            for page in (gone, inactive):
                assert rows[page.id]["reason"] in warnings
            assert "is inactivated in Pancake" in rows[inactive.id]["reason"]
            named = [line for line in log_lines(run, "INFO") if "New since the last run" in line]
            assert named == ([f"New since the last run: {new.id} ({new.name})"] if not turn else [])
        # Left out on purpose.
        ids = [new.id, kept.id]
        config = config_for(server, page_ids=ids)
        run = sync(tmp_path, config, catalog=select(*RUNS), state=run.state)
        assert rows_by_page(run).keys() == {ACCOUNT, *ids}
        assert not [line for line in log_lines(run, "WARNING") if "though earlier" in line]


def test_a_page_that_page_ids_names_in_vain_has_a_row(tmp_path: Path) -> None:
    account = Account.generate(seed=168, pages=1, conversations=1)
    with PancakeServer(account) as server:
        config = config_for(server, page_ids=[read(account)[0].id, "12345"])
        run = run_tap(tmp_path, config, catalog=select(*RUNS))
    row = rows_by_page(run)["12345"]
    assert (row["status"], row["calls"], row["started_at"]) == ("failed", 0, None)
    assert row["reason"] in run.stderr


def test_rows_are_counted_after_maps(tmp_path: Path) -> None:
    account = Account.generate(seed=169, pages=2, conversations=8)
    with PancakeServer(account) as server:
        maps = {
            "messages": {"__filter__": "type == 'INBOX'"},
            "copies": {"__source__": "tags"},
        }
        config = config_for(server, stream_maps=maps)
        run = sync(tmp_path, config, catalog=select(*RUNS, "tags"))
    rows = rows_by_page(run)
    for name in ("messages", "tags"):
        counted = {page.id: by_stream(rows[page.id])[name]["row_count"] for page in read(account)}
        streams = {"messages": ["messages"], "tags": ["tags", "copies"]}[name]
        written = Counter(
            row["page_id"] for stream in streams for row in run.records.get(stream, [])
        )
        assert counted == {page.id: written[page.id] for page in read(account)}


def test_rows_that_are_left_out_make_a_page_incomplete(tmp_path: Path) -> None:
    account = Account.generate(seed=172, pages=2, conversations=3)
    odd, other = read(account)

    def without_ids(call: Call, content: bytes) -> bytes:
        if call.endpoint != "tags" or call.page_id != odd.id:
            return content
        body = json.loads(content)
        for tag in body["tags"][1:]:
            del tag["id"]
        return json.dumps(body).encode()

    with PancakeServer(account) as server:
        server.alter = without_ids
        run = run_tap(tmp_path, config_for(server), catalog=select(*RUNS, "tags"))
        rows = assert_account(server, run)
    assert rows[other.id]["status"] == "complete"
    assert (rows[odd.id]["status"], rows[odd.id]["reason"]) == ("incomplete", "rows without `id`")
    assert by_stream(rows[odd.id])["tags"]["row_count"] == 1


def test_without_the_stream_nothing_is_told_and_the_summary_is_the_same(tmp_path: Path) -> None:
    account = Account.generate(seed=170, pages=2, conversations=5)
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server), catalog=select(*INBOX))
    assert "sync_runs" not in run.records
    rows = sum(map(len, run.records.values()))
    assert any(f": {rows:,} rows, " in line for line in log_lines(run, "INFO"))


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("no_plan", "skipped", 0), ("missing_list", "failed", 1)]
)
def test_a_stream_that_is_read_by_way_of_another_one_fares_as_that(
    tmp_path: Path, fault: str, status: str, code: int
) -> None:
    account = Account.generate(seed=173, pages=1, conversations=2)
    (page,) = read(account)
    followers = ("messages", "conversation_details", "ads")
    with PancakeServer(account) as server:
        server.faults = [
            Fault(fault, endpoint="conversations"),
            Fault(fault, endpoint="customer_engagements"),
        ]
        catalog = select(*followers, "user_engagements", "call_logs", "sync_runs")
        config = config_for(server, start_date="2026-11-01")
        run = run_tap(tmp_path, config, catalog=catalog, env=hurried(tmp_path))
    row = rows_by_page(run)[page.id]
    assert run.returncode == code
    assert row["status"] == status
    assert row["reason"] in {one["reason"] for one in row["streams"]}
    assert by_stream(row)["messages"]["reason"] == by_stream(row)["conversations"]["reason"]
    statuses = {name: one["status"] for name, one in by_stream(row).items()}
    assert statuses.pop("call_logs", None) is None  # no setting asks for them
    assert {statuses[name] for name in (*followers, "user_engagements")} == {status}


def test_a_page_that_is_not_in_use_is_skipped_and_says_why(tmp_path: Path) -> None:
    account = Account.generate(seed=174, pages=1, conversations=2)
    (page,) = read(account)
    with PancakeServer(account) as server:
        server.faults = [Fault("error:125", page_id=page.id)]
        run = run_tap(tmp_path, config_for(server), catalog=select(*RUNS, "tags", "users"))
    row = rows_by_page(run)[page.id]
    assert run.returncode == 0
    assert {one["status"] for one in [row, *row["streams"]]} == {"skipped"}
    assert {one["reason"] for one in [row, *row["streams"]]} == {row["reason"]}
    assert "the page is deactivated: activate it" in row["reason"]


def test_messages_alone_tell_of_the_list_that_failed(tmp_path: Path) -> None:
    account = Account.generate(seed=171, pages=1, conversations=2)
    with PancakeServer(account) as server:
        server.faults = [Fault("missing_list", endpoint="conversations")]
        catalog = select("messages", "sync_runs")
        assert metadata_of(catalog, "conversations")["selected"] is False
        run = run_tap(tmp_path, config_for(server), catalog=catalog, env=hurried(tmp_path))
    row = rows_by_page(run)[read(account)[0].id]
    assert row["status"] == "failed"
    assert by_stream(row)["conversations"]["status"] == "failed"


def test_a_page_that_a_map_filters_has_no_row(tmp_path: Path) -> None:
    account = Account.generate(seed=175, pages=2, conversations=2)
    filtered, kept = read(account)
    with PancakeServer(account) as server:
        maps = {"pages": {"__filter__": f"id != '{filtered.id}'"}}
        run = sync(tmp_path, config_for(server, stream_maps=maps), catalog=select(*RUNS))
        assert server.count(page_id=filtered.id) == 0
    assert {page_id: row["status"] for page_id, row in rows_by_page(run).items()} == {
        ACCOUNT: "complete",
        kept.id: "complete",
    }
