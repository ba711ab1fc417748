"""One GET over the network: the only place where a token meets a URL.

The token is a query parameter, the URL of `requests` holds it, and so do its exceptions and
responses. None of these leave this module: callers get an `Answer`, or an exception that was made
here, outside of any `except` block, so that not even ``__context__`` leads to a URL.
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

    from tap_pancake.rows.kept import Glance

# The one letter that PostgreSQL takes in no text, so that a row with it stops all loading: as it
# stands in JSON, and not behind an escaped backslash.
_NUL_ESCAPE = rb"\u0000"
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
# The latency is the average of about so many answers.
_MEMORY = 16
# Bytes of the longest answer: of 60 conversations with all they can have, it is a tenth of that.
_LONGEST = 64 * 2**20
# Letters of the id of a request that are kept.
_LONGEST_ID = 100
# Headers of an answer, and bytes of each.
_MOST_HEADERS, _LONGEST_HEADER = 200, 2**16
# Bytes that are read, and unpacked, at a time.
_BUFFER, _PIECE = 2**14, 2**20
# Files that are open beside connections: input and output, logs, certificates, batch files.
_OTHER_FILES = 64
# Seconds that an answer may ask to wait; if it asks for more, it is asked again sooner.
_LONGEST_PAUSE = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, without the question."""

    status: int
    content: bytes
    request_id: str | None
    retry_after: float | None
    """Seconds to wait, if the answer said so in numbers."""
    asked: float
    """Unix seconds by the server's clock when the call left; never later than the true time."""
    ahead: float | None
    """Seconds that this machine's clock is ahead of the server's at least; below 0 it is behind.
    None if the server does not tell the time."""

    def body(self, glance: Glance | None = None) -> dict[str, Any] | None:
        """Read the JSON object in the body; None if there is none.

        A bare array, as the official document has it for ads, is given as ``{"data": array}``, the
        form that was seen (reference, section 20).

        Args:
            glance: reads it, where its rows are read when they are written.
        """
        content = self.content
        if _NUL_ESCAPE in content:
            content = _NUL.sub(rb"\1\\ufffd", content)
        body = read(content) if glance is None else glance.read(content)
        if isinstance(body, list):
            return {"data": body}
        return body if isinstance(body, dict) else None


class _TooLong(Exception):
    """There is more of an answer than is read."""


class _Wire(io.RawIOBase):
    """What comes over a connection, no longer than its timeout in all.

    The timeout of a socket is for each read, so an answer of a byte now and then would never end.
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
        if self._length:  # for the first bytes the socket has its timeout
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


def _headers(lines: Any) -> HTTPMessage:
    """Read the headers of an answer, in a fifth of the time of Python's own parser for e-mails.

    Raises:
        HTTPException: there are too many, or one is too long.
    """
    headers = HTTPMessage()
    for _ in range(_MOST_HEADERS):
        line = lines.readline(_LONGEST_HEADER + 1)
        if len(line) > _LONGEST_HEADER:
            break
        text = line.decode("iso-8859-1")
        if not text.strip():
            return headers
        name, colon, value = text.partition(":")
        if colon and text[0] not in " \t":  # what goes on with the line before is not needed
            headers[name] = value.strip()
    raise HTTPException("headers")  # noqa: EM101 - its name is what is told


# The method of Python's own class with another function for headers, which it takes from the names
# of its module. If a later Python does that otherwise, headers are read in its slower way.
_begin = FunctionType(
    HTTPResponse.begin.__code__, {**vars(http.client), "parse_headers": _headers}, "begin"
)


class _Response(HTTPResponse):
    """An answer, from its first byte on."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Wire(self.fp.detach(), sock), _BUFFER)

    @override
    def begin(self) -> None:
        _begin(self)
        while self.status < HTTPStatus.OK:
            # Such as 103, which Python takes for the answer, and the answer for the next call's.
            self.headers = None  # type: ignore[assignment] # as before there was any
            _begin(self)


@cache
def _reading(connection: type) -> type:
    """Return a kind of connection, of which a proxy may have its own, whose answers are those."""
    return type(connection.__name__, (connection,), {"response_class": _Response})


