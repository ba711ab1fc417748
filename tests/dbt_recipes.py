"""The SQL of docs/recipes.md, in DuckDB and PostgreSQL, beside what the server holds."""

from __future__ import annotations

import re
import statistics
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from scripts import recipes, summary
from scripts.report.models import opened
from tests.dbt_said import sender_kind
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, output_of, run_process
from tests.stream_truth import records, utc
from tests.tap import ALL_KEYS, config_for, select, sync
from tests.targets import load_jsonl, load_postgres, postgres
from tests.transform import in_duckdb, in_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from tests.pancake_api import Conversation, Message, Page

    Row = dict[str, Any]
    Wait = tuple[Page, Conversation, list[Message], Message | None]

SCHEMAS = {"duckdb": "pancake", "postgres": "shop_models"}
ENGINES = tuple(SCHEMAS)
START, END, AS_OF = utc(2026, 5, 1), utc(2026, 5, 15), utc(2026, 5, 15, 6)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOT_SAID = {"ad_click", "system_message", "reaction", "replied_message"}
"""Attachments that are no files."""
CLOSING = {"ok", "siap", "ขอบคุณมากค่ะ 🙏✨"}
"""What the account's customers say that needs no answer."""


@dataclass
class Shop:
    """What was read of an account, and the account."""

    server: PancakeServer
    by_hand: Page
    files: Path
    databases: dict[str, str]
    answers: dict[str, dict[str, list[Row]]]

    def rows(self, engine: str, recipe: str, page: Page | None = None) -> list[Row]:
        """Return an engine's answer, or what of it is about a page."""
        rows = self.answers[engine][recipe]
        return [row for row in rows if page is None or row["page"] == page.name]


@pytest.fixture(name="shop", scope="module")
def loaded_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Read an account, load it, build the models, and ask them all recipes."""
    account = Account.generate(
        seed=11, pages=3, conversations=30, messages=(1, 25), start=START, end=END
    )
    page = account.add_page(name="Loja d'Além", timezone=-3.5)
    page.statistics.since, page.statistics.until = START, END
    page.staff[1].name = "Cô Hai"  # else two have one name
    talk(page)
    unlisted = account.add_page(timezone=7)
    # The tap knows just its id.
    unlisted.category, unlisted.name, unlisted.platform = "unlisted", unlisted.id, "unknown"
    unlisted.add_conversation(at=utc(2026, 5, 4, 2), text="Còn hàng không?")
    directory = tmp_path_factory.mktemp("shop")
    variables = {"pancake__as_of": f"{AS_OF:%Y-%m-%d %H:%M}", "pancake__start_date": "2026-05-01"}
    with PancakeServer(account) as server, postgres() as database:
        config = config_for(server, start_date="2026-05-01", end_date="2026-05-15")
        config["page_access_tokens"] = {unlisted.id: unlisted.token}
        run = sync(directory, config, catalog=select(*ALL_KEYS))
        load_postgres(directory, database, run.stdout)
        files = directory / "it's here"
        load_jsonl(directory, files, run.stdout)
        projects = {
            "duckdb": in_duckdb(directory / "duckdb", files, **variables),
            "postgres": in_postgres(directory / "dbt", database, "shop_models", **variables),
        }
        for project in projects.values():
            project.dbt("build", "--exclude-resource-type", "test", "unit_test")
        databases = {"duckdb": str(projects["duckdb"].duckdb), "postgres": database}
        asked = recipes.recipes()
        answers = {}
        for engine in ENGINES:
            with opened(databases[engine], SCHEMAS[engine]) as ask:
                answers[engine] = {title: ask(query) for title, query in asked.items()}
        yield Shop(server, page, files, databases, answers)


def talk(page: Page) -> None:
    """Let a page have one conversation of each kind that is easily counted wrongly."""
    at = utc(2026, 5, 3, 2)  # 22:30 on the day before, there

    def send_as(conversation: Conversation, sender: str, minutes: float, text: str = "?") -> None:
        page.receive(conversation.id, at=at + minutes * MINUTE, sender=sender, text=text)

    answered_twice = page.add_conversation(at=at, text="?")
    send_as(answered_twice, "customer", 1)
    send_as(answered_twice, "bot", 2)
    send_as(answered_twice, "staff", 10)
    send_as(answered_twice, "staff", 30)
    send_as(answered_twice, "customer", 31, "ok")
    # The customer's turn again, on the next day there, and twice.
    send_as(answered_twice, "customer", 100)
    send_as(answered_twice, "customer", 101)
    outside = page.add_conversation(at=at, text="?")
    send_as(outside, "outside", 50)
    # Three days later, with a phone number: another session.
    send_as(outside, "customer", 60 * 72, "0900000123")
    send_as(outside, "staff", 60 * 72 + 4)
    rating = page.feedbacks.add(at + 81 * HOUR)
    rating["conversation_id"], rating["rate"] = outside.id, 5
    for hidden in (False, True):
        comment = page.add_conversation("COMMENT", at=at, text="giá?")
        comment.messages[0].is_hidden = hidden


# What was made by hand


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_made_by_hand_is_answered_as_counted_by_hand(shop: Shop, engine: str) -> None:
    page = shop.by_hand
    twice, outside, comment, _ = page.conversations.values()
    first, later = (page.staff[one.serial % 2].name for one in (twice, outside))
    responses = shop.rows(engine, "Response time by staff and hour", page)
    assert by(responses, "staff", "hour") == {
        ("(outside of Pancake)", 22): [page.name, 1, 50, 50],
        (first, 22): [page.name, 1, 10, 10],
        (later, 22): [page.name, 1, 4, 4],
    }
    weeks = shop.rows(engine, "Response time by week", page)
    assert by(weeks, "week") == {
        (datetime.fromisoformat("2026-04-27").date(),): [page.name, 2, 30, 46, 50],
        (datetime.fromisoformat("2026-05-04").date(),): [page.name, 1, 4, 4, 100],
    }
    waiting = by(shop.rows(engine, "Who waits now", page), "conversation_id")
    assert waiting == {
        (twice.id,): [*of_page(page, twice), 2, of("2026-05-03T00:10"), near(290.3)],
        (comment.id,): [*of_page(page, comment), 1, of("2026-05-02T22:30"), near(292)],
    }
    assert by(shop.rows(engine, "From question to order", page), "page") == {
        (page.name,): [3, 3, 1, 0, 0]
    }
    ratings = shop.rows(engine, "Ratings by staff", page)
    assert 4 in [row["median_minutes_before"] for row in ratings]


def of(local: str) -> datetime:
    """Return a time by a page's clock."""
    return datetime.fromisoformat(local)


