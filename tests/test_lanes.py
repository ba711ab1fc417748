"""Pages side by side, answers ahead of time, and all of it as if there were no threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from tap_pancake.running import lanes as lanes_module
from tap_pancake.running.lanes import Backlog, Early, Helpers, Lanes, Room, Threads
from tests.pancake_api import Account, Fault, PancakeServer
from tests.tap import INBOX, config_for, log_lines, patched, run_tap, select, sync
from tests.truth import assert_complete, show_the_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Call


class Traffic:
    """How many calls are under way at a server at the same time."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._lock = threading.Lock()
        self._under_way: dict[str | None, int] = defaultdict(int)
        self.most = 0
        self.most_pages = 0
        self.most_of_a_page = 0

    def __call__(self, call: Call) -> float:
        """Be the server's latency: hold the call for a while, and count those beside it."""
        with self._lock:
            self._under_way[call.page_id] += 1
            pages = [page for page, count in self._under_way.items() if page and count]
            self.most = max(self.most, sum(self._under_way.values()))
            self.most_pages = max(self.most_pages, len(pages))
            if call.page_id:
                self.most_of_a_page = max(self.most_of_a_page, self._under_way[call.page_id])
        time.sleep(self._latency)
        with self._lock:
            self._under_way[call.page_id] -= 1
        return 0.0


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_pages_are_read_side_by_side(tmp_path: Path, most: int) -> None:
    traffic = Traffic(0.05)
    account = Account.generate(seed=4, pages=5, conversations=6, messages=(1, 40))
    with PancakeServer(account, latency=traffic) as server:
        assert_complete(server, sync(tmp_path, config_for(server, max_parallel_pages=most)))
    assert traffic.most_pages == most


def test_answers_of_a_page_are_asked_for_ahead_and_written_in_order(tmp_path: Path) -> None:
    traffic = Traffic(0.3)
    account = Account.generate(seed=4, pages=1, conversations=30, messages=(1, 70))
    with PancakeServer(account, latency=traffic) as server:
        run = sync(tmp_path, config_for(server))
        assert_complete(server, run)
    assert traffic.most_of_a_page >= 4
    times = [row["updated_at"] for row in run.records["conversations"]]
    assert times == sorted(times, reverse=True)
    order = [row["conversation_id"] for row in run.records["messages"]]
    assert list(dict.fromkeys(order)) == [row["id"] for row in run.records["conversations"]]


def test_a_page_whose_last_conversation_is_long_is_still_read_at_its_limit(
    tmp_path: Path,
) -> None:
    """Nothing else of the page is left then, so batches of the one are asked for side by side."""
    traffic = Traffic(0.3)
    account = Account.generate(seed=4, pages=1, conversations=1, messages=(400, 400))
    with PancakeServer(account, latency=traffic) as server:
        run = sync(tmp_path, config_for(server))
        assert_complete(server, run)
        (conversation,) = account.pages[0].conversations
        asked = [call.params.get("current_count") for call in server.calls if call.conversation_id]
    assert traffic.most_of_a_page >= 3
    assert len(asked) == len(set(asked))
    order = [row["id"] for row in run.records["messages"]]
    assert (
        len(order) == len(set(order)) == len(account.pages[0].conversations[conversation].messages)
    )


@pytest.mark.parametrize("error", [-190, -60, 3000])
def test_a_wrong_count_of_messages_loses_none(tmp_path: Path, error: int) -> None:
    account = Account.generate(seed=4, pages=1, conversations=3, messages=(200, 300))
    for conversation in account.pages[0].conversations.values():
        conversation.count_error = error
    with PancakeServer(account, latency=0.02) as server:
        assert_complete(server, sync(tmp_path, config_for(server)))


def test_pages_do_not_wait_for_one_another_to_find_the_path_of_an_endpoint(tmp_path: Path) -> None:
    traffic = Traffic(0.4)
    account = Account.generate(seed=4, pages=6, conversations=1, messages=(1, 1))
    with PancakeServer(account, latency=traffic) as server:
        start = (datetime.now(UTC) - timedelta(days=2)).isoformat()
        names = ("pages", "new_customer_statistics")
        run = sync(tmp_path, config_for(server, start_date=start), catalog=select(*names))
    assert run.returncode == 0
    assert traffic.most_pages == 6


