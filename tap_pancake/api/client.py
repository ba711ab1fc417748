"""PancakeStream: URL, auth, envelope, retries, rows; nothing about one endpoint.

A record's way: a stream's pager says what to ask for, `PancakeStream.fetch` asks (paced by
`limits.py`, sent by `transport.py`, judged by `errors.py`, tried again by backoff), the pager says
which rows are certain, `rows/` shapes them, and the SDK writes them. Asking may be ahead of all
the rest, in another thread: `lanes.py` says what may run where.
"""

from __future__ import annotations

import logging
import math
import re
import time
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Self, cast
from urllib.parse import quote

import backoff
from singer_sdk import SchemaDirectory, StreamSchema, metrics
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import CatalogEntry, Schema
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from typing_extensions import override

from tap_pancake import schemas
from tap_pancake.api.errors import (
    PageFailed,
    PageTokenRenewed,
    TransientError,
    UnknownRefusal,
    check,
)
from tap_pancake.api.redaction import shows
from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.reading.state import INSTANT, Bookmark, Form
from tap_pancake.rows import times
from tap_pancake.rows.kept import whole
from tap_pancake.rows.shaping import OTHERS, RowShaper
from tap_pancake.running.progress import counted
from tap_pancake.sdk import SDKStream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    import requests
    from backoff.types import Details
    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record, RequestFunc
    from singer_sdk.pagination import BaseAPIPaginator
    from singer_sdk.singerlib import Catalog

    from tap_pancake.api.limits import Departure
    from tap_pancake.rows.kept import Glance
    from tap_pancake.running.run import Run

    Row = dict[str, Any]
    Body = dict[str, Any]

USER_API = "/api/v1"
PAGE_API_V1 = "/api/public_api/v1"
PAGE_API_V2 = "/api/public_api/v2"