def of_page(page: Page, conversation: Conversation) -> list[str]:
    """Return what the recipe of those who wait says of a conversation."""
    return [page.platform, page.name, conversation.type, conversation.customers[0].name]


# What the account holds, counted in Python


@pytest.mark.parametrize("engine", ENGINES)
def test_response_times(shop: Shop, engine: str) -> None:
    by_hour, by_week = defaultdict(list), defaultdict(list)
    for page, _, asked, answer in waits(shop):
        if answer:
            name = answer.sender.get("admin_name", "(outside of Pancake)")
            minutes = (answer.inserted_at - asked[0].inserted_at) / MINUTE
            at = local(page, asked[0])
            by_hour[page.name, name, at.hour].append(minutes)
            by_week[page.name, at.date() - timedelta(days=at.weekday())].append(minutes)
    rows = shop.rows(engine, "Response time by staff and hour")
    assert by(rows, "page", "staff", "hour") == {
        key: [len(times), near(statistics.median(times)), near(max(times))]
        for key, times in by_hour.items()
    }
    rows = shop.rows(engine, "Response time by week")
    found = by(rows, "page", "week")
    assert found == {
        key: [
            len(times),
            near(statistics.median(times)),
            found[key][2],
            near(100 * sum(one <= 15 for one in times) / len(times)),
        ]
        for key, times in by_week.items()
    }
    assert len(by_hour) > 40
    assert len(by_week) > 6


