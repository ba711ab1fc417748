"""The report, in a real browser, beside what the models hold."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest

from scripts.report import models
from tests.browser import opened_browser
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, output_of
from tests.stream_truth import utc
from tests.tap import config_for, select, sync
from tests.targets import load_jsonl, load_postgres
from tests.transform import in_duckdb, in_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.browser import Tab
    from tests.transform import Project

    Row = dict[str, Any]

START, END, AS_OF = utc(2026, 4, 1), utc(2026, 5, 8), "2026-05-08T02:30:00Z"
TODAY = date(2026, 5, 8)
STREAMS = (
    *("pages", "users", "tags", "customers", "conversations", "messages", "conversation_details"),
    *("ads", "ad_statistics", "customer_feedbacks", "sync_runs"),
)
"""What the report shows something of."""
HOSTILE = '<b></script><img src="https://outside.example/x.png">&'
"""It begins with a tag that plotly knows."""
SPEAKERS = ("customer", "staff", "outside", "automation", "other")
READ = """
(() => {
    const chart = (id) => (document.getElementById(`chart-${id}`).data ?? []).map((trace) => ({
        name: trace.name, type: trace.type, x: [...(trace.x ?? [])], y: [...(trace.y ?? [])],
        n: trace.customdata, text: trace.text,
    }));
    const values = (cell) => {
        if (cell.dataset.value === undefined) return null;
        const isText = cell.tagName === "TD" && cell.className !== "number";
        return isText ? cell.dataset.value : Number(cell.dataset.value);
    };
    const rows = (id) => [...document.querySelectorAll(`#table-${id} tbody tr`)].map(
        (row) => [...row.cells].map(values));
    const words = (card, part) => card.querySelector(part)?.textContent;
    const cards = [...document.querySelectorAll(".card")].map((card) => [card.id.slice(5), {
        value: values(card.querySelector(".value")), shown: words(card, ".value"),
        n: words(card, ".count"), change: words(card, ".change"),
    }]);
    const sections = ["messages", "hours", "weeks", "staff", "waiting", "ads", "ratings", "tags"];
    return {
        cards: Object.fromEntries(cards), complete: document.getElementById("complete").textContent,
        charts: Object.fromEntries(sections.filter((id) => document.getElementById(`chart-${id}`))
            .map((id) => [id, chart(id)])),
        tables: Object.fromEntries([...sections, "health"].map((id) => [id, rows(id)])),
    };
})()
"""
CONTRASTS = """
(() => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const words = [...document.querySelectorAll("#report *")].filter((one) => !one.closest("svg")
        && [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
    return words.map((one) => {
        const both = [light(getComputedStyle(one).color), light(behind(one))];
        const [a, b] = both.sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), one.textContent.slice(0, 40)];
    });
})()
"""


@dataclass
class Shop:
    """What was read, the models of it, and the report of them."""

    account: Account
    project: Project
    messages: str
    file: Path


@pytest.fixture(name="shop", scope="module")
def invented_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Read an account, build the models, draw them."""
    directory = tmp_path_factory.mktemp("shop")
    account = Account.generate(seed=3, pages=3, conversations=60, start=START, end=END)
    account.pages[0].name = account.pages[0].tags[1].text = HOSTILE
    account.pages[0].staff[0].name = HOSTILE
    with PancakeServer(account) as server:
        config = config_for(server, start_date="2026-04-01", end_date="2026-05-08")
        run = sync(directory, config, catalog=select(*STREAMS))
    load_jsonl(directory, directory / "files", run.stdout)
    project = in_duckdb(directory / "dbt", directory / "files", pancake__as_of=AS_OF)
    with_hours(project)
    project.dbt("run")
    file = directory / "report.html"
    output_of([sys.executable, "-m", "scripts.report", project.duckdb, file])
    return Shop(account, project, run.stdout, file)


