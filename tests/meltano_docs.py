"""docs/meltano.md, done as it says: its commands in its order, and what then is there.

It takes minutes, so `.ci/run` runs it apart: `sh scripts/test.sh tests/meltano_docs.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from scripts.docs import streams
from tap_pancake.rows.personal import phone
from tests.meltano_project import MELTANO, Project, new_project, own_definition
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT
from tests.stream_truth import CHILDREN, OTHERS, records
from tests.tap import ALL_KEYS, REPLICATION_KEYS, key_of
from tests.targets import for_target
from tests.truth import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tap import Json

DOCUMENT = ROOT / "docs" / "meltano.md"
ID = "dev:tap-pancake-to-target-jsonl"
JOBS = "Jobs and schedules"
SEED = "a long text of your own that nobody guesses"


@pytest.fixture(name="server")
def bundled_server() -> Iterator[PancakeServer]:
    # From before the document's `start_date`.
    start, end = datetime(2025, 12, 28, tzinfo=UTC), datetime(2026, 1, 9, 15, tzinfo=UTC)
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
    """Return what of the environment leads to the bundled server."""
    packages = {page.id: page.belongings.sip_package_id for page in server.account.pages}
    return {
        "TAP_PANCAKE_API_URL": server.url,
        "TAP_PANCAKE_REQUESTS_PER_SECOND": "1000",
        # So that no statistics are asked for of the days since.
        "TAP_PANCAKE_END_DATE": "2026-01-10T00:00:00Z",
        "TAP_PANCAKE_SIP_PACKAGE_IDS": json.dumps(packages),
    }


@pytest.fixture(name="project")
def users_project(tmp_path: Path, server: PancakeServer) -> Project:
    """The user's directory, beside the clone, as it is before anything was done."""
    project = new_project(tmp_path / "here", tmp_path / "home")
    (project.directory / "tap-pancake").symlink_to(ROOT)
    project.environment |= settings_for(server)
    with_meltano(project)
    return project


def with_meltano(project: Project) -> None:
    """Let the commands of a project find this environment's `meltano`."""
    path = project.environment["PATH"]
    project.environment["PATH"] = f"{MELTANO.parent}{os.pathsep}{path}"


def blocks() -> list[tuple[str, str]]:
    """Return all commands of the document: the section that they are in, and what they are."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = []
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        found += [
            (title, block)
            for block in re.findall(r"^```bash\n(.*?)^```$", body, flags=re.DOTALL | re.MULTILINE)
        ]
    return found


INBOX = ("pages", "conversations", "messages", "conversation_details")


def held(server: PancakeServer, stream: str) -> dict[tuple[str, ...], Json]:
    """Return what the server holds of a stream, since the document's `start_date`."""
    rows = records(server, stream) if stream in OTHERS else rows_of(server)[stream]
    if stream == "ads":
        conversations = held(server, "conversations").values()
        named = {(row["page_id"], ad) for row in conversations for ad in row.get("ad_ids") or []}
        rows = {key: row for key, row in rows.items() if key in named}
    return {key: row for key, row in rows.items() if since(stream, row)}


def since(stream: str, row: Json) -> bool:
    """Tell whether a row is of this year, if it has a time that counts."""
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
    return name not in row or row[name] >= "2026"


class Steps:
    """What must be there after each block of commands, by the section and how many there were."""

    def __init__(self, project: Project, server: PancakeServer) -> None:
        self.project = project
        self.server = server

    def arrived(self, stream: str) -> dict[tuple[str, ...], Json]:
        """Return the rows of a stream by key; none may be there twice."""
        rows = {key_of(stream, row): row for row in self.project.rows(stream)}
        assert len(rows) == len(self.project.rows(stream)), stream
        return rows

    def streams(self) -> set[str]:
        """Return the streams of which there are rows."""
        return {path.stem for path in (self.project.directory / "output").glob("*.jsonl")}

    def forget(self) -> None:
        """Let what comes next be all that is there: the target appends."""
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
        assert self.streams() == {*CHILDREN, *INBOX, "sync_runs"}
        for stream in self.streams() - {"sync_runs"}:
            assert self.arrived(stream).keys() == held(self.server, stream).keys(), stream
        assert any("phone_numbers" in row for row in self.project.rows("customers"))
        assert held(self.server, "messages").keys() < rows_of(self.server)["messages"].keys()
        self.forget()

    def choose_streams_and_columns(self, printed: str) -> None:
        assert "[automatic  ] customers.id" in printed
        assert "[selected   ] customers.phone_numbers" in printed
        assert "[excluded   ] multi_page_user_statistics.date" in printed

    def choose_streams_and_columns_2(self, _: str) -> None:
        assert self.streams() == {*CHILDREN, *INBOX, "sync_runs"} - {"posts"}
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
        assert {ID, f"{ID}:chats"} == set(listed)
        # The conversations of the day before the bookmark, and no message.
        assert self.streams() == {"conversations", "sync_runs"}
        assert self.arrived("conversations").keys() < held(self.server, "conversations").keys()
        assert self.server.count("messages") == 0
        self.forget()

    def stream_maps(self, _: str) -> None:
        assert "first_phone" in (self.project.directory / "meltano.yml").read_text(encoding="utf-8")

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
    text = DOCUMENT.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    bookmarks = json.loads(example)["singer_state"]["bookmarks"]
    (entry,) = bookmarks["conversations"]["partitions"]
    return dict(entry)


