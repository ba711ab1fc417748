"""What the API does wrong costs no data; what does not pass is logged in one line, page by page."""

from __future__ import annotations

import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.pancake_api import Account, Call, Fault, PancakeServer
from tests.pancake_api.dialects import Observed
from tests.tap import (
    INBOX,
    Run,
    begun,
    config_for,
    hurried,
    log_lines,
    run_tap,
    select,
    side_by_side,
    sync,
)
from tests.truth import assert_complete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Page
    from tests.tap import Json

YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))
TRIES_AT_LEAST = 6

AGAIN = "run the tap again later"
REPORT = "report this"
PAGE_TOKEN = "Settings → Tools"
USER_TOKEN = "Personal settings"

TRANSIENT = {
    "429": "other programs",
    "429_retry_after": "other programs",
    "500": AGAIN,
    "502_html": AGAIN,
    "503": AGAIN,
    "http:408": AGAIN,
    "reset": AGAIN,
    "cut": AGAIN,
    "not_json": "`api_url`",
    "empty_body": "`api_url`",
    "success_false": AGAIN,
    "echo500": AGAIN,
    "hang": "`request_timeout`",
}
"""Kind of fault: the remedy that is named when it does not pass."""
SKIPPED = {
    "error:121": "renew the subscription",
    "error:122": "renew the subscription",
    "error:125": "activate it in Pancake",
    "error:126": "turn safe mode off",
    "no_plan": "renew the subscription",
    "http:403": "administrator",
}
FAILED = {
    "error:100": REPORT,
    "error:102": PAGE_TOKEN,
    "error:103": PAGE_TOKEN,
    "error:104": "`page_ids`",
    "error:105": PAGE_TOKEN,
    "error:106": "`start_date`",
    "error:107": REPORT,
    "error:108": "not assigned to this conversation",
    "error:123": "connect it to Pancake again",
    "error:136": REPORT,
    "error:145": REPORT,
    "error:190": PAGE_TOKEN,
    "error:999": REPORT,
    "http:400": REPORT,
    "http:401": PAGE_TOKEN,
    "http:404": "`api_url`",
    "missing_list": REPORT,
    "redirect:https://example.invalid/": "`api_url`",
}
UNKNOWN = {"error:107", "error:999"}
"""Codes that no source explains: they may pass."""
LOST = {f"error:{code}" for code in (102, 103, 104, 105, 123, 125, 190)} | {"http:401"}
"""Hold for the whole page, whichever call they answer; others for one conversation only."""
REMEDIES = TRANSIENT | SKIPPED | FAILED
KINDS = list(REMEDIES)
ENDPOINTS = ("conversations", "messages")


def inbox(pages: int, conversations: int = 12, messages: int = 40) -> Account:
    """Return the same account each time."""
    account = Account(3)
    for _ in range(pages):
        account.add_page().fill(conversations, (1, messages), *YEAR)
    return account


# Faults that pass.


@pytest.mark.parametrize("kind", [kind for kind in TRANSIENT if kind != "http:408"])
def test_a_fault_on_one_answer_in_ten_costs_nothing(
    passing: dict[str, Future[None]], kind: str
) -> None:
    passing[kind].result()


