"""Every private name of singer-sdk that the tap touches, each with its reason.

`singer-sdk` is pinned to its minor version; `tests/test_sdk_contract.py` fails if one of these
names is gone or is no longer called. The classes here turn each into a hook with a plain name, so
that the rest of the tap speaks of pages, rows and bookmarks only.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from singer_sdk import RESTStream, Tap
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.singerlib import StateMessage
from typing_extensions import override

if TYPE_CHECKING:
    import datetime
    from types import FrameType

    from singer_sdk.helpers.types import Context, Record


class SDKStream(RESTStream[Any]):
    """A stream whose bookmarks and STATE messages are the tap's own business (`state.py`)."""

    _schema_written = False

    def emits(self, record: Record) -> bool:  # noqa: ARG002
        """Tell whether a record is written; one that is not still has its children read."""
        return True

    @abc.abstractmethod
    def write_state(self) -> None:
        """Write the STATE, if it is time to."""

    def sync_children(self, context: Context) -> None:
        """Read the child streams of one record."""
        super()._sync_children(context)

    @override
    def _sync_children(self, child_context: Context | None) -> None:
        # The SDK has no public hook around the children of one parent record; the tap needs it to
        # keep a failing page to itself (and a later version, to read pages side by side).
        if child_context is not None:
            self.sync_children(child_context)

    @override
    def _write_schema_message(self) -> None:
        # The SDK writes a SCHEMA for each child context: 2,000 conversations, 2,000 times.
        if not self._schema_written:
            self._schema_written = True
            super()._write_schema_message()

    @override
    def _write_record_message(self, record: Record) -> None:
        # A walk may begin before the stream's own start, for the sake of its children.
        if self.emits(record):
            super()._write_record_message(record)

    @override
    def _write_state_message(self) -> None:
        # The SDK copies and writes the whole STATE after each child context.
        self.write_state()

    @override
    def _increment_stream_state(
        self, latest_record: Record, *, context: Context | None = None
    ) -> None:
        # The SDK raises, or sets the bookmark back, on rows that a lookback reads again.
        pass

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        # The SDK keeps this in the STATE for the time of a run; the tap reads bookmarks itself.
        pass

    @override
    def get_replication_key_signpost(
        self, context: Context | None = None
    ) -> datetime.datetime | None:
        # Public, but here for the same reason: the SDK would keep it in the STATE.
        return None

    @property
    @override
    def partitions(self) -> list[dict[str, Any]] | None:
        # Public: the SDK's default is what the STATE remembers, for a stream that fans out itself.
        return None


class SDKTap(Tap):
    """A tap that checks its own settings and handles its own signals."""

    @abc.abstractmethod
    def check_settings(self, config: dict[str, Any], *, raise_errors: bool) -> None:
        """Fill in defaults, and raise if the settings cannot be used."""

    @abc.abstractmethod
    def handle_signal(self, signum: int, frame: FrameType | None) -> None:
        """Act on SIGTERM or SIGINT."""

    def emit_state(self) -> None:
        """Write a STATE message with the state of all streams, now."""
        # The SDK's own writer leaves out an unchanged state, after a deep copy of it each time.
        self.write_message(StateMessage(value=self.state))

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        # The SDK's messages quote the value that is wrong, which may be a token.
        self.append_builtin_config(self.config_jsonschema)
        self.check_settings(self._config, raise_errors=raise_errors)
        return []

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        # The SDK writes a STATE inside of the handler, maybe in the middle of a line, and exits 0.
        self.handle_signal(signum, frame)

    @classmethod
    @abc.abstractmethod
    def settings_from_environment(cls) -> dict[str, Any]:
        """Read the settings from variables ``TAP_PANCAKE_…``."""

    @classmethod
    def environment_setting(cls, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Read one setting the way the SDK does, which also loads a file ``.env``.

        Raises:
            ValueError: an object or array is not JSON.
        """
        prefix: str = cls._env_var_prefix
        return parse_environment_config({"properties": {name: schema}}, prefix)

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        # The SDK leaves numbers as text, and its error on bad JSON does not name the variable.
        return cls.settings_from_environment()