def test_no_more_connections_are_opened_than_the_process_may_have_files(tmp_path: Path) -> None:
    traffic = Traffic(0.1)
    account = Account.generate(seed=4, pages=8, conversations=30, messages=(1, 3))
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))"
    with PancakeServer(account, latency=traffic) as server:
        run = run_tap(tmp_path, config_for(server), env=patched(tmp_path, few))
        assert_complete(server, run)
    assert traffic.most <= 70 - 64
    (warning,) = [line for line in log_lines(run, "WARNING") if "connections" in line]
    assert "leaves 6 connections" in warning
    assert "ulimit -n" in warning


def test_an_unchanged_page_costs_two_calls(tmp_path: Path) -> None:
    """One in each order: by the last message, and by when rows were stored."""
    account = Account.generate(seed=4, pages=3, conversations=70, messages=(1, 3))
    for page in account.pages:
        show_the_order(page)
    with PancakeServer(account) as server:
        state = sync(tmp_path, config_for(server)).state
        server.reset_calls()
        sync(tmp_path, config_for(server), state=state)
        assert server.count() == 1 + 3 * 2


@pytest.mark.parametrize("at", [1, 2, 30])
def test_a_page_that_fails_ends_its_own_lane_only(tmp_path: Path, at: int) -> None:
    """At its first call, its first conversation, or in the midst of what is read ahead."""
    account = Account.generate(seed=4, pages=4, conversations=40, messages=(1, 40))
    page, *others = account.pages[:4]
    fault = Fault("error:102", page_id=page.id, at=range(at, 10_000))
    with PancakeServer(account, faults=[fault]) as server:
        failed = run_tap(tmp_path, config_for(server))
        assert failed.returncode == 1
        (line,) = log_lines(failed, "ERROR")
        assert line.startswith(f"page {page.id}")
        assert "Settings → Tools" in line
        unread = failed.part("messages", page.id)
        assert "replication_key_value" not in unread or unread["open"]
        for other in others:
            assert "open" not in failed.part("messages", other.id)
        server.faults.clear()
        assert_complete(server, failed, sync(tmp_path, config_for(server), state=failed.state))


def test_what_a_stream_map_filters_costs_no_call(tmp_path: Path) -> None:
    account = Account.generate(seed=4, pages=2, conversations=20, messages=(1, 3))
    with PancakeServer(account) as server:
        maps = {"conversations": {"__filter__": "message_count > 1"}}
        run = sync(tmp_path, config_for(server, stream_maps=maps))
        expected = {
            conversation.id
            for page in account.pages[:2]
            for conversation in page.conversations.values()
            if len(conversation.messages) > 1
        }
        assert {row["id"] for row in run.records["conversations"]} == expected
        assert {row["conversation_id"] for row in run.records["messages"]} == expected
        assert server.count("messages") == len(expected)


def test_a_schema_is_written_once_for_each_stream(tmp_path: Path) -> None:
    account = Account.generate(seed=4, pages=3, conversations=5, messages=(1, 3))
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server), catalog=select(*INBOX))
    assert run.stdout.count('"type":"SCHEMA"') == 3


# The parts by themselves.


@contextmanager
def lanes_of(most: int = 2) -> Iterator[Lanes]:
    """Lanes, which have all ended in the end."""
    lanes = Lanes(most, lambda: None)
    yield lanes
    lanes.finish()


def test_only_one_thread_at_a_time_has_the_baton() -> None:
    inside = 0
    most_inside = 0

    def job(lanes: Lanes) -> None:
        nonlocal inside, most_inside
        for _ in range(20):
            inside += 1
            most_inside = max(most_inside, inside)
            time.sleep(0.0005)
            inside -= 1
            with lanes.waiting():
                time.sleep(0.0005)

    with lanes_of(4) as lanes:
        for _ in range(8):
            lanes.start(lambda: job(lanes))
    assert most_inside == 1
    assert inside == 0


