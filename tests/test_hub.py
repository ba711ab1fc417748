"""The definition for Meltano Hub is current, and as the Hub wants it."""

from __future__ import annotations

import json
import struct
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from scripts.hub import DEFINITION, NO_URL, OF_THE_HUB, definition, repository

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {
    "array",
    "boolean",
    "date_iso8601",
    "decimal",
    "file",
    "hidden",
    "integer",
    "object",
    "options",
    "string",
}


@pytest.fixture(name="entry", scope="module")
def hub_entry() -> dict[str, Any]:
    entry = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    assert isinstance(entry, dict)
    return entry


def test_the_definition_is_current() -> None:
    current = definition(repository())
    assert DEFINITION.read_text(encoding="utf-8") == current, "run `python scripts/hub.py`"


def maps(value: Any) -> Iterator[dict[str, Any]]:
    """Return all maps in a value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from maps(part)


def test_all_keys_are_in_order(entry: dict[str, Any]) -> None:
    found = list(maps(entry))
    assert len(found) > len(entry["settings"])
    for part in found:
        assert list(part) == sorted(part)


def test_settings_are_of_kinds_that_the_hub_knows(entry: dict[str, Any]) -> None:
    names = [setting["name"] for setting in entry["settings"]]
    assert len(set(names)) == len(names)
    for setting in entry["settings"]:
        assert setting["kind"] in KINDS, setting["name"]
        assert setting["label"]
        assert setting["description"].endswith("."), setting["name"]
        assert ("options" in setting) == (setting["kind"] == "options")
        # A token has no default that could be published.
        assert not ("value" in setting and setting.get("sensitive"))
    for group in entry["settings_group_validation"]:
        assert set(group) <= set(names)


def test_meltano_takes_the_definition(entry: dict[str, Any]) -> None:
    """By the schema that Meltano has for its plugins; some facts are the Hub's alone."""
    schema = json.loads(
        resources.files("meltano.schemas").joinpath("meltano.schema.json").read_text("utf-8")
    )
    plugin = {name: value for name, value in entry.items() if name not in OF_THE_HUB}
    project = {"version": 1, "plugins": {"extractors": [plugin]}}
    errors = Draft202012Validator(schema).iter_errors(project)
    assert [(error.json_path, error.message) for error in errors] == []


def test_the_logo_is_a_square_png(entry: dict[str, Any]) -> None:
    path = PurePosixPath(entry["logo_url"])
    assert path.parent == PurePosixPath("/assets/logos/extractors")
    png = (DEFINITION.parent / path.name).read_bytes()
    assert png.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", png[16:24]) == (256, 256)


def test_nothing_but_the_url_is_missing(entry: dict[str, Any]) -> None:
    """Until the repository has one; then it is in the three facts that are made of it."""
    if repository() == NO_URL:
        missing = {name for name, value in entry.items() if NO_URL in json.dumps(value)}
        assert missing == {"repo", "pip_url"}
    url = "https://git.invalid/Someone/tap-pancake"
    published = yaml.safe_load(definition(url))
    assert NO_URL not in json.dumps(published)
    assert {name for name in entry if published[name] != entry[name]} <= {
        "repo",
        "pip_url",
        "variant",
    }
    assert published["repo"] == url
    assert published["pip_url"] == f"git+{url}"
    assert published["variant"] == "someone"
