"""`meltano run` with the project's own meltano.yml, in environments that Meltano makes."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import psutil  # type: ignore[import-untyped]
import pytest

from tests.meltano_project import MELTANO, new_project, own_definition, variables_of
from tests.pancake_api import Account, Fault, PancakeServer
from tests.stream_truth import CHILDREN, records
from tests.tap import KEYS, config_for, full_config
from tests.truth import show_the_order

if TYPE_CHECKING:
    from pathlib import Path

    from tests.meltano_project import Project


@pytest.fixture(name="installed", scope="module")
def plugins_that_meltano_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("installed")
    project = new_project(directory / "project", directory / "home")
    (project.directory / "meltano.yml").write_text(own_definition(), encoding="utf-8")
    project.install("tap-pancake", "target-jsonl")
    return project.directory


@pytest.fixture(name="project")
def meltano_project(tmp_path: Path, installed: Path) -> Project:
    project = new_project(tmp_path / "project", tmp_path / "home")
    (project.directory / ".meltano").mkdir()
    (project.directory / "meltano.yml").write_text(own_definition(), encoding="utf-8")
    for name in (".meltano/extractors", ".meltano/loaders"):
        (project.directory / name).symlink_to(installed / name)
    return project


def test_meltano_reads_everything_and_then_only_what_is_new(project: Project) -> None:
    now = datetime.now(UTC)
    start = now - timedelta(days=9)
    account = Account.generate(pages=2, conversations=10, start=start, end=now - timedelta(hours=2))
    for page in account.pages[:2]:
        show_the_order(page)
    tokens = [account.user_token, *(page.token for page in account.pages if page.token)]
    with PancakeServer(account) as server:
        since = start.strftime("%Y-%m-%dT%H:%M:%SZ")
        config = full_config(server, start_date=since, statistics_window_days=5)
        settings = variables_of(config)

        for token, code in ((account.user_token, 0), ("an-invented-wrong-token", 1)):
            access = settings | {"TAP_PANCAKE_ACCESS_TOKEN": token}
            tested = project.meltano("config", "test", "tap-pancake", **access)
            assert tested.returncode == code, tested.stderr
            assert ("is valid" in tested.stdout + tested.stderr) is (code == 0)
        assert "the user token was refused: copy a new one" in project.output

        first = project.meltano("run", "tap-pancake", "target-jsonl", **settings)
        assert first.returncode == 0, first.stderr
        all_messages = server.expected().messages.keys()
        messages = project.written("messages", ("conversation_id", "id"))
        assert sorted(messages) == sorted(all_messages)
        conversations = project.written("conversations", ("page_id", "id"))
        assert sorted(conversations) == sorted(server.expected().conversations)
        assert len(project.written("pages", ("id",))) == 2
        for stream in CHILDREN:
            due = records(server, stream)
            if stream == "customer_feedbacks":  # of the hour in which the days begin, a part
                due = {key: row for key, row in due.items() if row["inserted_at"] >= since}
            assert sorted(set(project.written(stream, KEYS[stream]))) == sorted(due)

        state = json.loads(
            project.meltano("state", "get", "dev:tap-pancake-to-target-jsonl").stdout
        )
        partitions = state["singer_state"]["bookmarks"]["messages"]["partitions"]
        assert len(partitions) == 2

        page = account.pages[0]
        conversation = next(iter(page.conversations))
        page.receive(conversation)
        server.reset_calls()
        # A more detailed log could show more secrets.
        second = project.meltano(
            "--log-level", "debug", "run", "tap-pancake", "target-jsonl", **settings
        )
        assert second.returncode == 0, second.stderr
        (new,) = server.expected().messages.keys() - all_messages
        written = project.written("messages", ("conversation_id", "id"))
        assert written[: len(messages)] == messages
        # And with it what the same answer holds of the last days, which may have been edited.
        again = written[len(messages) :]
        assert new in again
        assert {name for name, _ in again} == {conversation}
        assert server.count("messages") == 1
        assert server.count("conversations") == 2 * 2

    for token in tokens:
        assert token not in project.output
        for path in project.files():
            assert token.encode() not in path.read_bytes(), path


def test_a_run_whose_tap_is_stopped_is_gone_on_with(project: Project) -> None:
    account = Account.generate(pages=2, conversations=20, messages=(1, 3))
    for page in account.pages[:2]:
        show_the_order(page)
    with PancakeServer(account) as server:
        project.environment |= variables_of(config_for(server, requests_per_second=5))
        project.environment["TAP_PANCAKE__SELECT"] = '["conversations.*", "messages.*"]'
        command = (str(MELTANO), "run", "tap-pancake", "target-jsonl")
        with subprocess.Popen(
            command, cwd=project.directory, env=project.environment, stderr=subprocess.DEVNULL
        ) as meltano:
            while server.count("messages") < 10:
                assert meltano.poll() is None
                time.sleep(0.05)
            (tap,) = (
                child
                for child in psutil.Process(meltano.pid).children(recursive=True)
                if any(part.endswith("/tap-pancake") for part in child.cmdline())
            )
            tap.terminate()
            assert meltano.wait(timeout=60) == 1
        first = set(project.written("messages", KEYS["messages"]))
        assert first < server.expected().messages.keys()

        server.reset_calls()
        project.environment["TAP_PANCAKE_REQUESTS_PER_SECOND"] = "1000"
        second = project.meltano("run", "tap-pancake", "target-jsonl")
        assert second.returncode == 0, second.stderr
        assert server.count("messages") < len(server.expected().conversations)
        messages = set(project.written("messages", KEYS["messages"]))
        assert messages == server.expected().messages.keys()


def test_no_failing_path_of_meltano_shows_a_token(project: Project) -> None:
    """With tokens in the environment and in `.env`, and with all that can be logged."""
    account = Account.generate(pages=2, conversations=4)
    account.user_token = "uSerToken+/=Head-uSerTokenTail"
    for page in account.pages:
        page.token = f"pAgeToken+/=Head-{page.id}-pAgeTokenTail"
    tokens = {page.id: str(page.token) for page in account.pages}
    secrets = [account.user_token, *tokens.values()]
    with PancakeServer(account) as server:
        plain = variables_of(config_for(server, start_date="2026-05-30", end_date="2026-06-02"))
        del plain["TAP_PANCAKE_ACCESS_TOKEN"]
        secret = variables_of({"access_token": account.user_token, "page_access_tokens": tokens})
        dotenv = project.directory / ".env"
        for in_file, kind, endpoint in (
            (False, "echo", "pages"),
            (True, "error:102", "conversations"),
        ):
            lines = [f"{name}='{value}'\n" for name, value in secret.items()]
            dotenv.write_text("".join(lines) if in_file else "", encoding="utf-8")
            settings = plain if in_file else plain | secret
            server.faults = [Fault(kind, endpoint=endpoint)]  # type: ignore[arg-type]
            for command in (
                ("run", "tap-pancake", "target-jsonl"),
                ("invoke", "tap-pancake"),
                ("config", "test", "tap-pancake"),  # which one page is enough for
            ):
                server.reset_calls()
                done = project.meltano("--log-level=debug", *command, **settings)
                assert server.count("pages"), done.stderr
                assert (done.returncode == 0) == (in_file and "test" in command), done.stderr
        dotenv.unlink()
    for text in [project.output, *(path.read_text("latin-1") for path in project.files())]:
        for token in secrets:
            for form in (token, quote(token), quote_plus(token), json.dumps(token)):
                assert form not in text
        assert "uSerToken" not in text
        assert "pAgeToken" not in text
