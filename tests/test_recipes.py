"""The SQL of docs/recipes.md, in DuckDB and PostgreSQL, beside what the server holds."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest
from psycopg.rows import dict_row

from scripts import recipes, summary
from tests.pancake_api import Account, PancakeServer
from tests.pancake_api.dialects import Observed
from tests.stream_truth import records, utc
from tests.tap import config_for, hours_later, select, sync
from tests.targets import load_jsonl, load_postgres, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Conversation, Message, Page

    Row = dict[str, Any]

WHO = "Who sends what"
WITHOUT = "Without ad_statistics"
ENGINES = ("duckdb", "postgres")
STREAMS = ("pages", "tags", "ad_statistics", "conversations", "messages")
START, END, AS_OF = utc(2026, 5, 1), utc(2026, 5, 8), utc(2026, 5, 8, 6)
ORDER = {"customer": 0, "staff": 1}
"""Who is taken to have spoken first, of several at the same time."""
NEVER = utc(1, 1, 1)
"""A time that the server keeps to itself."""
HERE = timedelta(hours=-3.5)
"""The clock of the page that is made by hand."""


@dataclass
class Shop:
    """What was read of an account, and the account."""

    server: PancakeServer
    page: Page
    files: Path
    answers: dict[str, dict[str, list[Row]]]

    def rows(self, engine: str, recipe: str, page: Page | None = None) -> list[Row]:
        """Give an engine's answer, or what of it is about a page."""
        rows = self.answers[engine][recipe]
        return [row for row in rows if page is None or row["page"] == page.name]


