"""StatisticsStream: the base class of streams with numbers by hour or day, read in whole days."""

from __future__ import annotations

import abc
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from tap_pancake.api.client import PancakeStream, page_of
from tap_pancake.api.errors import PageFailed, PageIdle, PageSkipped, PathNotFound, TransientError
from tap_pancake.reading.buckets import (
    BEGINNING,
    Bounds,
    BucketWalk,
    PageTimeZone,
    Span,
    Unit,
    local,
    zone_of,
    zone_or_none,
)
from tap_pancake.reading.state import in_the_future
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row

    Bucket = tuple[datetime | None, Row]

_MOST_DAYS = 31
"""Largest number of days of one call: a month, which is the most that other clients request."""
# Largest number and length of names of an answer in an error.
_MOST_KEYS = 12
_LONGEST_KEY = 40


class StatisticsStream(PancakeStream):
    """A stream with one kind of statistics of a page."""

    required_permission = "view reports"
    unit: ClassVar[Unit] = Unit.DAY
    daily: ClassVar[bool] = False
    """Whether an answer does not show the day of a row, so that each day costs a call."""

    is_dated: ClassVar[bool] = False
    """Whether rows have their own hour or day, and a span is requested by Unix seconds. Then one
    more day is requested at both ends: see `Span.wider`."""

    @property
    def days_a_call(self) -> int:
        """The number of days whose rows one call brings."""
        days = 1 if self.daily else int(self.config["statistics_window_days"])
        return min(days, _MOST_DAYS - 2) if self.is_dated else days

    @abc.abstractmethod
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        """Return the rows of an answer, each with its hour or day in the page's time zone.

        A row whose day is not clear has None; it is always written.

        Raises:
            ArithmeticError, LookupError, TypeError, ValueError: the answer has an unknown shape.
        """

    @override
    def newest_window(self, context: Context | None) -> Any:
        today = Unit.DAY.floor(datetime.now(zone_of((context or {}).get("timezone"))))
        return Span(today - timedelta(days=1), today)

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        span = self.newest_window(context)
        return [row for _, row in self.found(self.fetch(context, span), span, context)]

    def begin_walk(self, context: Context) -> BucketWalk | None:
        """Return the walk of this run over a page; None if the stream is not selected.

        Raises:
            PageFailed: the state is in the future.
        """
        time = self._page_time_zone(context)
        walk = self.walk_of(context, time.zone, context["added"], slack=int(time.is_guessed))
        if walk is None or not time.is_news:
            return walk
        walk.bookmark.note("zone", time.shown)
        if time.kept is None and walk.has_read:
            self.logger.info(
                "%s: the API now shows the page's time zone, so all days are read again",
                self.place(context),
            )
            walk.reopen()
            walk.bookmark.save()
        return walk

    def _page_time_zone(self, context: Context) -> PageTimeZone:
        """Return the time zone of a page from list-pages, `user_statistics` and the state."""
        shown: dict[str, str] = self.run.streams["user_statistics"].zones
        return PageTimeZone(
            listed=zone_or_none(context["timezone"]),
            shown=shown.get(context["page_id"]),
            kept=self.get_context_state(context).get("zone"),
        )

    def walk_of(
        self, context: Context | None, zone: tzinfo, added: str | None, *, slack: int = 0
    ) -> BucketWalk | None:
        """Return the walk of this run over one page or over all pages together.

        Args:
            context: the context of the page; None for all pages together.
            zone: the time zone of the page.
            added: the time when the page was added to Pancake; None if it is unknown.
            slack: number of days to begin earlier in each run, since the time zone may be wrong.

        Returns:
            The walk; None if the stream is not selected.

        Raises:
            PageFailed: the state is in the future.
        """
        unit, now = self.unit, times.instant(self.run.clock())
        bounds = Bounds.of(
            self.config, unit=unit, zone=zone, added=added, now=now, slack=timedelta(days=slack)
        )
        bookmark = self.bookmark(context, form=unit.form, start=unit.place(bounds.start))
        if bookmark is None:
            return None
        latest = times.instant(self.run.latest())
        tomorrow = unit.floor(local(latest + timedelta(days=1), zone))
        if (bookmark.coverage.top or 0) > unit.place(tomorrow):
            raise in_the_future(self.place(context), str(bookmark.top))
        walk = BucketWalk(
            bookmark,
            bounds,
            unit=unit,
            now=now,
            lookback=float(self.config["statistics_lookback_days"]),
            slack=slack,
            log_aside=lambda failure, earlier: self._log_aside(failure, context, earlier=earlier),
        )
        unknown = not added and not self.config.get("start_date")
        begins = unknown and bounds.start.date() in walk.open_days()
        if begins and self.run.is_first_time("no beginning of statistics"):
            self.logger.warning(
                "%s: the API does not show when the page was added to Pancake, so statistics are"
                " read from %d on, some with a call for each day: set `start_date`, which is much"
                " faster",
                self.place(context),
                BEGINNING.year,
            )
        return walk

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        walk = self.begin_walk(context)
        if walk is None:
            return
        spans = walk.spans(self.days_a_call)
        for span, answer in self.answers(spans, context, lambda: walk.read):
            try:
                yield from self.records_of(next(answer), span, walk, context)
            except PageFailed as failure:
                self.span_failed(failure, span, walk, context)
            else:
                walk.span_read(span)
        walk.finish()

    def answers(
        self, spans: Iterator[Span], context: Context, proven: Callable[[], bool]
    ) -> Iterator[tuple[Span, Iterator[Body]]]:
        """Request several spans at a time; yield each with an iterator of its answer, in order.

        Args:
            spans: the spans to request.
            context: the context of the page.
            proven: a function that returns whether a span could be read. Until then one span is
                requested at a time, since the page may have no permission for the endpoint.
        """
        for span in spans:
            yield span, (self.fetch(context, one) for one in [span])
            if proven():
                break
        asked, page = self._requests(spans, context), context["page_id"]
        yield from self.run.lanes.ahead(asked, self.run.items_ahead, page=page)

    def _requests(
        self, spans: Iterator[Span], context: Context
    ) -> Iterator[tuple[Span, Iterator[Body]]]:
        for span in spans:
            answer = (self.fetch(context, one) for one in [span])
            yield span, self.run.lanes.ahead(answer, page=context["page_id"])

    def span_failed(
        self,
        failure: PageFailed,
        span: Span,
        walk: BucketWalk,
        context: Context | None,
        *,
        is_logged: bool = False,
    ) -> None:
        """Set aside a span that is refused, that fails in all retries, or that has no known shape.

        Args:
            failure: the error.
            span: the days.
            walk: the walk over the days of the page.
            context: the context of the page; None for all pages together.
            is_logged: whether another stream, read with the same call, has already logged it.

        Raises:
            PageFailed: every other span would fail in the same way, or too many spans failed.
        """
        everywhere = isinstance(failure, (PageSkipped, PathNotFound)) or failure.whole_page
        if isinstance(failure, TransientError) and walk.read and not failure.limited:
            # Other spans could be read: the gateway may time out for a single day with much data.
            everywhere = False
        if everywhere or (not walk.read and isinstance(self._idle_or(failure, context), PageIdle)):
            walk.settle()
            raise failure
        walk.failed(span, failure, is_logged=is_logged)

    def _idle_or(self, failure: PageFailed, context: Context | None) -> PageFailed:
        """Return the error, or `PageIdle` if the page has no traffic: see `PagesStream.idle_or`."""
        result: PageFailed = self.run.streams["pages"].idle_or(failure, self, context)
        return result

    def _log_aside(self, failure: PageFailed, context: Context | None, *, earlier: bool) -> None:
        """Log that a span is set aside: for the first time, or by an earlier run too."""
        if earlier:
            self.run.still_aside(str(failure), self.name, page_of(context))
        elif isinstance(idle := self._idle_or(failure, context), PageIdle):
            self.run.page_skipped(idle, self.name, page_of(context))
        else:
            self.run.set_aside(failure, self.name, page_of(context))

    def records_of(
        self, body: Body, span: Span, walk: BucketWalk, context: Context | None
    ) -> list[Record]:
        """Return the records of an answer that are in its span and within the bounds of the run."""
        rows = (
            row
            for at, row in self.found(body, span, context)
            if at is None or (span.holds(at) and walk.bounds.hold(at))
        )
        return self.records_from(rows, context)

    def found(self, body: Body, span: Span, context: Context | None) -> list[Bucket]:
        """Return the rows of an answer, each with its hour or day.

        Raises:
            PageFailed: the answer has an unknown shape.
        """
        try:
            return list(self.buckets(body, span, context))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # This must not become an empty table. The error shows names of keys, never a value.
            self.reject(f"has no known shape: {shape_of(body)}", context)


def rows_in(value: object) -> list[Row]:
    """Return a value that must be a list of rows.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TypeError
    return value


def object_in(value: object) -> Row:
    """Return a value that must be an object.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, dict):
        raise TypeError
    return value


def shape_of(value: object, depth: int = 6) -> str:
    """Return the names of keys and the types of values in an answer, and never a value."""
    if isinstance(value, dict):
        keys = list(value)[: _MOST_KEYS if depth else 0]
        parts = [f"{str(key)[:_LONGEST_KEY]}: {shape_of(value[key], depth - 1)}" for key in keys]
        return "{" + ", ".join(parts + ["…"] * (len(keys) < len(value))) + "}"
    if isinstance(value, list):
        return "[" + (shape_of(value[0], depth - 1) if value and depth else "…" * bool(value)) + "]"
    return "null" if value is None else type(value).__name__
