"""An answer tells when it was asked for, by the server's clock, and never later than it was."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from tap_pancake.api.transport import Transport
from tap_pancake.rows.times import in_words
from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, PancakeServer
from tests.tap import config_for, log_lines, run_here, select
from tests.wire import BODY, answer_bytes, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pancake_api import Call

HOUR = 3_600.0


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    with PancakeServer(Account(1)) as server:
        yield server


def patient() -> Transport:
    return Transport(timeout=30, user_agent="tests", connections=1)


def dated(ahead: float) -> list[bytes]:
    """Return an answer of a server whose clock is so many seconds ahead of this machine's."""
    return [answer_bytes(BODY, "200 OK", f"date: {formatdate(time.time() + ahead, usegmt=True)}")]


def test_a_server_whose_clock_is_behind_is_believed(server: PancakeServer) -> None:
    server.scripts["pages"] = lambda _: dated(-7 * HOUR)
    began = time.time()
    got = ask(server, patient())
    took = time.time() - began
    assert began - 7 * HOUR - took - 1 <= got.asked <= began + took - 7 * HOUR
    assert got.ahead == pytest.approx(7 * HOUR, abs=took + 1)


def test_of_a_server_whose_clock_is_ahead_the_machines_time_is_taken(
    server: PancakeServer,
) -> None:
    server.scripts["pages"] = lambda _: dated(7 * HOUR)
    began = time.time()
    got = ask(server, patient())
    assert began <= got.asked <= time.time()
    assert got.ahead == pytest.approx(-7 * HOUR, abs=1 + time.time() - began)


@pytest.mark.parametrize(
    "lines", [(), ("date: ",), ("date: soon",), ("date: Fri, 99 Foo 2026 00:00:00 GMT",)]
)
def test_without_a_date_the_machines_time_is_taken(
    server: PancakeServer, lines: tuple[str, ...]
) -> None:
    server.scripts["pages"] = lambda _: [answer_bytes(BODY, "200 OK", *lines)]
    began = time.time()
    got = ask(server, patient())
    assert began <= got.asked <= time.time()
    assert got.ahead is None


def test_a_slow_answer_is_not_taken_for_one_that_was_asked_later(server: PancakeServer) -> None:
    """Its date may be that of its end, and what was touched meanwhile is not in it."""
    left: list[float] = []

    def script(_: Call) -> Iterator[bytes]:
        left.append(time.time())
        time.sleep(1.2)
        yield from dated(0.0)

    server.scripts["pages"] = script
    got = ask(server, patient())
    assert got.asked <= left[0]
    assert got.ahead == 0.0


def test_a_stream_gives_the_time_with_the_body(server: PancakeServer) -> None:
    server.scripts["pages"] = lambda _: dated(-7 * HOUR)
    pages = TapPancake(config=config_for(server)).streams["pages"]
    body, asked, is_timed = pages.fetch_at(None, None)  # type: ignore[attr-defined]
    assert body == {"success": True, "pages": []}
    assert is_timed
    assert isinstance(asked, int)
    assert abs(asked / 1_000_000 + 7 * HOUR - time.time()) < HOUR


@pytest.mark.parametrize(
    ("ahead", "words"), [(-7 * HOUR, "7 hours ahead of"), (9 * HOUR, "9 hours behind")]
)
def test_clocks_that_differ_are_told_once(server: PancakeServer, ahead: float, words: str) -> None:
    server.scripts["pages"] = server.scripts["tags"] = lambda _: dated(ahead)
    server.account.add_page()
    run = run_here(config_for(server, page_access_tokens={"1": "token-1", "2": "token-2"}))
    warnings = [line for line in log_lines(run, "WARNING") if "clock" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"The clock of this machine is {words} that of the API. ")


def test_clocks_that_agree_are_not_told(server: PancakeServer) -> None:
    server.scripts["pages"] = lambda _: dated(30.0)
    run = run_here(config_for(server), catalog=select("pages"))
    assert "clock" not in run.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (61, "61 seconds"),
        (150, "2 minutes"),
        (5_400, "90 minutes"),
        (25_200, "7 hours"),
        (172_800, "2 days"),
        (900_000, "10 days"),
    ],
)
def test_a_difference_is_told_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