@pytest.fixture(name="shop", scope="module")
def loaded_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Read an account twice, so that all rows come again and some of them changed."""
    account = Account.generate(
        seed=11, pages=3, conversations=30, messages=(1, 25), start=START, end=END
    )
    page = account.add_page(name="Loja d'Além", timezone=HERE / timedelta(hours=1))
    by_hand(page)
    unlisted = unlisted_page(account)
    said_by_nobody(unlisted)
    from_ads(unlisted)
    directory = tmp_path_factory.mktemp("shop")
    files = directory / "it's here"
    with PancakeServer(account) as server, postgres(tmp_path_factory) as database:
        everything = {"lookback_days": 4000, "message_lookback_minutes": 4000 * 1440}
        server.dialect = Sparse()
        config = config_for(server, start_date="2026-05-01", end_date="2026-05-08", **everything)
        config["page_access_tokens"] = {unlisted.id: unlisted.token}
        state: Row = {}
        for turn in range(2):
            if turn:
                change(page)
            run = sync(directory, config, catalog=select(*STREAMS), state=state)
            state = hours_later(run.state)
            load_postgres(directory, database, run.stdout)
            load_jsonl(directory, files, run.stdout)
        with psycopg.connect(database, row_factory=dict_row) as connection:
            connection.execute("SET TIME ZONE 'America/New_York'")
            for block in ("Views for PostgreSQL", "Views of both"):
                connection.execute(recipes.sql(block).encode())
            connection.execute(recipes.clock(AS_OF).encode())
            in_postgres = {
                recipe: connection.execute(recipes.sql(recipe).encode()).fetchall()
                for recipe in (*recipes.RECIPES, WHO)
            }
            in_postgres[WITHOUT] = without_ad_statistics(connection)
        with closing(recipes.opened(files, AS_OF)) as connection:
            connection.execute("SET TimeZone = 'America/New_York'")
            in_duckdb = {
                recipe: recipes.answer(connection, recipes.sql(recipe))
                for recipe in (*recipes.RECIPES, WHO)
            }
        answers = {"postgres": in_postgres, "duckdb": in_duckdb}
        yield Shop(server, page, files, answers)


def without_ad_statistics(connection: psycopg.Connection[Row]) -> list[Row]:
    """Make the views anew where the table is not there; give the customers by ad."""
    # One can replace the other, whichever was there first: their columns have the same types.
    connection.execute(recipes.sql(WITHOUT).encode())
    connection.execute("DROP SCHEMA shop CASCADE")
    connection.execute("DROP TABLE pancake.ad_statistics")
    views = recipes.sql("Views for PostgreSQL")
    own = re.search(r"CREATE OR REPLACE VIEW shop\.ad_statistics AS[^;]*;\n", views)
    assert own
    views = views.replace(own[0], recipes.sql(WITHOUT))
    for block in (views, recipes.sql("Views of both")):
        connection.execute(block.encode())
    return connection.execute(recipes.sql("New customers by ad").encode()).fetchall()


def unlisted_page(account: Account) -> Page:
    """Add a page that list-pages does not tell of: the tap knows just its id."""
    page = account.add_page(timezone=7)
    page.category, page.name, page.platform = "unlisted", page.id, "unknown"
    return page


# The page that is made by hand


def by_hand(page: Page) -> None:
    """Let a page have one conversation of each kind that is easily counted wrongly."""
    at = utc(2026, 5, 3, 2, 0)  # 22:30 on the day before, there

    def said(conversation: Conversation, sender: str, minutes: float) -> Message:
        return page.receive(
            conversation.id, at=at + timedelta(minutes=minutes), sender=sender, text="ok"
        )

    page.statistics.since, page.statistics.until = START, END
    answered_twice = page.add_conversation(at=at, text="ok")
    said(answered_twice, "customer", 1)
    said(answered_twice, "bot", 2)
    said(answered_twice, "staff", 10)
    said(answered_twice, "staff", 30)
    # The customer's turn again, on the next day there, and twice.
    said(answered_twice, "customer", 100)
    said(answered_twice, "customer", 101)

    staff_only = page.add_conversation(at=at, text="ok")
    staff_only.messages[0].sender = said(staff_only, "staff", 5).sender

    same_time = page.add_conversation(at=at, text="ok")
    said(same_time, "staff", 0)
    said(same_time, "outside", 50)
    said(same_time, "customer", 50)

    greeted = page.add_conversation(at=at + timedelta(minutes=3), text="ok")
    shop = {"id": page.id, "name": page.name}
    for automatic in ({"is_automated": True}, {"ai_generated": True}, {"flow_id": 7}):
        at_once = at + timedelta(minutes=3.5)
        page.receive(greeted.id, at=at_once, sender=shop | automatic, text="ok")

    clicked = page.add_conversation(at=at, text="")
    clicked.messages[0].attachments = [{"type": "ad_click", "ad_id": "1"}]

    answered_later = page.add_conversation(at=at, text="ok")

    # Tags: one that is there, one that was, one that the API does not name any more.
    for conversation in (answered_twice, same_time, greeted):
        page.tag(conversation.id, 1, at)
    page.tag(same_time.id, 1, at + timedelta(minutes=1), action="remove")
    page.tag(same_time.id, 2, at)
    same_time.tag_ids[:] = [None]
    # As in a conversation that was read before a tag was renamed.
    changed = greeted.tag_histories[0]
    changed.tag = replace(changed.tag, text="ẩn")

    # Ads: two customers that are new, one of whom comes by another ad, too; one known for long.
    first, second = f"4{page.number:05d}000000000", f"4{page.number:05d}000000003"
    answered_twice.ad_ids, answered_later.ad_ids = [first], [second]
    same_time.customers = answered_twice.customers
    same_time.inserted_at = at + timedelta(seconds=9)
    same_time.ad_ids = [second]
    same_time.captures = [("0900000000", same_time.messages[0].id, 0)]
    greeted.ad_ids, clicked.ad_ids = [first], [first]
    greeted.captures = [("0900000001", greeted.messages[0].id, 0)]
    clicked.customers[0].inserted_at = at - timedelta(days=40)


def said_by_nobody(page: Page) -> None:
    """Let there be messages that are neither an answer nor a question, or seem to be none."""
    at = utc(2026, 5, 4, 2)
    bare = {"id": page.id, "name": page.name}
    told = page.add_conversation(at=at, text="ok")
    notice = page.receive(told.id, at=at + timedelta(minutes=2), sender=bare, text="Assigned")
    notice.attachments = [{"type": "system_message"}]
    reacted = page.add_conversation(at=at, text="ok")
    page.receive(reacted.id, at=at + timedelta(minutes=1), sender="staff", text="ok")
    reaction = page.receive(reacted.id, at=at + timedelta(minutes=2), text="")
    reaction.attachments = [{"type": "reaction"}]
    # A reaction that was put to what was said.
    liked = page.add_conversation(at=at, text="ok")
    liked.messages[0].attachments = [{"type": "reaction", "emoji": "❤"}]
    by_app = page.add_conversation(at=at, text="ok")
    page.receive(by_app.id, at=at + timedelta(minutes=3), sender={**bare, "app_id": 1}, text="ok")
    staff = {"uid": page.staff[0].id, "admin_name": page.staff[0].name, "app_id": 1}
    page.receive(by_app.id, at=at + timedelta(minutes=9), sender={**bare, **staff}, text="ok")
    page.receive(by_app.id, at=at + timedelta(minutes=10), sender={"id": None}, text="ok")


def from_ads(page: Page) -> None:
    """Let customers come from one ad: one known for two days, and some that cannot be counted."""
    at = utc(2026, 5, 5, 2)
    known, no_id, nor_this, no_time, no_ad_time = (
        page.add_conversation(at=at, text="ok") for _ in range(5)
    )
    for conversation in (known, no_id, nor_this, no_time, no_ad_time):
        conversation.ad_ids = ["4"]
    known.customers[0].inserted_at = at - timedelta(days=2)
    # These are two, not one.
    no_id.customers[0].id = nor_this.customers[0].id = ""
    no_time.customers[0].inserted_at = NEVER
    no_ad_time.inserted_at = NEVER


class Sparse(Observed):
    """The API, where it does not say some of the times and ids."""

    def seconds(self, at: datetime) -> Any:
        return None if at == NEVER else super().seconds(at)

    def _page_customer(self, conversation: Conversation) -> Row:
        row = super()._page_customer(conversation)
        return {**row, "id": row["id"] or None}


def change(page: Page) -> None:
    """Change what was read, in ways of which most move no `updated_at`."""
    *_, greeted, _, answered_later = page.conversations.values()
    page.receive(answered_later.id, at=utc(2026, 5, 3, 3, 0), sender="outside")
    page.tag(greeted.id, 1, action="remove")
    page.tag(answered_later.id, 2)
    page.tags[2].text = "Được đổi tên"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_nobody_said_is_neither_an_answer_nor_a_question(shop: Shop, engine: str) -> None:
    page = unlisted_of(shop)
    told, reacted, liked, by_app, *_ = page.conversations.values()
    waiting = shop.rows(engine, "Open conversations without an answer", page)
    waits_since = {row["conversation_id"]: row["waiting_since"] for row in waiting}
    first = datetime.fromisoformat("2026-05-04T09:00")
    assert [waits_since.get(known.id) for known in (told, reacted, liked, by_app)] == [
        first,
        None,
        first,
        None,
    ]
    # After a minute, and after the nine in which only an app had answered.
    responses = shop.rows(engine, "First response time by staff and hour", page)
    assert by(responses, "staff", "hour") == {(page.staff[0].name, 9): [page.id, 2, 5, 9]}


def test_the_summary_names_a_page_of_which_only_the_id_is_known(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.main(shop.files)
    page = unlisted_of(shop)
    messages = sum(len(known.messages) for known in page.conversations.values())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if page.id in line)
    assert line.split()[:4] == ["unknown", page.id, str(len(page.conversations)), str(messages)]


@pytest.mark.parametrize("engine", ENGINES)
def test_customers_of_whom_too_little_is_said_count_for_no_ad(shop: Shop, engine: str) -> None:
    ads = shop.rows(engine, "New customers by ad", unlisted_of(shop))
    assert by(ads, "ad_id") == {("4",): [unlisted_of(shop).id, None, 0, 0, 1]}


def unlisted_of(shop: Shop) -> Page:
    """Give the page of which the tap knows only the id."""
    return next(page for page in shop.server.account.pages if page.category == "unlisted")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_made_by_hand_is_answered_as_counted_by_hand(shop: Shop, engine: str) -> None:
    page = shop.page
    answered_twice, _, _, greeted, *_ = page.conversations.values()
    staff = page.staff[answered_twice.serial % 2].name

    responses = shop.rows(engine, "First response time by staff and hour", page)
    assert by(responses, "staff", "hour") == {
        ("(outside Pancake)", 22): [page.name, 1, 60, 60],
        ("(outside Pancake)", 23): [page.name, 1, 0, 0],
        (staff, 22): [page.name, 2, 5, 10],
    }
    waiting = shop.rows(engine, "Open conversations without an answer", page)
    assert by(waiting, "conversation_id") == {
        (known.id,): ["facebook", page.name, "INBOX", name_of(known), messages, since, near(hours)]
        for known, messages, since, hours in (
            (greeted, 1, datetime.fromisoformat("2026-05-02T22:33"), 123.95),
            (answered_twice, 2, datetime.fromisoformat("2026-05-03T00:10"), 122.33),
        )
    }
    assert by(shop.rows(engine, "Tag funnel", page), "tag") == {
        ("Đã chốt đơn",): [page.name, 3, 1, 50],
        ("Được đổi tên",): [page.name, 2, 1, 33.3],
    }
    ads = shop.rows(engine, "New customers by ad", page)
    assert by(ads, "ad") == {
        ("Tết sale",): [page.name, f"4{page.number:05d}000000000", 2, 1, 1],
        (None,): [page.name, f"4{page.number:05d}000000003", 1, 0, 1],
    }


# What the account holds, counted in Python


def test_each_row_was_read_more_than_once(shop: Shop) -> None:
    """Otherwise nothing here could see a row that is counted twice."""
    held = {
        "pages": len(shop.server.expected().pages),
        "conversations": len(shop.server.expected().conversations),
        "messages": len(shop.server.expected().messages),
        "tags": len(records(shop.server, "tags")),
    }
    for stream, rows in held.items():
        written = (shop.files / f"{stream}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(written) > 1.9 * rows, stream


@pytest.mark.parametrize("engine", ENGINES)
def test_first_response_times(shop: Shop, engine: str) -> None:
    expected = defaultdict(list)
    for page, _, asked, answer in waits(shop):
        if answer:
            name = answer.sender.get("admin_name", "(outside Pancake)")
            minutes = (answer.inserted_at - asked[0].inserted_at) / timedelta(minutes=1)
            expected[page.name, name, local(page, asked[0]).hour].append(minutes)
    rows = shop.rows(engine, "First response time by staff and hour")
    assert by(rows, "page", "staff", "hour") == {
        key: [len(times), near(statistics.median(times)), near(max(times))]
        for key, times in expected.items()
    }
    assert len(expected) > 40


@pytest.mark.parametrize("engine", ENGINES)
def test_open_conversations(shop: Shop, engine: str) -> None:
    rows = shop.rows(engine, "Open conversations without an answer")
    expected = {
        (page.id, known.id): [
            page.platform,
            page.name,
            known.type,
            name_of(known),
            len(asked),
            local(page, asked[0]),
            near((AS_OF - asked[0].inserted_at) / timedelta(hours=1)),
        ]
        for page, known, asked, answer in waits(shop)
        if not answer
    }
    ids = {page.name: page.id for page in shop.server.account.pages}
    assert by([{"": ids[row["page"]], **row} for row in rows], "", "conversation_id") == expected
    assert [row["hours"] for row in rows] == sorted((row["hours"] for row in rows), reverse=True)
    assert len(expected) > 10


@pytest.mark.parametrize("engine", ENGINES)
def test_who_sends_what(shop: Shop, engine: str) -> None:
    expected = Counter(
        (page.platform, sent_by(page, message))
        for page, known in inbox(shop)
        for message in known.messages
    )
    rows = shop.rows(engine, WHO)
    assert by(rows, "platform", "sent_by") == {key: [count] for key, count in expected.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_messages_per_channel_and_day(shop: Shop, engine: str) -> None:
    kinds = ("customer", "staff", "outside", "automation")
    said: dict[tuple[Any, ...], list[tuple[str | None, str]]] = defaultdict(list)
    for page, known in inbox(shop):
        for message in known.messages:
            if (kind := sent_by(page, message)) != "nobody":
                said[page.platform, local(page, message).date()].append((kind, known.id))
    rows = shop.rows(engine, "Messages per channel and day")
    assert by(rows, "platform", "day") == {
        key: [
            len({known for _, known in messages}),
            len(messages),
            *(sum(kind == other for other, _ in messages) for kind in kinds),
        ]
        for key, messages in said.items()
    }
    assert [(row["platform"], row["day"]) for row in rows] == sorted(said)


@pytest.mark.parametrize("engine", ENGINES)
def test_tag_funnel(shop: Shop, engine: str) -> None:
    ever: dict[tuple[str, int], set[str]] = defaultdict(set)
    now: dict[tuple[str, int], set[str]] = defaultdict(set)
    total: dict[str, int] = defaultdict(int)
    for page, known in inbox(shop):
        total[page.name] += 1
        current = {tag for tag in known.tag_ids if tag is not None}
        for tag in current:
            now[page.name, tag].add(known.id)
        for tag in current | {changed.tag.id for changed in known.tag_histories}:
            ever[page.name, tag].add(known.id)
    texts = {(page.name, tag.id): tag.text for page, _ in inbox(shop) for tag in page.tags.values()}
    assert by(shop.rows(engine, "Tag funnel"), "page", "tag") == {
        (key[0], texts[key]): [
            len(known),
            len(now[key]),
            near(100 * len(known) / total[key[0]]),
        ]
        for key, known in ever.items()
    }
    assert len(ever) > 15


@pytest.mark.parametrize("engine", ENGINES)
def test_new_customers_by_ad(shop: Shop, engine: str) -> None:
    clicks: dict[tuple[str, str], list[tuple[datetime, str, Conversation]]] = defaultdict(list)
    for page, known in inbox(shop):
        times = known.inserted_at, known.customers[0].inserted_at
        if known.type == "INBOX" and known.customers[0].id and NEVER not in times:
            clicks[page.name, known.customers[0].id] += [
                (known.inserted_at.replace(microsecond=0), ad, known) for ad in known.ad_ids
            ]
    expected: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for (name, _), ads in clicks.items():
        for place, (at, ad, known) in enumerate(sorted(ads, key=lambda click: click[:2])):
            is_new = not place and at - known.customers[0].inserted_at < timedelta(days=1)
            counts = expected[name, ad]
            counts[0] += is_new
            counts[1] += is_new and bool(known.captures)
            counts[2] += not is_new
    rows = shop.rows(engine, "New customers by ad")
    names = {ad: row["name"] for (_, _, ad), row in records(shop.server, "ad_statistics").items()}
    assert by(rows, "page", "ad_id") == {
        key: [names.get(key[1]), *counts] for key, counts in expected.items()
    }
    assert any(key[0] != shop.page.name for key in expected)


def test_without_ad_statistics_only_the_names_of_ads_are_missing(shop: Shop) -> None:
    rows = shop.rows("postgres", "New customers by ad")
    assert any(row["ad"] for row in rows)
    assert shop.rows("postgres", WITHOUT) == [{**row, "ad": None} for row in rows]


def inbox(shop: Shop) -> Iterator[tuple[Page, Conversation]]:
    """Give the conversations of the pages that are read."""
    for page in shop.server.account.pages:
        if page.category in {"activated", "unlisted"}:
            for conversation in page.conversations.values():
                yield page, conversation


def waits(shop: Shop) -> Iterator[tuple[Page, Conversation, list[Message], Message | None]]:
    """Give what customers said until somebody answered, with the answer if there is one."""
    for page, conversation in inbox(shop):
        asked: list[Message] = []
        for message in sorted(
            conversation.messages,
            key=lambda known: (
                known.inserted_at,
                ORDER.get(sent_by(page, known) or "", 2),
                known.id,
            ),
        ):
            match sent_by(page, message):
                case "customer":
                    asked.append(message)
                case "staff" | "outside" if asked:
                    yield page, conversation, asked, message
                    asked = []
        if asked:
            yield page, conversation, asked, None


def sent_by(page: Page, message: Message) -> str | None:
    """Say who sent a message: the account knows only these forms."""
    kinds = [part["type"] for part in message.attachments]
    if kinds and (
        kinds[0] in {"ad_click", "system_message"} or (kinds[0] == "reaction" and not message.text)
    ):
        return "nobody"
    if not message.sender["id"]:
        return None
    if message.sender["id"] != page.id:
        return "customer"
    if any(message.sender.get(sign) for sign in ("is_automated", "ai_generated", "flow_id")):
        return "automation"
    if "admin_name" in message.sender:
        return "staff"
    return "automation" if "app_id" in message.sender else "outside"


def local(page: Page, message: Message) -> datetime:
    """Give a message's time by the page's clock, to the second."""
    at = message.inserted_at + timedelta(hours=page.timezone)
    return at.replace(tzinfo=None, microsecond=0)


def name_of(conversation: Conversation) -> str:
    """Give the customer's name."""
    return conversation.customers[0].name


