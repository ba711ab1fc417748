"""A backfill brings everything that the server holds, once, in every dialect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.api.errors import RunStopped
from tap_pancake.streams.pages import listed_pages
from tests.accounts import DIALECTS
from tests.pancake_api import Account, Message, Page, PancakeServer
from tests.pancake_api.dialects import Observed
from tests.tap import config_for, select, sync
from tests.truth import assert_all_arrived, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Conversation
    from tests.pancake_api.account import Bounds
    from tests.tap import Json, Run

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Backfill:
    """A run from nothing, and the server it read."""

    server: PancakeServer
    run: Run


@pytest.fixture(scope="module", params=DIALECTS)
def backfill(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backfill]:
    # More channels than one, more messages than two batches hold, more rows than one list holds.
    account = Account.generate(seed=11, pages=4, conversations=14, messages=(1, 70))
    account.add_page().fill(65, (1, 2), NOON, NOON + timedelta(days=200))
    account.add_page(category="nopermission")
    with PancakeServer(account, request.param) as server:
        yield Backfill(server, sync(tmp_path_factory.mktemp(request.param), config_for(server)))


def test_every_field_of_every_row_arrives(backfill: Backfill) -> None:
    assert_all_arrived(backfill.server, backfill.run)


def test_nothing_arrives_twice(backfill: Backfill) -> None:
    run = backfill.run
    assert {stream: run.repeated(stream) for stream in run.records} == {
        "pages": [],
        "conversations": [],
        "messages": [],
    }


def test_the_account_is_only_read(backfill: Backfill) -> None:
    assert backfill.server.violations == []


def test_only_activated_pages_are_read(backfill: Backfill) -> None:
    activated = {page.id for page in backfill.server.account.pages if page.category == "activated"}
    called = {call.page_id for call in backfill.server.calls if call.endpoint != "pages"}
    assert called == activated


def test_the_schema_knows_every_field_and_type(backfill: Backfill) -> None:
    assert "WARNING" not in backfill.run.stderr


def test_no_credential_of_the_rows_is_written(backfill: Backfill) -> None:
    """All that is secret in the server's rows, page tokens apart, says so in its value."""
    assert "SECRET" not in backfill.run.stdout
    for page in backfill.server.account.pages:
        assert page.token is None or page.token not in backfill.run.stdout


class Added(Observed):
    """Answers with a field that no schema knows, a value of no known type, and a former secret."""

    def message(self, message: Message, conversation_id: str) -> Json:
        row = super().message(message, conversation_id)
        return row | {"sentiment": "glad", "seen": {"by": "all"}, "session_id": "SECRET"}


def test_what_the_schema_does_not_know_is_told_once(tmp_path: Path) -> None:
    account = Account.generate(seed=3, pages=2, conversations=3, messages=(1, 3))
    with PancakeServer(account) as server:
        server.dialect = Added()
        run = sync(tmp_path, config_for(server))
        count = len(run.records["messages"])
        warnings = [line for line in run.stderr.splitlines() if "WARNING" in line]

        known = Observed().message(account.pages[0].conversations.popitem()[1].messages[0], "")
        for row in run.records["messages"]:
            assert row.keys() == {*known, "other_fields"}
            assert row["other_fields"].keys() == {"sentiment", "seen"}
        assert {row["seen"] for row in run.records["messages"]} == {None}
        assert [f"sentiment ({count} rows)" in line for line in warnings] == [True, False]
        assert [f"seen ({count} rows)" in line for line in warnings] == [False, True]
        assert "SECRET" not in run.stdout + run.stderr
        assert "session_id" not in run.stderr


class WithoutIds(Observed):
    """Answers without the ids that were asked for."""

    def conversation(self, page: Page, conversation: Conversation) -> Json:
        row = super().conversation(page, conversation)
        del row["page_id"]
        return row

    def message(self, message: Message, conversation_id: str) -> Json:
        row = super().message(message, conversation_id)
        del row["page_id"], row["conversation_id"]
        return row


