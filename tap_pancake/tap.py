"""The tap: its settings, its streams, and the start and end of a run."""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

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


# Key in click's context: the command line has `--test`.
_TEST = "tap_pancake.test"
# Allocations between two runs of the garbage collector; Python's default is 700.
_GC_THRESHOLD = 10_000


class TapPancake(SDKTap):
    """Singer tap for Pancake (pages.fm): conversations, messages, customers, statistics, ads."""

    name = "tap-pancake"
    config_jsonschema = copy.deepcopy(settings.SETTINGS)  # the SDK adds its own settings to it
    # Not ACTIVATE_VERSION: with `page_ids` or shards, a run reads only a part of a full table.
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
        """Check the settings and create the streams, without any request."""
        # First, because the SDK's constructor installs the signal handlers, which use it.
        self.interrupts = Interrupts()
        super().__init__(*args, **kwargs)

    @cached_property
    def shared(self) -> Run:
        """The objects that all streams of the run share."""
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
        _ = self.streams  # creating them adds to the catalog the streams that it lacks
        overrides.check_maps(self.config.get("stream_maps") or {}, self.streams.values())
        overrides.check_flattening(self.config)
        super().setup_mapper()

    # Settings

    @override
    def check_settings(self, config: dict[str, Any], *, raise_errors: bool) -> None:
        for name in [name for name, value in config.items() if value is None]:
            del config[name]
        if raise_errors:
            overrides.check_else(config.get("stream_maps"))
        # The SDK's validator also fills in defaults. Discovery needs these, too.
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
            except (ValueError, RecursionError):  # the latter: nested too deeply
                what = "a whole number" if "integer" in kind.get("type", []) else "valid JSON"
                msg = f"setting `{name}`: the environment variable {variable} must hold {what}"
                raise ConfigurationError(msg) from None
            for value in read.values():
                found[name] = settings.from_text(name, kind, value, os.environ[variable])
        return found

    # Start and end of a run

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        check_state(state, {name: stream.replication_key for name, stream in self.streams.items()})
        for name in sorted(state.get("bookmarks", {}).keys() - self.streams.keys()):
            near = settings.nearest(name, self.streams)
            hint = f" (did you mean `{near}`?)" if near else ""
            self.logger.warning(
                "the state has the stream `%s`, which this tap does not have%s: correct the name,"
                " or remove the entry, which is not used",
                name,
                hint,
            )
        self.shared.shard.keep(state)
        self.shared.account.pages_in_state = pages_in(state)
        super().load_state(state)

    @override
    def handle_signal(self, signum: int, frame: FrameType | None) -> None:
        self.interrupts.handle(signum, frame)

    def read_all(self) -> None:
        """Read everything that is selected, and write the last STATE however the run ends."""
        if sys.stdout is None:
            msg = "standard output is closed: give the tap a target, or a file, to write to"
            raise PancakeError(msg)
        self._log_setup()
        # An answer is thousands of objects without cycles. With Python's default threshold, the
        # garbage collector took a tenth of the time (measured).
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        lanes = self.shared.lanes
        self.interrupts.begin()
        try:
            # The main thread stays free for signals.
            lanes.hand_over(self._read_all, self.interrupts.report_end)
            self.interrupts.wait(self.shared.progress.tick)
        except OSError as fault:  # of the output; other code converts its own to PancakeError
            _discard_output()
            lanes.seize()
            self.shared.log_skipped()
            msg = f"standard output cannot be written ({fault.strerror}): check where it goes"
            if isinstance(fault, BrokenPipeError):
                msg = "the target closed the pipe: see its own log for the reason"
            raise PancakeError(msg) from None
        except BaseException as end:
            lanes.seize()
            self.shared.log_skipped()
            is_written = False
            try:
                self.shared.streams["sync_runs"].write_rest(end)
                self.shared.state_clock.write()
                is_written = True
            except OSError:
                _discard_output()
            except PancakeError as failure:  # a batch file cannot be written
                if str(failure) != str(end):
                    self.logger.error("%s", failure)  # noqa: TRY400 - one line, without a traceback
            self.shared.summarise()
            if isinstance(end, Interrupted) and is_written:
                self.logger.warning(
                    "%s: the run was ended; the last STATE is written, and the next run goes on"
                    " from there",
                    end.name,
                )
            raise
        self.shared.summarise()

    def _log_setup(self) -> None:
        """Log warnings and facts about the settings and the catalog before a run."""
        if any(stream.selected for stream in self.streams.values()):
            pass
        elif self.maps_remove_streams:
            self.logger.warning(
                "setting `stream_maps` removes all selected streams, so nothing is read: add"
                " the streams to keep, see docs/meltano.md#stream-maps"
            )
        else:
            self.logger.warning("The catalog selects no stream of this tap: nothing is read")
        for stream in self.streams.values():
            if stream.selected and isinstance(stream, PancakeStream) and stream.missing_columns:
                self.logger.warning(
                    "%s: the catalog lacks the columns %s, which are not written: write it again"
                    " with --discover",
                    stream.name,
                    ", ".join(sorted(stream.missing_columns)),
                )
        for warning in settings.warnings(self.config):
            self.logger.warning("%s", warning)
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
        state: IO[bytes] | None = None,
        catalog: IO[bytes] | None = None,
    ) -> None:
        # Like the SDK's own, except that a file without valid JSON is an error of one line, and
        # that the run ends with a STATE.
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
            if isinstance(sys.stdout, io.TextIOWrapper):  # page names can be in any script
                sys.stdout.reconfigure(errors="backslashreplace")
            Check(tap.shared, tap.streams.values(), click.echo).make()
        else:
            tap.read_all()

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if option.name in {"catalog", "state"}:
                option.type = _File("rb")  # binary: the encoding is that of JSON
            if isinstance(option, click.Option) and option.name == "test":
                option.help = (
                    "Use --test to see which streams of each page can be read, and why others"
                    " cannot. Use --test=schema to test schema output without any call."
                )
        return command

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        # The SDK's test reads a row of each stream, does not report streams that fail, and
        # ignores the catalog.
        if value == CliTestOptionValue.All.value:
            ctx.meta[_TEST] = True
        elif value not in {each.value for each in CliTestOptionValue}:
            msg = f"--test: there is no test `{value}`: use --test or --test=schema"
            raise ConfigurationError(msg)
        else:
            super().cb_test(ctx, param, value)

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        # The SDK's own reads a list as no settings, and its errors have a traceback.
        found: dict[str, Any] = {}
        for name in value:
            if name == "ENV":
                continue
            try:
                found |= _object_in(Path(name).read_bytes())
            except (OSError, ValueError) as error:
                # The value may be the settings themselves, with tokens: never print it.
                reason = error.strerror if isinstance(error, OSError) else error
                msg = f"{name} cannot be read: {reason}"
                if "{" in name:
                    msg = "the value cannot be read"
                msg = f"--config: {msg}: give a file with a JSON object"
                raise ConfigurationError(msg) from None
        config = super().cb_config(ctx, param, tuple(name for name in value if name == "ENV"))
        config.config.update(found)
        return config


