"""A run from state reads what is new, and what the lookbacks cover, and hardly anything else."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine

from tap_pancake.rows import times
from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import records
from tests.tap import KEYS, config_for, log_lines, run_here, run_tap, select, sync
from tests.truth import (
    assert_all_arrived,
    conversation_key,
    merged,
    message_calls,
    message_keys,
    rows_of,
    show_the_order,
    state_of,
    text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Page

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
STREAMS = ("conversations", "messages")


def keys(run_rows: list[dict[str, str]], *names: str) -> list[tuple[str, ...]]:
    """Keys of records, sorted, each as often as it came."""
    return sorted(tuple(row[name] for name in names) for row in run_rows)


# Calls.


def test_only_what_moved_is_read(tmp_path: Path) -> None:
    account = Account.generate(seed=23, pages=3, conversations=300, messages=(1, 2))
    pages = account.pages[:3]
    with PancakeServer(account) as server:
        first = sync(tmp_path, config_for(server))
        every = [known for page in pages for known in page.conversations.values()]
        moved = every[7::23][:38] + every[-2:]
        sent = [account.page(known.page_id).receive(known.id) for known in moved]
        covered: set[tuple[str, str]] = set()
        for page in pages:
            bookmark = datetime.fromisoformat(first.bookmark("conversations", page.id) or "")
            covered |= page.expected_conversations(since=bookmark - timedelta(days=1)).keys()
        server.reset_calls()
        second = sync(tmp_path, config_for(server), state=first.state)

        assert server.count() <= 150
        assert keys(second.records["messages"], "conversation_id", "id") == sorted(
            (message.conversation_id, message.id) for message in sent
        )
        assert keys(second.records["conversations"], "page_id", "id") == sorted(covered)
        assert {conversation_key(known) for known in moved} <= covered
        assert_all_arrived(server, first, second)


@pytest.mark.parametrize("dialect", ["observed", "older"])
def test_a_run_without_changes_makes_two_calls_a_page(tmp_path: Path, dialect: str) -> None:
    """The head, and the one by when rows were stored."""
    end = datetime.now(UTC) - timedelta(hours=2)
    account = Account.generate(
        29, pages=3, conversations=62, messages=(1, 3), start=end - timedelta(days=90), end=end
    )
    account.pages[0].fill(20, (1, 1), end - timedelta(hours=5), end)
    with PancakeServer(account, dialect) as server:
        config = config_for(server, start_date="2026-06-01")
        first = sync(tmp_path, config)
        server.reset_calls()
        second = sync(tmp_path, config, state=first.state)

        assert "messages" not in second.records
        assert server.count("messages") == 0
        covered: set[tuple[str, str]] = set()
        for page in account.pages[:3]:
            bookmark = first.bookmark("conversations", page.id) or ""
            assert (second.bookmark("conversations", page.id) or "") >= bookmark > ""
            covered |= page.expected_conversations(
                since=datetime.fromisoformat(bookmark) - timedelta(days=1)
            ).keys()
            assert server.count(page_id=page.id) == 2
        assert second.by_key("conversations").keys() == covered


def test_an_hourly_run_asks_for_messages_of_that_hour_only(tmp_path: Path) -> None:
    """1,000 conversations a day: a day's rows are read again, but not their messages."""
    account = Account()
    page = account.add_page()
    now = datetime.now(UTC)
    for number in range(1_500):
        at = now - timedelta(seconds=10 + number * 86.4)
        known = page.add_conversation(at=at - timedelta(days=2 * (number % 10 == 5)))
        if number % 10 == 5:  # or nothing would show by which time the list is sorted
            page.receive(known.id, at=at)
    hour = now - timedelta(hours=1)
    state = state_of(page, conversations=hour, messages=hour)
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server), state=state)

        recent = page.expected_conversations(since=hour - timedelta(minutes=15))
        assert 40 < len(recent) < 60
        assert message_calls(server) == dict.fromkeys((key[1] for key in recent), 1)
        assert run.by_key("conversations").keys() == (
            page.expected_conversations(since=hour - timedelta(days=1)).keys()
        )
        assert server.count("conversations") <= 25


