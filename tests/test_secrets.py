"""No token gets out, whatever goes wrong."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from tests.accounts import DIALECTS
from tests.pancake_api import Account, Fault, PancakeServer
from tests.tap import KEYS, Run, config_for, hurried, patched, run_command, run_tap, select

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.pancake_api import Call
    from tests.tap import Json

# Both begin and end with letters that no encoding changes, so even a piece of one is found.
USER_TOKEN = "uSerTokenHead.+/=&é %27\"'uSerTokenTail"
PAGE_TOKEN = "pAgeTokenHead.+/=&é %27\"'pAgeTokenTail"
PIECES = ("sertokenhead", "sertokentail", "agetokenhead", "agetokentail", "secret-")


def leaks(*texts: str) -> list[str]:
    """Return the lines in which a token can be seen, or one of the server's `SECRET-` values."""
    return [
        line
        for text in texts
        for line in text.splitlines()
        if any(piece in line.lower() for piece in PIECES)
    ]


def assert_no_leak(run: Run) -> None:
    """Assert it of output, which holds the state, and of the log."""
    assert not leaks(run.stdout, run.stderr)


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    account = Account.generate(seed=2, pages=2, conversations=12, messages=(1, 8))
    account.user_token = USER_TOKEN
    for page in account.pages:
        page.token = PAGE_TOKEN + page.id
    with PancakeServer(account) as server:
        yield server


def settings(server: PancakeServer, **more: Any) -> Json:
    """Return settings that hold both kinds of token."""
    tokens = {page.id: page.token for page in server.account.pages[:1]}
    return config_for(server, page_access_tokens=tokens, **more)


# Runs that go well.


