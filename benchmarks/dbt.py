"""Measures the time and memory of `dbt build` over a million messages, in DuckDB and PostgreSQL.

The tap reads a small account, and the targets load it. Then its conversations are copied under
other ids until there are enough messages. It needs the environments of scripts/test_dbt.sh:
`python -m benchmarks.dbt [messages]`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import measure
from benchmarks.report import table
from tests.pancake_api import Account, PancakeServer
from tests.tap import config_for, select, sync
from tests.targets import json_lines, load_jsonl, load_postgres, postgres
from tests.transform import in_duckdb, in_postgres

if TYPE_CHECKING:
    from benchmarks.measure import Usage
    from tests.tap import Json
    from tests.transform import Project

STREAMS = ("pages", "users", "tags", "customers", "conversations", "messages", "sync_runs")
COPIED = ("customers", "conversations", "messages")
IDS = {"id", "conversation_id"}
LONGEST = 3 * 3600
"""Seconds after which a build is ended."""


def copied(stream: str, row: Json, number: int) -> Json:
    """Return a copy of a row under another id."""
    row = row | {name: f"{row[name]}-{number}" for name in IDS & row.keys()}
    if stream == "conversations" and row.get("page_customer"):
        customer = row["page_customer"]
        row["page_customer"] = customer | {"id": f"{customer['id']}-{number}"}
    return row


def multiply_files(files: Path, copies: range) -> None:
    """Append copies of the rows to the files of target-jsonl."""
    for stream, rows in json_lines(files).items():
        if stream in COPIED:
            with (files / f"{stream}.jsonl").open("a", encoding="utf-8") as file:
                for number in copies:
                    file.writelines(json.dumps(copied(stream, row, number)) + "\n" for row in rows)


def multiply_tables(database: str, copies: range, *, hours_apart: int = 0) -> None:
    """Add copies of the rows to the tables of target-postgres, each loaded some hours earlier."""
    with psycopg.connect(database) as connection:
        for stream in COPIED:
            names = connection.execute(
                "select column_name from information_schema.columns"
                " where table_schema = 'pancake' and table_name = %s",
                [stream],
            ).fetchall()
            cells = {name: f'"{name}"' for (name,) in names}
            for name in IDS & cells.keys():
                cells[name] = f"{name} || '-' || number"
            cells["_sdc_batched_at"] = f"now() - interval '1 hour' * {hours_apart} * number"
            if stream == "conversations":
                cells["page_customer"] = (
                    "page_customer || jsonb_build_object("
                    "'id', (page_customer ->> 'id') || '-' || number)"
                )
            columns = ", ".join(f'"{name}"' for name in cells)
            # The ids of copies end with a hyphen and a number. Copies are not copied again.
            connection.execute(
                f"insert into pancake.{stream} ({columns}) select {', '.join(cells.values())}"
                f" from (select * from pancake.{stream} where id !~ '-[0-9]+$') as rows"
                f" cross join generate_series({copies.start}, {copies.stop - 1}) as number".encode()
            )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("analyze")


def build(project: Project, *arguments: str) -> Usage:
    """Run dbt, and return its time and memory."""
    project.directory.mkdir(parents=True, exist_ok=True)
    command = project.command(*arguments)
    usage = measure.run(command, project.directory, env=project.profile, seconds=LONGEST)
    if usage.code:  # dbt writes its errors to standard output
        sys.exit((project.directory / "out").read_text(encoding="utf-8")[-5000:])
    return usage


def slowest(project: Project) -> str:
    """Return the models that took longest in the last build, as text."""
    text = (project.built / "run_results.json").read_text(encoding="utf-8")
    times: list[Any] = [
        (row["execution_time"], row["unique_id"].split(".")[2])
        for row in json.loads(text)["results"]
    ]
    return ", ".join(f"{name} {seconds:.0f} s" for seconds, name in sorted(times)[:-9:-1])


def main() -> None:
    """Measure, and print a table."""
    message_count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="dbt-") as root:
        compare(Path(root), message_count)


def compare(directory: Path, message_count: int) -> None:
    """Build over a number of messages, and print a table."""
    account = Account.generate(seed=3, pages=12, conversations=60)
    with PancakeServer(account) as server:
        run = sync(directory, config_for(server), catalog=select(*STREAMS))
    base = len(run.records["messages"])
    copies = max(1, round(message_count / base) - 1)
    files = directory / "files"
    load_jsonl(directory, files, run.stdout)
    multiply_files(files, range(copies))
    rows: list[list[str]] = []
    with postgres() as database:
        load_postgres(directory, database, run.stdout)
        multiply_tables(database, range(copies), hours_apart=1)
        one = in_duckdb(directory / "duckdb", files)
        two = in_postgres(directory / "postgres", database, "models")
        for name, project, more in (
            ("DuckDB", one, 0),
            ("PostgreSQL, first", two, 0),
            ("PostgreSQL, incremental, 1 % more messages", two, max(1, copies // 100)),
        ):
            if more:
                multiply_tables(database, range(copies, copies + more))
            usage = build(project, "build", "--exclude", "test_type:unit")
            messages = base * (copies + 1 + more)
            rows.append([name, f"{messages:,}", f"{usage.wall:,.0f}", f"{usage.peak_mb:,.0f}"])
            print(f"{rows[-1]}: {slowest(project)}", file=sys.stderr, flush=True)
    print(table(["`dbt build`", "messages", "s", "peak MB of dbt"], rows))
    print(f"\n*{datetime.now(UTC):%Y-%m-%d}.*")


if __name__ == "__main__":
    main()
