"""Every stream holds what the server holds: from nothing, again, dense, interrupted, refused."""

from __future__ import annotations

import itertools
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.running.lanes import AHEAD
from tests.accounts import BEFORE_AND_AFTER, DIALECTS, full_account
from tests.pancake_api import Account, Answer, Fault, PancakeServer
from tests.stream_truth import CHILDREN, DATED, OTHERS, assert_same, records, utc
from tests.tap import (
    ALL_KEYS,
    KEYS,
    NO_CATALOG,
    Run,
    config_for,
    finish,
    full_config,
    hours_later,
    hurried,
    log_lines,
    run_tap,
    select,
    start_tap,
    sync,
)
from tests.truth import assert_all_arrived, merged, text

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Call, Page
    from tests.pancake_api.account import Bounds
    from tests.tap import Json

LISTS = ("customers", "posts", "call_logs", "ad_conversations")
NOON = utc(2026, 1, 2, 12)


@dataclass
class Backfill:
    """A run from nothing, and the server it read."""

    server: PancakeServer
    run: Run
    calls: list[Call]


@pytest.fixture(scope="module", params=DIALECTS)
def backfill(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backfill]:
    with PancakeServer(full_account(request.param), request.param) as server:
        directory = tmp_path_factory.mktemp("backfill")
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(directory, config, catalog=select(*KEYS))
        yield Backfill(server, run, list(server.calls))


@pytest.mark.parametrize("stream", OTHERS)
def test_each_value_arrives_once_and_unchanged(backfill: Backfill, stream: str) -> None:
    held = records(backfill.server, stream)
    assert len(held) > 5
    assert not backfill.run.repeated(stream)
    assert_same(backfill.run.by_key(stream), held)


def test_the_inbox_is_read_beside_them(backfill: Backfill) -> None:
    assert_all_arrived(backfill.server, backfill.run)


def test_only_get_and_no_warning(backfill: Backfill) -> None:
    assert not backfill.server.violations
    assert {call.status for call in backfill.calls} <= {200, 404, 406}
    assert not log_lines(backfill.run, "WARNING")
    for page in backfill.server.account.pages:
        assert page.token is None or page.token not in backfill.run.stdout + backfill.run.stderr


def test_state_is_small_and_keyed_by_page(backfill: Backfill) -> None:
    pages = {page.id for page in backfill.server.account.pages if page.category == "activated"}
    bookmarks = backfill.run.state["bookmarks"]
    for stream in CHILDREN:
        parts = bookmarks.get(stream, {}).get("partitions", [])
        if stream in {"tags", "users"}:
            assert all(part.keys() == {"context"} for part in parts)
            continue
        assert {part["context"]["page_id"] for part in parts} == pages
        assert all(part["context"].keys() == {"page_id"} for part in parts)
    assert "partitions" not in bookmarks["multi_page_user_statistics"]
    # The day that is over on no page: one of them is nine and a half hours behind UTC.
    day = "2026-01-12" if backfill.server.dialect.name == "documented" else "2026-01-11"
    assert bookmarks["multi_page_user_statistics"]["replication_key_value"] == day


@pytest.mark.parametrize("stream", DATED)
def test_state_of_statistics_that_are_read_is_where_they_began_and_ended(
    backfill: Backfill, stream: str
) -> None:
    state = backfill.run.state["bookmarks"][stream]
    names = {"replication_key", "replication_key_value", "floor", "lookback"}
    if stream == "multi_page_user_statistics":
        assert state.keys() == {*names, "open", "aside", "pages"}
        assert state["open"] == state["aside"] == []
        return
    # Where list-pages does not tell the page's own time, rows of `user_statistics` do.
    shown = backfill.server.dialect.name == "documented" and stream != "user_statistics"
    for part in state["partitions"]:
        assert part.keys() == {"context", *names} | ({"zone"} if shown else set())


def test_a_day_is_asked_for_once_and_its_answer_shared(backfill: Backfill) -> None:
    """The span of 18 or 19 local days: by the day where an answer does not tell its days apart."""
    page = backfill.server.account.pages[0]
    for stream, least, most in (
        ("customer_engagements", 19, 19),
        ("ad_statistics", 19, 19),
        ("campaign_statistics", 19, 19),
        ("page_statistics", 3, 3),
        ("user_statistics", 3, 3),
        ("tag_statistics", 3, 3),
        ("new_customer_statistics", 3, 4),
    ):
        asked = [
            (call.path, *sorted(call.params.items()))
            for call in backfill.calls
            if call.endpoint == stream and call.page_id == page.id
        ]
        assert least <= len(asked) <= most, stream
        assert len(set(asked)) == len(asked), stream


def test_the_path_of_new_customers_is_found_by_the_first_calls(backfill: Backfill) -> None:
    """Each page may make one call until it is found; none waits for another."""
    calls = [call for call in backfill.calls if call.endpoint == "new_customer_statistics"]
    missed = [call for call in calls if call.path.endswith("/customers")]
    if backfill.server.dialect.name == "documented":
        pages = {call.page_id for call in calls}
        assert 1 <= len(missed) <= len(pages)
        assert len(calls) == len(missed) + 9
    else:
        assert missed == calls


