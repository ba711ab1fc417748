"""What bookmarks, coverage and its use by a run mean, and which states are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.reading import state as states
from tap_pancake.reading.coverage import BEGINNING, DAY, MINUTE, MOST, Coverage, Stretch
from tap_pancake.reading.selection import Share
from tap_pancake.reading.state import DATE, FACTS, Bookmark, StateClock
from tap_pancake.rows import times
from tests.tap import REPLICATION_KEYS

JANUARY = "2026-01-01T00:00:00.000000Z"
FEBRUARY = "2026-02-01T00:00:00.000000Z"
MARCH = "2026-03-01T00:00:00.000000Z"
APRIL = "2026-04-01T00:00:00.000000Z"
MAY = "2026-05-01T00:00:00.000000Z"

State = dict[str, Any]
CONTEXT = {"page_id": "1"}


def at(text: str) -> int:
    return times.micros(text)


def state_at(top: str, *stretches: tuple[str, str], floor: str = "", **more: Any) -> State:
    """A page's part of the state, as it is written."""
    part: State = {"context": CONTEXT, "replication_key": "updated_at"}
    part["replication_key_value"] = top
    if stretches:
        part["open"] = [list(stretch) for stretch in stretches]
    return {**part, "floor": floor, **more}


def bookmark(state: State, *, start: str = "", **options: Any) -> Bookmark:
    options.setdefault("incremental", True)
    return Bookmark(state, "updated_at", start=at(start) if start else BEGINNING, **options)


def saved(place: Bookmark) -> Bookmark:
    """A bookmark whose coverage was written into the state."""
    place.save()
    return place


# What the state holds.


def test_coverage_is_written_as_it_is_read() -> None:
    state = state_at(APRIL, (FEBRUARY, MARCH), ("", JANUARY))
    kept = dict(state)
    coverage = saved(bookmark(state)).coverage
    assert state == kept
    assert coverage.top == at(APRIL)
    assert coverage.stretches == [
        Stretch(at(FEBRUARY), at(MARCH)),
        Stretch(BEGINNING, at(JANUARY)),
    ]


def test_nothing_is_written_before_the_first_reading() -> None:
    state: State = {"context": CONTEXT}
    saved(bookmark(state))
    assert state == {"context": CONTEXT}


def test_a_full_table_keeps_and_knows_no_bookmark() -> None:
    state, kept = (state_at(MARCH, ("", FEBRUARY), late=MARCH) for _ in range(2))
    place = bookmark(state, incremental=False)
    assert place.coverage.top is None
    assert place.fact("late") is None
    place.coverage.begin(at(APRIL), 0)
    place.note("late", APRIL)
    place.save()
    assert state == kept


def test_dates_are_kept_as_dates() -> None:
    state = state_at("2026-03-01", ("2026-02-01", "2026-02-03"), floor="2026-01-01")
    kept = dict(state)
    saved(bookmark(state, form=DATE))
    assert state == kept


def test_what_is_over_is_taken_out_of_the_state() -> None:
    state = state_at(APRIL, (FEBRUARY, MARCH))
    place = bookmark(state)
    place.note("doubt", [MARCH, 1])
    assert state["doubt"] == place.fact("doubt") == [MARCH, 1]
    place.note("doubt", [])
    place.coverage.close(at(FEBRUARY), at(MARCH))
    place.save()
    assert state == state_at(APRIL)


def test_the_state_of_a_stream_of_no_page_has_each_name_also_of_what_is_empty() -> None:
    """Meltano merges states, and would bring back one that is not there."""
    state: State = {}
    place = Bookmark(state, "date", incremental=True, form=DATE)
    place.coverage.begin(at(APRIL), 0)
    place.coverage.close(BEGINNING, at(APRIL))
    place.note("aside", [])
    place.save()
    assert state["open"] == state["aside"] == []


def test_a_state_that_is_frozen_or_taken_back_does_not_change_any_more() -> None:
    frozen, back, kept = (state_at(JANUARY) for _ in range(3))
    for state in (frozen, back):
        place = bookmark(state)
        place.coverage.begin(at(FEBRUARY), 0)
        place.save()
        assert state["replication_key_value"] == FEBRUARY
        (place.freeze if state is frozen else place.take_back)()
        place.coverage.begin(at(MARCH), 0)
        place.note("late", MARCH)
        place.save()
    assert frozen == state_at(FEBRUARY, (JANUARY, FEBRUARY))
    assert back == kept