def test_an_hourly_run_of_all_streams_on_a_quiet_page_takes_seventeen_calls() -> None:
    """As docs/rate-limits.md has it, where rows show the order of each list."""
    account = Account(3)
    page = account.add_page(timezone=7)
    page.statistics.since, page.statistics.until = NOON - timedelta(days=9), NOON
    for number in range(40):
        at = NOON - timedelta(days=4, hours=3 * number)
        page.add_conversation(at=at).ad_ids = ["400"]
        page.belongings.add_post(at)
    show_the_order(page)
    oldest = [*page.belongings.posts.values()][-1]
    oldest["updated_at"] = NOON - timedelta(days=2)
    streams = [stream for stream in KEYS if stream != "multi_page_user_statistics"]
    state, calls = None, list[Counter[str]]()
    with PancakeServer(account) as server, time_machine.travel(NOON, tick=False) as clock:
        account.clock = lambda: datetime.now(UTC)
        config = config_for(server, start_date=(NOON - timedelta(days=9)).isoformat())
        for _ in range(8):
            server.reset_calls()
            run = run_here(config, catalog=select(*streams), state=state)
            assert run.returncode == 0
            state = run.state
            calls.append(Counter(call.endpoint for call in server.calls))
            clock.shift(3_600)
    twice = {"conversations": 2, "ad_conversations": 2}
    once = dict.fromkeys(streams, 1) | twice
    for name in ("messages", "conversation_details", "call_logs", "user_engagements", "ads"):
        del once[name]
    days = ("customer_engagements", "ad_statistics", "campaign_statistics")
    assert sum(once.values()) == 17
    assert calls[0]["ads"] == 1
    assert calls[1] == calls[4] == calls[7] == once
    # Five hours later is midnight, and another hour later the lookback is due.
    assert calls[5] == once | dict.fromkeys(days, 2)
    assert calls[6] == once | dict.fromkeys(days, 5)


def test_a_small_page_whose_rows_show_no_order_makes_two_calls(tmp_path: Path) -> None:
    """Each talk is over before the next one begins: the list is in the order of both times."""
    account = Account()
    page = account.add_page()
    for number in range(10):
        at = NOON - timedelta(days=2 + number)
        page.add_conversation(at=at)
        page.belongings.add_post(at)
        page.belongings.add_customer(at, at)
    with PancakeServer(account) as server:
        names = ("pages", *STREAMS, "posts", "customers")
        config = config_for(server)
        runs = [sync(tmp_path, config, catalog=select(*names))]
        assert server.count("conversations") == 4

        def later() -> Counter[str]:
            server.reset_calls()
            runs.append(sync(tmp_path, config, catalog=select(*names), state=runs[-1].state))
            return Counter(call.endpoint for call in server.calls if call.page_id)

        quiet = Counter(conversations=2, posts=1, customers=1)
        assert [later(), later()] == [quiet, quiet]
        assert "messages" not in runs[1].records | runs[2].records
        # What is new goes on showing no order, but for the last row, which is late.
        page.add_conversation()
        post_id = page.belongings.add_post(datetime.now(UTC))
        assert later()["messages"] == 1
        page.belongings.posts[post_id]["updated_at"] = datetime.now(UTC)
        page.add_conversation(at=NOON - timedelta(days=90), stored_at=datetime.now(UTC))
        assert later()["messages"] == 2  # the one before is within the lookback
        assert_all_arrived(server, *runs)
        assert merged("posts", *runs) == records(server, "posts")