# Again.


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PancakeServer, Run, Run]]:
    """Two runs up to now; between them, numbers change within the lookback and before it."""
    now = datetime.now(UTC)
    first = now - timedelta(days=9)
    account = full_account(first=first, last=now - timedelta(hours=1), pages=2)
    for page in account.pages:
        page.statistics.until = now  # what is later may be of another day
    with PancakeServer(account) as server:
        directory = tmp_path_factory.mktemp("twice")
        config = full_config(server, start_date=first.isoformat())
        before = sync(directory, config, catalog=select(*KEYS))
        for page in account.pages[:2]:
            local = now.astimezone(page.statistics.zone).replace(tzinfo=None)
            hour = local.replace(minute=0, second=0, microsecond=0)
            staff, tag = page.staff[0].id, "1"
            for days in (0, 2, 8):
                at = hour - timedelta(days=days)
                page.statistics.correct("page_statistics", at, page_inbox_count=1000 + days)
                page.statistics.correct("user_statistics", at, staff, inbox_count=1000 + days)
                page.statistics.correct("tag_statistics", at.date(), tag, total=1000 + days)
                page.statistics.correct("customer_engagements", at.date(), total=1000 + days)
                page.statistics.correct(
                    "new_customer_statistics", at.date(), new_customer_count=1000 + days
                )
            page.belongings.add_post(now)
            page.belongings.add_call(now)
            page.belongings.add_customer(now - timedelta(days=400), now)
            page.receive(next(one.id for one in page.conversations.values() if one.ad_ids))
        server.reset_calls()
        state = hours_later(before.state)
        after = sync(directory, config, catalog=select(*KEYS), state=state)
        yield server, before, after


def test_a_second_run_reads_only_its_lookback(twice: tuple[PancakeServer, Run, Run]) -> None:
    server, _, after = twice
    day_ago, four_days_ago = (datetime.now(UTC) - timedelta(days=days) for days in (1.1, 5))
    for stream in DATED:
        key = "hour_utc" if "hour_utc" in after.schemas[stream]["properties"] else "date"
        oldest = min(row[key] for row in after.records[stream])
        assert oldest >= four_days_ago.date().isoformat(), stream
    for stream, key in (
        ("customers", "updated_at"),
        ("posts", "inserted_at"),
        ("call_logs", "start_time"),
        ("ad_conversations", "updated_at"),
    ):
        rows = after.records.get(stream, [])
        assert min(row[key] for row in rows) >= (day_ago - timedelta(days=4)).isoformat(), stream
        # Rows whose two times are the same show no order: such a list is paged through.
        assert server.count(stream) <= 2 * 10, stream  # type: ignore[arg-type]
    for stream, calls in (
        ("tags", 2),
        ("users", 2),
        ("page_statistics", 2),
        ("user_statistics", 2),
        ("tag_statistics", 2),
        ("new_customer_statistics", 2),
        ("customer_engagements", 8),
        ("ad_statistics", 8),
        ("campaign_statistics", 8),
        ("multi_page_user_statistics", 4),
    ):
        assert server.count(stream) <= calls + 2 * (stream != "tags"), stream  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", OTHERS)
def test_what_changed_arrives_with_the_second_run(
    twice: tuple[PancakeServer, Run, Run], stream: str
) -> None:
    server, before, after = twice
    arrived, held = merged(stream, before, after), records(server, stream)
    if stream not in DATED:
        assert_same(arrived, held)
        return
    # Numbers that were corrected before the lookback stay as they were; so does nothing else.
    assert after.by_key(stream).items() <= held.items()
    # (An hour that had no traffic then is one of them: it is not there at all.)
    old = {key for key, row in held.items() if arrived.get(key) != row}
    if stream == "multi_page_user_statistics":
        # Of all pages together a day begins when it has begun on each of them.
        zones = [page.statistics.zone for page in server.account.pages]
        begun = min(datetime.now(UTC).astimezone(zone).date().isoformat() for zone in zones)
        old = {key for key in old if held[key]["date"] <= begun}
    lookback = (datetime.now(UTC) - timedelta(days=4)).date().isoformat()
    assert all(str(held[key].get("date") or held[key]["hour"]) < lookback for key in old)
    if stream in CORRECTED:
        assert old
        assert {1000, 1002} <= {row[CORRECTED[stream]] for row in after.by_key(stream).values()}


CORRECTED = {
    "page_statistics": "page_inbox_count",
    "user_statistics": "inbox_count",
    "tag_statistics": "total",
    "customer_engagements": "total",
    "new_customer_statistics": "new_customer_count",
}


def test_a_third_run_with_nothing_new_moves_no_bookmark_back(
    twice: tuple[PancakeServer, Run, Run], tmp_path: Path
) -> None:
    server, _, after = twice
    config = full_config(server, start_date=BEFORE_AND_AFTER["start_date"])
    again = sync(tmp_path, config, catalog=select(*KEYS), state=after.state)
    for stream in CHILDREN:
        for page in server.account.pages[:2]:
            old, new = after.bookmark(stream, page.id), again.bookmark(stream, page.id)
            assert (new or "") >= (old or ""), stream


# Dense.


def crowd(account: Account) -> Page:
    """Make a page with many rows, a third of them in one second, and a quiet year around them."""
    page = account.add_page()
    times = [
        NOON if number % 3 == 0 else NOON + timedelta(minutes=number * 7) for number in range(230)
    ]
    for number, at in enumerate(times):
        page.belongings.add_customer(at - timedelta(days=number % 5), at)
        if number < 130:
            page.belongings.add_post(at)
        if number < 140:
            page.belongings.add_call(at)
    for number in range(150):
        conversation = page.add_conversation(at=NOON if number % 3 == 0 else times[number])
        conversation.ad_ids = ["400"]
    page.belongings.add_post(NOON - timedelta(days=300))
    page.belongings.add_call(NOON + timedelta(days=30))
    return page


