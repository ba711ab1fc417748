"""`--test` shows which streams of each page can be read, and how to fix the others."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.accounts import DIALECTS
from tests.pancake_api import Account, Fault, PancakeServer
from tests.tap import (
    BY_DEFAULT,
    COMMAND,
    KEYS,
    config_for,
    full_config,
    run_check,
    run_command,
    select,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pancake_api import Page
    from tests.tap import Run


def shop(pages: int) -> Account:
    """Return an account whose pages have a conversation each."""
    account = Account(5)
    for _ in range(pages):
        account.add_page().add_conversation()
    return account


class Checked(NamedTuple):
    """A test of pages that each have something else."""

    server: PancakeServer
    run: Run
    pages: dict[str, Page]

    def about(self, name: str) -> list[str]:
        """Return the lines about a page."""
        page, lines = self.pages[name], self.run.stdout.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith(f"page {page.id} ("))
        rest = lines[at + 1 :]
        below = next((n for n, line in enumerate(rest) if line[:1] != " "), len(rest))
        return [lines[at], *rest[:below]]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    names = "good replaced old tokenless expired forbidden reports odd passing sip"
    account = shop(len(names.split()))
    pages = dict(zip(names.split(), account.pages, strict=True))
    pages |= {"quiet": account.add_page(), "idle": account.add_page()}
    pages["replaced"].renew_token()  # which list-pages holds
    pages["tokenless"].token = None
    pages["expired"].plan_lapsed = 121
    pages["forbidden"].forbidden = True
    inactivated = account.add_page(category="inactivated")
    faults = [
        Fault("http:403", page_id=pages["reports"].id, endpoint="page_statistics"),
        Fault("http:403", page_id=pages["reports"].id, endpoint="user_statistics"),
        Fault("http:403", page_id=pages["reports"].id, endpoint="campaign_statistics"),
        Fault("500", page_id=pages["idle"].id, endpoint="customer_engagements"),
        Fault("missing_list", page_id=pages["odd"].id, endpoint="tags"),
        Fault("502_html", page_id=pages["passing"].id, endpoint="messages", times=2),
    ]
    pages["sip"].name = "Tiệm\x1b[31m\nhoa"
    with PancakeServer(account, faults=faults) as server:
        config = config_for(
            server,
            page_ids=[*(page.id for page in account.pages), "999"],
            page_access_tokens={pages["old"].id: "invented.token.of.old"},
            sip_package_ids={pages["sip"].id: pages["sip"].belongings.sip_package_id},
        )
        run = run_check(tmp_path_factory.mktemp("check"), config)
        yield Checked(server, run, pages | {"inactivated": inactivated})


def test_it_begins_with_the_account(checked: Checked) -> None:
    lines = checked.run.stdout.splitlines()
    assert lines[0] == "The user token works: it lists 13 pages, 12 activated"
    assert lines[1] == "Pages to read of `page_ids`: 12"


@pytest.mark.parametrize("name", ["good", "replaced", "passing"])
def test_a_page_of_which_everything_can_be_read_is_one_line(checked: Checked, name: str) -> None:
    page = checked.pages[name]
    line = f"page {page.id} ({page.name}): everything can be read ({BY_DEFAULT} streams)"
    assert checked.about(name) == [line]


def test_calls_are_tried_where_the_settings_have_their_package(checked: Checked) -> None:
    (line,) = checked.about("sip")
    assert line.endswith(f" everything can be read ({BY_DEFAULT + 1} streams)")
    assert line.startswith(f"page {checked.pages['sip'].id} (Tiệm [31m hoa): ")


def test_an_old_page_token_is_mended_in_the_pages_settings(checked: Checked) -> None:
    (line,) = checked.about("old")
    assert ": nothing can be read: the page token was refused: copy the current one from" in line
    assert "the page's Settings → Tools into `page_access_tokens`" in line


def test_a_page_without_a_token_gets_one_in_its_settings(checked: Checked) -> None:
    (line,) = checked.about("tokenless")
    assert ": nothing can be read: the page has no page token: ask an administrator of the" in line
    assert "under the page's Settings → Tools" in line


def test_a_page_without_a_plan_is_one_sentence(checked: Checked) -> None:
    (line,) = checked.about("expired")
    assert ": nothing can be read: the page or account has no valid plan: renew the" in line
    assert " subscription (gói cước) in Pancake, under Account (error 121" in line


def test_a_page_that_may_not_be_used_at_all(checked: Checked) -> None:
    lines = checked.about("forbidden")
    assert lines[0].endswith(f": none of {BY_DEFAULT} streams can be read")
    # Each right is a sentence of its own.
    assert [line.partition(" grant ")[2].partition(" in Pancake")[0] for line in lines[1:]] == [
        "it",
        "the right to view ad reports",
        "the right to view reports",
    ]
    assert lines[1].startswith(
        "  skipped: tags, users, posts, customers, conversations, messages, conversation_details,"
    )


def test_a_missing_right_to_see_statistics_is_named_with_its_place(checked: Checked) -> None:
    first, reports, ads = checked.about("reports")
    assert first.endswith(f": {BY_DEFAULT - 3} of {BY_DEFAULT} streams can be read")
    assert reports.startswith("  skipped: user_statistics, page_statistics: permission was denied")
    assert "grant the right to view reports in Pancake, under the page's Settings" in reports
    assert ads.startswith("  skipped: campaign_statistics: permission was denied: ")
    assert "grant the right to view ad reports in Pancake" in ads


def test_statistics_that_answer_500_for_a_page_without_traffic(checked: Checked) -> None:
    first, second, third = checked.about("idle")
    assert first.endswith(f": {BY_DEFAULT - 4} of {BY_DEFAULT - 2} streams can be read")
    assert second.startswith("  skipped: customer_engagements, user_engagements: the API answers")
    assert "HTTP 500, as it may for a page without traffic" in second
    assert third == "  not tried: messages, conversation_details: there is no recent conversation"


def test_an_answer_of_an_unknown_shape_fails(checked: Checked) -> None:
    first, second = checked.about("odd")
    assert first.endswith(f": {BY_DEFAULT - 1} of {BY_DEFAULT} streams can be read")
    assert second.startswith("  fails: tags: the answer has no list `tags`")


def test_messages_are_not_tried_without_a_conversation(checked: Checked) -> None:
    first, second = checked.about("quiet")
    assert first.endswith(f": everything can be read ({BY_DEFAULT - 2} streams)")
    assert second == "  not tried: messages, conversation_details: there is no recent conversation"


def test_page_ids_that_are_not_there_are_named(checked: Checked) -> None:
    lines = checked.run.stdout.splitlines()
    inactivated = checked.pages["inactivated"].id
    assert f"page {inactivated} of `page_ids` is inactivated in Pancake: activate it there" in (
        line.partition(", or")[0] for line in lines
    )
    assert "page 999 of `page_ids` is not in this account: correct the id" in (
        line.partition(", or")[0] for line in lines
    )


def test_it_fails_where_a_run_would(checked: Checked) -> None:
    assert checked.run.returncode == 1
    # The pages 999 and inactivated, old and tokenless, and the tags of one: the rest is skipped.
    assert "a run would fail (5 problems): see the lines above" in checked.run.stderr


def test_it_only_asks_once_for_each_stream(checked: Checked) -> None:
    good = checked.pages["good"]
    calls = [call.endpoint for call in checked.server.calls if call.page_id == good.id]
    # `user_engagements` are in the answers of `customer_engagements`, and asked for by themselves.
    assert len(calls) == BY_DEFAULT
    assert calls.count("customer_engagements") == 2
    assert {call.method for call in checked.server.calls} == {"GET"}


def test_it_writes_no_token_and_no_row(checked: Checked) -> None:
    output = checked.run.stdout + checked.run.stderr
    tokens = {page.token for page in checked.pages.values()} | {"invented.token.of.old"}
    assert not [token for token in tokens if token and token in output]
    assert checked.server.account.user_token not in output
    assert '"type"' not in output, "a Singer message was written"


@pytest.mark.parametrize(
    ("state", "token", "words"),
    [
        ("ok", "invented.and.wrong", "the user token was refused"),
        ("expired", None, "the user token has expired"),
    ],
)
def test_a_wrong_or_old_user_token_is_mended_in_the_account(
    tmp_path: Path, state: str, token: str | None, words: str
) -> None:
    account = shop(1)
    account.user_token_state = state  # type: ignore[assignment]
    with PancakeServer(account) as server:
        run = run_check(tmp_path, config_for(server) | ({"access_token": token} if token else {}))
    assert run.returncode == 1
    assert f"{words}: copy a new one from Account → Personal settings" in run.stderr
    assert not run.stdout


def test_only_what_the_catalog_selects_is_tried(tmp_path: Path) -> None:
    account = shop(1)
    page = account.pages[0]
    catalog = tmp_path / "catalog.json"
    selected = select("messages", "multi_page_user_statistics")
    catalog.write_text(json.dumps(selected), encoding="utf-8")
    with PancakeServer(account) as server:
        run = run_check(tmp_path, config_for(server), "--catalog", str(catalog))
        endpoints = sorted(call.endpoint for call in server.calls)
        page.plan_lapsed = 122
        page.refused["multi_page_user_statistics"] = 122
        refused = run_check(tmp_path, config_for(server), "--catalog", str(catalog))
    assert run.returncode == 0, run.stderr
    assert endpoints == ["conversations", "messages", "multi_page_user_statistics", "pages"]
    assert run.stdout.splitlines()[2:] == [
        f"page {page.id} ({page.name}): everything can be read (1 stream)",
        "all pages together: everything can be read (1 stream)",
    ]
    # What would be skipped is no failure of a run; but nothing is left here.
    assert refused.returncode == 1
    assert "no page can be read: see the lines above" in refused.stderr
    together = refused.stdout.splitlines()[-1]
    assert together.startswith(
        f"all pages together: nothing can be read: left out pages {page.id}, since the API refused"
    )


def test_a_failure_of_all_pages_together_is_one_of_the_test(tmp_path: Path) -> None:
    with PancakeServer(shop(1)) as server:
        server.faults = [Fault("missing_list", endpoint="multi_page_user_statistics")]
        config = config_for(server)
        catalog = tmp_path / "catalog.json"
        catalog.write_text(json.dumps(select("multi_page_user_statistics")), encoding="utf-8")
        run = run_check(tmp_path, config, "--catalog", str(catalog))
    assert run.returncode == 1
    assert "the API may have changed, please report this" in run.stdout
    assert "a run would fail (1 problem): see the lines above" in run.stderr


def test_a_page_that_spoils_the_totals_of_all_is_named(tmp_path: Path) -> None:
    account = shop(3)
    bad = account.pages[1].id
    catalog = tmp_path / "catalog.json"
    catalog.write_text(json.dumps(select("multi_page_user_statistics")), encoding="utf-8")
    for kind, code in (("error:121", "skipped"), ("error:999", "fails")):
        with PancakeServer(account) as server:
            server.faults = [Fault(kind, where=lambda call: bad in call.params.get("page_ids", ""))]
            run = run_check(tmp_path, config_for(server), "--catalog", str(catalog))
        assert run.returncode == 1  # nothing else is selected
        assert f"left out pages {bad}, since the API refused them" in run.stdout
        assert ("a run would fail (" in run.stderr) == (code == "fails")


def test_what_hangs_on_a_refused_stream_is_refused_with_it(tmp_path: Path) -> None:
    account = shop(1)
    with PancakeServer(account) as server:
        server.faults = [Fault("http:403", endpoint="conversations")]
        run = run_check(tmp_path, config_for(server))
    page, refused = run.stdout.splitlines()[2:4]
    assert page.endswith(f": {BY_DEFAULT - 3} of {BY_DEFAULT} streams can be read")
    assert refused.startswith(
        "  skipped: conversations, messages, conversation_details: permission was denied"
    )


def test_names_in_any_script_can_be_told_on_any_terminal(tmp_path: Path) -> None:
    account = shop(1)
    account.pages[0].name = "ร้านเมฆ"
    path = tmp_path / "config.json"
    with PancakeServer(account) as server:
        path.write_text(json.dumps(config_for(server)), encoding="utf-8")
        run = run_command("--test", "--config", str(path), env={"PYTHONIOENCODING": "cp1252"})
    assert run.returncode == 0, run.stderr
    assert r"(\u0e23\u0e49" in run.stdout


def test_page_tokens_alone_are_enough(tmp_path: Path) -> None:
    account = shop(2)
    with PancakeServer(account) as server:
        config = config_for(server)
        del config["access_token"]
        config["page_access_tokens"] = {page.id: page.token for page in account.pages}
        run = run_check(tmp_path, config)
    assert run.returncode == 0, run.stderr
    *lines, calls = run.stdout.splitlines()
    assert lines == [
        "Pages to read: 2",
        *(
            f"page {page.id}: everything can be read ({BY_DEFAULT} streams)"
            for page in account.pages
        ),
    ]
    assert calls.startswith("call_logs: not read for pages without an entry in `sip_package_ids`: ")


def test_an_account_without_a_page_is_told(tmp_path: Path) -> None:
    with PancakeServer(Account(5)) as server:
        run = run_check(tmp_path, config_for(server))
    assert run.returncode == 0
    assert "The account has no activated page: activate one in Pancake" in run.stdout


def test_a_page_at_its_limit_is_told_soon(tmp_path: Path) -> None:
    account = shop(1)
    with PancakeServer(account, faults=[Fault("429", page_id=account.pages[0].id)]) as server:
        run = run_check(tmp_path, config_for(server))
        assert server.count() <= 40
    assert run.returncode == 1
    assert "every call got HTTP 429 for " in run.stdout
    assert "other programs use up the rate limit" in run.stdout


def test_a_signal_ends_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with PancakeServer(shop(1), faults=[Fault("hang", endpoint="tags")]) as server:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config_for(server)), encoding="utf-8")
        process = subprocess.Popen(
            [*COMMAND, "--test", "--config", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not server.count("tags") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM


def test_the_schema_can_be_tested_without_a_call(tmp_path: Path) -> None:
    with PancakeServer(shop(1)) as server:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config_for(server)), encoding="utf-8")
        run = run_command("--test=schema", "--config", str(path))
        assert not server.calls
    assert run.returncode == 0
    assert {json.loads(line)["type"] for line in run.stdout.splitlines()} == {"SCHEMA"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_stream_can_be_tried_in_every_form_of_the_api(tmp_path: Path, dialect: str) -> None:
    account = shop(2)
    catalog = tmp_path / "catalog.json"
    catalog.write_text(json.dumps(select(*KEYS)), encoding="utf-8")
    with PancakeServer(account, dialect) as server:
        run = run_check(tmp_path, full_config(server), "--catalog", str(catalog))
    assert run.returncode == 0, run.stdout
    found = [line.rpartition(": ")[2] for line in run.stdout.splitlines()[2:]]
    of_page = f"everything can be read ({len(KEYS) - 2} streams)"
    assert found == [*[of_page] * len(account.pages), "everything can be read (1 stream)"]


def test_a_gateway_that_fails_for_one_stream_hides_no_other(tmp_path: Path) -> None:
    account = shop(2)
    one, lost = account.pages
    with PancakeServer(account) as server:
        server.faults = [
            Fault("502_html", endpoint="tags", page_id=one.id),
            Fault("502_html", page_id=lost.id),
        ]
        run = run_check(tmp_path, config_for(server))
    lines = run.stdout.splitlines()[2:]
    assert lines[0].endswith(f": {BY_DEFAULT - 1} of {BY_DEFAULT} streams can be read")
    assert lines[1].startswith(
        "  fails: tags: something in front of the API, such as a gateway, failed"
    )
    assert ": nothing can be read: something in front of the API" in lines[2]
    assert server.count(page_id=lost.id) == 2 * 3
