"""Statistics from the newest day down: each hour once, kills, what is set aside, earlier starts."""

from __future__ import annotations

import itertools
import signal
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import pytest

from tests.accounts import BEFORE_AND_AFTER, FIRST, LAST
from tests.pancake_api import Account, Answer, Fault, PancakeServer
from tests.stream_truth import (
    BY_DAYS,
    CHILDREN,
    DATED,
    asks_for_day,
    assert_same,
    records,
    refuse_statistics,
    utc,
)
from tests.tap import (
    Run,
    config_for,
    finish,
    log_lines,
    run_here,
    select,
    start_tap,
    sync,
)
from tests.truth import merged

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.pancake_api import Call
    from tests.tap import Json

HOURLY = ("page_statistics", "user_statistics")
OF_PAGES = tuple(stream for stream in DATED if stream in CHILDREN)


def account_of(pages: int = 1, *, first: datetime = FIRST, last: datetime = LAST) -> Account:
    """Pages with statistics, and nothing else."""
    account = Account(31)
    for hours in itertools.islice(itertools.cycle((7, 5.5, -9.5)), pages):
        page = account.add_page(timezone=hours)
        page.statistics.since, page.statistics.until = first, last
        page.add_conversation(at=last - timedelta(days=2))
    return account


def run_of(server: PancakeServer, *streams: str, state: Json | None = None, **settings: Any) -> Run:
    """Run the tap for some streams."""
    config = config_for(server, **(BEFORE_AND_AFTER | settings))
    return run_here(config, catalog=select(*streams), state=state)


def part_of(run: Run, stream: str, number: int = 0) -> Json:
    """What the state of a run holds of a page in a stream."""
    part: Json = run.state["bookmarks"][stream]["partitions"][number]
    return part


# Hours at the edges.


@pytest.mark.parametrize("streams", [HOURLY[:1], HOURLY[1:], HOURLY])
@pytest.mark.parametrize("hours", [-5, 7, 14, -11, 5.75])
def test_each_hour_of_a_page_of_which_only_the_token_is_known_comes_once(
    hours: float, streams: tuple[str, ...]
) -> None:
    account = account_of(first=utc(2025, 10, 1), last=utc(2026, 1, 8, 15))
    (page,) = account.pages
    page.timezone = hours
    with PancakeServer(account) as server:
        run = run_of(
            server,
            *streams,
            access_token=None,
            page_access_tokens={page.id: page.token},
            start_date="2025-10-01",
        )
        assert run.returncode == 0, run.stderr
        for stream in streams:
            assert not run.repeated(stream)
            held, came = records(server, stream), run.by_key(stream)
            assert came.keys() == held.keys()
            if "user_statistics" in streams:  # whose rows show the page's own time
                assert_same(came, held)
        if streams == HOURLY:
            assert float(part_of(run, "page_statistics")["zone"]) == hours
        # As many calls as if no day more was asked for.
        for stream in streams:
            assert server.count(stream) <= 15  # type: ignore[arg-type]


@pytest.mark.parametrize("hours", [-5, 14])
def test_days_of_a_page_are_those_of_the_zone_that_its_rows_show(hours: float) -> None:
    account = account_of()
    (page,) = account.pages
    page.timezone = hours
    streams = ("user_statistics", "tag_statistics", "ad_statistics", "campaign_statistics")
    with PancakeServer(account) as server:
        config: Json = {"access_token": None, "page_access_tokens": {page.id: page.token}}
        run = run_of(server, *streams, **config)
        for stream in streams:
            assert not run.repeated(stream)
            assert_same(run.by_key(stream), records(server, stream))


