"""What users change by catalog, extras and stream maps is honoured, or refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.pancake_api import Account, PancakeServer
from tests.stream_truth import held_ids
from tests.tap import (
    INBOX,
    arguments_of,
    config_for,
    log_lines,
    metadata_of,
    run_command,
    run_tap,
    select,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap import Json


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    with PancakeServer(Account.generate(seed=67, pages=2, conversations=4)) as server:
        yield server


# Stream maps


@pytest.mark.parametrize("kept", ["messages", "conversations", "pages"])
def test_a_map_that_removes_all_else_keeps_one_stream(
    server: PancakeServer, tmp_path: Path, kept: str
) -> None:
    maps: Json = {kept: {}, "__else__": None}
    run = sync(tmp_path, config_for(server, stream_maps=maps))
    assert run.records.keys() == run.schemas.keys() == {kept}
    assert run.by_key(kept).keys() == held_ids(server, kept)


def test_what_a_map_removed_comes_whole_when_the_map_is_gone(
    server: PancakeServer, tmp_path: Path
) -> None:
    first = sync(tmp_path, config_for(server, stream_maps={"conversations": None}))
    assert "conversations" not in first.records
    second = sync(tmp_path, config_for(server), state=first.state)
    assert second.by_key("conversations").keys() == server.expected().conversations.keys()


def test_a_projection_of_a_removed_stream_is_written(server: PancakeServer, tmp_path: Path) -> None:
    maps: Json = {"conversations": None, "talks": {"__source__": "conversations", "topic": "type"}}
    run = sync(tmp_path, config_for(server, stream_maps=maps))
    assert len(run.records["talks"]) == len(server.expected().conversations)
    assert "conversations" not in run.records


@pytest.mark.parametrize(
    ("maps", "parts"),
    [
        ({"custmers": {"name": None}}, ("`custmers`", "`customers`")),
        ({"x": {"__source__": "message"}}, ("`message`", "`messages`")),
        ({"customers": {"phone_numbrs": None}}, ("`phone_numbrs`", "`phone_numbers`")),
        ({"customers": {"phone_numbrs": "md5(str(id))"}}, ("`phone_numbrs`", "`phone_numbers`")),
        ({"conversations": {"from.name": "__NULL__"}}, ("`from.name`", "stream `conversations`")),
        ({"customers": {"secret": None}}, ("`secret`", "stream `customers`")),
        ({"customers": {"nmae": None}}, ("`nmae`", "`name`")),
        ({"customers": {}, "__else__": "x"}, ("`__else__`", "null")),
        ({"customers": {"__filtr__": "name == 1"}}, ("`__filtr__`", "`__filter__`")),
        ({"customers": {"__alias__": "messages"}}, ("`messages`", "another stream")),
    ],
)
def test_a_map_of_what_does_not_exist_is_refused(
    server: PancakeServer, tmp_path: Path, maps: Json, parts: tuple[str, ...]
) -> None:
    run = run_tap(tmp_path, config_for(server, stream_maps=maps))
    assert_refused(run, "`stream_maps`", *parts)
    assert not server.calls


def test_maps_may_be_of_patterns_and_make_new_fields(server: PancakeServer, tmp_path: Path) -> None:
    kept = {"id": "id", "page_id": "page_id", "copy": "str(id)", "__else__": "__NULL__"}
    run = sync(tmp_path, config_for(server, stream_maps={"conversation?": kept}))
    assert {row.keys() == {"id", "page_id", "copy"} for row in run.records["conversations"]} == {
        True
    }


def test_the_summary_counts_what_a_map_lets_through(server: PancakeServer, tmp_path: Path) -> None:
    maps = {"messages": {"__filter__": "type == 'INBOX'"}}
    run = sync(tmp_path, config_for(server, stream_maps=maps))
    written = run.records["messages"]
    assert 0 < len(written) < len(server.expected().messages)
    (line,) = [line for line in log_lines(run, "INFO") if line.startswith("messages: ")]
    assert line.startswith(f"messages: {len(written):,} rows, ")


# Settings of pages


def test_settings_of_pages_that_are_not_there_are_told(
    server: PancakeServer, tmp_path: Path
) -> None:
    there = server.account.pages[0].id
    config = config_for(
        server,
        sip_package_ids={there: "1", "404": "2"},
        page_access_tokens={"405": server.account.pages[0].token},
        page_ids=[there],
    )
    run = sync(tmp_path, config)
    about_sip, about_token = log_lines(run, "WARNING")
    assert "`sip_package_ids` has page 404" in about_sip
    assert "`page_access_tokens` has page 405" in about_token
    output = run_command(*arguments_of(tmp_path, config, None, None), "--test").stdout
    assert "has page 404" in output
    assert "has page 405" in output


# The catalog


def entry(catalog: Json, stream: str) -> Json:
    found: Json = next(one for one in catalog["streams"] if one["tap_stream_id"] == stream)
    return found


CHANGES: dict[str, tuple[Callable[[Json], object], tuple[str, ...]]] = {
    "replication key": (
        lambda catalog: metadata_of(catalog, "conversations").update(
            {"replication-key": "inserted_at"}
        ),
        ("`conversations`", "`inserted_at`", "`updated_at`"),
    ),
    "replication key of the entry": (
        lambda catalog: entry(catalog, "messages").update(replication_key="updated_at"),
        ("`messages`", "`updated_at`", "`inserted_at`"),
    ),
    "table key": (
        lambda catalog: metadata_of(catalog, "conversations").update(
            {"table-key-properties": ["id"]}
        ),
        ("`conversations`", "key id", "page_id, id"),
    ),
    "log based": (
        lambda catalog: metadata_of(catalog, "messages").update(
            {"replication-method": "LOG_BASED"}
        ),
        ("`messages`", "LOG_BASED", "FULL_TABLE or INCREMENTAL"),
    ),
    "incremental without a key": (
        lambda catalog: metadata_of(catalog, "pages").update(
            {"forced-replication-method": "INCREMENTAL"}
        ),
        ("`pages`", "INCREMENTAL", "FULL_TABLE"),
    ),
    "a schema that rows break": (
        lambda catalog: entry(catalog, "conversations")["schema"]["properties"].update(
            page_customer={"type": ["string", "null"]}
        ),
        ("`conversations`", "`page_customer`", "object"),
    ),
    "items that rows break": (
        lambda catalog: entry(catalog, "conversations")["schema"]["properties"].update(
            assignee_ids={"type": ["array", "null"], "items": {"type": "integer"}}
        ),
        ("`conversations`", "`assignee_ids[]`", "string"),
    ),
    "a choice that rows do not promise": (
        lambda catalog: entry(catalog, "conversations")["schema"]["properties"]["type"].update(
            enum=["INBOX"]
        ),
        ("`conversations`", "`enum`", "`type`"),
    ),
    "a column that does not exist": (
        lambda catalog: entry(catalog, "conversations")["schema"]["properties"].update(
            snipet={"type": ["string", "null"]}
        ),
        ("`conversations`", "`snipet`", "`snippet`"),
    ),
    "another name": (
        lambda catalog: entry(catalog, "conversations").update(stream="talks"),
        ("`conversations`", "`talks`", "`stream_maps`"),
    ),
    "a stream that does not exist": (
        lambda catalog: entry(catalog, "messages").update(tap_stream_id="mesages"),
        ("`mesages`", "`messages`"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_cannot_be_honoured_is_refused(
    server: PancakeServer, tmp_path: Path, change: str
) -> None:
    catalog = select(*INBOX)
    spoil, parts = CHANGES[change]
    spoil(catalog)
    run = run_tap(tmp_path, config_for(server), catalog=catalog)
    assert_refused(run, "the catalog", *parts)
    assert not server.calls


def assert_refused(run: Any, *parts: str) -> None:
    """Assert that a run ended at once with one line that has all of some texts."""
    assert run.returncode == 1
    assert not run.stdout
    assert "Traceback" not in run.stderr
    line = run.stderr.splitlines()[-1]
    for part in parts:
        assert part in line


def test_rows_follow_a_catalog_of_an_older_version(server: PancakeServer, tmp_path: Path) -> None:
    catalog = select(*INBOX)
    conversations = entry(catalog, "conversations")
    for name in ("snippet", "other_fields"):
        del conversations["schema"]["properties"][name]
        conversations["metadata"] = [
            part for part in conversations["metadata"] if name not in part["breadcrumb"]
        ]
    run = sync(tmp_path, config_for(server), catalog=catalog)
    names = run.schemas["conversations"]["properties"].keys()
    assert not {"snippet", "other_fields"} & names
    assert all(row.keys() <= names for row in run.records["conversations"])
    assert run.by_key("messages").keys() == server.expected().messages.keys()
    (line,) = log_lines(run, "WARNING")
    assert "conversations: the catalog lacks the columns other_fields, snippet" in line
