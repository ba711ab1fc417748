"""Hostile answers: a clear error or a correct row; no hang, no crash, no token sent elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import sys
import time
import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
import requests
from singer_sdk.contrib.msgspec import MsgSpecReader

from tap_pancake.api.errors import PageFailed, PancakeError, TransientError
from tap_pancake.api.transport import Transport
from tap_pancake.rows import times
from tap_pancake.rows.shaping import RowShaper
from tap_pancake.tap import TapPancake
from tests.accounts import BEFORE_AND_AFTER, crowded_account
from tests.pancake_api import Account, Call, PancakeServer
from tests.stream_truth import records, utc
from tests.tap import KEYS, Run, full_config, log_lines, read_output, run_tap, select
from tests.wire import BODY, TOKEN, answer_bytes, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap import Json

# What comes over the wire.


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    with PancakeServer(Account(1)) as server:
        yield server


def for_ever(first: bytes, more: bytes, wait: float = 0.0) -> Iterator[bytes]:
    """Return the pieces of an answer that does not end."""
    yield first
    while True:
        yield more
        time.sleep(wait)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
SLOW: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "header": (HEAD + b"x-a: ", b"a"),
    "headers": (HEAD, b"a"),
    "body": (HEAD + b"content-length: 9999\r\n\r\n", b" "),
    "body without length": (HEAD + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "length of a chunk": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n"),
}


@pytest.mark.parametrize("part", SLOW)
def test_an_answer_that_drips_in_is_given_up(server: PancakeServer, part: str) -> None:
    """Each byte comes long before the timeout, and the last one never."""
    server.scripts["pages"] = lambda _: for_ever(*SLOW[part], wait=0.05)
    with pytest.raises(TransientError, match=r"no answer within 0\.5 seconds: raise `request_time"):
        ask(server)


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "body": (HEAD + b"\r\n", b" " * 100_000),
    "body of a wrong length": (
        HEAD + b"content-length: 1" + b"0" * 30 + b"\r\n\r\n",
        b" " * 99_999,
    ),
    "chunks": (CHUNKED, b"186a0\r\n" + b" " * 100_000 + b"\r\n"),
    "unpacked body": (
        answer_bytes(gzip.compress(b" " * 70 * 2**20), "200 OK", "content-encoding: gzip"),
        b" " * 1000,
    ),
}


@pytest.mark.parametrize("part", ENDLESS)
def test_an_answer_without_end_is_not_kept_in_memory(server: PancakeServer, part: str) -> None:
    server.scripts["pages"] = lambda _: for_ever(*ENDLESS[part])
    transport = Transport(timeout=30, user_agent="tests", connections=1)
    tracemalloc.start()
    with pytest.raises(
        PageFailed, match=r"^pages: the answer has more than 64 MB: check `api_url`"
    ):
        ask(server, transport)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20


FAILED = "the connection failed"
WRONG: dict[str, tuple[bytes, str]] = {
    "headers without end": (HEAD + b"x: a\r\n" * 200, FAILED),
    "header without end": (HEAD + b"x: " + b"a" * 70_000, FAILED),
    "length of a chunk without end": (CHUNKED + b"0" * 500_000, FAILED),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", FAILED),
    "no text": (bytes(range(256)) * 2, FAILED),
    "status of two digits": (answer_bytes(BODY, "99 Odd"), FAILED),
    "lengths that differ": (answer_bytes(BODY, "200 OK", "content-length: 4"), FAILED),
    "length beyond the body": (HEAD + b"content-length: 999\r\n\r\n" + BODY, "no answer within"),
    "negative length": (HEAD + b"content-length: -9\r\n\r\n" + BODY, "no answer within"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no answer within"),
    "no gzip": (answer_bytes(BODY, "200 OK", "content-encoding: gzip"), FAILED),
    "gzip in gzip in gzip": (
        answer_bytes(BODY, "200 OK", "content-encoding: " + ", ".join(["gzip"] * 99)),
        FAILED,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_answer_is_a_fault_of_one_line(server: PancakeServer, what: str) -> None:
    sent, message = WRONG[what]
    server.scripts["pages"] = lambda _: [sent]
    with pytest.raises(TransientError, match=message) as raised:
        ask(server)
    assert str(raised.value).isprintable()
    assert raised.value.__context__ is None


RIGHT: dict[str, bytes] = {
    "chunks": CHUNKED + b"1e;a=b\r\n" + BODY + b"\r\n0\r\nx: trailer\r\n\r\n",
    "gzip": answer_bytes(gzip.compress(BODY), "200 OK", "content-encoding: gzip"),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + answer_bytes(BODY),
    "to be continued": b"HTTP/1.1 100 Continue\r\n\r\n" + answer_bytes(BODY),
    "old": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 30\r\n\r\n" + BODY,
    "same length twice": answer_bytes(BODY, "200 OK", "content-length: 30"),
    "wrong charset": answer_bytes(BODY, "200 OK", "content-type: application/json; charset=utf-7"),
    "no reason": answer_bytes(BODY, "200 "),
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_an_answer_is_read(server: PancakeServer, what: str) -> None:
    server.scripts["pages"] = lambda _: [RIGHT[what]]
    assert len(BODY) == 30
    transport = Transport(timeout=5, user_agent="tests", connections=1)
    for _ in range(3):
        got = ask(server, transport)
        assert (got.status, got.content) == (200, BODY)
    assert len(server.connections) == 1


def test_an_answer_is_never_taken_for_that_of_another_call(server: PancakeServer) -> None:
    """Hints come before the answer, which comes when the next call may be under way."""

    def script(call: Call) -> Iterator[bytes]:
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n"
        time.sleep(0.05)
        yield answer_bytes(call.params["question"].encode())

    server.scripts["pages"] = script
    transport = Transport(timeout=5, user_agent="tests", connections=1)
    for number in range(5):
        assert ask(server, transport, question=f"{number}").content == b"%d" % number


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("-1", 0.0),
        ("1e9", 300.0),
        ("1" + "0" * 30, 300.0),
        ("1" + "0" * 400, None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("soon", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_no_answer_can_ask_to_wait_for_long(
    server: PancakeServer, header: str, seconds: float | None
) -> None:
    server.scripts["pages"] = lambda _: [answer_bytes(b"{}", "429 Slow", f"retry-after: {header}")]
    assert ask(server).retry_after == seconds


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_nobody_else_is_told_a_token(server: PancakeServer, status: int) -> None:
    with PancakeServer(Account(1)) as thief:
        for place in (thief.url, f"//{thief.host}", f"http://user:word@{thief.host}", "/api/v1/me"):
            where = f"{place}/?access_token={TOKEN}"
            lines = (f"location: {where}", f"refresh: 0; url={where}", f"link: <{where}>; rel=next")
            server.scripts["pages"] = lambda _, lines=lines: [  # type: ignore[misc]
                answer_bytes(BODY, f"{status} Elsewhere", *lines)
            ]
            server.reset_calls()
            assert ask(server).status == status
            assert [call.endpoint for call in server.calls] == ["pages"]
        assert thief.count() == 0


def test_nothing_but_the_token_tells_who_asks(
    server: PancakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a cookie that was set, nor what ~/.netrc has for the host."""
    (tmp_path / ".netrc").write_text("default login somebody password word\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    assert requests.utils.get_netrc_auth(server.url) == ("somebody", "word")
    server.scripts["pages"] = lambda _: [answer_bytes(BODY, "200 OK", "set-cookie: a=b; path=/")]
    transport = Transport(timeout=5, user_agent="tests", connections=1)
    for _ in range(2):
        ask(server, transport)
    for call in server.calls:
        assert call.headers.keys() == {
            "accept",
            "accept-encoding",
            "connection",
            "host",
            "user-agent",
        }


def test_a_proxy_is_asked_only_if_the_user_says_so(
    server: PancakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PancakeServer(Account(1)) as proxy:
        proxy.scripts["other"] = lambda _: [answer_bytes(BODY)]
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert ask(server).content == BODY
        assert (proxy.count(), server.count()) == (1, 0)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server.scripts["pages"] = lambda _: [answer_bytes(BODY)]
        assert ask(server).content == BODY
        assert (proxy.count(), server.count()) == (1, 1)


# What stands in rows.


@dataclass
class Read:
    """What a run within this process wrote, and how it ended."""

    output: str
    error: str
    errors: list[str]

    @property
    def run(self) -> Run:
        return read_output(self.output)


@pytest.fixture(name="read")
def reader(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., Read]:
    """Runs the tap within this process, in a fifth of the time that a process takes."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))

    def read(server: PancakeServer, *streams: str, **settings: Any) -> Read:
        output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        caplog.clear()
        error = ""
        config = full_config(server, **BEFORE_AND_AFTER | settings)
        with monkeypatch.context() as context:
            context.setattr(sys, "stdout", output)
            try:
                TapPancake(config=config, catalog=select(*streams)).read_all()
            except PancakeError as exc:
                error = str(exc)
        lines = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
        return Read(output.buffer.getvalue().decode(), error, lines)

    return read


DEEP = 200
NO_LETTER = "\ue000"
"""Stands for a byte that is in no UTF-8."""
VALUES = (
    *("null", "true", "0", "-1", "18446744073709551616", "1" + "0" * 400, "1" + "0" * 5000),
    *("1.5", "-0.0", "1e308", "1e999", "NaN", "-Infinity", '""', '"x"', '"1e999"', '"nan"'),
    *(r'"\ud800"', r'"\u0000"', '"2026-01-01T00:00:00"', '"9999-12-31T23:59:60"', '"0000-01-01"'),
    *("[]", "{}", "[null, [{}]]", '{"a": 1, "a": {"access_token": "SECRET-"}}', '"\xff"'),
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
)
"""In place of what a field should hold, as they stand in JSON, or in what is none."""

PARTS: dict[str, Callable[[Json], list[Json]]] = {
    "user_statistics": lambda body: [
        row for rows in body["data"]["statistics"].values() for row in rows
    ],
    "multi_page_user_statistics": lambda body: list(body["data"]["users"].values()),
    "tag_statistics": lambda body: [
        row for series in body["data"]["series"].values() for row in series
    ],
    "customer_feedbacks": itemgetter("customer_feedback"),
    "conversation_details": lambda body: [body],
    **{name: itemgetter(name) for name in ("conversations", "messages", "customers", "posts")},
}
"""Where the rows of an answer are; `data` for all others."""
SHARED = {"user_engagements": "customer_engagements", "conversation_details": "messages"}
"""Stream → the endpoint that it asks, if that is called like another one."""


def spoiled(schema: Json, value: str, depth: int) -> Any:
    """Return what a schema describes, down to some depth, with a value in place of all below."""
    if depth and "items" in schema:
        return [spoiled(schema["items"], value, depth - 1)]
    if depth and schema.get("properties"):
        parts = schema["properties"].items()
        return {name: spoiled(part, value, depth - 1) for name, part in parts}
    return value


def depth_of(schema: Json) -> int:
    """Tell how deep a schema describes what it describes."""
    parts = list(schema.get("properties", {}).values())
    if "items" in schema:
        parts.append(schema["items"])
    return 1 + max(map(depth_of, parts)) if parts else 0


class Spoiler:
    """Puts a wrong value into each field of each row: with enough rows, each value everywhere."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        schema = select(stream)["streams"]
        (entry,) = [one for one in schema if one["tap_stream_id"] == stream]
        kept = {*KEYS[stream], entry.get("replication_key"), "hour", "message_count"}
        if "ad_id" in kept:  # what else may tell advertisements apart
            kept |= {"id", "adset_id", "name"}
        self.fields = {
            name: [
                spoiled(part, f"@{value}@", depth)
                for depth in range(depth_of(part) + 1)
                for value in range(len(VALUES))
            ]
            for name, part in entry["schema"]["properties"].items()
            if name not in kept
        }
        self.rows = 0
        self.upright: list[Json] = []

    def __call__(self, call: Call, content: bytes) -> bytes:
        if call.endpoint != SHARED.get(self.stream, self.stream):
            return content
        body = json.loads(content)
        for row in self.rows_in(body):
            for name, values in self.fields.items():
                row[name] = values[self.rows % len(values)]
            row["unknown"] = f"@{self.rows % len(VALUES)}@"
            self.rows += 1
        if self.stream == "customer_engagements":  # whose rows stand upright
            body["data"]["series"] = [
                {"name": name, "data": [row[name] for row in self.upright]} for name in self.fields
            ]
        text = json.dumps(body, ensure_ascii=False)
        for number, value in enumerate(VALUES):
            text = text.replace(f'"@{number}@"', value)
        return text.encode().replace(NO_LETTER.encode(), b"\xff")

    def rows_in(self, body: Json) -> list[Json]:
        """Find the rows of an answer; of those that come all at once, make more."""
        rows: list[Json]
        match self.stream:
            case "pages":
                rows = body["categorized"]["activated"]
                rows[:] = [{**rows[0], "id": str(number)} for number in range(300)]
            case "tags" | "users":
                rows, body["disabled_users"] = body[self.stream], []
                rows[:] = [{"id": number} for number in range(100)]
            case "user_engagements":
                rows = body["users_engagements"]
                rows[:] = [{"user_id": str(number)} for number in range(9)]
            case "ad_statistics" | "campaign_statistics":
                rows = body["data"]
                rows[:] = [{"ad_id": str(number)} for number in range(9)]
            case "customer_engagements":
                rows = self.upright = [{} for _ in body["data"]["categories"]]
            case _:
                rows = PARTS.get(self.stream, itemgetter("data"))(body)
        return rows


RENAMED = {"pages", "tags", "users", "user_engagements", "ad_statistics", "campaign_statistics"}
"""The streams whose rows the spoiler gives new ids."""
NOON = utc(2026, 1, 2, 12)


@pytest.mark.parametrize("stream", KEYS)
def test_no_value_of_a_wrong_type_ends_a_run_or_spoils_a_row(
    read: Callable[..., Read], stream: str
) -> None:
    with PancakeServer(crowded_account(stream)) as server:
        server.alter = spoiler = Spoiler(stream)
        done = read(
            server, stream, start_date="2025-06-01" if stream.startswith("new") else "2025-11-29"
        )
        assert not done.error
        run = done.run
        if stream in {"conversations", "messages"}:
            held = len(getattr(server.expected(), stream))
        elif stream in RENAMED:
            held = spoiler.rows
        else:
            held = len(records(server, stream))
    assert all(len(values) <= spoiler.rows for values in spoiler.fields.values())
    assert len(run.by_key(stream)) == held
    run.check_records()
    for line in done.output.splitlines():
        assert "SECRET-" not in line
        assert r"\u0000" not in line
        MsgSpecReader().deserialize_json(line)  # which takes nothing but JSON


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63) + 1, 2**63, 2**64, -(10**30), "9" * 30, 1e30]
)
def test_integers_that_no_column_holds_become_null_and_are_counted(value: float | str) -> None:
    shaper = RowShaper({"properties": {"n": {"type": ["integer", "null"]}}})
    fits = abs(int(value)) < 2**63
    others = None if fits else {"n": value}
    assert shaper.shape({"n": value}) == {"n": value if fits else None, "other_fields": others}
    assert shaper.findings.mistyped == ({} if fits else {"n": 1})


