"""What fails, fails alone: a row, a stream, a page; and each is logged as what it is."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tap_pancake.api import client
from tap_pancake.api.errors import PageFailed, PageSkipped, PancakeError
from tap_pancake.running.run import Run as Shared
from tests.accounts import BEFORE_AND_AFTER, crowded_account, full_account
from tests.fault_matrix import HTML, answer
from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import CHILDREN, assert_same, records, utc
from tests.tap import (
    INBOX,
    REPLICATION_KEYS,
    config_for,
    full_config,
    log_lines,
    patched,
    run_here,
    run_tap,
    select,
)
from tests.truth import assert_complete, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.pancake_api import Answer, Call
    from tests.tap import Json

TRIES = 8


def inbox(pages: int = 1) -> Account:
    account = Account(7)
    for _ in range(pages):
        account.add_page().fill(30, (1, 3), utc(2026, 1, 1), utc(2026, 1, 9))
    return account


# Refusals that nobody knows.


def test_an_unknown_refusal_of_one_answer_in_ten_costs_nothing() -> None:
    fault = Fault("error:1", every=10)
    with PancakeServer(inbox(2), faults=[fault]) as server:
        run = run_here(config_for(server))
        assert run.returncode == 0, run.stderr
        assert fault.hits >= 5
        assert_complete(server, run)


# Answers that never come.


def test_a_call_whose_answers_never_come_is_tried_twice_when_time_is_up() -> None:
    with PancakeServer(inbox(), faults=[Fault("hang", endpoint="pages")]) as server:
        with patch.object(client, "_LONGEST_CALL", 1.0):
            run = run_here(config_for(server, request_timeout=2))
        assert run.returncode == 1
        (line,) = log_lines(run, "CRITICAL")
        assert "pages: no answer within 2 seconds: raise `request_timeout`" in line
        assert server.count() == 2


OFTEN = (
    "from tap_pancake.running import progress\n"
    "progress.INTERVAL, progress._LONG_WAIT = 0.3, 0.2\n"
    "from tap_pancake.api import client\n"
    "client._LONGEST_CALL = 1\n"
)


@pytest.mark.parametrize("endpoint", ["pages", "conversations"])
def test_a_run_that_waits_says_what_it_waits_for(tmp_path: Path, endpoint: Any) -> None:
    with PancakeServer(inbox(), faults=[Fault("hang", endpoint=endpoint)]) as server:
        config = config_for(server, request_timeout=1)
        run = run_tap(tmp_path, config, env=patched(tmp_path / "env", OFTEN))
        place = "pages" if endpoint == "pages" else f"page {server.account.pages[0].id}, {endpoint}"
    lines = log_lines(run, "INFO")
    waiting = [line for line in lines if f"waiting for an answer: {place}, " in line]
    assert " s so far (try 2 of 8)" in waiting[-1]
    assert not [line for line in lines if line.startswith("0 of 0 pages") and "calls/s" in line]


# What stands before the API.


def test_a_firewall_that_answers_for_a_page_is_no_refusal_of_a_right() -> None:
    account = inbox(2)
    struck, good = account.pages
    with PancakeServer(account) as server:

        def refuse(call: Call) -> Answer | None:
            return answer(HTML, 403) if call.page_id == struck.id else None

        server.instead = refuse
        run = run_here(config_for(server), catalog=select("tags", "users", *INBOX))
        assert run.returncode == 1
        errors = log_lines(run, "ERROR")
        assert len(errors) == 2, "the second stream met it at its first call: the page ends"
        for line in errors:
            assert line.startswith(f"page {struck.id}, ")
            assert "something in front of the API, such as a firewall, refused the call: " in line
            assert "HTTP 403" in line
        assert not [line for line in log_lines(run, "WARNING") if line.startswith("Skipped")]
        assert server.count(page_id=struck.id) == 2 * TRIES
        assert {row["page_id"] for row in run.records["conversations"]} == {good.id}


def test_a_firewall_that_answers_for_all_ends_the_run_with_an_error() -> None:
    with PancakeServer(inbox()) as server:
        server.instead = lambda _: answer(HTML, 403)
        run = run_here(config_for(server))
        assert run.returncode == 1
        (line,) = log_lines(run, "CRITICAL")
        assert (
            "pages: something in front of the API, such as a firewall, refused the call: " in line
        )
        assert server.count() == TRIES


# The rate limit.


def test_answers_429_are_waited_out_and_are_no_tries() -> None:
    with PancakeServer(inbox()) as server:
        server.faults = [Fault("429", endpoint="conversations", times=3 * TRIES)]
        run = run_here(config_for(server))
        assert run.returncode == 0, run.stderr
        assert_complete(server, run)
    assert not [line for line in log_lines(run, "INFO") if line.startswith("Try ")]


def test_a_page_of_which_every_call_is_refused_for_five_minutes_ends() -> None:
    with PancakeServer(inbox(2)) as server:
        struck, good = (page.id for page in server.account.pages)
        server.faults = [Fault("429", page_id=struck)]
        config = config_for(server, requests_per_second=4.95)
        run = run_here(config, catalog=select("tags", "users", "posts", *INBOX))
        assert run.returncode == 1
        assert [line.split(" (HTTP")[0] for line in log_lines(run, "ERROR")] == [
            f"page {struck}, {stream}: every call got HTTP 429 for 5 minutes, though the tap slowed"
            " down: other programs use up the rate limit: stop them or slow them down, then run the"
            " tap again"
            for stream in ("tags", "users")
        ]
        (early,) = [line for line in log_lines(run, "INFO") if "the tap gives up after" in line]
        assert re.match(rf"page {struck}, tags: every call got HTTP 429 for [67]\d seconds", early)
        # 0.2 to 6.5 seconds between the first ones, then 10.
        assert 30 <= server.count("tags", struck) <= 40
        assert server.count("users", struck) == 1
        assert {row["page_id"] for row in run.records["messages"]} == {good}


def test_an_account_of_which_every_call_is_refused_for_five_minutes_ends_the_run() -> None:
    with PancakeServer(inbox(), faults=[Fault("429", endpoint="pages")]) as server:
        run = run_here(config_for(server))
    assert run.returncode == 1
    (line,) = log_lines(run, "CRITICAL")
    assert line.startswith("pages: every call got HTTP 429 for 5 minutes, though the tap slowed")


# One stream of a page.

LASTING = {
    "ad_statistics": answer(HTML, 504),
    "posts": answer(HTML, 502),
    "customers": answer({"success": False}, 429),
}


@pytest.mark.parametrize("streams", [*((name,) for name in LASTING), tuple(LASTING)])
def test_a_gateway_that_fails_for_one_stream_costs_no_other(streams: tuple[str, ...]) -> None:
    with PancakeServer(full_account(pages=1)) as server:
        page = server.account.pages[0]

        def refuse(call: Call) -> Answer | None:
            struck = call.page_id == page.id and call.endpoint in streams
            return LASTING[call.endpoint] if struck else None

        server.instead = refuse
        catalog = select(*CHILDREN, *INBOX)
        run = run_here(full_config(server, **BEFORE_AND_AFTER), catalog=catalog)
        assert run.returncode == 1
        failed = {line.split(": ")[0] for line in log_lines(run, "ERROR")}
        assert failed == {f"page {page.id}, {stream}" for stream in streams}
        (last,) = log_lines(run, "CRITICAL")
        assert last.startswith(f"{len(streams)} failed: what was read is written, and the next ")
        assert_complete(server, run)
        for stream in CHILDREN:
            held = {
                key: row
                for key, row in records(server, stream).items()
                if stream not in streams or row["page_id"] != page.id
            }
            assert_same(run.by_key(stream), held)


def test_a_gateway_that_fails_for_two_streams_in_a_row_ends_the_page() -> None:
    with PancakeServer(inbox()) as server:
        server.instead = lambda call: answer(HTML, 504) if call.page_id else None
        run = run_here(config_for(server), catalog=select("tags", "users", "posts", *INBOX))
        assert run.returncode == 1
        assert len(log_lines(run, "ERROR")) == 2
        assert server.count() == 1 + 2 * TRIES


def test_a_page_that_is_deactivated_is_skipped_as_a_whole() -> None:
    with PancakeServer(inbox(2)) as server:
        idle, good = server.account.pages
        server.faults = [Fault("error:125", page_id=idle.id)]
        run = run_here(config_for(server), catalog=select("tags", "users", *INBOX))
        assert run.returncode == 0
        (line,) = log_lines(run, "WARNING")
        assert line.startswith(f"Skipped: page {idle.id}, ")
        assert server.count(page_id=idle.id) == 1
        assert {row["page_id"] for row in run.records["conversations"]} == {good.id}


# One row.

LISTS = {
    "tags": "tags",
    "users": "users",
    "customers": "customers",
    "posts": "posts",
    "call_logs": "data",
    "ad_conversations": "data",
    "conversations": "conversations",
    "messages": "messages",
}


def without_ids(stream: str, lost: set[str]) -> Callable[[Call, bytes], bytes]:
    """Take the id from the second row of the first answer with two, wherever that row comes."""

    def alter(call: Call, content: bytes) -> bytes:
        if call.endpoint != stream:
            return content
        body: Json = json.loads(content)
        row_id = "call_id" if stream == "call_logs" else "id"
        rows = body[LISTS[stream]]
        if not lost and len(rows) > 1:
            lost.add(str(rows[1][row_id]))
        for row in rows:
            if str(row[row_id]) in lost:
                del row[row_id]
        return json.dumps(body).encode()

    return alter


@pytest.mark.parametrize("stream", LISTS)
def test_a_row_without_an_id_is_left_out_and_all_others_come(stream: str) -> None:
    lost: set[str] = set()
    row_id = "call_id" if stream == "call_logs" else "id"
    with PancakeServer(crowded_account(stream)) as server:
        server.alter = without_ids(stream, lost)
        config = full_config(server, **BEFORE_AND_AFTER | {"start_date": "2025-11-29"})
        run = run_here(config, catalog=select(stream, "page_statistics"))
        held = rows_of(server)[stream] if stream in INBOX else records(server, stream)
        kept = {key: row for key, row in held.items() if str(row[row_id]) not in lost}
        assert run.by_key(stream).keys() == kept.keys()
        assert len(kept) == len(held) - 1
        assert_same(run.by_key("page_statistics"), records(server, "page_statistics"))
    assert run.returncode == 1
    (line,) = log_lines(run, "ERROR")
    assert line.startswith(f"{stream}: rows that cannot be written were left out: without `")
    (last,) = log_lines(run, "CRITICAL")
    assert last.startswith("rows that cannot be written were left out: ")
    assert REPLICATION_KEYS[stream] is None or "bookmarks" in run.state


def test_an_answer_none_of_whose_rows_has_an_id_has_no_known_shape() -> None:
    with PancakeServer(inbox()) as server:
        server.instead = lambda call: (
            answer({"tags": [{"text": "a"}, {"text": "b"}]}) if call.endpoint == "tags" else None
        )
        run = run_here(config_for(server), catalog=select("tags", "users"))
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert "tags: the answer has rows without `id`: the API may have changed" in line


# How it is logged.


@pytest.fixture
def shared() -> Shared:
    return Shared({"requests_per_second": 5}, write_state=lambda: 0, user_agent="tests")


def ended(shared: Shared) -> str:
    """Return what a run ends with; nothing if it is no error."""
    shared.summarise()
    try:
        shared.raise_for_failed_pages()
    except PancakeError as error:
        return str(error)
    return ""


def test_what_is_set_aside_is_an_error_once_and_then_a_warning(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shared.still_aside(
        "page 1, conversation 2, messages: not assigned, since 2026-01-01", "messages", "1"
    )
    assert ended(shared) == ""
    assert [line.levelname for line in caplog.records if "conversation 2" in line.getMessage()] == [
        "WARNING",
        "INFO",
    ]
    shared.set_aside(PageFailed("page 1, conversation 3, messages: not assigned"), "messages", "1")
    assert ended(shared) == (
        "1 set aside: what was read is written, and the next run tries the rest again; the first:"
        " page 1, conversation 3, messages: not assigned"
    )
    assert "Set aside: page 1, conversation 3, messages: not assigned" in caplog.messages


def test_each_kind_of_end_is_counted(shared: Shared) -> None:
    for number in range(2):
        shared.page_failed(PageFailed(f"page {number}, tags: gone"), "tags", str(number))
    shared.set_aside(PageFailed("page 1, conversation 3, messages: not assigned"), "messages", "1")
    for _ in range(3):
        shared.row_left_out("without `id`", "tags", "1")
    shared.page_skipped(PageSkipped("page 1, users: no right"), "users", "1")
    assert ended(shared) == (
        "2 failed, 1 set aside: what was read is written, and the next run tries the rest again;"
        " rows that cannot be written were left out: 3; the first: page 0, tags: gone"
    )