@pytest.fixture(scope="module")
def passing(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """All of these runs at the same time, since they mostly wait."""
    root = tmp_path_factory.mktemp("passing")
    kinds = {
        str(item.callspec.params["kind"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "passing" in item.fixturenames
    }

    def run(kind: str) -> None:
        directory = root / kind
        directory.mkdir()
        with PancakeServer(inbox(2)) as server:
            fault = Fault(kind, every=10)
            server.faults.append(fault)
            run = sync(directory, config_for(server, request_timeout=2))
            assert fault.hits >= 3
            assert_complete(server, run)
            assert not any(run.repeated(stream) for stream in run.records)
            assert server.violations == []

    with ThreadPoolExecutor(len(kinds)) as pool:
        yield {kind: pool.submit(run, kind) for kind in kinds}


# Faults that do not end: each on a page of its own, in one run.


@dataclass
class Endless:
    """A run in which each page had another fault, and the next run, which had none."""

    state: Json
    """What the run was given."""
    run: Run
    pages: dict[str, Page]
    """By kind of fault, with pages without one before, between and after."""
    calls: dict[str, list[Call]]
    """The calls that were hit, by kind."""
    struck: dict[str, str]
    """The conversation whose messages could not be read, by kind."""
    retried: Run


@pytest.fixture(scope="module", params=ENDPOINTS)
def endless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Endless:
    endpoint = request.param
    directory = tmp_path_factory.mktemp("endless")
    account = inbox(len(KINDS) + 3, conversations=6, messages=3)
    names = ["good 1", *KINDS[:9], "good 2", *KINDS[9:], "good 3"]
    pages = dict(zip(names, account.pages, strict=True))
    with PancakeServer(account) as server:
        config = config_for(server, request_timeout=1)
        state = sync(directory, config).state
        struck = {}
        for name, page in pages.items():
            touched = list(page.conversations)[:5]
            for conversation_id in touched:
                page.receive(conversation_id)
            fault = Fault("500", endpoint=endpoint, page_id=page.id)
            if endpoint == "messages":
                fault.conversation_id = touched[2]
                struck[name] = touched[2]
            if name in REMEDIES:
                fault.kind = name
                server.faults.append(fault)
        server.reset_calls()
        run = run_tap(directory, config, state=state, env=hurried(directory / "env"), timeout=200)
        calls = {
            name: [call for call in server.calls if call.page_id == page.id and call.fault]
            for name, page in pages.items()
        }
        assert server.violations == []
        server.faults.clear()
        retried = sync(directory, config, state=run.state)
        new = {
            key
            for page in account.pages
            for key in page.expected_messages(since=datetime(2026, 1, 1, tzinfo=UTC))
        }
        assert len(new) == 5 * len(pages)
        written = run.by_key("messages") | retried.by_key("messages")
        assert new <= written.keys(), "the run after the faults did not make up for them"
    return Endless(state, run, pages, calls, struck, retried)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_does_not_end_is_told_in_one_line(endless: Endless, kind: str) -> None:
    """It names the page, the stream and the remedy."""
    page_id = endless.pages[kind].id
    stream = "messages" if endless.struck else "conversations"
    aside = bool(endless.struck) and kind not in LOST
    skipped = kind in SKIPPED and not aside
    level, other = ("WARNING", "ERROR") if skipped else ("ERROR", "WARNING")
    lines = [line for line in log_lines(endless.run, level) if page_id in line]
    assert len(lines) == 1
    assert f"page {page_id}, " in lines[0]
    assert f", {stream}: " in lines[0]
    assert lines[0].startswith("Skipped: ") == skipped
    assert lines[0].startswith("Set aside: ") == aside
    assert REMEDIES[kind] in lines[0]
    assert not [line for line in log_lines(endless.run, other) if page_id in line]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_may_pass_is_tried_again_and_others_are_not(
    endless: Endless, kind: str
) -> None:
    tries = len(endless.calls[kind])
    if kind in TRANSIENT:
        assert tries >= TRIES_AT_LEAST
    else:
        assert tries == (3 if kind in UNKNOWN else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_with_a_fault_that_does_not_end_keeps_its_bookmarks_or_one_conversation_aside(
    endless: Endless, kind: str
) -> None:
    """A list or page that fails moves nothing; a conversation that fails is remembered."""
    page = endless.pages[kind]
    alone = bool(endless.struck) and kind not in LOST
    before = Run(0, "", "", states=[endless.state])
    for stream in ENDPOINTS:
        old, new = before.bookmark(stream, page.id), endless.run.bookmark(stream, page.id)
        assert old is not None
        assert new is not None
        if alone:
            assert new >= old
        elif not endless.struck:
            assert new == old
        elif stream == "messages":
            at = page.conversations[endless.struck[kind]].updated_at
            text = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
            stretches = entry_of(endless.run, page.id)["open"]
            # Or above all, as `top` is a second before the call.
            assert text > new or any(low <= text <= high for low, high in stretches)
    aside = [one for one, *_ in entry_of(endless.run, page.id).get("aside", [])]
    assert aside == ([endless.struck[kind]] if alone else [])
    if alone:
        written = {row["conversation_id"] for row in endless.run.records["messages"]}
        assert set(list(page.conversations)[:5]) - written == {endless.struck[kind]}
    assert not entry_of(endless.retried, page.id).get("aside")


def entry_of(run: Run, page_id: str) -> Json:
    """Return what the last state holds of the messages of a page."""
    (entry,) = [
        one
        for one in run.state["bookmarks"]["messages"]["partitions"]
        if one["context"]["page_id"] == page_id
    ]
    return dict(entry)


@pytest.mark.parametrize("name", ["good 1", "good 2", "good 3"])
def test_pages_without_a_fault_are_complete(endless: Endless, name: str) -> None:
    page = endless.pages[name]
    before = Run(0, "", "", states=[endless.state])
    written = [row for row in endless.run.records["messages"] if row["page_id"] == page.id]
    assert len(written) == 5
    for stream in ("conversations", "messages"):
        old, new = before.bookmark(stream, page.id), endless.run.bookmark(stream, page.id)
        assert old is not None
        assert new is not None
        assert new > old
    assert page.id not in endless.run.stderr


def test_pages_that_failed_make_the_exit_code_1_and_are_counted(endless: Endless) -> None:
    assert endless.run.returncode == 1
    last = log_lines(endless.run, "CRITICAL")
    assert len(last) == 1
    alone = REMEDIES.keys() - LOST if endless.struck else set()
    failed, skipped = REMEDIES.keys() - alone - SKIPPED.keys(), SKIPPED.keys() - alone
    counts = f"{len(failed)} failed" + (f", {len(alone)} set aside" if alone else "")
    assert last[0].startswith(f"{counts}: what was read is written, ")
    assert f"Skipped in all: {len(skipped)} (" in endless.run.stderr
    assert "Traceback" not in endless.run.stderr


def test_pages_without_permission_or_plan_are_no_failure(tmp_path: Path) -> None:
    account = inbox(len(SKIPPED) + 1, conversations=3)
    with PancakeServer(account) as server:
        for page, kind in zip(account.pages, SKIPPED, strict=False):
            server.faults.append(Fault(kind, page_id=page.id))
        run = sync(tmp_path, config_for(server))
        good = account.pages[-1]
        assert run.by_key("messages").keys() == good.expected_messages().keys()
        assert len(
            [line for line in log_lines(run, "WARNING") if line.startswith("Skipped")]
        ) == len(SKIPPED)
        assert not log_lines(run, "ERROR")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_missing_token_stops_the_run(tmp_path: Path, endpoint: Any) -> None:
    """Error 101: the tap itself must have gone wrong, so no page can be read."""
    account = inbox(3)
    with PancakeServer(account, faults=[Fault("error:101", endpoint=endpoint)]) as server:
        # One after the other: those that are read side by side are under way already.
        run = run_tap(tmp_path, config_for(server, max_parallel_pages=1))
        assert_stopped(run, f"page {account.pages[0].id}, ", f", {endpoint}: ", PAGE_TOKEN)
        assert server.count(page_id=account.pages[1].id) == 0


def assert_stopped(run: Run, *parts: str) -> None:
    """Assert that a run ended with exit code 1 and one line that has these parts."""
    assert run.returncode == 1
    lines = log_lines(run, "CRITICAL")
    assert len(lines) == 1, run.stderr
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in run.stderr


# List-pages, without which nothing can be read.

NEEDED = {
    **TRANSIENT,
    **FAILED,
    **dict.fromkeys(
        ["error:101", "error:102", "error:103", "error:105", "error:190", "http:401"],
        USER_TOKEN,
    ),
    "http:403": "user token",
    "error:121": "renew the subscription",
    "error:122": "renew the subscription",
    "error:125": SKIPPED["error:125"],
    "error:126": SKIPPED["error:126"],
    "no_plan": "renew the subscription",
}


def test_a_fault_of_list_pages_that_does_not_end_stops_the_run(tmp_path: Path) -> None:
    with PancakeServer(inbox(2, conversations=3)) as server:
        state = sync(tmp_path, config_for(server)).state
    kept = {name: state["bookmarks"][name] for name in ENDPOINTS}
    wrong: dict[str, object] = {}

    def run(number: int, kind: str) -> None:
        directory = tmp_path / f"{number}"
        with PancakeServer(inbox(2, conversations=3), faults=[Fault(kind)]) as server:
            env = hurried(directory)
            config = config_for(server, request_timeout=1)
            run = run_tap(directory, config, state=state, env=env, timeout=200)
            try:
                assert_stopped(run, "pages: ", NEEDED[kind])
                assert run.state["bookmarks"].items() >= kept.items()
                assert not run.records
                tries = len(server.calls)
                once = 3 if kind in UNKNOWN else 1
                assert tries >= TRIES_AT_LEAST if kind in TRANSIENT else tries == once, tries
            except AssertionError as error:
                wrong[kind] = error, run.stderr

    side_by_side([partial(run, *case) for case in enumerate(NEEDED)], at_once=4)
    assert not wrong


class Strange(Observed):
    """Answers list-pages with a body of a test."""

    name: ClassVar[str] = "strange"

    def __init__(self, body: Json) -> None:
        self.body = body

    def pages_body(self, account: Account) -> Json:  # noqa: ARG002
        return self.body


STRANGE_BODIES: dict[str, Json] = {
    "nothing": {},
    "another name": {"success": True, "shops": [{"id": "1"}]},
    "null": {"success": True, "categorized": None},
    "a text": {"success": True, "categorized": "activated"},
    "a list of texts": {"success": True, "categorized": ["activated"]},
    "a list of nulls": {"success": True, "categorized": [None]},
    "pages as object": {"success": True, "pages": {"1": {"id": "1"}}},
}


@pytest.mark.parametrize("shape", STRANGE_BODIES)
def test_list_pages_of_an_unknown_shape_stop_the_run(tmp_path: Path, shape: str) -> None:
    server = PancakeServer(inbox(1))
    server.dialect = Strange(STRANGE_BODIES[shape])
    with server:
        assert_stopped(run_tap(tmp_path, config_for(server)), "pages: ", REPORT)


# Tokens.


def renew_at(server: PancakeServer, *numbers: int) -> None:
    """Renew the first page's token when it is called for the n-th time."""
    page = server.account.pages[0]

    def renew(call: Call) -> None:
        if call.page_id == page.id and server.count(page_id=page.id) in numbers:
            page.renew_token()

    server.on_call = renew


def test_a_page_token_that_is_renewed_in_mid_run_is_looked_up_once(tmp_path: Path) -> None:
    with PancakeServer(inbox(3)) as server:
        renew_at(server, 9)
        run = sync(tmp_path, config_for(server))
        assert_complete(server, run)
        assert server.count("pages") == 2
        assert server.violations == []


def test_a_page_token_that_is_renewed_again_fails_its_page_only(tmp_path: Path) -> None:
    account = inbox(3)
    with PancakeServer(account) as server:
        renew_at(server, 6, 12)
        run = run_tap(tmp_path, config_for(server))
        assert_stopped(run, f"page {account.pages[0].id}, ", PAGE_TOKEN)
        assert server.count("pages") == 2
        others = [page.expected_messages().keys() for page in account.pages[1:]]
        assert run.by_key("messages").keys() >= set().union(*others)


def test_an_old_token_in_the_settings_gives_way_to_the_listed_one(tmp_path: Path) -> None:
    account = inbox(2)
    old = {page.id: page.token for page in account.pages}
    account.pages[0].renew_token()
    with PancakeServer(account) as server:
        assert_complete(server, sync(tmp_path, config_for(server, page_access_tokens=old)))


def test_a_renewed_token_that_only_the_settings_held_fails_its_page(tmp_path: Path) -> None:
    account = inbox(2)
    with PancakeServer(account) as server:
        config = config_for(server)
        config["page_access_tokens"] = {page.id: page.token for page in account.pages}
        del config["access_token"]
        renew_at(server, 5)
        run = run_tap(tmp_path, config)
        assert_stopped(run, f"page {account.pages[0].id}, ", PAGE_TOKEN, "`page_access_tokens`")
        assert server.count("pages") == 0
        assert run.by_key("messages").keys() >= account.pages[1].expected_messages().keys()


def test_a_page_without_a_token_fails_and_the_others_are_read(tmp_path: Path) -> None:
    account = Account(3)
    bare = account.add_page(has_token=False)
    page = account.add_page()
    page.fill(5, (1, 5), *YEAR)
    with PancakeServer(account) as server:
        run = run_tap(tmp_path, config_for(server))
        assert_stopped(run, f"page {bare.id}: ", PAGE_TOKEN)
        assert server.count(page_id=bare.id) == 0
        assert run.by_key("messages").keys() == page.expected_messages().keys()


def test_an_expired_user_token_stops_the_run(tmp_path: Path) -> None:
    account = inbox(2)
    account.user_token_state = "expired"
    with PancakeServer(account) as server:
        run = run_tap(tmp_path, config_for(server))
        assert_stopped(run, "expired", USER_TOKEN, "`access_token`")
        assert server.count() == 1


def test_a_user_token_that_expires_in_mid_run_keeps_what_was_read(tmp_path: Path) -> None:
    """Page tokens outlive it, so it is missed only when a page token has to be looked up."""
    account = inbox(2)
    with PancakeServer(account) as server:
        state = sync(tmp_path, config_for(server)).state
        for page in account.pages:
            page.receive(random.Random(1).choice(list(page.conversations)))

        def expire(call: Call) -> None:
            if call.page_id == account.pages[1].id and account.user_token_state == "ok":
                account.user_token_state = "expired"
                account.pages[1].renew_token()

        server.on_call = expire
        run = run_tap(tmp_path, config_for(server), state=state)
        assert_stopped(run, "expired", USER_TOKEN)
        first, second = (page.id for page in account.pages)
        before = Run(0, "", "", states=[state])
        moved, kept = run.bookmark("messages", first), run.bookmark("messages", second)
        assert moved is not None
        assert moved >= str(before.bookmark("messages", first))
        assert first in {row["page_id"] for row in run.records["messages"]}
        assert kept == before.bookmark("messages", second)


# How calls are spaced.


def obey(directory: Path) -> None:
    directory.mkdir()
    account = inbox(1, conversations=5, messages=1)
    with PancakeServer(account, rate=1, retry_after=2) as server:
        sync(directory, config_for(server, requests_per_second=2))
        assert_paused(server, 2)


def assert_paused(server: PancakeServer, seconds: float) -> None:
    """Assert that after each 429 the page had so long a rest, but for a call already under way."""
    pauses = 0
    for page in server.account.pages:
        calls = [call for call in server.calls if call.page_id == page.id]
        for number, refused in enumerate(calls):
            if refused.status == 429:
                rest = [call.time - refused.time for call in calls[number + 1 : number + 3]]
                assert sum(gap < seconds - 0.02 for gap in rest) <= 1
                pauses += 1
    assert pauses


def outlast(directory: Path) -> None:
    directory.mkdir()
    with PancakeServer(inbox(1), faults=[Fault("503", endpoint="messages")]) as server:

        def recover(call: Call) -> None:
            first = next((c.time for c in server.calls if c.endpoint == "messages"), call.time)
            if call.time - first > 30:
                server.faults.clear()

        server.on_call = recover
        assert_complete(server, sync(directory, config_for(server)))
        assert not server.faults


SPACED = {
    "test_retry_after_is_obeyed": obey,
    "test_an_outage_of_half_a_minute_is_survived": outlast,
}


@pytest.fixture(scope="module", autouse=True)
def spaced(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """Runs that mostly wait: they begin with the first test, and end while others go on."""
    names = {item.name for item in request.session.items}
    with begun(SPACED, names, tmp_path_factory.mktemp("spaced")) as jobs:
        yield jobs


def test_retry_after_is_obeyed(
    spaced: dict[str, Future[None]], request: pytest.FixtureRequest
) -> None:
    spaced[request.node.name].result()


def test_an_outage_of_half_a_minute_is_survived(
    spaced: dict[str, Future[None]], request: pytest.FixtureRequest
) -> None:
    spaced[request.node.name].result()


def test_the_default_rate_keeps_to_the_limit(tmp_path: Path) -> None:
    """But for a call now and then that a busy machine delivers late, just before the next one."""
    with PancakeServer(inbox(1, conversations=40), rate=5) as server:
        config = config_for(server)
        del config["requests_per_second"]
        assert_complete(server, sync(tmp_path, config))
        assert server.count() >= 40
        assert 4 * sum(call.status == 429 for call in server.calls) <= server.count()


def test_a_conversation_whose_answers_never_end_is_set_aside(tmp_path: Path) -> None:
    """Its API has a limit, from which on there is nothing; all other conversations come."""
    account = Account.generate(seed=3, pages=1, conversations=8, messages=(80, 120))
    page = account.pages[0]
    deep = max(page.conversations.values(), key=lambda talk: len(talk.messages))
    with PancakeServer(account) as server:
        server.faults = [
            Fault(
                "empty_list",
                endpoint="messages",
                conversation_id=deep.id,
                where=lambda call: int(call.params.get("current_count", 0)) >= 58,
            )
        ]
        run = run_tap(tmp_path, config_for(server))
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert line.startswith(f"Set aside: page {page.id}, conversation {deep.id}, messages: ")
        assert "the same messages again and again" in line
        expected = {key for key in server.expected().messages if key[0] != deep.id}
        assert expected <= run.by_key("messages").keys()
        server.faults = []
        assert_complete(server, run, sync(tmp_path, config_for(server), state=run.state))


def test_messages_that_are_counted_and_do_not_come_are_told(tmp_path: Path) -> None:
    account = Account.generate(seed=3, pages=1, conversations=4, messages=(3, 9))
    first, other, *_ = account.pages[0].conversations.values()
    first.count_error = 200
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server), catalog=select(*INBOX, "sync_runs"))
        (line,) = log_lines(run, "WARNING")
        assert f"conversation {first.id}, messages: the API counts" in line
        assert "returns 200 fewer: they may have been removed" in line
        assert {row["status"] for row in run.records["sync_runs"]} == {"complete", "incomplete"}
        assert_complete(server, run)
        # Later runs read it no further than they need.
        account.pages[0].receive(other.id)
        assert not log_lines(sync(tmp_path, config_for(server), state=run.state), "WARNING")


def test_a_failure_of_a_whole_page_says_that_its_other_streams_are_not_read(tmp_path: Path) -> None:
    account = Account.generate(seed=78, pages=2, conversations=3)
    lost = account.pages[0]
    with PancakeServer(account) as server:
        server.faults = [Fault("error:104", page_id=lost.id)]
        run = run_tap(
            tmp_path, config_for(server), catalog=select("tags", "users", "conversations")
        )
    assert run.returncode == 1
    (line,) = [line for line in log_lines(run, "INFO") if "the whole page" in line]
    assert f"page {lost.id}: the failure of tags" in line
    assert {row["page_id"] for row in run.records["users"]} == {account.pages[1].id}