# Coverage.


def coverage(state: State, **options: Any) -> Coverage:
    return bookmark(state, **options).coverage


def test_a_first_reading_opens_everything_and_shrinks_from_the_newest_row_down() -> None:
    read = coverage({})
    assert read.begin(at(MAY), DAY) == Stretch(BEGINNING, at(MAY))
    assert read.top == at(MAY)
    read.read(at(MARCH), at(MAY))
    assert read.stretches == [Stretch(BEGINNING, at(MARCH))], (
        "more rows may have the very same time"
    )
    assert read.holds(at(MARCH))
    assert not read.holds(at(MARCH) + 1)
    read.close(BEGINNING, at(MAY))
    assert not read.stretches
    assert read.lowest == at(MAY)


def test_a_list_that_is_oldest_first_shrinks_up() -> None:
    read = coverage({})
    read.begin(at(MAY), 0)
    read.read_up(BEGINNING, at(MARCH))
    assert read.stretches == [Stretch(at(MARCH), at(MAY))]


def test_a_later_reading_begins_before_the_top_and_keeps_what_is_open() -> None:
    read = coverage(state_at(APRIL, ("", JANUARY)))
    assert read.begin(at(MAY), DAY) == Stretch(at(APRIL) - DAY, at(MAY))
    assert read.stretches == [Stretch(at(APRIL) - DAY, at(MAY)), Stretch(BEGINNING, at(JANUARY))]
    assert read.lowest == BEGINNING


def test_the_top_never_moves_back() -> None:
    """As it would with the clock of a machine, or an end date that is earlier."""
    read = coverage(state_at(APRIL))
    read.begin(at(MARCH), 0)
    assert read.top == at(APRIL)
    read.begin(at(MAY), 0)
    assert read.top == at(MAY)


def test_an_earlier_start_opens_what_is_below_the_floor() -> None:
    read = coverage(state_at(APRIL, floor=MARCH), start=JANUARY)
    read.move_floor()
    assert read.stretches == [Stretch(at(JANUARY), at(MARCH))]
    assert read.floor == at(JANUARY)
    read.move_floor()
    assert len(read.stretches) == 1


def test_an_earlier_start_concerns_messages_of_conversations_of_any_time() -> None:
    bare = bookmark(state_at(APRIL, floor=MARCH), start=JANUARY)
    share = Share(bare, place="", first_back=0, back=0, opens_to_top=True)
    assert share.plan.stretches == [Stretch(at(JANUARY), at(APRIL))]


def test_a_later_start_forgets_what_is_below_it() -> None:
    read = coverage(state_at(APRIL, ("", FEBRUARY)), start=MARCH)
    read.move_floor()
    assert not read.stretches
    assert read.lowest == at(APRIL)
    read.begin(at(MAY), 90 * DAY)
    assert read.stretches == [Stretch(at(MARCH), at(MAY))], "no lookback reaches below the start"
    read.close(at(MARCH), at(MAY))
    back = Coverage(top=read.top, floor=read.floor, stretches=read.stretches, start=at(JANUARY))
    back.move_floor()
    assert back.stretches == [Stretch(at(JANUARY), at(MARCH))], (
        "read again, as rows moved meanwhile"
    )


def test_what_was_read_is_opened_again_as_a_whole() -> None:
    read = coverage(state_at(APRIL, floor=JANUARY))
    read.reopen()
    assert read.stretches == [Stretch(at(JANUARY), at(APRIL))]


def test_of_too_many_stretches_the_nearest_are_joined_and_nothing_is_closed() -> None:
    read = coverage(state_at(MAY))
    lows = [at(JANUARY) + number * DAY for number in range(MOST + 4)]
    for low in lows:
        read.top = low
        read.begin(low + 6 * 3600 * 1_000_000, 0)
    assert len(read.stretches) == MOST
    assert all(read.holds(low) for low in lows)
    assert read.stretches == sorted(read.stretches, reverse=True)


# What a run reads of it.


def share(state: State, *, start: str = "", end: str | None = None, **options: int) -> Share:
    backs = {"first_back": DAY, "back": 15 * MINUTE} | options
    return Share(bookmark(state, start=start), place="", end=end and at(end), **backs)  # type: ignore[arg-type]