def test_a_zone_that_is_shown_later_corrects_the_hours_of_before() -> None:
    account = account_of()
    (page,) = account.pages
    page.timezone = -5
    with PancakeServer(account) as server:
        config: Json = {"access_token": None, "page_access_tokens": {page.id: page.token}}
        first = run_of(server, "page_statistics", **config)
        second = run_of(server, *HOURLY, state=first.state, **config)
        third = run_of(server, *HOURLY, state=second.state, **config)
        assert any("now shows the page's time zone" in line for line in log_lines(second, "INFO"))
        assert_same(second.by_key("page_statistics"), records(server, "page_statistics"))
        assert not any(
            "now shows the page's time zone" in line for line in log_lines(third, "INFO")
        )
        # It is kept where `user_statistics` has nothing to show, or is not selected.
        fourth = run_of(server, "page_statistics", state=third.state, **config)
        assert fourth.by_key("page_statistics").items() <= (
            records(server, "page_statistics").items()
        )


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe"])
def test_each_hour_of_a_page_whose_zone_changes_in_the_year_comes_once(zone: str) -> None:
    account = account_of(first=utc(2025, 1, 2), last=utc(2026, 1, 8, 15))
    (page,) = account.pages
    page.zone = ZoneInfo(zone)
    offset = datetime(2026, 1, 2, tzinfo=page.zone).utcoffset() or timedelta()
    page.timezone = offset / timedelta(hours=1)
    with PancakeServer(account) as server:
        run = run_of(server, *HOURLY, "tag_statistics", start_date="2025-01-01")
        assert run.returncode == 0, run.stderr
        for stream in (*HOURLY, "tag_statistics"):
            assert not run.repeated(stream)
            assert run.by_key(stream).keys() == records(server, stream).keys()
        # Rows that tell their hour in UTC are right on both sides of the change.
        assert_same(run.by_key("user_statistics"), records(server, "user_statistics"))


def test_a_time_in_utc_that_can_be_none_is_not_believed() -> None:
    with PancakeServer(account_of()) as server:
        hour = "2026-01-02T10:00:00"
        for digits in ("20250102030000", "2026", "", None, 7, "20260102030500"):
            rows = [{"hour": hour, "hour_in_integer": digits}]
            server.desk.bodies["user_statistics"] = {"data": {"statistics": {"u": rows}}}
            run = run_of(server, "user_statistics")
            (row,) = run.records["user_statistics"]
            assert row["hour_utc"] == "2026-01-02T03:00:00.000000Z", digits


# The newest first.


@pytest.mark.parametrize("stream", OF_PAGES)
def test_the_newest_days_come_first(stream: str) -> None:
    with PancakeServer(account_of()) as server:
        run = run_of(server, stream, statistics_window_days=3)
        key = "hour_utc" if stream in HOURLY else "date"
        days = [row[key][:10] for row in run.records[stream]]
        assert days[0] >= "2026-01-06"
        firsts = {day: days.index(day) for day in days}
        older = [number for day, number in firsts.items() if day <= "2025-12-30"]
        newer = [number for day, number in firsts.items() if day >= "2026-01-05"]
        assert max(newer) < min(older)


@pytest.mark.parametrize("stream", BY_DAYS)
def test_a_quiet_run_reads_the_lookback_only(stream: str) -> None:
    with PancakeServer(account_of()) as server:
        first = run_of(server, stream)
        server.reset_calls()
        again = run_of(server, stream, state=first.state)
        endpoint = "customer_engagements" if stream == "user_engagements" else stream
        assert server.count(endpoint) <= 4  # type: ignore[arg-type]
        assert again.state == first.state


@pytest.mark.parametrize("stream", DATED)
def test_an_earlier_start_date_brings_what_lies_below_and_nothing_else(stream: str) -> None:
    with PancakeServer(account_of()) as server:
        settings: Json = {"statistics_lookback_days": 0, "statistics_window_days": 1}
        first = run_of(server, stream, start_date="2026-01-03T00:00:00Z", **settings)
        server.reset_calls()
        second = run_of(server, stream, state=first.state, **settings)
        assert_same(merged(stream, first, second), records(server, stream))
        key = "hour_utc" if stream in HOURLY else "date"
        held = [row[key] for row in second.records[stream]]
        assert max(held) < "2026-01-04T00"
        endpoint = "customer_engagements" if stream == "user_engagements" else stream
        assert server.count(endpoint) <= 12  # type: ignore[arg-type]
        server.reset_calls()
        third = run_of(server, stream, state=second.state, **settings)
        assert server.count(endpoint) == 1  # type: ignore[arg-type]
        later = run_of(server, stream, state=third.state, start_date="2026-01-05", **settings)
        assert later.returncode == 0
        assert stream not in later.records


