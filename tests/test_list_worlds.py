"""Lists of any world are read whole, or the run says that they are not.

Thousands of worlds, drawn by hypothesis, apart from HTTP: what `tests/list_world.py` can be, runs
that stop at any call, and things that happen between any two. `WORLDS` sets how many are tried.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_pancake.reading.coverage import DAY, MINUTE, SECOND
from tap_pancake.reading.listing import Listing
from tap_pancake.rows import times
from tests.list_world import START, Shape, TooMany, Warehouse, World, read

WORLDS = int(os.environ.get("WORLDS", "150"))
# So many runs that are not disturbed are enough, a day apart, since a list that shows no order may
# be read whole once a day only.
RUNS_AT_THE_END = 6

BOTH = ("updated_at", "inserted_at")
LISTS = {
    "conversations": Listing(BOTH, stored_at_field="inserted_at", page_size=60),
    "conversations of v1": Listing(
        BOTH, stored_at_field="inserted_at", bounded=True, longest=28 * 86_400
    ),
    "customers and posts": Listing(BOTH, bounded=True, page_size=30),
    "ad conversations": Listing(BOTH, bounded=True, newest_first=False),
}
PAGING = dict(zip(LISTS, ("cursor", "page", "page", "offset"), strict=True))


@dataclass(frozen=True)
class Plan:
    """One run: where it is killed, if it is, and what comes after it."""

    kill_at: int | None
    ahead: int
    pause: int
    events: int


@dataclass(frozen=True)
class Story:
    """A world, and the runs that read it."""

    kind: str
    shape: Shape
    seed: int
    back: int
    streams: tuple[str, ...]
    page_size: int
    plans: tuple[Plan, ...]


PLANS = st.builds(
    Plan,
    kill_at=st.none() | st.integers(1, 40),
    ahead=st.sampled_from([0, 3]),
    pause=st.sampled_from([SECOND, MINUTE, 15 * MINUTE, DAY]),
    events=st.sampled_from([0, 0, 1, 5, 30]),
)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a world and its runs."""
    kind = draw(st.sampled_from(sorted(LISTS)))
    with_children = "conversations" in kind and kind != "ad conversations"
    back = draw(st.sampled_from([MINUTE, 15 * MINUTE]))
    cut = draw(st.sampled_from([1, 2, 3, 7, 20, 50, 60]))
    shape = Shape(
        rows=draw(st.sampled_from([0, 1, 2, 5, 20, 40])),
        spread=draw(st.sampled_from([MINUTE, DAY, 30 * DAY])),
        bunched=draw(st.booleans()),
        cut=cut,
        varying_cut=PAGING[kind] != "page" and draw(st.booleans()),
        sorts=draw(st.sampled_from(["updated_at", "updated_at", "inserted_at"])),
        # v1 is asked for a month at a time: by another time, that leaves out what nothing shows.
        filters=(
            "updated_at"
            if kind == "conversations of v1"
            else draw(st.sampled_from(["updated_at", "updated_at", "inserted_at"]))
        ),
        ascending=draw(st.booleans()) if kind == "ad conversations" else False,
        inclusive=draw(st.booleans()),
        whole_seconds=draw(st.booleans()),
        heeds_order_by=draw(st.sampled_from([True, True, True, False])),
        paging=PAGING[kind],
        lost_cursor=draw(st.sampled_from(["top", "end"])),
        empties=draw(st.sampled_from([0, 0, 0.01, 0.03])),
        lag=draw(st.sampled_from([back // 3, back // 2])),
        lag_share=draw(st.sampled_from([0, 0, 0.05])),
        drift=draw(st.sampled_from([0, 0.005, 0.02, 0.05])),
        platform_time=draw(st.sampled_from([0, back // 2, 3 * DAY])),
        late_rows=with_children and draw(st.booleans()),
        deletes=draw(st.booleans()),
        timeless=draw(st.booleans()),
        # Where bounds are demanded, such rows are never to be seen.
        timeless_last=kind == "conversations" and draw(st.booleans()),
        call=SECOND // draw(st.sampled_from([1, 4, 20])),
    )
    streams: tuple[str, ...] = ("rows",)
    if with_children:
        streams = draw(st.sampled_from([("rows", "messages"), ("messages",), ("rows",)]))
    size = LISTS[kind].page_size
    if size and not shape.varying_cut:
        size = draw(st.sampled_from([size, cut]))
    plans = tuple(draw(st.lists(PLANS, min_size=1, max_size=8)))
    return Story(kind, shape, draw(st.integers(0, 2**32)), back, streams, size, plans)


def tell(story: Story) -> tuple[World, Warehouse, dict[str, set[str]] | None]:
    """Let the runs read the world.

    Returns:
        The world, what was written, and what was there when the last complete run began; None if
        no run came to its end; each of them has logged that.
    """
    world = World(story.shape, story.seed, story.back)
    warehouse = Warehouse()
    world.is_read = warehouse.has
    common: dict[str, Any] = {
        "back": story.back,
        "streams": story.streams,
        # v1 is asked for 28 days at a time, from its beginning on.
        "start": START - 100 * DAY if story.kind == "conversations of v1" else None,
    }
    listing = replace(LISTS[story.kind], page_size=story.page_size)
    for plan in story.plans:
        if plan.kill_at is not None:
            # The next run cannot tell a row that moved out of what is open from one that was read.
            world.is_read = lambda _: True
        read(world, warehouse, listing, kill_at=plan.kill_at, ahead=plan.ahead, **common)
        world.pass_time(plan.pause)
        for _ in range(plan.events):
            world.happen()
    for number in range(RUNS_AT_THE_END):
        before, began = world.truth(), world.now
        read(world, warehouse, listing, ahead=3, **common)
        if not number and not story.shape.heeds_order_by:
            world.pass_time(DAY)  # what is late may be looked for once a day
            continue
        if warehouse.is_complete(listing, story.streams, began - story.back - 2 * SECOND):
            return world, warehouse, before
        world.pass_time(DAY)
    return world, warehouse, None


def check(story: Story) -> None:
    """Assert that what was there when a complete run began was written."""
    try:
        world, warehouse, before = tell(story)
    except TooMany:  # a list that moves faster than so small answers can follow
        return
    if before is None:
        return
    for row_id, messages in before.items():
        row = world.rows.get(row_id)
        if row is None or row.moved_far:  # deleted; or moved to where it had been read
            continue
        if "rows" in story.streams:
            assert row_id in warehouse.rows
        if "messages" in story.streams:
            assert messages <= warehouse.messages


@settings(
    max_examples=WORLDS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(stories())
def test_a_list_of_any_world_is_read_whole_or_the_run_says_so(story: Story) -> None:
    check(story)


# Few rows, two an answer, some without a time.
SHORT = Shape(rows=5, spread=DAY, cut=2, drift=0.05, late_rows=True, timeless=True, call=SECOND)
ONCE_LOST = {
    "a message, when its row without a time was met again in a later head": Story(
        "conversations",
        replace(
            SHORT,
            spread=30 * DAY,
            bunched=True,
            filters="inserted_at",
            platform_time=MINUTE // 2,
        ),
        1100717223,
        MINUTE,
        ("messages",),
        2,
        (
            Plan(None, 3, SECOND, 1),
            Plan(32, 3, SECOND, 0),
            Plan(None, 3, SECOND, 0),
            Plan(None, 3, MINUTE, 1),
            Plan(None, 0, MINUTE, 1),
            Plan(None, 0, DAY, 1),
            Plan(None, 0, MINUTE, 2),
            Plan(None, 0, DAY, 1),
        ),
    ),
    "a message older than the last one, when it came between two heads of one run": Story(
        "conversations of v1",
        Shape(
            rows=20,
            spread=MINUTE,
            cut=2,
            whole_seconds=True,
            paging="page",
            drift=0.05,
            platform_time=MINUTE // 2,
            timeless=True,
        ),
        155168133,
        MINUTE,
        ("rows", "messages"),
        0,
        (
            Plan(16, 0, SECOND, 1),
            Plan(17, 0, SECOND, 0),
            Plan(7, 3, SECOND, 1),
            Plan(None, 3, MINUTE, 0),
            Plan(None, 0, MINUTE, 30),
            Plan(None, 3, SECOND, 0),
        ),
    ),
    "a row without a time, when the run was killed and the last row with one deleted": Story(
        "conversations",
        replace(SHORT, deletes=True, timeless_last=True),
        2313272995,
        MINUTE,
        ("messages",),
        60,
        (Plan(31, 0, 15 * MINUTE, 0), Plan(15, 0, MINUTE, 0)),
    ),
}


@pytest.mark.parametrize("what", ONCE_LOST)
def test_what_was_lost_once_is_read(what: str) -> None:
    check(ONCE_LOST[what])


def test_undisturbed_worlds_do_come_to_an_end() -> None:
    # Else the test above would show nothing.
    for kind, listing in LISTS.items():
        for number in range(10):
            shape = Shape(rows=40, cut=20, drift=0.02, paging=PAGING[kind])
            story = Story(kind, shape, number, 15 * MINUTE, ("rows",), listing.page_size, ())
            _, warehouse, before = tell(story)
            assert before is not None
            assert before.keys() <= warehouse.rows
            assert listing.key == "updated_at"
            assert times.micros(warehouse.state["rows"]["replication_key_value"]) > START


def test_a_short_list_with_the_same_rows_is_not_the_same_if_one_was_touched() -> None:
    # The new one is below it then, and an answer of one row says nothing of what is below.
    shape = Shape(rows=1, cut=1, paging="page", drift=0)
    world, warehouse = World(shape, 0, 15 * MINUTE), Warehouse()
    listing = LISTS["customers and posts"]
    [old] = world.rows.values()
    old.messages, old.stored = old.messages[:1], old.messages[0].at
    calls = list[int]()
    for _ in range(3):
        began = world.calls
        read(world, warehouse, listing, streams=("rows",))
        calls.append(world.calls - began)
    assert calls[1:] == [1, 1]
    world.pass_time(MINUTE)
    world.rows["new"] = replace(old, id="new", stored=world.now - SECOND, messages=[])
    old.messages.append(replace(old.messages[0], id="later", at=world.now, seen_from=world.now))
    read(world, warehouse, listing, streams=("rows",))
    assert warehouse.failure is None
    assert warehouse.rows == world.rows.keys()