@dataclass(frozen=True)
class Odd:
    """A way in which lists may differ from what is documented."""

    bounds: Bounds = "[]"
    customers_filter: str = "order_by"
    customers_ordered: bool = True
    calls_ascending: bool = False
    totals: bool = True
    cuts: tuple[tuple[str, int], ...] = ()
    warned: bool = False


ODDITIES = {
    "as documented": Odd(),
    "open bounds": Odd(bounds="()"),
    "half open bounds": Odd(bounds="[)", calls_ascending=True),
    "no totals": Odd(totals=False, bounds="(]"),
    "customers filter by inserted_at": Odd(customers_filter="inserted_at", warned=True),
    "customers know one time only": Odd(customers_filter="inserted_at", customers_ordered=False),
    "short answers": Odd(cuts=(("customers", 50), ("posts", 25), ("call_logs", 20))),
    "short answers without totals": Odd(
        cuts=(("customers", 40), ("posts", 25), ("call_logs", 20), ("ad_conversations", 40)),
        totals=False,
    ),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_many_rows_of_one_second_all_arrive(tmp_path: Path, name: str) -> None:
    odd = ODDITIES[name]
    account = Account(seed=5)
    page = crowd(account)
    with PancakeServer(account, window_bounds=odd.bounds) as server:
        server.desk.customers_filter = odd.customers_filter  # type: ignore[assignment]
        server.desk.customers_ordered = odd.customers_ordered
        server.desk.calls_ascending = odd.calls_ascending
        server.desk.totals = odd.totals
        server.desk.cuts = dict(odd.cuts)
        began = text(datetime.now(UTC) - timedelta(seconds=2))
        run = sync(tmp_path, full_config(server), catalog=select(*LISTS))
        for stream in LISTS:
            assert_same(run.by_key(stream), records(server, stream))
            if not (odd.warned and stream == "customers"):
                assert not run.repeated(stream), stream
                assert (run.bookmark(stream, page.id) or "") > began
        warnings = log_lines(run, "WARNING")
        assert len(warnings) == odd.warned
        assert all("customers" in line and "does not filter" in line for line in warnings)

        # Customers that were there long ago change: no window by the time they came has them.
        changed = list(records(server, "customers"))[3:200:20]
        for number, (_, customer_id) in enumerate(changed):
            now = datetime.now(UTC) - timedelta(minutes=number)
            page.belongings.touch_customer(customer_id, now)
        server.reset_calls()
        after = sync(tmp_path, full_config(server), catalog=select(*LISTS), state=run.state)
        assert_same(merged("customers", run, after), records(server, "customers"))
        assert set(changed) <= after.by_key("customers").keys()


def test_an_export_that_is_cut_shorter_than_it_should_be_is_read_to_its_end(tmp_path: Path) -> None:
    account = Account(seed=5)
    page = account.add_page()
    for number in range(50):
        page.add_conversation(at=NOON + timedelta(hours=number)).ad_ids = ["400"]
    with PancakeServer(account) as server:
        server.desk.cuts = {"ad_conversations": 40}
        run = sync(tmp_path, full_config(server), catalog=select("ad_conversations"))
        assert_same(run.by_key("ad_conversations"), records(server, "ad_conversations"))


@pytest.mark.parametrize("since_start", [False, True])
@pytest.mark.parametrize("cut", [100, 50])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_customer_who_changed_is_found_among_many_who_never_did(
    tmp_path: Path, *, ordered: bool, cut: int, since_start: bool
) -> None:
    """Where both times are the same, no answer shows by which of them the list is sorted."""
    account = Account(seed=5)
    page = account.add_page()
    hours = [NOON + timedelta(hours=3 * number) for number in range(230)]
    ids = [page.belongings.add_customer(at, at) for at in hours]
    catalog = select("customers")
    with PancakeServer(account) as server:
        server.desk.customers_filter = "order_by" if ordered else "inserted_at"
        server.desk.customers_ordered = ordered
        server.desk.cuts = {"customers": cut}
        config = full_config(server)
        if since_start:
            page.belongings.touch_customer(ids[3], hours[-1] - timedelta(hours=5))
            config["start_date"] = hours[200].isoformat()
        run = sync(tmp_path, config, catalog=catalog)
        expected = {(page.id, one) for one in (ids[200:] + ids[3:4] if since_start else ids)}
        assert run.by_key("customers").keys() == expected
        touched, end = ids[7], datetime.now(UTC)
        page.belongings.touch_customer(touched, end)
        page.belongings.add_customer(end, end)
        server.reset_calls()
        after = sync(tmp_path, config, catalog=catalog, state=run.state)
        assert (page.id, touched) in after.by_key("customers")
        assert (after.bookmark("customers", page.id) or "") > text(end - timedelta(seconds=2))
        warned = [line for one in (run, after) for line in log_lines(one, "WARNING")]
        # Where no answer has shown the order, the list is read whole, and nothing is logged.
        assert not (ordered and warned)
        if ordered:
            server.reset_calls()
            page.belongings.add_customer(end, datetime.now(UTC))
            sync(tmp_path, config, catalog=catalog, state=after.state)
            assert server.count("customers") == 1, "what was seen is in the state"


# Interrupted.


@pytest.fixture(name="undisturbed", scope="module")
def an_undisturbed_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfill]:
    with PancakeServer(full_account()) as server:
        directory = tmp_path_factory.mktemp("undisturbed")
        run = sync(directory, full_config(server, **BEFORE_AND_AFTER), catalog=select(*KEYS))
        yield Backfill(server, run, list(server.calls))


