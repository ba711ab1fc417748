"""What the report is made of. tests/dbt_report.py compares its numbers with the models."""

from __future__ import annotations

import json
import re
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
        r"(filter|channel|type|period|minutes|speaker|card|status|ads)\.|\w+\.(title|note)$"
    )
    rest = {key for key in TEXTS["en"] if not made.match(key) and f'"{key}"' not in SCRIPT}
    assert rest == {"language"}


def empty(directory: Path) -> Path:
    """Make a file of models in which there is one page, and nothing else was read."""
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
            " null::timestamp as last_complete_at, null::double as hours_since_complete,"
            " false as is_stale, 0 as set_aside_count"
        )
        connection.execute(
            "create table int_pancake__clock as select timestamp '2026-05-08 02:30:00' as as_of"
        )
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
        assert status.startswith("Data as of 2026-05-08 09:30 (UTC+7).")
        assert "Complete: 0 of 28 days" in status
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