# Kills.


OF_TWO_DAYS = BEFORE_AND_AFTER | {"statistics_window_days": 2}


@pytest.fixture(name="calls", scope="module")
def calls_of_an_undisturbed_run() -> int:
    with PancakeServer(account_of(pages=2)) as server:
        run = run_here(config_for(server, **OF_TWO_DAYS), catalog=select(*BY_DAYS))
        assert run.returncode == 0, run.stderr
        return server.count()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_run_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, calls: int, share: float, signum: signal.Signals
) -> None:
    with PancakeServer(account_of(pages=2)) as server:
        config = config_for(server, **OF_TWO_DAYS)
        catalog = select(*BY_DAYS)
        config["requests_per_second"] = 60  # or the run may end before the signal gets its turn
        runs: list[Run] = []
        for _ in range(2):
            reached, started = server.count() + int(calls * share / 2), list[Any]()
            server.on_call = lambda call, reached=reached, started=started: (
                started[0].send_signal(signum) if call.number == reached else None
            )
            state = runs[-1].state if runs and runs[-1].states else None
            process: subprocess.Popen[str] = start_tap(
                tmp_path, config, catalog=catalog, state=state
            )
            started.append(process)
            runs.append(finish(process))
            assert process.returncode in {128 + signum, -signum}
        server.on_call = None
        states = [run.state for run in runs if run.states]
        last = sync(tmp_path, config, catalog=catalog, state=states[-1] if states else None)
        for stream in BY_DAYS:
            # What came after the last STATE may not have reached the target, so comes again.
            assert_same(merged(stream, *runs, last), records(server, stream))
            if stream != "multi_page_user_statistics":
                for page in server.account.pages:
                    assert (last.bookmark(stream, page.id) or "")[:10] in {
                        "2026-01-11",
                        "2026-01-12",
                    }


# What cannot be read is set aside.


@pytest.mark.parametrize("stream", [*OF_PAGES, "customer_feedbacks"])
def test_a_span_that_is_refused_is_set_aside_and_filled_in_when_it_can_be(stream: str) -> None:
    bad = utc(2026, 1, 3, 3)
    with PancakeServer(account_of()) as server:
        settings: Json = {"statistics_lookback_days": 0, "statistics_window_days": 1}
        (page,) = server.account.pages
        refuse_statistics(server, lambda call: asks_for_day(call, bad))
        first = run_of(server, stream, "conversations", **settings)
        assert first.returncode == 1
        lines = log_lines(first, "ERROR")
        # Calls for hours and tags reach a day further, so three of them are for that day.
        assert 1 <= len(lines) <= 3
        asked = "customer_engagements" if stream == "user_engagements" else stream
        assert all(
            line.startswith((f"Set aside: page {page.id}, {stream}: ", f"page {page.id}, {stream}"))
            for line in lines
        ), (lines, asked)
        part = part_of(first, stream)
        assert part["replication_key_value"][:10] == "2026-01-12"
        assert "conversations" in first.records
        if part.get("open") != part["aside"]:
            assert len(lines) == 1, "three in a row"
        second = run_of(server, stream, state=first.state, **settings)
        assert second.returncode == 0, second.stderr
        assert not log_lines(second, "ERROR")
        still = [line for line in log_lines(second, "WARNING") if "Still set aside" in line]
        assert still
        assert all(f"page {page.id}, {stream}: " in line for line in still)
        server.instead = None
        third = run_of(server, stream, state=second.state, **settings)
        assert third.returncode == 0
        assert not list(log_lines(third, "WARNING"))
        assert_same(merged(stream, first, second, third), records(server, stream))
        assert {"open", "aside"}.isdisjoint(part_of(third, stream))


