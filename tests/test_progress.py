"""A run tells how far it is, sums up what it did, and is quiet otherwise."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from tap_pancake.api.limits import Limits
from tap_pancake.running import progress as progress_module
from tap_pancake.running.account import Case, RunAccount, Status
from tap_pancake.running.progress import Progress
from tests.accounts import AROUND_MAY, MAY
from tests.pancake_api import Account, Call, Fault, PancakeServer
from tests.tap import (
    INBOX,
    KEYS,
    NO_CATALOG,
    Run,
    config_for,
    finish,
    full_config,
    hurried,
    log_lines,
    number,
    patched,
    run_tap,
    select,
    start_tap,
    sync,
)
from tests.truth import assert_complete

if TYPE_CHECKING:
    from pathlib import Path

STREAM = re.compile(r"(\w+): ([\d,]+) rows?, ([\d,]+) calls?, ([\d,]+) retr(?:y|ies), [\d.]+ s")
LINE = re.compile(
    r"(\d+) of (\d+) pages? done(?: \([\d,]+ failed\))?, (\d+) under way; "
    r"([\d,]+) conversations?, ([\d,]+) messages?, [\d,]+ other rows?; "
    r"([\d.]+) calls/s of at most ([\d.]+); (\d+) answers? 429(.*)"
)
MINUTES = """
import itertools
from singer_sdk import metrics
metrics.time = itertools.count(0, 100).__next__
"""
OFTEN = "from tap_pancake.running import progress\nprogress.INTERVAL = 0.3\n"


def quiet(run: Run) -> dict[str, int]:
    """Return the calls of the streams without rows."""
    lines = [line for line in log_lines(run, "INFO") if line.startswith("No rows: ")]
    found = re.findall(r"(\w+) \((\d+) calls?\)", " ".join(lines))
    return {stream: int(calls) for stream, calls in found}


def summary(run: Run) -> dict[str, tuple[int, int, int]]:
    """Return the rows, calls and retries of each stream, as the run's last lines have them."""
    found = [STREAM.fullmatch(line) for line in log_lines(run, "INFO")]
    return {one[1]: (number(one[2]), number(one[3]), number(one[4])) for one in found if one}


def test_an_hourly_run_that_finds_nothing_says_little(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=91, pages=3, conversations=10, **MAY)) as server:
        first = sync(tmp_path, full_config(server, **AROUND_MAY), catalog=NO_CATALOG)
        second = sync(
            tmp_path, full_config(server, **AROUND_MAY), catalog=NO_CATALOG, state=first.state
        )
    assert len(second.stderr.splitlines()) < 20, second.stderr
    assert len(first.stderr.splitlines()) < 25, first.stderr


def test_the_summary_has_what_was_written_and_asked(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=92, pages=3, conversations=20, **MAY)) as server:
        server.faults = [
            Fault("500", endpoint="messages", at=[3, 9]),
            Fault("429", endpoint="conversations", at=[1]),
        ]
        run = sync(
            tmp_path,
            full_config(server, **AROUND_MAY),
            catalog=select(*KEYS),
            env=hurried(tmp_path),
        )
        calls = {stream: server.count(stream) for stream in INBOX}  # type: ignore[arg-type]
        total = server.count()
    counts = summary(run)
    assert {stream: rows for stream, (rows, _, _) in counts.items()} == {
        stream: len(rows) for stream, rows in run.records.items()
    }
    assert {stream: counts[stream][1] for stream in INBOX} == calls
    assert sum(made for _, made, _ in counts.values()) + sum(quiet(run).values()) == total
    assert {stream: again for stream, (_, _, again) in counts.items() if again} == {
        "messages": 2,
        "conversations": 1,
    }
    last = log_lines(run, "INFO")[-1]
    assert re.match(r"3 of 3 pages done in [\d.]+ s: ", last)
    rows = sum(map(len, run.records.values()))
    assert last.endswith(f": {rows:,} rows, {total:,} calls, 1 answer 429")


def test_the_summary_names_what_failed_and_what_was_skipped_once_for_each_reason(
    tmp_path: Path,
) -> None:
    with PancakeServer(Account.generate(seed=93, pages=8, conversations=2, **MAY)) as server:
        pages = server.account.pages[:8]
        for page in pages[:7]:
            page.refused["tags"] = 403
        server.faults = [Fault("error:100", endpoint="users", page_id=pages[7].id)]
        run = run_tap(tmp_path, full_config(server, **AROUND_MAY), catalog=select("tags", "users"))
    assert run.returncode == 1
    lines = log_lines(run, "INFO")
    (skipped,) = (line for line in lines if line.startswith("Skipped: "))
    (failed,) = (line for line in lines if line.startswith("Failed: "))
    assert len(re.findall(r"page \w+, tags", skipped)) == 5
    assert " and 2 more: permission was denied: ask an administrator" in skipped
    assert f"page {pages[7].id}, users: the API refused" in failed


@pytest.mark.parametrize("pages", [1, 3])
def test_a_long_run_tells_how_far_it_is(tmp_path: Path, pages: int) -> None:
    account = Account.generate(seed=94, pages=pages, conversations=130, messages=(1, 3))
    with PancakeServer(account, latency=0.02) as server:
        config = config_for(server, max_parallel_pages=2, requests_per_second=60)
        run = sync(tmp_path, config, env=patched(tmp_path / "env", OFTEN))
    found = [line for text in log_lines(run, "INFO") if (line := LINE.fullmatch(text))]
    assert len(found) > 3
    assert {line[2] for line in found} == {str(pages)}
    assert {int(line[3]) for line in found} <= {0, 1, 2}
    for group in (1, 4, 5):
        counts = [number(line[group]) for line in found]
        assert counts == sorted(counts)
        assert group == 1 or counts[0] < counts[-1] <= 130 * 3 * pages
    for line in found:
        assert 0 < float(line[7]) <= 60 * min(pages, 2)
    assert max(float(line[6]) for line in found) > 20
    slow = [line[9] for line in found if line[9]]
    assert re.fullmatch(r"(; page \w+ has read back to 202\d-\d\d-\d\d)+", slow[-1])
    named = set(re.findall(r"page (\w+)", " ".join(slow)))
    assert named <= {page.id for page in account.pages[:pages]}


