"""Each stream's catalog entry, kept as a snapshot: a change of a schema is seen in review.

To take new snapshots: ``UPDATE_SNAPSHOTS=1 pytest tests/test_catalog.py``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tap_pancake.rows.shaping import is_credential
from tests.tap import ALL_KEYS, SNAPSHOTS, catalog_of


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = catalog_of(tmp_path_factory.mktemp("catalog"), lambda _: True)
    return {stream["tap_stream_id"]: stream for stream in found["streams"]}


def test_discovery_needs_no_settings_and_finds_every_stream(catalog: dict[str, Any]) -> None:
    assert catalog.keys() == ALL_KEYS.keys()
    assert {name: tuple(stream["key_properties"]) for name, stream in catalog.items()} == ALL_KEYS


@pytest.mark.parametrize("name", ALL_KEYS)
def test_the_catalog_entry_is_the_one_of_the_snapshot(catalog: dict[str, Any], name: str) -> None:
    path = SNAPSHOTS / f"{name}.json"
    text = json.dumps(catalog[name], indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALL_KEYS)
def test_every_field_is_described_and_only_keys_cannot_be_null(
    catalog: dict[str, Any], name: str
) -> None:
    schema = catalog[name]["schema"]
    for field, part in schema["properties"].items():
        assert part.get("description"), field
        assert ("null" not in part["type"]) == (field in schema["required"]), field
    assert set(ALL_KEYS[name]) <= set(schema["required"])
    assert not any(map(is_credential, schema["properties"]))