def test_one_call_more_shows_by_which_time_a_list_filters(tmp_path: Path) -> None:
    """Its order shows at the top, where no row is on both sides of what the next answer begins at.

    The one call more is a short answer, after which the end of the list is still shown by one.
    """
    account = Account()
    page = account.add_page()
    for number in range(80):
        page.add_conversation(at=NOON - timedelta(days=2 + number))
    for began, ended in ((4, 1), (3, 2)):
        talk = page.add_conversation(at=NOON - timedelta(hours=began))
        page.receive(talk.id, at=NOON - timedelta(hours=ended))
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server), catalog=select("pages", *STREAMS))
        # The head, what is below it, the one more, the end, and the head once more.
        assert server.count("conversations") == 5
        assert_all_arrived(server, run)


def test_a_list_that_stays_empty_is_asked_for_twice(tmp_path: Path) -> None:
    """One empty answer is not believed; two are, as they were when all was looked through."""
    account = Account()
    page = account.add_page()
    with PancakeServer(account) as server:
        config, names = config_for(server), ("pages", "posts", "customers")
        runs = [sync(tmp_path, config, catalog=select(*names))]

        def later() -> Counter[str]:
            server.reset_calls()
            runs.append(sync(tmp_path, config, catalog=select(*names), state=runs[-1].state))
            return Counter(call.endpoint for call in server.calls if call.page_id)

        empty = Counter(posts=2, customers=2)
        assert [later(), later()] == [empty, empty]
        # One that came into sight late is met, too.
        page.belongings.add_post(datetime.now(UTC) - timedelta(hours=3))
        page.belongings.add_customer(datetime.now(UTC), datetime.now(UTC))
        later()
        for stream in ("posts", "customers"):
            assert merged(stream, *runs) == records(server, stream)


def test_an_empty_answer_hides_no_conversation_of_an_advertisement(tmp_path: Path) -> None:
    """The list is walked up, from where the lookback begins, and no row is expected there."""
    account = Account()
    page = account.add_page()
    for number in range(10):
        talk = page.add_conversation(at=NOON - timedelta(days=2 * number))
        page.receive(talk.id, at=talk.updated_at + timedelta(days=3))  # shows the filter
        talk.ad_ids = ["400"]
    with PancakeServer(account) as server:
        config = config_for(server)
        catalog = select("ad_conversations")
        state = sync(tmp_path, config, catalog=catalog).state
        state = sync(tmp_path, config, catalog=catalog, state=state).state
        new = page.add_conversation(at=datetime.now(UTC) - timedelta(minutes=1))
        new.ad_ids = ["400"]
        server.faults = [Fault("empty_list", endpoint="ad_conversations", times=1)]
        run = sync(tmp_path, config, catalog=catalog, state=state)
        assert (page.id, new.id) in run.by_key("ad_conversations")


def test_conversations_of_advertisements_that_show_no_order_make_three_calls(
    tmp_path: Path,
) -> None:
    """Oldest first: what is new follows, so that one more answer must show that nothing does."""
    account = Account()
    page = account.add_page()

    def add(at: datetime) -> None:
        page.add_conversation(at=at).ad_ids = ["400"]

    add(NOON - timedelta(days=9))
    add(NOON - timedelta(days=5))
    with PancakeServer(account) as server:
        config, catalog = config_for(server), select("ad_conversations")
        runs = [sync(tmp_path, config, catalog=catalog)]

        def later() -> int:
            server.reset_calls()
            runs.append(sync(tmp_path, config, catalog=catalog, state=runs[-1].state))
            assert merged("ad_conversations", *runs) == records(server, "ad_conversations")
            return server.count("ad_conversations")

        assert [later(), later()] == [3, 3]
        add(datetime.now(UTC) - timedelta(seconds=2))
        assert later() > 3
        assert later() == 3
        for number in range(3):
            server.faults = [Fault("empty_list", endpoint="ad_conversations", at=[number])]
            add(datetime.now(UTC) - timedelta(seconds=2))
            later()


def test_a_page_that_never_had_a_conversation_of_an_advertisement_makes_five_calls(
    tmp_path: Path,
) -> None:
    """As docs/rate-limits.md has it."""
    account = Account()
    account.add_page().add_conversation()
    state = None
    with PancakeServer(account) as server:
        for calls in (5, 10):
            catalog = select("ad_conversations")
            state = sync(tmp_path, config_for(server), catalog=catalog, state=state).state
            assert server.count("ad_conversations") == calls


