"""With `batch_config`, records go into files, and BATCH messages name them before any STATE."""

from __future__ import annotations

import json
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.pancake_api import Account, PancakeServer
from tests.tap import (
    INBOX,
    config_for,
    end,
    metadata_of,
    patched,
    run_tap,
    select,
    start_tap,
    sync,
)
from tests.truth import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json, Run


@pytest.fixture
def server() -> Iterator[PancakeServer]:
    with PancakeServer(Account.generate(seed=61, pages=3, conversations=30)) as server:
        yield server


def batched(directory: Path, **more: Any) -> Json:
    return {"batch_config": {"storage": {"root": str(directory / "files")}, **more}}


def test_all_rows_are_in_files_and_none_in_a_record(tmp_path: Path, server: PancakeServer) -> None:
    run = sync(tmp_path, config_for(server, **batched(tmp_path)))
    assert '"RECORD"' not in run.stdout
    assert {stream: run.by_key(stream) for stream in INBOX} == rows_of(server)
    assert not any(run.repeated(stream) for stream in INBOX)
    files = {path.as_uri() for path in (tmp_path / "files").iterdir()}
    assert files == named(run)


def named(run: Run) -> set[str]:
    """Return the files that a run's BATCH messages name."""
    messages = [json.loads(line) for line in run.stdout.splitlines()]
    return {url for one in messages if one["type"] == "BATCH" for url in one["manifest"]}


def test_no_file_has_more_rows_than_a_batch(tmp_path: Path, server: PancakeServer) -> None:
    run = sync(tmp_path, config_for(server, **batched(tmp_path, batch_size=25)))
    assert max(run.batches) == 25
    assert {stream: run.by_key(stream) for stream in INBOX} == rows_of(server)


def test_files_hold_what_selection_maps_and_flattening_leave(
    tmp_path: Path, server: PancakeServer
) -> None:
    catalog = select(*INBOX)
    metadata_of(catalog, "messages", "properties", "message")["selected"] = False
    settings = {
        "stream_maps": {
            "conversations": {"__alias__": "talks", "__filter__": "type == 'INBOX'"},
        },
        "flattening_enabled": True,
        "flattening_max_depth": 1,
    }
    config = config_for(server, **settings)
    plain = sync(tmp_path, config, catalog=catalog)
    run = sync(tmp_path, config | batched(tmp_path), catalog=catalog)
    assert run.records.keys() == {"pages", "talks", "messages"}
    assert all("message" not in row for row in run.records["messages"])
    assert plain.records.keys() == run.records.keys()
    for stream, rows in plain.records.items():
        assert sorted(map(json.dumps, run.records[stream])) == sorted(map(json.dumps, rows))


def test_a_state_vouches_for_no_row_that_is_not_in_a_file(
    tmp_path: Path, server: PancakeServer
) -> None:
    """Of a run that is ended before its first file is full, the target has all that STATE says."""
    config = config_for(server, **batched(tmp_path), requests_per_second=20)
    process = start_tap(tmp_path, config)
    while server.count() < 60:
        time.sleep(0.01)
    first = end(process, signal.SIGTERM)
    assert first.returncode == 128 + signal.SIGTERM
    assert first.batches
    second = sync(tmp_path, config | {"requests_per_second": 10_000}, state=first.state)
    for stream, rows in rows_of(server).items():
        if stream != "pages":
            assert second.by_key(stream).keys() < rows.keys(), "the second run began again"
        assert first.by_key(stream) | second.by_key(stream) == rows


def test_a_file_that_cannot_be_finished_is_not_left_behind(
    tmp_path: Path, server: PancakeServer
) -> None:
    """Nor does it hide how the run ended."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    limited += "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    env = patched(tmp_path / "env", limited) | {"TMPDIR": str(temporary)}
    run = run_tap(tmp_path, config_for(server, **batched(tmp_path)), env=env)
    assert run.returncode == 1
    assert "no file can be written to its storage: OSError" in run.stderr
    assert not list(temporary.iterdir())
    assert not run.states


def test_a_signal_is_the_end_even_if_no_file_can_be_written(
    tmp_path: Path, server: PancakeServer
) -> None:
    process = start_tap(tmp_path, config_for(server, **batched(tmp_path), requests_per_second=9))
    while server.count() < 20 and process.poll() is None:
        time.sleep(0.01)
    shutil.rmtree(tmp_path / "files")
    (tmp_path / "files").touch()
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "no file can be written to its storage" in stderr
    assert '"STATE"' not in stdout
    assert "of 3 pages done" in stderr.splitlines()[-1]


def test_rows_before_a_schema_are_in_files_before_it(tmp_path: Path, server: PancakeServer) -> None:
    """It may be of a stream that is given the same name."""
    run = sync(tmp_path, config_for(server, **batched(tmp_path)))
    messages = [json.loads(line) for line in run.stdout.splitlines()]
    order = [(one["type"], one.get("stream")) for one in messages]
    assert order[:2] == [("SCHEMA", "pages"), ("BATCH", "pages")]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"storage": {"root": "/dev/null/files"}}, "no file can be written"),
        ({"storage": {"root": "nowhere://user:p4ss@host/files"}}, "no file can be written"),
        ({"storage": {"root": "/dev/null/files"}}, "check `storage.root`"),
        ({"storage": {"root": "s3://bucket/files"}}, "install the package of this storage"),
        ({}, "setting `batch_config.storage` is missing"),
        ({"storage": {}}, "setting `batch_config.storage.root` is missing"),
        ({"storage": {"root": "x"}, "encoding": {"format": "parquet"}}, "must be one of jsonl"),
        (
            {"storage": {"root": "x"}, "batch_size": 0},
            "`batch_config.batch_size` must be 1 or more",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, server: PancakeServer, setting: Json, message: str
) -> None:
    run = run_tap(tmp_path, config_for(server, batch_config=setting))
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert message in last
    assert "batch_config" in last
    assert "Traceback" not in run.stderr
    assert "p4ss" not in run.stderr
    assert not run.states
