"""HTTP GET requests: the only module where a URL contains a token.

The token is a query parameter, so the URL, the exceptions and the responses of `requests` contain
it. None of these leave this module: callers get an `Answer`, or an exception that is made here
outside of any `except` block, so that even ``__context__`` does not lead to a URL.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import re
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from itertools import chain
from threading import BoundedSemaphore
from types import FunctionType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tap_pancake.api.errors import PageFailed, RunStopped, TransientError
from tap_pancake.api.redaction import BLOT, forms_of
from tap_pancake.rows.kept import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tap_pancake.rows.kept import PartialDecoder

# NUL in JSON, unless an escaped backslash precedes it. PostgreSQL accepts no text with NUL, so one
# such row would stop the whole load.
_NUL_ESCAPE = rb"\u0000"
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
# Number of latest answers that the latency is the average of, about.
_LATENCY_ANSWERS = 16
# Maximum bytes of an answer. 60 conversations with every field take a tenth of it.
_LONGEST = 64 * 2**20
# Maximum characters of a request id that are kept.
_MAX_REQUEST_ID = 100
# Maximum headers of an answer, and maximum bytes of each.
_MAX_HEADERS, _MAX_HEADER = 200, 2**16
# Bytes that are read, and decompressed, at a time.
_BUFFER_SIZE, _PIECE_SIZE = 2**14, 2**20
# Open files besides connections: input and output, logs, certificates, batch files.
_RESERVED_FILES = 64
# Maximum seconds that the tap waits because an answer asks for it.
_MAX_RETRY_AFTER = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, without its request."""

    status: int
    content: bytes
    request_id: str | None
    retry_after: float | None
    """Seconds to wait, from the header `Retry-After`; None without a number there."""
    asked: float
    """Unix seconds by the server's clock when the request left; never later than the true time."""
    ahead: float | None
    """Seconds that this machine's clock is at least ahead of the server's; below 0, behind it.
    None without the server's time."""

    def body(self, decoder: PartialDecoder | None = None) -> dict[str, Any] | None:
        """Return the JSON object of the body; None if it is not one.

        A bare array, which the official document has for ads, is returned as ``{"data": array}``,
        the form that was seen (reference, section 20).

        Args:
            decoder: decodes the body and leaves its rows as JSON; None decodes all of it.
        """
        content = self.content
        if _NUL_ESCAPE in content:
            content = _NUL.sub(rb"\1\\ufffd", content)
        body = read(content) if decoder is None else decoder.read(content)
        if isinstance(body, list):
            return {"data": body}
        return body if isinstance(body, dict) else None


class _TooLong(Exception):
    """An answer is longer than the tap reads."""


class _LimitedStream(io.RawIOBase):
    """The bytes of an answer, with a limit on their number and on the time for all of them.

    The timeout of a socket is for each read, so an answer that sends a byte now and then would
    never end.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = time.monotonic() + (sock.gettimeout() or math.inf)
        self._length = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int | None:
        if self._length:  # the socket has its own timeout for the first bytes
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if self._length > _LONGEST:
                raise _TooLong
            self._sock.settimeout(left)
        length = self._raw.readinto(buffer)
        self._length += length or 0
        return length

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _parse_headers(lines: Any) -> HTTPMessage:
    """Return the headers of an answer, five times as fast as Python's own parser, made for e-mails.

    Raises:
        HTTPException: there are too many, or one is too long.
    """
    headers = HTTPMessage()
    for _ in range(_MAX_HEADERS):
        line = lines.readline(_MAX_HEADER + 1)
        if len(line) > _MAX_HEADER:
            break
        text = line.decode("iso-8859-1")
        if not text.strip():
            return headers
        name, colon, value = text.partition(":")
        if colon and text[0] not in " \t":  # continued lines are not needed
            headers[name] = value.strip()
    raise HTTPException("headers")  # noqa: EM101 - messages show the class only


# Python's own method, with another function instead of its module's `parse_headers`. If a later
# Python gets that function in another way, headers are parsed in its slower way.
_begin = FunctionType(
    HTTPResponse.begin.__code__, {**vars(http.client), "parse_headers": _parse_headers}, "begin"
)


class _Response(HTTPResponse):
    """A response of `http.client` that limits its size and its time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_LimitedStream(self.fp.detach(), sock), _BUFFER_SIZE)

    @override
    def begin(self) -> None:
        _begin(self)
        while self.status < HTTPStatus.OK:
            # Python takes a status such as 103 for the answer, and the answer for that of the next
            # request.
            self.headers = None  # type: ignore[assignment] # otherwise `begin` returns at once
            _begin(self)