def test_a_stream_that_is_refused_as_a_whole_costs_three_calls_and_not_hundreds() -> None:
    with PancakeServer(account_of()) as server:
        (page,) = server.account.pages
        refuse_statistics(server, lambda _: True)
        for _ in range(2):
            server.reset_calls()
            run = run_of(server, "ad_statistics", "conversations", start_date="2024-01-01")
            assert run.returncode == 1
            (line,) = log_lines(run, "ERROR")
            assert line.startswith(f"page {page.id}, ad_statistics: ")
            assert server.count("ad_statistics") == 3
            assert run.bookmark("ad_statistics", page.id) is None


def test_an_old_time_that_is_refused_costs_a_few_calls_a_run_and_the_exit_code() -> None:
    """Such as by an API that knows the last weeks only."""
    with PancakeServer(account_of()) as server:
        refuse_statistics(
            server, lambda call: int(call.params["until"]) < utc(2026, 1, 4).timestamp()
        )
        state: Json | None = None
        for number in range(3):
            server.reset_calls()
            run = run_of(server, "ad_statistics", state=state, start_date="2025-06-01")
            state = run.state
            assert run.returncode == 1
            assert len(log_lines(run, "ERROR")) == 1
            # Days that were asked for ahead are few, too.
            assert server.count("ad_statistics") <= 9 + 3 + 12 + 3 * number


@pytest.mark.parametrize("days", [1, 7])
def test_a_day_that_both_kinds_of_engagements_miss_is_told_once(days: int) -> None:
    bad = datetime(2026, 1, 3)  # noqa: DTZ001 - local
    both = ("customer_engagements", "user_engagements")
    with PancakeServer(account_of()) as server:
        refuse_statistics(server, lambda call: asks_for_day(call, bad))
        settings: Json = {"statistics_lookback_days": 0, "statistics_window_days": days}
        first = run_of(server, *both, **settings)
        (line,) = log_lines(first, "ERROR")
        assert "customer_engagements: " in line
        for stream in both:
            assert part_of(first, stream)["aside"] == [["2026-01-03", "2026-01-03"]]
            assert part_of(first, stream)["open"] == [["2026-01-03", "2026-01-03"]]
        second = run_of(server, *both, state=first.state, **settings)
        assert second.returncode == 0
        assert len([line for line in log_lines(second, "WARNING") if "aside" in line]) == 1
        server.instead = None
        third = run_of(server, *both, state=second.state, **settings)
        for stream in both:
            assert_same(merged(stream, first, second, third), records(server, stream))


def test_engagements_that_are_selected_later_bring_their_own_history() -> None:
    both = ("customer_engagements", "user_engagements")
    for one, other in (both, both[::-1]):
        with PancakeServer(account_of()) as server:
            first = run_of(server, one)
            second = run_of(server, *both, state=first.state)
            assert_same(second.by_key(other), records(server, other))
            assert len(second.records.get(one, [])) < len(first.records[one])


# Statistics of several pages.

SEVERAL: Final = "multi_page_user_statistics"


@pytest.mark.parametrize("code", [105, 999])
def test_a_page_that_can_be_read_again_brings_the_totals_of_before_with_it(code: int) -> None:
    account = account_of(pages=3)
    absent = account.pages[1]
    with PancakeServer(account) as server:
        absent.refused[SEVERAL] = code
        first = run_of(server, SEVERAL)
        known = first.state["bookmarks"].get(SEVERAL, {})
        if code == 105:
            assert known["pages"] == sorted(
                page.id for page in (account.pages[0], account.pages[2])
            )
        else:
            assert first.returncode == 1
            assert "replication_key_value" not in known
        del absent.refused[SEVERAL]
        second = run_of(server, SEVERAL, state=first.state)
        assert second.returncode == 0
        lines = [line for line in log_lines(second, "INFO") if "read again" in line]
        assert len(lines) == (code == 105)
        assert all(absent.id in line for line in lines)
        assert_same(merged(SEVERAL, first, second), records(server, SEVERAL))
        server.reset_calls()
        third = run_of(server, SEVERAL, state=second.state)
        assert server.count(SEVERAL) <= 4
        assert not [line for line in log_lines(third, "INFO") if "read again" in line]


