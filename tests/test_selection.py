"""What is selected is read, whole; what is not is neither written nor asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.rows import times
from tests.pancake_api import Account, PancakeServer
from tests.tap import INBOX, config_for, metadata_of, run_command, run_tap, select, sync
from tests.truth import (
    message_calls,
    rows_of,
    state_of,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    """Two pages; a few conversations are longer than a batch."""
    account = Account.generate(seed=53, pages=2, conversations=8, messages=(1, 5))
    for page in account.pages[:2]:
        talk = page.add_conversation(at=NOON)
        for minute in range(70):
            page.receive(talk.id, at=NOON + timedelta(minutes=minute))
    with PancakeServer(account) as server:
        yield server


def test_messages_alone(tmp_path: Path, server: PancakeServer) -> None:
    """Their bookmark is kept, and the next run goes on from it."""
    config = config_for(server)
    began = text(datetime.now(UTC))
    first = sync(tmp_path, config, catalog=select("messages"))
    truth = rows_of(server)
    talk = next(iter(server.account.pages[0].conversations.values()))
    sent = server.account.pages[0].receive(talk.id)
    server.reset_calls()
    second = sync(tmp_path, config, catalog=select("messages"), state=first.state)

    assert first.records.keys() == {"messages"}
    assert first.schemas.keys() == {"messages"}
    assert first.by_key("messages") == truth["messages"]
    for page in server.account.pages[:2]:
        # The server's clock shows whole seconds, of which the earlier counts, and a second less.
        began = times.before(began, minutes=3 / 60)
        assert began < (first.bookmark("messages", page.id) or "") < text(sent.inserted_at)
        assert first.bookmark("conversations", page.id) is None
    assert "progress_markers" not in str(first.state)
    assert [row["id"] for row in second.records["messages"]] == [sent.id]
    assert message_calls(server) == {talk.id: 1}


@pytest.mark.parametrize(
    "streams",
    [
        ("tags",),
        ("conversations",),
        ("pages", "messages"),
        ("messages",),
        ("user_engagements",),
        ("customer_engagements",),
    ],
)
def test_a_catalog_may_leave_out_what_it_does_not_select(
    tmp_path: Path, server: PancakeServer, streams: tuple[str, ...]
) -> None:
    full = select(*streams)
    part = {"streams": [one for one in full["streams"] if one["tap_stream_id"] in streams]}
    # Of numbers each day is a call.
    config = config_for(server, start_date="2026-02-01")
    runs = [sync(tmp_path, config, catalog=catalog) for catalog in (full, part)]
    assert runs[0].records.keys() == runs[1].records.keys() == set(streams)
    for stream in streams:
        assert runs[0].by_key(stream) == runs[1].by_key(stream)
    assert runs[0].schemas == runs[1].schemas


def test_messages_chosen_later_come_with_their_whole_history(
    tmp_path: Path, server: PancakeServer
) -> None:
    config = config_for(server)
    first = sync(tmp_path, config, catalog=select("pages", "conversations"))
    second = sync(tmp_path, config, catalog=select("conversations", "messages"), state=first.state)

    assert second.by_key("messages") == rows_of(server)["messages"]
    recent: set[tuple[str, str]] = set()
    for page in server.account.pages[:2]:
        bookmark = datetime.fromisoformat(first.bookmark("conversations", page.id) or "")
        recent |= page.expected_conversations(since=bookmark - timedelta(days=1)).keys()
    assert len(recent) < len(rows_of(server)["conversations"])
    assert second.by_key("conversations").keys() == recent


def test_conversations_chosen_later_come_whole_without_old_messages(
    tmp_path: Path, server: PancakeServer
) -> None:
    config = config_for(server)
    first = sync(tmp_path, config, catalog=select("messages"))
    server.reset_calls()
    second = sync(tmp_path, config, catalog=select("conversations", "messages"), state=first.state)

    assert second.by_key("conversations") == rows_of(server)["conversations"]
    assert "messages" not in second.records
    assert server.count("messages") == 0


def test_pages_alone_cost_one_call(tmp_path: Path, server: PancakeServer) -> None:
    run = sync(tmp_path, config_for(server), catalog=select("pages"))

    assert run.by_key("pages") == rows_of(server)["pages"]
    assert run.records.keys() == {"pages"}
    assert [call.endpoint for call in server.calls] == ["pages"]


def test_conversations_alone_ask_for_no_messages(tmp_path: Path, server: PancakeServer) -> None:
    run = sync(tmp_path, config_for(server), catalog=select("conversations"))

    assert run.by_key("conversations") == rows_of(server)["conversations"]
    assert run.records.keys() == {"conversations"}
    assert server.count("messages") == 0


def test_fields_that_are_not_selected_are_not_written(
    tmp_path: Path, server: PancakeServer
) -> None:
    """Not even those that the tap itself needs to ask for messages in the older dialect."""
    left_out: dict[str, set[str]] = {
        "pages": {"name", "users"},
        "conversations": {"snippet", "customers", "message_count"},
        "messages": {"original_message", "attachments"},
    }
    selection = select(*left_out)
    for stream, fields in left_out.items():
        for name in fields:
            metadata_of(selection, stream, "properties", name)["selected"] = False
    with PancakeServer(server.account, "older") as older:
        run = sync(tmp_path, config_for(older), catalog=selection)
        truth = rows_of(older)

    for stream, rows in truth.items():
        assert run.by_key(stream) == {
            key: {name: value for name, value in row.items() if name not in left_out[stream]}
            for key, row in rows.items()
        }
        assert not left_out[stream] & run.schemas[stream]["properties"].keys()


def test_keys_and_bookmarks_cannot_be_deselected(tmp_path: Path, server: PancakeServer) -> None:
    selection = select("conversations", "messages")
    for stream, key in (("conversations", "updated_at"), ("messages", "inserted_at")):
        for name in ("id", "page_id", key):
            metadata_of(selection, stream, "properties", name)["selected"] = False
    began = text(datetime.now(UTC) - timedelta(seconds=2))
    first = sync(tmp_path, config_for(server), catalog=selection)

    assert first.by_key("conversations") == rows_of(server)["conversations"]
    for stream in ("conversations", "messages"):
        assert (first.bookmark(stream, server.account.pages[0].id) or "") > began


def full_table(stream: str, method_in: str) -> Json:
    """A catalog in which a stream is to be read in full each time."""
    selection = select("pages", "conversations", "messages")
    if method_in == "metadata":
        metadata_of(selection, stream)["forced-replication-method"] = "FULL_TABLE"
    else:
        for entry in selection["streams"]:
            if entry["tap_stream_id"] == stream:
                entry["replication_method"] = "FULL_TABLE"
    return selection


@pytest.mark.parametrize("method_in", ["metadata", "entry"])
@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_a_stream_that_is_forced_to_full_table_is_read_whole_again(
    tmp_path: Path, server: PancakeServer, stream: str, method_in: str
) -> None:
    now = datetime.now(UTC)
    first_page, second_page = server.account.pages[:2]
    state = state_of(first_page, conversations=now, messages=now)
    other = state_of(second_page, conversations=now, messages=now)
    for name, bookmark in state["bookmarks"].items():
        bookmark["partitions"] += other["bookmarks"][name]["partitions"]
    run = sync(tmp_path, config_for(server), catalog=full_table(stream, method_in), state=state)

    assert run.by_key(stream) == rows_of(server)[stream]
    assert run.records.keys() == {"pages", stream}


# What the SDK does with records on their way out.


def test_stream_maps(tmp_path: Path, server: PancakeServer) -> None:
    maps: dict[str, Any] = {
        "conversations": {
            "id": "id",
            "page_id": "page_id",
            "said": "snippet",
            "__else__": None,
        },
        "messages": {"from": None},
    }
    run = sync(tmp_path, config_for(server, stream_maps=maps))
    truth = rows_of(server)

    assert run.by_key("conversations") == {
        key: {"id": row["id"], "page_id": row["page_id"], "said": row["snippet"]}
        for key, row in truth["conversations"].items()
    }
    assert run.by_key("messages").keys() == truth["messages"].keys()
    assert not any("from" in row for row in run.records["messages"])


def test_flattening(tmp_path: Path, server: PancakeServer) -> None:
    settings = {"flattening_enabled": True, "flattening_max_depth": 2}
    run = sync(tmp_path, config_for(server, **settings))
    truth = rows_of(server)

    flat = run.by_key("conversations")
    assert {key: row["page_customer__name"] for key, row in flat.items()} == {
        key: row["page_customer"]["name"] for key, row in truth["conversations"].items()
    }
    assert {key: row["from__id"] for key, row in run.by_key("messages").items()} == {
        key: row["from"]["id"] for key, row in truth["messages"].items()
    }
    # An object that is null has no column of its own any more.
    assert any(row["rich_message"] is None for row in truth["messages"].values())
    for stream, rows in run.records.items():
        for row in rows:
            assert row.keys() <= run.schemas[stream]["properties"].keys()


# Stream maps that do not work


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        ({"messages": {"id": "__NULL__"}}, "Removing key property 'id' is not permitted"),
        ({"messages": {"x": "1 +"}}, "Failed to parse expression 1 +: correct it"),
        ({"messages": {"x": "nme"}}, "stream `messages`: MapExpressionError: Failed to evaluate"),
        ({"messages": {"__filter__": "type = INBOX"}}, "setting `stream_maps`"),
        ({"messages": {"x": "from + 1"}}, "setting `stream_maps`"),
        ({"messages": {"x": "record['none']"}}, "stream `messages`: KeyError: 'none': correct it"),
    ],
)
def test_a_stream_map_that_does_not_work_is_one_line_in_a_run_and_in_the_test(
    tmp_path: Path, maps: Json, reason: str
) -> None:
    account = Account(5)
    account.add_page().add_conversation()
    with PancakeServer(account) as server:
        config = config_for(server, stream_maps=maps)
        run = run_tap(tmp_path, config, catalog=select(*INBOX))
        tested = run_command("--test", "--config", str(tmp_path / "config.json"))
    for ended in (run, tested):
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        (line,) = (line for line in ended.stderr.splitlines() if "CRITICAL" in line)
        assert reason in line
        assert "correct it, see docs/meltano.md#stream-maps" in line


def test_a_stream_map_of_what_is_not_selected_does_no_harm(tmp_path: Path) -> None:
    maps = {"customers": {"name": "__NULL__"}, "messages": {"text": "'said'"}}
    account = Account(5)
    account.add_page().add_conversation()
    with PancakeServer(account) as server:
        config = config_for(server, stream_maps=maps)
        run = run_tap(tmp_path, config, catalog=select("messages"))
    assert run.returncode == 0, run.stderr
    assert {row["text"] for row in run.records["messages"]} == {"said"}
