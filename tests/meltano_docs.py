"""docs/meltano.md: its commands in their order, as they stand, and the rows that they load.

It takes minutes, so `.ci/run` runs it apart: `sh scripts/test.sh tests/meltano_docs.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import select
import shutil
import socket
import socketserver
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from scripts.docs import streams
from tap_pancake.rows.personal import phone
from tests.documents import COMMANDS
from tests.meltano_project import MELTANO, Project, new_project
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT
from tests.stream_truth import CHILDREN, OTHERS, records
from tests.tap import ALL_KEYS, REPLICATION_KEYS, key_of
from tests.truth import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap import Json

DOCUMENT = ROOT / "docs" / "meltano.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
ID = "dev:tap-pancake-to-target-jsonl"
STATE_IDS = set(re.findall(r"^\| `meltano .*` \| `(.*)` \|$", TEXT, flags=re.MULTILINE))
SEED = "a long text of your own that nobody guesses"


@pytest.fixture(name="server")
def bundled_server() -> Iterator[PancakeServer]:
    # From before the document's `start_date`.
    start, end = datetime(2026, 10, 28, tzinfo=UTC), datetime(2026, 11, 9, 15, tzinfo=UTC)
    account = Account.generate(
        seed=41, pages=2, conversations=24, messages=(1, 4), start=start, end=end
    )
    account.pages[0].timezone = account.pages[1].timezone = 0
    for page in account.pages:
        for conversation in list(page.conversations.values())[::2]:
            conversation.ad_ids = [f"4{page.number:014d}"]
    with PancakeServer(account) as server:
        yield server


def settings_for(server: PancakeServer) -> dict[str, str]:
    """Return the environment variables that point the tap to the bundled server."""
    packages = {page.id: page.belongings.sip_package_id for page in server.account.pages}
    return {
        "TAP_PANCAKE_API_URL": server.url,
        "TAP_PANCAKE_REQUESTS_PER_SECOND": "1000",
        # Without it, the tap requests the statistics of each day since.
        "TAP_PANCAKE_END_DATE": "2026-11-10T00:00:00Z",
        "TAP_PANCAKE_SIP_PACKAGE_IDS": json.dumps(packages),
    }


@pytest.fixture(name="project")
def users_project(tmp_path: Path, server: PancakeServer) -> Project:
    """Return the user's directory with the clone in it, before the first command."""
    project = new_project(tmp_path / "here", tmp_path / "home")
    # A copy, as dbt writes into transform/, and without the version that git knows.
    unused = shutil.ignore_patterns(".*", "output", "dist", "target", "__pycache__", "tests")
    shutil.copytree(ROOT, project.directory / "tap-pancake", ignore=unused)
    project.environment |= settings_for(server)
    # The commands find this environment's `meltano`.
    path = project.environment["PATH"]
    project.environment["PATH"] = f"{MELTANO.parent}{os.pathsep}{path}"
    return project


class Database:
    """A PostgreSQL database that is empty, with the user and name that the document gives."""

    def __init__(self, url: str, port: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("drop database if exists shop")
            connection.execute("drop role if exists shop")
            connection.execute("create role shop login password '…'")
            connection.execute("create database shop owner shop")
            connection.execute("alter database shop set timezone to 'Asia/Ho_Chi_Minh'")
        self.port = port
        self.url = make_conninfo(url, dbname="shop", user="shop")

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query).fetchall()

    def tables(self) -> set[str]:
        """Return the names of the tables in the schema `pancake`."""
        query = "select tablename from pg_tables where schemaname = 'pancake'"
        return {name for (name,) in self.query(query)}


@pytest.fixture(name="shop")
def users_database(database: str) -> Iterator[Database]:
    path = f"{conninfo_to_dict(database)['host']}/.s.PGSQL.5432"
    with listening_for(path) as port:
        yield Database(database, port)


