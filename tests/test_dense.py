"""Lists that are harder than usual: crowded seconds, empty years, wrong filters, lost cursors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.pancake_api import Account, Call, PancakeServer
from tests.tap import config_for, select, sync
from tests.truth import assert_all_arrived, assert_bookmarks_hold, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api.server import LostCursor

LISTS = ("observed", "older")
NOON = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
START = "2026-02-20T00:00:00Z"
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


def crowd(account: Account, at: datetime, count: int = 130) -> None:
    """Add a page with conversations at one moment, and a few in the seconds around it."""
    page = account.add_page()
    whole = at.replace(microsecond=0)
    for near in (whole - SECOND, whole - MICROSECOND, whole, at - MICROSECOND, at):
        page.add_conversation(at=near)
    for _ in range(count):
        page.add_conversation(at=at)
    for near in (at + MICROSECOND, whole + SECOND - MICROSECOND, whole + SECOND, at + SECOND):
        page.add_conversation(at=near)


@pytest.mark.parametrize("dialect", LISTS)
def test_a_second_with_more_rows_than_one_answer_holds(tmp_path: Path, dialect: str) -> None:
    account = Account()
    crowd(account, NOON)
    with PancakeServer(account, dialect) as server:
        config = config_for(server, start_date=START)
        run = sync(tmp_path, config, catalog=select("conversations"))

        assert run.by_key("conversations") == rows_of(server)["conversations"]
        assert not run.repeated("conversations")


@pytest.mark.parametrize("dialect", LISTS)
def test_a_crowded_second_at_the_end_of_the_list(tmp_path: Path, dialect: str) -> None:
    account = Account()
    crowd(account, datetime.now(UTC) - timedelta(seconds=2))
    with PancakeServer(account, dialect) as server:
        config = config_for(server, start_date=START)
        first = sync(tmp_path, config, catalog=select("conversations"))
        second = sync(tmp_path, config, catalog=select("conversations"), state=first.state)

        assert first.by_key("conversations") == rows_of(server)["conversations"]
        assert not first.repeated("conversations")
        assert second.by_key("conversations") == first.by_key("conversations")


@pytest.mark.parametrize("dialect", LISTS)
def test_many_messages_of_one_moment(tmp_path: Path, dialect: str) -> None:
    account = Account()
    conversation = account.add_page().add_conversation(at=NOON)
    for _ in range(99):
        account.pages[0].receive(conversation.id, at=NOON)
    with PancakeServer(account, dialect) as server:
        run = sync(tmp_path, config_for(server, start_date=NOON.isoformat()))
        assert_all_arrived(server, run)
        assert not run.repeated("messages")


@pytest.mark.parametrize(("dialect", "calls"), [("observed", 20), ("older", 4 * 220 + 20)])
def test_years_without_data_cost_few_calls(tmp_path: Path, dialect: str, calls: int) -> None:
    """The v1 list shows four weeks at a time; from 2010 on these are some 220.

    An empty answer is asked for again, and all that was open is looked at once more in the end: a
    row may have come into sight there meanwhile.
    """
    account = Account()
    page = account.add_page()
    for year in (2012, 2026):
        page.fill(70, (1, 1), datetime(year, 3, 1, tzinfo=UTC), datetime(year, 3, 3, tzinfo=UTC))
    with PancakeServer(account, dialect) as server:
        run = sync(tmp_path, config_for(server), catalog=select("conversations"))

        assert run.by_key("conversations") == rows_of(server)["conversations"]
        assert server.count("conversations") <= calls


# Lists that do not filter as they should.


@pytest.mark.parametrize("filter_", ["ignored", "inserted_at"])
def test_a_v2_list_that_does_not_filter_is_read_whole_with_a_warning_a_page(
    tmp_path: Path, filter_: str
) -> None:
    account = Account.generate(seed=17, pages=2, conversations=70, messages=(1, 2))
    for page in account.pages[:2]:
        for conversation in list(page.conversations.values())[::2]:
            # Long after it began: a list that filters by `inserted_at` shows it in a wrong window.
            page.receive(conversation.id, at=NOON + timedelta(days=100))
    with PancakeServer(account) as server:
        server.window_filter = "ignored" if filter_ == "ignored" else "inserted_at"
        run = sync(tmp_path, config_for(server))
        warned = [line for line in run.stderr.splitlines() if "WARNING" in line]

        assert_all_arrived(server, run)
        assert_bookmarks_hold(server, run)
        assert len(warned) == 2
        for page in account.pages[:2]:
            (line,) = [line for line in warned if f"page {page.id}, conversations: " in line]
            assert "the tap reads all of it" in line


def test_a_v2_list_that_does_not_filter_can_be_read_incrementally(tmp_path: Path) -> None:
    account = Account.generate(seed=17, pages=1, conversations=100, messages=(1, 1))
    page = account.pages[0]
    with PancakeServer(account, window_filter="ignored") as server:
        first = sync(tmp_path, config_for(server))
        moved = list(page.conversations.values())[3:100:9]
        for conversation in moved:
            page.receive(conversation.id)
        server.reset_calls()
        second = sync(tmp_path, config_for(server), state=first.state)

        assert_all_arrived(server, first, second)
        assert len(second.records["messages"]) == server.count("messages") == len(moved)


def test_a_v1_list_that_does_not_filter_is_read_whole(tmp_path: Path) -> None:
    account = Account.generate(seed=17, pages=1, conversations=100, messages=(1, 1))
    with PancakeServer(account, "older", window_filter="ignored") as server:
        run = sync(tmp_path, config_for(server))
        assert run.returncode == 0
        assert_all_arrived(server, run)


# Cursors that leave their place.


@pytest.mark.parametrize("lost_cursor", ["top", "empty"])
@pytest.mark.parametrize("filtered", [True, False])
def test_a_cursor_that_moves_away_hides_nothing(
    tmp_path: Path, lost_cursor: LostCursor, *, filtered: bool
) -> None:
    """The conversation that a list is to go on behind gets a message just before."""
    account = Account()
    crowd(account, NOON)
    page = account.pages[0]
    moved: list[str] = []

    def move(call: Call) -> None:
        cursor = call.params.get("last_conversation_id")
        if cursor and len(moved) < 6:
            moved.append(cursor)
            page.receive(cursor)

    with PancakeServer(account, lost_cursor=lost_cursor) as server:
        server.window_filter = "order_by" if filtered else "ignored"
        server.on_call = move
        began = datetime.now(UTC)
        first = sync(tmp_path, config_for(server))
        assert len(moved) == 6
        assert server.expected(until=began).messages.keys() <= first.by_key("messages").keys()
        assert_bookmarks_hold(server, first)
        second = sync(tmp_path, config_for(server), state=first.state)
        assert_all_arrived(server, first, second)