def test_what_a_lane_raises_is_raised_where_lanes_are_started() -> None:
    def fail() -> None:
        raise KeyError

    lanes = Lanes(2, lambda: None)
    lanes.start(fail)
    with pytest.raises(KeyError):
        lanes.finish()


def test_items_come_in_order_and_no_more_ahead_than_there_is_room() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with lanes_of() as lanes:
        for consumed, number in enumerate(lanes.ahead(source(), lambda: 3)):
            assert number == consumed
            assert len(made) <= consumed + 1 + 3
        assert len(made) == 50


def settled(made: list[int]) -> int:
    """Wait until nothing more is made; give how many there are."""
    count = -1
    while count != len(made):
        count = len(made)
        time.sleep(0.05)
    return count


def counted(made: list[int], number: int = 50) -> Iterator[bytes]:
    """Make items of ten bytes."""
    for index in range(number):
        made.append(index)
        yield b"x" * 10


def test_no_lane_asks_further_ahead_while_too_many_bytes_wait() -> None:
    first: list[int] = []
    second: list[int] = []
    with lanes_of() as lanes:
        lanes.backlog = Backlog(most=40, usual=10)
        one = lanes.ahead(counted(first), lambda: 100, len, stream="rows")
        assert settled(first) == 4
        assert lanes.early(lambda: 0, page=None, stream="rows") is None
        # What another lane needs next is made in any case, but no sooner.
        other = lanes.ahead(counted(second), lambda: 100, len, stream="rows")
        for consumed in range(20):
            assert settled(second) == consumed
            next(other)
        assert settled(first) == 4
        # What is forgotten waits no more.
        del one
        assert len(list(other)) == 30
        early = lanes.early(lambda: 7, page=None, stream="rows")
        assert early is not None
        assert early.result() == 7
        assert lanes.backlog.reserve("rows") == Room(10)
        assert lanes.backlog._bytes == 10  # noqa: SLF001


def test_room_for_an_answer_is_taken_before_it_is_asked_for() -> None:
    go_on = threading.Event()

    def stuck() -> Iterator[bytes]:
        go_on.wait()
        yield b"x" * 10

    with lanes_of() as lanes:
        lanes.backlog = Backlog(most=40, usual=10)
        under_way = [lanes.ahead(stuck(), page=str(number), stream="rows") for number in range(9)]
        time.sleep(0.05)
        assert lanes.backlog.reserve("rows") is None
        go_on.set()
        assert [next(one) for one in under_way] == [b"x" * 10] * 9
        del under_way
        assert lanes.backlog.reserve("rows") == Room(10)


def test_the_room_for_an_answer_is_what_others_had() -> None:
    backlog = Backlog(most=100, usual=90)
    for _ in range(1000):
        backlog.see("rows", 20)
    rooms = [backlog.reserve("rows") for _ in range(6)]
    assert rooms[-1] is None
    assert sum(room.size for room in rooms if room) in range(80, 101)


def test_without_room_few_lanes_at_a_time_ask_for_what_they_need() -> None:
    """Else 130 pages would ask for 130 answers, however large."""
    lock = threading.Lock()
    waiting: set[int] = set()
    most = 0

    def source(lane: int) -> Iterator[bytes]:
        nonlocal most
        for _ in range(3):
            with lock:
                waiting.add(lane)
                most = max(most, len(waiting))
            time.sleep(0.01)
            yield b"x" * 10
        if lane % 2:
            raise ValueError

    with lanes_of(9) as lanes:
        lanes.backlog = Backlog(most=40, usual=10, most_urgent=2)
        others = [lanes.backlog.reserve("rows") for _ in range(4)]
        items = []

        def lane(number: int) -> None:
            with suppress(ValueError):
                for item in lanes.ahead(source(number), size=len, page=str(number), stream="rows"):
                    with lock:
                        waiting.discard(number)
                    items.append(item)

        for number in range(9):
            lanes.start(partial(lane, number))
        lanes.finish()
        assert len(items) == 9 * 3
        # The lane that has the baton is consuming one more.
        assert most in {2, 3}
        for room in others:
            assert room is not None
            lanes.backlog.release(room)
        assert lanes.backlog._bytes == lanes.backlog._urgent == 0  # noqa: SLF001


