"""What stands beside messages: with `messages` at no call of its own, alone at one, never lost.

That each value is the server's, in all dialects, see `test_streams.py`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tap_pancake.reading import state
from tap_pancake.rows.kept import PartialDecoder, fields_beside_rows
from tap_pancake.running import run as running
from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import assert_same, records, utc
from tests.tap import config_for, log_lines, part_of, read_output, run_here, select
from tests.truth import message_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pancake_api import Call, Conversation
    from tests.tap import Json, Run

DETAILS = "conversation_details"
ALONE = select(DETAILS)
BOTH = select("messages", DETAILS)
MESSAGES = select("messages")
SELECTED = pytest.mark.parametrize("catalog", [ALONE, BOTH], ids=["alone", "with messages"])


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    account = Account.generate(seed=19, pages=2, conversations=14, messages=(1, 70))
    with PancakeServer(account) as server:
        yield server


def read(server: PancakeServer, catalog: Json, before: Run | None = None, **settings: Any) -> Run:
    run = run_here(
        config_for(server, **settings), catalog=catalog, state=before.state if before else None
    )
    run.check_records()
    return run


def good(server: PancakeServer, catalog: Json, before: Run | None = None, **settings: Any) -> Run:
    run = read(server, catalog, before, **settings)
    assert run.returncode == 0, run.stderr
    return run


def conversations(server: PancakeServer) -> list[Conversation]:
    pages = [page for page in server.account.pages if page.category == "activated"]
    return [talk for page in pages for talk in page.conversations.values()]


def days_earlier(run: Run) -> Run:
    """Return a run whose state has set everything aside two days earlier."""
    state = copy.deepcopy(run.state)
    for stream in (DETAILS, "messages"):
        for part in state["bookmarks"].get(stream, {}).get("partitions", []):
            for entry in part.get("aside") or []:
                entry[3:] = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]
    return replace(run, states=[*run.states, state])


def keys(*talks: Conversation) -> set[tuple[str, ...]]:
    return {(talk.page_id, talk.id) for talk in talks}


def held(server: PancakeServer) -> dict[tuple[str, ...], Json]:
    return records(server, DETAILS)


def write_to(server: PancakeServer, talk: Conversation) -> None:
    """Let a customer write, and another one be noted."""
    server.account.page(talk.page_id).receive(talk.id)
    talk.customers[0].lives_in = "Thành phố Mới"


def test_alone_it_costs_a_call_for_each_conversation(server: PancakeServer) -> None:
    run = good(server, ALONE)
    assert_same(run.by_key(DETAILS), held(server))
    assert run.records.keys() == {DETAILS}
    assert max(len(talk.messages) for talk in conversations(server)) > 60
    assert set(message_calls(server).values()) == {1}
    assert not log_lines(run, "WARNING")


def test_with_messages_it_costs_no_call(server: PancakeServer) -> None:
    run = good(server, BOTH)
    assert_same(run.by_key(DETAILS), held(server))
    assert not run.repeated(DETAILS)
    assert run.by_key("messages") == good(server, MESSAGES).by_key("messages")
    # Which answers of long conversations came first decides how many calls the others take.
    with PancakeServer(Account.generate(seed=19, pages=1, messages=(1, 9))) as short:
        calls = []
        for catalog in (MESSAGES, BOTH):
            short.reset_calls()
            good(short, catalog)
            calls.append(message_calls(short))
        assert calls[0] == calls[1]


@SELECTED
def test_a_later_run_brings_those_of_conversations_with_a_new_message(
    server: PancakeServer, catalog: Json
) -> None:
    first = good(server, catalog)
    touched = conversations(server)[::5]
    for talk in touched:
        write_to(server, talk)
    server.reset_calls()
    second = good(server, catalog, first)
    assert second.by_key(DETAILS).keys() == keys(*touched)
    assert message_calls(server) == {talk.id: 1 for talk in touched}
    assert_same(first.by_key(DETAILS) | second.by_key(DETAILS), held(server))


@SELECTED
def test_whatever_state_a_killed_run_leaves_nothing_is_lost(
    server: PancakeServer, catalog: Json
) -> None:
    with patch.object(running, "STATE_INTERVAL", 0.0), patch.object(state, "STATE_RATE", 1e15):
        run = good(server, catalog)
    lines = run.stdout.splitlines(keepends=True)
    states = [at for at, line in enumerate(lines, 1) if json.loads(line)["type"] == "STATE"]
    assert len(states) > 20
    came = [read_output("".join(lines[:at])) for at in states[:: len(states) // 8]]
    assert all(
        earlier.by_key(DETAILS).keys() <= later.by_key(DETAILS).keys()
        for earlier, later in pairwise(came)
    )
    for killed in came:
        rest = good(server, catalog, killed)
        assert_same(killed.by_key(DETAILS) | rest.by_key(DETAILS), held(server))
        assert not log_lines(rest, "WARNING")


@SELECTED
def test_one_that_is_refused_is_set_aside_and_comes_later(
    server: PancakeServer, catalog: Json
) -> None:
    refused = conversations(server)[4]
    server.faults = [Fault("error:108", endpoint="messages", conversation_id=refused.id)]
    first = read(server, catalog)
    assert first.returncode == 1
    assert log_lines(first, "ERROR")[0].startswith(f"Set aside: page {refused.page_id}, ")
    assert held(server).keys() - first.by_key(DETAILS).keys() == keys(refused)
    server.faults = []
    second = good(server, catalog, first)
    assert second.by_key(DETAILS).keys() == keys(refused)
    assert_same(first.by_key(DETAILS) | second.by_key(DETAILS), held(server))


@SELECTED
def test_a_page_whose_messages_are_denied_keeps_its_bookmarks(
    server: PancakeServer, catalog: Json
) -> None:
    denied, other = (page.id for page in server.account.pages[:2])
    first = good(server, catalog)
    for talk in conversations(server):
        write_to(server, talk)
    server.faults = [Fault("http:403", endpoint="messages", page_id=denied)]
    second = good(server, catalog, first)
    (line,) = log_lines(second, "WARNING")
    assert line.startswith(f"Skipped: page {denied}, ")
    assert part_of(second.state, DETAILS, denied) == part_of(first.state, DETAILS, denied)
    assert part_of(second.state, DETAILS, other) != part_of(first.state, DETAILS, other)
    server.faults = []
    third = good(server, catalog, second)
    assert_same(second.by_key(DETAILS) | third.by_key(DETAILS), held(server))


# Beside `messages`, selected at another time.


def test_selected_after_messages_it_brings_all_for_a_call_each(server: PancakeServer) -> None:
    first = good(server, MESSAGES)
    assert DETAILS not in first.records
    server.reset_calls()
    second = good(server, BOTH, first)
    assert_same(second.by_key(DETAILS), held(server))
    assert set(message_calls(server).values()) == {1}
    server.reset_calls()
    assert DETAILS not in good(server, BOTH, second).records
    assert not message_calls(server)


def test_selected_after_messages_a_killed_run_is_continued(server: PancakeServer) -> None:
    first = good(server, MESSAGES)
    with patch.object(running, "STATE_INTERVAL", 0.0), patch.object(state, "STATE_RATE", 1e15):
        whole = good(server, BOTH, first)
    lines = whole.stdout.splitlines(keepends=True)
    states = [at for at, line in enumerate(lines, 1) if json.loads(line)["type"] == "STATE"]
    killed = read_output("".join(lines[: states[len(states) // 2]]))
    assert 0 < len(killed.by_key(DETAILS)) < len(held(server))
    rest = good(server, BOTH, killed)
    assert_same(killed.by_key(DETAILS) | rest.by_key(DETAILS), held(server))


def test_left_out_for_a_while_it_catches_up(server: PancakeServer) -> None:
    first = good(server, BOTH)
    talk = conversations(server)[3]
    write_to(server, talk)
    second = good(server, MESSAGES, first)
    third = good(server, BOTH, second)
    assert_same(first.by_key(DETAILS) | third.by_key(DETAILS), held(server))


@pytest.mark.parametrize("refused_in", [MESSAGES, ALONE], ids=["by messages", "alone"])
def test_what_one_stream_has_set_aside_comes_for_both(
    server: PancakeServer, refused_in: Json
) -> None:
    refused = conversations(server)[4]
    server.faults = [Fault("error:108", endpoint="messages", conversation_id=refused.id)]
    first = read(server, refused_in)
    assert first.returncode == 1
    server.faults = []
    second = good(server, BOTH, first)
    assert keys(refused) <= second.by_key(DETAILS).keys()
    whole = good(server, BOTH)
    for stream in (DETAILS, "messages"):
        assert first.by_key(stream) | second.by_key(stream) == whole.by_key(stream)
    assert not part_of(second.state, DETAILS, refused.page_id).get("aside")
    assert not part_of(second.state, "messages", refused.page_id).get("aside")


@pytest.mark.parametrize(("first", "second"), [(ALONE, BOTH), (BOTH, ALONE)])
def test_messages_may_be_selected_later_or_no_more(
    server: PancakeServer, first: Json, second: Json
) -> None:
    before = good(server, first)
    talk = conversations(server)[3]
    write_to(server, talk)
    after = good(server, second, before)
    if second is ALONE:
        assert after.by_key(DETAILS).keys() == keys(talk)
    assert_same(before.by_key(DETAILS) | after.by_key(DETAILS), held(server))


# What else may be.


@SELECTED
def test_a_conversation_without_messages_has_details(server: PancakeServer, catalog: Json) -> None:
    empty = min(conversations(server), key=lambda talk: len(talk.messages))
    assert len(empty.messages) == 1
    server.faults = [Fault("empty_list", endpoint="messages", conversation_id=empty.id)]
    run = good(server, catalog)
    found = run.by_key(DETAILS)
    assert found.keys() == held(server).keys()
    (key,) = keys(empty)
    assert found[key]["last_message_at"] is None
    assert found[key]["conv_from"]["id"] == empty.starter["id"]


@SELECTED
def test_where_several_messages_are_counted_and_none_comes_a_later_run_asks_again(
    server: PancakeServer, catalog: Json
) -> None:
    empty = conversations(server)[2]
    server.faults = [Fault("empty_list", endpoint="messages", conversation_id=empty.id)]
    first = read(server, catalog)
    assert first.returncode == 1
    (line,) = log_lines(first, "ERROR")
    assert f"the API counts {empty.message_count} messages and returns none" in line
    assert held(server).keys() - first.by_key(DETAILS).keys() == keys(empty)
    second = good(server, catalog, first)
    (line,) = log_lines(second, "WARNING")
    assert line.startswith("Still set aside: ")
    assert not second.by_key(DETAILS)
    server.faults = []
    third = good(server, catalog, days_earlier(second))
    assert_same(first.by_key(DETAILS) | third.by_key(DETAILS), held(server))


@SELECTED
def test_an_empty_answer_where_there_are_messages_is_not_taken(
    server: PancakeServer, catalog: Json
) -> None:
    asked: set[str | None] = set()

    def is_first(call: Call) -> bool:
        known = call.conversation_id in asked
        asked.add(call.conversation_id)
        return not known

    server.faults = [Fault("empty_list", endpoint="messages", where=is_first)]
    assert_same(good(server, catalog).by_key(DETAILS), held(server))
    assert len(asked) == len(held(server))


@SELECTED
def test_a_conversation_of_which_nothing_stands_beside_messages_is_set_aside(
    server: PancakeServer, catalog: Json
) -> None:
    bare = conversations(server)[2]

    def strip(call: Call, body: bytes) -> bytes:
        if call.conversation_id != bare.id:
            return body
        answer = json.loads(body)
        names = ("success", "conversation_id", "messages")
        return json.dumps({name: answer[name] for name in names}).encode()

    server.alter = strip
    run = read(server, catalog)
    assert run.returncode == 1
    assert held(server).keys() - run.by_key(DETAILS).keys() == keys(bare)
    (line,) = log_lines(run, "ERROR")
    assert "two answers have `messages`, but no details" in line
    server.alter = None
    rest = good(server, catalog, run)
    assert_same(run.by_key(DETAILS) | rest.by_key(DETAILS), held(server))


@SELECTED
def test_what_went_on_after_the_end_comes_with_a_run_that_ends_later(
    server: PancakeServer, catalog: Json
) -> None:
    end = utc(2025, 9, 1)
    first = good(server, catalog, end_date=end.isoformat())
    before = [talk for talk in conversations(server) if talk.updated_at <= end]
    assert 0 < len(before) < len(conversations(server))
    assert first.by_key(DETAILS).keys() == keys(*before)
    second = good(server, catalog, first)
    assert_same(first.by_key(DETAILS) | second.by_key(DETAILS), held(server))


@pytest.mark.parametrize("first", [ALONE, BOTH], ids=["alone", "with messages"])
def test_an_earlier_start_brings_what_lies_before(server: PancakeServer, first: Json) -> None:
    start = utc(2025, 9, 1)
    run = good(server, first, start_date=start.isoformat())
    since = [talk for talk in conversations(server) if talk.updated_at >= start]
    assert run.by_key(DETAILS).keys() == keys(*since)
    earlier = start - timedelta(days=900)
    rest = good(server, first, run, start_date=earlier.isoformat())
    assert_same(run.by_key(DETAILS) | rest.by_key(DETAILS), held(server))


def test_a_filter_of_messages_filters_no_details(server: PancakeServer) -> None:
    run = good(server, BOTH, stream_maps={"messages": {"__filter__": "False"}})
    assert "messages" not in run.records
    assert_same(run.by_key(DETAILS), held(server))


@SELECTED
def test_a_filter_of_conversations_filters_their_details(
    server: PancakeServer, catalog: Json
) -> None:
    chosen = conversations(server)[::3]
    names = [talk.id for talk in chosen]
    run = good(server, catalog, stream_maps={"conversations": {"__filter__": f"id in {names}"}})
    assert run.by_key(DETAILS).keys() == keys(*chosen)
    assert message_calls(server).keys() == set(names)


def test_a_map_may_remove_messages_and_keep_details(server: PancakeServer) -> None:
    run = good(server, BOTH, stream_maps={"messages": None})
    assert_same(run.by_key(DETAILS), held(server))
    assert set(message_calls(server).values()) == {1}


def test_what_stands_beside_rows_is_kept_as_it_came() -> None:
    whole = {"success": True, "messages": [{"id": "1", "text": "a"}], "post": {"deep": [None, 1]}}
    decoder = PartialDecoder("messages", "id")
    for content in (json.dumps(whole), json.dumps(whole)[:-1] + ', "odd": NaN}'):
        answer = decoder.read(content.encode())
        expected = {name: json.loads(content)[name] for name in ("success", "post")}
        found = json.loads(fields_beside_rows(answer, "messages", last="x"))
        assert found == expected | {"last": "x"} | ({"odd": None} if "odd" in content else {})