def test_ids_that_an_answer_leaves_out_are_filled_in(tmp_path: Path) -> None:
    account = Account.generate(seed=3, pages=2, conversations=3, messages=(1, 3))
    with PancakeServer(account) as server:
        truth = rows_of(server)
        server.dialect = WithoutIds()
        run = sync(tmp_path, config_for(server))

        assert run.by_key("conversations") == truth["conversations"]
        assert run.by_key("messages") == truth["messages"]


# Forms of list-pages. Three of them are read in the dialects above.


@pytest.mark.parametrize(
    "body",
    [
        {"pages": [{"id": "a"}]},
        {"categorized": {"activated": [{"id": "a"}], "activated_page_ids": ["a"]}},
        {"categorized_pages": {"activated": [{"id": "a"}], "hidden": []}},
        {"categorized": [{"group": "activated", "pages": [{"id": "a"}]}]},
    ],
)
def test_pages_are_found_in_each_form_of_their_list(body: dict[str, Any]) -> None:
    assert listed_pages(body)["activated"] == [{"id": "a"}]


@pytest.mark.parametrize("pages", [[{"id": None}], [{"id": "a"}, {"name": "b"}], ["a"], {}])
def test_a_list_of_pages_that_cannot_be_asked_for_is_an_error(pages: Any) -> None:
    """Without it they would be missing in silence."""
    for body in ({"pages": pages}, {"categorized": {"activated": pages}}):
        with pytest.raises(RunStopped, match="please report this"):
            listed_pages(body)


def test_groups_of_pages_are_kept_apart() -> None:
    groups = {"activated": [{"id": "a"}, {"id": "b"}], "hidden": [{"id": "c"}], "inactivated": []}
    listed = listed_pages(
        {"categorized": [{"group": group, "pages": pages} for group, pages in groups.items()]}
    )
    assert listed == groups


# Tokens.


def test_page_tokens_alone_are_enough(tmp_path: Path) -> None:
    account = Account.generate(seed=5, pages=2, conversations=5, messages=(1, 3))
    first, second, *_ = account.pages
    with PancakeServer(account) as server:
        tokens = {first.id: first.token, second.id: second.token}
        config = config_for(server, page_access_tokens=tokens)
        del config["access_token"]
        run = sync(tmp_path, config)
        truth = rows_of(server)

        assert run.records["pages"] == [
            {"id": page.id, "other_fields": None} for page in (first, second)
        ]
        assert run.by_key("conversations") == truth["conversations"]
        assert run.by_key("messages") == truth["messages"]
        assert server.count("pages") == 0


class StaleTokens(Observed):
    """Lists page tokens that do not work."""

    def pages_body(self, account: Account) -> Json:
        body = super().pages_body(account)
        for page in body["categorized"]["activated"]:
            page["settings"]["page_access_token"] = "stale"
        return body


def test_a_configured_page_token_goes_before_the_listed_one(tmp_path: Path) -> None:
    account = Account.generate(seed=5, pages=1, conversations=5, messages=(1, 3))
    page = account.pages[0]
    with PancakeServer(account) as server:
        server.dialect = StaleTokens()
        run = sync(tmp_path, config_for(server, page_access_tokens={page.id: page.token}))

        assert_all_arrived(server, run)
        assert server.count("pages") == 1


# What nobody knows of the lists.


@pytest.mark.parametrize("bounds", ["[]", "[)", "(]", "()"])
def test_it_does_not_matter_whether_bounds_are_inclusive(tmp_path: Path, bounds: Bounds) -> None:
    """Four rows a second, all at whole seconds: every bound of a window meets some."""
    account = Account()
    page = account.add_page()
    for number in range(300):
        page.add_conversation(at=NOON + timedelta(seconds=number // 4))
    with PancakeServer(account, window_bounds=bounds) as server:
        run = sync(tmp_path, config_for(server), catalog=select("conversations"))

        assert run.by_key("conversations") == rows_of(server)["conversations"]
        assert not run.repeated("conversations")


def test_v1_is_read_whole_though_its_page_size_is_not_known(tmp_path: Path) -> None:
    account = Account.generate(seed=13, pages=2, conversations=150, messages=(1, 1))
    with PancakeServer(account, "older", v1_page_size=25) as server:
        run = sync(tmp_path, config_for(server), catalog=select("conversations"))

        assert run.by_key("conversations") == rows_of(server)["conversations"]
        assert not run.repeated("conversations")
