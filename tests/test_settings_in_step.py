"""Every place that lists the settings lists those of tap_pancake/settings.py, and the SDK's own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from scripts.docs import default_of
from scripts.schemas import form_of, types_of
from tap_pancake.settings import SETTINGS
from tap_pancake.tap import TapPancake
from tests.processes import ROOT

OWN: dict[str, Any] = SETTINGS["properties"]
KINDS = {
    "array": "array",
    "boolean": "boolean",
    "integer": "integer",
    # Not `decimal`: the comment in meltano.yml says why.
    "number": "integer",
    "object": "object",
    "string": "string",
}


@pytest.fixture(name="settings", scope="module")
def all_settings() -> dict[str, Any]:
    """The tap's settings and the SDK's, as `tap-pancake --about` lists them."""
    schema = json.loads(json.dumps(SETTINGS))
    TapPancake.append_builtin_config(schema)
    properties: dict[str, Any] = schema["properties"]
    return properties


@pytest.fixture(name="plugin", scope="module")
def meltano_plugin() -> dict[str, Any]:
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    plugin, *inheriting = project["plugins"]["extractors"]
    assert isinstance(plugin, dict)
    # What stands in one of these is not compared with anything.
    assert all(other.keys() == {"name", "inherit_from", "select"} for other in inheriting)
    return plugin


def kind_of(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "options"
    if form_of(schema) == "date-time":
        return "date_iso8601"
    (name,) = types_of(schema)
    return KINDS[name]


def test_meltano_knows_all_settings(plugin: dict[str, Any], settings: dict[str, Any]) -> None:
    expected = [
        {
            "name": name,
            "kind": kind_of(schema),
            "sensitive": schema.get("secret", False),
            "value": schema.get("default"),
            "options": schema.get("enum"),
        }
        for name, schema in settings.items()
    ]
    found = [
        {
            "name": entry["name"],
            "kind": entry["kind"],
            "sensitive": entry.get("sensitive", False),
            "value": entry.get("value"),
            "options": [option["value"] for option in entry["options"]]
            if "options" in entry
            else None,
        }
        for entry in plugin["settings"]
    ]
    assert found == expected


def test_meltano_describes_settings_as_the_tap_does(plugin: dict[str, Any]) -> None:
    # Only the tap's own: those of the SDK may change with each of its versions.
    found = {
        entry["name"]: (entry["label"], entry["description"])
        for entry in plugin["settings"]
        if entry["name"] in OWN
    }
    assert found == {name: (schema["title"], schema["description"]) for name, schema in OWN.items()}


def test_meltano_knows_what_the_tap_can(plugin: dict[str, Any]) -> None:
    expected = [capability.value for capability in TapPancake.capabilities]
    assert plugin["capabilities"] == expected


def test_the_example_of_an_environment_has_all_settings(settings: dict[str, Any]) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    found = re.findall(r"^(?:# )?TAP_PANCAKE_([A-Z_]+)=(.*)$", text, flags=re.MULTILINE)
    assert [name.lower() for name, _ in found] == list(settings)
    for name, value in found:
        schema = settings[name.lower()]
        if "default" in schema:
            assert value == default_of(schema), name
        elif schema.get("secret"):
            assert not value or "invented" in value, name
