"""Each setting does what it says; a wrong one is one line that names it and not its value."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.api.errors import ConfigurationError
from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, Fault, PancakeServer
from tests.tap import INBOX, Run, config_for, hurried, log_lines, run_command, run_tap, select, sync
from tests.truth import assert_complete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json

YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))
NOWHERE = "http://127.0.0.1:9"
"""Where nothing may be asked for: a test that gets there has failed already."""


def inbox(*page_ids: str | None, conversations: int = 6, messages: int = 5) -> Account:
    account = Account(8)
    for page_id in page_ids:
        account.add_page(page_id).fill(conversations, (1, messages), *YEAR)
    return account


def assert_one_line(run: Run, *parts: str) -> None:
    """Assert that a run ended at once, with one line that has these parts."""
    assert run.returncode == 1
    assert run.stdout == ""
    lines = log_lines(run, "CRITICAL")
    assert len(lines) == 1, run.stderr
    assert run.stderr.rstrip().endswith(lines[0]), "the line goes on"
    for part in parts:
        assert part in lines[0]


# What is known about each.


def test_the_defaults_are_those_of_the_table() -> None:
    about = json.loads(run_command("--about", "--format=json").stdout)
    settings = about["settings"]["properties"]
    defaults = {
        "access_token": None,
        "page_access_tokens": None,
        "page_ids": None,
        "start_date": None,
        "end_date": None,
        "lookback_days": 1,
        "message_lookback_minutes": 15,
        "personal_data": "keep",
        "personal_data_of": "customers",
        "personal_data_key": None,
        "conversations_api": "v2",
        "requests_per_second": 4.95,
        "max_parallel_pages": 256,
        "request_timeout": 60,
        "user_agent": None,
        "api_url": "https://pages.fm",
    }
    assert {name: settings[name].get("default") for name in defaults} == defaults
    secret = {name for name, setting in settings.items() if setting.get("secret")}
    assert secret == {"access_token", "page_access_tokens", "personal_data_key"}
    assert all(settings[name]["title"] and settings[name]["description"] for name in defaults)


# Wrong ones.

TOKEN = {"access_token": "not-a-token"}
WRONG: dict[str, tuple[Json, tuple[str, ...]]] = {
    "no token": ({}, ("`access_token`", "`page_access_tokens`")),
    "empty token": ({"access_token": ""}, ("`access_token`", "`page_access_tokens`")),
    "no page token": ({"page_access_tokens": {}}, ("`access_token`", "`page_access_tokens`")),
    "token of wrong type": ({"access_token": 5}, ("`access_token`", "a string")),
    "page tokens of wrong type": (TOKEN | {"page_access_tokens": []}, ("`page_access_tokens`",)),
    "page token of wrong type": ({"page_access_tokens": {"77": 5}}, ("`page_access_tokens.77`",)),
    "empty page token": ({"page_access_tokens": {"77": ""}}, ("`page_access_tokens.77`",)),
    "page ids as text": (TOKEN | {"page_ids": "1"}, ("`page_ids`", "an array")),
    "page id as number": (TOKEN | {"page_ids": ["1", 2]}, ("`page_ids.1`", "a string")),
    "empty page id": (TOKEN | {"page_ids": [""]}, ("`page_ids.0`",)),
    "start date as number": (TOKEN | {"start_date": 2024}, ("`start_date`",)),
    "start date no time": (TOKEN | {"start_date": "last year"}, ("`start_date`", "2024-01-31")),
    "start date impossible": (TOKEN | {"start_date": "2024-02-30"}, ("`start_date`",)),
    "end date no time": (TOKEN | {"end_date": "2024-02"}, ("`end_date`",)),
    "end before start": (
        TOKEN | {"start_date": "2024-01-02", "end_date": "2024-01-01T23:00:00Z"},
        ("`end_date`", "`start_date`"),
    ),
    "negative lookback": (TOKEN | {"lookback_days": -1}, ("`lookback_days`", "0 or more")),
    "lookback as text": (TOKEN | {"lookback_days": "1"}, ("`lookback_days`", "a number")),
    "lookback as truth": (TOKEN | {"lookback_days": True}, ("`lookback_days`", "a number")),
    "negative message lookback": (
        TOKEN | {"message_lookback_minutes": -0.5},
        ("`message_lookback_minutes`", "0 or more"),
    ),
    "unknown list": (TOKEN | {"conversations_api": "v3"}, ("`conversations_api`", "v2, v1")),
    "no requests": (TOKEN | {"requests_per_second": 0}, ("`requests_per_second`", "more than 0")),
    "negative requests": (TOKEN | {"requests_per_second": -5}, ("`requests_per_second`",)),
    "requests as text": (TOKEN | {"requests_per_second": "5"}, ("`requests_per_second`",)),
    "no time": (TOKEN | {"request_timeout": 0}, ("`request_timeout`", "more than 0")),
    "empty user agent": (TOKEN | {"user_agent": ""}, ("`user_agent`", "empty")),
    "user agent of two lines": (TOKEN | {"user_agent": "a\nb"}, ("`user_agent`",)),
    "user agent beyond Latin-1": (TOKEN | {"user_agent": "Đậu"}, ("`user_agent`",)),
    "URL without scheme": (TOKEN | {"api_url": "pages.fm"}, ("`api_url`", "https://pages.fm")),
    "URL of FTP": (TOKEN | {"api_url": "ftp://pages.fm"}, ("`api_url`",)),
    "URL with query": (TOKEN | {"api_url": "https://pages.fm/?x=1"}, ("`api_url`",)),
    "misspelt": (TOKEN | {"start_dat": "2024-01-01"}, ("`start_dat`", "`start_date`")),
    "misspelt token": ({"acces_token": "x"}, ("`acces_token`", "`access_token`")),
    "unheard of": (TOKEN | {"colour": "red"}, ("`colour`", "remove it")),
    "lookback beyond time": (TOKEN | {"lookback_days": 1e300}, ("`lookback_days`", "36500")),
    "refresh beyond time": (TOKEN | {"message_refresh_days": 1e300}, ("`message_refresh_days`",)),
    "statistics beyond time": (
        TOKEN | {"statistics_lookback_days": 1e300},
        ("`statistics_lookback_days`", "36500 or less"),
    ),
    "minutes beyond time": (
        TOKEN | {"message_lookback_minutes": 1e308},
        ("`message_lookback_minutes`", "52560000 or less"),
    ),
    "lookback no number": (TOKEN | {"lookback_days": float("nan")}, ("`lookback_days`",)),
    "endless timeout": (TOKEN | {"request_timeout": 1e300}, ("`request_timeout`", "86400")),
    "requests beyond floats": (
        TOKEN | {"requests_per_second": 10**400},
        ("`requests_per_second`", "10000 or less"),
    ),
    "user agent of a space": (TOKEN | {"user_agent": " "}, ("`user_agent`", "a space")),
    "user agent with line end": (TOKEN | {"user_agent": "a\n"}, ("`user_agent`", "one line")),
    "URL with line end": (TOKEN | {"api_url": "http://pages.fm\n"}, ("`api_url`",)),
    "URL with open bracket": (TOKEN | {"api_url": "http://[::1"}, ("`api_url`", "host")),
    "URL with high port": (TOKEN | {"api_url": "http://x:99999"}, ("`api_url`", "65535")),
    "URL with port 0": (TOKEN | {"api_url": "http://x:0"}, ("`api_url`", "port")),
    "URL without host": (TOKEN | {"api_url": "http://:80"}, ("`api_url`", "host")),
    "URL with empty label": (TOKEN | {"api_url": "http://a..b"}, ("`api_url`", "host")),
    "flattening without depth": (
        TOKEN | {"flattening_enabled": True},
        ("`flattening_enabled`", "`flattening_max_depth`", "set both"),
    ),
    "flattening with short names": (
        TOKEN
        | {
            "flattening_enabled": True,
            "flattening_max_depth": 3,
            "flattening_max_key_length": 10,
        },
        ("`flattening_max_key_length`", "raise it"),
    ),
    "unknown part": (
        TOKEN | {"batch_config": {"storage": {"root": "x", "foo": 1}}},
        ("`batch_config.storage.foo`", "remove it"),
    ),
    "seed of wrong type": (
        TOKEN | {"faker_config": {"seed": {}}},
        ("`faker_config.seed`", "a number or a string or true or false"),
    ),
    "map of wrong type": (TOKEN | {"stream_maps": {"tags": 5}}, ("`stream_maps.tags`", "object")),
    "rule of wrong type": (
        TOKEN | {"stream_maps": {"tags": {"text": 5}}},
        ("`stream_maps.tags.text`", "must be a string"),
    ),
    "two at once": (
        TOKEN | {"lookback_days": -1, "request_timeout": "soon"},
        ("`lookback_days`", "`request_timeout`"),
    ),
}


@pytest.fixture(scope="module")
def wrong_runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Run]]]:
    """Those that are asked for, a few at a time."""
    cases = [
        str(item.callspec.params["case"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "wrong_runs" in item.fixturenames
    ]

    root = tmp_path_factory.mktemp("wrong")

    def run(case: str) -> Run:
        directory = root / case.replace(" ", "_")
        directory.mkdir()
        config = {"api_url": NOWHERE} | WRONG[case][0]
        return run_tap(directory, config, env=hurried(directory / "env"))

    with ThreadPoolExecutor(3) as pool:
        yield {case: pool.submit(run, case) for case in cases}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_one_line_that_names_it(
    wrong_runs: dict[str, Future[Run]], case: str
) -> None:
    assert_one_line(wrong_runs[case].result(), *WRONG[case][1])


def test_an_unknown_setting_of_the_sdk_is_no_error(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        config = config_for(server, stream_maps={}, flattening_enabled=False)
        assert_complete(server, sync(tmp_path, config))


@pytest.mark.parametrize(
    "name",
    [
        "lookback_days",
        "message_lookback_minutes",
        "conversations_api",
        "requests_per_second",
        "max_parallel_pages",
        "request_timeout",
    ],
)
def test_a_setting_that_is_null_is_its_default_or_one_line(tmp_path: Path, name: str) -> None:
    with PancakeServer(inbox(None)) as server:
        state = sync(tmp_path, config_for(server)).state
        run = run_tap(tmp_path, config_for(server) | {name: None}, state=state)
        if run.returncode:
            assert_one_line(run, f"`{name}`")
        else:
            assert "Traceback" not in run.stderr


# From the environment.


def run_from_environment(directory: Path, **variables: str) -> Run:
    env = {f"TAP_PANCAKE_{name.upper()}": value for name, value in variables.items()}
    arguments = ("--config=ENV", "--catalog", inbox_catalog(directory))
    return run_command(*arguments, env={"TAP_PANCAKE_API_URL": NOWHERE} | env)


def inbox_catalog(directory: Path) -> str:
    path = directory / "catalog.json"
    path.write_text(json.dumps(select(*INBOX)), encoding="utf-8")
    return str(path)


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    """Objects and arrays as JSON, numbers as numbers; a token of digits stays a text."""
    account = inbox("11", "22", "33")
    account.user_token = "1234567890"
    with PancakeServer(account) as server:
        server.faults.append(Fault("hang", endpoint="messages", at=[1]))
        old = account.page("11").token
        account.page("11").renew_token()
        run = run_from_environment(
            tmp_path,
            api_url=server.url,
            access_token=account.user_token,
            page_access_tokens=json.dumps({"11": old}),
            page_ids='["11", "33"]',
            start_date="2025-06-01",
            end_date="2025-10-01T00:00:00Z",
            lookback_days="0",
            message_lookback_minutes="7.5",
            conversations_api="v1",
            requests_per_second="1e3",
            request_timeout="1.5",
            user_agent="from the environment",
        )
        assert run.returncode == 0, run.stderr
        pages = {call.page_id for call in server.calls}
        assert pages == {None, "11", "33"}
        assert server.count("pages") == 2, "the page token of the settings was not used"
        assert {call.user_agent for call in server.calls} == {"from the environment"}
        assert all("/v1/" in call.path for call in server.calls)
        assert '"RECORD"' in run.stdout


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("requests_per_second", "fast", ("`requests_per_second`", "a number")),
        ("requests_per_second", "", ("`requests_per_second`",)),
        ("requests_per_second", "0", ("`requests_per_second`", "more than 0")),
        ("max_parallel_pages", "0", ("`max_parallel_pages`", "1 or more")),
        ("max_parallel_pages", "1.5", ("`max_parallel_pages`", "a whole number")),
        ("lookback_days", "-1", ("`lookback_days`", "0 or more")),
        ("lookback_days", "nan", ("`lookback_days`",)),
        ("page_access_tokens", '{"1": "x"', ("`page_access_tokens`", "JSON")),
        ("page_access_tokens", "[]", ("`page_access_tokens`",)),
        ("page_access_tokens", '{"1": 5}', ("`page_access_tokens.1`", "a string")),
        ("page_ids", '["1"', ("`page_ids`", "JSON")),
        ("page_ids", "1,2", ("`page_ids`", "JSON")),
        ("page_ids", "[" * 100_000, ("`page_ids`", "JSON")),
        ("lookback_days", "1e999", ("`lookback_days`", "36500 or less")),
        ("page_ids", "[1]", ("`page_ids.0`", "a string")),
        ("conversations_api", "v3", ("`conversations_api`", "v2, v1")),
        ("statistics_window_days", "1.5", ("`statistics_window_days`", "a whole number")),
        ("statistics_window_days", "32", ("`statistics_window_days`", "31 or less")),
        ("statistics_window_days", "0", ("`statistics_window_days`", "1 or more")),
        ("statistics_lookback_days", "-1", ("`statistics_lookback_days`", "0 or more")),
        ("sip_package_ids", "[]", ("`sip_package_ids`", "an object")),
        ("sip_package_ids", '{"1": true}', ("`sip_package_ids.1`", "a string or a whole number")),
    ],
)
def test_a_wrong_environment_variable_is_one_line_that_names_the_setting(
    tmp_path: Path, name: str, value: str, parts: tuple[str, ...]
) -> None:
    env = {
        "TAP_PANCAKE_API_URL": NOWHERE,
        "TAP_PANCAKE_ACCESS_TOKEN": "not-a-token",
        f"TAP_PANCAKE_{name.upper()}": value,
    }
    run = run_command("--config=ENV", env=env | hurried(tmp_path))
    assert_one_line(run, *parts)
    assert not log_lines(run, "WARNING")


def test_a_file_and_the_environment_together(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config_for(server)), encoding="utf-8")
        env = {"TAP_PANCAKE_USER_AGENT": "both"}
        catalog = inbox_catalog(tmp_path)
        run = run_command("--config", str(path), "--config=ENV", "--catalog", catalog, env=env)
        assert run.returncode == 0, run.stderr
        assert {call.user_agent for call in server.calls} == {"both"}


# What some of them do.


@pytest.mark.parametrize("agent", [None, "shop-reports/2.0 (+https://example.invalid)"])
def test_every_call_carries_the_user_agent(tmp_path: Path, agent: str | None) -> None:
    with PancakeServer(inbox(None)) as server:
        sync(tmp_path, config_for(server, **({"user_agent": agent} if agent else {})))
        expected = agent or f"tap-pancake/{version('tap-pancake')}"
        assert {call.user_agent for call in server.calls} == {expected}


def test_requests_per_second_is_obeyed(tmp_path: Path) -> None:
    with PancakeServer(inbox(None, conversations=12)) as server:
        sync(tmp_path, config_for(server, requests_per_second=4))
        calls = [call.time for call in server.calls if call.page_id]
        assert len(calls) > 10
        assert calls[-1] - calls[0] >= (len(calls) - 1) / 4 - 0.1


def test_a_call_that_hangs_is_tried_again_after_the_request_timeout(tmp_path: Path) -> None:
    with PancakeServer(inbox(None), faults=[Fault("hang", endpoint="messages", at=[2])]) as server:
        assert_complete(server, sync(tmp_path, config_for(server, request_timeout=2)))
        hung = next(call for call in server.calls if call.fault)
        again = next(
            call
            for call in server.calls[hung.number :]
            if call.conversation_id == hung.conversation_id
        )
        assert 2 <= again.time - hung.time < 20


def test_the_api_url_may_end_with_a_slash(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        assert_complete(server, sync(tmp_path, config_for(server, api_url=f"{server.url}/")))


@pytest.mark.parametrize(
    ("page_id", "platform"),
    [
        ("a/b", "facebook"),
        ("../../v1/pages", "facebook"),
        ("what?page_access_token=x&since=5", "facebook"),
        ("a#b", "facebook"),
        ("100%25 %2e%2e%2F", "facebook"),
        ("with space+plus", "facebook"),
        ("tt_0:1@c.us;x=1", "tiktok_business_messaging"),
        ("wa_84900@c.us", "whatsapp"),
        ("Bánh 🍰 {page_id} {conversation_id}", "facebook"),
        ("back\\slash\"quote'", "facebook"),
    ],
)
def test_ids_may_hold_any_character(tmp_path: Path, page_id: str, platform: str) -> None:
    """A page's id is part of its conversations' ids, so both are tested."""
    account = Account(8)
    account.add_page(page_id, platform=platform).fill(4, (1, 40), *YEAR)
    with PancakeServer(account) as server:
        run = sync(tmp_path, config_for(server))
        assert_complete(server, run)
        assert {call.page_id for call in server.calls} == {None, page_id}
        assert run.bookmark("conversations", page_id)
        server.reset_calls()
        sync(tmp_path, config_for(server), state=run.state)
        assert server.count("messages") == 0, "the second run did not go on from this page's state"


# Files.

FILES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "config no JSON": ("--config", '{"access_token": ', ("--config", "JSON")),
    "config a list": ("--config", '["access_token"]', ("--config", "JSON")),
    "config a text": ("--config", '"access_token"', ("--config", "JSON")),
    "config empty": ("--config", "", ("--config", "JSON")),
    "config no setting": ("--config", "[]", ("--config", "JSON")),
    "config of pairs": ("--config", '[["access_token", "x"]]', ("--config", "JSON")),
    "config too deep": ("--config", "[" * 100_000, ("--config", "nested too deeply")),
    "config too long": ("--config", f'{{"page_ids": {"9" * 5000}}}', ("--config", "too long")),
    "config bytes": ("--config", "\x00\x01", ("--config", "JSON")),
    "state no JSON": ("--state", '{"bookmarks": ', ("--state", "JSON")),
    "state a list": ("--state", "[]", ("--state", "JSON")),
    "state too deep": ("--state", "[" * 100_000, ("--state", "JSON")),
    "state too long": ("--state", f'{{"bookmarks": {"9" * 5000}}}', ("--state", "JSON")),
    "state empty": ("--state", "", ("--state", "JSON")),
    "state a STATE": ("--state", '{"type": "STATE", "value": {"bookmarks": {}}}', ("state",)),
    "state of no object": ("--state", '{"bookmarks": 5}', ("state", "`bookmarks`")),
    "state damaged": ("--state", '{"bookmarks": {"messages": 5}}', ("state", "messages")),
    "catalog no JSON": ("--catalog", '{"streams": ', ("--catalog", "JSON")),
    "catalog a list": ("--catalog", "[]", ("--catalog", "JSON")),
    "catalog too deep": ("--catalog", "[" * 100_000, ("--catalog", "JSON")),
    "catalog too long": ("--catalog", f'{{"streams": {"9" * 5000}}}', ("--catalog", "JSON")),
    "catalog of no list": ("--catalog", '{"streams": 5}', ("catalog",)),
    "catalog of texts": ("--catalog", '{"streams": ["pages"]}', ("catalog",)),
    "catalog of empty entries": ("--catalog", '{"streams": [{}]}', ("catalog",)),
    "catalog of metadata as text": (
        "--catalog",
        '{"streams": [{"tap_stream_id": "pages", "schema": {}, "metadata": "x"}]}',
        ("catalog",),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    option, content, parts = FILES[case]
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TOKEN | {"api_url": NOWHERE}), encoding="utf-8")
    damaged = tmp_path / "damaged.json"
    damaged.write_text(content, encoding="utf-8")
    options: dict[str, Any] = {"--config": config} | {option: damaged}
    arguments = [text for name, path in options.items() for text in (name, str(path))]
    assert_one_line(run_command(*arguments, env=hurried(tmp_path / "env")), *parts)


def test_a_missing_config_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    run = run_command("--config", str(tmp_path / "nowhere.json"))
    assert_one_line(run, "--config", "nowhere.json")


@pytest.mark.parametrize("option", ["--state", "--catalog"])
@pytest.mark.parametrize("name", ["nowhere.json", ""])
def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path, option: str, name: str) -> None:
    path = str(tmp_path / name)
    run = run_command("--config=ENV", option, path)
    assert_one_line(run, f"{option}: ", path, "leave the option out")


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        first = sync(tmp_path, config_for(server))
        contents = {
            "--config": config_for(server),
            "--catalog": select(*INBOX),
            "--state": first.state,
        }
        arguments = []
        for option, content in contents.items():
            path = tmp_path / f"{option}.json"
            path.write_text(json.dumps(content), encoding="utf-8-sig")
            arguments += [option, str(path)]
        server.reset_calls()
        run = run_command(*arguments)
        assert run.returncode == 0, run.stderr
        assert server.count("messages") == 0, "the state was not used"


def test_a_test_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        config = tmp_path / "config.json"
        config.write_text(json.dumps(config_for(server)), encoding="utf-8")
        run = run_command("--config", str(config), "--test=bogus")
        assert_one_line(run, "`bogus`", "--test=schema")
        assert not server.calls


def test_stream_maps_that_remove_everything_are_named(tmp_path: Path) -> None:
    with PancakeServer(inbox(None)) as server:
        run = run_tap(tmp_path, config_for(server, stream_maps={"__else__": "__NULL__"}))
    (line,) = log_lines(run, "WARNING")
    assert "`stream_maps` removes all selected streams" in line
    assert "add the streams to keep" in line


@pytest.mark.parametrize("around", ["Bearer {}", "{}\n", " {}", "{} "])
def test_a_token_that_was_copied_with_something_else_is_told_before_any_call(around: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"`access_token` holds more than a token"
    ) as raised:
        TapPancake(config={"access_token": around.format("invented")})
    assert "invented" not in str(raised.value)
    tokens = {"1": around.format("invented")}
    with pytest.raises(ConfigurationError, match=r"`page_access_tokens` holds more than a token"):
        TapPancake(config={"page_access_tokens": tokens})


def test_page_ids_of_the_wrong_type_are_shown_an_example() -> None:
    example = r"must be an array, like \[\"100000000000001\"\]"
    with pytest.raises(ConfigurationError, match=example):
        TapPancake(config={"access_token": "invented", "page_ids": "100000000000001"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ('{"access_token": "secret",}', "in line 1, column 27"),
        ("7", "no JSON object"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_told_with_the_reason(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    run = run_command("--config", str(path))
    assert run.returncode == 1
    line = run.stderr.splitlines()[-1]
    assert f"--config: {path} cannot be read: " in line
    assert reason in line
    assert "secret" not in line


@pytest.mark.parametrize("content", [{}, {"access_token": "x"}, {"streams": []}])
def test_a_catalog_without_a_stream_of_the_tap_is_an_error(tmp_path: Path, content: Any) -> None:
    config, catalog = tmp_path / "config.json", tmp_path / "catalog.json"
    config.write_text('{"access_token": "invented"}', encoding="utf-8")
    catalog.write_text(json.dumps(content), encoding="utf-8")
    run = run_command("--config", str(config), "--catalog", str(catalog))
    assert run.returncode == 1
    assert "is no catalog of this tap: write it again with --discover" in run.stderr