@contextmanager
def listening_for(path: str) -> Iterator[int]:
    """Listen at a port of this machine for a server that listens at a socket file only."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server, suppress(ConnectionError):
                server.connect(path)
                other = {self.request: server, server: self.request}
                while True:
                    for end in select.select(list(other), [], [])[0]:
                        if not (data := end.recv(65536)):
                            return
                        other[end].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield listener.server_address[1]
        listener.shutdown()
        thread.join()


def blocks() -> list[tuple[str, str]]:
    """Return the section and the text of each block of commands that the document does not mark."""
    found = []
    for section in TEXT.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        found += [(title, block) for reason, _, block in COMMANDS.findall(body) if not reason]
    return found


def run_block(project: Project, block: str, shop: Database) -> str:
    """Run a block as it stands, except PostgreSQL's port; return what it prints."""
    block = re.sub(r"\b5432\b(?!\})", str(shop.port), block)
    done = project.run("sh", "-eu", "-c", block)
    if done.returncode and "meltano install" in block:
        # uv may not reach what pip can, see `Project.install`.
        project.environment["MELTANO_VENV_BACKEND"] = "virtualenv"
        done = project.run("sh", "-eu", "-c", block.replace("install ", "install --clean "))
    assert done.returncode == 0, f"{block}\n{done.stderr[-6000:]}"
    return done.stdout


INBOX = ("pages", "conversations", "messages", "conversation_details")
DEFAULT = {stream.name for stream in streams().values() if stream.selected_by_default}


def held(server: PancakeServer, stream: str) -> dict[tuple[str, ...], Json]:
    """Return the server's rows of a stream, since the document's `start_date`."""
    rows = records(server, stream) if stream in OTHERS else rows_of(server)[stream]
    if stream == "ads":
        conversations = held(server, "conversations").values()
        named = {(row["page_id"], ad) for row in conversations for ad in row.get("ad_ids") or []}
        rows = {key: row for key, row in rows.items() if key in named}
    return {key: row for key, row in rows.items() if since(stream, row)}


def since(stream: str, row: Json) -> bool:
    """Return whether a row has no time, or one after the document's `start_date`."""
    times = {
        "conversations": "updated_at",
        "messages": "inserted_at",
        "conversation_details": "last_message_at",
        "customer_feedbacks": "inserted_at",
        "posts": "inserted_at",
        "call_logs": "start_time",
        "customers": "updated_at",
        "ad_conversations": "updated_at",
        "page_statistics": "hour_utc",
        "user_statistics": "hour_utc",
    }
    name = times.get(stream, "date")
    return name not in row or row[name] >= "2026-11"


def days(printed: str) -> dict[str, int]:
    """Return the numbers of messages by day, of a table that a program draws."""
    return {day: int(n) for day, n in re.findall(r"(\d{4}-\d\d-\d\d)\s*[|│]\s*(\d+)", printed)}