@pytest.mark.parametrize("share", [0.15, 0.35, 0.55, 0.75, 0.95])
def test_an_interrupted_run_resumes(tmp_path: Path, undisturbed: Backfill, share: float) -> None:
    with PancakeServer(full_account()) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        whole, calls = undisturbed.run, len(undisturbed.calls)
        unordered = sum(
            call.endpoint in {"posts", "ad_conversations"} for call in undisturbed.calls
        )
        reached = int(calls * share)
        config["requests_per_second"] = 100  # or the run may end before the signal gets its turn
        started: list[subprocess.Popen[str]] = []
        server.on_call = lambda call: (
            started[0].send_signal(signal.SIGTERM) if call.number == reached else None
        )
        started.append(start_tap(tmp_path, config, catalog=select(*KEYS)))
        first = finish(started[0])
        assert first.returncode == 128 + signal.SIGTERM
        server.on_call = None
        second = sync(tmp_path, config, catalog=select(*KEYS), state=first.state)
        for stream in OTHERS:
            assert_same(merged(stream, first, second), records(server, stream))
        # The lookback, the head of each list, what has no state, and what was asked for ahead; and
        # a list whose order no answer shows is read whole by each run.
        pages, streams = 3, len(OTHERS)
        assert server.count() <= calls + unordered + (4 * 4 + AHEAD + streams) * pages
        for stream, page in itertools.product(DATED, server.account.pages):
            assert second.bookmark(stream, page.id) == whole.bookmark(stream, page.id)


# Refused.


def test_what_a_page_may_not_use_is_skipped_and_the_rest_goes_on(tmp_path: Path) -> None:
    account = full_account(pages=2)
    refused, free = account.pages[:2]
    codes = (403, 121, 122)
    with PancakeServer(account) as server:
        names = [name for name in CHILDREN if name not in {"user_engagements", "tags"}]
        for stream, code in zip(names, itertools.cycle(codes), strict=False):
            refused.refused[stream] = code
        run = sync(tmp_path, full_config(server, **BEFORE_AND_AFTER), catalog=select(*KEYS))
        skipped = [line for line in log_lines(run, "WARNING") if line.startswith("Skipped")]
        reasons = [line.split(": ", 3)[1:3] for line in skipped]
        named = [name for place, _ in reasons for name in place.split(", ")[1:]]
        assert sorted(named) == sorted(names), "each is named once"
        assert all(place.startswith(f"page {refused.id}, ") for place, _ in reasons)
        assert [reason for _, reason in reasons].count("the page or account has no valid plan") == 1
        assert {"permission" in reason or "plan" in reason for _, reason in reasons} == {True}
        for stream in names:
            # Those of `ads` are of a list that is read; what is refused waits.
            assert run.bookmark(stream, refused.id) is None or stream == "ads"
            # Of `ads` is asked, too, if any call is answered.
            calls = 2 if stream == "ads" else 1
            assert server.count(stream, refused.id) == calls  # type: ignore[arg-type]
        assert any(f"Skipped in all: {len(names)} (" in line for line in log_lines(run, "INFO"))
        assert not log_lines(run, "ERROR")
        for stream in CHILDREN:
            held = {
                key: row
                for key, row in records(server, stream).items()
                if row["page_id"] == free.id or stream == "tags"
            }
            assert_same(run.by_key(stream), held)
        assert_all_arrived(server, run)


@pytest.mark.parametrize("idle", [True, False])
def test_an_endpoint_that_answers_500_for_an_idle_page_is_skipped(
    tmp_path: Path, *, idle: bool
) -> None:
    account = full_account(pages=1)
    page = account.pages[0]
    if not idle:
        page.add_conversation(at=datetime.now(UTC) - timedelta(days=20))
    streams = ("tags", "users", *LISTS)
    for stream in streams:
        page.refused[stream] = 500
    with PancakeServer(account) as server:
        env = hurried(tmp_path / "hurried")
        catalog = select(*streams, "page_statistics")
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=catalog, env=env)
        assert run.returncode == (not idle)
        lines = log_lines(run, "WARNING" if idle else "ERROR")
        if idle:
            (line,) = lines
            place, _, reason = line.removeprefix("Skipped: ").partition(": ")
            assert {*place.split(", ")} == {f"page {page.id}", *streams}
            assert "as it may for a page without traffic" in reason
        for stream in streams:
            if not idle:
                (line,) = [line for line in lines if f"page {page.id}, {stream}: " in line]
                assert "HTTP 500" in line
            assert run.bookmark(stream, page.id) is None
        assert run.records.keys() == {"page_statistics"}