def test_a_first_run_wants_everything() -> None:
    first = share({})
    assert first.wants(at("2009-01-01T00:00:00Z"))
    assert first.wants(None)
    assert first.next_low == first.unread_low == BEGINNING


def test_a_run_wants_what_is_above_the_top_open_or_in_the_lookback() -> None:
    later = share(state_at(APRIL, (JANUARY, FEBRUARY)))
    assert later.next_low == at(APRIL) - DAY
    assert later.unread_low == at(JANUARY)
    later.begin(at(MAY))
    for time in (at(MAY) + 1, at(APRIL) - DAY, at(FEBRUARY), at(JANUARY), None):
        assert later.wants(time), time
    for read in (at(APRIL) - DAY - 1, at(FEBRUARY) + 1, at(JANUARY) - 1):
        assert not later.wants(read), read


def test_the_lookback_in_days_reaches_back_once_a_run() -> None:
    """Readings of the head between use the one in minutes, which is one at least."""
    for back, expected in ((15 * MINUTE, 15 * MINUTE), (0, MINUTE)):
        running = share(state_at(APRIL), back=back)
        running.begin(at(MAY))
        # Though what was open is still on its way.
        assert running.next_low == at(MAY) - expected


def test_a_run_notes_in_the_state_only_what_the_lane_has_written() -> None:
    state = state_at(APRIL)
    running = share(state)
    note = running.begin(at(MAY))
    assert state == state_at(APRIL)
    note()
    assert state == state_at(MAY, (times.from_micros(at(APRIL) - DAY), MAY))


def test_a_run_that_was_ended_is_gone_on_with_by_the_next() -> None:
    state: State = {"context": CONTEXT}
    running = share(state)
    running.begin(at(APRIL))()
    running.bookmark.coverage.read(at(MARCH), at(APRIL))
    running.bookmark.save()
    again = share(state)
    assert again.next_low == at(APRIL) - DAY
    again.begin(at(MAY))
    assert again.plan.stretches == [
        Stretch(at(APRIL) - DAY, at(MAY)),
        Stretch(BEGINNING, at(MARCH)),
    ]
    assert not again.wants(at(MARCH) + DAY)
    assert again.wants(at(MARCH))


def test_nothing_before_the_start_or_after_the_end_is_wanted() -> None:
    bounded = share({}, start=FEBRUARY, end=MARCH)
    assert bounded.wants(at(FEBRUARY))
    assert not bounded.wants(at(FEBRUARY) - 1)
    assert bounded.wants(at(MARCH))
    assert not bounded.wants(at(MARCH) + 1)


def test_a_lookback_of_a_million_years_is_everything() -> None:
    far = share(state_at(APRIL), first_back=365_000_000 * DAY)
    assert far.next_low == BEGINNING
    far.begin(at(MAY))
    assert far.wants(at("0001-01-01T00:00:00Z"))


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


def with_top(**more: Any) -> State:
    return state_of(replication_key_value=MARCH, floor="", **more)


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
    state = state_of(replication_key_value=given, floor=given, open=[[given, given]])
    check(state)
    [partition] = state["bookmarks"]["conversations"]["partitions"]
    saved(bookmark(partition))
    assert partition["replication_key_value"] == partition["floor"] == kept
    assert partition["open"] == [[kept, kept]]


WHOLE = {
    "aside": [["1_2", None, "", JANUARY, MARCH], ["1_3", "u", MARCH, JANUARY, MARCH]],
    "doubt": [MARCH, 2],
    "late": MARCH,
    "lookback": [MARCH, 259_200],
    "newest": FEBRUARY,
    "rows": "0123456789abcdef",
    "sorts": "updated_at",
    "whole": [MARCH, 3],
    "zone": "7.0",
}
"""Facts as they are written."""


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bookmarks": {}},
        {"bookmarks": {"pages": {}}},
        {"bookmarks": {"conversations": {"partitions": []}}},
        state_of(),
        state_of(replication_key_value=None),
        state_of(newest=MARCH),
        with_top(),
        with_top(open=[]),
        with_top(open=[["", MARCH], [JANUARY, JANUARY]]),
        *(with_top(**{name: value}) for name, value in WHOLE.items()),
        with_top(**FACTS),
        {"bookmarks": {"a stream of another version": {"is": "kept"}, "posts": {}}},
    ],
)
def test_a_state_with_or_without_bookmarks_is_fine(state: State) -> None:
    check(state)