IDS = (
    *("null", "true", "7", "0", "-1", "1.5", "1" + "0" * 30, "1e999", "NaN", '""', '" "', '"7"'),
    *(
        r'"\u0000"',
        r'"a\nb"',
        '"a/b?c#d"',
        '".."',
        "[]",
        "[1]",
        "{}",
        '{"a": [1]}',
        "[" * DEEP + "]" * DEEP,
    ),
)
DATES = (
    *("null", "true", "7", "1767225600", "1767225600000", "-1e300", "[]", "{}", '""', '"x"'),
    *('"0000-01-01T00:00:00"', '"0001-01-01T00:00:00"', '"10000-01-01T00:00:00"'),
    *('"9999-12-31T23:59:59.999999"', '"9999-12-31T23:59:59-14:00"', '"2026-01-01T00:00:00+25:00"'),
    *('"2026-01-01T23:59:60"', '"2026-01-01 00:00:00"', '"2026-01-01T00:00:00.1234567Z"'),
    *('"2026-W01-1"', '"20260101T000000Z"', '"2026-02-30T00:00:00"', '"2026-01-01T00:00:00+07:00"'),
)


KEYED = [
    *[(stream, "id") for stream in ("conversations", "messages", "tags", "users", "customers")],
    *[("posts", "id"), ("call_logs", "call_id"), ("ad_conversations", "id")],
    *[("customer_feedbacks", "id"), ("customer_feedbacks", "inserted_at")],
    ("ads", "id"),
    *[("user_engagements", "user_id"), ("ad_statistics", "ad_id")],
    *[("conversations", "updated_at"), ("customers", "updated_at"), ("posts", "inserted_at")],
    *[("messages", "inserted_at"), ("call_logs", "start_time"), ("ad_conversations", "updated_at")],
    *[
        ("page_statistics", "hour"),
        ("user_statistics", "hour"),
        ("new_customer_statistics", "date"),
    ],
]


