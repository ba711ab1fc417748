"""A run that is ended at any moment, by any signal, loses nothing and does not begin again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.rows import times
from tap_pancake.running.lanes import AHEAD
from tests.pancake_api import Account, Call, Fault, PancakeServer
from tests.tap import Run, config_for, finish, read_output, select, side_by_side, start_tap, sync
from tests.truth import assert_complete, show_the_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap import Json

    Names = tuple[str, ...]

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
ENDS_WITHIN = 5.0
STATE_WITHIN = 5.0
CALLS_AT_MOST = 1.1
"""Of those of an undisturbed run, for each end."""
AHEAD_AT_MOST = 2 * AHEAD
"""Calls of a page made ahead, and then again: these conversations have two at most."""
RATE = 10
STRIKE = """
import os, sys

class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == "{moment}":
            os.kill(os.getpid(), {signum})
    def __del__(self):
        os.kill(os.getpid(), {signum})

if "{moment}" == "its end":
    sys.cleared_up = Strike()
else:
    sys.meta_path.insert(0, Strike())
"""
"""Python runs it first: sends the process a signal at a moment."""
YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))


@dataclass
class Interrupted:
    """A run that was ended by signals, and resumed each time from its own last STATE."""

    runs: list[Run] = field(default_factory=list)
    calls: list[list[Call]] = field(default_factory=list)
    """Those of each run."""

    @property
    def calls_made(self) -> int:
        """Calls of all runs."""
        return sum(len(calls) for calls in self.calls)


def resume_until_done(
    directory: Path,
    server: PancakeServer,
    signum: signal.Signals,
    moments: list[int],
    *,
    state: Json | None = None,
    **options: Any,
) -> Interrupted:
    """Run the tap; at each moment, a number of calls in that run, end it and start it again."""
    directory.mkdir(parents=True, exist_ok=True)
    history = Interrupted()
    config = options.pop("config", config_for(server))
    for moment in [*moments, 0]:
        server.reset_calls()
        output = directory / f"{len(history.runs)}.jsonl"
        with output.open("w", encoding="utf-8") as stdout:
            process = start_tap(directory, config, state=state, stdout=stdout, **options)
            server.on_call = _signal_at(moment, process, signum)
            try:
                _, stderr = process.communicate(timeout=100)
            finally:
                process.kill()
        server.on_call = None
        run = read_output(output.read_text(encoding="utf-8"), process.returncode, stderr)
        history.runs.append(run)
        history.calls.append(list(server.calls))
        state = run.state or state
        if run.returncode == 0:
            return history
        assert moment, stderr
        if signum in EXIT_CODES:
            assert_clean_end(run, signum)
    return history


def _signal_at(
    moment: int, process: subprocess.Popen[str], signum: signal.Signals
) -> Callable[[Call], None]:
    def strike(call: Call) -> None:
        if call.number == moment:
            process.send_signal(signum)

    return strike


def assert_clean_end(run: Run, signum: signal.Signals) -> None:
    """Assert what is promised of every end by SIGTERM and SIGINT."""
    assert run.returncode == EXIT_CODES[signum], run.stderr
    assert run.stdout.endswith("\n"), "a line was torn"
    assert json.loads(run.stdout.splitlines()[-1])["type"] == "STATE"
    assert f"{signum.name}: the run was ended" in run.stderr
    assert "Traceback" not in run.stderr


def assert_nothing_finished_was_read_again(history: Interrupted) -> None:
    """Assert that no run asked for messages of a conversation that an earlier one had written.

    Only the oldest one of a page is: another may have the very same time. And before an answer has
    shown by which time the list filters, nothing that was written counts as read.
    """
    finished: dict[str, dict[str, str]] = {}
    for run, calls in zip(history.runs, history.calls, strict=True):
        asked = {
            (call.page_id, call.conversation_id) for call in calls if call.endpoint == "messages"
        }
        for page_id, updated in finished.items():
            again = {id_ for id_ in updated if (page_id, id_) in asked}
            assert not {id_ for id_ in again if updated[id_] > min(updated.values())}
        for row in run.records.get("conversations", []):
            if "filters" in run.part("conversations", row["page_id"]):
                finished.setdefault(row["page_id"], {})[row["id"]] = row["updated_at"]
    assert finished


def inbox(seed: int, sizes: tuple[int, ...], messages: int = 40) -> Account:
    account = Account(seed)
    for size in sizes:
        page = account.add_page()
        page.fill(size, (1, messages), *YEAR)
        show_the_order(page)
    return account


@dataclass
class Timed:
    """A run that was looked at while it ran."""

    lines: list[tuple[float, str]]
    """Each line of output, and the second it arrived at."""
    calls: int = 0


def read_timed(directory: Path, config: Json) -> Timed:
    """Run the tap, and note when each line arrives."""
    process = start_tap(directory, config)
    assert process.stdout is not None
    timed = Timed([(time.monotonic(), line) for line in process.stdout])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return timed


# Signals at random moments of a backfill.

ALL = ("pages", "conversations", "messages")


def test_an_interrupted_backfill_goes_on_where_it_stopped(tmp_path: Path) -> None:
    cases = enumerate(
        [
            (signal.SIGTERM, "observed", ALL),
            (signal.SIGTERM, "observed", ("messages",)),
            (signal.SIGINT, "documented", ALL),
            (signal.SIGINT, "older", ALL),
        ]
    )

    def interrupt(seed: int, signum: signal.Signals, dialect: str, selected: Names) -> None:
        rng = random.Random(seed)
        directory = tmp_path / f"{seed}"
        directory.mkdir()
        catalog = select(*selected)
        sizes = (140,) if dialect == "older" else (150, 40)
        with PancakeServer(inbox(seed, sizes), dialect) as server:
            sync(directory, config_for(server), catalog=catalog)
            undisturbed = server.count()
            moments = [rng.randrange(1, undisturbed * 3 // 10) for _ in range(3)]
            history = resume_until_done(directory, server, signum, moments, catalog=catalog)
            assert len(history.runs) == len(moments) + 1
            if "conversations" in selected:
                assert_complete(server, *history.runs)
                assert_nothing_finished_was_read_again(history)
            else:
                written = {key for run in history.runs for key in run.by_key("messages")}
                assert written == server.expected().messages.keys()
            ahead = AHEAD_AT_MOST * len(moments) * len(sizes)
            most = CALLS_AT_MOST ** len(moments) * undisturbed
            assert history.calls_made <= most + ahead, (seed, moments)

    side_by_side([partial(interrupt, seed, *case) for seed, case in cases])


@dataclass
class Killed:
    """A backfill of half a minute: undisturbed, and killed at random moments."""

    undisturbed: Future[Timed]
    histories: list[Future[Interrupted]]


@pytest.fixture(scope="module", autouse=True)
def killed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Killed]:
    """These mostly wait, so they begin with the first test and run beside the others."""
    root = tmp_path_factory.mktemp("killed")

    def kill(seed: int) -> Interrupted:
        rng = random.Random(seed)
        with PancakeServer(inbox(5, (215,))) as server:
            # STATE is 3 seconds old at most, of a run that takes 26.
            moments = [rng.randrange(40, 130), rng.randrange(40, 130)]
            if seed > 2:
                moments = [rng.randrange(225, 245)]
            config = config_for(server, requests_per_second=RATE)
            history = resume_until_done(
                root / f"{seed}", server, signal.SIGKILL, moments, config=config
            )
            assert_complete(server, *history.runs)
            return history

    def leave_alone() -> Timed:
        with PancakeServer(inbox(5, (215,))) as server:
            timed = read_timed(root, config_for(server, requests_per_second=RATE))
            timed.calls = server.count()
            return timed

    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(5) as killers:
        yield Killed(pool.submit(leave_alone), [killers.submit(kill, seed) for seed in range(5)])


# Signals while the tap waits.


def hanging(server: PancakeServer) -> None:
    server.faults.append(Fault("hang", endpoint="messages", at=[5]))


def dripping(server: PancakeServer) -> None:
    server.faults.append(Fault("drip", endpoint="conversations"))


def backing_off(server: PancakeServer) -> None:
    server.rate, server.retry_after = 1, 60


def failing(server: PancakeServer) -> None:
    server.faults.append(Fault("500", endpoint="messages"))


def listing(server: PancakeServer) -> None:
    server.faults.append(Fault("hang", endpoint="pages"))


def listing_again(server: PancakeServer) -> None:
    server.account.pages[0].token = "a token that list-pages does not hold"
    server.faults.append(Fault("error:105", endpoint="messages", at=[3]))
    server.faults.append(Fault("hang", endpoint="pages", at=[2]))


def renewed_then_hanging(server: PancakeServer) -> None:
    """The page token is found anew, and the call that uses it hangs."""
    server.faults.append(Fault("hang", endpoint="messages", at=[4]))
    page = server.account.pages[0]

    def renew(call: Call) -> None:
        if call.endpoint == "messages" and server.count("messages") == 3:
            page.renew_token()

    server.on_call = renew


WAITS: dict[str, tuple[Callable[[PancakeServer], None], float]] = {
    "hanging": (hanging, 10_000),
    "dripping": (dripping, 10_000),
    "backing off for Retry-After": (backing_off, 10_000),
    "backing off": (failing, 10_000),
    "hanging in list-pages": (listing, 10_000),
    "hanging in list-pages once more": (listing_again, 10_000),
    "hanging with the renewed token": (renewed_then_hanging, 10_000),
    "waiting for the limiter": (lambda _: None, 0.02),
}
"""What the tap waits for, and the rate."""


def test_a_signal_ends_any_wait_within_five_seconds(tmp_path: Path) -> None:
    def interrupt(number: int, name: str, signum: signal.Signals) -> float:
        directory = tmp_path / f"{number}"
        directory.mkdir()
        prepare, rate = WAITS[name]
        with PancakeServer(inbox(5, (8,))) as server:
            prepare(server)
            process = start_tap(directory, config_for(server, requests_per_second=rate))
            wait_for_standstill(server, process)
            process.send_signal(signum)
            sent, sent_at = time.monotonic(), time.time()
            try:
                stdout, stderr = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return time.monotonic() - sent
            took = time.monotonic() - sent
            assert_clean_end(read_output(stdout, process.returncode, stderr), signum)
            # One of several that back off may have been about to try again.
            assert not [call for call in server.calls if call.time > sent_at + 1]
            return took

    cases = list(zip(WAITS, cycle(EXIT_CODES)))
    took = side_by_side([partial(interrupt, number, *case) for number, case in enumerate(cases)])
    slow = {
        case: seconds for case, seconds in zip(cases, took, strict=True) if seconds > ENDS_WITHIN
    }
    assert not slow


@pytest.mark.parametrize("signum", EXIT_CODES)
@pytest.mark.parametrize("moment", ["singer_sdk", "tap_pancake.tap", "its end"])
def test_a_signal_before_and_after_the_run_is_no_other_end(
    tmp_path: Path, moment: str, signum: signal.Signals
) -> None:
    """While the tap is loaded, and while Python clears up after it."""
    (tmp_path / "sitecustomize.py").write_text(
        STRIKE.format(moment=moment, signum=int(signum)), encoding="utf-8"
    )
    with PancakeServer(inbox(5, (5,))) as server:
        process = start_tap(tmp_path, config_for(server), env={"PYTHONPATH": str(tmp_path)})
        run = finish(process)
    if moment == "its end":
        assert run.returncode == 0, run.stderr
        assert_complete(server, run)
    else:
        assert (run.returncode, run.stdout, run.stderr) == (EXIT_CODES[signum], "", "")


def wait_for_standstill(server: PancakeServer, process: subprocess.Popen[str]) -> None:
    """Wait until the tap has made calls and makes no more for a while."""
    before, since = 0, time.monotonic()
    while before == 0 or time.monotonic() - since < 3:
        time.sleep(0.1)
        assert process.poll() is None, "the tap ended instead of waiting"
        if server.count() != before:
            before, since = server.count(), time.monotonic()


def test_a_run_interrupted_before_any_page_keeps_the_state_it_was_given(tmp_path: Path) -> None:
    with PancakeServer(inbox(5, (5, 5))) as server:
        state = sync(tmp_path, config_for(server)).state
        server.faults.append(Fault("hang", endpoint="pages", times=1))
        history = resume_until_done(
            tmp_path, server, signal.SIGTERM, [1], state=state
        )  # fmt: skip
        bookmarks = history.runs[0].state["bookmarks"]
        assert {name: bookmarks[name] for name in ("conversations", "messages")} == {
            name: state["bookmarks"][name] for name in ("conversations", "messages")
        }


# Signals again and again.


def test_repeated_signals_in_the_lookback_of_an_incremental_run_make_progress(
    tmp_path: Path,
) -> None:
    """300 conversations of the last hours, and a signal after every 25 calls."""
    now = datetime.now(UTC)
    account = Account(9)
    page = account.add_page()
    page.fill(60, (1, 20), *YEAR)
    show_the_order(page)
    with PancakeServer(account) as server:
        state = sync(tmp_path, config_for(server)).state
        for number in range(220):
            # Each goes on while others begin, which shows by which time the list filters.
            at = now - timedelta(minutes=40 + number * 3)
            talk = page.add_conversation(at=at - timedelta(minutes=10))
            page.receive(talk.id, at=at)
        # The first run ended an hour ago, so to say: all of the above came since then, or before
        # it and less than a day ago, so that it lies in the lookback of conversations.
        partitions = state["bookmarks"]["messages"]["partitions"]
        partitions[0]["replication_key_value"] = times.text(now - timedelta(hours=12))
        undisturbed = sync(tmp_path, config_for(server), state=state)
        calls = server.count()
        assert len(undisturbed.by_key("messages")) == 2 * 220

        history = resume_until_done(tmp_path, server, signal.SIGTERM, [40] * 9, state=state)
        assert history.runs[-1].returncode == 0
        assert_nothing_finished_was_read_again(history)
        written = {key for run in history.runs for key in run.by_key("messages")}
        assert written == undisturbed.by_key("messages").keys()
        assert history.calls_made < calls * 2


def test_signals_while_customers_write_lose_nothing(tmp_path: Path) -> None:
    account = inbox(21, (40, 20))
    rng = random.Random(4)
    conversations = [
        (page, conversation_id) for page in account.pages for conversation_id in page.conversations
    ]

    def move() -> None:
        page, conversation_id = rng.choice(conversations)
        page.receive(conversation_id)

    with PancakeServer(account) as server:
        server.move_every(5, move)
        history = resume_until_done(tmp_path, server, signal.SIGTERM, [20, 9, 30, 17])
        server.movers.clear()
        last = sync(tmp_path, config_for(server), state=history.runs[-1].state)
        assert_complete(server, *history.runs, last)


# What is left in the end.


def test_the_final_state_holds_bookmarks_of_pages_and_nothing_else(tmp_path: Path) -> None:
    """Also after an interruption; and its size does not grow with conversations."""

    def final_state(conversations: int, moments: list[int]) -> Json:
        with PancakeServer(inbox(5, (conversations, conversations))) as server:
            directory = tmp_path / f"{conversations}"
            config = config_for(server, requests_per_second=100)  # or the run may end before it
            history = resume_until_done(directory, server, signal.SIGTERM, moments, config=config)
            assert len(history.runs) == len(moments) + 1
            return history.runs[-1].state

    small, large = side_by_side([lambda: final_state(8, []), lambda: final_state(80, [30, 60])])
    for state in (small, large):
        assert state.keys() == {"bookmarks"}
        bookmarks = dict(state["bookmarks"])
        assert bookmarks.pop("pages", {}) == {}
        assert bookmarks.keys() == {"conversations", "messages"}
        for bookmark in bookmarks.values():
            assert bookmark.keys() == {"partitions"}
            pages = sorted(partition["context"]["page_id"] for partition in bookmark["partitions"])
            assert pages == ["100000000000001", "100000000000002"]
            assert all(
                partition["context"].keys() == {"page_id"} for partition in bookmark["partitions"]
            )
            for partition in bookmark["partitions"]:
                # Nothing is open or aside; what was learnt about the list may be there.
                known = {"context", "replication_key", "replication_key_value", "floor"}
                learnt = {"late", "newest", "sorts", "filters", "whole"}
                assert known <= partition.keys() <= known | learnt
    # But for what was learnt, it is as long for a large inbox as for a small one.
    assert abs(len(json.dumps(large)) - len(json.dumps(small))) < 200  # of 2 pages in 2 streams


def test_a_second_signal_ends_a_run_whose_target_does_not_read(tmp_path: Path) -> None:
    """The first one waits for the line that is being written; after that nobody reads, it ends."""
    with PancakeServer(inbox(5, (200,))) as server:
        process = start_tap(tmp_path, config_for(server))
        calls = 0
        while not calls or calls != server.count():  # until the pipe is full, and all is at rest
            calls = server.count()
            time.sleep(1)
        assert calls < 200
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3.5)
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(ENDS_WITHIN) == EXIT_CODES[signal.SIGTERM]
        finally:
            process.kill()
            process.communicate()


# Kills, which began with the first test.


def test_a_backfill_killed_at_random_moments_loses_nothing_and_does_not_begin_again(
    killed: Killed,
) -> None:
    """That nothing is lost is asserted where the server still is, in `killed`."""
    undisturbed = killed.undisturbed.result()
    for history in [future.result() for future in killed.histories]:
        kills = len(history.runs) - 1
        assert kills in {1, 2}
        most = undisturbed.calls * CALLS_AT_MOST**kills
        assert history.calls_made <= most + kills * AHEAD_AT_MOST


def test_a_long_run_writes_a_state_every_five_seconds(
    killed: Killed,
) -> None:
    undisturbed = killed.undisturbed.result()
    moments = [at for at, line in undisturbed.lines if line.startswith('{"type":"STATE"')]
    first_record = next(at for at, line in undisturbed.lines if line.startswith('{"type":"RECORD"'))
    seconds = moments[-1] - first_record
    assert seconds > 3 * STATE_WITHIN, "the run was not long enough to tell"
    # In all: on a busy machine, a single one may be late.
    assert len(moments) >= seconds / STATE_WITHIN
