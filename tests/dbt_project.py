"""Runs of the dbt project in transform/."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.tap import Json

ROOT = Path(__file__).parents[1]
DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
TRANSFORM = ROOT / "transform"


def dbt(directory: Path, *arguments: str, variables: Json, **environment: str) -> None:
    """Run dbt, which must succeed, with its files in a directory of the test."""
    places: list[Any] = ["--project-dir", TRANSFORM, "--profiles-dir", TRANSFORM]
    places += ["--target-path", directory / "target", "--log-path", directory / "logs"]
    done = subprocess.run(
        [DBT, *arguments, *places, "--threads", "1", "--vars", json.dumps(variables)],
        env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def in_duckdb(directory: Path, files: Path, *arguments: str, **variables: Any) -> Path:
    """Run dbt over the files of target-jsonl; give the database that it made."""
    database = directory / "shop.duckdb"  # a name of its own: `pancake` is the schema
    variables["pancake_files"] = str(files)
    dbt(directory, *arguments, variables=variables, PANCAKE_DUCKDB=str(database))
    return database


def in_postgres(directory: Path, url: str, *arguments: str, **variables: Any) -> None:
    """Run dbt over the tables of target-postgres; the models are in the schema `pancake_models`."""
    parts = urlsplit(url)
    host = {"PGHOST": parts.hostname or "", "PGPORT": str(parts.port or 5432)}
    if "host=" in parts.query:  # a socket
        host["PGHOST"] = parts.query.partition("host=")[2]
    whose = {"PGUSER": parts.username or "", "PGDATABASE": parts.path[1:]}
    dbt(
        directory,
        *arguments,
        variables=variables,
        PANCAKE_DBT_TARGET="postgres",
        PANCAKE_DBT_SCHEMA="pancake_models",
        **host,
        **whose,
    )