@pytest.mark.parametrize(("stream", "key"), KEYED)
def test_a_row_without_a_proper_key_or_time_is_written_or_told_of_in_one_line(
    read: Callable[..., Read], stream: str, key: str
) -> None:
    """Each on a page of its own, so that no page can hide what another one does."""
    values = (*(IDS if "id" in key else DATES), None)
    account = Account(seed=5)
    pages = [account.add_page(timezone=7) for _ in values]
    for page in pages:
        page.statistics.since, page.statistics.until = NOON, NOON + timedelta(days=1)
        page.add_conversation(at=NOON).ad_ids = ["400"]
        page.belongings.add_customer(NOON, NOON)
        page.belongings.add_post(NOON)
        page.belongings.add_call(NOON)
        page.feedbacks.add(NOON)
    wrong = dict(zip([page.id for page in pages], values, strict=True))
    spoiler = Spoiler(stream)

    def alter(call: Call, content: bytes) -> bytes:
        if call.endpoint != ("customer_engagements" if "engagements" in stream else stream):
            return content
        body, value = json.loads(content), wrong[str(call.page_id)]
        for row in spoiler.rows_in(body)[:1]:
            row[key] = "@@"
            if value is None:
                del row[key]
        return json.dumps(body).replace('"@@"', value or "").encode()

    with PancakeServer(account) as server:
        server.alter = alter
        days = {"start_date": "2026-01-02T00:00:00Z", "end_date": "2026-01-03T12:00:00Z"}
        done = read(server, stream, **days)
    done.run.check_records()
    written = {row["page_id"] for row in done.run.records.get(stream, [])}
    for page_id, value in wrong.items():
        lines = [line.removeprefix("Set aside: ") for line in done.errors]
        named = [line for line in lines if line.startswith(f"page {page_id}, ")]
        assert len(named) <= 1
        assert all(f"{stream}: " in line and line.isprintable() for line in named)
        # A time that is in no window is a row of another time.
        assert named or page_id in written or value in {*DATES, None}
    assert bool(done.error) == bool(done.errors)


