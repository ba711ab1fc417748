"""Every private name of singer-sdk that the tap touches, each with its reason.

`singer-sdk` is pinned to its minor version; `tests/test_sdk_contract.py` fails if one of these
names is gone or is no longer called. The classes here turn each into a hook with a plain name, so
that the rest of the tap speaks of pages, rows and bookmarks only.
"""

from __future__ import annotations

import abc
import logging
import re
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from singer_sdk import RESTStream, Tap
from singer_sdk.batch import Batcher
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.contrib.msgspec import MsgSpecWriter, serialize_jsonl
from singer_sdk.exceptions import MapExpressionError, StreamMapConfigError
from singer_sdk.helpers._batch import BatchConfig, SDKBatchMessage
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import Catalog, RecordMessage, StateMessage
from typing_extensions import override

from tap_pancake.api.errors import ConfigurationError, RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from types import FrameType

    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.singerlib import Message


_GZIPPED_LINES = {"format": "jsonl", "compression": "gzip"}
# What stands before the host of a URL, such as a password.
_LOGIN = re.compile(r"//[^/\s]+@")


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output, and lets records wait in its buffer for the next STATE.

    The SDK's own writer flushes after each record, a call of the system for each.
    """

    files: BatchFiles | None = None
    """Where records go, if not to standard output."""

    @override
    def write_message(self, message: Message) -> None:
        if type(message) is not RecordMessage:
            self.write_at_once(message)
        elif self.files:
            self.files.add(message)
        else:
            sys.stdout.buffer.write(self.format_message(message))

    @override
    def serialize_message(self, message: Message) -> bytearray:
        # The SDK's own makes a copy of each value of a state first.
        if type(message) is StateMessage:
            return serialize_jsonl({"type": "STATE", "value": message.value})
        return super().serialize_message(message)

    def write_at_once(self, message: Message) -> int:
        """Write a message, and what waits for it; give its length in bytes."""
        if self.files and type(message) is not SDKBatchMessage:
            self.files.write_all()
        line = self.format_message(message)
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
        return len(line)


class BatchFiles:
    """Records on their way into files, of all streams.

    The SDK makes files of what a stream reads, before fields are selected and maps applied, without
    its children, and with a STATE after each file, whatever other streams still delay. Here
    they are made of the messages that would have been written, and all before each STATE.
    """

    def __init__(self, setting: Mapping[str, Any], write: Callable[[Message], object]) -> None:
        """Begin with no record.

        Args:
            setting: `batch_config`.
            write: writes a message.
        """
        self._config = BatchConfig.from_dict({**setting, "encoding": _GZIPPED_LINES})
        self._write = write
        self._records: dict[str, list[Record]] = {}

    def add(self, message: RecordMessage) -> None:
        """Take a record in place of its message; write a file if there are enough."""
        records = self._records.setdefault(message.stream, [])
        records.append(message.record)
        if len(records) >= self._config.batch_size:
            self._write_file(message.stream)

    def write_all(self) -> None:
        """Write files of all records that were taken."""
        for stream in list(self._records):
            self._write_file(stream)

    def _write_file(self, stream: str) -> None:
        batcher = Batcher("tap-pancake", stream, self._config)
        try:
            manifests = list(batcher.get_batches(iter(self._records[stream])))
        except Exception as error:  # noqa: BLE001 - each kind of storage has its own
            with suppress(Exception):
                # What it has begun to write lies in the directory for temporary files.
                storage: Any = self._config.storage
                storage._root_path.fs.transaction.complete(commit=False)  # noqa: SLF001
            reason = _LOGIN.sub("//", f"{type(error).__name__}: {error}".splitlines()[0])
            msg = f"setting `batch_config`: no file can be written to its storage: {reason}"
            raise ConfigurationError(msg) from None
        del self._records[stream]
        for manifest in manifests:
            encoding = self._config.encoding
            self._write(SDKBatchMessage(stream=stream, encoding=encoding, manifest=manifest))


_CORRECT = "correct it, see docs/meltano.md#stream-maps"


@contextmanager
def _evaluating(stream: str) -> Iterator[None]:
    """Make one line of whatever an expression of the user's raises."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - that may be anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        if isinstance(error, ValueError):
            reason = reason.partition(": '")[0]  # which quotes a value of the row
        msg = f"setting `stream_maps`, stream `{stream}`: {reason}: {_CORRECT}"
        raise RunStopped(msg) from None


