"""The hooks into private names of singer-sdk, each with its reason.

`singer-sdk` is pinned to a minor version, and `tests/test_sdk_contract.py` fails if one of these
names is missing or is no longer called. The classes here give most of them a public name, for the
rest of the tap.
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
# User name and password in a URL.
_URL_LOGIN = re.compile(r"//[^/\s]+@")


class LineWriter(MsgSpecWriter):
    """A writer of messages to standard output that buffers records until the next other message.

    The SDK's own writer flushes after each record, with one system call for each.
    """

    files: BatchFiles | None = None
    """The batch files for records; None to write records to standard output."""

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
        # The SDK's own method first copies each value of the state.
        if type(message) is StateMessage:
            return serialize_jsonl({"type": "STATE", "value": message.value})
        return super().serialize_message(message)

    def write_at_once(self, message: Message) -> int:
        """Write and flush a message, after all records before it; return its length in bytes."""
        if self.files and type(message) is not SDKBatchMessage:
            self.files.write_all()
        line = self.format_message(message)
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
        return len(line)


class BatchFiles:
    """Batch files of all streams.

    The SDK makes files before it selects fields and applies stream maps, does not read child
    streams, and writes a STATE after each file, even if other streams still have records to write.
    Here, files contain the records that would have been written, and all of them are written before
    each STATE.
    """

    def __init__(self, setting: Mapping[str, Any], write: Callable[[Message], object]) -> None:
        """Start without records.

        Args:
            setting: the setting `batch_config`.
            write: writes a message.
        """
        self._config = BatchConfig.from_dict({**setting, "encoding": _GZIPPED_LINES})
        self._write = write
        self._records: dict[str, list[Record]] = {}

    def add(self, message: RecordMessage) -> None:
        """Add a record; write a file if there are enough records for it."""
        records = self._records.setdefault(message.stream, [])
        records.append(message.record)
        if len(records) >= self._config.batch_size:
            self._write_file(message.stream)

    def write_all(self) -> None:
        """Write all added records to files."""
        for stream in list(self._records):
            self._write_file(stream)

    def _write_file(self, stream: str) -> None:
        batcher = Batcher("tap-pancake", stream, self._config)
        try:
            manifests = list(batcher.get_batches(iter(self._records[stream])))
        except Exception as error:  # noqa: BLE001 - each kind of storage has its own errors
            with suppress(Exception):
                # Remove the unfinished file from the directory for temporary files.
                storage: Any = self._config.storage
                storage._root_path.fs.transaction.complete(commit=False)  # noqa: SLF001
            reason = _URL_LOGIN.sub("//", f"{type(error).__name__}: {error}".splitlines()[0])
            remedy = "check `storage.root`, and the right to write there"
            if isinstance(error, ImportError):
                remedy = "install the package of this storage where the tap is installed"
            msg = (
                f"setting `batch_config`: no file can be written to its storage: {reason}: {remedy}"
            )
            raise ConfigurationError(msg) from None
        del self._records[stream]
        for manifest in manifests:
            encoding = self._config.encoding
            self._write(SDKBatchMessage(stream=stream, encoding=encoding, manifest=manifest))


_CORRECT = "correct it, see docs/meltano.md#stream-maps"


@contextmanager
def _as_one_line(stream: str) -> Iterator[None]:
    """Turn any exception of a stream map's expression into an error of one line."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - an expression may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        if isinstance(error, ValueError):
            reason = reason.partition(": '")[0]  # what follows quotes a value of the row
        msg = f"setting `stream_maps`, stream `{stream}`: {reason}: {_CORRECT}"
        raise RunStopped(msg) from None


class _RemoveAll(RemoveRecordTransform):
    """A map that removes a stream's rows, but not its child streams' rows, unlike the SDK's own."""

    @override
    def get_filter_result(self, record: Record) -> bool:
        return True