# Lookbacks.


@pytest.mark.parametrize(("days", "minutes"), [(0, 0), (0.25, 0.5), (1, 15), (2.5, 0), (0, 90)])
def test_lookbacks_reach_back_to_the_second(tmp_path: Path, days: float, minutes: float) -> None:
    account = Account()
    page = account.add_page()
    rows_from = NOON - timedelta(days=days)
    messages_from = NOON - timedelta(minutes=minutes)
    offsets = (-SECOND, -MICROSECOND, timedelta(0), SECOND)
    rows = [page.add_conversation(at=rows_from + offset) for offset in offsets]
    talk = page.add_conversation(at=messages_from - timedelta(days=3))
    messages = [page.receive(talk.id, at=messages_from + offset) for offset in offsets]
    expected = page.expected_messages(since=messages_from)
    assert {(talk.id, message.id) for message in messages[2:]} <= expected.keys()
    with PancakeServer(account) as server:
        run = sync(
            tmp_path,
            config_for(
                server,
                lookback_days=days,
                message_lookback_minutes=minutes,
                message_refresh_days=0,
            ),
            state=state_of(page, conversations=NOON, messages=NOON),
        )
        assert {conversation_key(row) for row in rows[2:]} <= run.by_key("conversations").keys()
        # Rows are read back as far as messages at least: both come into sight late.
        back = min(rows_from, NOON - timedelta(minutes=max(minutes, 0)))
        assert run.by_key("conversations").keys() == (
            page.expected_conversations(since=back).keys()
        )
        assert run.by_key("messages").keys() == expected.keys()
        touched = page.expected_conversations(since=messages_from)
        assert message_calls(server) == dict.fromkeys((key[1] for key in touched), 1)


def test_a_tag_changed_without_a_message_arrives_within_the_lookback(tmp_path: Path) -> None:
    """Counted from the last reading."""
    account = Account()
    page = account.add_page()
    hours = (1, 23.9, 24.1, 9 * 24)
    now = datetime.now(UTC)
    made = [page.add_conversation(at=now - timedelta(hours=age)) for age in hours]
    with PancakeServer(account) as server:
        first = sync(tmp_path, config_for(server))
        for conversation in made:
            page.tag(conversation.id, 3)
        second = sync(tmp_path, config_for(server), state=first.state)
        third = sync(tmp_path, config_for(server, lookback_days=10), state=second.state)
        truth = rows_of(server)["conversations"]

        assert second.by_key("conversations") == {
            conversation_key(known): truth[conversation_key(known)] for known in made[:2]
        }
        assert [tag["id"] for tag in second.records["conversations"][0]["tags"]] == [3]
        assert third.by_key("conversations") == truth
        assert "messages" not in second.records | third.records


@pytest.mark.parametrize("days", [0, 3])
def test_messages_that_an_answer_holds_anyway_are_written_again(tmp_path: Path, days: int) -> None:
    """For edits, removals and reactions; those of the last days, and at no cost."""
    account = Account()
    page = account.add_page()
    now = datetime.now(UTC)
    talk = page.add_conversation(at=now - timedelta(days=9))
    known = [page.receive(talk.id, at=now - timedelta(days=age)) for age in (4, 2, 1)]
    with PancakeServer(account) as server:
        config = config_for(server, message_refresh_days=days)
        first = sync(tmp_path, config)
        new = page.receive(talk.id)
        server.reset_calls()
        second = sync(tmp_path, config, state=first.state)
        again = known[1:] if days else []
        assert second.by_key("messages").keys() == {
            (talk.id, message.id) for message in [*again, new]
        }
        assert message_calls(server) == {talk.id: 1}


# Start and end.