def test_the_document_does_what_it_says(project: Project, server: PancakeServer) -> None:
    steps, done = Steps(project, server), dict[str, int]()
    (project.directory / "token.txt").write_text(server.account.user_token, encoding="utf-8")
    for title, block in blocks():
        if title == JOBS:
            continue
        name = title.lower().replace(" ", "_")
        done[name] = done.get(name, 0) + 1
        if name == "settings":
            (project.directory.parent / "token.txt").rename(project.directory / "token.txt")
        printed = project.run("sh", "-eu", "-c", block)
        if printed.returncode and "meltano install" in block:
            project.install()
            printed = project.run("true")
        assert printed.returncode == 0, (block, printed.stderr[-3000:])
        then: Callable[[str], None] = getattr(
            steps, name if done[name] == 1 else f"{name}_{done[name]}"
        )
        then(printed.stdout)
    assert server.account.user_token not in project.output


# Jobs and schedules


def test_the_document_shows_the_jobs_as_they_are() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    shown = yaml.safe_load(example)
    real = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    assert shown["plugins"]["extractors"] == real["plugins"]["extractors"][1:]
    assert (shown["jobs"], shown["schedules"]) == (real["jobs"], real["schedules"])


def test_both_jobs_together_bring_every_stream_once(
    tmp_path: Path, server: PancakeServer, database: str
) -> None:
    """As this project's `meltano.yml` has them, into a real PostgreSQL."""
    project = new_project(tmp_path / "project", tmp_path / "home")
    definition = yaml.safe_load(own_definition())
    tap, *_ = definition["plugins"]["extractors"]
    target = definition["plugins"]["loaders"][-1]
    for plugin in (tap, target):
        # That of this environment, which need not be installed.
        del plugin["pip_url"]
        plugin["executable"] = str(MELTANO.with_name(plugin["executable"]))
    # dbt itself is tried in tests/dbt_project.py.
    dbt, builds = project.directory.parent / "dbt", project.directory.parent / "builds"
    dbt.write_text(f'#!/bin/sh\necho "$PGDATABASE $PGPORT: $*" >>{builds}\n', encoding="utf-8")
    dbt.chmod(0o755)
    for plugin in definition["plugins"]["utilities"]:
        del plugin["pip_url"]
        plugin["executable"] = str(dbt)
    (project.directory / "meltano.yml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    project.environment |= settings_for(server) | {
        "DBT_POSTGRES_DATABASE": "shop",
        "TAP_PANCAKE_ACCESS_TOKEN": server.account.user_token,
        "TAP_PANCAKE_START_DATE": "2026-01-01T00:00:00Z",
        "TARGET_POSTGRES_SQLALCHEMY_URL": for_target(database),
    }
    with_meltano(project)
    ((_, block),) = (found for found in blocks() if found[0] == JOBS)
    list_them, hourly, nightly = block.splitlines()

    listed = project.run("sh", "-c", list_them).stdout.splitlines()
    assert [line.split(":")[0] for line in listed] == [
        "[@hourly] job pancake-hourly",
        "[30 18 * * *] job pancake-nightly",
    ]
    statistics = {
        stream.name
        for stream in streams().values()
        if "statistics/" in stream.path and stream.selected_by_default
    }
    default = {stream.name for stream in streams().values() if stream.selected_by_default}
    for command, expected in ((hourly, default - statistics), (nightly, default)):
        done = project.run("sh", "-c", command)
        assert done.returncode == 0, done.stderr[-3000:]
        with psycopg.connect(database) as connection:
            tables = connection.execute(
                "select tablename from pg_tables where schemaname = 'pancake'"
            ).fetchall()
        assert {name for (name,) in tables} == expected
    with psycopg.connect(database) as connection:
        for stream in default - {"sync_runs"}:
            keys = ", ".join(f"{name}::text" for name in ALL_KEYS[stream])
            rows = connection.execute(f"select {keys} from pancake.{stream}").fetchall()
            assert sorted(rows) == sorted(tuple(map(str, key)) for key in held(server, stream)), (
                stream
            )
    assert builds.read_text(encoding="utf-8") == "shop 5432: build\n" * 2
    states = project.meltano("state", "list").stdout.split()
    assert len(states) == 2
    text = DOCUMENT.read_text(encoding="utf-8")
    assert not [name for name in states if f"`{name}`" not in text]
    assert server.account.user_token not in project.output
