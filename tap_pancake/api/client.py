"""PancakeStream, the base of all streams: URL, token, envelope, retries and rows.

How a record gets from the API to the output: a stream's pager chooses the next request, and
`PancakeStream.fetch` makes it (`limits.py` paces it, `transport.py` sends it, `errors.py` checks
the answer, backoff retries it). The pager then decides which rows are certain, `rows/` shapes them,
and the SDK writes them. Requests may run ahead, in another thread: see `lanes.py`.
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
    raise_for_answer,
)
from tap_pancake.api.redaction import shows
from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.reading.state import INSTANT, Bookmark, Form
from tap_pancake.rows import times
from tap_pancake.rows.kept import full_row
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
    from tap_pancake.rows.kept import PartialDecoder
    from tap_pancake.running.run import Run

    Row = dict[str, Any]
    Body = dict[str, Any]

USER_API = "/api/v1"
PAGE_API_V1 = "/api/public_api/v1"
PAGE_API_V2 = "/api/public_api/v2"

# Seconds before the first retry, twice as many before each further one, and the maximum.
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
# Seconds after the first fault in which a retry may begin; the first retry is always made.
_LONGEST_CALL = 60.0
# Seconds of answers 429 only, after which that is logged.
_LOG_429_AFTER = 60.0
# Maximum attempts of a call that is refused with an undocumented code (reference, section 2.2).
_UNKNOWN_TRIES = 3
# Request parameters that hold times.
_TIME_PARAMS = ("since", "until", "date_range")
# HTTP statuses with which the API sends a refusal that it explains.
_REFUSAL_STATUSES = {
    HTTPStatus.OK,
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
}
# Maximum characters of the API's own message that an error quotes.
_LONGEST_QUOTE = 200
# Maximum names of an answer that an error shows, and maximum characters of each.
_MOST_NAMES, _LONGEST_NAME = 12, 40
_LONG_NUMBER = re.compile(r"\d{6,}")


def is_id(value: object) -> bool:
    """Return whether a value can be the id of a row; a tag may have the id 0."""
    return value != "" and isinstance(value, (str, int, float)) and not isinstance(value, bool)


def page_of(context: Context | None) -> str | None:
    """Return the page id of a context; None for all pages together."""
    return context["page_id"] if context else None


def key_names(body: Mapping[str, Any]) -> str:
    """Return the names of an answer's keys for a message, never a value."""
    # A name may have an id or a phone number in it.
    names = [_LONG_NUMBER.sub("…", name)[:_LONGEST_NAME] for name in sorted(body)]
    return ", ".join(names[:_MOST_NAMES] + ["…"] * (len(names) > _MOST_NAMES)) or "nothing"


def _is_limited(fault: Exception) -> bool:
    return isinstance(fault, TransientError) and fault.limited


class Reply(NamedTuple):
    """A response without an error."""

    body: Body
    asked: int
    """Time of the request by the server's clock, in microseconds since 1970."""
    is_timed: bool
    """Whether the response had the server's time; if not, `asked` is this machine's time."""


class Rows(list["Row"]):
    """The rows of an answer, without those that have no id."""

    def __init__(self, rows: Iterable[Row], answer_size: int) -> None:
        """Keep the rows and the size of the answer.

        Args:
            rows: the rows with an id.
            answer_size: number of rows in the answer, including those without an id.
        """
        super().__init__(rows)
        self.answer_size = answer_size


class _RunCounter(metrics.Counter):
    """Counter over all contexts of a stream, logged once at its end."""

    @override
    def with_context(self, value: Context | None) -> None:
        pass

    @override
    def exit(self) -> None:
        pass

    def close(self) -> None:
        """Log the count at level DEBUG; the tap's summary has it, too."""
        if self.logger.isEnabledFor(logging.DEBUG):
            super().exit()


