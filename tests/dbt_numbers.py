"""The numbers of the models, compared with what plain Python counts from what the server holds."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tap_pancake.running.account import ACCOUNT
from tests.pancake_api import Account, Fault, PancakeServer
from tests.shop_counts import DATED, DAY, HOUR, MODELS, Counted, Hours
from tests.stream_truth import OTHERS, asks_for_day, records, refuse_statistics, utc
from tests.tap import (
    ALL_KEYS,
    config_for,
    finish,
    full_config,
    hours_later,
    run_tap,
    select,
    start_tap,
    sync,
)
from tests.targets import load_jsonl, load_postgres
from tests.transform import TRANSFORM, in_duckdb, in_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Conversation, Page
    from tests.shop_counts import Rows
    from tests.tap import Json, Run
    from tests.transform import Project

ENGINES = ("duckdb", "postgres")
BEGINS, START = utc(2026, 3, 1), utc(2026, 3, 9)
LAST = utc(2026, 5, 6, 3, 30)
AS_OF = utc(2026, 5, 6, 9, 47)
ZONES = (7, 5.5, -9.5, 7)
WEEK = [(480, 720), (810, 1080)]
"""Minutes of a day with a break at noon."""
EVERY_PAGE = Hours(date(2026, 1, 1), dict.fromkeys(range(1, 7), WEEK))
FROM_APRIL = Hours(date(2026, 4, 1), {day: [(540, 1260)] for day in range(1, 6)})
NIGHTS = Hours(date(2026, 1, 1), {day: [(0, 120), (1320, 1440)] for day in range(1, 8)})
HOLIDAYS = {"*": {date(2026, 4, 30), date(2026, 5, 1)}, "second": {date(2026, 4, 13)}}


@dataclass
class Shop:
    """An account that was read and loaded once, and what Python counts of it."""

    account: Account
    pages: dict[str, Counted]
    files: Path
    database: str
    sources: Path
    runs: list[Json]


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


def account_with_all_cases() -> Account:
    """Return an account with what is invented, and with each case that the rules name."""
    account = Account.generate(
        seed=23, pages=4, conversations=22, messages=(1, 22), start=BEGINS, end=LAST
    )
    for page, hours in zip(account.pages[:4], ZONES, strict=True):
        page.timezone = hours
        page.statistics.since, page.statistics.until = utc(2026, 4, 20), LAST
        for number, talk in enumerate(list(page.conversations.values())[::4]):
            if talk.type == "INBOX" and not talk.ad_ids:
                talk.ad_ids = [f"4{page.number:05d}{number % 3:09d}"]
        inboxes = list(page.inboxes.values())
        # One customer with several conversations.
        inboxes[1].customers = inboxes[0].customers
        page.tag(inboxes[2].id, 1, utc(2026, 4, 1, 3))
        page.tag(inboxes[2].id, 1, utc(2026, 4, 9, 3), action="remove")
        page.belongings.add_customer(utc(2026, 4, 2, 5))
        answered_twice(page)
        messages_outside_work_hours(page)
        long_forgotten(page)
        of_comments(page)
        rated(page)
    return account


def answered_twice(page: Page) -> None:
    """Two answers in a row, automation between, and thanks after that."""
    at = utc(2026, 4, 7, 4)
    talk = page.add_conversation(at=at, text="Bao nhiêu tiền?")
    page.receive(talk.id, at=at + minutes(1), sender="flow")
    page.receive(talk.id, at=at + minutes(7), sender="staff")
    page.receive(talk.id, at=at + minutes(9), sender="order form")
    page.receive(talk.id, at=at + minutes(12), text="Dạ em cảm ơn shop ạ ❤️")
    page.receive(talk.id, at=at + minutes(13), text="❤️❤️")
    page.receive(talk.id, at=at + minutes(90), text="ok còn màu khác không?")
    page.receive(talk.id, at=at + minutes(90), sender="outside")
    page.receive(talk.id, at=at + minutes(200), text="Số 0900000123 nhé")
    page.receive(talk.id, at=at + minutes(215), sender="outside")


def messages_outside_work_hours(page: Page) -> None:
    """At night, on a Sunday, on a holiday; and until now."""
    for at in (utc(2026, 3, 21, 16), utc(2026, 4, 5, 3), utc(2026, 4, 29, 15), utc(2026, 4, 13, 1)):
        talk = page.add_conversation(at=at, text="Shop còn hàng không?")
        page.receive(talk.id, at=at + timedelta(hours=20, minutes=17), sender="staff")
        page.receive(talk.id, at=at + timedelta(hours=60), text="Alo?")
        page.receive(talk.id, at=at + timedelta(hours=67, seconds=7), sender="staff")
    for hours in (3, 20, 70, 150, 400):
        page.add_conversation(at=LAST - timedelta(hours=hours), text="Có ai không?")


def long_forgotten(page: Page) -> None:
    """A wait that expires, with later messages; and one that the start date cuts off."""
    talk = page.add_conversation(at=utc(2026, 3, 12, 2), text="Còn không?")
    page.receive(talk.id, at=utc(2026, 3, 20, 2), text="Còn không ạ?")
    page.receive(talk.id, at=utc(2026, 4, 20, 2), text="Vẫn còn không?")
    page.receive(talk.id, at=utc(2026, 4, 20, 5), sender="staff")
    late = page.add_conversation(at=utc(2026, 3, 14, 2), text="Còn không?")
    page.receive(late.id, at=utc(2026, 4, 16, 2), sender="staff")
    cut = page.add_conversation(at=START - timedelta(hours=5), text="Còn không?")
    page.receive(cut.id, at=START + timedelta(hours=1), text="Trả lời đi chứ?")
    page.receive(cut.id, at=START + timedelta(hours=2), sender="staff")
    page.receive(cut.id, at=START + timedelta(hours=3), text="Bao nhiêu?")
    page.receive(cut.id, at=START + timedelta(hours=4), sender="staff")


def of_comments(page: Page) -> None:
    """Comments that are hidden, removed, replied to in private, and of other people."""
    if "COMMENT" not in page.channel.types:
        return
    at = utc(2026, 4, 21, 3)
    other = {"id": "777", "name": "Somebody Else"}

    def comment(hours: int) -> Conversation:
        return page.add_conversation("COMMENT", at=at + timedelta(hours=hours), text="Giá?")

    for hours, name in ((0, "is_hidden"), (1, "is_removed")):
        setattr(comment(hours).messages[0], name, True)
    hidden = comment(2)
    page.receive(hidden.id, at=at + timedelta(hours=3), text="Giá bao nhiêu?")
    hidden.messages[0].is_hidden = True
    crowd = comment(4)
    page.receive(crowd.id, at=at + timedelta(hours=5), text="Mình cũng hỏi?", sender=other)
    page.receive(crowd.id, at=at + timedelta(hours=6), sender="staff")
    page.receive(crowd.id, at=at + timedelta(hours=7), text="Còn tôi?", sender=other)
    private, thread = comment(8), page.add_conversation(at=utc(2026, 4, 10, 3), text="Alo?")
    private.messages[0].private_reply_to = thread.id
    page.receive(thread.id, at=at + timedelta(hours=9, minutes=5), sender="staff")
    unread = comment(10)
    unread.messages[0].private_reply_to = f"{page.id}_nowhere"
    # The same customer wrote in private, too.
    private.customers = thread.customers


def rated(page: Page) -> None:
    """Ratings of conversations that were read."""
    for talk in list(page.conversations.values())[:6]:
        row = page.feedbacks.add(talk.updated_at + timedelta(minutes=3))
        row["conversation_id"] = talk.id
        row["inserted_at"] = max(row["inserted_at"], utc(2026, 4, 20, 12))


def hours_of(page: Page, pages: list[Page]) -> list[Hours]:
    return [NIGHTS] if page is pages[2] else [EVERY_PAGE, FROM_APRIL]


def holidays_of(page: Page, pages: list[Page]) -> set[date]:
    return HOLIDAYS["*"] | (HOLIDAYS["second"] if page is pages[1] else set())


def with_seeds(directory: Path, pages: list[Page]) -> Path:
    """Copy the project, with the hours and holidays of these pages."""
    sources = directory / "transform"
    shutil.copytree(TRANSFORM, sources)
    lines = ["page_id,weekday,opens_at,closes_at,valid_from"]
    for page_id, hours in (("*", EVERY_PAGE), ("*", FROM_APRIL), (pages[2].id, NIGHTS)):
        for weekday, intervals in hours.week.items():
            for low, high in intervals:
                clock = [f"{one // 60:02}:{one % 60:02}" for one in (low, high)]
                lines.append(f"{page_id},{weekday},{clock[0]},{clock[1]},{hours.valid_from}")
    days = [("*", day) for day in sorted(HOLIDAYS["*"])]
    days += [(pages[1].id, day) for day in HOLIDAYS["second"]]
    closed = ["page_id,date_day,name", *(f"{page},{day},closed" for page, day in days)]
    for name, rows in (("working_hours", lines), ("holidays", closed)):
        path = sources / "seeds" / f"pancake__{name}.csv"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return sources


@pytest.fixture(name="shop", scope="module")
def loaded_shop(tmp_path_factory: pytest.TempPathFactory, database: str) -> Shop:
    """Read an account once, from a start date that cuts off earlier messages."""
    directory = tmp_path_factory.mktemp("shop")
    account = account_with_all_cases()
    pages = account.pages[:4]
    with PancakeServer(account) as server:
        config = full_config(
            server, start_date=f"{START:%Y-%m-%dT%H:%M:%SZ}", end_date=f"{LAST:%Y-%m-%dT%H:%M:%SZ}"
        )
        run = sync(directory, config, catalog=select(*ALL_KEYS))
        load_jsonl(directory, directory / "files", run.stdout)
        load_postgres(directory, database, run.stdout)
        truth = {stream: list(records(server, stream).values()) for stream in OTHERS}
    counted = {
        page.id: Counted(
            page,
            start=START,
            end=LAST,
            as_of=AS_OF,
            hours=hours_of(page, pages),
            holidays=holidays_of(page, pages),
            truth=truth,
        )
        for page in pages
    }
    sources = with_seeds(directory, pages)
    runs = run.records["sync_runs"]
    return Shop(account, counted, directory / "files", database, sources, runs)


@pytest.fixture(name="builds", scope="module")
def built_projects(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Build all of the project in both engines."""
    known = {
        "pancake__as_of": f"{AS_OF:%Y-%m-%d %H:%M:%S}",
        "pancake__start_date": f"{START:%Y-%m-%d %H:%M:%S}",
    }
    builds = {
        "duckdb": in_duckdb(tmp_path_factory.mktemp("duckdb"), shop.files, **known),
        "postgres": in_postgres(
            tmp_path_factory.mktemp("postgres"), shop.database, "numbers", **known
        ),
    }
    for project in builds.values():
        project.sources = shop.sources
        project.dbt("build", "--exclude", "test_type:unit")
    return builds


