"""StatisticsStream: numbers by the hour or the day, asked for in whole days of the page's time."""

from __future__ import annotations

import abc
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.reading.buckets import BEGINNING, BucketWalk, Span, Unit, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row

    Bucket = tuple[datetime | None, Row]

# What an error shows of an answer.
_MOST_KEYS = 12
_LONGEST_KEY = 40


class StatisticsStream(PancakeStream):
    """One kind of statistics of a page."""

    right = "view reports"
    unit: ClassVar[Unit] = Unit.DAY
    daily: ClassVar[bool] = False
    """Whether an answer does not tell its days apart, so that each costs a call."""

    @property
    def days_a_call(self) -> int:
        """How many days one call asks for."""
        return 1 if self.daily else int(self.config["statistics_window_days"])

    @abc.abstractmethod
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        """Find the rows in an answer, each with its hour or day in the page's time.

        A row whose day cannot be told has None, and is written whatever the day.

        Raises:
            ArithmeticError, LookupError, TypeError, ValueError: the answer has no known shape.
        """

    @override
    def recent(self, context: Context | None) -> Any:
        today = Unit.DAY.floor(datetime.now(zone_of((context or {}).get("timezone"))))
        return Span(today - timedelta(days=1), today)

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        span = self.recent(context)
        return [row for _, row in self.found(self.fetch(context, span), span, context)]

    def begin_walk(self, context: Context) -> BucketWalk:
        """Decide what this run reads of a page."""
        return self.walk_of(context, zone_of(context["timezone"]), context["added"])

    def walk_of(self, context: Context | None, zone: tzinfo, added: str | None) -> BucketWalk:
        """Decide what this run reads, of pages in this time and of this age."""
        bookmark = self.bookmark(context)
        told = added or self.config.get("start_date") or (bookmark and bookmark.value)
        if not told and self.run.is_new("no beginning of statistics"):
            self.logger.warning(
                "%s: it is not known when the page was added to Pancake, so statistics are"
                " read from %d on, some a day a call: set `start_date`, which is much faster",
                self.place(context),
                BEGINNING.year,
            )
        return BucketWalk(
            self.config,
            bookmark,
            unit=self.unit,
            zone=zone,
            added=added,
            now=datetime.now(UTC),
        )

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        walk = self.begin_walk(context)
        for span, body in self.answers(walk.spans(self.days_a_call), context):
            yield from self.records_of(body, span, walk, context)
            walk.passed(span)

    def answers(self, spans: Iterator[Span], context: Context) -> Iterator[tuple[Span, Body]]:
        """Ask for several spans at a time; give the answers in the order of the spans.

        The first one is asked for alone: it shows whether the page may use the endpoint at all.
        """
        for span in islice(spans, 1):
            yield span, self.fetch(context, span)
        for span, answer in self.run.lanes.ahead(self._asked(spans, context), self.run.reach):
            yield span, next(answer)

    def _asked(
        self, spans: Iterator[Span], context: Context
    ) -> Iterator[tuple[Span, Iterator[Body]]]:
        for span in spans:
            yield span, self.run.lanes.ahead(self.fetch(context, one) for one in [span])

    def records_of(
        self, body: Body, span: Span, walk: BucketWalk, context: Context | None
    ) -> list[Record]:
        """Give the records of an answer that belong to its span and are wanted."""
        wanted = (
            row
            for at, row in self.found(body, span, context)
            if at is None or (span.holds(at) and walk.wants(at))
        )
        return self.records_from(wanted, context)

    def found(self, body: Body, span: Span, context: Context | None) -> list[Bucket]:
        """Give the rows in an answer, each with its hour or day.

        Raises:
            PageFailed: it has no known shape.
        """
        try:
            return list(self.buckets(body, span, context))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # Never an empty table instead: names of keys, and no value, show what came.
            self.reject(f"has no known shape: {shape_of(body)}", context)


def rows_in(value: object) -> list[Row]:
    """Give what must be a list of rows.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TypeError
    return value


def map_in(value: object) -> Row:
    """Give what must be a map.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, dict):
        raise TypeError
    return value


def shape_of(value: object, depth: int = 6) -> str:
    """Show the names of keys and the kinds of values in an answer, and never a value."""
    if isinstance(value, dict):
        keys = list(value)[: _MOST_KEYS if depth else 0]
        parts = [f"{str(key)[:_LONGEST_KEY]}: {shape_of(value[key], depth - 1)}" for key in keys]
        return "{" + ", ".join(parts + ["…"] * (len(keys) < len(value))) + "}"
    if isinstance(value, list):
        return "[" + (shape_of(value[0], depth - 1) if value and depth else "…" * bool(value)) + "]"
    return "null" if value is None else type(value).__name__