@pytest.fixture
def year() -> Page:
    """A page on which a conversation lives all along, and others around noon of two days."""
    page = Account().add_page()
    talk = page.add_conversation(at=NOON - timedelta(days=30))
    for day in (0, 10):
        for offset in (-SECOND, -MICROSECOND, timedelta(0), MICROSECOND, SECOND):
            page.add_conversation(at=NOON + timedelta(days=day) + offset)
            page.receive(talk.id, at=NOON + timedelta(days=day) + offset)
    for number in range(80):
        page.add_conversation(at=NOON + timedelta(hours=number * 5))
    page.receive(talk.id, at=NOON + timedelta(days=40))
    return page


def test_nothing_before_the_start_date_is_read(tmp_path: Path, year: Page) -> None:
    with PancakeServer(year.account) as server:
        run = sync(tmp_path, config_for(server, start_date="2026-03-11T19:00:00+07:00"))
        start = NOON + timedelta(days=10)

        assert run.by_key("conversations").keys() == year.expected_conversations(start).keys()
        assert run.by_key("messages").keys() == year.expected_messages(start).keys()
        assert message_calls(server) == dict.fromkeys(
            (key[1] for key in year.expected_conversations(start)), 1
        )


@pytest.mark.parametrize("dialect", ["observed", "older"])
def test_nothing_after_the_end_date_is_read_until_a_later_run(
    tmp_path: Path, year: Page, dialect: str
) -> None:
    """Without lookbacks, nothing may be lost at the boundary."""
    end = NOON + timedelta(days=10)
    settings = {
        "lookback_days": 0,
        "message_lookback_minutes": 0,
        "message_refresh_days": 0,
        "start_date": "2026-01-01",
    }
    with PancakeServer(year.account, dialect) as server:
        first = sync(tmp_path, config_for(server, **settings, end_date=end.isoformat()))
        second = sync(tmp_path, config_for(server, **settings), state=first.state)

        assert first.by_key("conversations").keys() == (
            year.expected_conversations(until=end).keys()
        )
        assert first.by_key("messages").keys() == year.expected_messages(until=end).keys()
        assert first.bookmark("messages", year.id) == text(end)
        assert first.bookmark("conversations", year.id) == text(end)
        assert second.by_key("messages").keys() == year.expected_messages(since=end).keys()
        assert_all_arrived(server, first, second)


def test_with_conversations_alone_nothing_after_the_end_date_is_written(
    tmp_path: Path, year: Page
) -> None:
    """The head is asked for without bounds all the same: it shows how the list is sorted."""
    end = NOON + timedelta(days=10)
    with PancakeServer(year.account) as server:
        config = config_for(server, end_date=end.isoformat())
        run = sync(tmp_path, config, catalog=select("conversations"))
        assert run.by_key("conversations").keys() == year.expected_conversations(until=end).keys()
        assert run.bookmark("conversations", year.id) == text(end)
        assert server.count("conversations") <= 30


def test_start_and_end_date_bound_an_extract(tmp_path: Path, year: Page) -> None:
    start, end = NOON, NOON + timedelta(days=10)
    with PancakeServer(year.account) as server:
        run = sync(
            tmp_path,
            config_for(server, start_date=start.isoformat(), end_date=end.isoformat()),
        )
        assert run.by_key("conversations").keys() == year.expected_conversations(start, end).keys()
        assert run.by_key("messages").keys() == year.expected_messages(start, end).keys()


def test_an_end_date_in_the_future_holds_nothing_back_and_loses_nothing(tmp_path: Path) -> None:
    account = Account.generate(seed=31, pages=1, conversations=20, messages=(1, 3))
    page = account.pages[0]
    talk = next(iter(page.conversations.values()))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with PancakeServer(account) as server:
        config = config_for(server, end_date=tomorrow.isoformat(), message_lookback_minutes=0)
        first = sync(tmp_path, config)
        before = page.receive(talk.id)
        second = sync(tmp_path, config, state=first.state)
        sent = page.receive(talk.id)
        del config["end_date"]
        third = sync(tmp_path, config, state=second.state)

        bookmarks = [run.bookmark("messages", page.id) or "" for run in (first, second, third)]
        assert bookmarks == sorted(bookmarks)
        assert bookmarks[1] < text(sent.inserted_at)
        # The second in which a run began is read again.
        assert {(talk.id, sent.id)} <= third.by_key("messages").keys()
        assert third.by_key("messages").keys() <= {(talk.id, before.id), (talk.id, sent.id)}
        assert_all_arrived(server, first, second, third)