@pytest.fixture(name="project", params=ENGINES)
def each_engine(request: pytest.FixtureRequest, builds: dict[str, Project]) -> Project:
    return builds[request.param]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_holds_what_python_counts(project: Project, shop: Shop, model: str) -> None:
    counted: Rows = {}
    for page in shop.pages.values():
        rows = getattr(page, model)()
        for key, row in rows.items() if model in DATED else ():
            row["is_complete"] = page.is_complete(model, key)
            if model == "staff_daily":
                row["is_pancake_complete"] = page.is_counted(key[2])
        counted |= rows
    if model in DATED:
        assert {row["is_complete"] for row in counted.values()} == {True, False}
    assert_holds(project.rows(f"pancake__{model}"), MODELS[model], counted)


def assert_holds(rows: list[Json], key: tuple[str, ...], counted: Rows) -> None:
    """Assert that a table has these rows, with at least these columns."""
    found = {tuple(plain(row[name]) for name in key): row for row in rows}
    expected = {tuple(map(plain, each)): row for each, row in counted.items()}
    assert len(found) == len(rows)
    assert expected
    assert found.keys() == expected.keys()
    wrong = [
        (each, name, found[each][name], value)
        for each, row in expected.items()
        for name, value in row.items()
        if not is_same(found[each][name], value)
    ]
    assert not wrong, (len(wrong), wrong[:8])


