"""The tap: its settings and its streams, how a run begins and how it ends."""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator
from singer_sdk.singerlib import Catalog
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_pancake import overrides, settings
from tap_pancake.api.client import PancakeStream
from tap_pancake.api.errors import ConfigurationError, PancakeError
from tap_pancake.check import Check
from tap_pancake.reading.state import check as check_state
from tap_pancake.reading.state import pages_in
from tap_pancake.running.interrupts import Interrupted, Interrupts
from tap_pancake.running.run import Run
from tap_pancake.sdk import SDKTap
from tap_pancake.streams import STREAMS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


# Where a command line notes that it has `--test`.
_TEST = "tap_pancake.test"
# Objects made between two looks for cycles; 700 is Python's own.
_GC_THRESHOLD = 10_000


class TapPancake(SDKTap):
    """Singer tap for Pancake (pages.fm): conversations, messages, customers, statistics, ads."""

    name = "tap-pancake"
    config_jsonschema = copy.deepcopy(settings.SETTINGS)  # the SDK adds its own settings to it
    # Not ACTIVATE_VERSION, since `page_ids` makes the only full table partial.
    capabilities = [  # noqa: RUF012 - typed by the SDK
        TapCapabilities.CATALOG,
        TapCapabilities.DISCOVER,
        TapCapabilities.STATE,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Check the settings and set up the streams; nothing is asked for yet."""
        # The SDK looks at settings and makes streams within its own constructor.
        self.interrupts = Interrupts()
        super().__init__(*args, **kwargs)

    @cached_property
    def shared(self) -> Run:
        """What the streams share."""
        run = Run(
            self.config,
            write_state=self.emit_state,
            user_agent=f"tap-pancake/{self.plugin_version}",
        )
        run.redactor.guard()
        return run

    @override
    def discover_streams(self) -> Sequence[PancakeStream]:
        return [stream(self, self.shared) for stream in STREAMS]

    @override
    def setup_mapper(self) -> None:
        _ = self.streams  # which put into the catalog what it leaves out, before it is looked at
        overrides.check_maps(self.config.get("stream_maps") or {}, self.streams.values())
        super().setup_mapper()

    # Settings

    @override
    def check_settings(self, config: dict[str, Any], *, raise_errors: bool) -> None:
        for name in [name for name, value in config.items() if value is None]:
            del config[name]
        if raise_errors:
            overrides.check_else(config.get("stream_maps"))
        # The SDK's validator also fills in the defaults, which discovery needs too.
        errors = list(JSONSchemaValidator(self.config_jsonschema).iter_errors(config))
        if raise_errors:
            settings.check(config, errors)

    @classmethod
    @override
    def settings_from_environment(cls) -> dict[str, Any]:
        found: dict[str, Any] = {}
        schema = dict(cls.config_jsonschema)
        cls.append_builtin_config(schema)
        if problem := settings.unknown_variable(os.environ, schema["properties"]):
            raise ConfigurationError(problem)
        for name, kind in schema["properties"].items():
            variable = f"TAP_PANCAKE_{name.upper()}"
            try:
                read = cls.environment_setting(name, kind)
            except ValueError:
                what = "a whole number" if "integer" in kind.get("type", []) else "valid JSON"
                msg = f"setting `{name}`: the environment variable {variable} must hold {what}"
                raise ConfigurationError(msg) from None
            for value in read.values():
                found[name] = settings.from_text(name, kind, value, os.environ[variable])
        return found

    # Beginning and end

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        streams = self.streams.values()
        check_state(state, {stream.name: stream.replication_key for stream in streams})
        self.shared.shard.keep(state)
        self.shared.account.known = pages_in(state)
        super().load_state(state)

    @override
    def handle_signal(self, signum: int, frame: FrameType | None) -> None:
        self.interrupts.handle(signum, frame)

    def read_all(self) -> None:
        """Read everything that is selected; whatever ends the run, the last STATE is written."""
        if sys.stdout is None:
            msg = "standard output is closed: give the tap a target, or a file, to write to"
            raise PancakeError(msg)
        self._tell_how()
        # An answer is thousands of objects in no cycle: looking for cycles at Python's usual pace
        # was measured to take a tenth of the time.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        lanes = self.shared.lanes
        self.interrupts.begin()
        try:
            # The main thread keeps itself free for signals.
            lanes.hand_over(self._read_all, self.interrupts.tell)
            self.interrupts.wait(self.shared.progress.tick)
        except OSError as fault:  # of the output: others are told as what they mean
            _forget_output()
            lanes.seize()
            self.shared.tell_skipped()
            msg = f"standard output cannot be written ({fault.strerror}): check where it goes"
            if isinstance(fault, BrokenPipeError):
                msg = "the target closed the pipe: see its own log for the reason"
            raise PancakeError(msg) from None
        except BaseException as end:
            lanes.seize()
            self.shared.tell_skipped()
            is_written = False
            try:
                self.shared.streams["sync_runs"].tell_rest(end)
                self.shared.state_clock.write()
                is_written = True
            except OSError:
                _forget_output()
            except PancakeError as failure:  # no batch file can be written
                if str(failure) != str(end):
                    self.logger.error("%s", failure)  # noqa: TRY400 - it is one line
            self.shared.summarise()
            if isinstance(end, Interrupted) and is_written:
                self.logger.warning(
                    "%s: the run was ended; the last STATE is written, and the next run goes on"
                    " from there",
                    end.name,
                )
            raise
        self.shared.summarise()

    def _tell_how(self) -> None:
        """Say what is worth knowing of the settings and the catalog before a run."""
        if not any(stream.selected for stream in self.streams.values()):
            self.logger.warning("The catalog selects no stream of this tap: nothing is read")
        for stream in self.streams.values():
            if stream.selected and isinstance(stream, PancakeStream) and stream.absent:
                self.logger.warning(
                    "%s: the catalog lacks the columns %s, which are not written: write it again"
                    " with --discover",
                    stream.name,
                    ", ".join(sorted(stream.absent)),
                )
        for doubt in settings.doubts(self.config):
            self.logger.warning("%s", doubt)
        if (how := self.config["personal_data"]) != "keep":
            self.logger.info("Personal data of %s: %s", self.config["personal_data_of"], how)

    def _read_all(self) -> None:
        self.sync_all()
        self.shared.raise_for_failed_pages()

    @classmethod
    @override
    def invoke(  # type: ignore[override] # as in the SDK's own Tap
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Any = None,  # the SDK's type for it is private
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        # As the SDK does it, but that files which are not JSON are an error of one line, and that
        # the run ends with a STATE.
        if about:
            cls.print_about(about_format)
            return
        cls.print_version(print_fn=cls.logger.info)
        entries = _read_object("--catalog", catalog)
        tap = cls(
            config=config.config,
            state=_read_object("--state", state),
            catalog=_catalog_of(entries, catalog),
            parse_env_config=config.parse_env,
        )
        if entries is not None:
            overrides.check_catalog(entries, tap.streams.values())
        if click.get_current_context().meta.get(_TEST):
            if isinstance(sys.stdout, io.TextIOWrapper):  # names of pages are in any script
                sys.stdout.reconfigure(errors="backslashreplace")
            Check(tap.shared, tap.streams.values(), click.echo).make()
        else:
            tap.read_all()

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if isinstance(option, click.Option) and option.name == "test":
                option.help = (
                    "Use --test to see which streams of each page can be read, and why others"
                    " cannot. Use --test=schema to test schema output without any call."
                )
        return command

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        # The SDK's test reads a row of each stream, says nothing of those that fail, and knows no
        # catalog.
        if value == CliTestOptionValue.All.value:
            ctx.meta[_TEST] = True
        else:
            super().cb_test(ctx, param, value)

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, ValueError, TypeError):
            # Somebody may have given the settings themselves, tokens and all.
            for name in value:
                if "{" not in name and (problem := _problem_of(name)):
                    msg = f"--config: {name} cannot be read: {problem}"
                    break
            else:
                msg = "--config: the value cannot be read"
            msg = f"{msg}: give a file with a JSON object"
            raise ConfigurationError(msg) from None


def _problem_of(path: str) -> str | None:
    """Say why a file holds no JSON object; None if it holds one."""
    try:
        content = json.loads(Path(path).read_bytes())
    except json.JSONDecodeError as error:
        return f"{error.msg} in line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError:
        return "it is not text in UTF-8"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None if isinstance(content, dict) else "no JSON object"


def _forget_output() -> None:
    """Let what is still in the buffer go nowhere, since Python tries to write it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_object(option: str, file: IO[str] | None) -> dict[str, Any] | None:
    """Read the JSON object of a file that an option names.

    Raises:
        ConfigurationError: there is none in it.
    """
    if file is None:
        return None
    try:
        content = json.load(file)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    remedy = (
        "give the last line that the target wrote (`tail -n 1`)"
        if option == "--state"
        else "write it again with --discover"
    )
    msg = f"{option}: the file {file.name} holds no JSON object: {remedy}"
    raise ConfigurationError(msg)


def _catalog_of(content: dict[str, Any] | None, file: IO[str] | None) -> Catalog | None:
    """Return the catalog that `--catalog` names.

    Raises:
        ConfigurationError: it is none.
    """
    if file is None or content is None:
        return None
    try:
        catalog = Catalog.from_dict(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        catalog = Catalog()
    if catalog.keys().isdisjoint(stream.name for stream in STREAMS):
        msg = (
            f"--catalog: the file {file.name} is no catalog of this tap: write it again with"
            " --discover"
        )
        raise ConfigurationError(msg)
    return catalog
