"""The messages of a conversation."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from typing_extensions import override

from tap_pancake.api.client import PancakeStream, Rows
from tap_pancake.api.errors import PageFailed
from tap_pancake.reading.batches import BatchSizes, MessageBatches
from tap_pancake.reading.coverage import BEGINNING, DAY
from tap_pancake.reading.selection import Share
from tap_pancake.rows import times
from tap_pancake.rows.kept import PartialDecoder, json_of, read_again
from tap_pancake.running.progress import counted
from tap_pancake.streams.conversations import ConversationsStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.running.lanes import Early
    from tap_pancake.running.run import Run
    from tap_pancake.streams.conversations import PageReading
    from tap_pancake.streams.details import ConversationDetailsStream

ROOM = 5
"""Maximum number of batches of a conversation that are read before they can be written."""


class Batch(NamedTuple):
    """Messages of one answer as JSON, which takes a fifth of the memory while it waits."""

    rows: bytes
    details: bytes | None = None
    """Details of the conversation, in the newest batch; None if they are not selected."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.rows) + len(self.details or b"")


class MessagesStream(PancakeStream):
    """`GET …/conversations/{conversation_id}/messages`: batches, newest first, by offset."""

    name = "messages"
    path = "/pages/{page_id}/conversations/{conversation_id}/messages"
    records_key = "messages"
    row_decoder = PartialDecoder(records_key, "id", "inserted_at")
    per_request = "up to 30 messages of a conversation"
    parent_stream_type = ConversationsStream
    read_with: ClassVar[tuple[str, ...]] = ("conversations",)
    primary_keys = ("conversation_id", "id")
    replication_key = "inserted_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start without any batch."""
        super().__init__(tap, run)
        self._sizes = BatchSizes()
        self._refresh_from: dict[str, int] = {}
        """By page, the time from which messages are written again (see `message_refresh_days`)."""

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        # The older API requires `customer_id`, the current one ignores it.
        return {
            "current_count": next_page_token or None,
            "customer_id": context["customer_id"] if context else None,
        }

    @property
    def _conversations(self) -> ConversationsStream:
        conversations: ConversationsStream = self.run.streams["conversations"]
        return conversations

    @property
    def _details(self) -> ConversationDetailsStream:
        details: ConversationDetailsStream = self.run.streams["conversation_details"]
        return details

    def share(self, context: Context) -> Share | None:
        """Return what this stream needs of a page's conversations; None if it is not selected."""
        lists = self._conversations
        bookmark = self.bookmark(context, start=lists.start, end=lists.end)
        if bookmark is None:
            return None
        top = bookmark.coverage.top
        days = float(self.config["message_refresh_days"])
        self._refresh_from[context["page_id"]] = BEGINNING if top is None else top - int(days * DAY)
        # No `end`: a conversation that changed after `end_date` may have messages from before it.
        return Share(
            bookmark,
            place=self.place(context),
            first_back=lists.back,
            back=lists.back,
            opens_to_top=True,
        )

    def batches(self, context: Context, since: int, *, retry: bool = True) -> Iterator[Batch]:
        """Yield the messages of a conversation, newest batch first; the baton is not required.

        Args:
            context: of the conversation.
            since: how far back to read, in microseconds since 1970.
            retry: whether to retry after faults that may pass.
        """
        pager = MessageBatches(since=since, expected=context["message_count"], sizes=self._sizes)
        lanes, page = self.run.lanes, context["page_id"]
        limiter = self.run.limits.of(page)
        early: dict[int, Early[Rows]] = {}
        try:
            while not pager.finished:
                for offset in pager.next_offsets[: ROOM - 1]:
                    # Other requests of the page that wait for the rate limit come first.
                    if offset in early or limiter.is_awaited:
                        continue
                    rows = partial(self._rows_from, offset, context, retry=retry)
                    if (asked := lanes.early(rows, page=page, stream=self.name)) is not None:
                        early[offset] = asked
                yield self._batch(pager, context, early, retry=retry)
        finally:
            for rest in early.values():
                rest.forget()

    def _batch(
        self,
        pager: MessageBatches,
        context: Context,
        early: dict[int, Early[Rows]],
        *,
        retry: bool,
    ) -> Batch:
        """Return the next batch: only what is written, so that the answer leaves the memory."""
        asked, is_newest, details = early.pop(pager.offset, None), not pager.offset, None
        if asked is not None:
            rows = asked.result()
        else:
            body = self.fetch(context, pager.offset, retry=retry)
            rows = self.rows_of(body, context)
        new = pager.add_batch(rows, rows.answer_size)
        self._doubt(pager, context)
        # An empty answer where there should be messages is requested again, and has no details.
        if is_newest and self._details.selected and (new or pager.finished):
            details = self._details.details_of(body, rows)
            if not self._details.has_content(details):  # no such answer was seen: ask once more
                body = self.fetch(context, 0, retry=retry)
                details = self._details.details_of(body, self.rows_of(body, context))
        return Batch(b"[" + b",".join(map(json_of, new)) + b"]", details)

    def _doubt(self, pager: MessageBatches, context: Context) -> None:
        """Note if the API counts more messages than it returns.

        Raises:
            PageFailed: the API returns no messages, or no new ones and no end. The caller sets the
                conversation aside.
        """
        place, count = self.place(context), counted(context["message_count"], "message")
        if pager.missing_count:
            text = (
                f"{place}: the API counts {count} and returns {pager.missing_count:,} fewer: they"
                " may have been removed"
            )
            self.run.lacking(text, self.name, context["page_id"])
        if pager.is_stuck:
            msg = (
                f"{place}: the API returns the same messages again and again: if later runs say"
                " so, report this"
            )
            raise PageFailed(msg)
        if pager.lacks_all_messages:
            msg = (
                f"{place}: the API counts {count} and returns none, again and again: they may have"
                " been removed"
            )
            raise PageFailed(msg)

    def _rows_from(self, offset: int, context: Context, *, retry: bool) -> Rows:
        return self.rows_of(self.fetch(context, offset, retry=retry), context)

    def ahead(self, context: Context, since: int) -> Iterator[Batch]:
        """Start to read a conversation in a helper thread, and return its batches."""
        batches = self.batches(context, since)
        return self.run.lanes.ahead(
            batches,
            lambda: ROOM,
            lambda batch: batch.size,
            page=context["page_id"],
            stream=self.name,
        )

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of conversations always has one
        reading = self._conversations.readings[context["page_id"]]
        since = reading.part.since
        assert since is not None  # noqa: S101 - otherwise there is no child context
        # Messages that an answer has anyway are written again: they show edits and reactions.
        refresh_from = min(since, self._refresh_from[context["page_id"]])
        first = times.from_micros(max(refresh_from, self._conversations.start))
        end = self._conversations.end
        last = None if end is None else times.from_micros(end)
        batches = reading.messages or self.ahead(context, since)
        # A chain of maps, because a loop variable would keep each batch until the next one arrives.
        for row in chain.from_iterable(map(partial(_rows_of, reading), batches)):
            record = self.shape(row, context)
            if record is None:
                continue
            at = record.get("inserted_at")
            if at is None or (first <= at and (last is None or at <= last)):
                yield record


def _rows_of(reading: PageReading, batch: Batch) -> list[Row]:
    """Return the messages of a batch, and keep its details for `conversation_details`."""
    reading.details = batch.details or reading.details
    rows: list[Row] = read_again(batch.rows)
    return rows
