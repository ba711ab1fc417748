"""The dbt project finds the sender of each message, and its incremental runs miss nothing."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.pancake_api import Account, PancakeServer
from tests.pancake_api.server import Fault
from tests.recorded import RECORDED, rows
from tests.stream_truth import utc
from tests.tap import config_for, run_tap, select, sync
from tests.targets import load_jsonl, load_postgres, postgres
from tests.transform import in_duckdb, in_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pancake_api import Conversation, Message
    from tests.transform import Project

MESSAGES = "+int_pancake__messages"
START, END = utc(2026, 5, 1), utc(2026, 5, 8)
INBOX = ("pages", "users", "conversations", "messages")


def senders(project: Project) -> dict[tuple[str, str], str | None]:
    """Return the kind of sender of each message."""
    found = project.rows("int_pancake__messages")
    kinds = {(row["conversation_id"], row["message_id"]): row["sender_kind"] for row in found}
    assert len(found) == len(kinds)
    return kinds


@pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded answers are not a part of the project"
)
def test_the_recorded_messages_have_the_senders_that_they_show(tmp_path: Path) -> None:
    for stream in INBOX:
        lines = "".join(json.dumps(row) + "\n" for row in rows(stream))
        (tmp_path / f"{stream}.jsonl").write_text(lines, encoding="utf-8")
    project = in_duckdb(tmp_path / "dbt", tmp_path)
    project.dbt("run", "--select", "+pancake__sender_check", "+pancake__messages")
    found = senders(project)

    def shown(row: dict[str, Any]) -> str:
        sender = row["from"]
        if [part["type"] for part in row["attachments"]] == ["ad_click"]:
            return "nobody"
        if sender["id"] != row["page_id"]:
            return "customer"
        if sender.get("admin_id") != row["page_id"] and "admin_name" in sender:
            return "staff"
        return "automation"  # flows have the page as their admin, greetings have nothing

    assert found == {(row["conversation_id"], row["id"]): shown(row) for row in rows("messages")}
    counted = {"customer": 80, "staff": 125, "automation": 18, "nobody": 4}
    assert Counter(found.values()) == counted
    # Order forms have no id of staff, which other messages of the page have.
    by_staff = [row for row in project.rows("pancake__messages") if row["sender_kind"] == "staff"]
    assert not [row for row in by_staff if row["staff_id"] in (None, row["staff_name"])]
    signatures: Counter[tuple[str, str]] = Counter()
    for row in project.rows("pancake__sender_check"):
        signatures[row["sender_kind"], row["sender_signature"]] += row["message_count"]
    assert signatures == {
        ("customer", ""): 80,
        ("staff", "uid admin_name"): 121,
        ("staff", "admin_name"): 4,
        ("automation", ""): 12,
        ("automation", "admin_id admin_name flow_id app_id admin_is_page"): 6,
        ("nobody", ""): 4,
    }


def sender_kind(page_id: str, talk: Conversation, message: Message) -> str:
    """Return the kind of sender of a message in a generated account."""
    kinds = {part["type"] for part in message.attachments}
    alone = kinds == {"reaction"} and not message.text
    if kinds & {"ad_click", "system_message"} or alone:
        return "nobody"
    sender = message.sender
    if sender["id"] != page_id:
        return "customer"
    automatic = sender.get("is_automated") or sender.get("ai_generated") or "flow_id" in sender
    if automatic or sender.get("admin_id") == page_id:
        return "automation"
    if "admin_name" in sender:
        return "staff"
    spoken = [one for one in talk.messages if is_from_customer(page_id, one)]
    clicks = [one for one in talk.messages if any(p["type"] == "ad_click" for p in one.attachments)]
    at, near = message.inserted_at, timedelta(seconds=5)
    if any(timedelta(0) <= at - one.inserted_at <= near for one in (*spoken, *clicks)):
        return "automation"
    heard = [one.inserted_at for one in spoken if one.inserted_at <= at]
    clicked = [one.inserted_at for one in clicks if one.inserted_at <= at]
    opening = not heard or (clicked and clicked[-1] > heard[-1])
    follows = any(timedelta(0) <= one.inserted_at - at <= near for one in spoken)
    return "automation" if opening and follows else "outside"


def is_from_customer(page_id: str, message: Message) -> bool:
    kinds = {part["type"] for part in message.attachments}
    silent = kinds & {"ad_click", "system_message"} or (kinds == {"reaction"} and not message.text)
    return message.sender["id"] != page_id and not silent


def test_each_signature_of_the_server_has_its_sender(tmp_path: Path) -> None:
    account = Account.generate(
        seed=5, pages=3, conversations=25, messages=(1, 30), start=START, end=END
    )
    page = account.pages[0]
    greeted = page.add_conversation(at=START + timedelta(hours=1))
    page.receive(greeted.id, at=START + timedelta(minutes=59, seconds=58), sender="outside")
    page.receive(greeted.id, at=START + timedelta(hours=2), sender="order form")
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server, start_date="2026-05-01"), catalog=select(*INBOX))
        load_jsonl(tmp_path, tmp_path / "files", run.stdout)
        expected = {
            (talk.id, message.id): sender_kind(page.id, talk, message)
            for page in account.pages
            if page.category == "activated"
            for talk in page.conversations.values()
            for message in talk.messages
        }
    project = in_duckdb(tmp_path / "dbt", tmp_path / "files")
    project.dbt("run", "--select", MESSAGES)
    assert senders(project) == expected
    counted = Counter(expected.values())
    assert all(counted[kind] > 5 for kind in ("nobody", "automation", "staff", "outside")), counted


def test_incremental_runs_equal_a_full_refresh(tmp_path: Path) -> None:
    """Each load adds what a conversation's other messages, or its page, make look different."""
    account = Account.generate(
        seed=3, pages=2, conversations=20, messages=(1, 20), start=START, end=END
    )
    page = account.pages[0]
    talks = sorted(page.inboxes.values(), key=lambda talk: talk.updated_at)
    aside, late, moved = talks[-3:]
    with PancakeServer(account) as server, postgres() as database:
        config = config_for(server, start_date="2026-04-01", message_lookback_minutes=50_000)
        server.faults.append(Fault("error:100", endpoint="messages", conversation_id=aside.id))
        state: dict[str, Any] = {}
        for step in range(3):
            if step == 1:
                server.faults.clear()
                answer = page.receive(late.id, sender="outside")
            if step == 2:
                # What comes into sight late makes an automatic message of one from outside.
                page.receive(late.id, at=answer.inserted_at - timedelta(seconds=3))
                page.receive(moved.id, sender="staff")
                page.receive(moved.id, sender="order form")
                page.tag(moved.id, 3)
                page.add_conversation()
                account.pages[1].staff[0].fb_id = "4711"
            # Pages and users come with the second load only.
            streams = INBOX if step else ("conversations", "messages")
            run = run_tap(tmp_path, config, catalog=select(*streams), state=state)
            state = run.state
            load_postgres(tmp_path, database, run.stdout)
            incremental = build(tmp_path, database)
            full = build(tmp_path, database, "--full-refresh")
            assert rows_of(incremental) == rows_of(full), step
            assert len(full) == (len(server.expected().messages) if step else len(full))
            assert (aside.id in {talk for talk, _ in full}) == (step > 0)
            if step:
                kind = "automation" if step == 2 else "outside"
                assert full[late.id, answer.id]["sender_kind"] == kind
        # The last load brought a few conversations, and the others were left as they were.
        page.receive(moved.id)
        run = run_tap(tmp_path, config, catalog=select(*INBOX), state=state)
        load_postgres(tmp_path, database, run.stdout)
        after = build(tmp_path, database)
        untouched = {key for key, row in full.items() if after[key]["xmin"] == row["xmin"]}
        assert len(untouched) > len(full) / 2
        assert rows_of(after) == rows_of(build(tmp_path, database, "--full-refresh"))


Rows = dict[tuple[str, str], dict[str, Any]]


def build(directory: Path, database: str, *arguments: str) -> Rows:
    """Build the messages in PostgreSQL; give them by their keys."""
    project = in_postgres(directory / "dbt", database, "pancake_models", pancake__reload_hours=0)
    project.dbt("run", "--select", MESSAGES, *arguments)
    found = project.query("select *, xmin::text as xmin from {schema}.int_pancake__messages")
    keyed = {(row["conversation_id"], row["message_id"]): row for row in found}
    assert len(keyed) == len(found)
    return keyed


def rows_of(found: Rows) -> Rows:
    """Return the rows without when the database has written them."""
    return {
        key: {name: value for name, value in row.items() if name != "xmin"}
        for key, row in found.items()
    }