def plain(value: Any) -> Any:
    """Return a value without a time zone: times are in UTC, or of the page."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return float(value) if isinstance(value, Decimal) else value


def is_same(cell: Any, value: Any) -> bool:
    cell, value = plain(cell), plain(value)
    if isinstance(value, float) and cell is not None:
        return bool(float(cell) == pytest.approx(value, abs=2e-4, rel=1e-9))
    return bool(cell == value)


def test_the_health_of_each_page_is_what_its_run_says(project: Project, shop: Shop) -> None:
    rows = {row["page_id"]: row for row in project.rows("pancake__sync_health")}
    reported = {row["page_id"]: row for row in shop.runs if row["page_id"] != ACCOUNT}
    assert rows.keys() == reported.keys() == shop.pages.keys()
    for page_id, row in rows.items():
        ended = plain(datetime.fromisoformat(reported[page_id]["ended_at"]))
        assert {name: row[name] for name in HEALTHY} == HEALTHY
        assert (row["last_run_at"], row["last_complete_at"]) == (ended, ended)
        assert row["inbox_read_to_local"] == shop.pages[page_id].local(LAST)


HEALTHY = {
    "status": "complete",
    "reason": None,
    "worst_stream": None,
    "skipped_stream_count": 0,
    "incomplete_stream_count": 0,
    "open_count": 0,
    "set_aside_count": 0,
    # Before the run, which is no case of a clock that goes on.
    "as_of": plain(AS_OF),
    "is_stale": False,
}


# What was not read


MAY = utc(2026, 5, 1)
MIDDLE, END = utc(2026, 5, 7, 5), utc(2026, 5, 13)
INBOX = ("pages", "conversations", "messages", "sync_runs")


class Reading:
    """Two pages that are read in several runs, and what was loaded of them."""

    def __init__(self, directory: Path) -> None:
        """Begin with an inbox of twelve days."""
        self.directory = directory
        self.files = directory / "files"
        self.account = Account.generate(
            seed=5, pages=2, conversations=14, messages=(3, 16), start=MAY, end=END
        )
        self.account.pages[1].timezone = -9.5
        self.server = PancakeServer(self.account)
        self.server.start()
        self.state: Json = {}

    def read(self, *, until: datetime | None = None, cut: tuple[int, Any] | None = None) -> Run:
        """Run the tap, and load what it wrote; it may be ended by a signal at a call."""
        settings = {"end_date": f"{until:%Y-%m-%dT%H:%M:%SZ}"} if until else {}
        config = config_for(self.server, start_date="2026-05-01", **settings)
        self.server.reset_calls()
        process = start_tap(self.directory, config, state=self.state, catalog=select(*INBOX))
        if cut is not None:
            call, signum = cut
            self.server.at(call, lambda: process.send_signal(signum))
        run = finish(process, timeout=100)
        load_jsonl(self.directory, self.files, run.stdout[: run.stdout.rindex("\n") + 1])
        self.state = run.state or self.state
        return run

    def let_all_be_tried_again(self) -> None:
        """Let nothing that is set aside wait: as if it were tried for the first time."""
        for part in self.state["bookmarks"]["messages"]["partitions"]:
            for entry in part.get("aside", []):
                entry[4] = entry[3]

    def complete_days(self) -> dict[str, set[date]]:
        """Build, and give the days of each page whose inbox is complete."""
        known = {"pancake__as_of": f"{END:%Y-%m-%d %H:%M:%S}", "pancake__start_date": "2026-05-01"}
        project = in_duckdb(self.directory / "dbt", self.files, **known)
        project.dbt("run", "--select", "+int_pancake__complete_days")
        rows = project.rows("int_pancake__complete_days")
        loaded = {row["message_id"] for row in project.rows("stg_pancake__messages")}
        found = {
            page.id: {
                row["date_day"]
                for row in rows
                if row["page_id"] == page.id and row["is_inbox_complete"]
            }
            for page in self.account.pages[:2]
        }
        # No message is missing where the models report none.
        for page in self.account.pages[:2]:
            for talk in page.conversations.values():
                for message in talk.messages:
                    day = self.day(page, message.inserted_at)
                    assert day not in found[page.id] or message.id in loaded
        return found

    def day(self, page: Page, at: datetime) -> date:
        return (at + timedelta(hours=page.timezone)).date()

    def days(self, low: datetime = MAY, high: datetime = END) -> dict[str, set[date]]:
        """Return the days of each page that are between two times."""
        return {page.id: self.days_of(page, low, high) for page in self.account.pages[:2]}

    def days_of(self, page: Page, low: datetime, high: datetime) -> set[date]:
        first = self.day(page, low - timedelta(microseconds=1)) + timedelta(days=1)
        return days_between(first, self.day(page, high) - timedelta(days=1))

    def touched(self, page: Page, low: datetime, high: datetime) -> set[date]:
        """Return the days of a page in which something of a stretch is."""
        return days_between(self.day(page, low), self.day(page, high))


def days_between(first: date, last: date) -> set[date]:
    return {first + timedelta(days=number) for number in range((last - first).days + 1)}


@pytest.fixture(name="reading")
def two_pages(tmp_path: Path) -> Iterator[Reading]:
    reading = Reading(tmp_path)
    yield reading
    reading.server.close()


def test_days_after_the_end_date_are_not_complete(reading: Reading) -> None:
    reading.read(until=MIDDLE)
    assert reading.complete_days() == reading.days(high=MIDDLE)
    reading.read()
    assert reading.complete_days() == reading.days()


def test_days_that_a_killed_run_was_to_read_are_not_complete(reading: Reading) -> None:
    reading.read(cut=(9, signal.SIGKILL))
    assert reading.complete_days() == {page.id: set() for page in reading.account.pages[:2]}
    reading.state = {}
    reading.read(until=MIDDLE)
    reading.read(cut=(9, signal.SIGKILL))
    assert reading.complete_days() == reading.days(high=MIDDLE)


def test_days_that_an_interrupted_run_left_open_are_not_complete(reading: Reading) -> None:
    reading.read(until=MIDDLE)
    run = reading.read(cut=(14, signal.SIGTERM))
    assert run.returncode == 143
    reported = {row["page_id"]: row["streams"] for row in run.records["sync_runs"]}
    expected = {}
    for page in reading.account.pages[:2]:
        streams = {row["name"]: row for row in reported[page.id]}
        tops = [as_time(streams[name]["top"]) for name in ("conversations", "messages")]
        expected[page.id] = reading.days_of(page, MAY, min(*tops, END))
        for name in ("conversations", "messages"):
            for part in streams[name]["open"]:
                low, high = as_time(part["from"] or f"{MAY:%Y-%m-%d}"), as_time(part["to"])
                expected[page.id] -= reading.touched(page, low, min(high, END))
    found = reading.complete_days()
    assert found == expected
    assert any(found[page.id] < reading.days()[page.id] for page in reading.account.pages[:2])
    reading.read()
    assert reading.complete_days() == reading.days()


def as_time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def test_days_of_a_page_that_fails_are_not_complete(reading: Reading) -> None:
    page = reading.account.pages[0]
    reading.read(until=MIDDLE)
    reading.server.faults.append(Fault("error:100", endpoint="conversations", page_id=page.id))
    assert reading.read().returncode == 1
    expected = reading.days() | {page.id: reading.days(high=MIDDLE)[page.id]}
    assert reading.complete_days() == expected


def test_days_of_a_conversation_that_is_set_aside_are_not_complete(reading: Reading) -> None:
    page, days = reading.account.pages[0], reading.days()
    talks = sorted(page.inboxes.values(), key=lambda talk: talk.inserted_at)
    old = next(
        talk for talk in talks if talk.inserted_at < MIDDLE - DAY and talk.updated_at < MIDDLE
    )
    fault = Fault("error:100", endpoint="messages", conversation_id=old.id)
    reading.server.faults.append(fault)
    reading.read(until=MIDDLE)
    aside = reading.touched(page, old.inserted_at, old.updated_at)
    expected = reading.days(high=MIDDLE)
    expected[page.id] -= aside
    assert reading.complete_days() == expected
    # It goes on, and another one fails that was read up to the end of the first run.
    page.receive(old.id, at=MIDDLE + DAY)
    late = next(talk for talk in talks if talk is not old and talk.updated_at < MIDDLE)
    page.receive(late.id, at=MIDDLE + 3 * DAY)
    reading.server.faults.append(Fault("error:100", endpoint="messages", conversation_id=late.id))
    reading.read()
    expected = dict(days)
    expected[page.id] = days[page.id] - reading.touched(page, old.inserted_at, old.updated_at)
    expected[page.id] -= reading.touched(page, MIDDLE, late.updated_at)
    assert reading.complete_days() == expected
    reading.server.faults.clear()
    reading.let_all_be_tried_again()
    reading.read()
    assert reading.complete_days() == days


def test_days_of_statistics_that_are_set_aside_are_not_complete(reading: Reading) -> None:
    bad = utc(2026, 5, 8, 5)
    streams = ("page_statistics", "ad_statistics")
    for page in reading.account.pages[:2]:
        page.statistics.since, page.statistics.until = MAY - DAY, END + DAY
    refuse_statistics(
        reading.server, lambda call: call.endpoint in streams and asks_for_day(call, bad)
    )
    config = config_for(
        reading.server,
        start_date="2026-05-01",
        end_date=f"{END:%Y-%m-%d}",
        statistics_window_days=1,
    )
    catalog = select("pages", *streams, "sync_runs")
    run = run_tap(reading.directory, config, catalog=catalog)
    assert run.returncode == 1
    load_jsonl(reading.directory, reading.files, run.stdout)
    project = in_duckdb(
        reading.directory / "dbt",
        reading.files,
        pancake__as_of=f"{END:%Y-%m-%d %H:%M:%S}",
        pancake__start_date="2026-05-01",
    )
    project.dbt("run", "--select", "+int_pancake__complete_days")
    rows = project.rows("int_pancake__complete_days")
    for stream in streams:
        held = records(reading.server, stream)
        missing = {
            (row["page_id"], date.fromisoformat((row.get("hour") or row["date"])[:10]))
            for key, row in held.items()
            if key not in run.by_key(stream)
        }
        for page in reading.account.pages[:2]:
            days = days_between(reading.day(page, MAY), reading.day(page, END) - DAY)
            aside = {day for owner, day in missing if owner == page.id} & days
            assert aside
            assert days - aside == {
                row["date_day"]
                for row in rows
                if row["page_id"] == page.id and row[f"is_{stream}_complete"]
            }


# Incremental runs


def test_incremental_builds_of_all_models_equal_a_full_refresh(
    tmp_path: Path, database: str
) -> None:
    """Of an inbox that moves on: late rows, other tags, a conversation that was set aside."""
    account = Account.generate(
        seed=11, pages=3, conversations=12, messages=(1, 16), start=MAY, end=END
    )
    for page, hours in zip(account.pages, ZONES, strict=False):
        page.statistics.since, page.statistics.until = END - 3 * DAY, END
        if hours < 0:
            page.timezone = hours
    page = account.pages[0]
    talks = sorted(page.inboxes.values(), key=lambda talk: talk.updated_at)
    aside, late, moved = talks[-3:]
    comment = page.add_conversation("COMMENT", at=account.now() - 2 * DAY, text="Giá?")
    private = page.add_conversation(at=account.now() - DAY, text="Alo?")
    comment.messages[0].private_reply_to = private.id
    state: Json = {}
    schema = "moving"
    with psycopg.connect(database) as connection:
        connection.execute("drop schema if exists pancake cascade")
    with PancakeServer(account) as server:
        config = full_config(server, start_date="2026-05-01")
        server.faults.append(Fault("error:100", endpoint="messages", conversation_id=aside.id))
        for step in range(3):
            if step == 1:
                server.faults.clear()
                answer = page.receive(late.id, sender="outside")
                page.tag(moved.id, 2)
            if step == 2:
                # It makes an automatic message of the answer, and comes into sight after it.
                page.receive(late.id, at=answer.inserted_at - timedelta(seconds=3))
                page.receive(moved.id, sender="order form")
                page.receive(moved.id, text="Số 0900000321 nhé")
                page.tag(moved.id, 2, action="remove")
                page.add_conversation()
                reply = page.receive(private.id, sender="staff")
                page.feedbacks.add(END - HOUR)["conversation_id"] = moved.id
                account.pages[1].staff[0].fb_id = "4711"
                account.pages[1].staff[1].name = "Somebody New"
            # Pages and staff come with the second load only.
            streams = set(ALL_KEYS) - (set() if step else {"pages", "users", "customers"})
            run = run_tap(tmp_path, config, catalog=select(*streams), state=state)
            state = hours_later(run.state)
            load_postgres(tmp_path, database, run.stdout)
            found = []
            for name, arguments in ((schema, ()), (f"{schema}_whole", ("--full-refresh",))):
                project = in_postgres(tmp_path / name, database, name, pancake__reload_hours=0)
                project.dbt("build", "--exclude-resource-type", "test", "unit_test", *arguments)
                found.append({model: sorted_rows(project, model) for model in project.columns()})
            assert found[0].keys() == found[1].keys()
            for model, rows in found[0].items():
                for row, other in zip(rows, found[1][model], strict=True):
                    apart = {
                        name: (row[name], other[name]) for name in row if row[name] != other[name]
                    }
                    assert not apart, (step, model, row)
        assert {row["state"] for row in found[0]["pancake__conversations"]} >= {"answered", "open"}
        waits = {row["conversation_id"]: row for row in found[0]["pancake__response_times"]}
        assert waits[comment.id]["answer_message_id"] == reply.id


def sorted_rows(project: Project, model: str) -> list[Json]:
    """Return the rows of a model in an order that is always the same."""
    return sorted(project.rows(model), key=repr)