def inbox(ids: list[str]) -> Account:
    """Return an account whose one page has a conversation for each of some ids of the API."""
    account = Account(seed=5)
    page = account.add_page()
    for number in range(len(ids)):
        page.add_conversation(at=NOON + timedelta(minutes=number))
    return account


def renamed(ids: list[str], **fields: Any) -> Callable[[Call, bytes], bytes]:
    """Return what changes the ids, and more, of the conversations that are listed."""

    def alter(call: Call, content: bytes) -> bytes:
        if call.endpoint != "conversations":
            return content
        body = json.loads(content)
        if "last_conversation_id" in call.params:  # which is an id that the server does not know
            body["conversations"] = []
        for row, one in zip(body["conversations"], ids, strict=False):
            row |= {"id": one, **fields}
        return json.dumps(body).encode()

    return alter


ODD_IDS = [
    *("a/b", "a/../b", "../..", "/", "a?b=c", "a#b", "a%2Fb", "%2e%2e", "%", "a b", "a+b", "a&b=c"),
    *(
        "a\nb",
        "a\r\nx: y",
        "\t",
        "é",
        "ngày",
        "😀",
        "{page_id}",
        "{conversation_id}",
        "...",
        "~",
        "a:b@c",
    ),
]


def test_an_id_stays_one_part_of_the_path(read: Callable[..., Read]) -> None:
    with PancakeServer(inbox(ODD_IDS)) as server:
        server.alter = renamed(ODD_IDS, customers=[{"id": "x&page_access_token=y#z"}])
        server.scripts["messages"] = lambda _: [answer_bytes(b'{"messages": []}')]
        done = read(server, "messages")
        page = server.account.pages[0]
        calls = [call for call in server.calls if call.endpoint == "messages"]
        assert not done.error
        assert {call.conversation_id for call in calls} == set(ODD_IDS)
        assert {call.page_id for call in calls} == {page.id}
        assert {call.params["customer_id"] for call in calls} == {"x&page_access_token=y#z"}
        assert {call.endpoint for call in server.calls} == {"pages", "conversations", "messages"}


