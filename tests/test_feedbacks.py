"""Feedbacks of customers: in the page's own time, by spans of days, each answer with its count."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import time_machine

from tests.accounts import DIALECTS
from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import assert_same, records, utc
from tests.tap import Run, config_for, log_lines, run_here, select
from tests.truth import merged, text

if TYPE_CHECKING:
    from tests.pancake_api import Call, Page
    from tests.pancake_api.account import Bounds
    from tests.tap import Json

STREAM: Final = "customer_feedbacks"
FIRST, LAST = utc(2025, 11, 10, 3), utc(2026, 1, 8, 15)
SETTINGS = {"start_date": "2025-11-08T00:00:00Z", "end_date": "2026-01-12T00:00:00Z"}
NOON = utc(2026, 1, 2, 12)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TOO_LONG = 2_592_000


def account_of(hours: float = 7, *, is_empty: bool = False) -> Account:
    """One page, in so many hours ahead of UTC."""
    account = Account(31)
    page = account.add_page(timezone=hours)
    if not is_empty:
        page.statistics.since, page.statistics.until = FIRST, LAST
    return account


def run_of(server: PancakeServer, *others: str, state: Json | None = None, **settings: Any) -> Run:
    """Run the tap for the stream, and others."""
    config = config_for(server, **(SETTINGS | settings))
    return run_here(config, catalog=select(STREAM, *others), state=state)


def of_day(page: Page, count: int, at: datetime = NOON) -> list[Json]:
    """Add feedbacks, a minute apart."""
    return [page.feedbacks.add(at + timedelta(minutes=number)) for number in range(count)]


def seconds_of(call: Call) -> int:
    """How long a span a call asks for."""
    return int(call.params["until"]) - int(call.params["since"])


# Times.


@pytest.mark.parametrize("hours", [7, -9.5, 5.75, 14])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_pages_own_time_becomes_utc(hours: float, dialect: str) -> None:
    account = account_of(7 if dialect == "documented" else hours)
    with PancakeServer(account, dialect) as server:
        run = run_of(server)
        assert run.returncode == 0, run.stderr
        assert not run.repeated(STREAM)
        assert_same(run.by_key(STREAM), records(server, STREAM))
        run.check_records()


@pytest.mark.parametrize("hours", [-5, 14])
def test_a_guessed_time_loses_no_feedback_and_all_are_corrected_when_it_is_known(
    hours: float,
) -> None:
    account = account_of(hours)
    (page,) = account.pages
    config: Json = {"access_token": None, "page_access_tokens": {page.id: page.token}}
    with PancakeServer(account) as server:
        held = records(server, STREAM)
        first = run_of(server, **config)
        assert first.by_key(STREAM).keys() == held.keys()
        assert not run_of(server, **config).repeated(STREAM)
        second = run_of(server, "user_statistics", state=first.state, **config)
        assert any(
            "the API now shows the page's time zone" in line for line in log_lines(second, "INFO")
        )
        assert_same(second.by_key(STREAM), held)
        third = run_of(server, state=second.state, **config)
        assert third.by_key(STREAM).items() <= held.items()


@pytest.mark.parametrize("bounds", ["[]", "[)", "(]", "()"])
def test_a_feedback_at_midnight_is_found_whether_or_not_bounds_are_inclusive(
    bounds: Bounds,
) -> None:
    account = account_of(is_empty=True)
    for number in range(8):
        midnight = utc(2026, 1, 1, 17) + number * DAY
        account.pages[0].feedbacks.add(midnight)
        account.pages[0].feedbacks.add(midnight - timedelta(seconds=1))
    with PancakeServer(account, window_bounds=bounds) as server:
        run = run_of(server, statistics_window_days=1)
        assert_same(run.by_key(STREAM), records(server, STREAM))


def test_nothing_is_written_from_before_the_start_date_or_after_the_end_date() -> None:
    start, end = NOON + timedelta(minutes=10), NOON + timedelta(minutes=20)
    account = account_of(is_empty=True)
    of_day(account.pages[0], 30)
    with PancakeServer(account) as server:
        first = run_of(server, start_date=start.isoformat(), end_date=end.isoformat())
        times = sorted(row["inserted_at"] for row in first.records[STREAM])
        assert (times[0], times[-1], len(times)) == (text(start), text(end), 11)
        # What lies on both sides of it comes with other settings, and no full refresh.
        second = run_of(server, state=first.state)
        assert_same(merged(STREAM, first, second), records(server, STREAM))


@pytest.mark.parametrize("days", [1, 7, 31])
def test_no_span_is_as_long_as_the_api_refuses(days: int) -> None:
    with PancakeServer(account_of()) as server:
        run = run_of(server, statistics_window_days=days, start_date="2025-06-01")
        assert run.returncode == 0, run.stderr
        longest = max(map(seconds_of, server.calls[1:]))
        assert (min(days, 29) - 1) * 86_400 < longest < TOO_LONG
        assert_same(run.by_key(STREAM), records(server, STREAM))


# Incremental runs.


def test_an_hourly_run_takes_one_call_and_brings_what_is_new() -> None:
    account = account_of(is_empty=True)
    (page,) = account.pages
    account.clock = lambda: datetime.now(UTC)
    runs: list[Run] = []
    with PancakeServer(account) as server, time_machine.travel(NOON, tick=False) as clock:
        config = config_for(server, start_date=(NOON - 9 * DAY).isoformat())
        for number in range(8):
            page.feedbacks.add(NOON + number * HOUR - timedelta(minutes=5))
            server.reset_calls()
            state = runs[-1].state if runs else None
            runs.append(run_here(config, catalog=select(STREAM), state=state))
            assert server.count(STREAM) == (2 if number == 0 else 1)
            assert_same(merged(STREAM, *runs), records(server, STREAM))
            assert runs[-1].bookmark(STREAM, page.id) == text(NOON + number * HOUR)
            clock.shift(3_600)


def test_a_feedback_that_comes_late_is_found_within_the_lookback() -> None:
    account = account_of(is_empty=True)
    (page,) = account.pages
    account.clock = lambda: datetime.now(UTC)
    with PancakeServer(account) as server, time_machine.travel(NOON, tick=False) as clock:
        config = config_for(server, start_date=(NOON - 9 * DAY).isoformat())
        first = run_here(config, catalog=select(STREAM))
        within = page.feedbacks.add(NOON - 2.9 * DAY)
        before = page.feedbacks.add(NOON - 5 * DAY)
        clock.shift(6 * 3_600)
        second = run_here(config, catalog=select(STREAM), state=first.state)
        assert [row["id"] for row in second.records[STREAM]] == [within["id"]]
        longer = config | {"statistics_lookback_days": 9}
        third = run_here(longer, catalog=select(STREAM), state=second.state)
        assert before["id"] in {row["id"] for row in third.records[STREAM]}


# Whether an answer is whole.


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("most", [5, 9])
def test_an_answer_that_was_cut_is_asked_for_in_smaller_spans(most: int, dialect: str) -> None:
    with PancakeServer(account_of(), dialect) as server:
        server.desk.cuts[STREAM] = most
        run = run_of(server, statistics_window_days=29)
        assert run.returncode == 0, run.stderr
        assert not log_lines(run, "WARNING")
        assert not run.repeated(STREAM)
        assert_same(run.by_key(STREAM), records(server, STREAM))


def test_a_day_that_is_cut_is_told_of_once_and_what_came_is_kept() -> None:
    account = account_of(is_empty=True)
    (page,) = account.pages
    newest = [row["id"] for at in (NOON, NOON - DAY) for row in of_day(page, 9, at)[-5:]]
    with PancakeServer(account) as server:
        server.desk.cuts[STREAM] = 5
        run = run_of(server)
        assert run.returncode == 0
        assert {row["id"] for row in run.records[STREAM]} == set(newest)
        (line,) = log_lines(run, "WARNING")
        assert line.startswith(f"page {page.id}, {STREAM}: ")
        assert "fewer feedbacks than it counts" in line


def test_counts_of_other_feedbacks_cost_one_call_more_where_there_is_none() -> None:
    """Such as those of all time; but an answer may come from a copy that lags."""
    count = {"admin_id": "1", "feedback_count": "70", "avg_feedback": 4.5, "botcake_count": None}
    with PancakeServer(account_of()) as server:
        server.desk.bodies[STREAM] = {
            "success": True,
            "customer_feedback": [],
            "customer_average_feedback": [count, {"admin_id": "2", "feedback_count": None}],
        }
        run = run_of(server, statistics_window_days=29)
        assert run.returncode == 0
        assert len(log_lines(run, "WARNING")) == 1
        assert server.count(STREAM) == 6


@pytest.mark.parametrize(
    "counts", [None, {}, [None], [{}], [{"feedback_count": "many"}], [{"feedback_count": [1]}]]
)
def test_an_answer_without_readable_counts_is_an_error(counts: Any) -> None:
    with PancakeServer(account_of()) as server:
        body = {"customer_feedback": [], "customer_average_feedback": counts}
        server.desk.bodies[STREAM] = body
        run = run_of(server)
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert f"{STREAM}: the answer has no known shape: {{customer_feedback: []" in line


def test_a_part_of_a_cut_answer_that_is_refused_sets_the_span_aside() -> None:
    account = account_of(is_empty=True)
    (page,) = account.pages
    of_day(page, 4, NOON - 3 * DAY)
    of_day(page, 3, NOON)
    with PancakeServer(account) as server:
        server.desk.cuts[STREAM] = 4
        refused = [True]

        def alter(call: Call, body: bytes) -> bytes:
            is_part = call.endpoint == STREAM and seconds_of(call) < 6 * 86_400
            return b'{"success": false, "error_code": 100}' if is_part and refused else body

        server.alter = alter
        first = run_of(server)
        assert first.returncode == 1
        assert [line for line in log_lines(first, "ERROR") if line.startswith("Set aside: ")]
        refused.clear()
        second = run_of(server, state=first.state)
        assert second.returncode == 0
        assert_same(merged(STREAM, first, second), records(server, STREAM))


# Rows that do not fit.


def test_a_feedback_without_an_id_is_counted_and_one_without_a_time_is_written() -> None:
    account = account_of(is_empty=True)
    rows = of_day(account.pages[0], 4)
    wrong = {"inserted_at": "yesterday"}

    def alter(call: Call, content: bytes) -> bytes:
        if call.endpoint != STREAM:
            return content
        body = json.loads(content)
        by_id = {row["id"]: row for row in body["customer_feedback"]}
        if by_id:
            by_id[rows[0]["id"]]["inserted_at"] = wrong["inserted_at"]
            by_id[rows[1]["id"]]["inserted_at"] = None
            del by_id[rows[2]["id"]]["id"]
        return json.dumps(body).encode()

    with PancakeServer(account) as server:
        server.alter = alter
        run = run_of(server)
    assert run.returncode == 1
    (line,) = log_lines(run, "ERROR")
    assert "left out: without `id` (1)" in line
    written = {row["id"]: row for row in run.records[STREAM]}
    assert written.keys() == {rows[number]["id"] for number in (0, 1, 3)}
    assert written[rows[0]["id"]]["inserted_at"] is None
    assert written[rows[0]["id"]]["other_fields"] == wrong
    assert written[rows[1]["id"]]["inserted_at"] is None
    assert any("inserted_at (1 row)" in line for line in log_lines(run, "WARNING"))


def test_a_page_that_may_not_view_reports_is_skipped() -> None:
    account = account_of()
    refused = account.pages[0]
    refused.refused[STREAM] = 403
    free = account.add_page(timezone=7)
    free.statistics.since, free.statistics.until = FIRST, LAST
    with PancakeServer(account) as server:
        run = run_of(server)
        assert run.returncode == 0
        (line,) = log_lines(run, "WARNING")
        assert line.startswith(f"Skipped: page {refused.id}, {STREAM}: ")
        assert "the right to view reports" in line
        assert server.count(STREAM, refused.id) == 1
        assert {row["page_id"] for row in run.records[STREAM]} == {free.id}