def test_a_page_that_is_slowed_is_named_with_its_pace(tmp_path: Path) -> None:
    account = Account.generate(seed=97, pages=2, conversations=25, messages=(1, 3))
    with PancakeServer(account, rate=2) as server:
        config = config_for(server, requests_per_second=4.95)
        run = sync(tmp_path, config, env=patched(tmp_path / "env", OFTEN))
        assert_complete(server, run)
    lines = [line for text in log_lines(run, "INFO") if (line := LINE.fullmatch(text))]
    both = [line for line in lines if line[3] == "2" and line[9].count(" is slowed to ") == 2]
    named = {name for line in both for name in re.findall(r"page (\w+) is slowed", line[9])}
    assert named == {page.id for page in account.pages[:2]}
    for line in both:
        paces = [float(pace) for pace in re.findall(r" is slowed to ([\d.]+) calls/s", line[9])]
        assert float(line[7]) == pytest.approx(sum(paces), abs=0.2)
        assert paces == sorted(paces)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of `progress`."""
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_only_a_few_slowed_pages_are_named(clock: Clock) -> None:
    limits = Limits(5)
    progress = Progress(limits, RunAccount(), lambda _: 0.0)
    for page in "123456":
        progress.begin(page)
        limiter = limits.of(page)
        limiter.refused(limiter.wait())
    clock.now = 10
    assert progress._line(10).endswith(  # noqa: SLF001
        "0.0 calls/s of at most 15.0; 0 answers 429; page 1 is slowed to 2.5 calls/s; page 2 is"
        " slowed to 2.5 calls/s; page 3 is slowed to 2.5 calls/s; 3 more pages are slowed"
    )


def test_a_page_that_ended_counts_in_the_highest_rate_for_its_time(clock: Clock) -> None:
    progress = Progress(Limits(5), RunAccount(), lambda _: 0.0)
    progress.begin("1")
    progress.begin("2")
    clock.now = 5
    progress.end("1")
    clock.now = 10
    assert " of at most 7.5; " in progress._line(10)  # noqa: SLF001
    clock.now = 20
    assert " of at most 5.0; " in progress._line(10)  # noqa: SLF001


def test_a_call_that_is_refused_does_not_wait_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "_LONG_WAIT", 0)
    progress = Progress(Limits(5), RunAccount(), lambda _: 0.0)
    progress.expect(1)
    with progress.waiting("page 1, tags"):
        progress.refused()
        progress.refused()
        line = progress._line(10)  # noqa: SLF001
    assert line.endswith("; refused 2 times with HTTP 429: page 1, tags, 0 s so far")


def test_a_page_that_failed_is_not_done() -> None:
    account = RunAccount()
    progress = Progress(Limits(5), account, lambda _: 0.0)
    progress.expect(3)
    for page in "123":
        progress.begin(page)
        if page != "2":
            account.note(Case.FAILED, f"page {page}, tags: gone", "tags", page)
    progress.end("1")
    progress.end("2")
    account.missing("4", None, Status.FAILED, "page 4 of `page_ids` is not in this account")
    line = progress._line(10)  # noqa: SLF001
    assert line.startswith("1 of 4 pages done (2 failed), 1 under way; ")


def test_a_stream_that_had_nothing_to_read_is_named(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=98, pages=1, conversations=3)) as server:
        first = sync(tmp_path, config_for(server))
        second = sync(tmp_path, config_for(server), state=first.state)
    assert quiet(second)["messages"] == 0


@pytest.mark.parametrize("start", [None, "2026-01-01T00:00:00.000000Z"])
def test_the_pages_that_are_furthest_behind_are_named(
    monkeypatch: pytest.MonkeyPatch, start: str | None
) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL", 0)
    progress = Progress(Limits(5), RunAccount(), lambda _: 0.0)
    for page in "12345":
        progress.begin(page)
        progress.reached(page, f"2026-0{page}-20T00:00:00.000000Z", start)
    named = re.findall(r"page (\d) has read back to", progress._line(10))  # noqa: SLF001
    assert named == ["5", "4", "3"]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_metrics_of_the_sdk_are_details(tmp_path: Path, level: str) -> None:
    with PancakeServer(Account.generate(seed=95, pages=1, conversations=2)) as server:
        env = patched(tmp_path / "env", MINUTES) | {"LOGLEVEL": level}
        run = sync(tmp_path, config_for(server), env=env)
    assert ("METRIC" in run.stderr) == (level == "DEBUG")
    assert ("Added 'tags' as child stream" in run.stderr) == (level == "DEBUG")


def test_a_run_that_is_interrupted_sums_up_too(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=96, pages=1, conversations=30)) as server:
        server.faults = [Fault("hang", endpoint="messages", at=[9])]
        process = start_tap(tmp_path, config_for(server))

        def interrupt(_: Call) -> None:
            if server.count("messages") == 9:
                threading.Timer(1, process.terminate).start()

        server.on_call = interrupt
        run = finish(process)
    assert run.returncode == 143
    assert summary(run)["messages"][0] == len(run.records["messages"])
    assert log_lines(run, "INFO")[-1].startswith("0 of 1 page done in ")