# Seconds between two tries: twice as much each time.
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
# Seconds after the first fault in which another try may begin, unless there was but one.
_LONGEST_CALL = 60.0
# Seconds without an answer but 429 after which that is said.
_LONG_REFUSED = 60.0
# How often a call is made whose refusal nobody knows (reference, section 2.2).
_UNKNOWN_TRIES = 3
# Parameters that hold the times asked for.
_TIMES = ("since", "until", "date_range")
# A refusal may come with each of these.
_EXPLAINED = {HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
# Characters of the API's own message that an error quotes.
_LONGEST_QUOTE = 200
# What an error shows of the names in an answer.
_MOST_NAMES, _LONGEST_NAME = 12, 40
_LONG_NUMBER = re.compile(r"\d{6,}")


def is_id(value: object) -> bool:
    """Tell whether rows can be told apart by a value; 0 is an id of tags."""
    return value != "" and isinstance(value, (str, int, float)) and not isinstance(value, bool)


def page_of(context: Context | None) -> str | None:
    """Return the page of a context; None for all pages together."""
    return context["page_id"] if context else None


def names_in(body: Mapping[str, Any]) -> str:
    """Show the names of an answer's keys, and never a value."""
    # A name may be a number of somebody's.
    names = [_LONG_NUMBER.sub("…", name)[:_LONGEST_NAME] for name in sorted(body)]
    return ", ".join(names[:_MOST_NAMES] + ["…"] * (len(names) > _MOST_NAMES)) or "nothing"


def _is_limited(fault: Exception) -> bool:
    return isinstance(fault, TransientError) and fault.limited


class Reply(NamedTuple):
    """A good answer."""

    body: Body
    asked: int
    """When it was asked for, by the server's clock: microseconds since 1970."""
    is_timed: bool
    """Whether the server told the time; if not, it is the machine's."""


class Rows(list["Row"]):
    """The rows of an answer that have an id."""

    def __init__(self, rows: Iterable[Row], answered: int) -> None:
        """Keep how many there were.

        Args:
            rows: those that have one.
            answered: how many rows the answer holds, those left out included.
        """
        super().__init__(rows)
        self.answered = answered


class _RunCounter(metrics.Counter):
    """Counts over all contexts of a stream: one line at the end, not one for each context."""

    @override
    def with_context(self, value: Context | None) -> None:
        pass

    @override
    def exit(self) -> None:
        pass

    def close(self) -> None:
        """Log what is counted, for those who ask for details; the tap tells it in its summary."""
        if self.logger.isEnabledFor(logging.DEBUG):
            super().exit()


class _RunTimer(metrics.Timer):
    """Times all contexts of a stream together."""

    _under_way = 0
    _sum = 0.0

    @property
    def seconds(self) -> float:
        """Return the time of all contexts, those under way included."""
        return self._sum + self._under_way * time.monotonic()

    @override
    def __enter__(self) -> Self:
        self._under_way += 1
        self._sum -= time.monotonic()
        return self

    @override
    def with_context(self, value: Context | None) -> None:
        pass

    @override
    def __exit__(self, *error: object) -> None:
        self._under_way -= 1
        self._sum += time.monotonic()
        if any(error):
            self.tags[metrics.Tag.STATUS] = metrics.Status.FAILED

    def close(self) -> None:
        """Log the time since the stream was made, for those who ask for details."""
        if self.logger.isEnabledFor(logging.DEBUG):
            super().__exit__(None, None, None)


class PancakeStream(SDKStream):
    """One read endpoint of Pancake."""

    schema: ClassVar[StreamSchema] = StreamSchema(SchemaDirectory(schemas))
    # Rows are shaped to the schema once, by `rows/shaping.py`.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    state_partitioning_keys: tuple[str, ...] | None = ("page_id",)

    records_key: str
    """The key of an answer that holds its rows."""
    row_id = "id"
    """The field of a row that tells it from others of its page; every row has it."""
    api: str = PAGE_API_V1
    """Which of Pancake's APIs the path belongs to."""
    glance: ClassVar[Glance | None] = None
    """Reads answers whose rows are read when they are written; None reads them at once."""
    read_with: ClassVar[tuple[str, ...]] = ()
    """The streams without whose answers it has no rows."""
    fails_when_idle = True
    """Whether an answer 500, again and again, may just mean a page without traffic."""
    keeps_state = False
    """Whether the state keeps something of it, though it is a full table."""
    right: ClassVar[str | None] = None
    """What the owner of the token must be allowed to do in Pancake, beside seeing the page."""
    brings: ClassVar[str]
    """What one call brings, for the table of streams in the README."""

    def __init__(self, tap: Tap, run: Run) -> None:
        """Belong to a tap, and share a run with its other streams."""
        super().__init__(tap)
        self.run = run
        run.streams[self.name] = self
        tags = {metrics.Tag.STREAM: self.name}
        self._counter = _RunCounter(metrics.Metric.RECORD_COUNT, tags, log_interval=math.inf)
        self._timer = _RunTimer(metrics.Metric.SYNC_DURATION, {metrics.Tag.STREAM: self.name})

    @cached_property
    def shaper(self) -> RowShaper:
        """Shapes rows to the schema; made when catalog and settings are known."""
        return RowShaper(self.schema, self._is_closed, self.run.protection, is_whole=self._is_whole)

    def _is_closed(self, path: tuple[str, ...]) -> bool:
        """Tell whether the object at a path keeps only what is declared.

        If it is selected in part, what is not declared was not selected. If flattening makes
        columns of it, SCHEMA must name them; a list becomes one column with all that is in it.
        """
        if self.config.get("flattening_enabled"):
            depth = self.config.get("flattening_max_depth") or 0
            if len(path) <= depth and not any(name.endswith("[]") for name in path):
                return True
        return not self._is_whole(path)

    def _is_whole(self, path: tuple[str, ...]) -> bool:
        """Tell whether the value at a path is selected with all its parts."""
        place = tuple(part for name in path for part in ("properties", name))
        return all(
            is_selected
            for breadcrumb, is_selected in self.mask.items()
            if breadcrumb[: len(place)] == place
        )

    # The request

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"]).rstrip("/") + self.api

    @override
    def get_url(self, context: Context | None) -> str:
        # The SDK fills settings into a path too, and encodes slashes only; ids of Pancake hold `:`
        # and `@`, and may hold anything.
        path = self.path
        for name, value in (context or {}).items():
            if str(value) in {".", ".."} and f"{{{name}}}" in path:
                # No encoding keeps it a part of the path: the address would be another one.
                msg = f"{self.place(context)}: no request can hold the id `{value}`: report this"
                raise PageFailed(msg)
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        return self.url_base + path

    @override
    def get_new_paginator(self) -> BaseAPIPaginator[Any] | None:
        # The SDK's paginators see neither rows nor context: each stream has its own way.
        return None

    def fetch(self, context: Context | None, window: object, *, persist: bool = True) -> Body:
        """Ask for one answer, until there is a good one; see `fetch_at`."""
        return self.fetch_at(context, window, persist=persist).body

    def fetch_at(self, context: Context | None, window: object, *, persist: bool = True) -> Reply:
        """Ask for one answer, until there is a good one; with the baton or without.

        Args:
            context: of the page, or of its conversation; None for the user API.
            window: what is asked for; `get_url_params` puts it into words.
            persist: whether a fault that may pass is waited out.

        Returns:
            The body, and when it was asked for.

        Raises:
            PancakeError: the API refused, or its fault did not pass; with page and stream.
        """
        url = self.get_url(context)
        params: Any = self.get_url_params(context, window)
        with self.run.lanes.waiting(), self.run.progress.waiting(self.place(context)):
            try:
                return self._paced(url, params, context)
            except (TransientError, UnknownRefusal) as fault:
                if not persist:
                    raise
                first = [fault]
            return self._persist(first, url, params, context)

    @cached_property
    def _persist(self) -> Callable[..., Reply]:
        """Ask again and again after a first fault; what leads to that costs as much as a call."""

        def again(before: list[PageFailed], *what: Any) -> Reply:
            if before:
                raise before.pop()
            return self._paced(*what)

        # The SDK's types know this hook for its own kind of request only.
        return cast("Callable[..., Reply]", self.request_decorator(cast("Any", again)))

    def explains(self, body: Body) -> bool:  # noqa: ARG002
        """Tell whether the stream makes sense itself of what the API calls a failure."""
        return False

    def is_read_of(self, page_id: str) -> bool:  # noqa: ARG002
        """Tell whether the settings ask for the stream of a page."""
        return True

    def place(self, context: Context | None) -> str:
        """Say where the tap is, for messages: page, conversation and stream."""
        if not context:
            return self.name
        conversation_id = context.get("conversation_id")
        conversation = f"conversation {conversation_id}, " if conversation_id else ""
        return f"page {context['page_id']}, {conversation}{self.name}"

    def _paced(self, url: str, params: Mapping[str, Any], context: Context | None) -> Reply:
        """Ask until the answer is no 429; the page's limiter says when.

        Raises:
            TransientError: all that was asked of the page was refused, for `Run.patience` seconds.
        """
        limiter = self.run.limits.of(page_of(context))
        while True:
            try:
                return self._try(url, params, context)
            except TransientError as fault:
                if not fault.limited:
                    raise
                _, _, reason = str(fault).partition(": ")
            seconds, pace = limiter.refused_for, limiter.pace
            if seconds >= self.run.patience:
                break
            if seconds >= _LONG_REFUSED and self.run.is_new(f"refusals of {page_of(context)}"):
                self.logger.info(
                    "%s: every call got HTTP 429 for %s: other programs may use up the rate limit;"
                    " the tap gives up after %s",
                    self.place(context),
                    times.in_words(seconds),
                    times.in_words(self.run.patience),
                )
        msg = (
            f"{self.place(context)}: every call got HTTP 429 for {times.in_words(seconds)}, even at"
            f" one call in {1 / pace:.0f} seconds: {reason}"
        )
        raise TransientError(msg, status=HTTPStatus.TOO_MANY_REQUESTS, whole_page=True)

    def _try(self, url: str, params: Mapping[str, Any], context: Context | None) -> Reply:
        """Ask once; once more at once if the page token had been replaced by one that is listed."""
        page_id = page_of(context)
        token = self.run.tokens.of(page_id) if page_id else str(self.config["access_token"])
        try:
            return self.ask(url, params, context, token)
        except PageTokenRenewed:
            if page_id is None or not self.run.tokens.newer(page_id, token):
                raise
            newer = self.run.tokens.of(page_id)
        return self.ask(url, params, context, newer)

    def ask(
        self, url: str, params: Mapping[str, Any], context: Context | None, token: str
    ) -> Reply:
        """Ask once.

        Raises:
            PancakeError: whatever the table of errors says about the answer.
        """
        page_id = page_of(context)
        where = self.place(context)
        limiter = self.run.limits.of(page_id)
        left: list[Departure] = []

        def wait(connect: Callable[[], None]) -> None:
            left.append(limiter.wait(connect=connect))
            self.run.account.called(self.name, page_id)  # when it leaves, so that the rate is true

        answer = self.run.transport.get(
            url,
            {name: value for name, value in params.items() if value is not None},
            {"page_access_token" if page_id else "access_token": token},
            where=where,
            wait=wait,
        )
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            limiter.refused(left[-1], answer.retry_after or 0.0)
            self.run.account.retried(self.name, page_id, limited=True)
            self.run.progress.refused()
        else:
            limiter.accepted(left[-1])
        self.run.compare_clocks(answer.ahead)
        body = answer.body(self.glance)
        reply = Reply(body or {}, int(answer.asked * 1_000_000), answer.ahead is not None)
        if body and answer.status in _EXPLAINED and self.explains(body):
            return reply
        check(
            answer.status,
            body,
            where=where,
            user_api=page_id is None,
            right=self.right,
            said=self._said(body, token),
            span=", ".join(f"{name} {params[name]}" for name in _TIMES if params.get(name)),
            request_id=answer.request_id,
            retry_after=answer.retry_after,
        )
        self.run.lanes.backlog.see(self.name, len(answer.content))
        self.run.answered.add(page_id)
        return reply

    def _said(self, body: Body | None, token: str) -> str | None:
        """Return the reason that the API gives, if it is one line without an address or token."""
        message = body.get("message") if body else None
        if not isinstance(message, str) or self.run.redactor.clean(message) != message:
            return None
        if shows(message, token) or "://" in message:
            return None
        if self.run.protection is not None:
            message = self.run.protection.clean(message)
        return " ".join(message.split())[:_LONGEST_QUOTE]

    @override
    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        unknown = self._repeat(UnknownRefusal, lambda: min(_UNKNOWN_TRIES, self.run.tries))
        transient = self._repeat(TransientError, self.backoff_max_tries)
        return transient(unknown(func))

    def _repeat(
        self, error: type[PageFailed], tries: Callable[[], int]
    ) -> Callable[[RequestFunc], RequestFunc]:
        return backoff.on_exception(
            self.backoff_wait_generator,
            error,
            max_tries=tries,
            on_backoff=partial(self._note_retry, tries),
            jitter=self.backoff_jitter,
            giveup=_is_limited,  # see `_paced`
            logger=None,
        )

    @override
    def backoff_max_tries(self) -> int:
        return self.run.tries

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        # Not `max_time` of backoff, after which a call that took longer would not be tried twice.
        fault = yield 0.0
        began = time.monotonic()  # not before, since a slow page's call may have waited for long
        wait = _FIRST_WAIT
        while wait == _FIRST_WAIT or time.monotonic() - began < _LONGEST_CALL:
            asked = fault.retry_after if isinstance(fault, TransientError) else None
            fault = yield max(asked or 0.0, wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _note_retry(self, tries: Callable[[], int], details: Details) -> None:
        number = f"{details['tries'] + 1} of {tries()}"
        context: Context | None = details["args"][-1]  # of `again`, in `_persist`
        self.run.progress.retried(number)
        self.run.account.retried(self.name, page_of(context))
        self.logger.info(
            "Try %s in %.1f seconds: %s",
            number,
            details.get("wait", 0.0),
            details.get("exception"),
        )

    # The rows

    def rows_of(self, body: Body, context: Context | None) -> Rows:
        """Find the rows in an answer; one without an id is left out, and counted.

        Returns:
            The others, as `Rows`, which tell how many the answer holds.

        Raises:
            PageFailed: it has none of the expected shape; the text shows keys, never values.
        """
        rows = body.get(self.records_key)
        if not isinstance(rows, list):
            self.reject(f"has no list `{self.records_key}` (it has: {names_in(body)})", context)
        found = Rows(
            (row for row in rows if isinstance(row, dict) and is_id(row.get(self.row_id))),
            len(rows),
        )
        if rows and not found:
            self.reject(f"has rows without `{self.row_id}`", context)
        for _ in range(found.answered - len(found)):
            self.run.row_left_out(f"without `{self.row_id}`", self.name, page_of(context))
        return found

    def reject(self, what: str, context: Context | None) -> NoReturn:
        """Raise the error for an answer of no known shape.

        Args:
            what: what is wrong with it; names of keys, never values.
            context: of what was asked for.

        Raises:
            PageFailed: always.
        """
        where = self.place(context)
        msg = f"{where}: the answer {what}: the API may have changed, please report this"
        raise PageFailed(msg) from None

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        # A stream whose rows come in one answer needs no more than this.
        yield from self.records_from(self.rows_of(self.fetch(context, None), context), context)

    def recent(self, context: Context | None) -> Any:  # noqa: ARG002
        """Say what to ask for to see what is new; a stream whose rows come in one answer, nothing.

        Returns:
            What `get_url_params` puts into words.
        """
        return None

    def probe(self, context: Context | None) -> list[Row] | None:
        """Ask once for what is new, to see whether the stream can be read.

        Returns:
            Rows of the API; None if the settings let nothing be asked for.

        Raises:
            PancakeError: it cannot be read; with page and stream.
        """
        rows = self.rows_of(self.fetch(context, self.recent(context)), context)
        return list(map(whole, rows))

    def records_from(self, rows: Iterable[Row], context: Context | None) -> list[Record]:
        """Return the rows of an answer as records, without those that cannot be written.

        Raises:
            PageFailed: none of them can be written, so that it is an answer of no known shape.
        """
        shaped = [self._shape(row, context) for row in rows]
        records = [record for record in shaped if not isinstance(record, str)]
        problems = [problem for problem in shaped if isinstance(problem, str)]
        if problems and not records:
            self.reject(f"has rows {problems[0]}", context)
        for problem in problems:
            self.run.row_left_out(problem, self.name, page_of(context))
        return records

    def shape(self, row: Row, context: Context | None) -> Record | None:
        """Return a row of the API as the record to write, with the ids of what was asked for.

        Returns:
            None, and the row is counted as left out, if there is no key to write it under, or more
            in it than can be written.
        """
        record = self._shape(row, context)
        if isinstance(record, str):
            self.run.row_left_out(record, self.name, page_of(context))
            return None
        return record

    def _shape(self, row: Row, context: Context | None) -> Record | str:
        """Return a row as the record to write, or what is wrong with it."""
        try:
            record = self.shaper.shape(row, context["page_id"] if context else row.get("id"))
        except RecursionError:
            return "that are nested too deeply"
        if context:
            record.update((name, context[name]) for name in self._asked_for if name in context)
        # Those of the class: a catalog may have others.
        keys: tuple[str, ...] = type(self).primary_keys  # type: ignore[assignment]
        if None in map(record.get, keys):
            return f"without a valid {' or '.join(keys)}"
        return record

    @cached_property
    def _asked_for(self) -> list[str]:
        """The ids of what rows were asked for that they have a column for."""
        return [
            name for name in ("page_id", "conversation_id") if name in self.schema["properties"]
        ]

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        # Abstract in the SDK, whose own loop is not used: `fetch` gives bodies, not responses.
        return self.rows_of(response.json(), None)

    # The rest of what the SDK does with a stream

    @property
    def seconds(self) -> float:
        """How long it was read in all, of all pages and conversations together."""
        return self._timer.seconds

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        super().apply_catalog(catalog)
        if (given := catalog.get_stream(self.name)) is not None:
            listed = given.schema.properties or {}
            self.absent = frozenset(self.schema["properties"].keys() - listed.keys())
        else:
            # It is not selected, but its children may be, and the SDK looks for its entry then.
            entry = CatalogEntry(self.name, self.metadata, Schema.from_dict(self.schema), self.name)
            entry.key_properties = self.primary_keys
            catalog.add_stream(entry)
        # The SDK prefers the entry's own `replication_method`, which discovery always fills in; a
        # user can change the metadata only.
        forced = self.metadata.root.forced_replication_method
        if forced:
            self.forced_replication_method = forced

    @property
    def is_wanted(self) -> bool:
        """Whether this stream has something to read of a page."""
        return bool(self.selected or self.has_selected_descendents)

    def bookmark(
        self,
        context: Context | None,
        *,
        form: Form = INSTANT,
        start: int = BEGINNING,
        end: int | None = None,
    ) -> Bookmark | None:
        """Return what the state keeps of a page; None if the stream is not selected.

        Args:
            context: of the page; None for all pages together.
            form: how the times of the stream's state are written.
            start: nothing older is read by this run, in microseconds since 1970.
            end: nothing newer is; None is no end.
        """
        if not self.selected:
            return None
        return Bookmark(
            self.get_context_state(context),
            self.replication_key or "",
            incremental=self.keeps_state or self.replication_method == REPLICATION_INCREMENTAL,
            form=form,
            start=start,
            end=end,
        )

    @override
    def written(self, page_id: str | None, count: int) -> None:
        self.run.account.of(self.name, page_id if self.parent_stream_type else None).rows += count

    @override
    def write_state(self) -> None:
        # Of a root stream the SDK asks this at the end: all below it is done.
        if self.parent_stream_type is None:
            self.run.state_clock.write()
        else:
            self.run.state_clock.tick()

    @override
    def log(self, message: str, *args: Any, level: int = logging.INFO, **kwargs: Any) -> None:
        # What the SDK says at each context would be a line for each conversation; and an error is
        # logged where it is handled. The tap's own lines go to `logger`.
        level = logging.DEBUG if level in {logging.INFO, logging.ERROR} else level
        super().log(message, *args, level=level, **kwargs)

    @override
    def get_record_counter(
        self, *, endpoint: str | None = None, log_interval: float = metrics.DEFAULT_LOG_INTERVAL
    ) -> metrics.Counter:
        return self._counter

    @override
    def get_sync_timer(self) -> metrics.Timer:
        return self._timer

    @override
    def log_sync_costs(self) -> None:
        # Called once for each stream at the end: the place for what is said once for each stream.
        if self.selected:
            self._tell_findings()
        self._counter.close()
        self._timer.close()

    def _tell_findings(self) -> None:
        """Say what the rows had that the schema does not say."""
        findings, kept = self.shaper.findings, "are in `other_fields`"
        if OTHERS in self.absent:
            kept = "were left out, since the catalog lacks `other_fields`"
        for fields, what in (
            (findings.unknown, f"fields that the schema does not have {kept}"),
            (findings.left_out, "fields that the schema does not have were left out of objects"),
            (findings.mistyped, "values that do not fit their column became null in"),
        ):
            if fields:
                named = ", ".join(
                    f"{name[:_LONGEST_NAME]} ({counted(count, 'row')})"
                    for name, count in fields.items()
                )
                self.logger.warning("%s: %s: %s", self.name, what, named)