class _Adapter(HTTPAdapter):
    """The adapter of requests, which finds out once where calls to an address go, and how.

    It would look at proxies and certificates at each call, and make a whole response of an answer.
    """

    def __init__(self, connections: int) -> None:
        super().__init__(pool_maxsize=connections)
        self._pools: dict[str, Any] = {}
        self._is_relayed = False

    @override
    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        origin = _origin(request.url)
        if origin not in self._pools:
            pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
            pool.ConnectionCls = _reading(pool.ConnectionCls)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
            # A proxy for http wants to be told the whole address.
            self._is_relayed = super().request_url(request, proxies).startswith("http")
            self._pools[origin] = pool
        return self._pools[origin]

    @override
    def cert_verify(self, *args: Any) -> None:
        pass  # with the pool

    @override
    def request_url(self, request: Any, proxies: Any) -> Any:
        return request.url if self._is_relayed else request.url[len(_origin(request.url)) :]

    @override
    def build_response(self, req: Any, resp: Any) -> Any:
        return resp


def _origin(url: str) -> str:
    """Return the part of a URL before its path."""
    return url[: url.index("/", len("https://"))]


def most_connections() -> int | None:
    """Return how many connections this process may open, beside its files; None if that is many."""
    try:
        import resource  # noqa: PLC0415 - of Unix only
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _OTHER_FILES)