class Steps:
    """The checks after each block of commands, by its section and its number there."""

    def __init__(self, project: Project, server: PancakeServer, shop: Database) -> None:
        self.project = project
        self.server = server
        self.shop = shop
        self.builds = project.directory.parent / "builds"  # what the jobs call dbt with

    def arrived(self, stream: str) -> dict[tuple[str, ...], Json]:
        """Return the rows of a stream by key; none may be there twice."""
        rows = {key_of(stream, row): row for row in self.project.rows(stream)}
        assert len(rows) == len(self.project.rows(stream)), stream
        return rows

    def streams(self) -> set[str]:
        """Return the streams that have rows."""
        return {path.stem for path in (self.project.directory / "output").glob("*.jsonl")}

    def forget(self) -> None:
        """Delete the files, because the target appends."""
        shutil.rmtree(self.project.directory / "output")
        self.server.reset_calls()

    def set_up(self, _: str) -> None:
        self.project.directory /= "shop"

    def set_up_2(self, _: str) -> None:
        assert (self.project.directory / ".meltano" / "loaders" / "target-jsonl").is_dir()

    def settings(self, printed: str) -> None:
        token = self.server.account.user_token
        assert "(redacted)" in printed
        holders = [path for path in self.project.files() if token.encode() in path.read_bytes()]
        assert [path.name for path in holders] == [".env"]

    def test(self, printed: str) -> None:
        assert "Plugin configuration is valid" in printed
        readable = len({*CHILDREN, *INBOX} - {"pages"})
        assert printed.count(f"everything can be read ({readable} streams)") == 2
        assert not self.streams()

    def run(self, _: str) -> None:
        assert self.streams() == DEFAULT
        for stream in self.streams() - {"sync_runs"}:
            assert self.arrived(stream).keys() == held(self.server, stream).keys(), stream
        assert any("phone_numbers" in row for row in self.project.rows("customers"))
        assert held(self.server, "messages").keys() < rows_of(self.server)["messages"].keys()

    def last_days(self) -> dict[str, int]:
        """Return the number of messages of each of the last seven days."""
        counts = Counter(row["inserted_at"][:10] for row in held(self.server, "messages").values())
        return dict(sorted(counts.items(), reverse=True)[:7])

    def loaded(self, expected: set[str]) -> None:
        """Check that PostgreSQL has these streams, each row once."""
        assert self.shop.tables() == expected
        for stream in expected - {"sync_runs"}:
            keys = ", ".join(f"{name}::text" for name in ALL_KEYS[stream])
            rows = self.shop.query(f"select {keys} from pancake.{stream}")
            there = sorted(tuple(map(str, key)) for key in held(self.server, stream))
            assert sorted(rows) == there, stream

    def postgresql(self, _: str) -> None:
        self.loaded(DEFAULT)
        # In UTC, although the database is not.
        times = {key[-1]: row["inserted_at"] for key, row in held(self.server, "messages").items()}
        for key, time in self.shop.query("select id, inserted_at from pancake.messages"):
            assert time.replace(tzinfo=UTC) == datetime.fromisoformat(times[key])

    def postgresql_2(self, printed: str) -> None:
        assert days(printed) == self.last_days()
        # So that only the jobs have loaded what is there after them.
        with psycopg.connect(self.shop.url) as connection:
            connection.execute("drop schema pancake, pancake_models cascade")
        # Its dbt has built the models. Again, for each job, it would only take time.
        (dbt,) = self.project.directory.glob(".meltano/utilities/dbt-postgres/venv/bin/dbt")
        dbt.write_text(f'#!/bin/sh\necho "$PGDATABASE: $*" >>{self.builds}\n', encoding="utf-8")

    def duckdb(self, _: str) -> None:
        assert (self.project.directory / "output" / "shop.duckdb").is_file()

    def duckdb_2(self, printed: str) -> None:
        assert days(printed) == self.last_days()

    def jobs_and_schedules(self, printed: str) -> None:
        assert [line.split(":")[0] for line in printed.splitlines()] == [
            "[@hourly] job pancake-hourly",
            "[30 18 * * *] job pancake-nightly",
        ]

    def jobs_and_schedules_2(self, _: str) -> None:
        statistics = {name for name in DEFAULT if "statistics/" in streams()[name].path}
        self.loaded(DEFAULT - statistics)

    def jobs_and_schedules_3(self, _: str) -> None:
        self.loaded(DEFAULT)
        build = "shop: build --exclude-resource-type unit_test\n"
        assert self.builds.read_text(encoding="utf-8") == build * 2
        self.forget()

    def choose_streams_and_columns(self, printed: str) -> None:
        assert "[automatic  ] customers.id" in printed
        assert "[selected   ] customers.phone_numbers" in printed
        assert "[excluded   ] multi_page_user_statistics.date" in printed

    def choose_streams_and_columns_2(self, _: str) -> None:
        assert self.streams() == DEFAULT - {"posts"}
        assert self.server.count("posts") == 0
        for stream in self.streams() - {"sync_runs"}:
            assert self.arrived(stream).keys() == held(self.server, stream).keys(), stream
        customers = held(self.server, "customers")
        assert all("phone_numbers" in row for row in customers.values())
        for key, row in self.arrived("customers").items():
            assert "phone_numbers" not in row
            assert row["name"] == customers[key]["name"]
        self.forget()

    def choose_streams_and_columns_3(self, _: str) -> None:
        listed = self.project.meltano("select", "tap-pancake", "--list", "--all").stdout
        assert "[selected   ] multi_page_user_statistics.comment_count" in listed

    def choose_streams_and_columns_4(self, _: str) -> None:
        assert not self.streams()

    def state(self, printed: str) -> None:
        assert f"\n{ID}\n" in f"\n{printed}"
        kept = json.loads((self.project.directory / "state.json").read_text(encoding="utf-8"))
        bookmarks = kept["singer_state"]["bookmarks"]
        pages = {page.id for page in self.server.account.pages if page.category == "activated"}
        for stream in ("conversations", "messages", "customers", "page_statistics"):
            partitions = bookmarks[stream]["partitions"]
            assert {entry["context"]["page_id"] for entry in partitions} == pages
            assert all(shown().keys() <= entry.keys() for entry in partitions)
            assert {entry["replication_key"] for entry in partitions} == {REPLICATION_KEYS[stream]}
        # Of the run after `clear`, in which only some columns are selected.
        assert self.streams() == {"conversations", "messages", "sync_runs"}
        snippets = {
            key: {name: row[name] for name in ("page_id", "id", "updated_at", "snippet")}
            | {"from": {"name": row["from"]["name"]}}
            for key, row in held(self.server, "conversations").items()
        }
        assert self.arrived("conversations") == snippets
        assert self.arrived("messages").keys() == held(self.server, "messages").keys()
        self.forget()

    def state_2(self, _: str) -> None:
        listed = self.project.meltano("state", "list").stdout.split()
        assert ID in STATE_IDS
        assert {*STATE_IDS, f"{ID}:chats"} == set(listed)
        # The conversations of the day before the bookmark, and no message.
        assert self.streams() == {"conversations", "sync_runs"}
        assert self.arrived("conversations").keys() < held(self.server, "conversations").keys()
        assert self.server.count("messages") == 0
        self.forget()

    def stream_maps(self, _: str) -> None:
        assert "first_phone" in (self.project.directory / ".env").read_text(encoding="utf-8")

    def personal_data(self, _: str) -> None:
        assert SEED in (self.project.directory / ".env").read_text(encoding="utf-8")
        assert SEED not in (self.project.directory / "meltano.yml").read_text(encoding="utf-8")

    def environments(self, _: str) -> None:
        page_id = "100000000000001"
        assert self.streams() == {"conversations", "messages", "customers", "sync_runs"}
        messages = {
            key: row
            for key, row in held(self.server, "messages").items()
            if row["type"] == "INBOX" and row["page_id"] == page_id
        }
        assert 0 < len(messages) < len(held(self.server, "messages"))
        assert self.arrived("messages").keys() == messages.keys()
        countries = {page.id: page.channel.country for page in self.server.account.pages}
        phones = {
            key: [phone(number, countries[page_id]) for number in row["phone_numbers"]]
            for key, row in held(self.server, "customers").items()
            if row["page_id"] == page_id
        }
        assert any(phones.values())
        arrived = self.arrived("customers")
        assert not any("phone_numbers" in row for row in arrived.values())
        assert {key: row["first_phone"] for key, row in arrived.items()} == {
            key: hashed(numbers[0] or "") if numbers else None for key, numbers in phones.items()
        }
        assert f"prod{ID.removeprefix('dev')}" in self.project.meltano("state", "list").stdout


