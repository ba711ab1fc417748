"""Builds the models of transform/ into a DuckDB file.

`python -m scripts.build output output/shop.duckdb` reads the files that target-jsonl wrote.

The new file replaces the old one when the build is done. Programs that have the old file open go on
reading it. Run it in an environment with the group `transform`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TRANSFORM = Path(__file__).parents[1] / "transform"


def build(files: Path, database: Path, variables: dict[str, Any]) -> int:
    """Build the models and run their tests.

    Args:
        files: The directory that target-jsonl wrote to.
        database: The file to create or replace. It stays as it is if the build fails.
        variables: Variables of the dbt project.

    Returns:
        The exit code of dbt.
    """
    # dbt resolves relative paths from its project directory.
    database = database.absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{database.stem}-", dir=database.parent) as scratch:
        # With the same name: DuckDB names a database after its file.
        beside = Path(scratch, database.name)
        done = subprocess.run(  # noqa: S603 - dbt of this environment
            [
                *(Path(sys.executable).with_name("dbt"), "--quiet", "--no-use-colors"),
                *("--log-path", scratch, "build", "--target-path", scratch),
                *("--project-dir", TRANSFORM, "--profiles-dir", TRANSFORM),
                *("--vars", json.dumps(variables | {"pancake_files": str(files.resolve())})),
            ],
            # Unit tests prove the models' SQL, not these rows.
            env={"DBT_EXCLUDE_RESOURCE_TYPES": "unit_test"}
            | os.environ
            | {"PANCAKE_DBT_TARGET": "duckdb", "PANCAKE_DUCKDB": str(beside)},
            check=False,
        )
        if not done.returncode:
            beside.replace(database)
    return done.returncode


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.build", description=__doc__)
    parser.add_argument("files", type=Path, help="the directory that target-jsonl wrote to")
    parser.add_argument("database", type=Path, help="the DuckDB file to create or replace")
    parser.add_argument(
        "--vars", type=json.loads, default={}, help="variables of the dbt project, as JSON"
    )
    options = parser.parse_args()
    if not any(options.files.glob("*.jsonl")):
        sys.exit(f"{options.files} has no .jsonl files: has target-jsonl been run?")
    sys.exit(build(options.files, options.database, options.vars))


if __name__ == "__main__":
    main()
