"""With `fail_on_skip`, what a plan or a right keeps from being read ends the run with an error."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.meltano_project import variables_of
from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import assert_same, records
from tests.tap import config_for, log_lines, run_check, run_command, run_here, select

if TYPE_CHECKING:
    from pathlib import Path

STREAMS = ("tags", "users", "customers")


def account_of(code: int, *, days: int = 1) -> Account:
    """Two pages, of which one may not use a stream; their last conversation is so many days ago."""
    account = Account(47)
    for _ in range(2):
        account.add_page().add_conversation(at=account.now() - timedelta(days=days))
    account.pages[0].refused["users"] = code
    return account


@pytest.mark.parametrize("code", [121, 403])
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_skipped_fails_the_run_if_that_is_wanted(code: int, *, fails: bool) -> None:
    with PancakeServer(account_of(code)) as server:
        page = server.account.pages[0]
        config = config_for(server, fail_on_skip=fails)
        run = run_here(config, catalog=select(*STREAMS))
        assert run.returncode == fails
        assert len(log_lines(run, "WARNING")) == 1
        for line in log_lines(run, "CRITICAL"):
            assert line.startswith("skipped, which is a failure with `fail_on_skip`: 1; the first:")
            assert f"page {page.id}, users: " in line
        # All else is read as ever.
        for stream in STREAMS:
            held = {
                key: row
                for key, row in records(server, stream).items()
                if stream != "users" or row["page_id"] != page.id
            }
            assert_same(run.by_key(stream), held)


def test_a_page_without_traffic_is_no_failure() -> None:
    with PancakeServer(account_of(500, days=60)) as server:
        run = run_here(config_for(server, fail_on_skip=True), catalog=select(*STREAMS))
        assert run.returncode == 0, run.stderr
        assert "Skipped in all: 1 (the log above says why)" in log_lines(run, "INFO")


@pytest.mark.parametrize(("code", "days"), [(403, 1), (500, 60)])
def test_a_test_of_the_settings_says_what_such_a_run_would_fail_at(
    tmp_path: Path, code: int, days: int
) -> None:
    (tmp_path / "catalog.json").write_text(json.dumps(select(*STREAMS)), encoding="utf-8")
    with PancakeServer(account_of(code, days=days)) as server:
        for fails in (False, True):
            config = config_for(server, fail_on_skip=fails)
            run = run_check(tmp_path, config, "--catalog", str(tmp_path / "catalog.json"))
            assert "  skipped: users: " in run.stdout
            assert run.returncode == (fails and code == 403)


@pytest.mark.parametrize(("text", "code"), [("true", 1), ("FALSE", 0), ("ture", 1)])
def test_the_setting_comes_from_the_environment_too(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "catalog.json").write_text(json.dumps(select(*STREAMS)), encoding="utf-8")
    with PancakeServer(account_of(403)) as server:
        env = variables_of(config_for(server, fail_on_skip=text))
        run = run_command("--config=ENV", "--catalog", str(tmp_path / "catalog.json"), env=env)
        assert run.returncode == code, run.stderr
        assert ("setting `fail_on_skip` must be true or false" in run.stderr) == (text == "ture")
