"""The endpoints of an account over HTTP, and the ways in which the real ones refuse or fail.

It uses bare sockets instead of `http.server`. Many faults that a tap must survive (a reset, a body
that is cut off, an answer of one byte a second) are below HTTP. And `http.server` takes longer to
parse a request than to answer it.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import responses
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, unquote

from . import feedbacks, lists, statistics
from .dialects import DIALECTS
from .world import World, inside, list_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from .account import Account, Bounds, Conversation, Expected, Json, OrderBy, Page

    When = int | datetime | Callable[["Call"], bool]

CONVERSATIONS_PAGE_SIZE = 60  # the reference, 7.1
V1_LONGEST_SPAN = timedelta(days=31)  # the reference, 7.2 ("at most one month")
TOKEN_PARAMETERS = frozenset({"access_token", "page_access_token"})

MESSAGES = {
    1: "Timeout, please try again",
    100: "Invalid parameter",
    101: "Missing access_token",
    102: "Invalid access_token",
    103: "Phiên đăng nhập đã hết hạn, vui lòng đăng nhập lại",
    105: "access_token renewed, please use new access_token",
    107: "Permission denied",
    121: "Tài khoản chưa được gán gói cước cho trang này",
    122: "Gói cước của trang đã hết hạn",
}
TOKEN_CODES = (101, 102, 103, 105)
NO_CUSTOMER_ID = {"success": False, "message": "Thiếu mã khách hàng"}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Endpoint = Literal[
    "pages",
    "conversations",
    "messages",
    "tags",
    "users",
    "customers",
    "posts",
    "call_logs",
    "page_statistics",
    "user_statistics",
    "multi_page_user_statistics",
    "tag_statistics",
    "new_customer_statistics",
    "customer_feedbacks",
    "customer_engagements",
    "ad_statistics",
    "campaign_statistics",
    "ad_conversations",
    "ads",
    "other",
]
PAGE_ENDPOINTS: dict[str, Endpoint] = {
    "tags": "tags",
    "users": "users",
    "page_customers": "customers",
    "posts": "posts",
    "sip_call_logs": "call_logs",
    "export_data": "ad_conversations",
    "ads": "ads",
    "statistics/pages": "page_statistics",
    "statistics/users": "user_statistics",
    "statistics/tags": "tag_statistics",
    "statistics/customers": "new_customer_statistics",
    "statistics/page_customers": "new_customer_statistics",
    "statistics/customer_feedbacks": "customer_feedbacks",
    "statistics/customer_engagements": "customer_engagements",
    "statistics/ads": "ad_statistics",
    "statistics/pages_campaigns": "campaign_statistics",
}
"""The paths of the page API v1 below `pages/{page_id}/`; for the newer document see `Desk`."""
LostCursor = Literal["top", "empty"]
WindowFilter = Literal["order_by", "inserted_at", "ignored"]


@dataclass(slots=True)
class Call:
    """One call that the server received.

    `status` is 0 without an answer (`hang`, `reset`). `fault` is the kind of the injected fault, so
    429 without a fault is the rate limit. `time` is the arrival in Unix seconds. `params` has no
    tokens; commas join several values of a parameter.
    """

    number: int
    method: str
    path: str
    endpoint: Endpoint
    page_id: str | None
    conversation_id: str | None
    params: dict[str, str]
    status: int
    fault: str | None
    time: float
    headers: dict[str, str]
    """The headers by name in lower case."""

    @property
    def user_agent(self) -> str:
        """The header `User-Agent`."""
        return self.headers.get("user-agent", "")


@dataclass(slots=True)
class Fault:
    """A fault of some calls.

    `endpoint`, `page_id`, `conversation_id` (one or several) and `where` (any condition, such as
    `is_head` or `is_first_batch`) choose the calls; the default is all. Of these, the fault hits
    every `every`-th call, or those whose number is in `at`, or all; at most `times` calls.

    Kinds: those in `FAULTS`, `error:<code>`, `http:<status>` and `redirect:<url>`; `odd:<shape>`,
    with rows of one of `ODD_SHAPES`; `lag:<seconds>`, a true answer from a copy of the data that is
    so far behind.
    """

    kind: str
    every: int | None = field(default=None, kw_only=True)
    at: Collection[int] | None = field(default=None, kw_only=True)
    endpoint: Endpoint | None = field(default=None, kw_only=True)
    page_id: str | None = field(default=None, kw_only=True)
    conversation_id: str | Collection[str] | None = field(default=None, kw_only=True)
    where: Callable[[Call], bool] | None = field(default=None, kw_only=True)
    times: int | None = field(default=None, kw_only=True)
    matched: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Refuse unknown kinds: with a fault that never happens, a test would pass."""
        name, _, argument = self.kind.partition(":")
        numeric = name in {"error", "http", "lag"} and argument.isdigit()
        known = self.kind in FAULTS or numeric or (name == "odd" and argument in ODD_SHAPES)
        if not known and not (name == "redirect" and argument):
            message = f"unknown kind of fault: {self.kind}"
            raise ValueError(message)

    def strikes(self, call: Call) -> bool:
        """Count the call if it matches, and return whether the fault hits it."""
        for name in ("endpoint", "page_id", "conversation_id"):
            expected, found = getattr(self, name), getattr(call, name)
            if expected is not None and found not in (
                [expected] if isinstance(expected, str) else expected
            ):
                return False
        if self.where is not None and not self.where(call):
            return False
        self.matched += 1
        if self.times is not None and self.hits >= self.times:
            return False
        if self.every is None and self.at is None:
            hit = True
        else:
            hit = (self.every is not None and self.matched % self.every == 0) or (
                self.at is not None and self.matched in self.at
            )
        self.hits += hit
        return hit