@pytest.mark.parametrize("idle", [True, False])
def test_statistics_that_answer_500_for_ever(tmp_path: Path, *, idle: bool) -> None:
    """Of a page without traffic that is known; otherwise it is an error."""
    account = full_account(pages=2)
    page, other = account.pages[:2]
    if not idle:
        page.add_conversation(at=datetime.now(UTC) - timedelta(days=20))
    with PancakeServer(account) as server:
        page.refused["customer_engagements"] = 500
        run = run_tap(
            tmp_path,
            full_config(server, **BEFORE_AND_AFTER),
            catalog=select(*KEYS),
            env=hurried(tmp_path / "hurried"),
        )
        assert run.returncode == (0 if idle else 1)
        lines = log_lines(run, "WARNING" if idle else "ERROR")
        (line,) = [line for line in lines if "HTTP 500" in line]
        assert f"page {page.id}, customer_engagements: " in line
        assert len(log_lines(run, "ERROR")) == (not idle)
        assert run.bookmark("customer_engagements", page.id) is None
        assert run.bookmark("user_engagements", page.id) is None
        assert run.bookmark("customer_engagements", other.id) == "2026-01-12"
        # One span cannot tell whether it is the stream; of an idle page it does.
        assert server.count("customer_engagements", page.id) == (8 if idle else 3 * 8)
        for stream in CHILDREN:
            whole = {
                key: row
                for key, row in records(server, stream).items()
                if not ("engagements" in stream and row["page_id"] == page.id)
                and row.get("updated_at", "") < BEFORE_AND_AFTER["end_date"]
            }
            assert_same(run.by_key(stream), whole)


def test_a_page_token_that_is_refused_ends_the_page_and_is_told_once(tmp_path: Path) -> None:
    account = full_account(pages=2)
    page, other = account.pages[:2]
    with PancakeServer(account) as server:
        config = full_config(server, page_access_tokens={page.id: "wrong"}, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select(*KEYS))
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert f"page {page.id}, tags: the page token was refused" in line
        assert server.count(page_id=page.id) == 1
        assert {row["page_id"] for row in run.records["page_statistics"]} == {other.id}


UNKNOWN: dict[str, Any] = {
    "page_statistics": {"success": True, "rows": [{"hour": "VALUE", "n": 1}]},
    "user_statistics": {"success": True, "data": {"people": {"VALUE": []}}},
    "tag_statistics": {"data": {"categories": ["VALUE"], "series": {"3": [1, 2]}}},
    "new_customer_statistics": {"data": [{"date": "VALUE"}]},
    "customer_feedbacks": {"customer_feedback": [{"id": "1", "message": "VALUE"}]},
    "customer_engagements": {"data": {"categories": ["VALUE"], "series": [{"name": "inbox"}]}},
    "ad_statistics": {"data": [{"status": "VALUE"}]},
    "campaign_statistics": {"data": {"VALUE_KEY": "VALUE"}},
    "multi_page_user_statistics": {"success": True, "data": ["VALUE"]},
    "users": {"success": True, "people": ["VALUE"]},
    "tags": {"tags": [{"text": "VALUE"}]},
    "customers": {"customers": {"VALUE_KEY": "VALUE"}},
    "posts": {"success": True, "data": [{"id": "VALUE"}]},
    "call_logs": {"success": True, "data": [{"id": "VALUE"}]},
    "ad_conversations": {"success": True, "data": ["VALUE"]},
    "ads": {"success": True, "ads": ["VALUE"]},
}


def test_an_answer_of_an_unknown_shape_is_an_error_that_shows_names_only(tmp_path: Path) -> None:
    account = full_account(pages=1)
    page = account.pages[0]
    with PancakeServer(account) as server:
        server.desk.bodies = dict(UNKNOWN)
        run = run_tap(tmp_path, full_config(server, **BEFORE_AND_AFTER), catalog=select(*KEYS))
        assert run.returncode == 1
        errors = log_lines(run, "ERROR")
        # The answer with engagements has none of users either.
        for stream in (*UNKNOWN, "user_engagements"):
            where = "" if stream.startswith("multi") else f"page {page.id}, "
            (line,) = [line for line in errors if line.startswith(f"{where}{stream}: the answer ")]
            assert "report this" in line
            assert stream not in run.records
            assert run.bookmark(stream, page.id) is None or stream == "ads"
            if stream in DATED and stream != "campaign_statistics":
                assert "has no known shape: {" in line
        assert "rows: [{hour: str, n: int}]" in run.stderr
        assert "VALUE" not in run.stderr.replace("VALUE_KEY", "").replace("VALUE: [", "")
        assert "Traceback" not in run.stderr
        assert log_lines(run, "CRITICAL")[-1].startswith(
            f"{len(UNKNOWN) + 1} failed: what was read"
        )
        assert_all_arrived(server, run)


