"""What is published is whole, and works where nothing else of the project is.

Run by `scripts/check_dist.sh`, which builds, and installs the wheel. No test of the suite, which
needs neither.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import tap
from tests.accounts import BEFORE_AND_AFTER, full_account
from tests.pancake_api import PancakeServer
from tests.processes import ROOT, output_of
from tests.stream_truth import OTHERS, assert_same, records
from tests.tap import full_config
from tests.truth import assert_all_arrived

SDIST, WHEEL = (next((ROOT / "dist").glob(f"*.{kind}")) for kind in ("tar.gz", "whl"))
NAME = SDIST.name.removesuffix(".tar.gz")
VERSION = NAME.removeprefix("tap_pancake-")
INSTALLED = Path(os.environ["INSTALLED"], "bin")


def tracked(*paths: str) -> set[str]:
    """Return the files that git tracks."""
    listed = output_of(["git", "ls-files", "-z", "--", *paths], cwd=ROOT)
    return set(listed.split("\0")) - {""}


def test_the_sdist_holds_what_git_tracks_and_nothing_else() -> None:
    with tarfile.open(SDIST) as archive:
        names = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    assert names == tracked() | {"PKG-INFO"}


def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    with zipfile.ZipFile(WHEEL) as archive:
        names = set(archive.namelist())
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    about |= {f"{NAME}.dist-info/{name}" for name in ("entry_points.txt", "licenses/LICENSE")}
    assert names == tracked("tap_pancake") | about
    assert "tap_pancake/py.typed" in names


def test_a_tag_is_the_version(tmp_path: Path) -> None:
    output_of(["tar", "-xf", SDIST, "-C", tmp_path])
    copy, no_git = tmp_path / NAME, tmp_path / "no-git"
    no_git.mkdir()
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for part in ("AUTHOR", "COMMITTER"):
        nobody |= {f"GIT_{part}_NAME": "nobody", f"GIT_{part}_EMAIL": "nobody@example.invalid"}

    def version(**env: str) -> str:
        command = ROOT / ".venv-dist" / "bin" / "hatchling"
        return output_of([command, "version"], cwd=copy, env={**os.environ, **env}).strip()

    def git(*arguments: str) -> None:
        output_of(["git", *arguments], cwd=copy, env={**os.environ, **nobody})

    assert version() == VERSION
    (copy / "PKG-INFO").unlink()
    assert version() == "0.1.0.dev0"
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=Begin")
    assert version().startswith("0.1.0.dev1+g")
    git("tag", "v1.2.3")
    assert version() == "1.2.3"
    assert version(PATH=str(no_git)) == "0.1.0.dev0"
    git("commit", "--quiet", "--allow-empty", "--message=Go on")
    assert version().startswith("1.2.4.dev1+g")
    git("tag", "v2.0.0rc1")
    assert version() == "2.0.0rc1"
    shutil.rmtree(copy / ".git")
    assert version() == "0.1.0.dev0"


# The installed wheel


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the checkout, and let `tests/tap.py` run what is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(tap, "COMMAND", (str(INSTALLED / "tap-pancake"),))


def test_what_runs_is_the_wheel() -> None:
    command = [str(INSTALLED / "python"), "-c", "import tap_pancake; print(tap_pancake.__file__)"]
    found = output_of(command).strip()
    assert INSTALLED.parent in Path(found).parents


def test_it_says_its_version_and_what_it_can() -> None:
    assert f"tap-pancake v{VERSION}," in tap.run_command("--version").stdout
    about = json.loads(tap.run_command("--about", "--format=json").stdout)
    assert (about["name"], about["version"]) == ("tap-pancake", VERSION)
    catalog = json.loads(tap.run_command("--discover").stdout)
    assert {stream["tap_stream_id"] for stream in catalog["streams"]} == tap.ALL_KEYS.keys()


def test_all_that_the_server_holds_arrives(tmp_path: Path) -> None:
    with PancakeServer(full_account()) as server:
        config = full_config(server, **BEFORE_AND_AFTER)
        run = tap.sync(tmp_path, config, catalog=tap.select(*tap.KEYS))
        assert_all_arrived(server, run)
        for stream in OTHERS:
            held = records(server, stream)
            assert held
            assert_same(run.by_key(stream), held)
            assert len(run.records[stream]) == len(held)
        assert {call.user_agent for call in server.calls} == {f"tap-pancake/{VERSION}"}
