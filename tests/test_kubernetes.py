"""The manifest and the Containerfile agree with each other and with the tap."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tap_pancake.settings import SETTINGS
from tests.processes import ROOT

KUBERNETES = ROOT / "orchestrate" / "kubernetes"
CONTAINERFILE = (KUBERNETES / "Containerfile").read_text(encoding="utf-8")


@pytest.fixture(name="job")
def indexed_job() -> dict[str, Any]:
    manifest = yaml.safe_load((KUBERNETES / "cronjob.yaml").read_text(encoding="utf-8"))
    job: dict[str, Any] = manifest["spec"]["jobTemplate"]["spec"]
    assert job["completionMode"] == "Indexed"
    return job


@pytest.fixture(name="container")
def only_container(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_there_is_a_completion_for_each_shard_and_no_two_runs_at_once(
    job: dict[str, Any], container: dict[str, Any]
) -> None:
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert int(values["TAP_PANCAKE_SHARD_COUNT"]) == job["completions"] == job["parallelism"]
    manifest = yaml.safe_load((KUBERNETES / "cronjob.yaml").read_text(encoding="utf-8"))
    assert manifest["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_completion_index_is_the_shard(container: dict[str, Any]) -> None:
    places = {entry["name"]: entry.get("valueFrom") for entry in container["env"]}
    annotation = "batch.kubernetes.io/job-completion-index"
    assert places["TAP_PANCAKE_SHARD_INDEX"] == {
        "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}
    }


def test_each_shard_has_a_state_of_its_own_called_as_that_of_the_dag(
    container: dict[str, Any],
) -> None:
    (suffix,) = (arg for arg in container["args"] if arg.startswith("--state-id-suffix="))
    values = {"TAP_PANCAKE_SHARD_INDEX": "2", "TAP_PANCAKE_SHARD_COUNT": "4"}
    filled = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], suffix)
    assert filled == "--state-id-suffix=shard-2-of-4"
    dag = (ROOT / "orchestrate" / "pancake.py").read_text(encoding="utf-8")
    assert 'name = f"shard-{index}-of-{count}"' in dag


def test_every_setting_that_is_named_is_one_of_the_tap() -> None:
    text = (KUBERNETES / "cronjob.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"TAP_PANCAKE_(\w+)", text))
    assert named
    assert {name.lower() for name in named} <= SETTINGS["properties"].keys()


def test_the_image_runs_as_the_user_that_owns_its_project(job: dict[str, Any]) -> None:
    (user,) = re.findall(r"^USER (\d+)$", CONTAINERFILE, flags=re.MULTILINE)
    assert job["template"]["spec"]["securityContext"]["runAsUser"] == int(user)
    assert f"useradd --uid {user}" in CONTAINERFILE


def test_the_image_installs_the_plugins_that_the_manifest_runs(container: dict[str, Any]) -> None:
    (target,) = re.findall(r"^ARG TARGET=(\S+)$", CONTAINERFILE, flags=re.MULTILINE)
    assert container["args"][-2:] == ["tap-pancake", target]
    project = yaml.safe_load(Path(ROOT, "meltano.yml").read_text(encoding="utf-8"))
    assert target in {loader["name"] for loader in project["plugins"]["loaders"]}