def test_the_server_holds_secrets_to_be_found(server: PancakeServer) -> None:
    """Without them these tests would prove nothing."""
    page = server.account.pages[0]
    rows = [server.row(page.id, conversation_id) for conversation_id in page.conversations]
    assert leaks(json.dumps(rows))
    assert leaks(json.dumps(server.dialect.pages_body(server.account)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_good_run_shows_no_secret(dialect: str, tmp_path: Path) -> None:
    account = Account.generate(seed=2, pages=2, conversations=12, messages=(1, 8))
    account.user_token = USER_TOKEN
    for page in account.pages:
        page.token = PAGE_TOKEN + page.id
    with PancakeServer(account, dialect) as server:
        start = {"start_date": "2025-01-01"} if dialect == "older" else {}
        run = run_tap(tmp_path, config_for(server, **start))
        assert run.returncode == 0
        assert len(run.by_key("messages")) == len(server.expected().messages)
        assert_no_leak(run)


@pytest.mark.parametrize("variable", ["LOGLEVEL", "TAP_PANCAKE_LOGLEVEL"])
def test_debug_logs_show_no_token(server: PancakeServer, tmp_path: Path, variable: str) -> None:
    server.faults.append(Fault("500", every=7))
    env = hurried(tmp_path) | {variable: "DEBUG"}
    run = run_tap(tmp_path, settings(server), env=env)
    assert run.returncode == 0
    assert "DEBUG" in run.stderr
    assert "conversations" in run.stderr
    assert_no_leak(run)


# Runs that go wrong.


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Case:
    """A run that fails."""

    faults: tuple[Fault, ...] = ()
    config: Mapping[str, Any] | None = None
    logged: str = ""
    """What the log has to say, so that it is this failure that was tested."""


CASES = {
    "refused connection": Case(
        config={"api_url": f"http://127.0.0.1:{closed_port()}"}, logged="refused"
    ),
    "unresolvable host": Case(
        config={"api_url": "http://nowhere.invalid"}, logged="host of the API is not found"
    ),
    "no server of TLS": Case(
        config={"api_url": "https://127.0.0.1:{port}", "request_timeout": 0.2}, logged="no answer"
    ),
    "impossible host": Case(
        config={"api_url": f"http://{'x' * 70}.invalid"}, logged="setting `api_url`"
    ),
    "impossible port": Case(
        config={"api_url": "http://127.0.0.1:99999"}, logged="setting `api_url`"
    ),
    "wrong user token": Case(config={"access_token": f"x{USER_TOKEN}"}, logged="error 102"),
    "wrong page token": Case(
        config={"page_access_tokens": {"{page}": f"x{PAGE_TOKEN}"}}, logged="error 102"
    ),
    "user token for page": Case(
        config={"page_access_tokens": {"{page}": USER_TOKEN}}, logged="error 102"
    ),
    "echo": Case((Fault("echo"),), logged="HTTP 400"),
    "echo500": Case((Fault("echo500"),), logged="HTTP 500"),
    "echo in conversations": Case((Fault("echo", endpoint="conversations"),), logged="HTTP 400"),
    "echo500 in conversations": Case(
        (Fault("echo500", endpoint="conversations"),), logged="HTTP 500"
    ),
    "echo in messages": Case((Fault("echo", endpoint="messages"),), logged="HTTP 400"),
    "echo500 in messages": Case((Fault("echo500", endpoint="messages"),), logged="HTTP 500"),
    "timeout": Case((Fault("hang", endpoint="messages"),), {"request_timeout": 0.2}, "no answer"),
    "reset": Case((Fault("reset", endpoint="messages"),), logged="connection failed"),
    "cut body": Case((Fault("cut", endpoint="conversations"),), logged="connection failed"),
    "not JSON": Case((Fault("not_json", endpoint="messages"),), logged="not a JSON object"),
    "missing list": Case((Fault("missing_list", endpoint="conversations"),), logged="has no list"),
    "list-pages without pages": Case(
        (Fault("missing_list", endpoint="pages"),), logged="no list of"
    ),
    "error 105": Case((Fault("error:105", endpoint="messages"),), logged="error 105"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_fails_shows_no_token(server: PancakeServer, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    server.faults.extend(Fault(fault.kind, endpoint=fault.endpoint) for fault in case.faults)
    text = json.dumps(case.config or {})
    text = text.replace("{port}", server.url.rpartition(":")[2])
    text = text.replace("{page}", server.account.pages[0].id)
    env = hurried(tmp_path / "env") | {"LOGLEVEL": "DEBUG"}
    run = run_tap(tmp_path, settings(server) | json.loads(text), env=env)
    assert run.returncode == 1
    assert case.logged in run.stderr
    assert_no_leak(run)


def test_a_redirect_is_not_followed(server: PancakeServer, tmp_path: Path) -> None:
    """The token would go with it."""
    with PancakeServer(Account(1)) as thief:
        for endpoint in ("pages", "messages"):
            server.faults = [Fault(f"redirect:{thief.url}/api/v1/pages", endpoint=endpoint)]
            run = run_tap(tmp_path, settings(server))
            assert run.returncode == 1
            assert "redirect" in run.stderr
            assert_no_leak(run)
        assert thief.count() == 0


def test_an_interrupted_run_shows_no_token(server: PancakeServer, tmp_path: Path) -> None:
    server.faults.append(Fault("hang", endpoint="messages", at=[3]))
    interrupt = (
        "import os, signal, threading\nthreading.Timer(4, os.kill, (os.getpid(), 15)).start()"
    )
    run = run_tap(tmp_path, settings(server), env=patched(tmp_path / "env", interrupt))
    assert run.returncode == 143
    assert_no_leak(run)


# Crashes: what nobody foresaw.

CRASH_IN_ROWS = """
from tap_pancake.rows import shaping as rows
def shape(self, row, page_id=None):
    raise RuntimeError("something unforeseen")
rows.RowShaper.shape = shape
"""
CRASH_IN_REQUESTS = """
import requests
def send(self, request, **kwargs):
    raise RuntimeError(f"something unforeseen at {request.url}")
requests.adapters.HTTPAdapter.send = send
"""
CRASH_IN_REQUESTS_TWICE = """
import requests
def send(self, request, **kwargs):
    try:
        raise ValueError(request.url)
    except ValueError as exc:
        raise RuntimeError("something unforeseen") from exc
requests.adapters.HTTPAdapter.send = send
"""
CRASHES = {
    "in rows": CRASH_IN_ROWS,
    "with the URL in its text": CRASH_IN_REQUESTS,
    "with the URL in its cause": CRASH_IN_REQUESTS_TWICE,
}
STRUCTURED = """
version: 1
disable_existing_loggers: false
formatters:
  structured:
    (): singer_sdk.logging.StructuredFormatter
handlers:
  console:
    class: logging.StreamHandler
    formatter: structured
    stream: ext://sys.stderr
root:
  level: DEBUG
  handlers: [console]
"""


@pytest.fixture(params=["console", "structured"])
def logging_env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The two log formats of the SDK."""
    if request.param == "console":
        return {}
    path = tmp_path / "logging.yaml"
    path.write_text(STRUCTURED, encoding="utf-8")
    return {"SINGER_SDK_LOG_CONFIG": str(path)}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_shows_no_token(
    server: PancakeServer, tmp_path: Path, logging_env: dict[str, str], crash: str
) -> None:
    env = patched(tmp_path / "env", CRASHES[crash]) | logging_env
    run = run_tap(tmp_path, settings(server), env=env)
    assert run.returncode == 1
    assert "something unforeseen" in run.stderr
    assert_no_leak(run)


def test_structured_logs_of_a_refused_connection_show_no_token(
    server: PancakeServer, tmp_path: Path, logging_env: dict[str, str]
) -> None:
    config = settings(server, api_url=f"http://127.0.0.1:{closed_port()}")
    run = run_tap(tmp_path, config, env=hurried(tmp_path / "env") | logging_env)
    assert run.returncode == 1
    assert "refused" in run.stderr
    assert_no_leak(run)


def test_structured_logs_of_a_good_run_show_no_token(
    server: PancakeServer, tmp_path: Path, logging_env: dict[str, str]
) -> None:
    run = run_tap(tmp_path, settings(server), env=logging_env)
    assert run.returncode == 0
    assert_no_leak(run)


# Settings.

BAD_SETTINGS: dict[str, Json] = {
    "token as list": {"access_token": [USER_TOKEN]},
    "token as object": {"access_token": {"token": USER_TOKEN}},
    "token as number": {"access_token": 5_550_155_501_555},
    "misspelt token": {"acces_token": USER_TOKEN},
    "token under a wrong name": {"page_access_token": PAGE_TOKEN},
    "page tokens as text": {"page_access_tokens": PAGE_TOKEN},
    "page tokens as list": {"page_access_tokens": [PAGE_TOKEN]},
    "page token as number": {"page_access_tokens": {"1": 5_550_155_501_555}},
    "page token as object": {"page_access_tokens": {"1": {"token": PAGE_TOKEN}}},
    "token as URL": {"access_token": USER_TOKEN, "api_url": f"x?access_token={USER_TOKEN}"},
    "token as date": {"access_token": USER_TOKEN, "start_date": USER_TOKEN},
    "token as number setting": {"access_token": USER_TOKEN, "request_timeout": USER_TOKEN},
    "token as choice": {"access_token": USER_TOKEN, "conversations_api": USER_TOKEN},
    "token as page ids": {"access_token": USER_TOKEN, "page_ids": USER_TOKEN},
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_not_shown(tmp_path: Path, name: str) -> None:
    run = run_tap(tmp_path, BAD_SETTINGS[name], env={"LOGLEVEL": "DEBUG"})
    assert run.returncode == 1
    assert "CRITICAL" in run.stderr
    assert "5550155501555" not in run.stderr + run.stdout
    assert_no_leak(run)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TAP_PANCAKE_PAGE_ACCESS_TOKENS", f'{{"1": "{PAGE_TOKEN}'),
        ("TAP_PANCAKE_PAGE_ACCESS_TOKENS", PAGE_TOKEN),
        ("TAP_PANCAKE_PAGE_IDS", f"[{PAGE_TOKEN}"),
        ("TAP_PANCAKE_REQUEST_TIMEOUT", USER_TOKEN),
        ("TAP_PANCAKE_CONVERSATIONS_API", USER_TOKEN),
    ],
)
def test_bad_environment_variables_are_not_shown(tmp_path: Path, variable: str, value: str) -> None:
    env = {"TAP_PANCAKE_ACCESS_TOKEN": USER_TOKEN, variable: value, "LOGLEVEL": "DEBUG"}
    env["TAP_PANCAKE_API_URL"] = f"http://127.0.0.1:{closed_port()}"
    run = run_command("--config=ENV", env=env | hurried(tmp_path))
    assert run.returncode == 1
    assert "CRITICAL" in run.stderr
    assert_no_leak(run)


def test_a_config_file_that_is_no_json_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(f'{{"access_token": "{USER_TOKEN}",}}', encoding="utf-8")
    run = run_command("--config", str(path), env={"LOGLEVEL": "DEBUG"})
    assert run.returncode == 1
    assert_no_leak(run)


@pytest.mark.parametrize("option", ["--about", "--about --format=json", "--discover", "--help"])
def test_what_is_told_about_the_tap_shows_no_token(option: str) -> None:
    env = {
        "TAP_PANCAKE_ACCESS_TOKEN": USER_TOKEN,
        "TAP_PANCAKE_PAGE_ACCESS_TOKENS": json.dumps({"1": PAGE_TOKEN}),
    }
    run = run_command("--config=ENV", *option.split(), env=env)
    assert run.returncode == 0
    assert run.stdout
    assert_no_leak(run)


# What the API says back.


def echoed(text: str) -> list[str]:
    """Return forms in which a token may come back."""
    return [
        text,
        quote(text),
        quote(text, safe=""),
        quote_plus(text),
        f"https://pages.fm/next?access_token={quote_plus(text)}&page=2",
        f"page_access_token='{text}'",
    ]


KEPT = ("id", "_at", "hour", "time", "date")
"""How fields end that must keep what they hold, or nothing could be read."""
HIDDEN = {
    "access_token": "SECRET-1",
    "accessToken": "SECRET-2",
    "refresh_tokens": ["SECRET-3"],
    "settings": {"any": "SECRET-4"},
    "SESSION_ID": "SECRET-5",
    "token_for_business": "SECRET-6",
    "api_key": {"a": "SECRET-7"},
    "client_secret": "SECRET-8",
    "kept": ["SEEN"],
}


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_rows_that_hold_tokens_are_written_without_them(
    server: PancakeServer, tmp_path: Path, level: str
) -> None:
    """In each field of each stream, in any form, and in what no schema describes at any depth."""
    deep = {"a": [[HIDDEN]]}

    def alter(call: Call, content: bytes) -> bytes:
        page = next((page for page in server.account.pages if page.id == call.page_id), None)
        token = page.token if page else USER_TOKEN
        assert token is not None
        body = json.loads(content)
        for row in rows_in(body):
            number = len(row)
            for name, value in row.items():
                if isinstance(value, str) and not name.endswith(KEPT):
                    row[name] = echoed(token)[number % 6]
                    number += 1
            row["token"] = token
            row.update({"attachments": [deep], "new": [deep], "platform_extra_info": deep})
            row.update({"from": deep, "last_sent_by": deep})
        return json.dumps(body, ensure_ascii=False).encode()

    server.alter = alter
    catalog = select(*KEYS)
    env = {"LOGLEVEL": level}
    config = settings(server, start_date="2025-12-25", end_date="2025-12-28")
    run = run_tap(tmp_path, config, catalog=catalog, env=env)
    assert run.returncode == 0, run.stderr
    assert "[redacted]" in run.stdout
    assert "SEEN" in run.stdout
    assert {"pages", "conversations", "messages", "tags", "users"} <= run.records.keys()
    assert_no_leak(run)


def rows_in(value: Any) -> Iterator[Json]:
    """Find all objects in lists, but not in those of others."""
    if isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                yield part
    elif isinstance(value, dict):
        for part in value.values():
            yield from rows_in(part)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Error", "403 Forbidden"])
@pytest.mark.parametrize("code", ["", '"error_code": 102, ', '"error_code": 105, '])
def test_what_the_api_says_of_an_error_shows_no_token(
    server: PancakeServer, tmp_path: Path, status: str, code: str
) -> None:
    """Also in pieces, in another case, or as the id of the request."""
    token = str(server.account.pages[0].token)
    texts = [
        *echoed(token),
        *(form.upper() for form in echoed(token)),
        json.dumps(token).replace("/", "\\/"),
        token[:15],
        token[-15:],
        " ".join([token[:14], token[14:28], token[28:]]),
    ]

    def script(call: Call) -> list[bytes]:
        text = texts[call.number % len(texts)]
        body = f'{{"success": false, {code}"message": {json.dumps(text, ensure_ascii=False)}}}'
        header = quote(token) if call.number % 2 else "fine"
        head = (
            f"HTTP/1.1 {status}\r\nx-request-id: {header}\r\ncontent-length: {len(body.encode())}"
        )
        return [f"{head}\r\n\r\n{body}".encode()]

    server.scripts = dict.fromkeys(("tags", "users", "posts", "customers", "conversations"), script)
    env = hurried(tmp_path / "env") | {"LOGLEVEL": "DEBUG"}
    catalog = select(*server.scripts)
    run = run_tap(tmp_path, settings(server, start_date="2026-01-01"), catalog=catalog, env=env)
    assert len(server.calls) >= 3
    assert_no_leak(run)
