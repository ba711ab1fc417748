"""The private names of singer-sdk that `sdk.py` overrides are still there, and still called.

If an upgrade of the SDK breaks one, this fails before anything subtle does.
"""

from __future__ import annotations

import io
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk import RESTStream, Tap

from tap_pancake.sdk import SDKStream, SDKTap
from tap_pancake.tap import TapPancake
from tests.pancake_api import Account, PancakeServer
from tests.tap import INBOX, config_for, read_output, select

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM_NAMES = (
    "_generate_record_messages",
    "_increment_stream_state",
    "_sync_children",
    "_write_record_message",
    "_write_schema_message",
    "_write_starting_replication_value",
    "_write_state_message",
    "get_batch_config",
    "get_context_state",
    "get_replication_key_signpost",
)
TAP_NAMES = ("_handle_termination", "_validate_config")


def test_every_private_name_that_is_overridden_is_one_of_the_sdk() -> None:
    for own, base in ((SDKStream, RESTStream), (SDKTap, Tap)):
        private = {name for name in vars(own) if name.startswith("_") and not name.startswith("__")}
        private -= {"_abc_impl", "_env_var_config", "_is_plain", "_parts", "_schema_written"}
        assert private == {
            name
            for name in (STREAM_NAMES if own is SDKStream else TAP_NAMES)
            if name.startswith("_")
        }
        assert all(hasattr(base, name) for name in private)
    assert "_env_var_config" in vars(SDKTap)
    assert TapPancake._env_var_prefix == "TAP_PANCAKE_"  # noqa: SLF001


def test_the_sdk_calls_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    called: Counter[str] = Counter()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            called[name] += 1
            return method(*args, **kwargs)

        return call

    for own, names in ((SDKStream, STREAM_NAMES), (SDKTap, ("_validate_config",))):
        for name in names:
            monkeypatch.setattr(own, name, counted(name, getattr(own, name)))
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", output)
    with PancakeServer(Account.generate(pages=1, conversations=5)) as server:
        # Rows that are written as they are go around one of them.
        config = config_for(server, flattening_enabled=True, flattening_max_depth=1)
        TapPancake(config=config, catalog=select(*INBOX)).sync_all()

    assert called.keys() == {*STREAM_NAMES, "_validate_config"}
    written = output.buffer.getvalue().decode()
    run = read_output(written)
    assert written.count('"SCHEMA"') == len(run.schemas) == 3
    assert len(run.records["conversations"]) == 5


def test_the_tap_answers_signals_itself() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        tap = TapPancake(config={"access_token": "invented"})
        assert signal.getsignal(signal.SIGTERM) == tap._handle_termination  # noqa: SLF001
        with pytest.raises(SystemExit) as ended:  # no run is under way
            tap._handle_termination(signal.SIGTERM, None)  # noqa: SLF001
        assert ended.value.code == 128 + signal.SIGTERM
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_settings_of_the_environment_come_through_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not those of the user's `.env`, which the SDK finds from its own place upwards.
    monkeypatch.setattr("singer_sdk.configuration._dict_config.find_dotenv", str)
    monkeypatch.setenv("TAP_PANCAKE_ACCESS_TOKEN", "invented")
    monkeypatch.setenv("TAP_PANCAKE_LOOKBACK_DAYS", "2.5")
    tap = TapPancake(parse_env_config=True)
    assert tap.config["access_token"] == "invented"
    assert tap.config["lookback_days"] == 2.5