@pytest.mark.parametrize("timezone", [7, -9.5])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00", "9999-12-31T23:00:00"])
def test_an_hour_at_the_edge_of_time_is_an_error_of_one_line(
    tmp_path: Path, at: str, timezone: float
) -> None:
    account = full_account(pages=1)
    account.pages[0].timezone = timezone
    hours = [{"hour": at, "inbox": 1}]
    with PancakeServer(account) as server:
        server.desk.bodies = {
            "page_statistics": {"data": hours},
            "user_statistics": {"data": {"statistics": {"u": hours}}},
            "customer_engagements": {"statistics": hours},
        }
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select(*server.desk.bodies, "tags"))
        assert "Traceback" not in run.stderr
        errors = log_lines(run, "ERROR")
        assert all(": the answer has no known shape: {" in line for line in errors)
        assert run.returncode == bool(errors)
        assert run.records.keys() == {"tags"}


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("stream", ["page_statistics", "ad_statistics"])
def test_a_state_at_the_edge_of_time_is_read_on_or_refused(
    tmp_path: Path, stream: str, value: str
) -> None:
    """One of the future is no sign that there is nothing new."""
    with PancakeServer(full_account(pages=3)) as server:
        key = "date" if stream == "ad_statistics" else "hour_utc"
        part = {"replication_key": key, "replication_key_value": value, "floor": ""}
        parts = [{"context": {"page_id": page.id}, **part} for page in server.account.pages]
        state = {"bookmarks": {stream: {"partitions": parts}}}
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select(stream), state=state)
        if value.startswith("0001"):
            assert run.returncode == 0
            assert_same(run.by_key(stream), records(server, stream))
            return
        assert run.returncode == 1
        errors = log_lines(run, "ERROR")
        assert len(errors) == 3
        assert all(
            f", {stream}: the state has {value}, which is in the future: " in line
            for line in errors
        )
        assert not run.records
        for page in server.account.pages[:3]:
            assert (run.bookmark(stream, page.id) or "").startswith("9999-")


@pytest.mark.parametrize("duties", [{"inbox": True, "comment": 1}, {"inbox": [["u"], None]}, 1])
def test_who_is_on_duty_may_be_told_in_an_unknown_way(tmp_path: Path, duties: object) -> None:
    with PancakeServer(full_account(pages=1)) as server:
        server.desk.bodies["users"] = {"users": [{"id": "u"}], "round_robin_users": duties}
        run = sync(tmp_path, full_config(server), catalog=select("users"))
        (row,) = run.records["users"]
        assert (row["round_robin_inbox"], row["round_robin_comment"]) == (False, False)


def test_a_path_of_new_customers_that_has_a_fault_is_not_given_up(tmp_path: Path) -> None:
    fault = Fault("not_json", endpoint="new_customer_statistics", times=1)
    with PancakeServer(full_account(pages=1), faults=[fault]) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("new_customer_statistics"))
        held = records(server, "new_customer_statistics")
        assert_same(run.by_key("new_customer_statistics"), held)


def test_a_fault_of_the_right_path_of_new_customers_is_waited_out(tmp_path: Path) -> None:
    """Where the other path is not there, which alone would end the stream."""
    account = full_account("documented", pages=1)
    faults = iter([Answer(200, b"<html>", "text/html")] * 3)

    def answer(call: Call) -> Answer | None:
        if call.path.endswith("/statistics/customers"):
            return Answer(406, b"Server internal error", "text/plain")
        return next(faults, None) if call.path.endswith("/page_customers") else None

    with PancakeServer(account, "documented") as server:
        server.instead = answer
        config = full_config(server, **BEFORE_AND_AFTER)
        env = hurried(tmp_path / "hurried")
        run = sync(tmp_path, config, catalog=select("new_customer_statistics"), env=env)
        held = records(server, "new_customer_statistics")
        assert_same(run.by_key("new_customer_statistics"), held)


# What is special to one stream.


@pytest.mark.parametrize("data", [[], {}, None, 0, "", False])
def test_no_new_customers_is_an_empty_list_or_map_and_nothing_else(
    tmp_path: Path, data: object
) -> None:
    with PancakeServer(full_account(pages=1)) as server:
        server.desk.bodies["new_customer_statistics"] = {"success": True, "data": data}
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select("new_customer_statistics"))
        known = isinstance(data, (list, dict))
        assert run.returncode == (not known)
        assert len(log_lines(run, "ERROR")) == (not known)
        page = server.account.pages[0]
        assert run.bookmark("new_customer_statistics", page.id) == ("2026-01-12" if known else None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_day_of_a_tag_has_its_own_key_over_more_than_a_year(
    tmp_path: Path, dialect: str
) -> None:
    account = full_account(dialect, first=utc(2024, 12, 1), last=utc(2026, 1, 10), pages=1)
    with PancakeServer(account, dialect) as server:
        config = full_config(server, start_date="2024-12-01", end_date="2026-01-12")
        run = sync(tmp_path, config, catalog=select("tag_statistics"))
        rows = run.records["tag_statistics"]
        assert {"2024-12-24", "2025-12-24"} <= {row["date"] for row in rows}
        assert len(run.by_key("tag_statistics")) == len(rows)
        assert_same(run.by_key("tag_statistics"), records(server, "tag_statistics"))


def test_labels_that_name_no_day_do_not_replace_each_other(tmp_path: Path) -> None:
    body = {"data": {"categories": ["Monday", "Tuesday"], "series": {"3": [1, 2]}}}
    with PancakeServer(full_account(pages=1)) as server:
        server.desk.bodies["tag_statistics"] = body
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("tag_statistics"))
        rows = run.records["tag_statistics"]
        assert len(run.by_key("tag_statistics")) == len(rows) == 6
        assert {row.get("date") for row in rows} == {None}
        assert "Monday (06/01/2026 - 12/01/2026)" in {row["category"] for row in rows}