@cache
def _with_own_response(connection: type) -> type:
    """Return a subclass of a connection class, direct or by proxy, that reads a `_Response`."""
    return type(connection.__name__, (connection,), {"response_class": _Response})


class _Adapter(HTTPAdapter):
    """The adapter of requests, with proxies and certificates looked up once for each origin.

    The original looks them up at each call, and makes a `requests.Response` of each answer.
    """

    def __init__(self, connections: int) -> None:
        super().__init__(pool_maxsize=connections)
        self._pools: dict[str, Any] = {}
        self._sends_full_url = False

    @override
    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        origin = _origin(request.url)
        if origin not in self._pools:
            pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
            pool.ConnectionCls = _with_own_response(pool.ConnectionCls)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
            # A proxy for http needs the whole URL.
            self._sends_full_url = super().request_url(request, proxies).startswith("http")
            self._pools[origin] = pool
        return self._pools[origin]

    @override
    def cert_verify(self, *args: Any) -> None:
        pass  # done once, with the pool

    @override
    def request_url(self, request: Any, proxies: Any) -> Any:
        return request.url if self._sends_full_url else request.url[len(_origin(request.url)) :]

    @override
    def build_response(self, req: Any, resp: Any) -> Any:
        return resp


def _origin(url: str) -> str:
    """Return scheme, host and port of a URL."""
    return url[: url.index("/", len("https://"))]


def most_connections() -> int | None:
    """Return how many connections this process may open besides its files; None for no limit."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _RESERVED_FILES)


class Transport:
    """Sender of GET requests; thread-safe."""

    def __init__(
        self,
        *,
        timeout: float,
        user_agent: str,
        connections: int,
        when_full: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare without opening a connection.

        Args:
            timeout: seconds to wait for a connection, and then for a complete answer.
            user_agent: the header `User-Agent`.
            connections: maximum connections at a time.
            when_full: called when a request has to wait for a connection.
        """
        self._timeout = timeout
        self._headers = requests.utils.default_headers()
        self._headers["User-Agent"] = user_agent
        # Not a session, which takes as long again for cookies, redirects and the environment.
        self._adapter = _Adapter(connections)
        self._connections = BoundedSemaphore(connections)
        self._when_full = when_full
        self._environment: dict[str, Any] = {}
        self.latency = 0.0
        """Average seconds of the latest answers; 0 before the first."""

    def get(
        self,
        url: str,
        params: Mapping[str, Any],
        token: Mapping[str, str],
        *,
        where: str,
        wait: Callable[[Callable[[], None]], None],
    ) -> Answer:
        """Send one GET request and return its answer, with any status.

        The answer does not contain the token. A redirect is not followed, as the token would go
        with it.

        Args:
            url: without query.
            params: the query, without the token.
            token: the one parameter with the token.
            where: page and stream, for messages.
            wait: waits until the request may leave, and then calls its argument, which waits for a
                connection. So a page that is slowed down takes no connection from others.

        Raises:
            TransientError: no complete answer came.
            PageFailed: the answer is too long.
            RunStopped: a retry cannot help.
        """
        wait(self._take_connection)
        try:
            request = self._request(f"{url}?{urlencode({**params, **token}, doseq=True)}")
            left, began = time.time(), time.monotonic()
            response: Any = self._adapter.send(request, timeout=self._timeout, **self._environment)
            clocks = _compare_clocks(response.headers.get("Date"), left, time.monotonic() - began)
            content = _read_body(response)
            self.latency += (time.monotonic() - began - self.latency) / _LATENCY_ANSWERS
            request_id = response.headers.get("x-request-id", "")
            for form in chain.from_iterable(map(forms_of, token.values())):
                # Such as in a URL for the next answer, or in an error message.
                content = content.replace(form.encode(), BLOT.encode())
                request_id = request_id.replace(form, BLOT)
            return Answer(
                status=response.status,
                content=content,
                request_id=request_id[:_MAX_REQUEST_ID] or None,
                retry_after=_retry_after_seconds(response.headers.get("Retry-After")),
                asked=clocks[0],
                ahead=clocks[1],
            )
        except _TooLong:
            fault = None
        except (requests.Timeout, ReadTimeoutError):
            fault = f"no answer within {self._timeout:g} seconds: raise `request_timeout`"
        except (requests.RequestException, HTTPError, OSError) as exc:
            self._check_machine(exc, where)
            fault = f"the connection failed ({_reason(exc)}): check the network and `api_url`"
        finally:
            self._connections.release()
        if fault is None:
            msg = f"{where}: the answer has more than {_LONGEST >> 20} MB: check `api_url`"
            raise PageFailed(msg)
        msg = f"{where}: {fault}, or run the tap again later"
        raise TransientError(msg, whole_page=True)

    def _take_connection(self) -> None:
        """Wait for a connection and reserve it."""
        if not self._connections.acquire(blocking=False):
            self._when_full()
            self._connections.acquire()

    def _request(self, url: str) -> requests.PreparedRequest:
        """Return a request; the first call looks up what all requests have in common."""
        if not self._environment:
            # Proxies and certificates; a session would look them up at each call.
            session = requests.Session()
            found = session.merge_environment_settings(url, {}, False, None, None)  # noqa: FBT003
            # The URL may have a user name and a password, which become a header.
            self._headers = requests.Request("GET", url, self._headers).prepare().headers
            self._environment = dict(found)
        request = requests.PreparedRequest()
        request.method, request.url, request.headers = "GET", url, self._headers
        return request

    def _check_machine(self, exc: BaseException, where: str) -> None:
        """Raise an error for a fault of this machine's setup, which a retry cannot fix.

        Raises:
            RunStopped: the certificate is not trusted, or the name of the API is not found.
        """
        causes = list(_causes(exc))
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            msg = (
                f"{where}: the certificate of the API, or of a proxy in front of it, is not"
                " trusted: set the environment variable REQUESTS_CA_BUNDLE to the path of a file"
                " with the right certificates"
            )
            raise RunStopped(msg)
        # After a first answer, it is a fault that passes.
        if not self.latency and any(isinstance(cause, socket.gaierror) for cause in causes):
            msg = (
                f"{where}: the host of the API is not found: check `api_url`, and the network or"
                " proxy (HTTPS_PROXY) of this machine"
            )
            raise RunStopped(msg)