class _Removed(RemoveRecordTransform):
    """Removes the rows of a stream; the SDK's own removes all that is read for them, too."""

    @override
    def get_filter_result(self, record: Record) -> bool:
        return True


class SDKStream(RESTStream[Any]):
    """A stream whose bookmarks and STATE messages are the tap's own business (`state.py`)."""

    absent: frozenset[str] = frozenset()
    """Columns that the catalog does not have, such as one of an older version."""
    _schema_written = False
    _parts: dict[str, dict[str, Any]] | None = None

    def emits(self, record: Record) -> bool:  # noqa: ARG002
        """Tell whether a record is written; one that is not still has its children read."""
        return True

    @abc.abstractmethod
    def written(self, page_id: str | None, count: int) -> None:
        """Count what was written for a record of a page."""

    @abc.abstractmethod
    def write_state(self) -> None:
        """Write the STATE, if it is time to."""

    @override
    def generate_child_contexts(
        self, record: Record, context: Context | None
    ) -> Iterable[Context | None]:
        # Public: the SDK copies a context for each record, also of a stream without children.
        return super().generate_child_contexts(record, context) if self.child_streams else ()

    def sync_children(self, context: Context) -> None:
        """Read the child streams of one record."""
        super()._sync_children(context)

    @override
    def _sync_children(self, child_context: Context | None) -> None:
        # The SDK has no public hook around the children of one parent record; the tap needs it to
        # read each page in a lane of its own, and to keep a failing one to itself.
        if child_context is not None:
            self.sync_children(child_context)

    @override
    def _write_schema_message(self) -> None:
        # The SDK writes a SCHEMA for each child context: 2,000 conversations, 2,000 times.
        if not self._schema_written:
            self._schema_written = True
            super()._write_schema_message()

    @cached_property
    def is_mapped(self) -> bool:
        """Whether stream maps or flattening change or filter what is written."""
        (first, *others) = self.stream_maps
        as_it_is = type(first) is SameRecordTransform and not first.flattening_enabled
        return bool(others) or not as_it_is

    @cached_property
    def _is_plain(self) -> bool:
        return not self.is_mapped and all(self.mask.values())

    @override
    def _write_record_message(self, record: Record) -> None:
        # A walk may begin before the stream's own start, for the sake of its children.
        if not self.emits(record):
            return
        page_id = record.get("page_id")
        if self.absent:
            record = {name: part for name, part in record.items() if name not in self.absent}
        if self._is_plain:
            # The SDK looks at each field, at any depth, for whether it is selected.
            now = datetime.now(UTC)
            messages = [RecordMessage(self.name, record, time_extracted=now)]
        else:
            messages = list(self._generate_record_messages(record))
        for message in messages:
            self._tap.write_message(message)
        self.written(page_id, len(messages))  # a map may filter rows, or write some twice

    @override
    def post_process(self, row: Record, context: Context | None = None) -> Record | None:
        # Public: what follows it asks the filter of a stream map, where an error would be a
        # traceback.
        if self.is_mapped:
            with _evaluating(self.name):
                self.stream_maps[0].get_filter_result(row)
        return row

    def try_maps(self, record: Record) -> None:
        """Do with a record what stream maps and flattening do, and write nothing.

        Raises:
            RunStopped: an expression of the user's does not work.
        """
        for _ in self._generate_record_messages(record):
            pass

    @override
    def _generate_record_messages(self, record: Record) -> Generator[RecordMessage, None, None]:
        # An object that is null keeps its own name when the SDK flattens a row. The flattened
        # SCHEMA does not have that name, and a target may refuse it, as target-csv does.
        known = {
            each.stream_alias: each.transformed_schema["properties"]
            for each in self.stream_maps
            if each.flattening_enabled
        }
        with _evaluating(self.name):
            messages = list(super()._generate_record_messages(record))
        for message in messages:
            row = message.record
            names = known.get(message.stream, row)
            message.record = {
                name: value for name, value in row.items() if value is not None or name in names
            }
            yield message

    @override
    def get_batch_config(self, config: Mapping[str, Any]) -> BatchConfig | None:
        # Public: with one, the SDK reads a stream without its children. See `BatchFiles`.
        return None

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
    def get_replication_key_signpost(self, context: Context | None = None) -> datetime | None:
        # Public, but here for the same reason: the SDK would keep it in the STATE.
        return None

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        # Public: the SDK looks for a page's part in a list, from the beginning.
        page_id = context.get("page_id") if context else None
        if page_id is None:
            return super().get_context_state(context)
        parts: list[dict[str, Any]] = self.stream_state.setdefault("partitions", [])
        if self._parts is None:
            self._parts = {part["context"]["page_id"]: part for part in parts}
        if page_id not in self._parts:
            self._parts[page_id] = {"context": {"page_id": page_id}}
            parts.append(self._parts[page_id])
        return self._parts[page_id]

    def kept(self, page_id: str) -> dict[str, Any]:
        """Return what the state keeps of a page, or, where a stream has no pages, of it."""
        if self.parent_stream_type is None:
            return self.stream_state
        if self._parts is None:
            parts = self.stream_state.get("partitions", [])
            return next((part for part in parts if part["context"]["page_id"] == page_id), {})
        return self._parts.get(page_id, {})

    @property
    @override
    def partitions(self) -> list[dict[str, Any]] | None:
        # Public: the SDK's default is what the STATE remembers, for a stream that fans out itself.
        return None