def near(number: float) -> Any:
    """Accept a number that was rounded to a tenth."""
    return pytest.approx(number, abs=0.051)


def by(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Any]]:
    """Give the other values of each row by some, which must be a key."""
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


# The document and its files


def test_every_recipe_of_the_document_is_run() -> None:
    text = recipes.DOCUMENT.read_text(encoding="utf-8")
    listed = re.findall(r"^\d\. \[(.*)\]", text, flags=re.MULTILINE)
    assert tuple(listed) == recipes.RECIPES
    # Besides these, where the files are, views of one, the other, the other without a stream, and
    # both, and who sends what.
    assert text.count("```sql\n") == len(listed) + 6


def test_the_demo_asks_for_recipes_that_there_are() -> None:
    demo = (recipes.DOCUMENT.parents[1] / "scripts" / "demo.sh").read_text(encoding="utf-8")
    asked = re.search(r"scripts\.recipes output/demo (.*?) --as-of", demo)
    assert asked
    assert set(re.findall(r'"([^"]*)"', asked[1])) < set(recipes.RECIPES)


def test_engines_give_the_same_columns_and_rows(shop: Shop) -> None:
    for recipe in recipes.RECIPES:
        one, other = (shop.rows(engine, recipe) for engine in ENGINES)
        assert list(one[0]) == list(other[0])
        assert sorted(map(cells, one)) == sorted(map(cells, other))