@pytest.mark.parametrize("kind", ["success_false", "error:105", "error:121", "error:104"])
def test_a_refusal_that_names_no_page_costs_the_page_that_is_the_reason_only(kind: str) -> None:
    account = account_of(pages=3)
    bad = account.pages[1].id
    denied = kind in {"error:105", "error:121"}
    with PancakeServer(account) as server:
        server.faults = [Fault(kind, where=lambda call: bad in call.params.get("page_ids", ""))]
        first = run_of(server, SEVERAL)
        assert first.returncode == (0 if denied else 1)
        (line,) = log_lines(first, "WARNING" if denied else "ERROR")
        assert f"page {bad}, {SEVERAL}: left out" in line
        ids = [page.id for page in account.pages]
        asked = [call.params["page_ids"] for call in server.calls if call.endpoint == SEVERAL]
        tries = 8 if kind == "success_false" else 1
        alone = [ids[0], *[bad] * tries, ids[2]]
        assert asked[: len(alone) + tries] == [",".join(ids)] * tries + alone
        assert set(asked[len(alone) + tries :]) == {f"{ids[0]},{ids[2]}"}
        known = first.state["bookmarks"].get(SEVERAL, {})
        assert ("replication_key_value" in known) == denied
        account.pages[1].category = "inactive"
        assert_same(first.by_key(SEVERAL), records(server, SEVERAL))
        account.pages[1].category = "activated"
        server.faults.clear()
        second = run_of(server, SEVERAL, state=first.state)
        assert second.returncode == 0
        assert_same(merged(SEVERAL, first, second), records(server, SEVERAL))


def test_a_refusal_that_is_of_no_page_asks_each_alone_once_in_a_run() -> None:
    account = account_of(pages=3)
    with PancakeServer(account) as server:
        # Not a page, but that there are several; and then all that is asked.
        for where in (lambda call: "," in call.params.get("page_ids", ""), None):
            server.reset_calls()
            server.faults = [Fault("error:100", endpoint=SEVERAL, where=where)]
            run = run_of(server, SEVERAL)
            assert run.returncode == 1
            assert "left out" not in run.stderr
            alone = [c for c in server.calls if "," not in c.params.get("page_ids", ",")]
            assert len(alone) == 3
            assert SEVERAL not in run.records


def test_a_page_that_is_added_brings_the_totals_of_before_with_it() -> None:
    account = account_of(pages=3)
    ids = [page.id for page in account.pages]
    with PancakeServer(account) as server:
        first = run_of(server, SEVERAL, page_ids=ids[:2])
        second = run_of(server, SEVERAL, state=first.state)
        assert_same(merged(SEVERAL, first, second), records(server, SEVERAL))
        # One that is gone falsifies nothing: it was part of the totals then.
        server.reset_calls()
        third = run_of(server, SEVERAL, state=second.state, page_ids=ids[:2])
        assert server.count(SEVERAL) <= 4
        assert third.state["bookmarks"][SEVERAL]["pages"] == sorted(ids[:2])


def test_a_run_that_is_killed_while_it_reads_totals_again_goes_on_with_it() -> None:
    account = account_of(pages=2)
    ids = [page.id for page in account.pages]
    with PancakeServer(account) as server:
        first = run_of(server, SEVERAL, page_ids=ids[:1])
        stop = iter(range(8))

        def lost(call: Call) -> Answer | None:
            if call.endpoint != SEVERAL or next(stop, None) is not None:
                return None
            return Answer(401, b'{"success": false, "error_code": 102}', "application/json")

        server.instead = lost
        second = run_of(server, SEVERAL, state=first.state)
        assert second.returncode == 1
        server.instead = None
        third = run_of(server, SEVERAL, state=second.state)
        assert_same(merged(SEVERAL, first, second, third), records(server, SEVERAL))
