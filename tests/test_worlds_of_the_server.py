"""Each switch of the server makes the world that it says, as who asks over HTTP sees it."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from tests.asking import (
    NOON,
    conversations,
    ids,
    listed,
    messages,
    of_page,
    seconds,
    small_account,
    walk,
)
from tests.pancake_api import Account, Fault, PancakeServer, World, is_first_batch, is_head
from tests.processes import output_of
from tests.stream_truth import held_ids
from tests.tap import hurried

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Page

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=each) for each in (1, 60, 3600, 86_400))
SORTED_LISTS = ("conversations", "customers", "posts", "ad_conversations")


def fixed(account: Account, at: datetime = NOON) -> None:
    account.clock = lambda: at


def seen(server: PancakeServer, page: Page, conversation_id: str, **params: Any) -> list[str]:
    """The ids of one answer of messages."""
    rows = messages(server, page, conversation_id, **params).json["messages"]
    return [row["id"] for row in rows]


# What comes late, and what goes.


def test_a_row_that_comes_into_sight_late_was_inserted_when_it_did() -> None:
    account, page, (known,) = small_account(1)
    fixed(account, NOON + HOUR)
    stored = NOON + 2 * HOUR
    late = page.add_conversation(at=stored - 55 * HOUR, stored_at=stored)
    page.receive(late.id, at=stored - 54 * HOUR, visible_at=stored)
    with PancakeServer(account) as server:
        assert ids(conversations(server, page)) == [known.id]
        fixed(account, stored)
        assert ids(conversations(server, page)) == [known.id, late.id]
        newest = listed(server, page, "conversations", order_by="inserted_at")[0]
        assert newest["id"] == late.id
        assert newest["inserted_at"] == "2025-06-01T14:00:00.000000"
        assert newest["updated_at"] == "2025-05-30T08:00:00.000000"
        assert len(seen(server, page, late.id)) == 2
        since: Any = {"since": seconds(NOON + HOUR), "order_by": "inserted_at"}
        assert ids(conversations(server, page, **since)) == [late.id]


def test_a_late_message_has_its_own_time_and_moves_nothing_that_is_newer() -> None:
    account, page, (known, other) = small_account(2)
    with PancakeServer(account) as server:
        late = page.receive(known.id, at=NOON - 3 * DAY)
        assert seen(server, page, known.id)[0] == late.id
        assert ids(conversations(server, page)) == [other.id, known.id]
        page.receive(known.id, at=NOON + 5 * SECOND)
        rows = listed(server, page, "conversations")
        assert [row["id"] for row in rows] == [known.id, other.id]
        assert rows[0]["updated_at"] == "2025-06-01T12:00:05.000000"


def test_what_is_deleted_is_gone_at_the_moment_that_a_test_chooses() -> None:
    account, page, (first, second, third) = small_account(3)
    newest = page.receive(second.id, at=NOON + HOUR)
    post, customer = page.belongings.add_post(NOON), page.belongings.add_customer(NOON)
    fixed(account)
    with PancakeServer(account) as server:
        server.at(2, lambda: page.remove(third.id))
        server.at(NOON + DAY, lambda: page.remove_message(second.id, newest.id))
        server.at(lambda call: call.endpoint == "posts", lambda: page.belongings.remove(post))
        everything = [second.id, third.id, first.id]
        assert ids(conversations(server, page)) == everything
        assert ids(conversations(server, page)) == [second.id, first.id]
        assert messages(server, page, third.id).body.startswith(b"<!DOCTYPE")
        fixed(account, NOON + DAY)
        rows = listed(server, page, "conversations")
        assert [row["updated_at"][11:19] for row in rows] == ["12:00:01", "12:00:00"]
        assert len(seen(server, page, second.id)) == 1
        assert listed(server, page, "posts") == []
        assert customer in [row["id"] for row in listed(server, page, "customers")]
        page.belongings.remove(customer)
        assert customer not in [row["id"] for row in listed(server, page, "customers")]
        assert held_ids(server, "conversations") == {(page.id, first.id), (page.id, second.id)}
        assert len(held_ids(server, "messages")) == 2
        assert held_ids(server, "posts") == set()


# Refusals and odd answers.


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("error:777", 200, b'"error_code":777'),
        ("error:1", 200, b'"error_code":1,"message":"Timeout, please try again"'),
        ("http:404", 404, b'"success":false'),
        ("http:403", 403, b'"success":false'),
        ("http:500", 500, b'"success":false'),
        ("504_html", 504, b"<html>"),
        ("403_firewall", 403, b"Attention Required!"),
        ("odd:null", 200, b'"messages":null'),
        ("odd:text", 200, b'"messages":"none"'),
        ("odd:number", 200, b'"messages":1'),
        ("odd:object", 200, b'"messages":{"0":{}}'),
        ("odd:nulls", 200, b'"messages":[null]'),
        ("odd:texts", 200, b'"messages":["none"]'),
        ("odd:lists", 200, b'"messages":[[]]'),
    ],
)
def test_the_messages_of_some_conversations_are_refused(
    kind: str, status: int, body: bytes
) -> None:
    account, page, (first, second, third) = small_account(3)
    refused = {first.id, second.id}
    with PancakeServer(account, faults=[Fault(kind, conversation_id=refused)]) as server:
        for conversation_id in refused:
            answer = messages(server, page, conversation_id)
            assert answer.status == status
            assert body in answer.body
        assert len(seen(server, page, third.id)) == 1
        assert len(ids(conversations(server, page))) == 3


def test_a_kind_of_fault_that_does_not_exist_is_refused() -> None:
    for kind in ("odd:shape", "lag:", "lag:x", "empty"):
        with pytest.raises(ValueError, match="unknown kind"):
            Fault(kind)


def test_one_answer_in_some_is_empty_though_there_are_rows() -> None:
    account, page, made = small_account(9)
    faults = [
        Fault("empty_list", endpoint="conversations", every=3),
        Fault("empty_list", where=is_first_batch, at={2}),
    ]
    with PancakeServer(account, page_size=5, faults=faults) as server:
        lengths = [len(ids(conversations(server, page))) for _ in range(6)]
        assert lengths == [5, 5, 0, 5, 5, 0]
        batches = [len(seen(server, page, made[0].id)) for _ in range(3)]
        assert batches == [1, 0, 1]


def test_heads_are_told_from_what_is_further_down() -> None:
    account, page, made = small_account(3)
    fault = Fault("empty_list", where=is_head)
    with PancakeServer(account, faults=[fault]) as server:
        assert ids(conversations(server, page)) == []
        assert ids(conversations(server, page, order_by="inserted_at", since=0)) == []
        assert len(ids(conversations(server, page, until=seconds(NOON + DAY)))) == 3
        assert len(ids(conversations(server, page, last_conversation_id=made[-1].id))) == 2


# Clocks, and a copy that lags.


@pytest.mark.parametrize("ahead", [-25_200, 0, 90])
def test_the_date_of_answers_is_the_servers_clock_and_what_it_is_off(ahead: int) -> None:
    account, page, _ = small_account(1)
    fixed(account)
    world = World(date_ahead=timedelta(seconds=ahead))
    with PancakeServer(account, world=world, faults=[Fault("500", at={2})]) as server:
        for _ in range(2):  # whoever answers, also where something is wrong
            date = conversations(server, page).headers["date"]
            assert parsedate_to_datetime(date) == NOON + timedelta(seconds=ahead)
        world.date_ahead = None
        assert "date" not in conversations(server, page).headers


def test_a_copy_that_lags_answers_with_what_was_there_some_time_ago() -> None:
    account, page, (known,) = small_account(1)
    fixed(account, NOON + HOUR)
    page.receive(known.id, at=NOON + 55 * MINUTE)
    new = page.add_conversation(at=NOON + 56 * MINUTE)
    late = page.add_conversation(at=NOON - DAY, stored_at=NOON + 57 * MINUTE)
    gone = page.add_conversation(at=NOON - HOUR)
    page.remove(gone.id)
    page.belongings.add_post(NOON + 58 * MINUTE)
    faults = [Fault("lag:600", at={2, 4, 6})]
    with PancakeServer(account, faults=faults) as server:
        assert ids(conversations(server, page)) == [new.id, known.id, late.id]
        old = listed(server, page, "conversations")
        assert [row["id"] for row in old] == [known.id, gone.id]
        assert old[0]["updated_at"] == "2025-06-01T12:00:00.000000"
        assert len(seen(server, page, known.id)) == 2
        assert len(seen(server, page, known.id)) == 1
        assert len(listed(server, page, "posts")) == 1
        assert listed(server, page, "posts") == []


def test_an_answer_that_never_comes_leaves_the_connection_open() -> None:
    account, page, _ = small_account(1)
    with PancakeServer(account, faults=[Fault("hang", at={1})]) as server:
        with pytest.raises(TimeoutError):
            conversations(server, page, timeout=0.3)
        assert server.calls[0].status == 0
        assert len(ids(conversations(server, page))) == 1


# How lists are cut, bounded, sorted and filtered.


@pytest.mark.parametrize("size", [1, 7, 50, 60])
def test_a_list_is_cut_at_any_number(size: int) -> None:
    account, page, made = small_account(65)
    for conversation in made:
        conversation.ad_ids = ["400"]
        page.belongings.add_post(conversation.inserted_at)
    with PancakeServer(account, page_size=size) as server:
        server.desk.cuts = dict.fromkeys(("customers", "posts", "ad_conversations"), size)
        assert len(ids(conversations(server, page))) == size
        assert len(walk(server, page)) == 65
        for stream, most in (("customers", 100), ("posts", 30), ("ad_conversations", 60)):
            assert len(listed(server, page, stream)) == min(size, most)


def test_each_answer_is_cut_at_another_number() -> None:
    account, page, made = small_account(90)
    rng = random.Random(1)
    world = World(cuts={"conversations": lambda: rng.randint(1, 60)})
    with PancakeServer(account, world=world) as server:
        lengths = {len(ids(conversations(server, page))) for _ in range(5)}
        assert len(lengths) > 2
        assert walk(server, page) == [one.id for one in reversed(made)]


@pytest.mark.parametrize("low", "[(")
@pytest.mark.parametrize("high", "])")
def test_filters_that_compare_whole_seconds_only(low: str, high: str) -> None:
    account = Account()
    page = account.add_page()
    at = [NOON - SECOND / 2, NOON + SECOND / 2, NOON + SECOND * 1.5]
    made = [page.add_conversation(at=each) for each in at]
    bounds: Any = low + high
    window: Any = {"since": seconds(NOON - SECOND), "until": seconds(NOON)}
    with PancakeServer(account, window_bounds=bounds) as server:
        # At full precision nothing is at a bound, and half a second later is outside.
        assert ids(conversations(server, page, **window)) == [made[0].id]
        server.world.whole_seconds = True
        inside = [made[1].id] * (high == "]") + [made[0].id] * (low == "[")
        assert ids(conversations(server, page, **window)) == inside


def mixed(account: Account) -> tuple[Page, dict[str, list[str]]]:
    """A page with three rows in each list, and their ids: oldest inserted first, updated last."""
    page = account.add_page()
    rows: dict[str, list[str]] = {stream: [] for stream in SORTED_LISTS}
    for number in range(3):
        at, touched = NOON + number * HOUR, NOON + (9 - number) * DAY
        conversation = page.add_conversation(at=at)
        page.receive(conversation.id, at=touched)
        conversation.ad_ids = ["400"]
        post = page.belongings.add_post(at)
        page.belongings.posts[post]["updated_at"] = touched
        rows["conversations"].append(conversation.id)
        rows["ad_conversations"].append(conversation.id)
        rows["customers"].append(conversation.customers[0].id)
        rows["posts"].append(post)
    return page, rows


@pytest.mark.parametrize("stream", SORTED_LISTS)
@pytest.mark.parametrize("order_by", ["inserted_at", "updated_at"])
@pytest.mark.parametrize("field", ["inserted_at", "updated_at", "ignored"])
def test_a_list_is_sorted_and_filtered_by_either_time_whatever_is_asked(
    stream: Any, order_by: str, field: Any
) -> None:
    page, rows = mixed(account := Account())
    first, middle, last = rows[stream]
    # The bounds hold the oldest two of those that were inserted, the newest one of those touched.
    windows = {
        "inserted_at": ({"since": 0, "until": seconds(NOON + HOUR)}, {first, middle}),
        "updated_at": ({"since": seconds(NOON + 9 * DAY), "until": 2**32}, {first}),
        "ignored": ({"since": 1, "until": 2}, {first, middle, last}),
    }
    window, inside = windows[field]
    with PancakeServer(account) as server:
        server.world.filtered_by = {stream: field}
        for by in ("inserted_at", "updated_at"):
            for oldest_first in (False, True):
                server.world.sorted_by = {stream: by}
                server.world.oldest_first = {stream} if oldest_first else set()
                found = listed(server, page, stream, order_by=order_by, **window)
                ascending = by == "inserted_at"
                expected = [row for row in (first, middle, last) if row in inside]
                if ascending != oldest_first:
                    expected.reverse()
                assert [row["id"] for row in found] == expected


@pytest.mark.parametrize("stream", ["posts", "customers", "ad_conversations"])
def test_lists_that_are_oldest_first(stream: Any) -> None:
    page, rows = mixed(account := Account())
    with PancakeServer(account) as server:
        server.world.sorted_by = {stream: "inserted_at"}
        server.world.oldest_first = {stream}
        assert [row["id"] for row in listed(server, page, stream)] == rows[stream]
        server.world.oldest_first = set()
        assert [row["id"] for row in listed(server, page, stream)] == rows[stream][::-1]


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_cursor_whose_conversation_moves_or_goes(*, is_plain: bool) -> None:
    account, page, made = small_account(9)
    names = [one.id for one in reversed(made)]
    with PancakeServer(account, page_size=3) as server:
        if not is_plain:
            server.world.sorted_by = {"conversations": "updated_at"}
        cursor = ids(conversations(server, page))[-1]
        page.receive(cursor, at=NOON + HOUR)  # it is the newest now, so on goes what is after it
        after = ids(conversations(server, page, last_conversation_id=cursor))
        assert after == [name for name in names if name != cursor][:3]
        page.remove(cursor)
        assert ids(conversations(server, page, last_conversation_id=cursor)) == after
        server.lost_cursor = "empty"
        assert ids(conversations(server, page, last_conversation_id=cursor)) == []


# Rows that lack something.


@pytest.mark.parametrize("nulls", ["place", "first", "last"])
def test_rows_whose_time_is_null(nulls: Any) -> None:
    account, page, (first, second, third) = small_account(3)
    world = World(null_times={second.id: ("updated_at", "inserted_at")}, nulls=nulls)
    places = {
        "place": [third.id, second.id, first.id],
        "first": [second.id, third.id, first.id],
        "last": [third.id, first.id, second.id],
    }
    with PancakeServer(account, world=world) as server:
        rows = listed(server, page, "conversations")
        assert [row["id"] for row in rows] == places[nulls]
        times = {row["id"]: (row["updated_at"], row["inserted_at"]) for row in rows}
        assert times[second.id] == (None, None)
        assert None not in times[first.id]
        bounded = ids(conversations(server, page, since=seconds(NOON - DAY)))
        assert (second.id in bounded) == (nulls == "place")
        assert server.row(page.id, second.id)["updated_at"] is None


def test_rows_without_an_id_are_in_every_list() -> None:
    account, page, made = small_account(2)
    message = page.receive(made[1].id, at=NOON + HOUR)
    made[0].ad_ids = made[1].ad_ids = ["400"]
    posts = [page.belongings.add_post(NOON) for _ in range(2)]
    calls = [page.belongings.add_call(NOON) for _ in range(2)]
    customer = made[0].customers[0].id
    nameless = {made[0].id, message.id, posts[0], calls[0], customer, "2", page.staff[0].id}
    with PancakeServer(account, world=World(without_id=nameless)) as server:
        package = {"id": page.belongings.sip_package_id, "page_number": 1}
        lists = {
            "conversations": listed(server, page, "conversations"),
            "customers": listed(server, page, "customers"),
            "posts": listed(server, page, "posts"),
            "ad_conversations": listed(server, page, "ad_conversations"),
            "messages": messages(server, page, made[1].id).json["messages"],
            "call_logs": of_page(server, page, "sip_call_logs", **package).json["data"],
            "tags": of_page(server, page, "tags").json["tags"],
            "users": of_page(server, page, "users").json["users"],
        }
        for stream, rows in lists.items():
            key = "call_id" if stream == "call_logs" else "id"
            assert sum(key not in row for row in rows) == 1, stream
            named = {row[key] for row in rows if key in row}
            held = {ident for *_, ident in held_ids(server, stream)}
            assert named <= held
            assert not nameless & {str(ident) for ident in held}, stream


# Statistics.


def test_hours_of_a_page_whose_zone_changes_are_in_the_zone_of_their_time() -> None:
    account = Account()
    page = account.add_page(timezone=-5)
    page.zone = ZoneInfo("America/New_York")  # -4 until 2025-11-02T06:00Z, then -5
    start = datetime(2025, 10, 31, tzinfo=UTC)
    page.statistics.since, page.statistics.until = start, start + 4 * DAY
    bounds = {"since": seconds(start), "until": seconds(start + 4 * DAY)}
    local = "31/10/2025 00:00:00 - 03/11/2025 23:59:59"
    with PancakeServer(account) as server:
        hours = [
            row["hour"] for row in of_page(server, page, "statistics/pages", **bounds).json["data"]
        ]
        assert len(hours) == len(set(hours))
        assert min(hours) >= "2025-10-30T20:00:00"
        assert max(hours) < "2025-11-03T19:00:00"
        assert {(page.id, hour) for hour in hours} == held_ids(server, "page_statistics")
        data = of_page(server, page, "statistics/users", date_range=local).json["data"][
            "statistics"
        ]
        offsets = {
            datetime.strptime(row["hour_in_integer"], "%Y%m%d%H%M%S")  # noqa: DTZ007
            - datetime.fromisoformat(row["hour"])
            for row in itertools.chain(*data.values())
        }
        assert offsets == {4 * HOUR, 5 * HOUR}


def test_an_hour_that_no_clock_shows_has_no_statistics() -> None:
    account = Account()
    page = account.add_page(timezone=-4)
    page.zone = ZoneInfo("America/New_York")
    night = datetime(2025, 3, 9, 4, tzinfo=UTC)
    page.statistics.since, page.statistics.until = night, night + 6 * HOUR
    assert [hour.hour for hour in page.statistics.hours()] == [23, 0, 1, 3, 4, 5]


def test_tag_statistics_over_more_than_a_year_repeat_their_labels() -> None:
    account = Account()
    page = account.add_page(timezone=7)
    page.statistics.since, page.statistics.until = NOON - 400 * DAY, NOON
    bounds = {"since": seconds(NOON - 400 * DAY), "until": seconds(NOON)}
    with PancakeServer(account) as server:
        assert of_page(server, page, "statistics/tags", **bounds).error == (200, 100)
        server.desk.longest = 500 * DAY
        data = of_page(server, page, "statistics/tags", **bounds).json["data"]
        month = {**bounds, "since": seconds(NOON - 20 * DAY)}
        labels = of_page(server, page, "statistics/tags", **month).json["data"]["categories"]
        assert labels[0] == "13/5"
        assert len(data["categories"]) == len(data["series"]["0"]) == 400
        assert len(set(data["categories"])) < 400


def test_the_clock_of_the_taps_machine_can_be_off(tmp_path: Path) -> None:
    for hours in (-7, 0, 48):
        env = os.environ | hurried(tmp_path, ahead=hours * HOUR)
        command = [sys.executable, "-c", "import time; print(time.time())"]
        assert abs(float(output_of(command, env=env)) - time.time() - hours * 3600) < 60