@pytest.mark.parametrize("one", [".", ".."])
def test_an_id_that_no_path_can_hold_is_not_asked_for(read: Callable[..., Read], one: str) -> None:
    with PancakeServer(inbox([one])) as server:
        server.alter = renamed([one])
        done = read(server, "messages")
        (line,) = done.errors
        page = server.account.pages[0]
        assert line.startswith(f"Set aside: page {page.id}, conversation {one}, messages: ")
        assert server.count("other") == server.count("messages") == 0
        again = read(server, "tags", page_access_tokens={one: TOKEN}, page_ids=[one])
        assert f"page {one}, tags: " in again.error
        assert server.count("other") == 0


@pytest.mark.parametrize("value", ["customer", [1], {"a": "b"}, True, None])
def test_a_customer_without_a_proper_id_is_asked_for_as_nobody_is(
    read: Callable[..., Read], value: Any
) -> None:
    with PancakeServer(inbox(["a"])) as server:
        server.alter = renamed(["a"], customers=[{"id": value}])
        server.scripts["messages"] = lambda _: [answer_bytes(b'{"messages": []}')]
        assert not read(server, "messages").error
        calls = [call for call in server.calls if call.endpoint == "messages"]
        asked = {call.params.get("customer_id") for call in calls}
        assert asked == {value if value == "customer" else None}


