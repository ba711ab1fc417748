"""What is wrong with the machine or the settings is logged at once, in one line."""

from __future__ import annotations

import base64
import json
import shlex
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.settings import warnings
from tests.pancake_api import Account, PancakeServer
from tests.tap import COMMAND, config_for, log_lines, run_tap, select, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = {"access_token": "invented"}


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody has signed but itself."""
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
        " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1",
        shell=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def assert_logged_at_once(run: Any, *parts: str) -> None:
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "Try 2" not in run.stderr
    (line,) = log_lines(run, "CRITICAL")
    for part in parts:
        assert part in line


def test_a_certificate_that_is_not_trusted_is_said_with_the_remedy(
    tmp_path: Path, untrusted: str
) -> None:
    run = run_tap(tmp_path, {**CONFIG, "api_url": untrusted})
    assert_logged_at_once(run, "certificate", "REQUESTS_CA_BUNDLE")


def test_a_name_that_is_not_found_is_said(tmp_path: Path) -> None:
    run = run_tap(tmp_path, {**CONFIG, "api_url": "https://nowhere.invalid"})
    assert_logged_at_once(run, "host of the API is not found", "`api_url`")


def test_a_start_in_the_future_is_refused(tmp_path: Path) -> None:
    start = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    run = run_tap(tmp_path, {**CONFIG, "start_date": start})
    assert_logged_at_once(run, "`start_date` is in the future")


def jwt(page_id: str) -> str:
    """A token as Pancake makes them for a page."""
    payload = base64.urlsafe_b64encode(json.dumps({"id": page_id}).encode()).decode().rstrip("=")
    return f"invented.{payload}.invented"


def test_a_token_of_another_page_is_told_before_the_first_call(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=5, pages=2, conversations=1)) as server:
        right, other = (page.id for page in server.account.pages[:2])
        for page_id, is_rejected in ((right, False), (other, True)):
            tokens = {right: jwt(page_id)}
            run = run_tap(tmp_path, config_for(server, page_access_tokens=tokens))
            assert ("is that of page" in run.stderr) is is_rejected
            assert jwt(page_id) not in run.stderr
        assert_logged_at_once(run, f"page {right}", f"page {other}", "`page_access_tokens`")


def test_tokens_that_go_out_in_clear_text_are_told() -> None:
    kept = {"personal_data": "keep", "personal_data_of": "customers"}
    for url in ("https://pages.example", "http://127.0.0.1:9", "http://localhost", "http://[::1]"):
        assert not list(warnings(kept | {"api_url": url}))
    (doubt,) = warnings(kept | {"api_url": "http://pages.example/x"})
    assert "tokens go to pages.example without encryption" in doubt


@pytest.mark.parametrize(
    ("redirection", "message"),
    [(">/dev/full", "No space left on device"), (">&-", "standard output is closed")],
)
def test_an_output_that_takes_nothing_is_said(
    tmp_path: Path, redirection: str, message: str
) -> None:
    with PancakeServer(Account.generate(seed=5, pages=1, conversations=3)) as server:
        (tmp_path / "config.json").write_text(json.dumps(config_for(server)), encoding="utf-8")
        command = f"{shlex.join(COMMAND)} --config config.json {redirection}"
        run = subprocess.run(
            command, shell=True, cwd=tmp_path, check=False, capture_output=True, text=True
        )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert message in run.stderr.splitlines()[-1]


def test_a_stream_of_the_state_that_does_not_exist_is_named(tmp_path: Path) -> None:
    account = Account.generate(seed=72, pages=1, conversations=3)
    with PancakeServer(account) as server:
        first = sync(tmp_path, config_for(server), catalog=select("conversations"))
        state = {"bookmarks": {"tags": {}, "conversatons": first.state["bookmarks"].popitem()[1]}}
        run = sync(tmp_path, config_for(server), catalog=select("conversations"), state=state)
    (line,) = log_lines(run, "WARNING")
    assert "the stream `conversatons`, which this tap does not have" in line
    assert "did you mean `conversations`?" in line
    assert len(run.records["conversations"]) == len(first.records["conversations"])