@dataclass(slots=True)
class _Request:
    method: str
    target: str
    path: str
    query: str
    segments: list[str]
    params: dict[str, str]
    tokens: dict[str, str]
    headers: dict[str, str]
    length: int
    keep_alive: bool


@dataclass(slots=True)
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def _json(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status, _encode(body).encode(), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def _text(body: str, status: int = 200, kind: str = "html") -> Answer:
    return Answer(status, body.encode(), f"text/{kind}; charset=utf-8")


SHELL = _text(
    "<!DOCTYPE html><html><head><title>Pancake</title></head>"
    '<body><div id="app"></div></body></html>',
)


def _gateway(title: str, status: int) -> Answer:
    return _text(f"<html><head><title>{title}</title></head><body>nginx</body></html>", status)


_TOO_MANY: Json = {"success": False, "message": "Too many requests"}
_INTERNAL: Json = {"success": False, "message": "Server internal error"}
# The faults with a fixed answer. `reset`, `cut` and `drip` happen where bytes are sent.
FIXED_ANSWERS = {
    "429": _json(_TOO_MANY, 429),
    "429_retry_after": _json(_TOO_MANY, 429, Retry_After="1"),
    "500": _json(_INTERNAL, 500),
    "502_html": _gateway("502 Bad Gateway", 502),
    "504_html": _gateway("504 Gateway Time-out", 504),
    "403_firewall": _text(
        "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>"
        "<body><h1>Sorry, you have been blocked</h1></body></html>",
        403,
    ),
    "503": _json(_INTERNAL, 503),
    "not_json": SHELL,
    "empty_body": Answer(200),
    "success_false": _json(
        {"success": False, "message": "An error occurred. Please try again later."}
    ),
    "no_plan": _json({"success": False, "message": "Không tìm thấy gói cước cho trang này"}),
    "missing_list": _json({"success": True}),
}
FAULTS = (*FIXED_ANSWERS, "hang", "reset", "cut", "drip", "echo", "echo500", "empty_list")
ODD_SHAPES: dict[str, Any] = {
    "null": None,
    "text": "none",
    "number": 1,
    "object": {"0": {}},
    "nulls": [None],
    "texts": ["none"],
    "lists": [[]],
}
"""Values instead of rows, by name."""


def _integer(text: str | None) -> int | None:
    """Return the number, or None; the caller decides whether that is an error."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


class PancakeServer:
    """A server of an account on 127.0.0.1: a context manager, or between `start` and `close`.

    Tests may set every public attribute while it runs.
    """

    def __init__(
        self,
        account: Account,
        dialect: str = "observed",
        *,
        port: int = 0,
        page_size: int = CONVERSATIONS_PAGE_SIZE,
        v1_page_size: int = CONVERSATIONS_PAGE_SIZE,
        window_bounds: Bounds = "[]",
        window_filter: WindowFilter = "order_by",
        lost_cursor: LostCursor = "top",
        rate: float | None = None,
        retry_after: int | None = None,
        latency: float | Callable[[Call], float] = 0.0,
        faults: list[Fault] | None = None,
        world: World | None = None,
    ) -> None:
        """Take the account, and the form and faults of the answers.

        Args:
            account: The account, which may change while it is read.
            dialect: "observed", "documented" or "older".
            port: The port; 0 for any free one.
            page_size: Rows of a v2 conversations list.
            v1_page_size: Rows of a v1 conversations list.
            window_bounds: Whether `since` and `until` are inclusive, which no source says.
            window_filter: The field that they filter: that of `order_by`, `inserted_at`, or none.
            lost_cursor: The answer to a cursor that has left the window: from the top, or empty.
            rate: Calls a second for each page; more calls get 429. None for no limit.
            retry_after: Seconds in the `Retry-After` of a 429; None for no such header.
            latency: Seconds before each answer, or a callable that returns them.
            faults: The faults.
            world: The other ways in which the API may differ.
        """
        self.account = account
        self.world = World() if world is None else world
        self.dialect = DIALECTS[dialect]
        self.desk = Desk(self)
        self.page_size = page_size
        self.v1_page_size = v1_page_size
        self.window_bounds: Bounds = window_bounds
        self.window_filter = window_filter
        self.lost_cursor = lost_cursor
        self.rate = rate
        self.retry_after = retry_after
        self.latency = latency
        self.faults: list[Fault] = [] if faults is None else faults
        self.scripts: dict[str, Callable[[Call], Iterable[bytes]]] = {}
        """Endpoint → a function that returns the pieces of the whole answer, head and body."""
        self.alter: Callable[[Call, bytes], bytes] | None = None
        """Changes the body of a true answer."""
        self.on_call: Callable[[Call], object] | None = None
        self.instead: Callable[[Call], Answer | None] | None = None
        """Returns an answer to use instead of any other, or None."""
        self.movers: list[tuple[int, Callable[[], object]]] = []
        self._plans: list[tuple[When, Callable[[], object]]] = []
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.errors: list[BaseException] = []
        self._books = threading.Lock()  # calls, faults, arrivals; held for nothing else
        self._arrivals: dict[str, deque[float]] = {}
        self._answers = 0
        self._closing = threading.Event()
        self.connections: dict[socket.socket, threading.Thread] = {}
        """The open connections, with their threads."""
        self._listener = _Listener(self, port)
        self._thread = threading.Thread(
            target=self._listener.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="pancake-api",
            daemon=True,
        )
        host, port = self._listener.server_address[:2]
        self.host = f"{host!s}:{port}"
        self.url = f"http://{self.host}"

    # Running.

    def start(self) -> Self:
        """Start to answer requests."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Close all connections, and end the server's threads."""
        self._closing.set()
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        with self._books:
            connections = dict(self.connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already
        for thread in connections.values():
            if thread is not threading.current_thread():
                thread.join(timeout=1)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close, and raise an error of the server or a hook, which would look like a fault."""
        self.close()
        if error is None and self.errors:
            raise self.errors[0]

    # For tests.

    def reset_calls(self) -> None:
        """Forget all calls, and number the next one 1."""
        with self._books:
            self.calls = []

    def count(self, endpoint: Endpoint | None = None, page_id: str | None = None) -> int:
        """Return the number of calls, for an endpoint and a page."""
        with self._books:
            return sum(
                endpoint in {None, call.endpoint} and page_id in {None, call.page_id}
                for call in self.calls
            )

    def move_every(self, n_calls: int, move: Callable[[], object]) -> None:
        """Call `move` before the answer to every `n_calls`-th call, of any endpoint."""
        self.movers.append((n_calls, move))

    def at(self, when: When, move: Callable[[], object]) -> None:
        """Call `move` once, before the answer to a call.

        Args:
            when: The number of the call; or a time by the account's clock, for the first call from
                then on; or a condition.
            move: The function to call.
        """
        with self._books:
            self._plans.append((when, move))

    def _due(self, call: Call) -> list[Callable[[], object]]:
        """Return the planned moves for this call, and remove them."""
        now = self.account.now()

        def is_due(when: When) -> bool:
            if isinstance(when, int):
                return when == call.number
            return when <= now if isinstance(when, datetime) else when(call)

        with self._books:
            due = [plan for plan in self._plans if is_due(plan[0])]
            self._plans = [plan for plan in self._plans if plan not in due]
        return [move for _, move in due]

    def row(self, page_id: str, conversation_id: str) -> Json:
        """Return a conversation as lists show it, by its id in the account or in answers."""
        with self.account.lock:
            page, conversation = self._locate(page_id, conversation_id)
            return self.world.shown(self.dialect.conversation(page, conversation))

    def message_rows(self, page_id: str, conversation_id: str) -> list[Json]:
        """Return all messages of a conversation as batches show them, oldest first."""
        with self.account.lock:
            _, conversation = self._locate(page_id, conversation_id)
            wire_id = self.dialect.conversation_id(conversation)
            rows = [self.dialect.message(message, wire_id) for message in conversation.messages]
            return [self.world.shown(row) for row in rows]

    def details(self, page_id: str, conversation_id: str) -> Json:
        """Return what batches show beside the messages of a conversation."""
        with self.account.lock:
            _, conversation = self._locate(page_id, conversation_id)
            body = self.dialect.messages_body(conversation, [])
            return {name: body[name] for name in body if name not in {"success", "messages"}}

    def expected(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        categories: Collection[str] = ("activated",),
    ) -> Expected:
        """Return `Account.expected` with the ids and the precision of times of the dialect."""
        with self.account.lock:
            truth = self.account.expected(since, until, categories=categories)
            return self.dialect.legible_truth(self.account, truth)

    def _locate(self, page_id: str, conversation_id: str) -> tuple[Page, Conversation]:
        page = self.account.page(page_id)
        page.settle()
        found = self.dialect.find(page, conversation_id) or page.conversations[conversation_id]
        return page, found

    # One connection.

    def _converse(self, connection: socket.socket) -> None:
        """Answer the requests of a connection until either side closes it."""
        with self._books:
            self.connections[connection] = threading.current_thread()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            while not self._closing.is_set():
                while (end := received.find(b"\r\n\r\n")) < 0:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    received += chunk
                request = self._parse(received[:end].decode("latin-1"))
                received = received[end + 4 :]
                while len(received) < request.length:
                    # With unread bytes, the client would get a reset before the answer.
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    received += chunk
                received = received[request.length :]
                if not self._respond(connection, request):
                    return
        except OSError:
            return  # the client closed the connection, as it may
        except Exception as error:  # noqa: BLE001 - `__exit__` raises it
            self.errors.append(error)
        finally:
            with self._books:
                self.connections.pop(connection, None)

    def _parse(self, head: str) -> _Request:
        first, *lines = head.split("\r\n")
        method, target, version = first.split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        path, _, query = target.partition("?")
        params: dict[str, str] = {}
        tokens: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in TOKEN_PARAMETERS:
                tokens[name] = value
            else:
                params[name] = f"{params[name]},{value}" if name in params else value
        return _Request(
            method=method,
            target=target,
            path=path,
            query=query,
            segments=[unquote(segment) for segment in path.split("/")[1:]],
            params=params,
            tokens=tokens,
            headers=headers,
            length=_integer(headers.get("content-length")) or 0,
            keep_alive=version == "HTTP/1.1" and headers.get("connection", "").lower() != "close",
        )

    def _respond(self, connection: socket.socket, request: _Request) -> bool:
        """Answer one request, and return whether the connection stays open."""
        call = self._record(request)
        if self.on_call is not None:
            self.on_call(call)
        for n_calls, move in tuple(self.movers):
            if call.number % n_calls == 0:
                move()
        for move in self._due(call) if self._plans else ():
            move()
        if call.endpoint in self.scripts:
            for piece in self.scripts[call.endpoint](call):
                connection.sendall(piece)
            return True
        answer = self._limit(call)
        if answer is None:
            call.fault = self._fault(call)
            answer = self._answer(request, call, connection)
        call.status = answer.status if answer is not None else 0
        if answer is None:
            return False
        # The answer shows the data when the call arrived; a slow network makes it older.
        seconds = self.latency(call) if callable(self.latency) else self.latency
        if seconds > 0:
            self._closing.wait(seconds)
        return self._send(connection, request, call, answer)

    def _record(self, request: _Request) -> Call:
        endpoint: Endpoint = "other"
        page_id: str | None = None
        conversation_id: str | None = None
        match request.segments:
            case ["api", "v1", "pages"]:
                endpoint = "pages"
            case ["api", "public_api", "v1" | "v2", "pages", page_id, "conversations"]:
                endpoint = "conversations"
            case [
                "api",
                "public_api",
                "v1",
                "pages",
                page_id,
                "conversations",
                conversation_id,
                "messages",
            ]:
                endpoint = "messages"
            case ["api", "public_api", "v1", "pages", page_id, *rest] if (
                "/".join(rest) in PAGE_ENDPOINTS
            ):
                endpoint = PAGE_ENDPOINTS["/".join(rest)]
            case ["api", "v1", "statistics", "user"]:
                endpoint = "multi_page_user_statistics"
            case ["api", "v1", "pages", page_id, *_] | [
                "api",
                "public_api",
                _,
                "pages",
                page_id,
                *_,
            ]:
                pass
        with self._books:
            call = Call(
                number=len(self.calls) + 1,
                method=request.method,
                path=request.path,
                endpoint=endpoint,
                page_id=page_id,
                conversation_id=conversation_id,
                params=request.params,
                status=0,
                fault=None,
                time=time.time(),
                headers=request.headers,
            )
            self.calls.append(call)
            if request.method != "GET" or "generate_page_access_token" in request.path:
                self.violations.append(f"{request.method} {request.path}")
        return call

    def _limit(self, call: Call) -> Answer | None:
        """Return the refusal of a call above the page's rate. Refused calls do not count."""
        rate = self.rate
        if rate is None or call.page_id is None:
            return None
        allowed = max(1, int(rate))
        with self._books:
            arrivals = self._arrivals.setdefault(call.page_id, deque())
            now = time.monotonic()
            while arrivals and arrivals[0] <= now - allowed / rate:
                arrivals.popleft()
            if len(arrivals) < allowed:
                arrivals.append(now)
                return None
        headers = {} if self.retry_after is None else {"Retry_After": str(self.retry_after)}
        return _json(_TOO_MANY, 429, **headers)

    def _fault(self, call: Call) -> str | None:
        with self._books:
            # All faults count the call; the first one that hits it is used.
            struck = [fault.kind for fault in tuple(self.faults) if fault.strikes(call)]
        return struck[0] if struck else None

    def _send(
        self, connection: socket.socket, request: _Request, call: Call, answer: Answer
    ) -> bool:
        with self._books:
            self._answers += 1
            number = self._answers
        keep_alive = request.keep_alive and call.fault not in {"cut", "drip"}
        head = [
            f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}",
            f"content-type: {answer.content_type}",
            f"content-length: {len(answer.body)}",
            f"x-request-id: demo-{number:012d}",
            f"connection: {'keep-alive' if keep_alive else 'close'}",
            *self._date(),
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        whole = "\r\n".join([*head, "", ""]).encode("latin-1", "replace") + answer.body * (
            request.method != "HEAD"
        )
        if call.fault == "cut":
            connection.sendall(whole[: len(whole) - len(answer.body) // 2 - 1])
        elif call.fault == "drip":
            for byte in whole:
                connection.sendall(bytes([byte]))
                if self._closing.wait(1.0):
                    break
        else:
            connection.sendall(whole)
        return keep_alive

    def _date(self) -> list[str]:
        ahead = self.world.date_ahead
        if ahead is None:
            return []
        return [f"date: {format_datetime(self.account.now() + ahead, usegmt=True)}"]

    # Answers.

    def _answer(self, request: _Request, call: Call, connection: socket.socket) -> Answer | None:
        """Return the fault's answer if there is one, or the true one; None for no answer."""
        if self.instead is not None and (made := self.instead(call)) is not None:
            call.fault = call.fault or "instead"
            return made
        if call.fault == "hang":
            self._await_end(connection)
            return None
        if call.fault == "reset":
            # With a linger time of zero, `close` sends RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return None
        kind, _, argument = (call.fault or "").partition(":")
        if kind in {"", "cut", "drip", "empty_list", "lag"}:  # a true answer
            with self.account.lock:
                answer = self._truth(request, call, int(argument) if kind == "lag" else None)
            if answer.content_type.startswith("application/json"):
                answer = self._in_this_world(call, answer)
            if self.alter is not None:
                answer = replace(answer, body=self.alter(call, answer.body))
            return answer
        return FIXED_ANSWERS.get(kind) or self._made_up(kind, argument, request, call)

    def _in_this_world(self, call: Call, answer: Answer) -> Answer:
        if call.fault != "empty_list" and not (self.world.null_times or self.world.without_id):
            return answer
        body = self.world.edit(call.endpoint, json.loads(answer.body))
        if call.fault == "empty_list" and isinstance(body.get(list_key(call.endpoint)), list):
            body[list_key(call.endpoint)] = []
            if "total" in body:
                body["total"] = 0
        return _json(body, answer.status)

    def _made_up(self, kind: str, argument: str, request: _Request, call: Call) -> Answer:
        match kind:
            case "odd":
                return _json({"success": True, list_key(call.endpoint): ODD_SHAPES[argument]})
            case "error":
                code = int(argument)
                return _json(
                    {"success": False, "error_code": code, "message": MESSAGES.get(code, "Error")}
                )
            case "http":
                return _json({"success": False, "message": f"HTTP {argument}"}, int(argument))
            case "redirect":
                return Answer(302, headers={"Location": f"{argument}?{request.query}"})
            case _:
                message = f"Cannot serve {self.url}{request.target}"
                return _json(
                    {"success": False, "message": message}, 500 if kind == "echo500" else 400
                )

    def _await_end(self, connection: socket.socket) -> None:
        """Wait until the client gives up or the server closes."""
        connection.settimeout(0.1)
        while not self._closing.is_set():
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue

    def _truth(self, request: _Request, call: Call, behind: int | None) -> Answer:
        if request.method != "GET":
            return _json({"success": False, "message": "Method not allowed"}, 405)
        if call.endpoint == "pages":
            return self._refuse_user(request) or _json(self.dialect.pages_body(self.account))
        if call.endpoint == "multi_page_user_statistics":
            return self._refuse_user(request) or self.desk.several_pages(request.params)
        version = request.segments[2] if len(request.segments) > 2 else ""
        known = call.endpoint in {"messages", *PAGE_ENDPOINTS.values()} or (
            call.endpoint == "conversations" and version in self.dialect.versions
        )
        if not known or call.page_id is None:
            return _text("Server internal error", 406, "plain")
        page = self._page(call.page_id)
        refusal = self._refuse_page(request, page, call.endpoint)
        if refusal is not None or page is None:
            refusal = refusal or self._error(102)
            is_bad_request = call.endpoint == "ads" and refusal.status == 200  # reference, 24.9
            return replace(refusal, status=400) if is_bad_request else refusal
        page.settle()
        if behind is not None:
            page = page.as_of(self.account.now() - timedelta(seconds=behind))
        if call.endpoint in PAGE_ENDPOINTS.values():
            return self.desk.answer(page, call.endpoint, request.segments[-1], request.params)
        if call.conversation_id is not None:
            return self._messages(page, call.conversation_id, request.params)
        listed = self._conversations_v1 if version == "v1" else self._conversations_v2
        return listed(page, request.params)

    def _page(self, page_id: str) -> Page | None:
        try:
            return self.account.page(page_id)
        except KeyError:
            return None

    def _error(self, code: int) -> Answer:
        status = self.dialect.token_refusal_status if code in TOKEN_CODES else 200
        return _json({"success": False, "error_code": code, "message": MESSAGES[code]}, status)

    def _refuse_user(self, request: _Request) -> Answer | None:
        token = request.tokens.get("access_token")
        if not token:
            return self._error(101)
        if token != self.account.user_token:
            return self._error(102)
        alive = self.account.user_token_state == "ok"
        return None if alive else self._error(103)

    def _refuse_page(
        self, request: _Request, page: Page | None, endpoint: Endpoint
    ) -> Answer | None:
        token = request.tokens.get("page_access_token") or request.tokens.get("access_token")
        if not token:
            return self._error(101)
        if page is None:
            return self._error(102)
        if token in page.old_tokens:
            return self._error(105)
        if token != page.token:
            return self._error(102)
        refused = page.refused.get(endpoint)
        if refused is not None and refused >= 400:
            return _json({"success": False, "message": "Refused"}, refused)
        if refused is not None:
            return self._error(refused)
        if page.forbidden:
            return _json({"success": False, "message": "Forbidden"}, 403)
        return None if page.plan_lapsed is None else self._error(page.plan_lapsed)

    # Conversations.

    def _conversations_v2(self, page: Page, params: dict[str, str]) -> Answer:
        order_by = self._order_by(params.get("order_by", "updated_at"))
        window = self._window(params)
        if order_by is None or window is None:
            return self._error(100)
        found = self._newest_first(
            page, order_by, window, params, params.get("last_conversation_id")
        )
        return self._conversations(page, islice(found, self._cut(self.page_size)))

    def _conversations_v1(self, page: Page, params: dict[str, str]) -> Answer:
        number = _integer(params.get("page_number"))
        order_by = self._order_by(params.get("order_by", "inserted_at"))
        window = self._window(params)
        if number is None or number < 1 or order_by is None or window is None:
            return self._error(100)
        since, until = window
        if since is None or until is None:
            return self._conversations(page, iter(()))
        if until - since > V1_LONGEST_SPAN:
            return self._error(100)
        skipped = (number - 1) * self.v1_page_size
        found = self._newest_first(page, order_by, window, params, None)
        end = skipped + self._cut(self.v1_page_size)
        return self._conversations(page, islice(found, skipped, end))

    def _cut(self, size: int) -> int:
        return self.world.cut("conversations", size)

    def _conversations(self, page: Page, found: Iterator[Conversation]) -> Answer:
        rows = [self.dialect.conversation(page, conversation) for conversation in found]
        return _json(self.dialect.conversations_body(rows))

    def _order_by(self, name: str) -> OrderBy | None:
        if name == "updated_at":
            return "updated_at"
        return "inserted_at" if name == "inserted_at" else None

    def _window(self, params: dict[str, str]) -> tuple[datetime | None, datetime | None] | None:
        """Return `since` and `until` as times; None if they are not Unix seconds."""
        bounds: list[datetime | None] = []
        for name in ("since", "until"):
            text = params.get(name)
            seconds = _integer(text)
            if text and seconds is None:
                return None
            try:
                bounds.append(None if seconds is None else datetime.fromtimestamp(seconds, UTC))
            except (OverflowError, OSError, ValueError):
                return None
        return bounds[0], bounds[1]

    def _newest_first(
        self,
        page: Page,
        order_by: OrderBy,
        window: tuple[datetime | None, datetime | None],
        params: dict[str, str],
        cursor: str | None,
    ) -> Iterator[Conversation]:
        """Yield the matching rows after the cursor, newest first, without `unread_first`."""
        if not self.world.is_plain("conversations"):
            arranged = self._arranged(page, order_by, window)
            return self._after(
                page, cursor, [one for one in arranged if self._matches(one, params)]
            )
        filtered: OrderBy = order_by if self.window_filter == "order_by" else "inserted_at"
        if self.window_filter == "ignored":
            window = (None, None)
        window, bounds = self.world.window(window, self.window_bounds)
        keys, low, high = page.window(filtered, *window, bounds)
        inside = None
        if filtered != order_by:
            inside = {serial for _, serial in keys[low:high]}
            keys, low, high = page.window(order_by)

        def matches(conversation: Conversation) -> bool:
            return (inside is None or conversation.serial in inside) and self._matches(
                conversation, params
            )

        if cursor:
            last = self.dialect.find(page, cursor)
            position = -1 if last is None else page.position(order_by, last)
            if last is not None and low <= position < high and matches(last):
                high = position
            elif self.lost_cursor == "empty":
                high = low
        listed = (page.by_serial(keys[position][1]) for position in range(high - 1, low - 1, -1))
        return filter(matches, listed)

    def _arranged(
        self, page: Page, order_by: OrderBy, window: tuple[datetime | None, datetime | None]
    ) -> list[Conversation]:
        """Return the matching rows in a world with another order of the list."""
        return self.world.arranged(
            "conversations",
            page.listed(),
            self.dialect.conversation_id,
            getattr,
            order=order_by,
            filtered=order_by if self.window_filter == "order_by" else self.window_filter,
            window=window,
            bounds=self.window_bounds,
        )

    def _after(
        self, page: Page, cursor: str | None, found: list[Conversation]
    ) -> Iterator[Conversation]:
        last = self.dialect.find(page, cursor) if cursor else None
        if last in found:
            return iter(found[found.index(last) + 1 :])
        return iter(() if cursor and self.lost_cursor == "empty" else found)

    def _matches(self, conversation: Conversation, params: dict[str, str]) -> bool:
        kind = params.get("type[]") or params.get("type")
        if kind == "POST":
            posts = params.get("post_ids")
            if conversation.post_id is None or (
                posts and conversation.post_id not in posts.split(",")
            ):
                return False
        elif kind and kind != conversation.type:
            return False  # two values with a comma match nothing (the reference, 7.1)
        tags = params.get("tags")
        return not tags or all(tag in map(str, conversation.tag_ids) for tag in tags.split(","))

    # Messages.

    def _messages(self, page: Page, conversation_id: str, params: dict[str, str]) -> Answer:
        if self.dialect.customer_id_demanded and not params.get("customer_id"):
            return _json(NO_CUSTOMER_ID)
        conversation = self.dialect.find(page, conversation_id)
        if conversation is None:
            return SHELL
        skipped = _integer(params.get("current_count") or "0")
        if skipped is None or skipped < 0:
            return self._error(100)
        size = self.dialect.next_batch if skipped else self.dialect.first_batch
        end = max(0, len(conversation.messages) - skipped)
        batch = conversation.messages[max(0, end - size) : end]
        if self.dialect.newest_first:
            batch.reverse()
        rows: list[Any] = [self.dialect.message(message, conversation_id) for message in batch]
        return _json(self.dialect.messages_body(conversation, rows))


class Desk:
    """Answers of all endpoints of a page except conversations and messages.

    Tests may set every public attribute while the server runs.
    """

    def __init__(self, server: PancakeServer) -> None:
        """Begin with the documented answers."""
        self._server = server
        self.customers_filter: Literal["order_by", "inserted_at"] = "order_by"
        """The time that `since` and `until` filter customers by."""
        self.customers_ordered = True
        """Whether customers are sorted by `order_by`."""
        self.cuts: dict[str, int] = {}
        """Endpoint → the most rows of an answer, regardless of the page size."""
        self.fails_above: dict[str, int] = {}
        """Endpoint → the `page_size` above which a busy page answers 500 (the reference, 24.5)."""
        self.calls_ascending = False
        """Whether call logs are oldest first, which no source says."""
        self.totals = True
        """Whether lists have the number of all rows."""
        self.bodies: dict[str, Any] = {}
        """Endpoint → the body of the answer, or a function that makes it from the parameters."""
        self.longest = timedelta(days=31, seconds=1)
        """The longest span of statistics."""

    def answer(self, page: Page, endpoint: Endpoint, last: str, params: dict[str, str]) -> Answer:
        """Return the answer to a call for a page; `last` is the last part of its path."""
        if endpoint in self.bodies:
            body = self.bodies[endpoint]
            return _json(body(params) if callable(body) else body)
        dialect = self._server.dialect
        if endpoint == "tags":
            return _json(lists.tags_body(dialect, page))
        if endpoint == "users":
            return _json(lists.users_body(dialect, page))
        if endpoint == "ads":
            body = lists.ads_body(page, params.get("ad_ids"), params.get("type"))
            return self._refuse(400) if body is None else _json(body)
        if endpoint in {"customers", "posts", "call_logs", "ad_conversations"}:
            return self._list(page, endpoint, params)
        if endpoint in {"user_statistics", "new_customer_statistics", "customer_engagements"}:
            return self._by_range(page, endpoint, last, params)
        return self._by_window(page, endpoint, params)

    def several_pages(self, params: dict[str, str]) -> Answer:
        """Return the answer for several pages."""
        if "multi_page_user_statistics" in self.bodies:
            return _json(self.bodies["multi_page_user_statistics"])
        bounds = statistics.date_range(params.get("date_range"))
        page_ids = [page_id for page_id in params.get("page_ids", "").split(",") if page_id]
        if bounds is None or not page_ids:
            return self._refuse()
        account = self._server.account
        with account.lock:
            return _json(statistics.multi_body(account, page_ids, *bounds))

    def _refuse(self, status: int = 200) -> Answer:
        refusal = self._server._error(100)  # noqa: SLF001 - one class in two parts
        return replace(refusal, status=status)

    def _list(self, page: Page, endpoint: Endpoint, params: dict[str, str]) -> Answer:
        window = self._server._window(params)  # noqa: SLF001
        size = _integer(params.get("page_size", "20"))
        number = _integer(params.get("page_number"))
        if endpoint == "ad_conversations":
            size, number = 60, 1
        most = {"customers": 100, "ad_conversations": 60}.get(endpoint, 30)
        optional = endpoint == "call_logs"
        if window is None or size is None or number is None or number < 1 or not 0 < size <= most:
            return self._refuse()
        if not optional and None in window:
            return self._refuse()
        order_by = params.get("order_by", "inserted_at")
        if endpoint == "call_logs" and params.get("id") != page.belongings.sip_package_id:
            return self._refuse()
        if endpoint == "ad_conversations" and params.get("action") != "conversations_from_ads":
            return self._refuse()
        if order_by not in {"inserted_at", "updated_at"}:
            return self._refuse()
        if size > self.fails_above.get(endpoint, size):
            return FIXED_ANSWERS["500"]
        found = self._found(page, endpoint, order_by, window)
        below = (number - 1) * size
        if endpoint == "ad_conversations":
            below = _integer(params.get("offset", "0")) or 0
        cut = min(size, self.cuts.get(endpoint, size))
        if endpoint != "ad_conversations":
            below = (number - 1) * cut
        rows = found[below : below + self._server.world.cut(endpoint, cut)]
        key = {"customers": "customers", "posts": "posts"}.get(endpoint, "data")
        total = {"total": len(found)} if key != "data" and self.totals else {}
        return _json({"success": True, **total, key: rows})

    def _found(
        self,
        page: Page,
        endpoint: Endpoint,
        order_by: str,
        window: tuple[datetime | None, datetime | None],
    ) -> list[Json]:
        """Return all rows of a window as answers have them, in the order of the list."""
        dialect, belongings = self._server.dialect, page.belongings
        world, bounds = self._server.world, self._server.window_bounds
        if endpoint == "ad_conversations":
            exported = world.arranged(
                endpoint,
                (one for one in page.listed() if one.ad_ids),
                dialect.conversation_id,
                getattr,
                order="updated_at",
                filtered="updated_at",
                window=window,
                bounds=bounds,
            )
            return [lists.export_row(dialect, page, one) for one in exported]
        if endpoint == "call_logs":
            window, bounds = world.window(window, bounds)
            rows = list(belongings.calls.values())
            rows = [row for row in rows if inside(row["start_time"], window, bounds)]
            ordered = lists.newest_first(
                rows, lambda row: row["start_time"], descending=not self.calls_ascending
            )
            return [lists.wire(dialect, row) for row in ordered]
        order = filtered = "inserted_at"
        if endpoint == "customers":
            order = order_by if self.customers_ordered else "inserted_at"
            filtered = order if self.customers_filter == "order_by" else "inserted_at"
            rows = belongings.customers(dialect)
        else:
            rows = list(belongings.posts.values())
        arranged = world.arranged(
            endpoint,
            rows,
            lambda row: str(row["id"]),
            lambda row, name: row[name],
            order=order,
            filtered=filtered,
            window=window,
            bounds=bounds,
        )
        return [lists.wire(dialect, row) for row in arranged]

    def _by_range(
        self, page: Page, endpoint: Endpoint, last: str, params: dict[str, str]
    ) -> Answer:
        dialect, numbers = self._server.dialect, page.statistics
        if endpoint == "new_customer_statistics":
            newer = dialect.name == "documented"
            if (last == "page_customers") != newer:
                return SHELL if newer else _text("Server internal error", 406, "plain")
        bounds = statistics.date_range(params.get("date_range"))
        if bounds is None or bounds[1] - bounds[0] > self.longest:
            return self._refuse()
        low, high = bounds
        if endpoint == "user_statistics":
            return _json(statistics.user_body(page, numbers.hours(low, high), dialect))
        if endpoint == "new_customer_statistics":
            days = numbers.days(low.date(), high.date())
            return _json(statistics.new_customer_body(page, days, dialect))
        return _json(statistics.engagement_body(page, low.date(), high.date(), dialect))

    def _by_window(self, page: Page, endpoint: Endpoint, params: dict[str, str]) -> Answer:
        dialect, numbers = self._server.dialect, page.statistics
        since, until = self._server._window(params) or (None, None)  # noqa: SLF001
        if since is None or until is None or until - since > self.longest:
            return self._refuse()
        if endpoint == "customer_feedbacks":
            if until - since >= feedbacks.TOO_LONG:
                return self._refuse()
            bounds, most = self._server.window_bounds, self.cuts.get(endpoint)
            return _json(feedbacks.body(page, (since, until), bounds, most, dialect))
        low = since.astimezone(numbers.zone).replace(tzinfo=None)
        high = until.astimezone(numbers.zone).replace(tzinfo=None)
        if endpoint == "page_statistics":
            hours = (
                hour
                for hour in numbers.hours(low, high)
                if inside(numbers.instant(hour), (since, until), self._server.window_bounds)
            )
            return _json(statistics.page_body(page, hours, dialect))
        # A day counts from its first second, so a range that begins later does not have the day.
        first = low.date() if low.time() == low.time().min else low.date() + timedelta(days=1)
        days = numbers.days(first, high.date())
        if endpoint == "tag_statistics":
            return _json(statistics.tag_body(page, days, dialect))
        if endpoint == "ad_statistics" and params.get("type") != "by_id":
            return self._refuse()
        return _json(statistics.ad_body(page, days, endpoint, dialect))


class _Listener(socketserver.ThreadingTCPServer):
    """Accepts connections; `PancakeServer` does the rest."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, owner: PancakeServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Listener

    def handle(self) -> None:
        self.server.owner._converse(self.request)  # noqa: SLF001 - one class in two parts
