"""The report is one file, and its charts are there when a browser opens it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from scripts import recipes, report
from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import utc
from tests.tap import config_for, select, sync
from tests.targets import load_jsonl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TITLES = (
    "Messages per day and channel",
    "First response time by hour",
    "First response time by staff",
    "Open conversations by age",
    "Tag funnel",
    "New customers by ad",
)
START, END = utc(2026, 5, 1), utc(2026, 5, 8)
HOSTILE = '<b></script><img src="https://outside.example/x.png">&'
"""It begins with a tag that plotly knows: texts are cut in the charts."""


@dataclass
class Opened(HTMLParser):
    """What is in a document: of each chart the bars that can be seen, and its texts."""

    bars: dict[str, int] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    chart: str = ""
    in_point: bool = False

    def __post_init__(self) -> None:
        """Begin."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.loaded += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        if re.fullmatch(r"chart-\d", values.get("id", "")):
            self.chart = values["id"]
            self.bars[self.chart], self.texts[self.chart] = 0, []
        # A bar of nothing is there, as a path without any length.
        self.bars[self.chart] = self.bars.get(self.chart, 0) + (
            tag == "path" and self.in_point and values.get("d") not in {None, "M0,0Z"}
        )
        self.in_point = tag == "g" and "point" in values.get("class", "").split()

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.chart, []).append(data)


def parsed(document: str) -> Opened:
    """Read a document."""
    opened = Opened()
    opened.feed(document)
    opened.close()
    return opened


@pytest.fixture(name="account", scope="module")
def invented_account() -> Account:
    account = Account.generate(seed=3, pages=3, conversations=40, start=START, end=END)
    account.pages[0].name = HOSTILE
    account.pages[0].tags[1].text = HOSTILE
    # What is known of this one is its id.
    unlisted = account.add_page(timezone=7)
    unlisted.category, unlisted.name, unlisted.platform = "unlisted", unlisted.id, "unknown"
    unlisted.fill(20, (1, 9), START, END)
    return account


@pytest.fixture(name="file", scope="module")
def written_report(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read the account into files, and draw them."""
    directory = tmp_path_factory.mktemp("report")
    with PancakeServer(account) as server:
        config = config_for(server, start_date="2026-05-01", end_date="2026-05-08")
        config["page_access_tokens"] = {
            page.id: page.token for page in account.pages if page.category == "unlisted"
        }
        streams = ("pages", "tags", "ad_statistics", "conversations", "messages")
        run = sync(directory, config, catalog=select(*streams))
    files = directory / "output"
    load_jsonl(directory, files, run.stdout)
    subprocess.run(
        [sys.executable, "-m", "scripts.report", files, "--as-of", "2026-05-08T00:00:00Z"],
        check=True,
        capture_output=True,
        text=True,
    )
    return files / "report.html"


def test_the_report_loads_nothing_and_gives_nothing_away(account: Account, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    written = parsed(text)
    assert not written.loaded
    assert not written.tags & {"link", "iframe", "img", "object", "embed", "base"}
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text.partition("<style>")[2].partition("</style>")[0])
    for token in (account.user_token, *(page.token for page in account.pages if page.token)):
        assert token not in text


def browser() -> str:
    """Find Chromium, without which there is nothing to see."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        message = f"no browser to look at the report with: none of {', '.join(BROWSERS)} is there"
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def shown(file: Path, profile: Path) -> tuple[Opened, str]:
    """Open a file in the browser; give what is on the page then, and what the browser logged."""
    done = subprocess.run(
        [
            browser(),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run"),
            f"--user-data-dir={profile}",
            *("--window-size=1000,2000", "--enable-logging=stderr"),
            *("--virtual-time-budget=20000", "--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    return parsed(done.stdout), done.stderr


def test_a_browser_shows_all_charts(account: Account, file: Path, tmp_path: Path) -> None:
    page, log = shown(file, tmp_path)
    assert "CONSOLE" not in log, log
    words = " ".join(page.texts.pop(""))
    charts = {f"chart-{number}": title for number, title in enumerate(TITLES, 1)}
    everything = words + " ".join(text for texts in page.texts.values() for text in texts)
    for title in TITLES:
        assert title in everything
    assert page.texts.keys() == charts.keys()
    pages = [page for page in account.pages if page.category in {"activated", "unlisted"}]
    days = {
        (page.platform, (message.inserted_at + timedelta(hours=page.timezone)).date())
        for page in pages
        for known in page.conversations.values()
        for message in known.messages
        if not message.attachments
        or message.attachments[0]["type"] not in {"ad_click", "reaction", "system_message"}
    }
    tags = {(page.tags[tag_id].text, kind) for page in pages for kind, tag_id in tagged(page)}
    assert page.bars["chart-1"] == len(days)
    assert page.bars["chart-5"] == len(tags)
    for chart in charts:
        assert page.bars[chart] > 2, (chart, page.texts[chart])
    for chart, axes in {
        "chart-1": ("day", "messages"),
        "chart-2": ("hour of the day", "median wait (hours)"),
        "chart-3": ("median wait (hours)",),
        "chart-4": ("waiting for", "conversations"),
        "chart-5": ("conversations", "ever tagged", "tagged now"),
        "chart-6": ("new customers", "left a phone number"),
    }.items():
        for axis in axes:
            assert axis in page.texts[chart], page.texts[chart]
    assert f"{HOSTILE[:23]}…\N{NO-BREAK SPACE}" in page.texts["chart-5"]
    assert "img" not in page.tags
    assert not [url for url in page.loaded if not url.startswith("#")]


def tagged(page: Page) -> set[tuple[str, int]]:
    """Give the tags that conversations have, and those that they ever had."""
    found = set()
    for known in page.conversations.values():
        now = {tag_id for tag_id in known.tag_ids if tag_id is not None}
        found |= {("now", tag_id) for tag_id in now}
        found |= {("ever", tag_id) for tag_id in now}
        found |= {("ever", changed.tag.id) for changed in known.tag_histories}
    return found


def test_without_rows_each_chart_says_so(tmp_path: Path) -> None:
    (tmp_path / "pages.jsonl").write_text('{"id": "1", "name": "Shop"}\n', encoding="utf-8")
    with closing(recipes.opened(tmp_path, END)) as connection:
        text = report.report(connection)
    assert text.count("Nothing to show.") == len(TITLES)
    summary = re.search(r"<p>Pages: (.*)</p>", text)
    assert summary
    assert summary[1] == (
        "1 · conversations: 0 · messages: 0 · open conversations as of 2026-05-08 00:00 UTC"
    )


def test_staff_of_pages_of_one_name_have_their_own_bars_and_counts() -> None:
    rows = [
        {"page_id": page, "page": "Tiệm Mây <b>Trắng", "staff_id": None, "staff": None}
        | {"hour": 1, "minutes": 5}
        for page in ("1", "1", "2")
    ]
    figure = report.response_by_staff(rows).figure
    assert figure
    assert [text.replace("&nbsp;", "") for text in figure.layout.yaxis.ticktext] == [
        "Outside, Tiệm Mây &lt;… (2)",
        "Outside, Tiệm Mây &lt;… (1)",
    ]
    assert list(figure.data[0].hovertext) == [
        "Outside, Tiệm Mây &lt;b&gt;Trắng (2)",
        "Outside, Tiệm Mây &lt;b&gt;Trắng (1)",
    ]
