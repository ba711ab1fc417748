"""What a page may not use is logged once for each reason, when the page is done or the run ends."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from tests.pancake_api import Account, Call, PancakeServer
from tests.pancake_api.server import Answer
from tests.processes import ROOT
from tests.tap import (
    KEYS,
    config_for,
    finish,
    log_lines,
    run_check,
    run_here,
    run_tap,
    select,
    start_tap,
)

if TYPE_CHECKING:
    from pathlib import Path

STREAMS = ("tags", "users", "customers", "posts")
PLAN = "the page or account has no valid plan: renew the subscription (gói cước) in Pancake"
IDLE = "the API answers HTTP 500, as it may for a page without traffic: later runs try again"


def account_of(*, days: int = 1) -> Account:
    """Two pages, whose last conversation is so many days ago."""
    account = Account(48)
    for _ in range(2):
        account.add_page().add_conversation(at=account.now() - timedelta(days=days))
    return account


def names(line: str) -> tuple[str, set[str]]:
    """Return the page and the streams that a line names."""
    place = line.removeprefix("Skipped: ").partition(": ")[0]
    page, *streams = place.split(", ")
    assert len(streams) == len({*streams})
    return page.removeprefix("page "), {*streams}


def test_a_page_without_a_plan_brings_one_line_whatever_the_api_says() -> None:
    account = account_of()
    refused = account.pages[0]

    def refuse(call: Call) -> Answer | None:
        if call.page_id != refused.id:
            return None
        message = f"Không tìm thấy gói cước ({call.number})"
        return Answer(200, json.dumps({"success": False, "message": message}).encode())

    with PancakeServer(account) as server:
        server.instead = refuse
        run = run_here(config_for(server), catalog=select(*KEYS))
    assert run.returncode == 0, run.stderr
    (line,) = log_lines(run, "WARNING")
    assert line.startswith("Skipped: ")
    assert f": {PLAN}" in line
    page, streams = names(line)
    assert page == refused.id
    assert {"tags", "users", "page_statistics", "conversations"} <= streams
    assert any(
        text == f"Skipped in all: {len(streams)} (the log above says why)"
        for text in log_lines(run, "INFO")
    )


def test_each_reason_has_its_line() -> None:
    account = account_of()
    for page in account.pages:
        page.refused.update({"tags": 121, "users": 403, "customers": 121})
    with PancakeServer(account) as server:
        run = run_here(config_for(server), catalog=select(*STREAMS))
    lines = [(*names(line), PLAN in line) for line in log_lines(run, "WARNING")]
    expected = [
        (page.id, streams, is_plan)
        for page in account.pages
        for streams, is_plan in (({"tags", "customers"}, True), ({"users"}, False))
    ]
    assert sorted(lines, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_says_it_too(tmp_path: Path, signum: signal.Signals) -> None:
    account = account_of()
    refused = account.pages[0]
    refused.refused.update({"tags": 121, "users": 121})
    with PancakeServer(account) as server:
        config, catalog = config_for(server), select(*STREAMS, "messages")
        process = start_tap(tmp_path, config, catalog=catalog)
        server.on_call = lambda call: (
            process.send_signal(signum)
            if call.endpoint == "messages" and call.page_id == refused.id
            else None
        )
        run = finish(process)
    assert run.returncode == 128 + signum
    (line,) = [line for line in log_lines(run, "WARNING") if line.startswith("Skipped: ")]
    assert names(line) == (refused.id, {"tags", "users"})


def test_a_run_and_a_test_say_the_same_of_a_page_without_traffic(tmp_path: Path) -> None:
    account = account_of(days=60)
    idle = account.pages[0]
    idle.refused.update({"tags": 500, "users": 500})
    with PancakeServer(account) as server:
        config, catalog = config_for(server), select(*STREAMS, "sync_runs")
        (tmp_path / "catalog.json").write_text(json.dumps(catalog), encoding="utf-8")
        test = run_check(tmp_path, config, "--catalog", str(tmp_path / "catalog.json"))
        run = run_here(config, catalog=catalog)
    assert f"  skipped: tags, users: {IDLE}\n" in test.stdout
    assert log_lines(run, "WARNING") == [f"Skipped: page {idle.id}, tags, users: {IDLE}"]
    rows = {row["page_id"]: row for row in run.records["sync_runs"]}
    assert (rows[idle.id]["status"], rows[idle.id]["reason"]) == (
        "skipped",
        f"page {idle.id}, tags: {IDLE}",
    )


# What the DAG of orchestrate/ makes of the log.


@pytest.fixture(name="dag")
def without_airflow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the DAG's file has, with something in the place of Airflow."""
    for name in ("airflow", "airflow.sdk", "airflow.sdk.exceptions"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    return runpy.run_path(str(ROOT / "orchestrate" / "pancake.py"))


def test_the_dag_counts_what_is_skipped_or_gone_and_no_idle_page(
    tmp_path: Path, dag: dict[str, Any]
) -> None:
    account = account_of(days=60)
    refused, idle = account.pages
    gone = account.add_page()
    catalog = select(*STREAMS)
    with PancakeServer(account) as server:
        first = run_tap(tmp_path, config_for(server), catalog=catalog)
        account.pages.remove(gone)
        refused.refused.update({"tags": 121, "users": 121})
        idle.refused["tags"] = 500
        run = run_here(config_for(server), catalog=catalog, state=first.state)
    warnings = log_lines(run, "WARNING")
    assert len(warnings) == 3
    found = [dag["unread_by"]({"event": line, "level": "warning"}) for line in warnings]
    misses, skipped = sorted(filter(None, found))
    assert misses.startswith(f"misses a page: page {gone.id} is not in this account any more, ")
    assert skipped.startswith(f"skipped page {refused.id}, tags, users: {PLAN}")
    for line in log_lines(run, "INFO"):  # the summary names them again
        assert dag["unread_by"]({"event": line, "level": "info"}) is None
    aside = {"event": "Still set aside: page 1, messages: why", "level": "warning"}
    assert dag["unread_by"](aside) == "still set aside page 1, messages: why"