def test_a_series_that_no_document_has_is_named_in_a_warning(tmp_path: Path) -> None:
    account = full_account(pages=1)
    account.pages[0].statistics.extra_series = {"returning_customers": 5}
    with PancakeServer(account) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("customer_engagements"))
        (line,) = log_lines(run, "WARNING")
        assert "customer_engagements" in line
        assert "returning_customers" in line
        held = records(server, "customer_engagements")
        came = run.by_key("customer_engagements")
        assert came.keys() == held.keys()
        assert {row["other_fields"]["returning_customers"] for row in came.values()} == {5}
        assert server.count("customer_engagements") == 3, (
            "answers show the day of a row: a week a call"
        )


def test_engagements_of_users_alone_are_a_call_a_day(tmp_path: Path) -> None:
    with PancakeServer(full_account(pages=1)) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("user_engagements"))
        assert_same(run.by_key("user_engagements"), records(server, "user_engagements"))
        assert run.records.keys() == {"user_engagements"}
        assert server.count("customer_engagements") == 19


def test_without_users_engagements_the_days_still_come(tmp_path: Path) -> None:
    """An older form of the answer may not have them."""
    account = full_account(pages=1)
    page = account.pages[0]

    def body(params: dict[str, str]) -> Json:
        day = params["date_range"][:10]
        return {"data": {"categories": [day], "series": [{"name": "inbox", "data": [4]}]}}

    with PancakeServer(account) as server:
        server.desk.bodies["customer_engagements"] = body
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select("customer_engagements", "user_engagements"))
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert f"page {page.id}, user_engagements: " in line
        assert len(run.records["customer_engagements"]) == 19
        row = {"page_id": page.id, "date": "2025-12-27", "inbox": 4, "other_fields": None}
        assert row in run.records["customer_engagements"]
        assert run.bookmark("customer_engagements", page.id) == "2026-01-12"
        assert run.bookmark("user_engagements", page.id) is None


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        (list(range(24)), 276),
        (["4", "5"], 9),
        ([4.0, 5.0], 9),
        ([4, None, 5], 9),
        ([None, "4", 5], 9),
        ([4, None], 4),
        ([None, None], None),
    ],
)
def test_hours_of_a_day_add_up(tmp_path: Path, counts: list[object], total: int | None) -> None:
    """Where rows come by the hour: each customer counts once a day."""
    hours = [
        {"hour": f"2025-12-27T{hour:02}:00:00", "inbox": count, "page_id": "1"}
        for hour, count in enumerate(counts)
    ]
    account = full_account(pages=1)
    with PancakeServer(account) as server:
        server.desk.bodies["customer_engagements"] = {"success": True, "statistics": hours}
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("customer_engagements"))
        page = account.pages[0]
        assert run.records["customer_engagements"] == [
            {"page_id": page.id, "date": "2025-12-27", "inbox": total, "other_fields": None}
        ]


def test_hours_that_are_no_numbers_are_of_no_known_shape(tmp_path: Path) -> None:
    hours = [{"hour": f"2025-12-27T{hour:02}:00:00", "inbox": "many"} for hour in range(2)]
    with PancakeServer(full_account(pages=1)) as server:
        server.desk.bodies["customer_engagements"] = {"success": True, "statistics": hours}
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select("customer_engagements"))
        (line,) = log_lines(run, "ERROR")
        assert "has no known shape" in line
        assert "many" not in run.stderr


def test_no_engagements_by_the_hour_are_a_quiet_time(tmp_path: Path) -> None:
    account = full_account(pages=1)
    with PancakeServer(account) as server:
        server.desk.bodies["customer_engagements"] = {"success": True, "statistics": []}
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("customer_engagements"))
        assert not run.records
        assert run.bookmark("customer_engagements", account.pages[0].id) == "2026-01-12"


def test_engagements_of_nobody_are_left_out_with_one_warning(tmp_path: Path) -> None:
    account = full_account(pages=2)
    rows = [{"user_id": None, "inbox_count": 1}, {"user_id": "u", "name": "n", "inbox_count": 2}]
    body = {"success": True, "statistics": [], "users_engagements": rows}
    with PancakeServer(account) as server:
        server.desk.bodies["customer_engagements"] = body
        config = full_config(server, **BEFORE_AND_AFTER)
        catalog = select("customer_engagements", "user_engagements")
        run = sync(tmp_path, config, catalog=catalog)
        (line,) = log_lines(run, "WARNING")
        assert ", user_engagements: " in line
        assert len(run.records["user_engagements"]) == 2 * 19
        for page in account.pages[:2]:
            assert run.bookmark("user_engagements", page.id) == "2026-01-12"
            assert run.bookmark("customer_engagements", page.id) == "2026-01-12"


@pytest.mark.parametrize(
    "selected",
    [
        ("user_engagements",),
        ("customer_engagements",),
        ("customer_engagements", "user_engagements"),
    ],
)
def test_engagements_that_a_page_may_not_use_are_named_as_they_were_selected(
    tmp_path: Path, selected: tuple[str, ...]
) -> None:
    account = full_account(pages=1)
    page = account.pages[0]
    page.refused["customer_engagements"] = 403
    with PancakeServer(account) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select(*selected))
        assert f"Skipped: page {page.id}, {selected[0]}: " in log_lines(run, "WARNING")[0]


