"""An inbox that moves while it is read: what one run passes over, the next one brings."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.pancake_api import Account, Call, PancakeServer
from tests.tap import config_for, log_lines, run_tap, sync
from tests.truth import assert_all_arrived, assert_bookmarks_hold, merged, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Conversation, Page
    from tests.tap import Run

LISTS = ("observed", "older")
START = datetime(2026, 3, 1, tzinfo=UTC)


def inbox(conversations: int = 65) -> Page:
    """A page with more conversations than one answer holds, two of them of several batches."""
    page = Account(43).add_page()
    page.fill(conversations, (1, 2), START, START + timedelta(days=60))
    for number in (10, 40):
        long = by_age(page)[number]
        for second in range(45):
            page.receive(long.id, at=long.updated_at - timedelta(seconds=second))
    return page


def by_age(page: Page) -> list[Conversation]:
    """The conversations of a page, the one that was silent longest first."""
    return sorted(page.conversations.values(), key=lambda known: known.updated_at)


def read_twice(directory: Path, server: PancakeServer, *, settles: bool = True) -> tuple[Run, Run]:
    """Read from nothing, then from state, in peace; check what was promised after either.

    Args:
        directory: of the test.
        server: that moves in the first run.
        settles: whether it moves slowly enough to be read to the end.
    """
    # The older list shows a month at a time.
    config = config_for(server, start_date=START.isoformat())
    first = run_tap(directory, config)
    first.check_records()
    assert first.returncode == (not settles), first.stderr
    errors = log_lines(first, "ERROR")
    assert len(errors) == (not settles)
    for line in errors:
        assert ": the list changes faster than it can be read" in line
        assert line.endswith(": the next run reads what is missing")
    assert_bookmarks_hold(server, first)
    server.movers.clear()
    server.on_call = None
    second = sync(directory, config, state=first.state)
    assert_bookmarks_hold(server, first, second)
    assert_all_arrived(server, first, second)
    return first, second


@pytest.mark.parametrize("dialect", LISTS)
@pytest.mark.parametrize("part", [0.0, 0.03, 0.5, 1.0])
def test_conversations_that_move_at_some_moment_are_not_lost(
    tmp_path: Path, dialect: str, part: float
) -> None:
    """The first two calls are for lists, the last one is too, and most others are for messages."""
    page = inbox()
    with PancakeServer(page.account, dialect) as server:
        # Each conversation once, long ones twice, and the few lists.
        moment = max(1, round(part * 67))

        def move(call: Call) -> None:
            if call.number == moment:
                for number in (0, 10, 30, 40, 64):
                    page.receive(silent[number].id)
                page.add_conversation()

        silent = by_age(page)
        before = server.expected()
        server.on_call = move
        first, _ = read_twice(tmp_path, server)
        assert before.conversations.keys() <= first.by_key("conversations").keys()
        assert before.messages.keys() <= first.by_key("messages").keys()
        assert len(page.conversations) == 66


@pytest.mark.parametrize("dialect", LISTS)
def test_a_conversation_that_moves_at_the_last_call_is_not_lost(
    tmp_path: Path, dialect: str
) -> None:
    """Whichever call is the last: one that moves at each list is met again or comes next time."""
    page = inbox()
    with PancakeServer(page.account, dialect) as server:
        silent = by_age(page)
        moved: list[Conversation] = []

        def move(call: Call) -> None:
            if call.endpoint == "conversations" and len(moved) < 60:
                moved.append(silent[len(moved)])
                page.receive(moved[-1].id)

        server.on_call = move
        before = server.expected()
        first, _ = read_twice(tmp_path, server)
        assert moved
        assert before.conversations.keys() <= first.by_key("conversations").keys()


@pytest.mark.parametrize("dialect", LISTS)
def test_a_message_that_arrives_between_two_batches_hides_none(
    tmp_path: Path, dialect: str
) -> None:
    """It moves all older ones down by one, and the offset counts from the newest."""
    page = Account().add_page()
    talk = page.add_conversation(at=START)
    for minute in range(130):
        page.receive(talk.id, at=START + timedelta(minutes=minute))
    with PancakeServer(page.account, dialect) as server:

        def move(call: Call) -> None:
            if int(call.params.get("current_count", 0)) and len(talk.messages) < 140:
                for _ in range(3):
                    page.receive(talk.id)

        server.on_call = move
        before = server.expected()
        first, _ = read_twice(tmp_path, server)
        assert len(talk.messages) >= 140
        assert before.messages.keys() <= first.by_key("messages").keys()


def test_a_long_conversation_that_never_rests_is_not_cut_off(tmp_path: Path) -> None:
    """One message arrives with each call; 30 such move everything down by a whole batch."""
    page = Account().add_page()
    talk = page.add_conversation(at=START)
    for minute in range(1_200):
        page.receive(talk.id, at=START + timedelta(minutes=minute), text="…")
    with PancakeServer(page.account) as server:

        def move(call: Call) -> None:
            if call.endpoint == "messages":
                page.receive(talk.id)

        server.on_call = move
        before = server.expected()
        first = sync(tmp_path, config_for(server))
        assert before.messages.keys() <= first.by_key("messages").keys()


@pytest.mark.parametrize("dialect", LISTS)
def test_a_most_lively_inbox(tmp_path: Path, dialect: str) -> None:
    page = inbox(130)
    rng = random.Random(47)
    with PancakeServer(page.account, dialect) as server:

        def move() -> None:
            known = list(page.conversations.values())
            page.receive(rng.choice(known).id)
            if rng.random() < 0.2:
                page.add_conversation()

        before = server.expected()
        server.move_every(2, move)
        # Each reading of the head costs calls, and so finds what has moved meanwhile.
        first, _ = read_twice(tmp_path, server, settles=False)
        assert before.conversations.keys() <= first.by_key("conversations").keys()
        assert before.messages.keys() <= first.by_key("messages").keys()


def test_messages_that_can_be_seen_late_come_with_the_next_run(tmp_path: Path) -> None:
    """One appears at the end of its conversation, one under a message that was seen before it."""
    account = Account()
    page = account.add_page()
    for _ in range(3):
        page.add_conversation(at=START)
    quiet, busy, _ = page.conversations.values()
    now = datetime.now(UTC)
    account.clock = lambda: now
    with PancakeServer(account) as server:
        late = [
            page.receive(
                known.id, at=now - timedelta(seconds=10), visible_at=now + timedelta(seconds=20)
            )
            for known in (quiet, busy)
        ]
        page.receive(busy.id, at=now - timedelta(seconds=5))
        first = sync(tmp_path, config_for(server))
        missing = {(message.conversation_id, message.id) for message in late}
        assert not missing & first.by_key("messages").keys()

        account.clock = lambda: now + timedelta(minutes=1)
        second = sync(tmp_path, config_for(server), state=first.state)
        assert missing <= second.by_key("messages").keys()
        assert_all_arrived(server, first, second)


def test_a_new_conversation_that_can_be_seen_late_comes_with_the_next_run(tmp_path: Path) -> None:
    account = Account()
    page = account.add_page()
    now = datetime.now(UTC)
    account.clock = lambda: now
    page.add_conversation(at=now - timedelta(seconds=5))
    with PancakeServer(account) as server:
        page.add_conversation(
            at=now - timedelta(seconds=10), visible_at=now + timedelta(seconds=20)
        )
        first = sync(tmp_path, config_for(server))
        assert len(first.records["conversations"]) == 1

        account.clock = lambda: now + timedelta(minutes=1)
        second = sync(tmp_path, config_for(server), state=first.state)
        assert len(rows_of(server)["conversations"]) == 2
        assert len(merged("messages", first, second)) == 2
        assert_all_arrived(server, first, second)
