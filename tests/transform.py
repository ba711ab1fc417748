"""The dbt project as its users run it, and the results of a build."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tests.processes import ROOT, run_process

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.tap import Json

TRANSFORM = ROOT / "transform"
DEFAULTS = yaml.safe_load((TRANSFORM / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
"""The variables of the dbt project, with their defaults."""
DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
"""scripts/test_dbt.sh installs it."""
PYTHON = DBT.with_name("python")
OFFLINE = ("--no-populate-cache", "--no-introspect")
"""The options of `dbt compile` without an account."""
_NOTES = """
import os, sys

notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        where = arguments[1] if event == "socket.connect" else arguments[0]
        os.write(notes, f"asked {where!r}\\n".encode())
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if not isinstance(arguments[0], int):
            os.write(notes, f"wrote {os.path.abspath(os.fsdecode(arguments[0]))}\\n".encode())
sys.addaudithook(note)
"""
"""Python that runs first, and notes the files that are written and the hosts that are asked."""


@dataclass
class Project:
    """The dbt project with a target; dbt writes into a directory of the test only."""

    directory: Path
    target: str = "duckdb"
    environment: dict[str, str] = field(default_factory=dict)
    variables: Json = field(default_factory=dict)
    sources: Path = TRANSFORM
    """The project, or a copy of it."""
    output: str = field(default="", init=False)

    def dbt(self, *arguments: str, **variables: Any) -> None:
        """Run dbt, which must succeed."""
        done = self.run(*arguments, **variables)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]

    def run(self, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run dbt, with more variables than those of the project."""
        for name in ("home", "tmp", "first"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "first" / "sitecustomize.py").write_text(_NOTES, encoding="utf-8")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DBT_", "PANCAKE_", "PG"))
        }
        done = run_process(
            self.command(*arguments, **variables),
            cwd=self.directory,
            env=inherited
            | {
                "HOME": str(self.directory / "home"),
                "TMPDIR": str(self.directory / "tmp"),
                "NOTES": str(self.directory / "notes"),
                "PYTHONPATH": str(self.directory / "first"),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            | self.profile,
        )
        self.output += done.stdout + done.stderr
        return done

    def command(self, *arguments: str, **variables: Any) -> list[str | Path]:
        """Return the command line of dbt."""
        return [
            DBT,
            *("--no-use-colors", "--log-path", str(self.directory / "logs")),
            # Deprecations are errors. A test of the data may warn.
            *("--warn-error-options", '{"error": ["Deprecations"]}'),
            *(*arguments, "--project-dir", str(self.sources)),
            *("--profiles-dir", str(self.sources)),
            *("--target-path", str(self.built), "--vars", json.dumps(self.variables | variables)),
        ]

    @property
    def profile(self) -> dict[str, str]:
        """The environment that chooses the database."""
        chosen = {"PANCAKE_DBT_TARGET": self.target, "PANCAKE_DUCKDB": str(self.duckdb)}
        return chosen | self.environment

    @property
    def built(self) -> Path:
        """The directory of dbt's compiled files and manifest."""
        return self.directory / "target"

    @property
    def duckdb(self) -> Path:
        """The file of the DuckDB database."""
        return self.directory / "pancake.duckdb"

    def manifest(self) -> Json:
        """Return dbt's manifest after a run."""
        return dict(json.loads((self.built / "manifest.json").read_text(encoding="utf-8")))

    def results(self) -> dict[str, str]:
        """Return the status of each model and test of the last run."""
        text = (self.built / "run_results.json").read_text(encoding="utf-8")
        return {result["unique_id"]: result["status"] for result in json.loads(text)["results"]}

    def compiled(self) -> dict[str, str]:
        """Return the SQL of each model and test, by its file."""
        return {
            path.relative_to(self.built).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted((self.built / "compiled").rglob("*.sql"))
        }

    def notes(self) -> list[str]:
        """Return the files that dbt wrote and the hosts that it asked, as lines."""
        return (self.directory / "notes").read_text(encoding="utf-8").splitlines()

    def query(self, sql: str) -> list[Json]:
        """Return the rows of a query, in which `{schema}` is the schema of the models."""
        if self.target == "postgres":
            with psycopg.connect(self._database, row_factory=dict_row) as connection:
                text = sql.format(schema=self.environment["PANCAKE_DBT_SCHEMA"])
                return connection.execute(text.encode()).fetchall()
        with duckdb.connect(str(self.duckdb), read_only=True) as opened:
            # With the database, which has the same name as the schema.
            found = opened.execute(sql.format(schema="pancake.pancake"))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def rows(self, model: str) -> list[Json]:
        """Return the rows of a model."""
        return self.query(f"select * from {{schema}}.{model}")

    def columns(self) -> dict[str, set[str]]:
        """Return the columns of each model in the database."""
        found: dict[str, set[str]] = {}
        for row in self.query(
            "select table_name, column_name from information_schema.columns"
            " where '{schema}' in (table_schema, concat(table_catalog, '.', table_schema))"
        ):
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        return found

    @property
    def _database(self) -> str:
        names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
        known = {names[name]: value for name, value in self.environment.items() if name in names}
        return psycopg.conninfo.make_conninfo(**known)


def in_duckdb(directory: Path, files: Path, **variables: Any) -> Project:
    """Return a project that reads the files of target-jsonl."""
    return Project(directory, variables={"pancake_files": str(files), **variables})


def in_postgres(directory: Path, database: str, schema: str, **variables: Any) -> Project:
    """Return a project that reads the tables of target-postgres, and builds a schema."""
    known = conninfo_to_dict(database)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    environment = {names[name]: str(value) for name, value in known.items() if name in names}
    environment["PANCAKE_DBT_SCHEMA"] = schema
    return Project(directory, "postgres", environment, variables)


def without_comments(sql: str) -> str:
    """Return the text of a model without comments."""
    return re.sub(r"--.*", "", re.sub(r"(?s)\{#.*?#\}|/\*.*?\*/", "", sql))