def _read_body(response: Any) -> bytes:
    """Return the body of an answer, decompressed.

    Raises:
        _TooLong: the body is too long, as sent or decompressed.
    """
    with closing(response) as raw:  # a body read to its end has returned its connection
        if "content-encoding" not in raw.headers:
            if (raw.length_remaining or 0) > _LONGEST:
                raise _TooLong
            content: bytes = raw.read()
            return content
        pieces = []
        left = _LONGEST
        for piece in raw.stream(_PIECE_SIZE, decode_content=True):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise _TooLong
    return b"".join(pieces)


def _retry_after_seconds(header: str | None) -> float | None:
    try:
        seconds = float(header) if header else math.nan
    except ValueError:  # the other form, a date, was never seen of this API
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER) if math.isfinite(seconds) else None


@lru_cache(maxsize=4)
def _unix_date(date: str) -> float | None:
    """Return the Unix seconds of a header `Date`; cached, as many answers have the same one."""
    try:
        at = parsedate_to_datetime(date)
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _compare_clocks(header: str | None, left: float, took: float) -> tuple[float, float | None]:
    """Compare the clocks of the server and of this machine.

    Args:
        header: the header `Date`: the server's time during the call, in whole seconds.
        left: this machine's time when the request left, in Unix seconds.
        took: seconds until the answer came.

    Returns:
        The earliest time of the server when the request left, or this machine's if it is earlier or
        the header has none; and the seconds that this machine is at least ahead: 0 if both may have
        the same time, None without the server's.
    """
    server = _unix_date(header or "")
    if server is None:
        return left, None
    ahead = max(0.0, left - server - 1) or min(0.0, left + took - server)
    return min(left, server - took), ahead


def _reason(exc: BaseException) -> str:
    """Return the system's error behind an exception, without any text that may contain a URL."""
    chain = list(_causes(exc))
    for cause in chain:
        if isinstance(cause, OSError) and isinstance(cause.errno, int) and cause.errno > 0:
            return os.strerror(cause.errno)
    return type(chain[-1]).__name__


def _causes(exc: BaseException, depth: int = 10) -> Iterator[BaseException]:
    """Yield an exception of requests, those of urllib3 behind it, and last the system's."""
    yield exc
    nested = [getattr(exc, "reason", None), *exc.args, exc.__cause__, exc.__context__]
    inner = next((cause for cause in nested if isinstance(cause, BaseException)), None)
    if inner is not None and depth:
        yield from _causes(inner, depth - 1)