class _RunTimer(metrics.Timer):
    """Timer over all contexts of a stream."""

    _running = 0
    _sum = 0.0

    @property
    def seconds(self) -> float:
        """Seconds spent in all contexts, including those that are not finished."""
        return self._sum + self._running * time.monotonic()

    @override
    def __enter__(self) -> Self:
        self._running += 1
        self._sum -= time.monotonic()
        return self

    @override
    def with_context(self, value: Context | None) -> None:
        pass

    @override
    def __exit__(self, *error: object) -> None:
        self._running -= 1
        self._sum += time.monotonic()
        if any(error):
            self.tags[metrics.Tag.STATUS] = metrics.Status.FAILED

    def close(self) -> None:
        """Log the time at level DEBUG."""
        if self.logger.isEnabledFor(logging.DEBUG):
            super().__exit__(None, None, None)


class PancakeStream(SDKStream):
    """A stream of one read endpoint of Pancake."""

    schema: ClassVar[StreamSchema] = StreamSchema(SchemaDirectory(schemas))
    # `rows/shaping.py` has made each value fit the schema.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    state_partitioning_keys: tuple[str, ...] | None = ("page_id",)

    records_key: str
    """Key of the list of rows in an answer."""
    row_id = "id"
    """Field that identifies a row within its page; every row has it."""
    api: str = PAGE_API_V1
    """Path of the API that has the endpoint."""
    row_decoder: ClassVar[PartialDecoder | None] = None
    """Decoder that leaves rows as JSON until they are written; None decodes all at once."""
    read_with: ClassVar[tuple[str, ...]] = ()
    """Streams that must be read for this one to have rows."""
    fails_when_idle = True
    """Whether repeated answers 500 may only mean a page without traffic."""
    keeps_state = False
    """Whether the state keeps something of the stream, even as a full table."""
    required_permission: ClassVar[str | None] = None
    """Permission that the token's owner needs in Pancake, besides access to the page."""
    per_request: ClassVar[str]
    """What one call returns, for the table of streams in the README."""

    def __init__(self, tap: Tap, run: Run) -> None:
        """Create the stream of a tap, and share a run with the tap's other streams."""
        super().__init__(tap)
        self.run = run
        run.streams[self.name] = self
        tags = {metrics.Tag.STREAM: self.name}
        self._counter = _RunCounter(metrics.Metric.RECORD_COUNT, tags, log_interval=math.inf)
        self._timer = _RunTimer(metrics.Metric.SYNC_DURATION, {metrics.Tag.STREAM: self.name})

    @cached_property
    def shaper(self) -> RowShaper:
        """Makes rows fit the schema; created after catalog and settings are loaded."""
        return RowShaper(self.schema, self._is_closed, self.run.protection, is_whole=self._is_whole)

    def _is_closed(self, path: tuple[str, ...]) -> bool:
        """Return whether the object at a path keeps declared fields only.

        It does if only some of its fields are selected, or if flattening makes columns of it, as
        SCHEMA must name each column. (Flattening makes one column of a whole list.)
        """
        if self.config.get("flattening_enabled"):
            depth = self.config.get("flattening_max_depth") or 0
            if len(path) <= depth and not any(name.endswith("[]") for name in path):
                return True
        return not self._is_whole(path)

    def _is_whole(self, path: tuple[str, ...]) -> bool:
        """Return whether the value at a path is selected with all its parts."""
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
        # The SDK inserts settings into a path too, and encodes slashes only; ids of Pancake contain
        # `:` and `@`, and may contain anything.
        path = self.path
        for name, value in (context or {}).items():
            if str(value) in {".", ".."} and f"{{{name}}}" in path:
                # No encoding helps: the URL would lead to another path.
                msg = f"{self.place(context)}: no request can hold the id `{value}`: report this"
                raise PageFailed(msg)
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        return self.url_base + path

    @override
    def get_new_paginator(self) -> BaseAPIPaginator[Any] | None:
        # The SDK's paginators get neither rows nor context: each stream pages by itself.
        return None

    def fetch(self, context: Context | None, window: object, *, retry: bool = True) -> Body:
        """Return the body of an answer, after retries; see `fetch_at`."""
        return self.fetch_at(context, window, retry=retry).body

    def fetch_at(self, context: Context | None, window: object, *, retry: bool = True) -> Reply:
        """Return an answer, after retries; callable with and without the baton of `lanes.py`.

        Args:
            context: the page, or its conversation; None for the user API.
            window: what to request; `get_url_params` makes parameters of it.
            retry: whether to retry after a transient fault.

        Returns:
            The body and the time of the request.

        Raises:
            PancakeError: the API refused, or all retries failed; names page and stream.
        """
        url = self.get_url(context)
        params: Any = self.get_url_params(context, window)
        with self.run.lanes.waiting(), self.run.progress.waiting(self.place(context)):
            try:
                return self._ask_paced(url, params, context)
            except (TransientError, UnknownRefusal) as fault:
                if not retry:
                    raise
                first = [fault]
            return self._retry(first, url, params, context)

    @cached_property
    def _retry(self) -> Callable[..., Reply]:
        """Retry a call after its first fault; cached, as the setup of backoff is slow."""

        def attempt(first_fault: list[PageFailed], *request: Any) -> Reply:
            if first_fault:
                raise first_fault.pop()
            return self._ask_paced(*request)

        # The SDK types this hook for its own requests only.
        return cast("Callable[..., Reply]", self.request_decorator(cast("Any", attempt)))

    def handles_failure(self, body: Body) -> bool:  # noqa: ARG002
        """Return whether the stream itself handles a body with `success: false`."""
        return False

    def is_read_of(self, page_id: str) -> bool:  # noqa: ARG002
        """Return whether the settings request the stream for a page."""
        return True

    def place(self, context: Context | None) -> str:
        """Return page, conversation and stream, for messages."""
        if not context:
            return self.name
        conversation_id = context.get("conversation_id")
        conversation = f"conversation {conversation_id}, " if conversation_id else ""
        return f"page {context['page_id']}, {conversation}{self.name}"

    def _ask_paced(self, url: str, params: Mapping[str, Any], context: Context | None) -> Reply:
        """Return the first answer other than 429, at the pace of the page's limiter.

        Raises:
            TransientError: every call of the page was answered 429 for `Run.patience` seconds.
        """
        limiter = self.run.limits.of(page_of(context))
        while True:
            try:
                return self._ask_with_token(url, params, context)
            except TransientError as fault:
                if not fault.limited:
                    raise
                _, _, reason = str(fault).partition(": ")
            seconds = limiter.refused_for
            if seconds >= self.run.patience:
                break
            if seconds >= _LOG_429_AFTER and self.run.is_first_time(
                f"refusals of {page_of(context)}"
            ):
                self.logger.info(
                    "%s: every call got HTTP 429 for %s: other programs may use up the rate limit;"
                    " the tap gives up after %s",
                    self.place(context),
                    times.in_words(seconds),
                    times.in_words(self.run.patience),
                )
        msg = (
            f"{self.place(context)}: every call got HTTP 429 for {times.in_words(seconds)},"
            f" though the tap slowed down: {reason}"
        )
        raise TransientError(msg, status=HTTPStatus.TOO_MANY_REQUESTS, whole_page=True)

    def _ask_with_token(
        self, url: str, params: Mapping[str, Any], context: Context | None
    ) -> Reply:
        """Send one request; send it again if list-pages has a newer page token."""
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
        """Send one request.

        Raises:
            PancakeError: the error that `errors.py` has for the answer.
        """
        page_id = page_of(context)
        where = self.place(context)
        limiter = self.run.limits.of(page_id)
        left: list[Departure] = []

        def wait(connect: Callable[[], None]) -> None:
            left.append(limiter.wait(connect=connect))
            self.run.account.called(self.name, page_id)  # when it leaves, so that the rate is right

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
        body = answer.body(self.row_decoder)
        reply = Reply(body or {}, int(answer.asked * 1_000_000), answer.ahead is not None)
        if body and answer.status in _REFUSAL_STATUSES and self.handles_failure(body):
            return reply
        raise_for_answer(
            answer.status,
            body,
            where=where,
            user_api=page_id is None,
            permission=self.required_permission,
            api_message=self._api_message(body, token),
            requested=", ".join(
                f"{name} {params[name]}" for name in _TIME_PARAMS if params.get(name)
            ),
            request_id=answer.request_id,
            retry_after=answer.retry_after,
        )
        self.run.lanes.backlog.see(self.name, len(answer.content))
        self.run.answered.add(page_id)
        return reply

    def _api_message(self, body: Body | None, token: str) -> str | None:
        """Return the API's own message as one line; None if it has a URL, a token or no text."""
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
        unknown = self._retry_on(UnknownRefusal, lambda: min(_UNKNOWN_TRIES, self.run.tries))
        transient = self._retry_on(TransientError, self.backoff_max_tries)
        return transient(unknown(func))

    def _retry_on(
        self, error: type[PageFailed], tries: Callable[[], int]
    ) -> Callable[[RequestFunc], RequestFunc]:
        return backoff.on_exception(
            self.backoff_wait_generator,
            error,
            max_tries=tries,
            on_backoff=partial(self._log_retry, tries),
            jitter=self.backoff_jitter,
            giveup=_is_limited,  # `_ask_paced` has waited long enough
            logger=None,
        )

    @override
    def backoff_max_tries(self) -> int:
        return self.run.tries

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        # Not `max_time` of backoff: a call that takes longer than that would get no retry.
        fault = yield 0.0
        began = time.monotonic()  # not earlier: the call may have waited long for its turn
        wait = _FIRST_WAIT
        while wait == _FIRST_WAIT or time.monotonic() - began < _LONGEST_CALL:
            asked = fault.retry_after if isinstance(fault, TransientError) else None
            fault = yield max(asked or 0.0, wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _log_retry(self, tries: Callable[[], int], details: Details) -> None:
        number = f"{details['tries'] + 1} of {tries()}"
        context: Context | None = details["args"][-1]  # of `attempt`, in `_retry`
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
        """Return the rows of an answer; rows without an id are left out and counted.

        Raises:
            PageFailed: the answer has an unexpected shape; the text shows keys, never values.
        """
        rows = body.get(self.records_key)
        if not isinstance(rows, list):
            self.reject(f"has no list `{self.records_key}` (it has: {key_names(body)})", context)
        found = Rows(
            (row for row in rows if isinstance(row, dict) and is_id(row.get(self.row_id))),
            len(rows),
        )
        if rows and not found:
            self.reject(f"has rows without `{self.row_id}`", context)
        for _ in range(found.answer_size - len(found)):
            self.run.row_left_out(f"without `{self.row_id}`", self.name, page_of(context))
        return found

    def reject(self, what: str, context: Context | None) -> NoReturn:
        """Raise the error for an answer of an unexpected shape.

        Args:
            what: what is wrong with it; names of keys, never values.
            context: the context of the request.

        Raises:
            PageFailed: always.
        """
        where = self.place(context)
        msg = f"{where}: the answer {what}: the API may have changed, please report this"
        raise PageFailed(msg) from None

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        # Enough for a stream whose rows come in one answer.
        yield from self.records_from(self.rows_of(self.fetch(context, None), context), context)

    def newest_window(self, context: Context | None) -> Any:  # noqa: ARG002
        """Return the window of the newest rows, for `fetch`; None if one answer has all rows."""
        return None

    def probe(self, context: Context | None) -> list[Row] | None:
        """Request the newest rows once, to check whether the stream can be read.

        Returns:
            Rows of the API; None if the settings leave nothing to request.

        Raises:
            PancakeError: the stream cannot be read; names page and stream.
        """
        rows = self.rows_of(self.fetch(context, self.newest_window(context)), context)
        return list(map(full_row, rows))

    def records_from(self, rows: Iterable[Row], context: Context | None) -> list[Record]:
        """Return the rows of an answer as records, without those that cannot be written.

        Raises:
            PageFailed: none of the rows can be written, so the answer has an unexpected shape.
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
        """Return a row of the API as the record to write, with the ids of its context.

        Returns:
            The record; None if the row has no key or is nested too deeply. It is then counted as
            left out.
        """
        record = self._shape(row, context)
        if isinstance(record, str):
            self.run.row_left_out(record, self.name, page_of(context))
            return None
        return record

    def _shape(self, row: Row, context: Context | None) -> Record | str:
        """Return a row as the record to write, or as text what is wrong with it."""
        try:
            record = self.shaper.shape(row, context["page_id"] if context else row.get("id"))
        except RecursionError:
            return "that are nested too deeply"
        if context:
            record.update((name, context[name]) for name in self._context_ids if name in context)
        # The keys of the class: a catalog may change those of the object.
        keys: tuple[str, ...] = type(self).primary_keys  # type: ignore[assignment]
        if None in map(record.get, keys):
            return f"without a valid {' or '.join(keys)}"
        return record

    @cached_property
    def _context_ids(self) -> list[str]:
        """Names of the context's ids that the stream has columns for."""
        return [
            name for name in ("page_id", "conversation_id") if name in self.schema["properties"]
        ]

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        # Abstract in the SDK, whose own loop is not used: `fetch` returns bodies, not responses.
        return self.rows_of(response.json(), None)

    # Other hooks of the SDK

    @property
    def seconds(self) -> float:
        """Seconds spent reading the stream, over all pages and conversations."""
        return self._timer.seconds

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        super().apply_catalog(catalog)
        if (given := catalog.get_stream(self.name)) is not None:
            listed = given.schema.properties or {}
            self.missing_columns = frozenset(self.schema["properties"].keys() - listed.keys())
        else:
            # The stream is not selected, but its children may be: the SDK then needs its entry.
            entry = CatalogEntry(self.name, self.metadata, Schema.from_dict(self.schema), self.name)
            entry.key_properties = self.primary_keys
            catalog.add_stream(entry)
        # The SDK prefers the entry's own `replication_method`, which discovery always fills in. A
        # user can only change the metadata.
        forced = self.metadata.root.forced_replication_method
        if forced:
            self.forced_replication_method = forced

    @property
    def is_needed(self) -> bool:
        """Whether the stream, or a stream below it, is selected."""
        return bool(self.selected or self.has_selected_descendents)

    def bookmark(
        self,
        context: Context | None,
        *,
        form: Form = INSTANT,
        start: int = BEGINNING,
        end: int | None = None,
    ) -> Bookmark | None:
        """Return the bookmark of a page; None if the stream is not selected.

        Args:
            context: the page; None for all pages together.
            form: how times are written in the stream's state.
            start: earliest time that this run reads, in microseconds since 1970.
            end: latest time that it reads, in the same unit; None for no end.
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
    def count_written(self, page_id: str | None, count: int) -> None:
        self.run.account.of(self.name, page_id if self.parent_stream_type else None).rows += count

    @override
    def write_state(self) -> None:
        # The SDK calls this for a root stream at its end: all streams below it are done.
        if self.parent_stream_type is None:
            self.run.state_clock.write()
        else:
            self.run.state_clock.tick()

    @override
    def log(self, message: str, *args: Any, level: int = logging.INFO, **kwargs: Any) -> None:
        # The SDK logs a line for each context, so for each conversation; and the tap logs an error
        # where it handles it. The tap's own lines go to `logger`.
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
        # The SDK calls this once for each stream, at its end.
        if self.selected:
            self._log_findings()
        self._counter.close()
        self._timer.close()

    def _log_findings(self) -> None:
        """Log the differences between the rows and the schema."""
        findings, kept = self.shaper.findings, "are in `other_fields`"
        if OTHERS in self.missing_columns:
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