@pytest.mark.parametrize("level", [100, 400, 900, *range(960, 1000, 8), 5000])
def test_what_is_nested_too_deeply_is_told_of_in_one_line(
    read: Callable[..., Read], level: int
) -> None:
    deep = b"[" * level + b"]" * level
    with PancakeServer(inbox(["a"])) as server:
        page = server.account.pages[0]
        for endpoint in ("conversations", "messages"):
            server.scripts = {
                "messages": lambda _: [answer_bytes(b'{"messages": []}')],
                endpoint: lambda call, endpoint=endpoint: [  # type: ignore[misc]
                    answer_bytes(b'{"%s": []}' % endpoint.encode())
                    if "last_conversation_id" in call.params
                    else answer_bytes(
                        b'{"%s": [{"id": "a", "from": {"x": %s}}]}' % (endpoint.encode(), deep)
                    )
                ],
            }
            done = read(server, "conversations", "messages")
            rows = done.run.records.get(endpoint, [])
            if done.error:
                # Just at the limit of what can be read, it depends on the thread that reads.
                for line in [one.removeprefix("Set aside: ") for one in done.errors]:
                    assert line.startswith((f"page {page.id}, ", f"{endpoint}: rows that cannot "))
                    assert "nested too deeply" in line or "a JSON object" in line
                assert done.errors
                assert level > 200
            else:
                assert [row["from"] for row in rows] == [{"x": json.loads(deep)}]