class SDKStream(RESTStream[Any]):
    """A stream whose bookmarks and STATE messages the tap handles itself (`state.py`)."""

    missing_columns: frozenset[str] = frozenset()
    """Columns that are missing from the catalog, for example one of an older version."""
    _schema_written = False
    _parts: dict[str, dict[str, Any]] | None = None

    def is_written(self, record: Record) -> bool:  # noqa: ARG002
        """Return whether a record is written; its child streams are read in both cases."""
        return True

    @abc.abstractmethod
    def count_written(self, page_id: str | None, count: int) -> None:
        """Add to the number of rows written for a page."""

    @abc.abstractmethod
    def write_state(self) -> None:
        """Write the STATE if it is due."""

    @override
    def generate_child_contexts(
        self, record: Record, context: Context | None
    ) -> Iterable[Context | None]:
        # Public: the SDK copies a context for each record, even of a stream without children.
        return super().generate_child_contexts(record, context) if self.child_streams else ()

    def sync_children(self, context: Context) -> None:
        """Read the child streams of one record."""
        super()._sync_children(context)

    @override
    def _sync_children(self, child_context: Context | None) -> None:
        # The SDK has no public hook around the child streams of one record. The tap needs one to
        # read each page in its own lane, and to go on with others if one fails.
        if child_context is not None:
            self.sync_children(child_context)

    @override
    def _write_schema_message(self) -> None:
        # The SDK writes a SCHEMA for each child context: 2,000 of them for 2,000 conversations.
        if not self._schema_written:
            self._schema_written = True
            super()._write_schema_message()

    @cached_property
    def is_mapped(self) -> bool:
        """Whether stream maps or flattening change or filter records."""
        (first, *others) = self.stream_maps
        as_it_is = type(first) is SameRecordTransform and not first.flattening_enabled
        return bool(others) or not as_it_is

    @cached_property
    def _is_plain(self) -> bool:
        return not self.is_mapped and all(self.mask.values())

    @override
    def _write_record_message(self, record: Record) -> None:
        # A stream may be read from before its own start, for its child streams.
        if not self.is_written(record):
            return
        page_id = record.get("page_id")
        if self.missing_columns:
            record = {
                name: part for name, part in record.items() if name not in self.missing_columns
            }
        if self._is_plain:
            # The SDK checks for each field, at any depth, whether it is selected.
            now = datetime.now(UTC)
            messages = [RecordMessage(self.name, record, time_extracted=now)]
        else:
            messages = list(self._generate_record_messages(record))
        for message in messages:
            self._tap.write_message(message)
        self.count_written(page_id, len(messages))  # a map may remove or duplicate rows

    @override
    def post_process(self, row: Record, context: Context | None = None) -> Record | None:
        # Public: the SDK calls the filter of a stream map next, where an error would end with a
        # traceback.
        if self.is_mapped:
            with _as_one_line(self.name):
                self.stream_maps[0].get_filter_result(row)
        return row

    def try_maps(self, record: Record) -> None:
        """Apply stream maps and flattening to a record, and write nothing.

        Raises:
            RunStopped: an expression of a stream map fails.
        """
        for _ in self._generate_record_messages(record):
            pass

    @override
    def _generate_record_messages(self, record: Record) -> Generator[RecordMessage, None, None]:
        # When the SDK flattens a row, an object that is null keeps its name. The flattened SCHEMA
        # does not have that name, and a target such as target-csv rejects the record.
        known = {
            each.stream_alias: each.transformed_schema["properties"]
            for each in self.stream_maps
            if each.flattening_enabled
        }
        with _as_one_line(self.name):
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
        # Public: with a batch config, the SDK does not read child streams. See `BatchFiles`.
        return None

    @override
    def _write_state_message(self) -> None:
        # The SDK copies and writes the whole STATE after each child context.
        self.write_state()

    @override
    def _increment_stream_state(
        self, latest_record: Record, *, context: Context | None = None
    ) -> None:
        # The SDK raises, or moves the bookmark back, for rows that a lookback reads again.
        pass

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        # The SDK keeps this in the STATE during a run; the tap reads bookmarks itself.
        pass

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> datetime | None:
        # Public, for the same reason: the SDK would keep it in the STATE.
        return None

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        # Public: the SDK searches the list of partitions from its start, at each call.
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

    def state_of(self, page_id: str) -> dict[str, Any]:
        """Return the state of a page, or of the stream if it has no pages; never creates one."""
        if self.parent_stream_type is None:
            return self.stream_state
        if self._parts is None:
            parts = self.stream_state.get("partitions", [])
            return next((part for part in parts if part["context"]["page_id"] == page_id), {})
        return self._parts.get(page_id, {})

    @property
    @override
    def partitions(self) -> list[dict[str, Any]] | None:
        # Public: by default, the SDK reads each partition that the STATE has.
        return None


