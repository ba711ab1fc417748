"""ListStream: the base class of streams that read a list of a page from its newest row down."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.api.errors import PageFailed, TransientError
from tap_pancake.reading.coverage import BEGINNING, DAY, MINUTE, SECOND
from tap_pancake.reading.head import Head, HeadFault
from tap_pancake.reading.late import LateRows
from tap_pancake.reading.listing import Answer, Listing, LiveList, Query
from tap_pancake.reading.reader import ListReader
from tap_pancake.reading.selection import Selection, Share
from tap_pancake.reading.sizes import PageSizes, ShorterAnswers
from tap_pancake.reading.state import in_the_future
from tap_pancake.reading.sweeps import Unsettled
from tap_pancake.rows import times
from tap_pancake.rows.kept import KeptRow, full_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Reply
    from tap_pancake.reading.selection import Part

    Row = dict[str, Any]

RECENT = 28 * 86_400
"""The largest age of rows that show whether a page is in use, in seconds. The bounds of v1 may be a
month apart."""
# The largest expected difference of clocks, in seconds.
_CLOCK_DIFFERENCE = 86_400


def _bytes_of(part: Part) -> int:
    return len(part.row.json) if isinstance(part.row, KeptRow) else 0


class ListStream(PancakeStream):
    """A stream that reads a list in answers of several rows, by its replication key."""

    listing: ClassVar[Listing]
    """The facts of the list."""
    is_sorted = False

    @override
    def newest_window(self, context: Context | None) -> Query:
        now = int(time.time())
        return Query(self.listing.key, now - RECENT, now + _CLOCK_DIFFERENCE)

    @cached_property
    def sizes(self) -> PageSizes:
        """The page size to request, for each page."""
        return PageSizes(self.listing.page_size, self.listing.smallest_page_size)

    @override
    def ask(
        self, url: str, params: Mapping[str, Any], context: Context | None, token: str
    ) -> Reply:
        assert context is not None  # noqa: S101 - a child of pages always has one
        page_id = context["page_id"]
        try:
            reply = super().ask(url, params, context, token)
        except TransientError as fault:
            if fault.status == HTTPStatus.INTERNAL_SERVER_ERROR and self.sizes.failed(page_id):
                raise ShorterAnswers from None
            raise
        self.sizes.answered(page_id)
        return reply

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        while True:
            try:
                return super().probe(context)
            except ShorterAnswers:
                continue

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        while True:
            try:
                yield from self._read(context)
            except ShorterAnswers:
                # All rows so far are written, and in the state if they are proven. A new reader
                # reads what is open, since page numbers have another meaning now.
                self.logger.info(
                    "%s: HTTP 500 again and again: the page size is %d from now on",
                    self.place(context),
                    self.sizes.of(context["page_id"]),
                )
            else:
                return

    def _read(self, context: Context) -> Iterator[Record]:
        """Yield the records of the list, until the page size changes."""
        try:
            parts, page = self.parts(context), context["page_id"]
            ahead = self.run.lanes.ahead(parts, self.room, _bytes_of, page=page, stream=self.name)
            for part in ahead:
                yield from self.records(part, context)
                part.then()
        except HeadFault:
            msg = (
                f"{self.place(context)}: the newest row is older than one read before, so the"
                " answer may be an old copy, and the bookmark stays: run the tap again later (if"
                " several runs over a day or more see the same, it is accepted)"
            )
        except Unsettled as reason:
            msg = f"{self.place(context)}: the list {reason}: the next run reads what is missing"
        else:
            return
        raise PageFailed(msg)

    def records(self, part: Part, context: Context) -> Iterator[Record]:
        """Yield the record of a part, if it is one to write."""
        if part.row is not None and part.is_wanted:
            record = self.shape(full_row(part.row), context)
            if record is not None:
                yield record

    def parts(self, context: Context) -> Iterator[Part]:
        """Yield the parts of the list, row by row. This runs ahead, without the baton."""
        return self.reader(context, rows=self.share(context)).parts()

    def room(self) -> int:
        """Return the number of parts that may be read ahead."""
        return 60

    def share(self, context: Context) -> Share | None:
        """Return the share of this stream in the list; None if the stream is not selected."""
        bookmark = self.bookmark(context, start=self.start, end=self.end)
        if bookmark is None:
            return None
        first_back = int(float(self.config["lookback_days"]) * DAY)
        first_back = max(self.back, first_back)
        return Share(
            bookmark,
            place=self.place(context),
            first_back=first_back,
            back=self.back,
            end=self.end,
        )

    def reader(
        self,
        context: Context,
        *,
        rows: Share | None,
        children: Sequence[Share] = (),
        aside: Mapping[str, int] | None = None,
        named: Share | None = None,
    ) -> ListReader:
        """Return the reader of the list of a page for this run.

        Args:
            context: the context of the page.
            rows: the share of this stream; None if it is not selected.
            children: the shares of the selected child streams.
            aside: rows whose children are set aside, with the time to read each from.
            named: the share of a stream whose ids the rows have; None if there is none.
        """
        shares = [share for share in (rows, *children, named) if share is not None]

        def ask(query: Query) -> Answer:
            reply = self.fetch_at(context, query)
            for share in shares:
                if (share.plan.top or BEGINNING) > self.run.latest() + MINUTE:
                    raise in_the_future(share.place, str(share.bookmark.top))
            rows = self.rows_of(reply.body, context)
            kept: list[Row] = [
                row if isinstance(row, KeptRow) else KeptRow.of(row, names) for row in rows
            ]
            return Answer(kept, reply.asked, rows.answer_size, is_timed=reply.is_timed)

        def warn(text: str) -> None:
            self.logger.warning("%s: %s", self.place(context), text)

        listing = replace(self.listing, page_size=self.sizes.of(context["page_id"]))
        now = int(time.time() * SECOND)
        names = {listing.row_id, *listing.times, listing.stored_at_field or listing.key}
        seen = shares[0].bookmark.fact
        live = LiveList(listing, ask, now=now, sorts=seen("sorts"), filters=seen("filters"))
        selection = Selection(
            # The page alone is not enough: `ad_conversations` has the ids of `conversations`.
            f"{self.name} {context['page_id']}",
            live,
            rows=rows,
            children=children,
            memory=self.run.memory,
            aside=aside or {},
            ads=named,
        )
        late = None
        if listing.stored_at_field:
            late = LateRows(live, LiveList(listing.by_late(), ask, now=now), selection, warn)
        return ListReader(
            live,
            selection,
            Head(live, selection, self.end, warn),
            late,
            reach=int(float(self.config["message_refresh_days"]) * DAY),
            refresh=float(self.config["head_refresh_minutes"]) * 60,
            warn=warn,
        )

    # The settings, in microseconds

    @property
    def start(self) -> int:
        """The earliest time to read: `start_date`, or `BEGINNING`."""
        start = self.config.get("start_date")
        return times.micros(start) if start else BEGINNING

    @property
    def start_text(self) -> str | None:
        """`start_date` as text, normalised; None if it is not set."""
        start = self.config.get("start_date")
        return times.normalise(start) if start else None

    @property
    def end(self) -> int | None:
        """The latest time to read: `end_date`; None is no end."""
        end = self.config.get("end_date")
        return times.micros(end) if end else None

    @property
    def back(self) -> int:
        """The lookback of a reading of the head: `message_lookback_minutes`."""
        return int(float(self.config["message_lookback_minutes"]) * MINUTE)
