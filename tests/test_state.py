"""What bookmarks and the walk over a page mean, and which states are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.reading import state as states
from tap_pancake.reading.state import BEGINNING, Bookmark, PageWalk, StateClock
from tests.tap import REPLICATION_KEYS

JANUARY = "2026-01-01T00:00:00.000000Z"
FEBRUARY = "2026-02-01T00:00:00.000000Z"
MARCH = "2026-03-01T00:00:00.000000Z"
APRIL = "2026-04-01T00:00:00.000000Z"
MAY = "2026-05-01T00:00:00.000000Z"
SETTINGS = {"lookback_days": 1, "message_lookback_minutes": 15}

State = dict[str, Any]


def bookmark(state: State | None = None, *, incremental: bool = True) -> Bookmark:
    return Bookmark({} if state is None else state, "updated_at", incremental=incremental)


def at(value: str, **more: Any) -> State:
    return {"replication_key": "updated_at", "replication_key_value": value, **more}


def walk(
    conversations: State | None, messages: State | None, now: str = MAY, **settings: Any
) -> PageWalk:
    """Begin a walk; None is a stream that is not selected."""
    return PageWalk(
        SETTINGS | settings,
        rows=None if conversations is None else bookmark(conversations),
        messages=None if messages is None else bookmark(messages),
        now=now,
    )


# Bookmarks.


def test_a_bookmark_moves_forward_and_never_back() -> None:
    state: State = {}
    place = bookmark(state)
    assert place.value == BEGINNING
    place.advance(FEBRUARY)
    place.advance(JANUARY)
    assert place.value == FEBRUARY
    place.advance(MARCH)
    assert state == at(MARCH)


def test_a_bookmark_does_not_move_to_the_beginning() -> None:
    state: State = {}
    bookmark(state).advance(BEGINNING)
    assert state == {}


def test_a_full_table_keeps_and_knows_no_bookmark() -> None:
    state = at(MARCH, resume={"start": "", "reached": FEBRUARY})
    before = at(MARCH, resume={"start": "", "reached": FEBRUARY})
    place = bookmark(state, incremental=False)
    assert place.value == BEGINNING
    assert place.resume_from(BEGINNING, None) == BEGINNING
    place.advance(APRIL)
    place.reached(BEGINNING, None, APRIL)
    assert state == before


@pytest.mark.parametrize("start", [FEBRUARY, MARCH], ids=["same", "later"])
def test_a_walk_goes_on_from_one_that_began_at_the_same_time_or_earlier(start: str) -> None:
    state: State = {"resume": {"start": FEBRUARY, "reached": APRIL}}
    assert bookmark(state).resume_from(start, None) == APRIL


def test_a_walk_never_goes_on_before_its_own_start() -> None:
    state: State = {"resume": {"start": JANUARY, "reached": FEBRUARY}}
    assert bookmark(state).resume_from(MARCH, None) == MARCH


def test_a_walk_that_begins_earlier_forgets_the_other_one() -> None:
    """What the other walk did not look at would be lost."""
    state: State = {"resume": {"start": FEBRUARY, "reached": APRIL}}
    place = bookmark(state)
    assert place.resume_from(JANUARY, None) == JANUARY
    assert "resume" not in state


def test_a_walk_over_everything_is_not_shortened_by_one_from_a_start_date() -> None:
    state: State = {"resume": {"start": JANUARY, "reached": APRIL}}
    assert bookmark(state).resume_from(BEGINNING, None) == BEGINNING


def test_the_reached_place_moves_forward_only_and_is_forgotten_in_the_end() -> None:
    state: State = {}
    place = bookmark(state)
    place.reached(JANUARY, None, MARCH)
    place.reached(JANUARY, None, FEBRUARY)
    assert state["resume"]["reached"] == MARCH
    assert bookmark(state).resume_from(JANUARY, None) == MARCH
    place.finish()
    assert state == {}


def test_a_walk_from_a_later_start_does_not_vouch_for_what_lies_before_it() -> None:
    state: State = {"resume": {"start": BEGINNING, "reached": JANUARY}}
    place = bookmark(state)
    assert place.resume_from(MARCH, None) == MARCH
    place.reached(MARCH, None, APRIL)
    assert bookmark(state).resume_from(BEGINNING, None) == BEGINNING


def test_the_bookmark_of_a_walk_in_two_runs_stops_where_the_first_could_have_left_it() -> None:
    """The second does not read that again, so the lookback of a third must reach there."""
    state: State = {}
    walk(state, None, now=MARCH, message_lookback_minutes=0).passed(FEBRUARY)
    second = walk(state, None, now=MAY, message_lookback_minutes=0)
    second.passed(APRIL)
    second.finish(APRIL)
    assert state == at(MARCH)


def test_what_was_passed_above_an_end_is_read_again_for_another_end() -> None:
    state: State = {}
    bookmark(state).reached(JANUARY, FEBRUARY, APRIL)
    assert bookmark(state).resume_from(JANUARY, FEBRUARY) == APRIL
    place = bookmark(state)
    assert place.resume_from(JANUARY, None) == FEBRUARY
    place.reached(JANUARY, None, MARCH)
    assert bookmark(state).resume_from(JANUARY, None) == MARCH


# A walk: where it begins.


def test_a_first_walk_begins_at_the_beginning_of_all() -> None:
    first = walk({}, {})
    assert first.start is None
    assert first.stop is None
    assert first.wants_row("2009-01-01T00:00:00.000000Z")
    assert first.wants_messages("2009-01-01T00:00:00.000000Z")
    assert first.wants_message("2009-01-01T00:00:00.000000Z")


def test_a_later_walk_begins_before_the_bookmarks_by_the_lookbacks() -> None:
    later = walk(at(APRIL), at(APRIL), lookback_days=2, message_lookback_minutes=30)
    assert later.start == "2026-03-30T00:00:00.000000Z"
    assert later.wants_row("2026-03-30T00:00:00.000000Z")
    assert not later.wants_row("2026-03-29T23:59:59.999999Z")
    assert later.wants_messages("2026-03-31T23:30:00.000000Z")
    assert not later.wants_messages("2026-03-31T23:29:59.999999Z")
    assert later.wants_message("2026-03-31T23:30:00.000000Z")
    assert not later.wants_message("2026-03-31T23:29:59.999999Z")


@pytest.mark.parametrize(
    ("conversations", "messages"), [(at(APRIL), {}), ({}, at(APRIL))], ids=["messages", "rows"]
)
def test_a_stream_that_was_selected_later_gets_its_whole_history(
    conversations: State, messages: State
) -> None:
    assert walk(conversations, messages).start is None


def test_only_the_selected_stream_decides_where_to_begin() -> None:
    assert walk(None, at(APRIL)).start == "2026-03-31T23:45:00.000000Z"
    assert walk(at(APRIL), None).start == "2026-03-31T00:00:00.000000Z"
    assert not walk(None, at(APRIL)).wants_row(MAY)
    assert not walk(at(APRIL), None).wants_messages(MAY)


def test_the_start_date_bounds_the_lookback_too() -> None:
    bounded = walk(at(APRIL), at(APRIL), start_date=APRIL)
    assert bounded.start == APRIL
    assert not bounded.wants_message("2026-03-31T23:59:59.999999Z")


def test_an_earlier_start_date_does_not_bring_history_back() -> None:
    assert (
        walk(at(APRIL), at(APRIL), start_date="2020-01-01").start == "2026-03-31T00:00:00.000000Z"
    )


def test_a_row_without_a_time_is_always_wanted() -> None:
    later = walk(at(APRIL), at(APRIL))
    assert later.wants_row(None)
    assert later.wants_messages(None)
    assert later.wants_message(None)


# A walk: what it keeps.


def test_a_finished_walk_moves_messages_to_its_own_start_and_rows_to_the_newest() -> None:
    conversations: State = at(JANUARY)
    messages: State = at(JANUARY)
    done = walk(conversations, messages)
    done.passed(FEBRUARY)
    assert messages["replication_key_value"] == JANUARY
    done.finish(MARCH)
    assert conversations == at(MARCH)
    assert messages == at(MAY)


def test_an_unfinished_walk_is_gone_on_with_by_the_next() -> None:
    conversations: State = {}
    messages: State = {}
    walk(conversations, messages).passed(MARCH)
    again = walk(conversations, messages)
    assert again.start == MARCH
    assert not again.wants_messages(FEBRUARY)
    assert again.wants_message(JANUARY), "an old message of a conversation that is still to come"


def test_the_cleared_place_needs_no_row() -> None:
    conversations: State = {}
    messages: State = {}
    walk(conversations, messages).cleared(MARCH)
    assert "replication_key_value" not in conversations
    assert walk(conversations, messages).start == MARCH


def test_what_may_still_appear_late_is_not_settled() -> None:
    """Messages of the last minutes can show up late, so a walk that goes on reads them again."""
    conversations: State = {}
    messages: State = {}
    walk(conversations, messages, message_lookback_minutes=60).passed(MAY)
    assert walk(conversations, messages).start == "2026-04-30T23:00:00.000000Z"


def test_a_second_that_a_run_began_in_is_read_again() -> None:
    """Where the API cuts off fractions, what was sent later in it seems to be from before."""
    now = "2026-05-01T00:00:00.700000Z"
    conversations: State = {}
    messages: State = {}
    walk(conversations, messages, now=now, message_lookback_minutes=0).finish("2026-06")
    again = walk(conversations, messages, message_lookback_minutes=0, lookback_days=0)
    assert again.wants_row(MAY)
    assert again.wants_message(MAY)


def test_no_bookmark_passes_the_end_date() -> None:
    conversations: State = {}
    messages: State = {}
    capped = walk(conversations, messages, end_date=MARCH)
    assert capped.wants_row(MARCH)
    assert not capped.wants_row("2026-03-01T00:00:00.000001Z")
    assert capped.wants_message(MARCH)
    assert not capped.wants_message("2026-03-01T00:00:00.000001Z")
    assert capped.wants_messages(APRIL), "it can hold messages from before the end date"
    capped.passed(APRIL)
    assert "replication_key_value" not in conversations
    assert messages["resume"] == {"start": BEGINNING, "reached": APRIL, "end": MARCH}
    capped.finish(APRIL)
    assert conversations == at(MARCH)
    assert messages == at(MARCH)


def test_a_time_in_the_future_does_not_move_the_bookmark_of_conversations_there() -> None:
    """Rows that appear between now and then would be passed over."""
    conversations: State = {}
    begun = walk(conversations, None, now=APRIL, message_lookback_minutes=15)
    begun.passed(MAY)
    begun.finish(MAY)
    assert conversations["replication_key_value"] == "2026-03-31T23:45:00.000000Z"


def test_an_end_date_in_the_future_does_not_move_messages_ahead_of_now() -> None:
    messages: State = {}
    walk(None, messages, now=MARCH, end_date=MAY).finish(BEGINNING)
    assert messages["replication_key_value"] == MARCH


def test_the_list_ends_at_the_end_date_unless_messages_need_what_is_after() -> None:
    assert walk({}, None, end_date=MARCH).stop == MARCH
    assert walk({}, {}, end_date=MARCH).stop is None


def test_a_lookback_of_a_million_years_is_everything() -> None:
    far = walk(at(APRIL), at(APRIL), lookback_days=365_000_000)
    assert far.wants_row("0001-01-01T00:00:00.000000Z")


# When STATE is written.


def test_a_tick_writes_only_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    written: list[float] = []
    length = 1000

    def write() -> int:
        written.append(now[0])
        return length

    clock = StateClock(write)
    for now[0] in (100.5, 102.9, 103.1, 104.0, 106.0, 106.2, 109.3):
        clock.tick()
    assert written == [103.1, 106.2, 109.3]

    # A large STATE comes less often: at most 100 KB a second.
    length = 1_000_000
    for now[0] in (112.4, 115.5, 122.3, 122.5):
        clock.tick()
    assert written[3:] == [112.4, 122.5]


# States that come from outside.


def state_of(**partition: Any) -> State:
    part = {"context": {"page_id": "1"}, **partition}
    return {"bookmarks": {"conversations": {"partitions": [part]}}}


def check(state: Any) -> None:
    """Check a state as the tap does, with the streams that it has."""
    states.check(state, REPLICATION_KEYS)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-03-01T07:00:00+07:00", MARCH),
        ("2026-03-01T00:00:00", MARCH),
        ("2026-03-01T00:00:00.000000", MARCH),
        ("2026-03-01T00:00:00Z", MARCH),
        ("2026-03-01", MARCH),
        ("2026-02-28T19:00:00.5-05:00", "2026-03-01T00:00:00.500000Z"),
        (MARCH, MARCH),
    ],
)
def test_bookmarks_in_any_form_of_time_come_to_one(given: str, kept: str) -> None:
    """They are compared as text."""
    state = state_of(replication_key_value=given, resume={"start": given, "reached": given})
    check(state)
    [partition] = state["bookmarks"]["conversations"]["partitions"]
    assert partition["replication_key_value"] == kept
    assert partition["resume"] == {"start": kept, "reached": kept}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bookmarks": {}},
        {"bookmarks": {"pages": {}}},
        {"bookmarks": {"conversations": {"partitions": []}}},
        state_of(),
        state_of(replication_key_value=None),
        state_of(resume={"start": "", "reached": MARCH}),
        {"bookmarks": {"a stream of another version": {"is": "kept"}, "posts": {}}},
    ],
)
def test_a_state_without_bookmarks_is_fine(state: State) -> None:
    check(state)


DAMAGED: dict[str, tuple[Any, str]] = {
    "a list": ([], "bookmarks"),
    "a text": ("bookmarks", "bookmarks"),
    "bookmarks as list": ({"bookmarks": []}, "bookmarks"),
    "bookmarks as null": ({"bookmarks": None}, "bookmarks"),
    "of another tap": ({"bookmarks": {"orders": {"partitions": []}}}, "but orders"),
    "by another key": (state_of(replication_key="inserted_at"), "is by `inserted_at`"),
    "an unknown progress": (state_of(progress_markers={}), "page 1 has `progress_markers`"),
    "an unknown place": (state_of(resume={"start": "", "reached": MARCH, "id": "1"}), "`id`"),
    "as singer-python had it": ({"bookmarks": {"posts": {"inserted_at": MARCH}}}, "`inserted_at`"),
    "a stream as text": ({"bookmarks": {"messages": "x"}}, "messages"),
    "a stream as null": ({"bookmarks": {"messages": None}}, "messages"),
    "partitions as object": ({"bookmarks": {"messages": {"partitions": {}}}}, "messages"),
    "partitions as null": ({"bookmarks": {"messages": {"partitions": None}}}, "messages"),
    "a partition as text": ({"bookmarks": {"messages": {"partitions": ["x"]}}}, "messages"),
    "no context": ({"bookmarks": {"messages": {"partitions": [{}]}}}, "messages"),
    "context as text": (
        {"bookmarks": {"messages": {"partitions": [{"context": "1"}]}}},
        "messages",
    ),
    "page id as number": (
        {"bookmarks": {"messages": {"partitions": [{"context": {"page_id": 1}}]}}},
        "messages",
    ),
    "two parts of one page": (
        {"bookmarks": {"messages": {"partitions": [{"context": {"page_id": "1"}}] * 2}}},
        "messages",
    ),
    "a time as number": (state_of(replication_key_value=1_767_225_600), "page 1"),
    "a time as list": (state_of(replication_key_value=[MARCH]), "page 1"),
    "no time": (state_of(replication_key_value="yesterday"), "page 1"),
    "a month too many": (state_of(replication_key_value="2026-13-01T00:00:00Z"), "page 1"),
    "a year too many": (state_of(replication_key_value="9999-12-31T23:00:00-05:00"), "page 1"),
    "resume as text": (state_of(resume="2026-03-01T00:00:00Z"), "page 1"),
    "resume as list": (state_of(resume=[MARCH]), "page 1"),
    "resume without place": (state_of(resume={"start": ""}), "page 1"),
    "resume without start": (state_of(resume={"reached": MARCH}), "page 1"),
    "resume at no time": (state_of(resume={"start": "", "reached": "soon"}), "page 1"),
    "resume at a number": (state_of(resume={"start": 5, "reached": MARCH}), "page 1"),
    "resume at null": (state_of(resume={"start": None, "reached": None}), "page 1"),
    "resume at zero": (state_of(resume={"start": 0, "reached": MARCH}), "page 1"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_state_is_refused_with_its_place_and_a_remedy(damage: str) -> None:
    state, place = DAMAGED[damage]
    with pytest.raises(ConfigurationError) as raised:
        check(state)
    text = str(raised.value)
    assert place in text
    assert "without state" in text
    assert "\n" not in text
