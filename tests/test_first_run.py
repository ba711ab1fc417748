"""A first run over a long history: the newest comes first, stays fresh, and no kill costs much."""

from __future__ import annotations

import os
import random
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.pancake_api import Account, PancakeServer, is_first_batch, is_head
from tests.tap import config_for, select
from tests.truth import assert_complete, show_the_order
from tests.warm_tap import Job, Scale, WarmTap

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Call, Page
    from tests.tap import Json, Run

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALLS_FOR_A_KILL = 0.1
"""Of the calls of an undisturbed run."""
ENDS = {"TERM": (signal.SIGTERM, 143), "KILL": (signal.SIGKILL, -9)}
TALK = select("conversations", "messages")


@pytest.fixture(scope="module")
def warm() -> WarmTap:
    return WarmTap()


@pytest.fixture(name="job")
def job_of_a_run(tmp_path: Path) -> Job:
    return Job({}, TALK, None, 0.0, Scale(), str(tmp_path))


def first_run(warm: WarmTap, job: Job, server: PancakeServer, **settings: object) -> Run:
    run = warm.run(job.of(config_for(server, **settings)))
    assert run.returncode == 0, run.stderr
    return run


# Kills.


def long_inbox(pages: int = 1) -> Account:
    account = Account(11)
    now = datetime.now(UTC)
    for _ in range(pages):
        page = account.add_page()
        page.fill(200, (1, 30), now - 200 * DAY, now - DAY)
        show_the_order(page)
    return account


def go_on_until_done(
    warm: WarmTap, job: Job, server: PancakeServer, kind: str, moments: list[int]
) -> list[Run]:
    """Read; at each moment, a number of calls in that run, kill the tap and start it again."""
    signum, code = ENDS[kind]
    runs: list[Run] = []
    state: Json | None = None
    for moment in [*moments, 0]:
        ready, pid = threading.Event(), [0]

        def strike(
            call: Call, moment: int = moment, ready: threading.Event = ready, pid: list[int] = pid
        ) -> None:
            if call.number == moment and ready.wait(10):
                os.kill(pid[0], signum)

        server.reset_calls()
        server.on_call = strike
        pid[0] = warm.start(job.of(config_for(server), state))
        ready.set()
        runs.append(warm.finish(job))
        assert runs[-1].returncode == (code if moment else 0), runs[-1].stderr
        state = runs[-1].state or state
    server.on_call = None
    return runs


@pytest.mark.parametrize("kind", ENDS)
def test_a_first_run_that_is_killed_several_times_loses_nothing(
    warm: WarmTap, job: Job, kind: str
) -> None:
    rng = random.Random(kind)
    with PancakeServer(long_inbox()) as server:
        for moments in ([1, 2, 3, 4], [rng.randrange(4, 80) for _ in range(4)]):
            assert_complete(server, *go_on_until_done(warm, job, server, kind, moments))


@pytest.mark.parametrize("kind", ENDS)
def test_a_kill_near_the_end_costs_little(warm: WarmTap, job: Job, kind: str) -> None:
    rng = random.Random(kind)
    with PancakeServer(long_inbox()) as server:
        first_run(warm, job, server)
        undisturbed = server.count()
        moments = [int(undisturbed * (0.9 + 0.09 * rng.random())), 5]  # little may be left
        made: list[int] = []
        server.move_every(1, lambda: made.append(1))
        runs = go_on_until_done(warm, job, server, kind, moments)
        assert_complete(server, *runs)
        assert len(made) <= undisturbed * (1 + CALLS_FOR_A_KILL * len(moments))


# Newest first.


def busy_page(account: Account, now: datetime) -> Page:
    """A page with a long history, and as many conversations in the last week as are read ahead."""
    page = account.add_page()
    page.fill(100, (1, 30), now - 300 * DAY, now - 8 * DAY)
    for number in range(20):
        page.add_conversation(at=now - DAY - HOUR * (3 + 6 * number))
    for number in range(12):
        talk = page.add_conversation(at=now - 20 * HOUR + number * HOUR)
        for minutes in range(number):
            page.receive(talk.id, at=now - 20 * HOUR + number * HOUR + timedelta(minutes=minutes))
    old = sorted(page.conversations.values(), key=lambda talk: talk.inserted_at)[:4]
    for talk in old:  # that go on today
        page.receive(talk.id, at=now - 2 * HOUR)
    return page


def test_the_last_day_of_every_page_is_written_before_old_conversations_are_read(
    warm: WarmTap, job: Job
) -> None:
    account, now = Account(12), datetime.now(UTC)
    pages = [busy_page(account, now) for _ in range(3)]
    with PancakeServer(account, page_size=10) as server:
        run = first_run(warm, job, server)
        assert_complete(server, run)
        read = [call.conversation_id for call in server.calls if is_first_batch(call)]
    for page in pages:
        talks = page.conversations
        old = {talk.id for talk in talks.values() if talk.updated_at < now - 7 * DAY}
        first = [name for name in read if name in talks]
        today = {talk.id for talk in talks.values() if talk.updated_at >= now - DAY}
        begun = next(at for at, name in enumerate(first) if name in old)
        assert today <= set(first[:begun])
        order = [
            (row["conversation_id"], datetime.fromisoformat(row["inserted_at"]) >= now - DAY)
            for row in run.records["messages"]
            if row["conversation_id"] in talks
        ]
        begun = next(at for at, (name, _) in enumerate(order) if name in old)
        assert not any(is_of_today for _, is_of_today in order[begun:])


def test_what_arrives_while_history_is_filled_in_is_written_soon(warm: WarmTap, job: Job) -> None:
    account = Account(13)
    page = account.add_page()
    now = datetime.now(UTC)
    page.fill(180, (1, 3), now - 300 * DAY, now - DAY)
    show_the_order(page)
    oldest = min(page.conversations.values(), key=lambda talk: talk.updated_at)
    arrived = []

    def arrive() -> None:
        arrived.append(page.receive(oldest.id))
        arrived.append(page.add_conversation().messages[0])

    with PancakeServer(account, latency=0.05) as server:
        server.at(40, arrive)
        run = first_run(warm, job, server, head_refresh_minutes=0.01)
        assert_complete(server, run)
        heads = [
            call.number
            for call in server.calls
            if call.endpoint == "conversations"
            and is_head(call)
            and call.params.get("order_by") != "inserted_at"
        ]
        # The first one after it, and what had been asked for by then, was written before it came.
        again = next(number for number in heads if number > 40)
        later = {
            call.conversation_id
            for call in server.calls
            if call.number > again + 2 * 12 and is_first_batch(call)
        } - {oldest.id, arrived[1].id}
    assert len(later) > 40, "the run was not long enough to tell"
    assert len(heads) > 4
    order = [(row["conversation_id"], row["id"]) for row in run.records["messages"]]
    new = {message.id for message in arrived}
    last = max(at for at, (_, message) in enumerate(order) if message in new)
    assert not {name for name, _ in order[:last]} & later