@pytest.mark.parametrize("engine", ENGINES)
def test_who_waits_now_and_waited_each_day(shop: Shop, engine: str) -> None:
    open_now = {
        (page.name, known.id): [
            page.platform,
            "INBOX",
            known.customers[0].name,
            len(asked),
            near_time(local(page, asked[0])),
            near((AS_OF - asked[0].inserted_at) / HOUR),
        ]
        for page, known, asked, answer in waits(shop)
        if not answer
    }
    rows = shop.rows(engine, "Who waits now")
    inbox = [row for row in rows if row["type"] == "INBOX"]
    assert by(inbox, "page", "conversation_id") == open_now
    assert len(open_now) > 10
    assert [row["hours"] for row in rows] == sorted((row["hours"] for row in rows), reverse=True)
    backlog: dict[tuple[str, date], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (page, _, asked, answer), day in product(list(waits(shop)), range(16)):
        midnight = START.replace(tzinfo=None) + (day + 1) * DAY  # of the page
        zone = timedelta(hours=page.timezone)
        end = min(midnight, AS_OF.replace(tzinfo=None) + zone) - zone
        begun = asked[0].inserted_at.replace(tzinfo=None)
        ended = answer.inserted_at.replace(tzinfo=None) if answer else None
        running = midnight - DAY <= AS_OF.replace(tzinfo=None) + zone
        if begun < end and (ended is None or ended > end) and running:
            counts = backlog[page.name, (midnight - DAY).date()]
            counts[0] += 1
            counts[1 + (end - begun >= HOUR) + (end - begun >= DAY)] += 1
    assert by(shop.rows(engine, "Backlog by day"), "page", "day") == backlog


@pytest.mark.parametrize("engine", ENGINES)
def test_messages_per_channel_and_day(shop: Shop, engine: str) -> None:
    kinds = ("customer", "staff", "outside", "automation")
    expected: dict[tuple[str, date], Counter[str | None]] = defaultdict(Counter)
    for page, known in inbox(shop):
        for message in known.messages:
            if (kind := sender_kind(page.id, known, message)) != "nobody":
                expected[page.platform, local(page, message).date()][kind] += 1
    rows = shop.rows(engine, "Messages per channel and day")
    found = by(rows, "platform", "day")
    counts_found = {key: counts[:5] for key, counts in found.items() if counts[0]}
    assert counts_found == {
        key: [counts.total(), *(counts[kind] for kind in kinds)] for key, counts in expected.items()
    }
    complete = {key[1] for key, counts in found.items() if counts[-1]}
    # The last day had not ended anywhere, and the tap's start_date cuts the first in two.
    assert {at.day for at in complete} == set(range(2, 15))
    customers = {
        (page.id, known.customers[0].id) for page, known in inbox(shop) if known.customers[0].id
    }
    customers |= {(page_id, key) for page_id, key in records(shop.server, "customers")}
    assert 0 < sum(counts[5] for counts in found.values()) <= len(customers)


@pytest.mark.parametrize("engine", ENGINES)
def test_staff_this_week_and_last_week(shop: Shop, engine: str) -> None:
    pages = {page.name for page in shop.server.account.pages[:3]}
    times: dict[tuple[str, str], list[list[float]]] = defaultdict(lambda: [[], []])
    for page, _, asked, answer in waits(shop):
        day = local(page, asked[0]).date().day
        if answer and page.name in pages and 1 <= day <= 14:
            name = answer.sender.get("admin_name", "unknown")
            minutes = (answer.inserted_at - asked[0].inserted_at) / MINUTE
            times[page.name, name][day < 8].append(minutes)
    rows = shop.rows(engine, "Staff this week and last week")
    found = by([row for row in rows if row["page"] in pages], "page", "staff")
    assert {key: counts[:4] for key, counts in found.items() if counts[0] or counts[1]} == {
        key: [
            len(now),
            len(before),
            near(statistics.mean(now)) if now else None,
            near(statistics.mean(before)) if before else None,
        ]
        for key, (now, before) in times.items()
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_tag_funnel(shop: Shop, engine: str) -> None:
    ever: dict[tuple[str, int], dict[str, Conversation]] = defaultdict(dict)
    now: Counter[tuple[str, int]] = Counter()
    total: Counter[str] = Counter()
    for page, known in inbox(shop):
        total[page.name] += 1
        current = {tag for tag in known.tag_ids if tag is not None}
        now.update((page.name, tag) for tag in current)
        for tag in current | {changed.tag.id for changed in known.tag_histories}:
            ever[page.name, tag][known.id] = known
    texts = {(page.name, tag.id): tag.text for page, _ in inbox(shop) for tag in page.tags.values()}
    assert by(shop.rows(engine, "Tag funnel"), "page", "tag") == {
        (key[0], texts[key]): [
            len(known),
            now[key],
            sum(bool(one.captures) for one in known.values()),
            near(100 * len(known) / total[key[0]]),
        ]
        for key, known in ever.items()
    }
    assert len(ever) > 15


@pytest.mark.parametrize("engine", ENGINES)
def test_new_customers_by_ad(shop: Shop, engine: str) -> None:
    clicks: dict[tuple[str, str], list[tuple[datetime, str, Conversation]]] = defaultdict(list)
    for page, known in inbox(shop):
        clicks[page.name, known.customers[0].id] += [
            (known.inserted_at.replace(microsecond=0), ad, known) for ad in known.ad_ids
        ]
    counted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (name, _), ads in clicks.items():
        for place, (at, ad, known) in enumerate(sorted(ads, key=lambda click: click[:2])):
            is_new = not place and at - known.customers[0].inserted_at < DAY
            counted[name, ad][0] += is_new
            counted[name, ad][1] += is_new and bool(known.captures)
    pages = {page.id: page.name for page in shop.server.account.pages}
    spend: dict[tuple[str, str], float] = defaultdict(float)
    for row in records(shop.server, "ad_statistics").values():
        spend[pages[row["page_id"]], row["ad_id"]] += row.get("spend") or 0
    rows = shop.rows(engine, "New customers by ad")
    found = by(rows, "page", "ad_id")
    assert {key: [*counts[2:5]] for key, counts in found.items()} == {
        key: [
            pytest.approx(spend[key], abs=0.01) if key in spend else None,
            *counted.get(key, (0, 0)),
        ]
        for key in counted.keys() | spend.keys()
    }
    for _, currency, cost, new, _, _, of_one in found.values():
        assert of_one == (pytest.approx(cost / new, abs=0.01) if new and currency else None)
    assert sum(new for new, _ in counted.values()) > 1


@pytest.mark.parametrize("engine", ENGINES)
def test_ratings_by_staff(shop: Shop, engine: str) -> None:
    rates: dict[tuple[str, str], list[int]] = defaultdict(list)
    for page in shop.server.account.pages:
        if page.category == "activated":
            for row in page.feedbacks.held():
                rates[page.name, row["employee_name"]].append(row["rate"])
    rows = shop.rows(engine, "Ratings by staff")
    assert {key: counts[:2] for key, counts in by(rows, "page", "staff").items()} == {
        key: [len(rated), pytest.approx(statistics.mean(rated), abs=0.006)]
        for key, rated in rates.items()
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_missing(shop: Shop, engine: str) -> None:
    pages = {page.id: page for page in shop.server.account.pages}
    counted: Counter[tuple[str, str]] = Counter()
    for page, known in inbox(shop):
        for message in known.messages if known.type in {"INBOX", "COMMENT"} else ():
            if sender_kind(page.id, known, message) not in {"nobody", None}:
                counted[page.name, str(local(page, message).date())] += 1
    reported: Counter[tuple[str, str]] = Counter()
    for row in records(shop.server, "page_statistics").values():
        reported[pages[row["page_id"]].name, row["hour"][:10]] += sum(
            row[f"{who}_{where}_count"] or 0
            for who, where in product(("customer", "page"), ("inbox", "comment"))
        )
    rows = shop.rows(engine, "What is missing")
    assert len(rows) > 30
    for row in rows:
        key = row["page"], str(row["day"])
        assert [row["messages"], row["pancake_counts"]] == [counted[key], reported[key]]
        assert float(row["percent"]) == near(100 * counted[key] / reported[key])


@pytest.mark.parametrize("engine", ENGINES)
def test_each_page_is_as_fresh_as_the_run_says(shop: Shop, engine: str) -> None:
    rows = {row["page"]: row for row in shop.rows(engine, "How fresh is each page")}
    assert rows.keys() == {page.name for page, _ in inbox(shop)}
    for row in rows.values():
        assert row["set_aside"] == 0
        assert row["status"] in {"complete", "incomplete", "skipped"}


def inbox(shop: Shop) -> Iterator[tuple[Page, Conversation]]:
    """Yield the conversations of the pages that are read."""
    for page in shop.server.account.pages:
        if page.category in {"activated", "unlisted"}:
            for conversation in page.conversations.values():
                yield page, conversation


def waits(shop: Shop) -> Iterator[Wait]:
    """Yield the customers' messages in an inbox until the next answer, with the answer if any."""
    for page, conversation in inbox(shop):
        turns: list[tuple[tuple[datetime, bool, str], Message]] = []
        for message in conversation.messages if conversation.type == "INBOX" else ():
            kind = sender_kind(page.id, conversation, message)
            if kind in {"staff", "outside"} or (kind == "customer" and not is_closing(message)):
                turns.append(((message.inserted_at, kind != "customer", message.id), message))
        asked: list[Message] = []
        for (_, is_answer, _), message in sorted(turns, key=lambda turn: turn[0]):
            if not is_answer:
                asked.append(message)
            elif asked:
                yield page, conversation, asked, message
                asked = []
        if asked:
            yield page, conversation, asked, None


def is_closing(message: Message) -> bool:
    """Tell whether a message needs no answer: the account knows only these forms."""
    parts = {part["type"] for part in message.attachments} - NOT_SAID
    return message.text in CLOSING or (not message.text and parts == {"sticker"})


def local(page: Page, message: Message) -> datetime:
    """Return a message's time by the page's clock."""
    at = message.inserted_at + timedelta(hours=page.timezone)
    return at.replace(tzinfo=None)


def near(number: float) -> Any:
    """Accept a number that was rounded to a tenth."""
    return pytest.approx(number, abs=0.051)


def near_time(at: datetime) -> Any:
    """Accept a time without its fraction."""
    return pytest.approx(at, abs=timedelta(seconds=1))


def by(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Any]]:
    """Return the other values of each row by some, which must be a key."""
    found = {
        tuple(row[name] for name in names): [
            float(value) if isinstance(value, Decimal) else value
            for name, value in row.items()
            if name not in names
        ]
        for row in rows
    }
    assert len(found) == len(rows)
    return found


# The document and its readers


def test_every_recipe_of_the_document_is_run() -> None:
    text = recipes.DOCUMENT.read_text(encoding="utf-8")
    listed = re.findall(r"^\d+\. \[(.*)\]", text, flags=re.MULTILINE)
    assert listed == list(recipes.recipes())
    assert text.count("```sql\n") == len(listed)


def test_the_demo_asks_for_recipes_that_there_are() -> None:
    demo = (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8")
    (line,) = (line for line in demo.splitlines() if "scripts.recipes" in line)
    asked = re.findall(r'"([^"]*)"', line)
    assert len(asked) == 2
    assert set(asked) < recipes.recipes().keys()


def test_engines_give_the_same_columns_and_rows(shop: Shop) -> None:
    for recipe in recipes.recipes():
        one, other = (shop.rows(engine, recipe) for engine in ENGINES)
        assert list(one[0]) == list(other[0])
        assert sorted(map(cells, one)) == sorted(map(cells, other))


def cells(row: Row) -> list[str]:
    """Return a row's values as they are shown."""
    return [str(value) for value in row.values()]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_answers_are_printed_as_tables(shop: Shop, engine: str) -> None:
    command = [sys.executable, "-m", "scripts.recipes", shop.databases[engine], "tag funnel"]
    printed = output_of([*command, "--rows", "2", "--schema", SCHEMAS[engine]], cwd=ROOT)
    title, head, *rows, rest = printed.strip().splitlines()
    assert (title, head.split()[:2], len(rows)) == ("Tag funnel:", ["page", "tag"], 2)
    assert rest.endswith("rows, these are the first)")
    done = run_process([*command, "Nothing"], cwd=ROOT)
    assert done.returncode == 2
    assert "no such recipe: Nothing" in done.stderr


def test_the_summary_names_a_page_of_which_only_the_id_is_known(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.main(shop.files)
    page = next(page for page, _ in inbox(shop) if page.category == "unlisted")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if page.id in line)
    assert line.split()[:4] == ["unknown", page.id, "1", "1"]
