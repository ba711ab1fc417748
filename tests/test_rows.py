"""Rows lose no field, have one type a column, and stay as they are while nothing changes."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from scripts.schemas import types_of
from tap_pancake.rows.shaping import OTHERS, RowShaper
from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, Call, PancakeServer
from tests.stream_truth import DATED
from tests.stream_truth import OTHERS as OTHER_STREAMS
from tests.tap import INBOX, config_for, log_lines, metadata_of, select, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json

SINCE = datetime(2026, 5, 1, tzinfo=UTC)
"""When all begins, until June: calls for other times would find nothing."""
ROWS: Any = (
    {"start_date": SINCE.isoformat(), "end_date": "2026-06-02"},
    *(name for name in (*INBOX, *OTHER_STREAMS) if name not in DATED),
)
NUMBERS: Any = ({"start_date": "2026-05-04", "end_date": "2026-05-12"}, *DATED)
"""From when to when, and what: of numbers each day is a call."""


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    account = Account.generate(seed=61, pages=1, conversations=4, start=SINCE)
    with PancakeServer(account) as server:
        yield server


def columns(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Each place of a schema, at any depth."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}{name}", part
        yield from columns(part, f"{path}{name}.")
    if items := schema.get("items"):
        yield f"{path}[]", items
        yield from columns(items, f"{path}[].")


def test_each_column_has_one_type() -> None:
    for name, stream in TapPancake(config={"access_token": "invented"}).streams.items():
        for column, part in columns(stream.schema):
            assert len(types_of(part)) == 1, f"{name}: {column}"


def test_each_stream_has_a_column_for_what_it_does_not_declare() -> None:
    for stream in TapPancake(config={"access_token": "invented"}).streams.values():
        if stream.name == "sync_runs":
            continue  # which the API has no part in
        assert types_of(stream.schema["properties"][OTHERS]) == ["object"]


# Fields that nobody knew


def add_to_conversations(server: PancakeServer, fields: Json) -> None:
    """Let each row of the list of conversations have more fields."""

    def alter(call: Call, body: bytes) -> bytes:
        if call.endpoint != "conversations":
            return body
        answer = json.loads(body)
        answer["conversations"] = [row | fields for row in answer["conversations"]]
        return json.dumps(answer).encode()

    server.alter = alter


def test_a_new_field_is_kept_and_named_once(server: PancakeServer, tmp_path: Path) -> None:
    add_to_conversations(server, {"mood": {"score": 7, "session_id": "x"}, "api_key": "x"})
    run = sync(tmp_path, config_for(server))
    rows = run.records["conversations"]
    assert [row[OTHERS] for row in rows] == [{"mood": {"score": 7}}] * len(rows)
    (line,) = [line for line in log_lines(run, "WARNING") if "mood" in line]
    assert f"`other_fields`: mood ({len(rows)} rows)" in line


def test_a_new_field_of_an_object_goes_with_the_whole_object(
    server: PancakeServer, tmp_path: Path
) -> None:
    add_to_conversations(server, {"from": {"id": "1", "name": "A", "phone": "+84900000001"}})
    whole = sync(tmp_path, config_for(server))
    assert {row["from"]["phone"] for row in whole.records["conversations"]} == {"+84900000001"}
    catalog = select(*INBOX)
    breadcrumb = ("properties", "from", "properties", "id")
    metadata_of(catalog, "conversations", *breadcrumb)["selected"] = False
    part = sync(tmp_path, config_for(server), catalog=catalog)
    assert {tuple(row["from"]) for row in part.records["conversations"]} == {("name",)}
    (line,) = [line for line in log_lines(part, "WARNING") if "from.phone" in line]
    assert "left out" in line


def test_flattening_makes_no_column_of_a_new_field(server: PancakeServer, tmp_path: Path) -> None:
    fields = {"from": {"id": "1", "phone": "2"}, "mood": {"score": 7}, "tags": [{"shade": "3"}]}
    add_to_conversations(server, fields)
    config = config_for(server, flattening_enabled=True, flattening_max_depth=2)
    run = sync(tmp_path, config)
    for stream, rows in run.records.items():
        names = run.schemas[stream]["properties"].keys()
        for row in rows:
            assert row.keys() <= names, stream
    assert {row[OTHERS] for row in run.records["conversations"]} == {'{"mood":{"score":7}}'}
    # A list is one column, with all that is in it.
    assert {row["tags"] for row in run.records["conversations"]} == {'[{"shade":"3"}]'}


def test_a_value_of_an_unknown_type_is_kept_among_the_others() -> None:
    shaper = RowShaper({"properties": {"count": {"type": ["integer", "null"]}}})
    assert shaper.shape({"count": "many"}) == {"count": None, OTHERS: {"count": "many"}}


# One type a column


@pytest.mark.parametrize(
    ("stream", "row", "shaped"),
    [
        ("customers", {"birthday": "1990-06-01"}, {"birthday": "1990-06-01"}),
        (
            "customers",
            {"birthday": {"date": 1, "month": 6, "year": 0}},
            {"birthday": "0000-06-01"},
        ),
        ("conversations", {"tags": [7, "vip", {"id": 8}, None]}, None),
        ("campaign_statistics", {"adset": "5"}, {"adset": {"id": "5"}}),
        ("campaign_statistics", {"spend": "1.5", "reach": "3"}, {"spend": 1.5, "reach": 3}),
        ("messages", {"from": {"app_id": 12}}, {"from": {"app_id": "12"}}),
        ("messages", {"edit_history": {"a": 1}}, {"edit_history": [{"a": 1}]}),
        ("pages", {"business": "shop"}, {"business": {"value": "shop"}}),
        ("posts", {"attachments": {"ids": [1, "2"]}}, {"attachments": {"ids": ["1", "2"]}}),
    ],
)
def test_a_value_has_the_same_form_however_it_came(stream: str, row: Json, shaped: Any) -> None:
    streams: Any = TapPancake(config={"access_token": "invented"}).streams
    if shaped is None:
        shaped = {"tags": [{"id": 7}, {"text": "vip"}, {"id": 8}, None]}
    assert streams[stream].shaper.shape(row) == {**shaped, OTHERS: None}


# Rows that do not change


@pytest.mark.parametrize("what", [ROWS, NUMBERS])
def test_two_runs_over_an_unchanged_account_write_equal_rows(
    server: PancakeServer, tmp_path: Path, what: Any
) -> None:
    span, *streams = what

    def lines() -> Counter[str]:
        run = sync(tmp_path, config_for(server, **span), catalog=select(*streams))
        records = [json.loads(line) for line in run.stdout.splitlines()]
        return Counter(
            json.dumps([record["stream"], record["record"]])
            for record in records
            if record["type"] == "RECORD"
        )

    first = lines()
    assert first
    assert lines() == first