CODES = {
    "100": "error 100",
    '"100"': "error 100",
    '"1" ': "error 1",
    '"%s"' % ("1" * 5000): "HTTP 400",
    "1" * 4000: "HTTP 400",
    '"①"': "HTTP 400",
    "1.5": "HTTP 400",
    "[[]]": "HTTP 400",
    "[" * 900 + "]" * 900: "HTTP 400",
    "null": "HTTP 400",
}


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
def test_an_error_of_any_code_is_told_of_in_one_line(read: Callable[..., Read], code: str) -> None:
    message = "[" * 900 + "]" * 900
    body = f'{{"success": false, "error_code": {code}, "message": {message}}}'.encode()
    with PancakeServer(inbox([])) as server:
        server.scripts["tags"] = lambda _: [answer_bytes(body, "400 Bad Request")]
        done = read(server, "tags")
        (line,) = done.errors
        assert line.endswith(f"report this ({CODES[code]})")


def test_what_the_api_names_cannot_fill_the_log_or_speak_to_the_terminal(tmp_path: Path) -> None:
    names = {f"{number}\n2026-01-01 | ERROR | \x1b[2J\u202e\x9b": 1 for number in range(5000)}
    rows = [{"id": f"a\x1b]0;\x07\r\n{number}", **names} for number in range(2)]
    with PancakeServer(inbox([])) as server:
        server.scripts = {
            "conversations": lambda call: [
                answer_bytes(
                    json.dumps(
                        {"conversations": [] if "last_conversation_id" in call.params else rows}
                    ).encode()
                )
            ],
            "messages": lambda _: [answer_bytes(json.dumps(names).encode())],
            "tags": lambda _: [answer_bytes(json.dumps({"tags": rows, **names}).encode())],
            "users": lambda _: [answer_bytes(json.dumps(names).encode())],
            "page_statistics": lambda _: [answer_bytes(json.dumps(names).encode())],
            "call_logs": lambda _: [
                answer_bytes(b"{}", "400 Bad", "x-request-id: \x1b[2J\r\n " + "a" * 9000)
            ],
        }
        catalog = select(*server.scripts)
        run = run_tap(tmp_path, full_config(server, **BEFORE_AND_AFTER), catalog=catalog)
    assert run.returncode == 1
    assert all(line.isprintable() and len(line) < 3000 for line in run.stderr.splitlines())
    assert len(log_lines(run, "ERROR")) == 4 + len(rows)  # each conversation is set aside alone
    assert all(line.startswith("20") for line in run.stderr.splitlines())
    assert len(run.stderr) < 100_000


@pytest.mark.parametrize("count", [1, 59, 60, 130])
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999999", "9000-01-01T00:00:00"])
def test_times_in_the_far_future_that_the_list_does_not_filter_by_hide_no_row(
    read: Callable[..., Read], at: str, count: int
) -> None:
    ids = [str(number) for number in range(count)]
    with PancakeServer(inbox(ids)) as server:
        server.alter = renamed(ids, updated_at=at)
        done = read(server, "conversations", end_date=None)
        assert not done.error
        page = server.account.pages[0]
        assert done.run.by_key("conversations").keys() == {(page.id, one) for one in ids[:60]}
        assert (done.run.bookmark("conversations", page.id) or "") < str(datetime.now(UTC).year + 1)


def test_no_time_is_later_than_can_be_written() -> None:
    assert times.text(times.from_unix(1e12)) == "9999-12-31T23:59:59.000000Z"


@pytest.mark.parametrize("count", [1, 50])
def test_the_end_of_time_is_read_and_hides_nothing_that_comes_later(
    read: Callable[..., Read], count: int
) -> None:
    account = inbox([""] * 5)
    page = account.pages[0]
    last = utc(9999, 12, 31, 23, 59, 59)
    for number in range(count):
        page.add_conversation(at=last + timedelta(microseconds=999_999 - number))
    with PancakeServer(account) as server:
        done = read(server, "conversations", end_date=None)
        assert not done.error
        assert done.run.by_key("conversations").keys() == server.expected().conversations.keys()
        assert (done.run.bookmark("conversations", page.id) or "") < str(datetime.now(UTC).year + 1)