@pytest.mark.parametrize(
    "state",
    [
        state_of(replication_key_value=MARCH),
        with_top(resume={"start": "", "reached": MARCH}),
        with_top(ordered=True),
    ],
)
def test_a_state_of_before_coverage_is_refused(state: State) -> None:
    with pytest.raises(ConfigurationError, match="page 1 has no `floor`: another tap wrote it"):
        check(state)


DAMAGED: dict[str, tuple[Any, str]] = {
    "a list": ([], "bookmarks"),
    "a text": ("bookmarks", "bookmarks"),
    "bookmarks as list": ({"bookmarks": []}, "bookmarks"),
    "bookmarks as null": ({"bookmarks": None}, "bookmarks"),
    "of another tap": ({"bookmarks": {"orders": {"partitions": []}}}, "but orders"),
    "by another key": (
        state_of(replication_key="inserted_at"),
        "has the replication key `inserted_at`",
    ),
    "an unknown progress": (state_of(progress_markers={}), "page 1 has `progress_markers`"),
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
    "a time as number": (state_of(replication_key_value=1_767_225_600, floor=""), "page 1"),
    "a time as list": (state_of(replication_key_value=[MARCH], floor=""), "page 1"),
    "no time": (state_of(replication_key_value="yesterday", floor=""), "page 1"),
    "a month too many": (
        state_of(replication_key_value="2026-13-01T00:00:00Z", floor=""),
        "page 1",
    ),
    "a year too many": (
        state_of(replication_key_value="9999-12-31T23:00:00-05:00", floor=""),
        "page 1",
    ),
    "a floor as number": (state_of(replication_key_value=MARCH, floor=5), "page 1"),
    "a floor at no time": (state_of(replication_key_value=MARCH, floor="soon"), "page 1"),
    "open as text": (with_top(open=MARCH), "page 1 has a damaged `open`"),
    "open as number": (with_top(open=5), "page 1 has a damaged `open`"),
    "open of texts": (with_top(open=[MARCH]), "page 1 has a damaged `open`"),
    "open without an end": (with_top(open=[[MARCH]]), "page 1 has a damaged `open`"),
    "open to nowhere": (with_top(open=[["", ""]]), "page 1 has a damaged `open`"),
    "open at numbers": (with_top(open=[[1, 2]]), "page 1 has a damaged `open`"),
    "aside as text": (with_top(aside="1_2"), "page 1 has a damaged `aside`"),
    "aside of texts": (with_top(aside=["1_2"]), "page 1 has a damaged `aside`"),
    "aside of two": (with_top(aside=[["1_2", None]]), "page 1 has a damaged `aside`"),
    "aside at no time": (
        with_top(aside=[["1_2", None, "", "soon", MARCH]]),
        "page 1 has a damaged `aside`",
    ),
    "aside without id": (
        with_top(aside=[[None, None, "", MARCH, MARCH]]),
        "page 1 has a damaged `aside`",
    ),
    "doubt of one": (with_top(doubt=[MARCH]), "page 1 has a damaged `doubt`"),
    "doubt at no time": (with_top(doubt=["soon", 1]), "page 1 has a damaged `doubt`"),
    "doubt of no number": (with_top(doubt=[MARCH, "1"]), "page 1 has a damaged `doubt`"),
    "late at no time": (with_top(late="soon"), "page 1 has a damaged `late`"),
    "late as number": (with_top(late=5), "page 1 has a damaged `late`"),
    "lookback of days": (with_top(lookback=[MARCH, 3.5]), "page 1 has a damaged `lookback`"),
    "newest at no time": (with_top(newest="soon"), "page 1 has a damaged `newest`"),
    "sorts by a number": (with_top(sorts=5), "page 1 has a damaged `sorts`"),
    "whole of one": (with_top(whole=[MARCH]), "page 1 has a damaged `whole`"),
    "whole at no time": (with_top(whole=["soon", 1]), "page 1 has a damaged `whole`"),
    "whole of no number": (with_top(whole=[MARCH, None]), "page 1 has a damaged `whole`"),
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
