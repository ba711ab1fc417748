"""A page whose long answers fail is read in shorter ones, and nothing is lost on the way."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import assert_same, records, utc
from tests.tap import config_for, log_lines, run_check, run_here, select
from tests.truth import merged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tap import Run

NOW = utc(2026, 1, 8, 15)


def account_of(customers: int, pages: int = 1) -> Account:
    """Pages with customers and a conversation."""
    account, rng = Account(24), random.Random(5)
    for _ in range(pages):
        page = account.add_page()
        page.add_conversation()
        for _ in range(customers):
            at = NOW - timedelta(seconds=rng.randrange(3600, 90 * 86_400))
            page.belongings.add_customer(at, at + rng.random() * (NOW - at))
    return account


def run_of(server: PancakeServer, **options: Run) -> Run:
    """Read customers."""
    state = options["after"].state if options else None
    return run_here(config_for(server), catalog=select("customers"), state=state)


def sizes(server: PancakeServer, page_id: str | None = None) -> list[int]:
    """The page sizes that were asked for, each once where it is asked for again and again."""
    asked = [
        int(call.params["page_size"])
        for call in server.calls
        if call.endpoint == "customers" and page_id in {None, call.page_id}
    ]
    return [size for number, size in enumerate(asked) if [size] != asked[number - 1 : number]]


@pytest.mark.parametrize(("largest", "asked"), [(99, [100, 50]), (30, [100, 50, 25])])
def test_customers_come_by_half_as_many_where_long_answers_fail(
    largest: int, asked: list[int]
) -> None:
    with PancakeServer(account_of(330)) as server:
        server.desk.fails_above["customers"] = largest
        first = run_of(server)
        assert first.returncode == 0, first.stderr
        # The reading that begins again meets the row where it begins.
        assert len(first.repeated("customers")) <= len(asked) - 1
        assert_same(first.by_key("customers"), records(server, "customers"))
        assert sizes(server) == asked
        lines = [line for line in log_lines(first, "INFO") if "the page size is" in line]
        assert len(lines) == len(asked) - 1
        again = run_of(server, after=first)
        assert again.returncode == 0, again.stderr
        assert_same(merged("customers", first, again), records(server, "customers"))


def test_other_pages_are_asked_for_as_many_as_ever() -> None:
    with PancakeServer(account_of(230, pages=2)) as server:
        busy, other = server.account.pages
        server.faults.append(
            Fault("500", page_id=busy.id, where=lambda call: call.params.get("page_size") == "100")
        )
        run = run_of(server)
        assert run.returncode == 0, run.stderr
        assert_same(run.by_key("customers"), records(server, "customers"))
        assert sizes(server, busy.id) == [100, 50]
        assert sizes(server, other.id) == [100]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("begins", [2, 3, 5, 8])
def test_a_list_that_moves_while_its_answers_get_shorter_loses_nothing(
    begins: int, *, ordered: bool
) -> None:
    with PancakeServer(account_of(450)) as server:
        (page,) = server.account.pages
        server.desk.customers_ordered = ordered
        server.desk.customers_filter = "order_by" if ordered else "inserted_at"
        rng = random.Random(begins)
        ids = [row["id"] for row in page.belongings.customers(server.dialect)]

        def move() -> None:
            page.belongings.touch_customer(rng.choice(ids), server.account.now())
            page.belongings.add_customer(server.account.now())

        server.move_every(2, move)
        customers = iter(range(1000))

        def fail() -> None:
            server.desk.fails_above["customers"] = 60

        server.at(lambda call: call.endpoint == "customers" and next(customers) == begins, fail)
        runs = [run_of(server)]
        server.movers.clear()
        runs.append(run_of(server, after=runs[0]))
        assert [run.returncode for run in runs] == [0, 0]
        assert sizes(server) in ([100, 50], [100, 50, 100, 50])
        assert_same(merged("customers", *runs), records(server, "customers"))


def test_less_than_twenty_are_never_asked_for() -> None:
    with PancakeServer(account_of(30)) as server:
        (page,) = server.account.pages
        server.desk.fails_above["customers"] = 10
        run = run_of(server)
        assert run.returncode == 1
        (line,) = log_lines(run, "ERROR")
        assert line.startswith(f"page {page.id}, customers: ")
        assert sizes(server) == [100, 50, 25, 20]


def test_one_failure_changes_nothing() -> None:
    with PancakeServer(account_of(230)) as server:
        server.faults.append(Fault("500", endpoint="customers", every=3))
        run = run_of(server)
        assert run.returncode == 0, run.stderr
        assert sizes(server) == [100]


def test_a_test_of_the_settings_asks_for_fewer_too(tmp_path: Path) -> None:
    with PancakeServer(account_of(30)) as server:
        server.desk.fails_above["customers"] = 30
        (tmp_path / "catalog.json").write_text(json.dumps(select("customers")), encoding="utf-8")
        config = config_for(server)
        run = run_check(tmp_path, config, "--catalog", str(tmp_path / "catalog.json"))
        assert "everything can be read (1 stream)" in run.stdout