class _File(click.File):
    """A file of an option; one that cannot be opened is an error of one line."""

    @override
    def fail(
        self, message: str, param: click.Parameter | None = None, ctx: click.Context | None = None
    ) -> NoReturn:
        option = param.opts[0] if param else "the file"
        msg = f"{option}: {message}: give a file that exists, or leave the option out"
        raise ConfigurationError(msg)


def _object_in(content: bytes) -> dict[str, Any]:
    """Return the JSON object in the content of a file.

    Raises:
        ValueError: with the reason; the content is no JSON object.
    """
    try:
        found = json.loads(content, parse_constant=str)  # NaN is not a number of JSON
    except json.JSONDecodeError as error:
        msg = f"{error.msg} in line {error.lineno}, column {error.colno}"
        raise ValueError(msg) from None
    except UnicodeDecodeError:
        msg = "it is not text in UTF-8"
        raise ValueError(msg) from None
    except (ValueError, RecursionError):
        msg = "it has a number that is too long, or is nested too deeply"
        raise ValueError(msg) from None
    if not isinstance(found, dict):
        msg = "no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - like the others
    return found


def _discard_output() -> None:
    """Discard the buffer of stdout, which Python would otherwise try to write when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_object(option: str, file: IO[bytes] | None) -> dict[str, Any] | None:
    """Return the JSON object in the file of an option; None without a file.

    Raises:
        ConfigurationError: the file does not contain a JSON object.
    """
    if file is None:
        return None
    try:
        return _object_in(file.read())
    except (OSError, ValueError):
        pass
    remedy = (
        "give the last line that the target wrote (`tail -n 1`)"
        if option == "--state"
        else "write it again with --discover"
    )
    msg = f"{option}: the file {file.name} holds no JSON object: {remedy}"
    raise ConfigurationError(msg)


def _catalog_of(content: dict[str, Any] | None, file: IO[bytes] | None) -> Catalog | None:
    """Return the catalog of `--catalog`; None without the option.

    Raises:
        ConfigurationError: the file is not a catalog of this tap.
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