def test_engagements_of_no_known_shape_do_not_end_those_of_users(tmp_path: Path) -> None:
    account = full_account(pages=1)
    page = account.pages[0]
    body = {
        "data": {"categories": ["Monday"], "series": [{"name": "inbox", "data": [1]}]},
        "users_engagements": [{"user_id": "u", "name": "n", "inbox_count": 1}],
    }
    with PancakeServer(account) as server:
        server.desk.bodies["customer_engagements"] = body
        config = full_config(server, **BEFORE_AND_AFTER)
        run = run_tap(tmp_path, config, catalog=select("customer_engagements", "user_engagements"))
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert f"page {page.id}, customer_engagements: " in line
        assert len(run.records["user_engagements"]) == 19
        assert run.bookmark("user_engagements", page.id) == "2026-01-12"
        assert run.bookmark("customer_engagements", page.id) is None


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ([{"name": "Sale"}, {"name": "Sale"}, {"name": "Sale"}], ["Sale", "Sale #2", "Sale #3"]),
        ([{"name": "A #2"}, {"name": "A"}, {"name": "A"}], ["A #2", "A", "A #3"]),
        ([{"adset_id": 7, "name": "A"}, {"adset_id": "7", "name": "B"}], ["7 A", "7 B"]),
        ([{"adset_id": "7"}, {"adset_id": "7"}], ["7", "7 #2"]),
        ([{"id": 5, "name": "A"}, {"ad_id": "6", "id": "5", "name": "A"}], ["5", "6"]),
        ([{"ad_id": "6"}, {"ad_id": "6"}], ["6", "6 #2"]),
    ],
)
@pytest.mark.parametrize("stream", ["ad_statistics", "campaign_statistics"])
def test_advertisements_without_an_id_of_their_own_are_all_kept(
    tmp_path: Path, stream: str, rows: list[Json], ids: list[str]
) -> None:
    with PancakeServer(full_account(pages=1)) as server:
        server.desk.bodies[stream] = [
            {**row, "spend": str(number)} for number, row in enumerate(rows)
        ]
        config = full_config(server, start_date="2026-01-11", end_date="2026-01-11")
        run = sync(tmp_path, config, catalog=select(stream))
        assert [row["ad_id"] for row in run.records[stream]] == ids
        assert [float(row["spend"]) for row in run.records[stream]] == list(range(len(rows)))


def test_pages_that_spoil_the_answer_for_several_are_left_out(tmp_path: Path) -> None:
    account = full_account(pages=3)
    good, refused, odd = account.pages[:3]
    refused.refused["multi_page_user_statistics"] = 105
    with PancakeServer(account) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        catalog = select("multi_page_user_statistics")
        run = sync(tmp_path, config, catalog=catalog)
        (line,) = log_lines(run, "WARNING")
        assert f"page {refused.id}, multi_page_user_statistics: left out" in line
        people = {staff.id for page in (good, odd) for staff in page.staff}
        assert {row["user_id"] for row in run.records["multi_page_user_statistics"]} == people
        days = len({call.params["date_range"] for call in server.calls if call.params})
        assert server.count("multi_page_user_statistics") == days + 1
        assert server.count("pages") == 1

        odd.refused["multi_page_user_statistics"] = 999
        again = run_tap(tmp_path, config, catalog=catalog)
        assert again.returncode == 1
        (line,) = log_lines(again, "ERROR")
        assert f"page {odd.id}" in line
        assert "999" in line
        kept = {row["user_id"] for row in again.records["multi_page_user_statistics"]}
        assert kept == {staff.id for staff in good.staff}
        state = again.state["bookmarks"].get("multi_page_user_statistics", {})
        assert "replication_key_value" not in state, "a later run reads these days again"


@pytest.mark.parametrize("code", [105, 121, 125, 126])
def test_a_user_who_may_not_see_several_pages_loses_nothing_else(tmp_path: Path, code: int) -> None:
    fault = Fault(f"error:{code}", endpoint="multi_page_user_statistics")
    with PancakeServer(full_account(pages=1), faults=[fault]) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=select("multi_page_user_statistics", "tags"))
        assert "Skipped: multi_page_user_statistics" in log_lines(run, "WARNING")[0]
        assert not log_lines(run, "ERROR")
        assert_same(run.by_key("tags"), records(server, "tags"))


def test_without_a_catalog_all_is_read_but_what_must_be_chosen(tmp_path: Path) -> None:
    account = full_account(pages=1)
    with PancakeServer(account) as server:
        config = config_for(server, **BEFORE_AND_AFTER)
        run = sync(tmp_path, config, catalog=NO_CATALOG)
        assert run.schemas.keys() == ALL_KEYS.keys() - {"multi_page_user_statistics"}
        assert run.records.keys() == run.schemas.keys() - {"call_logs"}
        assert server.count("multi_page_user_statistics") == server.count("call_logs") == 0
        assert "sip_package_ids" not in run.stderr  # `--test` says it


def test_statistics_of_a_page_of_unknown_age_are_warned_of(tmp_path: Path) -> None:
    account = full_account("documented", pages=1)
    with PancakeServer(account, "documented") as server:
        config = full_config(server, end_date="2010-02-01T00:00:00Z")
        run = sync(tmp_path, config, catalog=select("page_statistics", "ad_statistics"))
        (line,) = log_lines(run, "WARNING")
        assert "`start_date`" in line
        assert server.count("ad_statistics") == 32
        run = sync(tmp_path, config, catalog=select("multi_page_user_statistics"))
        (line,) = log_lines(run, "WARNING")
        assert line.startswith("multi_page_user_statistics: the API does not show when")
        assert "`start_date`" in line