# What the SDK says at INFO of each stream of each run: a screen full, which hides what matters.
_DETAILS = frozenset(
    {
        "Added '%s' as child stream to '%s'",
        "Parsing env var for settings config...",
        "Skipping deselected stream '%s'.",
        "Skipping parse of env var settings...",
    }
)


def _is_told(record: logging.LogRecord) -> bool:
    """Tell whether a line of the tap's log is for users who did not ask for details."""
    if isinstance(record.msg, str) and record.msg in _DETAILS:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
    return True


class SDKTap(Tap):
    """A tap that checks its own settings and handles its own signals."""

    message_writer_class = LineWriter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the tap, and its files if records are to go into some."""
        self.logger.addFilter(_is_told)
        super().__init__(*args, **kwargs)
        writer: LineWriter = self.message_writer  # type: ignore[assignment]
        if setting := self.config.get("batch_config"):
            writer.files = BatchFiles(setting, writer.write_at_once)

    @abc.abstractmethod
    def check_settings(self, config: dict[str, Any], *, raise_errors: bool) -> None:
        """Fill in defaults, and raise if the settings cannot be used."""

    @abc.abstractmethod
    def handle_signal(self, signum: int, frame: FrameType | None) -> None:
        """Act on SIGTERM or SIGINT."""

    def emit_state(self) -> int:
        """Write a STATE message with the state of all streams, now; give its length in bytes."""
        # The SDK's own writer leaves out an unchanged state, after a deep copy of it each time.
        writer: LineWriter = self.message_writer  # type: ignore[assignment]
        return writer.write_at_once(StateMessage(value=self.state))

    @override
    def setup_mapper(self) -> None:
        # Public: the SDK's errors come with a traceback. And it has one for each map of a stream
        # that is not selected, since it looks for the keys among the selected columns.
        selected = Catalog()
        try:
            PluginBase.setup_mapper(self)
            for name, entry in self.catalog.items():
                if entry.metadata.resolve_selection()[()]:
                    selected[name] = entry
                else:
                    schema = entry.schema.to_dict()
                    self.mapper.register_raw_stream_schema(name, schema, entry.key_properties)
            self.mapper.register_raw_streams_from_catalog(selected)
            for maps in self.mapper.stream_maps.values():
                if type(first := maps[0]) is RemoveRecordTransform:
                    maps[0] = _Removed(
                        stream_alias=first.stream_alias,
                        raw_schema=first.raw_schema,
                        key_properties=None,
                        flattening_options=first.flattening_options,
                    )
            for name, stream in self.streams.items():
                maps = self.mapper.stream_maps.get(name, [])
                if maps and all(isinstance(each, RemoveRecordTransform) for each in maps):
                    stream.selected = False  # so that its state stays, and its children are read
        except (StreamMapConfigError, MapExpressionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            msg = f"setting `stream_maps`: {reason}: {_CORRECT}"
            raise ConfigurationError(msg) from None

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
