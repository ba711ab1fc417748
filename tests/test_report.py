"""What the report is made of. tests/dbt_report.py compares its numbers with the models."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from scripts.report import __main__ as report
from scripts.report import models
from tests.browser import opened_browser

if TYPE_CHECKING:
    from pathlib import Path

TEXTS: dict[str, dict[str, str]] = json.loads(report.part("texts.json"))
SCRIPT = report.part("report.js")
SECTIONS = ("messages", "hours", "weeks", "staff", "waiting", "ads", "ratings", "tags")


def test_each_language_has_all_texts_with_the_same_places() -> None:
    for language, texts in TEXTS.items():
        assert texts.keys() == TEXTS["en"].keys(), language
        for key, text in texts.items():
            places = set(re.findall(r"\{\w+\}", text))
            assert places == set(re.findall(r"\{\w+\}", TEXTS["en"][key])), (language, key)


def test_each_text_of_the_script_is_in_the_table_and_none_is_left_over() -> None:
    keys = set(re.findall(r'text\(\s*"([\w.]+)"', SCRIPT))
    keys |= set(re.findall(r'text\(\w+(?: === "\w+")? \? "([\w.]+)" : "[\w.]+"', SCRIPT))
    assert keys <= TEXTS["en"].keys()
    made = re.compile(
        r"(filter|channel|type|period|minutes|speaker|card|status|why|ads)\.|\w+\.(title|note)$"
    )
    rest = {key for key in TEXTS["en"] if not made.match(key) and f'"{key}"' not in SCRIPT}
    assert rest == {"language"}


def empty(directory: Path, *more: str) -> Path:
    """Make a file of models in which there is one page and nothing else was read, or some more."""
    file = directory / "pancake.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema pancake.pancake")
        connection.execute("use pancake.pancake")
        connection.execute(
            "create table pancake__pages as select '1' as page_id, 'Shop' as page_name,"
            " 'facebook' as platform, 7.0 as timezone"
        )
        connection.execute(
            "create table pancake__sync_health as select '1' as page_id, 'never_run' as status,"
            " null::text as reason, null::timestamp as last_complete_at, false as is_stale,"
            " 0 as set_aside_count"
        )
        connection.execute(
            "create table int_pancake__streams"
            " (page_id text, status text, last_complete_at timestamp)"
        )
        connection.execute(
            "create table int_pancake__clock as select timestamp '2026-05-08 02:30:00' as as_of"
        )
        for statement in more:
            connection.execute(statement)
    return file


def read(file: Path) -> dict[str, Any]:
    """Read a file of models."""
    with models.opened(str(file)) as ask:
        return models.read(ask)


def test_without_rows_each_section_says_so(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.report(read(empty(tmp_path))), encoding="utf-8")
    with opened_browser(tmp_path) as tab:
        tab.open(file)
        tab.run("document.getElementById('language-en').click()")
        for section in SECTIONS:
            words = tab.run(f"document.querySelector('#{section} .numbers').textContent")
            assert words == TEXTS["en"]["nothing"], section
        cards = tab.run("[...document.querySelectorAll('.value')].map(one => one.textContent)")
        assert cards == ["0", "0", "0", "\N{EN DASH}", "\N{EN DASH}", "0"]
        status = tab.run("document.getElementById('status').textContent")
        assert status.startswith("Data as of 8 May 2026 09:30 (UTC+7).")
        assert "Complete: 0 of 7 days" in status
        assert not tab.logged


def test_a_large_shop_has_its_newest_days_and_the_page_says_from_when(tmp_path: Path) -> None:
    data = read(empty(tmp_path))
    last, count = 20_000, 40_000
    data["waits"] = {
        "page": [0] * count,
        "type": [0] * count,
        "day": [last - place % 400 for place in range(count)],
        "hour": [9] * count,
        "staff": [None] * count,
        "minutes": [1234.56] * count,
        "working": [1234.56] * count,
        "open": [0] * count,
        "within": [0] * count,
    }
    data["open"] = {"page": [0], "type": [0], "open_count": [3000]}
    data["pages"][0] |= {"first": last - 399, "complete": "1" * 400}
    data["as_of"] = "2024-10-05T01:00:00"
    whole = report.report(data)
    assert '"first":19601,"shortened":false' in whole
    room = len(whole.encode()) - 400_000
    text = report.report(data, room)
    assert room * 0.9 < len(text.encode()) <= room
    embedded = re.search(r'id="data">(.*?)</script>', text)
    assert embedded
    kept = json.loads(embedded[1])
    assert kept["shortened"]
    assert kept["first"] == min(kept["waits"]["day"])
    assert max(kept["waits"]["day"]) == last
    assert {len(column) for column in kept["waits"].values()} == {len(kept["waits"]["day"])}
    # A day that is left out is not complete, and who waits now is not left out.
    (page,) = kept["pages"]
    assert page["first"] == kept["first"]
    assert len(page["complete"]) == last - page["first"] + 1
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    with opened_browser(tmp_path) as tab:
        tab.open(file)
        tab.run("document.getElementById('language-en').click()")
        for period, words in (("days_28", "(period before: "), ("all", "not in this file")):
            tab.run(
                "(() => { const one = document.getElementById('period');"
                f" one.value = {period!r}; one.dispatchEvent(new Event('change')); }})()"
            )
            cards = tab.run("document.getElementById('cards').textContent")
            assert words in cards
            assert tab.run("document.querySelector('#card-open .value').textContent") == "3,000"


def test_nothing_in_a_name_ends_the_data(tmp_path: Path) -> None:
    data = read(empty(tmp_path))
    data["pages"][0]["name"] = "</script><!--<script>@DATA@@SCRIPT@"
    text = report.report(data)
    assert text.count("</script>") == report.report(read(tmp_path / "pancake.duckdb")).count(
        "</script>"
    )


def test_a_schema_without_models_is_an_error(tmp_path: Path) -> None:
    file = empty(tmp_path)
    with (
        pytest.raises(SystemExit, match="is it the right schema"),
        models.opened(str(file), "main") as ask,
    ):
        models.read(ask)


WAITS = """
create table pancake__response_times as
    select page_id || kind || number as wait_id, page_id, kind as conversation_type,
        page_id || kind || number as conversation_id,
        case when number > 1 then timestamp '2026-05-08 09:00:00' end as asked_at_local,
        number + added as wait_minutes, number + added as working_minutes, true as is_open,
        15 as target_minutes, date '2026-05-08' as date_day, 9 as hour_of_day,
        false as is_within_target, null::varchar as staff_id, null::varchar as staff_name
    from (values ('1', 'INBOX', 0), ('1', 'COMMENT', 5000), ('2', 'INBOX', -150))
        as of(page_id, kind, added),
        range(1, 151) as numbers(number)