def with_hours(project: Project, database: str = "") -> None:
    """Open the shop from Monday to Saturday: working time is not clock time then."""
    project.dbt("seed")
    rows = ", ".join(f"('*', {weekday}, '08:00', '21:30', null)" for weekday in range(1, 7))
    insert = (
        "insert into {}.pancake__working_hours (page_id, weekday, opens_at, closes_at, valid_from)"
        f" values {rows}"
    )
    if project.target == "duckdb":
        with duckdb.connect(str(project.duckdb)) as connection:
            connection.execute(insert.format("pancake.pancake"))
    else:
        schema = project.environment["PANCAKE_DBT_SCHEMA"]
        with psycopg.connect(database) as session:
            session.execute(insert.format(f'"{schema}"').encode())


@pytest.fixture(name="opened", scope="module")
def browser_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Start one browser for all tests."""
    with opened_browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(name="tab")
def page_in_english(opened: Tab, shop: Shop) -> Tab:
    """Open the report anew."""
    opened.logged.clear()
    opened.requests.clear()
    opened.open(shop.file)
    opened.run("document.getElementById('language-en').click()")
    return opened


def choose(tab: Tab, **values: str) -> Row:
    """Set filters as a user does; give all numbers of the page then."""
    for name, value in values.items():
        tab.run(
            f"(() => {{ const one = document.getElementById({name!r}); one.value = {value!r};"
            " one.dispatchEvent(new Event('change')); })()"
        )
    return dict(tab.run(READ))


# What the models hold


@dataclass
class Choice:
    """The filters; a type of "" is all of them."""

    pages: frozenset[str]
    type: str
    first: date
    last: date
    minutes: str = "working_minutes"

    def rows(self, shop: Shop, model: str) -> list[Row]:
        """Return the rows of a model that pass them."""
        return [
            row
            for row in shop.project.rows(model)
            if row["page_id"] in self.pages
            and ("date_day" not in row or self.first <= row["date_day"] <= self.last)
            and (not self.type or row.get("conversation_type", self.type) in {self.type, None})
        ]

    def before(self) -> Choice:
        """Return the period before, of the same length."""
        days = self.last - self.first + timedelta(days=1)
        return Choice(self.pages, self.type, self.first - days, self.last - days, self.minutes)


CHOICES: dict[str, tuple[dict[str, str], Callable[[Shop], Choice]]] = {
    "as it opens": (
        {},
        lambda shop: Choice(ids(shop), "INBOX", date(2026, 4, 10), date(2026, 5, 7)),
    ),
    "a week of all kinds": (
        {"period": "days_7", "type": ""},
        lambda shop: Choice(ids(shop), "", date(2026, 5, 1), date(2026, 5, 7)),
    ),
    "comments of one page, everything": (
        {"period": "all", "type": "1", "page": "{facebook}"},
        lambda shop: Choice(ids(shop, "facebook"), "COMMENT", date(2026, 4, 1), TODAY),
    ),
    "a channel by the clock": (
        {"channel": "line", "minutes": "minutes", "period": "yesterday"},
        lambda shop: Choice(
            *(ids(shop, "line"), "INBOX", date(2026, 5, 7), date(2026, 5, 7), "wait_minutes")
        ),
    ),
    "own dates": (
        {"from": "2026-04-20", "to": "2026-04-26"},
        lambda shop: Choice(ids(shop), "INBOX", date(2026, 4, 20), date(2026, 4, 26)),
    ),
    "today": (
        {"period": "today"},
        lambda shop: Choice(ids(shop), "INBOX", TODAY, TODAY),
    ),
}


def ids(shop: Shop, platform: str = "") -> frozenset[str]:
    """Return the pages, or those of a channel."""
    pages = shop.project.rows("pancake__pages")
    return frozenset(row["page_id"] for row in pages if platform in {"", row["platform"]})


def answered(waits: Iterable[Row]) -> list[Row]:
    return [row for row in waits if not row["is_open"]]


def close(found: float | None, expected: float | None) -> bool:
    """Say whether two numbers are one; minutes are embedded with two decimals."""
    if found is None or expected is None:
        return found is expected
    return bool(abs(float(found) - float(expected)) < 0.011)


@pytest.mark.parametrize("name", CHOICES)
def test_each_filter_acts_on_all_numbers(shop: Shop, tab: Tab, name: str) -> None:
    settings, chosen = CHOICES[name]
    places = [page["page_id"] for page in by_name(shop)]
    (facebook,) = ids(shop, "facebook")
    settings = {
        key: value.format(facebook=places.index(facebook)) for key, value in settings.items()
    }
    page = choose(tab, **settings)
    choice = chosen(shop)
    compare_headlines(shop, choice, page)
    compare_messages(shop, choice, page)
    compare_response_times(shop, choice, page)
    compare_staff(shop, choice, page)
    compare_waiting(shop, choice, page)
    compare_others(shop, choice, page)
    compare_words(choice, tab)
    assert not tab.logged


def by_name(shop: Shop) -> list[Row]:
    pages: list[Row] = shop.project.rows("pancake__pages")
    return sorted(pages, key=lambda row: (row["page_name"], row["page_id"]))


def headlines(shop: Shop, choice: Choice) -> dict[str, float | None]:
    hours = choice.rows(shop, "pancake__page_hourly")
    waits = choice.rows(shop, "pancake__response_times")
    known = [row["is_within_target"] for row in waits if row["is_within_target"] is not None]
    times = [row[choice.minutes] for row in answered(waits)]
    return {
        "messages": sum(row["message_count"] for row in hours),
        "customers": sum(row["new_customer_count"] for row in hours),
        "median": median(times) if times else None,
        "within": sum(known) / len(known) if known else None,
    }


def is_complete(shop: Shop, choice: Choice) -> bool:
    days = choice.rows(shop, "int_pancake__complete_days")
    length = (choice.last - choice.first).days + 1
    return bool(sum(row["is_inbox_complete"] for row in days) == length * len(choice.pages))


def compare_headlines(shop: Shop, choice: Choice, page: Row) -> None:
    now = headlines(shop, choice)
    waits = choice.rows(shop, "pancake__response_times")
    for name, value in now.items():
        assert close(page["cards"][name]["value"], value), (name, page["cards"][name], value)
    assert page["cards"]["messages"]["shown"] == f"{now['messages']:,}"
    assert page["cards"]["median"]["n"] == f"n = {len(answered(waits)):,}"
    if not choice.type:
        came = [
            row
            for row in shop.project.rows("pancake__customers")
            if row["page_id"] in choice.pages
            and choice.first <= row["added_at_local"].date() <= choice.last
        ]
        assert page["cards"]["with_phone"]["value"] == sum(row["has_phone"] for row in came)
        assert 0 < sum(row["has_phone"] for row in came) < len(came)
    before, same = choice.before(), is_complete(shop, choice)
    then = headlines(shop, before)
    for name in ("messages", "customers"):
        change = page["cards"][name]["change"]
        if same and is_complete(shop, before):
            assert f"(period before: {then[name]:,})" in change
            signs = {1: "▲", -1: "▼", 0: "="}
            value, old = now[name] or 0, then[name] or 0
            assert change.startswith(signs[(value > old) - (value < old)])
            if old and value != old:
                percent = re.search(r"([\d.,]+)%", change)
                assert percent
                assert (
                    abs(float(percent[1].replace(",", "")) - abs(value - old) / old * 100) < 0.051
                )
        else:
            assert change == "Period before: not complete"
    assert (page["complete"] == "All days of this period are complete.") == same
    eve = choice.first - timedelta(days=1)
    day_before = Choice(choice.pages, choice.type, eve, eve)
    was_open = sum(row["open_count"] for row in day_before.rows(shop, "pancake__backlog_daily"))
    if is_complete(shop, day_before):
        assert f"(when the period began: {was_open:,})" in page["cards"]["open"]["change"]


def compare_messages(shop: Shop, choice: Choice, page: Row) -> None:
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    for row in choice.rows(shop, "pancake__page_hourly"):
        for speaker in SPEAKERS:
            column = "unknown" if speaker == "other" else speaker
            count = row[f"{column}_message_count"]
            if count:
                expected[speaker][row["date_day"].isoformat()] += count
    found = {
        tuple((day, count) for day, count in zip(trace["x"], trace["y"], strict=True) if count)
        for trace in page["charts"]["messages"]
    }
    assert found == {tuple(sorted(days.items())) for days in expected.values()}
    assert sum(row[1] for row in page["tables"]["messages"]) == page["cards"]["messages"]["value"]


def compare_response_times(shop: Shop, choice: Choice, page: Row) -> None:
    cells, weeks = defaultdict(list), defaultdict(list)
    for row in answered(choice.rows(shop, "pancake__response_times")):
        cells[row["weekday"] - 1, row["hour_of_day"]].append(row[choice.minutes])
        monday = row["date_day"] - timedelta(days=row["date_day"].weekday())
        weeks[(monday - date(1970, 1, 1)).days].append(row[choice.minutes])
    found = {
        (int(weekday), int(hour)): (n, middle)
        for weekday, hour, n, middle in page["tables"]["hours"]
    }
    assert found.keys() == cells.keys()
    for key, times in cells.items():
        n, middle = found[key]
        assert n == len(times)
        assert close(middle, median(times))
    # The chart has the counts of the table, and a text for each.
    for heat in page["charts"]["hours"]:
        counts = {
            (weekday, hour): n
            for hour, line in enumerate(heat["n"])
            for weekday, n in enumerate(line)
            if n
        }
        assert counts == {key: len(times) for key, times in cells.items()}
        for (weekday, hour), n in counts.items():
            assert heat["text"][hour][weekday].endswith(f"<br>n {n}")
    shown = {int(week): (n, middle) for week, n, middle, *_ in page["tables"]["weeks"]}
    assert {week: n for week, (n, _) in shown.items()} == {
        week: len(times) for week, times in weeks.items()
    }
    assert all(close(shown[week][1], median(times)) for week, times in weeks.items())
    if weeks:
        middle, _, counted = page["charts"]["weeks"]
        in_order = [times for _, times in sorted(weeks.items())]
        assert counted["y"] == [len(times) for times in in_order]
        units = {round(median(t) / y) for t, y in zip(in_order, middle["y"], strict=True) if y > 1}
        assert units <= {1} or units == {60}


def compare_staff(shop: Shop, choice: Choice, page: Row) -> None:
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    kind = {"INBOX": "inbox_", "COMMENT": "comment_", "": ""}[choice.type]
    for row in choice.rows(shop, "pancake__staff_daily"):
        unknown = row["staff_id"] == "unknown"
        person = expected["Outside Pancake or unknown" if unknown else row["staff_name"]]
        responses = row["response_count"] if choice.type != "COMMENT" else 0
        if choice.type != "INBOX":
            responses += row["other_response_count"]
        person["answers"] += responses
        person["conversations"] += row[f"{kind}conversation_count"]
        person["messages"] += row[f"{kind}message_count"]
        person["phones"] += row["phone_conversation_count"]
        person["orders"] += row["order_count"]
        person["all"] += row["conversation_count"]
    names = ("answers", "conversations", "messages", "phones", "orders")
    by_staff = {
        name: [
            *(person[one] for one in names),
            round(person["orders"] / person["all"], 6) if person["all"] else None,
        ]
        for name, person in expected.items()
        if any(person.values())
    }
    found = {}
    for name, answers, _, _, _, conversations, messages, phones, orders, rate in page["tables"][
        "staff"
    ]:
        counts = [answers, conversations, messages, phones, orders]
        found[name] = [*counts, rate if rate is None else round(rate, 6)]
        if not any(counts):
            del found[name]
    if choice.type == "COMMENT":
        # The model has comments together with the other kinds that are no private messages.
        for counted in (*by_staff.values(), *found.values()):
            counted[0] = 0
    assert found == by_staff
    # A day of a page: its median is the model's.
    if choice.first == choice.last and len(choice.pages) == 1 and choice.type == "INBOX":
        medians = {
            row["staff_name"]: row["median_calendar_response_minutes"]
            for row in choice.rows(shop, "pancake__staff_daily")
            if row["staff_id"] != "unknown" and row["response_count"]
        }
        assert medians
        for name, _, middle, *_ in page["tables"]["staff"]:
            assert name not in medians or close(middle, medians[name])


def compare_waiting(shop: Shop, choice: Choice, page: Row) -> None:
    ever = Choice(choice.pages, choice.type, date.min, date.max)
    waits = [row for row in ever.rows(shop, "pancake__response_times") if row["is_open"]]
    assert page["cards"]["open"]["value"] == len(waits)
    rows = page["tables"]["waiting"]
    longest = sorted((row["wait_minutes"] for row in waits), reverse=True)[:100]
    assert len(rows) == len(longest)
    assert all(close(row[1], time) for row, time in zip(rows, longest, strict=True))
    names = {
        row["conversation_id"]: row["customer_name"]
        for row in shop.project.rows("pancake__conversations")
    }
    if len(waits) <= 100:
        assert Counter(row[0] for row in rows) == Counter(
            names[row["conversation_id"]] for row in waits
        )
        assert {row[3] for row in rows} == {
            f"{row['asked_at_local']:%Y-%m-%dT%H:%M}" for row in waits
        }


def compare_words(choice: Choice, tab: Tab) -> None:
    heads = tab.run("[...document.querySelectorAll('#table-staff th')].map(one => one.textContent)")
    # Columns that do not follow the filter by kind say so.
    assert [head for head in heads if "(all kinds)" in head] == (
        [f"{name} (all kinds)" for name in ("Phones", "Orders", "Close rate")]
        if choice.type and heads
        else []
    )
    assert not heads or "Within 15 min" in heads
    weeks = tab.run(
        "[...document.querySelectorAll('#table-weeks td:first-child')].map("
        "one => [one.dataset.value, one.textContent])"
    )
    pale = tab.run(
        "(document.getElementById('chart-weeks').data ?? []).map(one => one.x.filter("
        "(_, place) => !one.selectedpoints.includes(place)))"
    )
    for value, week in weeks:
        monday = date(1970, 1, 1) + timedelta(days=int(value))
        assert week.startswith(f"{monday.day} {monday:%b %Y}")
        days = [monday + timedelta(days=day) for day in range(7)]
        count = sum(choice.first <= day <= choice.last for day in days)
        assert (f"({count} of 7 days)" in week) == (count < 7)
        assert all(monday.isoformat() in bars for bars in pale) or count == 7


def compare_others(shop: Shop, choice: Choice, page: Row) -> None:
    ads: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    whole: dict[tuple[str, ...], list[Any]] = {}
    columns = ("new_customer_count", "spend", "new_conversation_count", "order_count")
    for row in choice.rows(shop, "pancake__ads_daily"):
        for name in columns:
            ads[row["page_id"], row["ad_id"], row["currency"]][name] += row[name] or 0
        if row["spend"] or row["conversation_count"] or row["order_count"]:
            ad = row["page_id"], row["ad_id"], row["currency"]
            one = whole.setdefault(ad, [row["ad_name"], 1])
            one[1] &= row["is_complete"] and row["is_attribution_complete"]
    expected = sorted(
        (one["new_customer_count"], round(one["spend"], 2), one["new_conversation_count"])
        for one in ads.values()
        if any(one.values())
    )
    found = page["tables"]["ads"]
    assert (
        sorted(
            (row[1], round(row[3] or 0, 2), row[4])
            for row in found
            if row[1] or row[3] or row[4] or row[6]
        )
        == expected
    )
    assert sorted((row[0], row[-1]) for row in found) == sorted(map(tuple, whole.values()))
    for _, customers, cost, spend, *_ in found:
        assert close(cost, spend / customers if customers and spend is not None else None)
    ratings: Counter[int] = Counter()
    for row in choice.rows(shop, "pancake__feedback"):
        if choice.type != "COMMENT" or row["conversation_type"] == "COMMENT":
            ratings[row["rating"]] += 1
    assert {int(stars): n for stars, n, _ in page["tables"]["ratings"]} == {
        stars: n for stars, n in ratings.items() if stars is not None
    }
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    everything = choice.first <= date(2026, 4, 1) and choice.last >= TODAY
    for row in shop.project.rows("pancake__tag_funnel"):
        week = row["week_start_day"]
        is_in = (
            everything
            if week is None
            else week <= choice.last and week + timedelta(days=6) >= choice.first
        )
        if row["page_id"] in choice.pages and is_in:
            tags[row["tag_name"]].update(ever=row["ever_count"], now=int(row["now_count"]))
    assert {name: (ever, now) for name, ever, now, _ in page["tables"]["tags"]} == {
        name: (count["ever"], count["now"]) for name, count in tags.items()
    }
    for bars, key in zip(page["charts"]["tags"], ("ever", "now"), strict=False):
        assert sorted(bars["x"]) == sorted(count[key] for count in tags.values())


# The page itself


def test_the_report_asks_nobody_and_shows_texts_as_they_are(shop: Shop, tab: Tab) -> None:
    choose(tab, period="all", type="")
    asked = [url for url in tab.requests if not url.startswith(("data:", "file://", "blob:"))]
    assert not asked
    assert not tab.logged
    text = shop.file.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert len(text.encode()) < 10_000_000
    for token in (shop.account.user_token, *(page.token for page in shop.account.pages)):
        assert not token or token not in text
    words = tab.run("document.getElementById('report').textContent")
    assert words.count(HOSTILE) > 3
    assert tab.run("document.querySelectorAll('#report img, #report b').length") == 0
    labels = tab.run("[...document.querySelectorAll('#chart-tags text')].map(t => t.textContent)")
    assert HOSTILE[:21] + "…" in [label.strip() for label in labels]


def test_both_languages_say_everything(tab: Tab) -> None:
    heads = (
        "[...document.querySelectorAll('h1, h2, h3, th, label, option, .note')].map("
        "one => one.firstChild?.textContent)"
    )
    english = tab.run(heads)
    numbers = choose(tab)
    tab.run("document.getElementById('language-vi').click()")
    vietnamese = tab.run(heads)
    assert tab.run("document.documentElement.lang") == "vi"
    assert tab.run("document.title") == "Báo cáo phản hồi khách hàng"
    assert "Khách đang chờ trả lời" in vietnamese
    assert len(english) == len(vietnamese)
    same = {a for a, b in zip(english, vietnamese, strict=True) if a == b}
    assert not {"Staff", "Page", "Orders", "90% answered within"} & same
    assert [row[1] for row in choose(tab)["tables"]["messages"]] == [
        row[1] for row in numbers["tables"]["messages"]
    ]
    decimals = tab.run("document.querySelector('#card-within .value').textContent")
    assert re.fullmatch(r"\d+(,\d)?%", decimals)
    titles = tab.run(
        "[...document.querySelectorAll('svg .ytitle, svg .legendtext')].map(t => t.textContent)"
    )
    assert {"số tin", "Khách", "Nhân viên", "Thời gian phản hồi (trung vị)"} <= set(titles)
    assert tab.run("document.activeElement.id") == "language-vi"


@pytest.mark.parametrize("language", ["en", "vi"])
def test_a_phone_shows_all_of_it(shop: Shop, tab: Tab, language: str) -> None:
    tab.open(shop.file, width=390, height=844)
    tab.run(f"document.getElementById('language-{language}').click()")
    choose(tab, period="all", type="")
    tab.run("new Promise((done) => setTimeout(done, 300))")
    assert tab.run("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    outside = tab.run(
        "[...document.querySelectorAll('section, .card, select, input, button, .main-svg, .chart')]"
        ".filter(one => !one.closest('.scroll')).map(one => [one.getBoundingClientRect(), one.id])"
        ".filter(([at]) => at.width && (at.left < 0 || at.right > 390)).map(([, id]) => id)"
    )
    assert not outside
    # Bars have room beside their labels.
    widths = tab.run(
        "[...document.querySelectorAll('.js-plotly-plot')].map(one => one._fullLayout._size.w)"
    )
    assert len(widths) == 6
    assert min(widths) > 150


def test_the_keyboard_reaches_filters_and_sorts_tables(tab: Tab) -> None:
    before = choose(tab)
    tab.run("document.getElementById('page').focus()")
    tab.press("ArrowDown")
    after = choose(tab)
    assert after["cards"]["messages"]["value"] < before["cards"]["messages"]["value"]
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "channel"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    choose(tab, page="")
    tab.run("document.querySelector('#table-staff th:nth-child(7) button').focus()")
    orders: list[list[float]] = []
    for _ in range(2):
        tab.press("Enter", "\r")
        orders.append([row[6] for row in choose(tab)["tables"]["staff"]])
    descending, ascending = orders
    assert descending == sorted(descending, reverse=True)
    assert ascending == sorted(ascending)
    assert descending != ascending
    assert (
        tab.run("document.querySelector('#table-staff th:nth-child(7)').getAttribute('aria-sort')")
        == "ascending"
    )
    # The order stays when a filter changes.
    kept = [row[6] for row in choose(tab, period="all")["tables"]["staff"]]
    assert kept == sorted(kept)


def test_all_words_have_contrast(tab: Tab) -> None:
    choose(tab, period="all")
    found = tab.run(CONTRASTS)
    assert len(found) > 100
    assert not [one for one in found if one[0] < 4.5]


def test_the_page_says_how_new_and_whole_it_is(shop: Shop, tab: Tab) -> None:
    zones = sorted({row["timezone"] for row in shop.project.rows("pancake__pages")})
    as_of = tab.run("document.getElementById('as-of').textContent")
    assert all(f"UTC+{zone:g}" in as_of for zone in zones)
    places = [row["page_id"] for row in by_name(shop)]
    (page_id,) = ids(shop, "facebook")
    choose(tab, page=str(places.index(page_id)))
    assert "Data as of 8 May 2026 09:30 (UTC+7)." in tab.run(
        "document.getElementById('as-of').textContent"
    )
    (row,) = choose(tab)["tables"]["health"]
    assert row[0] == HOSTILE
    # The running day is not complete, and says so.
    assert "Complete: 0 of 1 days" in choose(tab, period="today")["complete"]


def test_postgresql_gives_the_same_numbers(shop: Shop, database: str, tmp_path: Path) -> None:
    load_postgres(tmp_path, database, shop.messages)
    project = in_postgres(tmp_path / "dbt", database, "a shop", pancake__as_of=AS_OF)
    with_hours(project, database)
    project.dbt("run")
    with models.opened(str(shop.project.duckdb)) as ask:
        expected = models.read(ask)
    with models.opened(database, "a shop") as ask:
        found = models.read(ask)
    assert comparable(found) == comparable(expected)
    command = [sys.executable, "-m", "scripts.report", database, str(tmp_path / "r.html")]
    printed = output_of([*command, "--schema", "a shop"], cwd=ROOT)
    assert printed == f"Report: {tmp_path / 'r.html'}\n"


def comparable(data: Row) -> Row:
    """Return tables as sorted rows of names: each engine has an order of its own."""
    lists = {"page": [page["name"] for page in data["pages"]], "type": data["types"]}
    lists |= {"staff": data["staff"], "ad": data["ads"]}
    # A column of the name of a list, and it counts.
    counted = data["messages"] | {"by_staff": data["messages"]["staff"]}
    data = data | {"messages": {name: counted[name] for name in counted if name != "staff"}}

    def named(name: str, value: Any) -> Any:
        return lists[name][value] if name in lists and value is not None else value

    return {
        name: sorted(
            repr([named(column, value) for column, value in zip(table, row, strict=True)])
            for row in zip(*table.values(), strict=True)
        )
        if isinstance(table, dict)
        else table
        for name, table in data.items()
        if name == "as_of" or isinstance(table, dict)
    }