def cells(row: Row) -> list[str]:
    """Give a row's values as they are shown."""
    return [str(value) for value in row.values()]


def test_a_blank_directory_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no \.jsonl files"):
        recipes.opened(tmp_path)


def test_files_of_each_run_are_read_from_old_to_new_and_missing_ones_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `do_timestamp_file` has them, with the document's statements as they are."""
    (tmp_path / "output").mkdir()
    for day, name in (("20260502", "New"), ("20260501", "Old")):
        file = tmp_path / "output" / f"pages-{day}T080000.jsonl"
        file.write_text(json.dumps({"id": "1", "name": name, "timezone": None}) + "\n")
    monkeypatch.chdir(tmp_path)
    with closing(duckdb.connect()) as connection:
        for heading in ("JSON lines in DuckDB", "Views for DuckDB", "Views of both"):
            connection.execute(recipes.sql(heading))
        pages = "SELECT id, name FROM shop.pages"
        assert connection.execute(pages).fetchall() == [("1", "New")]
        for recipe in recipes.RECIPES:
            assert recipes.answer(connection, recipes.sql(recipe)) == []
        # The file of all runs counts as newer, as the document says.
        plain = json.dumps({"id": "1", "name": "Of any time"}) + "\n"
        (tmp_path / "output" / "pages.jsonl").write_text(plain)
        assert connection.execute(pages).fetchall() == [("1", "Of any time")]
