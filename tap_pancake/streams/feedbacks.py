"""Feedback of customers about the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import page_of
from tap_pancake.reading.buckets import Unit
from tap_pancake.reading.statistics import StatisticsStream, rows_in, shape_of
from tap_pancake.rows import times
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row
    from tap_pancake.reading.buckets import BucketWalk, Span
    from tap_pancake.reading.statistics import Bucket

_LONGEST = 29
"""Maximum number of days per request: Pancake refuses 2,592,000 seconds (30 days) or more."""


class CustomerFeedbacksStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/customer_feedbacks`: ratings of the staff by customers.

    An answer also has the number of feedbacks of each member of staff. This shows whether the
    answer is complete. Source: reference, section 24.
    """

    name = "customer_feedbacks"
    path = "/pages/{page_id}/statistics/customer_feedbacks"
    records_key = "customer_feedback"
    unit = Unit.MOMENT
    per_request = f"`statistics_window_days` days, at most {_LONGEST}"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "inserted_at"

    @property
    @override
    def days_a_call(self) -> int:
        return min(super().days_a_call, _LONGEST)

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        # One second more at both ends, because they may be exclusive.
        span: Span = next_page_token
        return {"since": span.since - 1, "until": span.until + 1}

    @override
    def records_of(
        self, body: Body, span: Span, walk: BucketWalk, context: Context | None
    ) -> list[Record]:
        # Also rows outside of the span. A request is for points in time. If the page's time zone is
        # a guess, an answer has rows of other days, which no other answer has.
        found = self.found(body, span, context)
        return self.records_from(
            (row for at, row in found if at is None or walk.bounds.hold(at)), context
        )

    @override
    def found(self, body: Body, span: Span, context: Context | None) -> list[Bucket]:
        """Return the rows in an answer; if it is incomplete, request shorter spans, down to a day.

        Raises:
            PageFailed: the answer has an unknown shape, or a shorter span cannot be read.
        """
        lacks = self._missing(body, context) > 0
        if lacks and not body[self.records_key]:
            # A limit does not make an answer empty. It may come from an old copy of the data.
            body = self.fetch(context, span)
            lacks = self._missing(body, context) > 0
        if lacks and body[self.records_key] and span.halves:
            return [
                row
                for half in span.halves
                for row in self.found(self.fetch(context, half), half, context)
            ]
        if lacks:
            text = (
                f"{self.place(context)}: an answer holds fewer feedbacks than it counts, also for"
                " a single day: what came is written, compare it with Pancake"
            )
            self.run.lacking(text, self.name, page_of(context))
        return super().found(body, span, context)

    def _missing(self, body: Body, context: Context | None) -> int:
        """Return the number of feedbacks that an answer counts but does not contain.

        Raises:
            PageFailed: the answer has an unknown shape.
        """
        try:
            staff = rows_in(body["customer_average_feedback"])
            counted = sum(int(row["feedback_count"] or 0) for row in staff)
            return counted - len(body[self.records_key])
        except (ArithmeticError, LookupError, TypeError, ValueError):
            self.reject(f"has no known shape: {shape_of(body)}", context)

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        for row in self.rows_of(body, context):
            yield _timed(row, span)


def _timed(row: Row, span: Span) -> Bucket:
    """Return the time of a row, and the row with its time in UTC.

    Without a valid time, return None and the row unchanged.
    """
    try:
        at = span.hour_of(row["inserted_at"])
        return at, {**row, "inserted_at": times.text(at)}
    except (LookupError, OverflowError, TypeError, ValueError):
        return None, row