# Lines that the SDK logs at INFO for each stream: a full screen, which hides what matters.
_DEBUG_LINES = frozenset(
    {
        "Added '%s' as child stream to '%s'",
        "Parsing env var for settings config...",
        "Skipping deselected stream '%s'.",
        "Skipping parse of env var settings...",
    }
)


def _is_logged(record: logging.LogRecord) -> bool:
    """Return whether a line is logged; lines of `_DEBUG_LINES` become DEBUG."""
    if isinstance(record.msg, str) and record.msg in _DEBUG_LINES:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
    return True


class SDKTap(Tap):
    """A tap that checks its own settings and handles its own signals."""

    message_writer_class = LineWriter
    maps_remove_streams = False
    """Whether stream maps remove at least one selected stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Create the tap, with batch files if `batch_config` is set."""
        self.logger.addFilter(_is_logged)
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
        """Write a STATE message with the state of all streams; return its length in bytes."""
        # The SDK's own method skips an unchanged state, and makes a deep copy of it each time.
        writer: LineWriter = self.message_writer  # type: ignore[assignment]
        return writer.write_at_once(StateMessage(value=self.state))

    @override
    def setup_mapper(self) -> None:
        # Public: errors of the SDK come with a traceback. And the SDK raises one for each map of a
        # stream that is not selected, because it looks for the keys among the selected columns.
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
                    maps[0] = _RemoveAll(
                        stream_alias=first.stream_alias,
                        raw_schema=first.raw_schema,
                        key_properties=None,
                        flattening_options=first.flattening_options,
                    )
            for name, stream in self.streams.items():
                maps = self.mapper.stream_maps.get(name, [])
                if maps and all(isinstance(each, RemoveRecordTransform) for each in maps):
                    self.maps_remove_streams |= stream.selected
                    stream.selected = False  # keeps its state, and its child streams are read
        except (StreamMapConfigError, MapExpressionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            msg = f"setting `stream_maps`: {reason}: {_CORRECT}"
            raise ConfigurationError(msg) from None
        except ValueError as error:
            if not str(error).startswith("Duplicate column name"):
                raise
            column = str(error).rpartition(" ")[2]
            msg = (
                f"setting `flattening_max_key_length` gives two columns the name `{column}`:"
                " raise it, or remove it"
            )
            raise ConfigurationError(msg) from None

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        # Messages of the SDK quote the wrong value, which may be a token.
        self.append_builtin_config(self.config_jsonschema)
        self.check_settings(self._config, raise_errors=raise_errors)
        return []

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        # The SDK writes a STATE in the handler, maybe in the middle of a line, and exits with 0.
        self.handle_signal(signum, frame)

    @classmethod
    @abc.abstractmethod
    def settings_from_environment(cls) -> dict[str, Any]:
        """Return the settings of the environment variables ``TAP_PANCAKE_…``."""

    @classmethod
    def environment_setting(cls, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return one setting from the environment as the SDK does, with the file ``.env``.

        Raises:
            ValueError: the text of an object or array is not JSON.
        """
        prefix: str = cls._env_var_prefix
        if "items" in schema:  # of strings, the SDK splits an array that is not JSON at commas
            schema = schema | {"items": {"type": "integer"}}
        return parse_environment_config({"properties": {name: schema}}, prefix)

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        # The SDK leaves numbers as text, and its error for invalid JSON does not name the variable.
        return cls.settings_from_environment()
