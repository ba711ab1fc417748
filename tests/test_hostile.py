"""Hostile answers: a clear error or a correct row; no hang, no crash, no token sent elsewhere."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import requests

from tap_pancake.errors import PageFailed, TransientError
from tap_pancake.transport import Answer, Transport
from tests.pancake_api import Account, Call, PancakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "uSerTokenHead-uSerTokenTail"
BODY = b'{"success": true, "pages": []}'


def answer(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    """Give a whole answer as it is sent."""
    head = [f"HTTP/1.1 {status}", *lines, f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


# What comes over the wire.


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    with PancakeServer(Account(1)) as server:
        yield server


def ask(server: PancakeServer, transport: Transport | None = None, **query: str) -> Answer:
    """Ask once, with a token, as the tap does."""
    transport = transport or Transport(timeout=0.5, user_agent="tests", connections=1)
    url = f"{server.url}/api/v1/pages"
    return transport.get(url, query, {"access_token": TOKEN}, where="pages", wait=lambda: None)


def for_ever(first: bytes, more: bytes, wait: float = 0.0) -> Iterator[bytes]:
    """Give the pieces of an answer that does not end."""
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
        answer(gzip.compress(b" " * 70 * 2**20), "200 OK", "content-encoding: gzip"),
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
    "status of two digits": (answer(BODY, "99 Odd"), FAILED),
    "lengths that differ": (answer(BODY, "200 OK", "content-length: 4"), FAILED),
    "length beyond the body": (HEAD + b"content-length: 999\r\n\r\n" + BODY, "no answer within"),
    "negative length": (HEAD + b"content-length: -9\r\n\r\n" + BODY, "no answer within"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no answer within"),
    "no gzip": (answer(BODY, "200 OK", "content-encoding: gzip"), FAILED),
    "gzip in gzip in gzip": (
        answer(BODY, "200 OK", "content-encoding: " + ", ".join(["gzip"] * 99)),
        FAILED,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_answer_is_a_fault_of_one_line(server: PancakeServer, what: str) -> None:
    sent, told = WRONG[what]
    server.scripts["pages"] = lambda _: [sent]
    with pytest.raises(TransientError, match=told) as raised:
        ask(server)
    assert str(raised.value).isprintable()
    assert raised.value.__context__ is None


RIGHT: dict[str, bytes] = {
    "chunks": CHUNKED + b"1e;a=b\r\n" + BODY + b"\r\n0\r\nx: trailer\r\n\r\n",
    "gzip": answer(gzip.compress(BODY), "200 OK", "content-encoding: gzip"),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + answer(BODY),
    "to be continued": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(BODY),
    "old": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 30\r\n\r\n" + BODY,
    "same length twice": answer(BODY, "200 OK", "content-length: 30"),
    "wrong charset": answer(BODY, "200 OK", "content-type: application/json; charset=utf-7"),
    "no reason": answer(BODY, "200 "),
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
        yield answer(call.params["question"].encode())

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
    server.scripts["pages"] = lambda _: [answer(b"{}", "429 Slow", f"retry-after: {header}")]
    assert ask(server).retry_after == seconds


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_nobody_else_is_told_a_token(server: PancakeServer, status: int) -> None:
    with PancakeServer(Account(1)) as thief:
        for place in (thief.url, f"//{thief.host}", f"http://user:word@{thief.host}", "/api/v1/me"):
            where = f"{place}/?access_token={TOKEN}"
            lines = (f"location: {where}", f"refresh: 0; url={where}", f"link: <{where}>; rel=next")
            server.scripts["pages"] = lambda _, lines=lines: [  # type: ignore[misc]
                answer(BODY, f"{status} Elsewhere", *lines)
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
    server.scripts["pages"] = lambda _: [answer(BODY, "200 OK", "set-cookie: a=b; path=/")]
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
        proxy.scripts["other"] = lambda _: [answer(BODY)]
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert ask(server).content == BODY
        assert (proxy.count(), server.count()) == (1, 0)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server.scripts["pages"] = lambda _: [answer(BODY)]
        assert ask(server).content == BODY
        assert (proxy.count(), server.count()) == (1, 1)