"""


def test_under_each_filter_the_longest_that_wait_are_there(tmp_path: Path) -> None:
    file = empty(
        tmp_path,
        "insert into pancake__pages values ('2', 'Small shop', 'zalo', 7.0)",
        WAITS,
        "create table pancake__conversations as select page_id, conversation_id,"
        " 'Somebody' as customer_name from pancake__response_times",
    )
    data = read(file)
    waiting = data["waiting"]
    found = Counter(zip(waiting["page"], waiting["type"], strict=True))
    assert found == {(0, 0): 100, (0, 1): 100, (1, 0): 100}
    longest = sorted(waiting["minutes"], reverse=True)
    assert waiting["minutes"] == longest
    assert min(longest) == 51 - 150
    assert sorted(data["open"]["open_count"]) == [150, 150, 150]
    assert data["target"] == 15


def test_the_page_says_what_could_not_be_read_and_that_all_hours_count(tmp_path: Path) -> None:
    reason = "the page or account has no valid plan: renew the subscription (HTTP 200, `no plan`)"
    file = empty(
        tmp_path,
        f"update pancake__sync_health set status = 'skipped', is_stale = true, reason = '{reason}'",
        "insert into int_pancake__streams values"
        " ('1', 'skipped', null), ('1', 'skipped', '2026-04-30 20:00:00')",
        "create table int_pancake__working_time as select '1' as page_id,"
        " date '2026-05-07' as date_day, 0 as opens_minute, 1440 as closes_minute",
    )
    text = tmp_path / "report.html"
    text.write_text(report.report(read(file)), encoding="utf-8")
    with opened_browser(tmp_path) as tab:
        tab.open(text)
        tab.run("document.getElementById('language-en').click()")
        status = tab.run("document.getElementById('status').textContent")
        assert (
            "No data can be read: Shop, since 1 May 2026 03:00, the page or account has no valid"
            " plan: renew it in Pancake." in status
        )
        assert "no working hours are set: All pages." in status
        assert "No complete run" not in status
        row = tab.run(
            "[...document.querySelectorAll('#table-health td')].map(one => one.textContent)"
        )
        assert row[3] == "nothing could be read since 1 May 2026 03:00"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (None, None),
        ("permission was denied: ask an administrator (HTTP 403, `no`)", "permission"),
        (
            "the API refused the call: report this (HTTP 400, `Mai`)",
            "the API refused the call: report this",
        ),
    ],
)
def test_a_reason_is_shown_without_what_the_api_said(reason: str | None, shown: str | None) -> None:
    assert models.reason(reason) == shown
