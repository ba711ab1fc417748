"""A server whose clock differs, and rows that appear after their own time: the lookbacks cover it.

Time moves by `time_machine`, for the tap and for the server, whose clock may be ahead or behind.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import DATED, OTHERS, assert_same, records, refuse_statistics
from tests.tap import KEYS, Run, full_config, run_here, select
from tests.truth import assert_all_arrived, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.pancake_api import Call, Page
    from tests.tap import Json

# Half an hour before midnight of the pages.
EVENING = datetime(2026, 3, 1, 16, 30, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=each) for each in (1, 60, 3600, 86_400))
LISTS = ("posts", "call_logs", "customers", "ad_conversations", "conversations")


def settings_of(server: PancakeServer, **settings: Any) -> Json:
    """The settings as they come, for all streams."""
    return full_config(server, start_date=(EVENING - 2 * DAY).isoformat(), **settings)


class Late:
    """What happens on a page, and can be seen only a while after its own time."""

    def __init__(self, page: Page, delay: timedelta) -> None:
        self.page, self.delay = page, delay
        self._random = random.Random(5)
        self._number = count()
        self._unseen: list[tuple[datetime, int, Callable[[], object]]] = []

    def happen(self) -> None:
        """Let something happen now."""
        at, number = self.page.account.now(), next(self._number)
        kind = self._random.choice((self.say, self.say, self.begin, self.list, self.count))
        heappush(self._unseen, (at + self.delay, number, lambda: kind(at)))

    def show(self, *, everything: bool = False) -> None:
        """Show what is due."""
        while self._unseen and (everything or self._unseen[0][0] <= self.page.account.now()):
            heappop(self._unseen)[2]()

    def say(self, at: datetime) -> None:
        """A message."""
        self.page.receive(self._random.choice(list(self.page.conversations)), at=at)

    def begin(self, at: datetime) -> None:
        """A conversation, and its customer."""
        self.page.add_conversation(at=at).ad_ids = ["400"]

    def list(self, at: datetime) -> None:
        """A row of each other list, and a change of an old one."""
        belongings = self.page.belongings
        belongings.add_post(at)
        belongings.add_call(at)
        belongings.add_customer(at, at)
        belongings.touch_customer(self._random.choice(list(belongings._added)), at)  # noqa: SLF001

    def count(self, at: datetime) -> None:
        """Numbers of the hour and the day."""
        correct(self.page, at, next(self._number))


def correct(page: Page, at: datetime, many: int) -> None:
    """Let numbers of an hour and of its day become others."""
    numbers, staff = page.statistics, page.staff[0].id
    hour = at.astimezone(numbers.zone).replace(tzinfo=None, minute=0, second=0, microsecond=0)
    numbers.correct("page_statistics", hour, page_inbox_count=many)
    numbers.correct("user_statistics", hour, staff, inbox_count=many)
    numbers.correct("tag_statistics", hour.date(), "1", total=many)
    numbers.correct("customer_engagements", hour.date(), total=many)
    numbers.correct("user_engagements", hour.date(), staff, inbox_count=many)
    numbers.correct("new_customer_statistics", hour.date(), new_customer_count=many)


@pytest.mark.parametrize("minutes", [-5, 0, 5])
@pytest.mark.parametrize("late", [0, 30])
def test_runs_every_ten_minutes_lose_nothing(minutes: int, late: int) -> None:
    """Rows appear before, between and during the runs, over the pages' midnight.

    Not for ever during a run: if each reading of the head finds more rows, the list is too fast.
    """
    account = Account(3)
    page = account.add_page(timezone=7)
    page.statistics.since, page.statistics.until = EVENING - DAY, EVENING + 2 * HOUR
    for hours in range(20, 30):
        page.add_conversation(at=EVENING - HOUR * hours).ad_ids = ["400"]
        page.belongings.add_customer(EVENING - HOUR * hours)
    account.clock = lambda: datetime.now(UTC) + minutes * MINUTE
    happenings = Late(page, late * SECOND)
    runs: list[Run] = []
    began = [0]
    """How many calls were made before each run."""
    with PancakeServer(account) as server, time_machine.travel(EVENING, tick=False) as now:

        def move(call: Call) -> None:
            with account.lock:
                now.shift(4)
                if call.number % 3 == 0 and call.number - began[-1] < 120:
                    happenings.happen()
                happenings.show()

        def run() -> None:
            state = runs[-1].state if runs else None
            began.append(server.count())
            runs.append(run_here(settings_of(server), catalog=select(*KEYS), state=state))
            assert runs[-1].returncode == 0, runs[-1].stderr

        server.on_call = move
        for number in range(7):
            now.move_to(EVENING + 10 * MINUTE * number)
            for _ in range(4):  # the last of these cannot be seen when the run begins
                now.shift(8)
                happenings.happen()
            run()
        assert server.count("messages") > 50
        server.on_call = None
        happenings.show(everything=True)
        now.move_to(EVENING + 7 * HOUR)  # when corrections of yesterday are read
        run()
        for stream in OTHERS:
            assert_same(merged(stream, *runs), records(server, stream))
        assert_all_arrived(server, *runs)


# How much is covered: what becomes visible right after a run.


@pytest.mark.parametrize("dialect", ["observed", "older"])
@pytest.mark.parametrize(
    ("behind", "late"), [(900, 0), (870, 30), (300, 600), (0, 900), (-300, 1200)]
)
def test_a_message_is_found_if_clock_and_delay_make_up_to_the_lookback_of_messages(
    behind: int, late: int, dialect: str
) -> None:
    account = Account(3)
    page = account.add_page(timezone=7)
    known = page.add_conversation(at=EVENING - 2 * HOUR)
    page.receive(known.id, at=EVENING - MINUTE)
    account.clock = lambda: datetime.now(UTC) - behind * SECOND
    with PancakeServer(account, dialect) as server, time_machine.travel(EVENING, tick=False):
        first = run_here(settings_of(server))
        top = datetime.fromisoformat(first.bookmark("messages", page.id) or "")
        # The server's time, or the machine's if that is earlier, when the head was asked for.
        earlier = min(EVENING, account.now())
        assert earlier - 2 * SECOND < top <= earlier - SECOND
        message = page.receive(known.id, at=account.now() - late * SECOND)
        assert message.inserted_at == EVENING - 15 * MINUTE
        second = run_here(settings_of(server), state=first.state)
        assert [row["id"] for row in second.records["messages"]].count(message.id) == 1
        assert_all_arrived(server, first, second)


@pytest.mark.parametrize("minutes", [15, 60])
def test_a_conversation_that_moves_to_where_the_backfill_has_been_keeps_its_older_messages(
    minutes: int,
) -> None:
    """The newest rows are seen first, and written last: meanwhile one moves in among them."""
    account = Account(3)
    page = account.add_page(timezone=7)
    began = [page.add_conversation(at=EVENING - MINUTE * number) for number in range(200, 0, -1)]
    behind = minutes * MINUTE - SECOND
    with PancakeServer(account) as server, time_machine.travel(EVENING, tick=False):

        def move(call: Call) -> None:
            if call.endpoint == "conversations" and server.count("conversations") == 2:
                moved.append(page.receive(began[0].id, at=EVENING - behind))

        moved: list[object] = []
        server.on_call = move
        config = settings_of(server, message_lookback_minutes=minutes)
        runs = [run_here(config)]
        assert moved
        runs.append(run_here(config, state=runs[0].state))
        assert_all_arrived(server, *runs)


@pytest.mark.parametrize("behind", [300, 0, -300])
def test_a_row_is_found_if_its_delay_is_within_the_lookback_in_days(behind: int) -> None:
    """From when the last run asked for the head, by the earlier of the two clocks."""
    account = Account(3)
    page = account.add_page(timezone=7)
    account.clock = lambda: datetime.now(UTC) - behind * SECOND
    oldest = min(EVENING, EVENING - behind * SECOND) - DAY

    def add(at: datetime) -> None:
        page.add_conversation(at=at).ad_ids = ["400"]
        page.belongings.add_post(at)
        page.belongings.add_call(at)
        page.belongings.add_customer(at, at)

    for at in (oldest + HOUR, EVENING - 2 * HOUR, EVENING - HOUR):
        add(at)
    with PancakeServer(account) as server, time_machine.travel(EVENING, tick=False):
        config, catalog = settings_of(server), select(*LISTS)
        first = run_here(config, catalog=catalog)
        assert first.returncode == 0, first.stderr
        for stream in LISTS:
            top = datetime.fromisoformat(first.bookmark(stream, page.id) or "")
            assert timedelta(0) <= oldest + DAY - top < 3 * SECOND
        add(oldest)
        second = run_here(config, catalog=catalog, state=first.state)
        assert second.returncode == 0, second.stderr
        for stream in LISTS[:-1]:
            assert_same(merged(stream, first, second), records(server, stream))
        held = page.expected_conversations()
        assert len(held) == 4
        assert merged("conversations", first, second).keys() == held.keys()


@pytest.mark.parametrize("behind", [300, 0, -300])
@pytest.mark.parametrize("minute", [2, 58])
def test_numbers_are_found_if_they_change_within_the_lookback_of_statistics(
    behind: int, minute: int
) -> None:
    """Around midnight, which it may be already, or not yet, for the server."""
    account = Account(3)
    page = account.add_page(timezone=7)
    now = EVENING.replace(hour=16 if minute == 58 else 17, minute=minute)
    numbers = page.statistics
    numbers.since, numbers.until = now - 5 * DAY, now + HOUR
    account.clock = lambda: datetime.now(UTC) - behind * SECOND
    with PancakeServer(account) as server, time_machine.travel(now, tick=False) as clock:
        config = settings_of(server) | {"start_date": (now - 5 * DAY).isoformat()}
        first = run_here(config, catalog=select(*DATED))
        # The running hour and day, the one of the server, and those of three days ago.
        for at in (now, now - HOUR, now - 3 * DAY):
            correct(page, at, 1000)
        clock.shift(6 * HOUR)
        second = run_here(config, catalog=select(*DATED), state=first.state)
        for stream in DATED:
            assert_same(merged(stream, first, second), records(server, stream))


def counted() -> Account:
    """Pages with numbers of the days before `EVENING`."""
    account = Account(3)
    account.clock = lambda: datetime.now(UTC)
    for zone in (7, 5.5):
        page = account.add_page(timezone=zone)
        page.statistics.since, page.statistics.until = EVENING - 4 * DAY, EVENING
    return account


def days_of(run: Run, stream: str, page: Page) -> set[str]:
    """The days of a page, in its own time, of which a run wrote numbers."""
    rows = run.records.get(stream, [])
    return {(row.get("hour") or row["date"])[:10] for row in rows if row["page_id"] == page.id}


def test_what_is_corrected_today_comes_with_each_run_and_yesterday_after_six_hours() -> None:
    account = counted()
    noon = EVENING - 11 * HOUR
    streams = [stream for stream in DATED if stream != "multi_page_user_statistics"]
    with PancakeServer(account) as server, time_machine.travel(noon, tick=False) as clock:
        config = settings_of(server) | {"start_date": (EVENING - 4 * DAY).isoformat()}
        runs = [run_here(config, catalog=select(*streams))]
        page = account.pages[0]
        for many, at in enumerate((noon, noon - DAY, noon - 2 * DAY), 1000):
            correct(page, at, many)
        for hours, refuses in ((1, False), (5, True), (1, False), (1, False)):
            clock.shift(hours * HOUR)
            refuse_statistics(server, lambda _, no=refuses: no)  # type: ignore[misc]
            state = runs[-1].state
            runs.append(run_here(config, catalog=select(*streams), state=state))
            # A run that could read nothing does not count.
            assert runs[-1].returncode == refuses
            assert not refuses or runs[-1].state == state
        today, some_days = {"2026-03-01"}, {f"2026-{day}" for day in ("02-27", "02-28", "03-01")}
        for stream in streams:
            asked = [days_of(run, stream, page) for run in runs[1:]]
            assert asked[0] == asked[3] == today, stream
            assert not asked[1], stream
            assert asked[2] >= some_days, stream
            assert_same(merged(stream, *runs), records(server, stream))


def test_hourly_runs_of_a_day_end_with_the_numbers_of_the_server() -> None:
    account = counted()
    runs: list[Run] = []
    with PancakeServer(account) as server, time_machine.travel(EVENING, tick=False) as clock:
        config = settings_of(server) | {"start_date": (EVENING - 4 * DAY).isoformat()}
        for hours in range(31):
            now = EVENING + hours * HOUR
            clock.move_to(now)
            if hours != 30:  # the last run is the one that finds what is still missing
                for page in account.pages:
                    page.statistics.until = now
                    for back in (0, 1, 5 + hours, 70 - hours):
                        correct(page, now - back * HOUR, 1000 * hours + back)
            state = runs[-1].state if runs else None
            runs.append(run_here(config, catalog=select(*DATED), state=state))
            assert runs[-1].returncode == 0, runs[-1].stderr
            for page in account.pages:
                today = now.astimezone(page.statistics.zone).date().isoformat()
                for stream in ("page_statistics", "customer_engagements"):
                    held = records(server, stream).items()
                    came = runs[-1].by_key(stream).items()
                    assert came <= held
                    running = [
                        one for one in held if one[0][:1] == (page.id,) and today in str(one[0])
                    ]
                    assert all(one in came for one in running)
        for stream in DATED:
            assert_same(merged(stream, *runs), records(server, stream))