class Transport:
    """Sends GET requests, and nothing else; any thread may use it."""

    def __init__(
        self,
        *,
        timeout: float,
        user_agent: str,
        connections: int,
        when_full: Callable[[], object] = lambda: None,
    ) -> None:
        """Open no connection yet.

        Args:
            timeout: seconds to wait for a connection, and then for a whole answer.
            user_agent: the header of that name.
            connections: how many there may be at a time.
            when_full: is called when a call has to wait for one.
        """
        self._timeout = timeout
        self._headers = requests.utils.default_headers()
        self._headers["User-Agent"] = user_agent
        # Not a whole session, which spends as long on cookies, redirects and the environment.
        self._adapter = _Adapter(connections)
        self._connections = BoundedSemaphore(connections)
        self._when_full = when_full
        self._environment: dict[str, Any] = {}
        self.latency = 0.0
        """Seconds that answers took lately."""

    def get(
        self,
        url: str,
        params: Mapping[str, Any],
        token: Mapping[str, str],
        *,
        where: str,
        wait: Callable[[Callable[[], None]], None],
    ) -> Answer:
        """Ask once.

        Args:
            url: without query.
            params: the query, without the token.
            token: the one parameter with the token.
            where: page and stream, for messages.
            wait: waits until the call may leave, and for a connection by what it is handed, last: a
                page that is slowed takes none from others.

        Returns:
            Whatever was answered, with any status, but for the token. A redirect is not followed:
            the token would go with it.

        Raises:
            TransientError: no whole answer came.
            PageFailed: it is longer than any answer should be.
            RunStopped: no other try will help.
        """
        wait(self._connect)
        try:
            request = self._request(f"{url}?{urlencode({**params, **token}, doseq=True)}")
            left, began = time.time(), time.monotonic()
            response: Any = self._adapter.send(request, timeout=self._timeout, **self._environment)
            clocks = _clocks(response.headers.get("Date"), left, time.monotonic() - began)
            content = _whole(response)
            self.latency += (time.monotonic() - began - self.latency) / _MEMORY
            request_id = response.headers.get("x-request-id", "")
            for form in chain.from_iterable(map(forms_of, token.values())):
                # Such as in the address of a next page, or in what went wrong.
                content = content.replace(form.encode(), BLOT.encode())
                request_id = request_id.replace(form, BLOT)
            return Answer(
                status=response.status,
                content=content,
                request_id=request_id[:_LONGEST_ID] or None,
                retry_after=_seconds(response.headers.get("Retry-After")),
                asked=clocks[0],
                ahead=clocks[1],
            )
        except _TooLong:
            fault = None
        except (requests.Timeout, ReadTimeoutError):
            fault = f"no answer within {self._timeout:g} seconds: raise `request_timeout`"
        except (requests.RequestException, HTTPError, OSError) as exc:
            self._check_setup(exc, where)
            fault = f"the connection failed ({_reason(exc)}): check the network and `api_url`"
        finally:
            self._connections.release()
        if fault is None:
            msg = f"{where}: the answer has more than {_LONGEST >> 20} MB: check `api_url`"
            raise PageFailed(msg)
        msg = f"{where}: {fault}, or run the tap again later"
        raise TransientError(msg, whole_page=True)

    def _connect(self) -> None:
        """Wait for a connection."""
        if not self._connections.acquire(blocking=False):
            self._when_full()
            self._connections.acquire()

    def _request(self, url: str) -> requests.PreparedRequest:
        """Return a request; what does not differ from call to call is found out at the first."""
        if not self._environment:
            # Proxies and certificates; a session would look for them at each call.
            session = requests.Session()
            found = session.merge_environment_settings(url, {}, False, None, None)  # noqa: FBT003
            # The address may hold a name and a password, which become a header.
            self._headers = requests.Request("GET", url, self._headers).prepare().headers
            self._environment = dict(found)
        request = requests.PreparedRequest()
        request.method, request.url, request.headers = "GET", url, self._headers
        return request

    def _check_setup(self, exc: BaseException, where: str) -> None:
        """Tell of a fault of the machine's setup, which no other try mends.

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
        # Once something was answered, it is a fault that passes.
        if not self.latency and any(isinstance(cause, socket.gaierror) for cause in causes):
            msg = (
                f"{where}: the host of the API is not found: check `api_url`, and the network or"
                " proxy (HTTPS_PROXY) of this machine"
            )
            raise RunStopped(msg)


def _whole(response: Any) -> bytes:
    """Read the body of an answer.

    Raises:
        _TooLong: there is more of it than is read, of what it becomes when it is unpacked too.
    """
    with closing(response) as raw:  # what was read to its end has given its connection back
        if "content-encoding" not in raw.headers:
            if (raw.length_remaining or 0) > _LONGEST:
                raise _TooLong
            content: bytes = raw.read()
            return content
        pieces = []
        left = _LONGEST
        for piece in raw.stream(_PIECE, decode_content=True):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise _TooLong
    return b"".join(pieces)


def _seconds(header: str | None) -> float | None:
    try:
        seconds = float(header) if header else math.nan
    except ValueError:  # the other form of Retry-After, a date, is not known of this API
        return None
    return min(max(0.0, seconds), _LONGEST_PAUSE) if math.isfinite(seconds) else None


@lru_cache(maxsize=4)
def _unix(date: str) -> float | None:
    """Return the Unix seconds of a header `Date`, which many answers of one second have."""
    try:
        at = parsedate_to_datetime(date)
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _clocks(header: str | None, left: float, took: float) -> tuple[float, float | None]:
    """Compare the clocks of the server and of this machine.

    Args:
        header: the server's time at some moment of the call, in whole seconds.
        left: the machine's time when the call left, in Unix seconds.
        took: seconds until the answer came.

    Returns:
        The server's time when the call left, or the machine's if that is earlier or the only one;
        and how many seconds the machine is ahead at least, 0 if the two may be the same; None if
        there is only the machine's.
    """
    server = _unix(header or "")
    if server is None:
        return left, None
    ahead = max(0.0, left - server - 1) or min(0.0, left + took - server)
    return min(left, server - took), ahead


def _reason(exc: BaseException) -> str:
    """Name the system's error behind an exception, without any text that may hold a URL."""
    chain = list(_causes(exc))
    for cause in chain:
        if isinstance(cause, OSError) and isinstance(cause.errno, int) and cause.errno > 0:
            return os.strerror(cause.errno)
    return type(chain[-1]).__name__


def _causes(exc: BaseException, depth: int = 10) -> Iterator[BaseException]:
    """Walk from an exception of requests down through urllib3's to the system's."""
    yield exc
    nested = [getattr(exc, "reason", None), *exc.args, exc.__cause__, exc.__context__]
    inner = next((cause for cause in nested if isinstance(cause, BaseException)), None)
    if inner is not None and depth:
        yield from _causes(inner, depth - 1)