def test_a_page_that_waits_for_long_takes_no_helper_from_another() -> None:
    go_on, made = threading.Event(), list[int]()

    def stuck() -> Iterator[bytes]:
        go_on.wait()
        yield b""

    lanes = Lanes(2, lambda: None, lambda _: 2)
    held_up = [lanes.ahead(stuck(), page="slowed") for _ in range(5)]
    assert len(list(lanes.ahead(counted(made), page="well"))) == 50
    go_on.set()
    assert [next(one) for one in held_up] == [b""] * 5


def test_no_more_helpers_are_at_work_than_calls_can_be_under_way() -> None:
    inside = most_inside = 0
    lock, order = threading.Lock(), SimpleQueue[int]()

    def job(number: int) -> None:
        nonlocal inside, most_inside
        with lock:
            inside += 1
            most_inside = max(most_inside, inside)
        order.put(number)
        time.sleep(0.002)
        with lock:
            inside -= 1

    helpers = Helpers(Threads(), lambda: 3)
    for number in range(40):
        helpers.run(partial(job, number))
    begun = [order.get() for _ in range(40)]
    assert most_inside == 3
    assert all(abs(place - number) < 3 for place, number in enumerate(begun))


def test_threads_without_a_job_end_and_no_job_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "IDLE", 0.001)
    threads, done = Threads(), SimpleQueue[int]()
    before = threading.active_count()
    for number in range(300):
        threads.run(partial(done.put, number))
        time.sleep(0.0005 * (number % 7))  # some meet a thread that is about to end
    assert sorted(done.get(timeout=10) for _ in range(300)) == list(range(300))
    for _ in range(200):
        if threading.active_count() <= before:
            return
        time.sleep(0.02)
    pytest.fail("threads are kept for ever")


def test_what_no_helper_has_begun_is_made_by_who_needs_it() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    nobody = Helpers(Threads(), lambda: 0)
    done = list[int]()
    tell = partial(done.append, 1)
    assert Early(lambda: 7, nobody, tell).result() == 7
    with pytest.raises(ZeroDivisionError):
        Early(fail, nobody, tell).result()
    assert done == [1, 1]


def test_what_is_made_early_is_made_once() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.01)
        made.append(1)
        return len(made)

    done = list[int]()
    early = Early(make, Helpers(Threads(), lambda: 1), partial(done.append, 1))
    assert early.result() == 1
    forgotten = Early(make, Helpers(Threads(), lambda: 0), partial(done.append, 2))
    forgotten.forget()
    assert made == [1]
    assert done == [1, 2]


class Preempted:
    """A lock after whose release a helper thread has to wait for its turn, as any thread may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.05)


@pytest.mark.parametrize("length", [3, 4, 7])
def test_an_item_is_not_overtaken_by_the_next_one_or_the_end(length: int) -> None:
    ready, full = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        ready.wait()
        for number in range(length):
            if number == 2:
                full.set()
            yield number

    with lanes_of() as lanes:
        items = lanes.ahead(source(), lambda: 3)
        items._lock = Preempted()  # type: ignore[attr-defined]  # noqa: SLF001
        ready.set()
        full.wait()
        time.sleep(0.01)  # the third item is counted, and the next one may be made
        assert list(items) == list(range(length))


def test_an_error_comes_in_its_place_and_ends_the_items() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    with lanes_of() as lanes:
        items = lanes.ahead(source(), lambda: 5)
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            next(items)
        assert list(items) == []


def test_nobody_gets_the_baton_back_after_the_end() -> None:
    lanes = Lanes(1, lambda: None)
    happened: list[str] = []
    waits, go_on = threading.Event(), threading.Event()

    def job() -> None:
        with lanes.waiting():
            waits.set()
            go_on.wait()
        happened.append("went on")

    lanes.hand_over(job, happened.append)  # type: ignore[arg-type]
    waits.wait()
    lanes.seize()
    go_on.set()
    time.sleep(0.1)
    assert not happened