# Pages.


def test_only_the_chosen_pages_are_read(tmp_path: Path) -> None:
    account = Account.generate(seed=37, pages=3, conversations=5, messages=(1, 2))
    chosen = [account.pages[0].id, account.pages[2].id]
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server, page_ids=chosen))
        truth = rows_of(server)

        assert {call.page_id for call in server.calls if call.endpoint != "pages"} == set(chosen)
        assert {key[0] for key in run.by_key("pages")} == set(chosen)
        assert run.by_key("conversations") == {
            key: row for key, row in truth["conversations"].items() if key[0] in chosen
        }
        assert run.by_key("messages") == {
            key: row for key, row in truth["messages"].items() if row["page_id"] in chosen
        }


def test_a_page_that_is_chosen_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    account = Account.generate(seed=37, pages=2, conversations=5, messages=(1, 2))
    with PancakeServer(account) as server:
        first = sync(tmp_path, config_for(server, page_ids=[account.pages[0].id]))
        second = sync(tmp_path, config_for(server), state=first.state)
        assert_all_arrived(server, first, second)
        assert {row["page_id"] for row in second.records["messages"]} == {account.pages[1].id}


# Bookmarks.


def test_bookmarks_never_move_back(tmp_path: Path, year: Page) -> None:
    """Neither when an earlier part is read again, nor when the inbox holds older rows only."""
    mark = NOON + timedelta(days=20)
    with PancakeServer(year.account) as server:
        for at, settings in (
            (mark, {"end_date": NOON.isoformat()}),
            (mark, {"end_date": (mark - SECOND).isoformat(), "lookback_days": 5}),
        ):
            state = state_of(year, conversations=at, messages=at)
            run = sync(tmp_path, config_for(server, **settings), state=state)
            while run.states:
                assert [run.bookmark(stream, year.id) for stream in STREAMS] == [text(at)] * 2
                run.states.pop()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_bookmark_in_the_future_is_refused_in_one_line(
    tmp_path: Path, year: Page, stream: str
) -> None:
    now = datetime.now(UTC)
    with PancakeServer(year.account) as server:
        bookmarks = dict.fromkeys(STREAMS, now) | {stream: now + timedelta(days=1)}
        run = run_tap(tmp_path, config_for(server), state=state_of(year, **bookmarks))
    assert run.returncode == 1
    (line,) = log_lines(run, "ERROR")
    assert f"page {year.id}, {stream}: the state has" in line
    assert "in the future" in line
    assert "Traceback" not in run.stderr


def test_a_message_that_was_sent_while_a_run_read_is_brought_by_the_next(tmp_path: Path) -> None:
    """The bookmark is the start of the run, whatever newer messages it has seen."""
    account = Account.generate(seed=41, pages=1, conversations=10, messages=(1, 1))
    page = account.pages[0]
    quiet, lively = list(page.conversations.values())[:2]
    with PancakeServer(account) as server:

        def move() -> None:
            if server.count() == server.count("pages") + server.count("conversations"):
                return
            server.movers.clear()
            page.receive(quiet.id, text="while the run reads")
            page.receive(lively.id, text="a moment later")

        server.move_every(1, move)
        config = config_for(server, message_lookback_minutes=0)
        began = text(datetime.now(UTC))
        first = sync(tmp_path, config)
        # The server's clock shows whole seconds, of which the earlier counts, and a second less.
        began = times.before(began, minutes=3 / 60)
        assert began < (first.bookmark("messages", page.id) or "") < text(quiet.updated_at)
        second = sync(tmp_path, config, state=first.state)
        assert message_keys(quiet, lively) <= merged("messages", first, second).keys()
        assert_all_arrived(server, first, second)