def hashed(form: str) -> str:
    """Return the hash that docs/personal-data.md describes."""
    return hmac.new(SEED.encode(), form.encode(), hashlib.sha256).hexdigest()


def shown() -> Json:
    """Return the entry of a state that the document shows."""
    (example,) = re.findall(r"^```json\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    bookmarks = json.loads(example)["singer_state"]["bookmarks"]
    (entry,) = bookmarks["conversations"]["partitions"]
    return dict(entry)


def test_the_document_does_what_it_says(
    project: Project, server: PancakeServer, shop: Database
) -> None:
    steps, done = Steps(project, server, shop), dict[str, int]()
    (project.directory / "token.txt").write_text(server.account.user_token, encoding="utf-8")
    for title, block in blocks():
        name = title.lower().replace(" ", "_")
        if name == "settings":
            (project.directory.parent / "token.txt").rename(project.directory / "token.txt")
        # There is a check after each job.
        for part in block.splitlines() if name == "jobs_and_schedules" else [block]:
            done[name] = done.get(name, 0) + 1
            then: Callable[[str], None] = getattr(
                steps, name if done[name] == 1 else f"{name}_{done[name]}"
            )
            then(run_block(project, part, shop))
    assert server.account.user_token not in project.output


# meltano.yml


def written() -> Json:
    """Return the `meltano.yml` that the document writes."""
    (text,) = re.findall(
        r"^cat > meltano.yml <<'END'\n(.*?)^END$", TEXT, flags=re.DOTALL | re.MULTILINE
    )
    return dict(yaml.safe_load(text))


def without_texts(plugin: Json) -> Json:
    """Return a plugin without what only people read."""
    short = {name: plugin[name] for name in plugin.keys() - {"label", "description", "variant"}}
    for name in ("settings", "commands"):
        if name in short:
            entries = short[name]
            pairs = entries.items() if name == "commands" else ((e["name"], e) for e in entries)
            short[name] = {key: without_texts(entry) for key, entry in pairs}
    return short


def of_this_project() -> dict[str, Json]:
    """Return the plugins of this project's `meltano.yml`, as they are in another directory."""
    real = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    found = {
        plugin["name"]: without_texts(plugin)
        for kind in real["plugins"].values()
        for plugin in kind
    }
    found["tap-pancake"]["pip_url"] = "../tap-pancake"
    for setting in found["tap-pancake"]["settings"].values():
        # Defaults are those of the tap, and the tap checks options.
        setting.pop("value", None)
        if setting.pop("options", None):
            setting["kind"] = "string"
    for plugin in ("dbt-postgres", "dbt-duckdb"):
        for name in ("project_dir", "profiles_dir"):
            setting = found[plugin]["settings"][name]
            setting["value"] = "$MELTANO_PROJECT_ROOT/../tap-pancake/transform"
    return found


def test_the_file_is_valid_and_has_the_plugins_of_this_project() -> None:
    file = written()
    schema = json.loads(
        resources.files("meltano.schemas").joinpath("meltano.schema.json").read_text("utf-8")
    )
    errors = Draft202012Validator(schema).iter_errors({"version": 1} | file)
    assert [(error.json_path, error.message) for error in errors] == []
    real = of_this_project()
    for plugin in (plugin for kind in file["plugins"].values() for plugin in kind):
        assert without_texts(plugin) == real[plugin["name"]], plugin["name"]


def test_the_document_has_the_jobs_of_this_project() -> None:
    shown = written()
    real = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    assert (shown["jobs"], shown["schedules"]) == (real["jobs"], real["schedules"])
    assert shown["plugins"]["extractors"][1:] == real["plugins"]["extractors"][1:]
    assert shown["plugins"]["utilities"]


def test_meltano_adds_the_same_plugin_from_the_definition_for_the_hub(project: Project) -> None:
    (project.directory / "meltano.yml").write_text("default_environment: dev\n", encoding="utf-8")
    definition = ROOT / "hub" / "tap-pancake.yml"
    done = project.meltano(
        *("add", "tap-pancake", "--plugin-type", "extractor", "--no-install"),
        *("--from-ref", str(definition)),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    file = yaml.safe_load((project.directory / "meltano.yml").read_text(encoding="utf-8"))
    (added,) = file["plugins"]["extractors"]
    shown, *_ = written()["plugins"]["extractors"]
    names = [[setting["name"] for setting in plugin["settings"]] for plugin in (added, shown)]
    assert names[0] == names[1]
    for name in ("namespace", "executable", "capabilities"):
        assert added[name] == shown[name]
