"""The bundled server must be what the reference says: every other test leans on it."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.accounts import DIALECTS
from tests.asking import (
    NOON,
    OPENER,
    conversations,
    get,
    ids,
    messages,
    pages,
    seconds,
    small_account,
    walk,
)
from tests.pancake_api import Account, Call, Fault, Page, PancakeServer
from tests.processes import ROOT, output_of, run_process

if TYPE_CHECKING:
    from pathlib import Path


# The data.


def digest(account: Account) -> str:
    truth = account.expected(categories=("activated", "inactivated", "hidden"))
    whole = [list(part.items()) for part in (truth.pages, truth.conversations, truth.messages)]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def test_an_account_is_the_same_in_every_process_and_differs_by_seed() -> None:
    imports = "from tests.test_pancake_api import Account, digest"
    program = f"{imports}; print(digest(Account.generate(3, 8, 9)))"
    found = {
        output_of(
            [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONHASHSEED": hash_seed}
        ).strip()
        for hash_seed in ("1", "2")
    }
    assert found == {digest(Account.generate(3, 8, 9))}
    assert digest(Account.generate(4, 8, 9)) not in found


def test_a_generated_account_holds_what_makes_extraction_hard() -> None:
    account = Account.generate(pages=8)
    truth = account.expected()
    assert [page.category for page in account.pages][-2:] == ["inactivated", "hidden"]
    assert len({page.platform for page in account.pages}) == 8
    assert len(truth.pages) == 8
    assert len(truth.conversations) == 8 * 40
    per_conversation = [
        len(c.messages) for page in account.pages for c in page.conversations.values()
    ]
    assert sum(count > 60 for count in per_conversation) > 3
    assert sorted(per_conversation)[len(per_conversation) // 2] < 20
    assert {row["type"] for row in truth.conversations.values()} == {"INBOX", "COMMENT", "RATING"}
    wire_ids = " ".join(conversation_id for _, conversation_id in truth.conversations)
    assert ":" in wire_ids
    assert "@" in wire_ids
    # The key of a message is (conversation_id, id): an id alone is not unique.
    assert len({message_id for _, message_id in truth.messages}) < len(truth.messages)
    times = [(key[0], row["inserted_at"]) for key, row in truth.messages.items()]
    assert len(set(times)) < len(times)
    for row in truth.conversations.values():
        assert row["updated_at"].tzinfo is UTC
    with PancakeServer(account) as server:
        rows = [server.row(page.id, key) for page in account.pages for key in page.conversations]
        wire = json.dumps(rows)
        assert "SECRET-session" in wire
        assert "SECRET-business" in wire
        assert any(None in row["tags"] for row in rows)
        sent = [
            m
            for page in account.pages
            for key in page.conversations
            for m in server.message_rows(page.id, key)
        ]
    assert any(row["from"]["id"] == row["page_id"] for row in rows)
    assert any(m["message_tags"] for m in sent)
    assert any(m["edit_history"] for m in sent)
    assert any(m["private_reply_conversation"] for m in sent)
    assert any(m["rich_message"] for m in sent)
    assert any(m["is_removed"] for m in sent)
    assert any(m["from"].get("app_id", 0) > 10**14 for m in sent)
    assert len({a["type"] for m in sent for a in m["attachments"]}) >= 10


def test_updated_at_is_the_time_of_the_last_message() -> None:
    account = Account.generate()
    for page in account.pages:
        for conversation in page.conversations.values():
            shown = [message.inserted_at for message in conversation.messages]
            assert shown == sorted(shown)
            assert conversation.updated_at == shown[-1]


def test_a_message_moves_its_conversation_and_a_tag_does_not() -> None:
    account, page, made = small_account()
    account.clock = lambda: NOON + timedelta(hours=1)
    page.tag(made[0].id, 3)
    assert made[0].updated_at == NOON
    assert made[0].tag_ids == [3]
    page.tag(made[0].id, 3, action="remove")
    assert made[0].tag_ids == []
    assert [change.action for change in made[0].tag_histories] == ["add", "remove"]
    page.receive(made[0].id, text="a 0900000123", sender="staff")
    assert made[0].updated_at == NOON + timedelta(hours=1)
    assert (made[0].snippet, made[0].message_count, made[0].seen) == ("a 0900000123", 2, True)
    with PancakeServer(account) as server:
        assert server.row(page.id, made[0].id)["recent_phone_numbers"][0]["offset"] == 2
        assert ids(conversations(server, page))[0] == made[0].id


def test_a_late_message_is_nowhere_before_its_time() -> None:
    account, page, made = small_account(2)
    now = NOON + timedelta(minutes=1)
    account.clock = lambda: now
    late = page.receive(
        made[0].id, at=NOON + timedelta(seconds=30), visible_at=NOON + timedelta(minutes=2)
    )
    hidden = page.add_conversation(at=NOON, visible_at=NOON + timedelta(minutes=2))
    key = (made[0].id, late.id)
    with PancakeServer(account) as server:
        assert key not in account.expected().messages
        assert ids(conversations(server, page)) == [made[1].id, made[0].id]
        assert messages(server, page, hidden.id).body.startswith(b"<!DOCTYPE")
        now = NOON + timedelta(minutes=2)
        assert key in account.expected().messages
        assert ids(conversations(server, page)) == [made[0].id, made[1].id, hidden.id]
        assert made[0].updated_at == NOON + timedelta(seconds=30)
        assert len(messages(server, page, hidden.id).json["messages"]) == 1


def test_a_large_page_is_walked_whole() -> None:
    account = Account()
    page = account.add_page()
    for number in range(5000):
        page.add_conversation(at=NOON + timedelta(seconds=number % 7))
    with PancakeServer(account) as server:
        assert len(set(walk(server, page))) == 5000


# Dialects.


def test_list_pages_in_each_dialect() -> None:
    account = Account.generate(pages=2, conversations=1)
    account.add_page(has_token=False)
    with PancakeServer(account) as server:
        found = pages(server).json
        assert list(found) == ["success", "categorized"]
        groups = found["categorized"]
        assert [
            len(groups[name]) for name in ("activated", "inactivated", "hidden", "nopermission")
        ] == [3, 1, 1, 0]
        assert groups["activated_page_ids"] == [page["id"] for page in groups["activated"]]
        tokens = [page["settings"]["page_access_token"] for page in groups["activated"]]
        assert tokens == [account.pages[0].token, account.pages[1].token, None]
        assert all(mark in tokens[0] for mark in "+/=")
        assert "page_access_token" not in groups["inactivated"][0]["settings"]
        assert groups["activated"][0]["inserted_at"] == "2024-01-03T03:04:05"
    with PancakeServer(account, "documented") as server:
        found = pages(server).json
        assert list(found) == ["pages"]
        assert list(found["pages"][0]) == ["id", "platform", "name", "avatar_url"]
        assert "token" not in json.dumps(found)
    with PancakeServer(account, "older") as server:
        found = pages(server).json
        assert (
            found["categorized_pages"]["activated"][0]["settings"]["page_access_token"]
            == account.pages[0].token
        )


@pytest.mark.parametrize(
    ("dialect", "newest", "bare"),
    [
        ("observed", "2025-06-01T12:00:00.120000", "2025-06-01T12:00:00.000000"),
        ("documented", "2025-06-01T12:00:00Z", "2025-06-01T12:00:00Z"),
        ("older", "2025-06-01T12:00:00.120000", "2025-06-01T12:00:00"),
    ],
)
def test_conversation_rows_in_each_dialect(dialect: str, newest: str, bare: str) -> None:
    account, page, (conversation,) = small_account(1)
    page.receive(conversation.id, at=NOON + timedelta(milliseconds=120), text="0900000001")
    page.tag(conversation.id, 3, at=NOON)
    conversation.tag_ids.append(None)
    with PancakeServer(account, dialect) as server:
        if dialect == "older":
            window: dict[str, Any] = {
                "since": seconds(NOON),
                "until": seconds(NOON) + 60,
                "page_number": 1,
            }
            found = conversations(server, page, "v1", **window).json
        else:
            found = conversations(server, page).json
        row = found["conversations"][0]
        assert row == server.row(page.id, conversation.id)
        assert row["updated_at"] == newest
        assert row["inserted_at"] == bare
        assert row["page_customer"]["inserted_at"] == bare[:19] + (
            "Z" if dialect == "documented" else ""
        )
        if dialect == "documented":
            assert "success" not in found
            assert row["id"] == conversation.psid
            assert row["tags"][1] is None
            assert row["tags"][0]["id"] == 3
            assert row["recent_phone_numbers"] == [{"phone_number": "0900000001"}]
        else:
            assert found["success"] is True
            assert row["id"] == f"{page.id}_{conversation.psid}"
            assert row["tags"] == [3] if dialect == "older" else row["tags"][1] is None
            assert row["recent_phone_numbers"][0]["captured"] == "0900000001"


@pytest.mark.parametrize(
    ("dialect", "batches"),
    [
        ("observed", [30, 30, 12, 0]),
        ("documented", [30, 30, 12, 0]),
        ("older", [20, 25, 25, 2, 0]),
    ],
)
def test_message_batches_in_each_dialect(dialect: str, batches: list[int]) -> None:
    oldest_first = dialect != "documented"
    account, page, (conversation,) = small_account(1)
    for number in range(71):
        page.receive(conversation.id, at=NOON + timedelta(seconds=number))
    page.conversations[conversation.id].messages[5].edits = [(NOON, "before")]
    with PancakeServer(account, dialect) as server:
        wire_id = server.row(page.id, conversation.id)["id"]
        asked = {"customer_id": conversation.customers[0].id}
        found: list[Any] = []
        for size in batches:
            answer = messages(server, page, wire_id, current_count=len(found) or None, **asked).json
            rows = answer["messages"]
            assert len(rows) == size
            assert answer["conversation_id"] == wire_id
            times = [row["inserted_at"] for row in rows]
            assert times == sorted(times, reverse=not oldest_first)
            found += reversed(rows) if oldest_first else rows
        assert list(reversed(found)) == server.message_rows(page.id, conversation.id)
        assert {(wire_id, row["id"]) for row in found} == set(server.expected().messages)
        assert answer["last_commented_at"] is (None if dialect == "documented" else False)
        edited = server.message_rows(page.id, conversation.id)[5]["edit_history"]
        assert isinstance(edited, list if dialect == "documented" else dict)
        if dialect == "older":
            assert messages(server, page, wire_id).json == {
                "success": False,
                "message": "Thiếu mã khách hàng",
            }


def test_the_older_list_demands_its_parameters() -> None:
    account, page, made = small_account(125)
    page.receive(made[0].id, at=NOON + timedelta(days=1))
    window: dict[str, Any] = {"since": seconds(NOON), "until": seconds(NOON) + 86400}
    with PancakeServer(account, "older") as server:
        assert conversations(server, page, "v2").status == 406
        assert conversations(server, page, "v1", page_number=1).json["conversations"] == []
        assert conversations(server, page, "v1", **window).error == (200, 100)
        assert conversations(server, page, "v1", page_number=0, **window).error == (200, 100)
        too_long: dict[str, Any] = {"since": 0, "until": 31 * 86400 + 1}
        assert conversations(server, page, "v1", page_number=1, **too_long).error == (200, 100)
        batches = [
            ids(conversations(server, page, "v1", page_number=number, **window))
            for number in (1, 2, 3, 4)
        ]
        assert [len(batch) for batch in batches] == [60, 60, 5, 0]
        # inserted_at is the default order, so the conversation that moved is still the oldest.
        assert batches[2][-1] == made[0].id
        by_update = conversations(
            server, page, "v1", page_number=1, order_by="updated_at", **window
        )
        assert ids(by_update)[0] == made[0].id
    with PancakeServer(account, v1_page_size=10) as server:
        assert len(ids(conversations(server, page, "v1", page_number=1, **window))) == 10
    with PancakeServer(account, "documented") as server:
        assert conversations(server, page, "v1", page_number=1, **window).status == 406


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_expected_truth_speaks_the_dialect(dialect: str) -> None:
    account = Account.generate(pages=8, conversations=6)
    with PancakeServer(account, dialect) as server:
        truth = server.expected()
        for (page_id, conversation_id), expected in truth.conversations.items():
            row = server.row(page_id, conversation_id)
            seen = {
                key: row[key] for key in expected.keys() - {"tag_ids", "inserted_at", "updated_at"}
            }
            assert seen == {key: expected[key] for key in seen}
            read = datetime.fromisoformat(row["updated_at"]).replace(tzinfo=UTC)
            assert read == expected["updated_at"]
            for message in server.message_rows(page_id, conversation_id):
                sent = truth.messages[conversation_id, message["id"]]
                read = datetime.fromisoformat(message["inserted_at"]).replace(tzinfo=UTC)
                assert {**{key: message[key] for key in sent}, "inserted_at": read} == sent


# Lists.


def test_the_cursor_leads_through_equal_times() -> None:
    account = Account()
    page = account.add_page()
    made = [page.add_conversation(at=NOON) for _ in range(200)]
    with PancakeServer(account) as server:
        found = walk(server, page)
        assert len(found) == 200
        assert set(found) == {conversation.id for conversation in made}
        assert server.count("conversations") == 5


@pytest.mark.parametrize(
    ("bounds", "seen"), [("[]", "210"), ("[)", "10"), ("(]", "21"), ("()", "1")]
)
def test_windows_compare_at_full_precision(bounds: Any, seen: str) -> None:
    account = Account()
    page = account.add_page()
    names = {}
    for number in range(3):
        names[page.add_conversation(at=NOON + timedelta(seconds=number)).id] = str(number)
    names[page.add_conversation(at=NOON - timedelta(microseconds=1)).id] = "before"
    names[page.add_conversation(at=NOON + timedelta(seconds=2, microseconds=1)).id] = "after"
    with PancakeServer(account, window_bounds=bounds) as server:
        answer = conversations(server, page, since=seconds(NOON), until=seconds(NOON) + 2)
        assert "".join(names[conversation_id] for conversation_id in ids(answer)) == seen


def test_order_by_chooses_the_field_that_windows_filter() -> None:
    account, page, made = small_account(2)
    page.receive(made[0].id, at=NOON + timedelta(hours=1))
    window: dict[str, Any] = {"since": seconds(NOON), "until": seconds(NOON) + 60}
    with PancakeServer(account) as server:
        assert ids(conversations(server, page, **window)) == [made[1].id]
        assert ids(conversations(server, page, order_by="inserted_at", **window)) == [
            made[1].id,
            made[0].id,
        ]
        assert conversations(server, page, order_by="name").error == (200, 100)
        assert conversations(server, page, since="yesterday").error == (200, 100)
        server.window_filter = "inserted_at"
        assert ids(conversations(server, page, **window)) == [made[0].id, made[1].id]
        server.window_filter = "ignored"
        assert ids(conversations(server, page, since=1, until=2)) == [made[0].id, made[1].id]


def test_a_cursor_that_left_the_window() -> None:
    account, page, made = small_account(150)
    window: dict[str, Any] = {"since": seconds(NOON), "until": seconds(NOON) + 600}
    with PancakeServer(account) as server:
        first = ids(conversations(server, page, **window))
        page.receive(first[-1], at=NOON + timedelta(hours=1))
        again = ids(conversations(server, page, last_conversation_id=first[-1], **window))
        assert (
            again
            == [conversation.id for conversation in reversed(made) if conversation.id != first[-1]][
                :60
            ]
        )
        server.lost_cursor = "empty"
        assert ids(conversations(server, page, last_conversation_id=first[-1], **window)) == []
        # Without a window it has only moved to the top, and all others are older than it.
        assert ids(conversations(server, page, last_conversation_id=first[-1]))[0] == first[0]


def test_filters_by_type_and_tags() -> None:
    account = Account()
    page = account.add_page()
    inbox, comment, rating = (
        page.add_conversation(kind, at=NOON) for kind in ("INBOX", "COMMENT", "RATING")
    )
    page.tag(inbox.id, 1)
    page.tag(inbox.id, 2)
    page.tag(comment.id, 1)
    assert comment.id.split("_")[0] == str(comment.post_id).split("_")[1]
    assert rating.id == rating.post_id
    with PancakeServer(account) as server:
        assert ids(conversations(server, page, type="COMMENT")) == [comment.id]
        assert ids(conversations(server, page, type=["COMMENT", "INBOX"])) == []
        assert ids(conversations(server, page, type="POST", post_ids=comment.post_id)) == [
            comment.id
        ]
        assert len(ids(conversations(server, page, tags="1"))) == 2
        assert ids(conversations(server, page, tags="1,2")) == [inbox.id]


def test_messages_count_from_the_newest_while_new_ones_arrive() -> None:
    account, page, (conversation,) = small_account(1)
    for number in range(40):
        page.receive(conversation.id, at=NOON + timedelta(seconds=number))
    with PancakeServer(account) as server:
        first = [row["id"] for row in messages(server, page, conversation.id).json["messages"]]
        page.receive(conversation.id, at=NOON + timedelta(hours=1))
        second = [
            row["id"]
            for row in messages(server, page, conversation.id, current_count=30).json["messages"]
        ]
        assert set(first) & set(second) == {first[0]}


# Refusals.


@pytest.mark.parametrize(("dialect", "status"), [("observed", 200), ("documented", 401)])
def test_tokens_are_refused(dialect: str, status: int) -> None:
    account, page, _ = small_account()
    other = account.add_page()
    no_token = account.add_page(has_token=False)
    with PancakeServer(account, dialect) as server:

        def code(token: str | None, asked: Page = page) -> int | None:
            found, code = conversations(server, asked, page_access_token=token).error
            assert found == status
            return code

        assert code(None) == 101
        assert code("x") == 102
        assert code(account.user_token) == 102
        assert code(other.token) == 102
        assert code("x", no_token) == 102
        old = page.token
        new = page.renew_token()
        assert new != old
        assert code(old) == 105
        assert conversations(server, page, page_access_token=None, access_token=new).status == 200
        assert get(server, "/api/v1/pages").error == (status, 101)
        assert pages(server, new).error == (status, 102)
        account.user_token_state = "expired"
        assert pages(server).error == (status, 103)
        unknown = get(server, "/api/public_api/v2/pages/1/conversations", page_access_token=new)
        assert unknown.error == (status, 102)


def test_pages_without_plan_or_permission() -> None:
    account, page, made = small_account()
    with PancakeServer(account) as server:
        page.plan_lapsed = 122
        assert conversations(server, page).error == (200, 122)
        assert messages(server, page, made[0].id).error == (200, 122)
        page.forbidden = True
        assert conversations(server, page).error == (403, None)


def test_unknown_things_are_not_a_clean_404() -> None:
    account, page, _ = small_account()
    with PancakeServer(account) as server:
        answer = messages(server, page, "nobody")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<!DOCTYPE html>" in answer.body
        answer = get(server, "/api/public_api/v1/pages/1/nothing")
        assert (answer.status, answer.body) == (406, b"Server internal error")


def test_whatever_could_change_something_is_a_violation() -> None:
    account, page, _ = small_account()
    token = page.token
    path = f"/api/v1/pages/{page.id}/generate_page_access_token"
    with PancakeServer(account) as server:
        assert conversations(server, page).status == 200
        assert server.violations == []
        assert get(server, path, access_token=account.user_token).status == 406
        assert get(server, path, method="POST", access_token=account.user_token).status == 405
        assert get(server, "/api/v1/pages", method="DELETE").status == 405
        assert get(server, "/api/v1/pages", method="HEAD").status == 405
        assert server.violations == [
            f"GET {path}",
            f"POST {path}",
            "DELETE /api/v1/pages",
            "HEAD /api/v1/pages",
        ]
    assert page.token == token


# The books, limits, moves.


def test_calls_are_recorded_without_tokens() -> None:
    account, page, made = small_account(platform="whatsapp")
    assert "@" in made[0].id
    with PancakeServer(account) as server:
        pages(server)
        conversations(server, page, since=1, type=["INBOX", "COMMENT"])
        answer = messages(server, page, made[0].id, current_count=30)
        assert answer.headers["x-request-id"]
        assert [call.endpoint for call in server.calls] == ["pages", "conversations", "messages"]
        call = server.calls[1]
        assert (call.number, call.page_id, call.status, call.fault) == (2, page.id, 200, None)
        assert call.params == {"since": "1", "type": "INBOX,COMMENT"}
        assert server.calls[2].conversation_id == made[0].id
        assert call.user_agent.startswith("Python-urllib")
        assert (server.count(), server.count("messages"), server.count(page_id=page.id)) == (
            3,
            1,
            2,
        )
        assert "token" not in repr(server.calls)
        server.reset_calls()
        assert server.count() == 0


def test_each_page_has_a_limit_of_its_own() -> None:
    account, page, _ = small_account()
    other = account.add_page()
    with PancakeServer(account, rate=5) as server:
        statuses = [conversations(server, page).status for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        refused = conversations(server, page)
        assert refused.json["success"] is False
        assert "Retry-After" not in refused.headers
        assert server.calls[-1].fault is None
        assert conversations(server, other).status == 200
        assert pages(server).status == 200
        server.retry_after = 3
        assert conversations(server, page).headers["Retry-After"] == "3"
        time.sleep(1.05)
        assert conversations(server, page).status == 200


def test_latency() -> None:
    account, page, _ = small_account()
    with PancakeServer(account, latency=lambda call: 0.1 * (call.endpoint == "pages")) as server:
        began = time.monotonic()
        pages(server)
        assert time.monotonic() - began >= 0.1
        server.latency = 0.0
        conversations(server, page)


def test_the_inbox_moves_when_a_test_says() -> None:
    account, page, made = small_account()

    def arrive(call: Call) -> None:
        if call.number == 2:
            page.receive(made[0].id, at=NOON + timedelta(hours=1))

    with PancakeServer(account) as server:
        server.on_call = arrive
        assert ids(conversations(server, page))[0] == made[2].id
        assert ids(conversations(server, page))[0] == made[0].id
        moved: list[int] = []
        server.move_every(3, lambda: moved.append(server.count()))
        for _ in range(5):
            conversations(server, page)
        assert moved == [3, 6]


def test_an_error_in_a_hook_is_not_swallowed() -> None:
    account, _, _ = small_account()

    def fail(_: Call) -> None:
        message = "from the hook"
        raise LookupError(message)

    def run() -> None:
        with PancakeServer(account) as server:
            server.on_call = fail
            with pytest.raises(OSError, match=r"closed|reset"):
                pages(server)

    with pytest.raises(LookupError, match="from the hook"):
        run()


def test_many_connections_at_once() -> None:
    account = Account.generate(pages=4, conversations=20)
    failed: list[object] = []

    def read(page: Page) -> None:
        for conversation_id in page.conversations:
            answer = messages(server, page, conversation_id)
            if answer.status != 200 or answer.json["success"] is not True:
                failed.append(answer)

    with PancakeServer(account) as server:
        threads = [
            threading.Thread(target=read, args=(page,))
            for page in account.pages[:4]
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.count("messages") == 4 * 4 * 20
        assert [call.number for call in server.calls] == list(range(1, 321))
    assert not failed


def test_a_connection_is_kept_and_dropped_at_the_end() -> None:
    account, _, _ = small_account()
    with PancakeServer(account) as server:
        connection = http.client.HTTPConnection(server.host, timeout=5)
        for _ in range(3):
            connection.request(
                "GET", "/api/v1/pages?" + urlencode({"access_token": account.user_token})
            )
            answer = connection.getresponse()
            assert json.loads(answer.read())["success"] is True
        kept = connection.sock
        assert kept is not None
        assert kept.getsockname()[0] == "127.0.0.1"
    assert kept.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(
            (urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=1
        )


# Faults.


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("429", 429, b"Too many requests"),
        ("429_retry_after", 429, b"Too many requests"),
        ("500", 500, b"internal"),
        ("502_html", 502, b"<html>"),
        ("503", 503, b"internal"),
        ("not_json", 200, b"<!DOCTYPE html>"),
        ("empty_body", 200, b""),
        ("success_false", 200, b"An error occurred. Please try again later."),
        ("error:121", 200, b'"error_code":121'),
        ("error:999", 200, b'"error_code":999'),
        ("no_plan", 200, "Không tìm thấy gói cước".encode()),
        ("http:403", 403, b'"success":false'),
        ("http:520", 520, b'"success":false'),
        ("echo", 400, b"access_token=page."),
        ("echo500", 500, b"access_token=page."),
        ("redirect:http://127.0.0.1:9/x", 302, b""),
        ("missing_list", 200, b'{"success":true}'),
    ],
)
def test_faults_that_are_answers(kind: str, status: int, body: bytes) -> None:
    account, page, _ = small_account()
    with PancakeServer(account, faults=[Fault(kind, times=1)]) as server:
        answer = conversations(server, page, page_access_token=None, access_token=page.token)
        assert answer.status == status
        assert body in answer.body
        assert (server.calls[0].status, server.calls[0].fault) == (status, kind)
        assert answer.headers.get("Retry-After") == ("1" if kind == "429_retry_after" else None)
        if status == 302:
            assert answer.headers["Location"].startswith("http://127.0.0.1:9/x?access_token=page.")
        assert len(ids(conversations(server, page))) == 3


def raw(server: PancakeServer) -> socket.socket:
    """A connection on which list-pages has been asked for."""
    url = urlsplit(server.url)
    connection = socket.create_connection((url.hostname, url.port), timeout=5)
    query = urlencode({"access_token": server.account.user_token})
    connection.sendall(f"GET /api/v1/pages?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def test_a_reset_is_a_reset() -> None:
    account, _, _ = small_account()
    with PancakeServer(account, faults=[Fault("reset")]) as server:
        with raw(server) as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert server.calls[0].status == 0


def test_a_cut_answer_is_shorter_than_it_says() -> None:
    account, _, _ = small_account()
    with PancakeServer(account, faults=[Fault("cut")]) as server:
        with raw(server) as connection:
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        stated = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert 0 < len(body) < stated
        with pytest.raises(http.client.IncompleteRead):
            pages(server)


def test_a_hanging_server_says_nothing_and_can_be_closed() -> None:
    account, _, _ = small_account()
    with PancakeServer(account, faults=[Fault("hang")]) as server:
        with pytest.raises(TimeoutError):
            pages_with_timeout(server, 0.2)
        waiting = raw(server)
        while server.count() < 2:
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with waiting:
        assert waiting.recv(1) == b""


def pages_with_timeout(server: PancakeServer, timeout: float) -> None:
    get(server, "/api/v1/pages", timeout=timeout, access_token=server.account.user_token)


def test_a_dripping_answer_comes_byte_by_byte() -> None:
    account, _, _ = small_account()
    with PancakeServer(account, faults=[Fault("drip")]) as server, raw(server) as connection:
        assert connection.recv(100) == b"H"
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(5)
        assert connection.recv(100) == b"T"


def test_faults_hit_the_calls_they_name() -> None:
    account, page, made = small_account()
    with PancakeServer(account) as server:

        def hit(fault: Fault, calls: int = 8) -> str:
            server.faults = [fault]
            return "".join(
                "x" if messages(server, page, made[0].id).status == 503 else "."
                for _ in range(calls)
            )

        assert hit(Fault("503", every=3)) == "..x..x.."
        assert hit(Fault("503", at={3, 7})) == "..x...x."
        assert hit(Fault("503", times=2)) == "xx......"
        assert hit(Fault("503", every=2, times=2)) == ".x.x...."
        assert hit(Fault("503", endpoint="conversations"), 2) == ".."
        assert hit(Fault("503", page_id="1"), 2) == ".."
        assert hit(Fault("503", conversation_id=made[1].id), 2) == ".."
        assert (
            hit(Fault("503", endpoint="messages", page_id=page.id, conversation_id=made[0].id), 2)
            == "xx"
        )
    for kind in ("504x", "error:", "error:x", "redirect:"):
        with pytest.raises(ValueError, match="unknown kind"):
            Fault(kind)


# Stand-alone.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stands_alone(tmp_path: Path, number: int) -> None:
    port_file = tmp_path / "port"
    command = [
        sys.executable,
        "-m",
        "tests.pancake_api",
        "--pages",
        "1",
        "--conversations",
        "2",
        "--rate",
        "0",
    ]
    with subprocess.Popen(
        [*command, "--port-file", str(port_file), "--user-token", "u+1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[3]
        assert line == f"Pancake server on {url}\n"
        config = process.stdout.readline().removeprefix("config.json for it: ")
        assert json.loads(config) == {"access_token": "u+1", "api_url": url}
        while not port_file.exists():
            time.sleep(0.01)
        assert port_file.read_text(encoding="utf-8") == f"{url}\n"
        query = urlencode({"access_token": "u+1"})
        with OPENER.open(f"{url}/api/v1/pages?{query}", timeout=5) as response:
            assert json.load(response)["success"] is True
        process.send_signal(number)
        assert process.wait(timeout=5) == 0


@pytest.mark.parametrize(
    "arguments", [("--start", "2030-01-01"), ("--start", "2026-03-02", "--end", "2026-03-01")]
)
def test_a_span_that_ends_before_it_begins_is_refused_in_one_line(
    arguments: tuple[str, ...],
) -> None:
    done = run_process([sys.executable, "-m", "tests.pancake_api", *arguments], cwd=ROOT)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert f"error: --start {arguments[1]} 00:00:00+00:00 is not before --end 2026-" in last
    assert "Traceback" not in done.stderr
