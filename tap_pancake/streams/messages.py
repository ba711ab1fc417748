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
from tap_pancake.rows.kept import Glance, json_of, read_again
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
"""How many batches of a conversation may be read before it is its turn to be written."""


class Batch(NamedTuple):
    """Messages as JSON, which takes a fifth of the memory while it waits for its turn."""

    rows: bytes
    details: bytes | None = None
    """What stands beside the newest ones in their answer; None if that is not selected."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.rows) + len(self.details or b"")


class MessagesStream(PancakeStream):
    """`GET …/conversations/{conversation_id}/messages`: batches, counted from the newest."""

    name = "messages"
    path = "/pages/{page_id}/conversations/{conversation_id}/messages"
    records_key = "messages"
    glance = Glance(records_key, "id", "inserted_at")
    brings = "up to 30 messages of a conversation"
    parent_stream_type = ConversationsStream
    read_with: ClassVar[tuple[str, ...]] = ("conversations",)
    primary_keys = ("conversation_id", "id")
    replication_key = "inserted_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Begin with no batch seen."""
        super().__init__(tap, run)
        self._sizes = BatchSizes()
        self._fresh: dict[str, int] = {}
        """By page, from when on messages are written again, though they were read before."""

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        # The older API demands `customer_id`, the present one does not mind it.
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
        """Return what this stream reads of a page's conversations; None if it is not selected."""
        lists = self._conversations
        bookmark = self.bookmark(context, start=lists.start, end=lists.end)
        if bookmark is None:
            return None
        top = bookmark.coverage.top
        days = float(self.config["message_refresh_days"])
        self._fresh[context["page_id"]] = BEGINNING if top is None else top - int(days * DAY)
        # A conversation that was touched after the end may hold messages from before it.
        return Share(
            bookmark,
            place=self.place(context),
            first_back=lists.back,
            back=lists.back,
            opens_to_top=True,
        )

    def batches(self, context: Context, since: int, *, persist: bool = True) -> Iterator[Batch]:
        """Read a conversation back to a time; may run without the baton.

        Args:
            context: of the conversation.
            since: in microseconds since 1970.
            persist: whether faults that may pass are waited out.
        """
        pager = MessageBatches(since=since, expected=context["message_count"], sizes=self._sizes)
        lanes, page = self.run.lanes, context["page_id"]
        limiter = self.run.limits.of(page)
        early: dict[int, Early[Rows]] = {}
        try:
            while not pager.finished:
                for offset in pager.coming[: ROOM - 1]:
                    # No sooner than others of the page, if there are others.
                    if offset in early or limiter.is_awaited:
                        continue
                    rows = partial(self._rows_from, offset, context, persist=persist)
                    if (asked := lanes.early(rows, page=page, stream=self.name)) is not None:
                        early[offset] = asked
                yield self._batch(pager, context, early, persist=persist)
        finally:
            for rest in early.values():
                rest.forget()

    def _batch(
        self,
        pager: MessageBatches,
        context: Context,
        early: dict[int, Early[Rows]],
        *,
        persist: bool,
    ) -> Batch:
        """Ask for the next batch; of the answer nothing stays but what is written of it."""
        asked, is_newest, details = early.pop(pager.window, None), not pager.window, None
        if asked is not None:
            rows = asked.result()
        else:
            body = self.fetch(context, pager.window, persist=persist)
            rows = self.rows_of(body, context)
        new = pager.take(rows, rows.answered)
        self._doubt(pager, context)
        # One that is empty where there should be messages is asked for again.
        if is_newest and self._details.selected and (new or pager.finished):
            details = self._details.of(body, rows)
            if not self._details.tells(details):  # as no answer was seen to be
                body = self.fetch(context, 0, persist=persist)
                details = self._details.of(body, self.rows_of(body, context))
        return Batch(b"[" + b",".join(map(json_of, new)) + b"]", details)

    def _doubt(self, pager: MessageBatches, context: Context) -> None:
        """Say where what is counted does not come.

        Raises:
            PageFailed: nothing comes, or nothing more: the conversation is to be set aside.
        """
        place, count = self.place(context), counted(context["message_count"], "message")
        if pager.lacks:
            text = (
                f"{place}: the API counts {count} and returns {pager.lacks:,} fewer: they may have"
                " been removed"
            )
            self.run.lacking(text, self.name, context["page_id"])
        if pager.is_stuck:
            msg = (
                f"{place}: the API returns the same messages again and again: if later runs say"
                " so, report this"
            )
            raise PageFailed(msg)
        if pager.came_to_nothing:
            msg = (
                f"{place}: the API counts {count} and returns none, again and again: they may have"
                " been removed"
            )
            raise PageFailed(msg)

    def _rows_from(self, offset: int, context: Context, *, persist: bool) -> Rows:
        return self.rows_of(self.fetch(context, offset, persist=persist), context)

    def ahead(self, context: Context, since: int) -> Iterator[Batch]:
        """Begin to read a conversation."""
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
        assert since is not None  # noqa: S101 - else there is no child context
        # What an answer holds anyway brings edits, removals and reactions.
        fresh = min(since, self._fresh[context["page_id"]])
        first = times.from_micros(max(fresh, self._conversations.start))
        end = self._conversations.end
        last = None if end is None else times.from_micros(end)
        batches = reading.messages or self.ahead(context, since)
        # No variable keeps a batch that was written until the next one is there.
        for row in chain.from_iterable(map(partial(_rows_of, reading), batches)):
            record = self.shape(row, context)
            if record is None:
                continue
            at = record.get("inserted_at")
            if at is None or (first <= at and (last is None or at <= last)):
                yield record


def _rows_of(reading: PageReading, batch: Batch) -> list[Row]:
    """Read the messages of a batch, and keep what stood beside them."""
    reading.details = batch.details or reading.details
    rows: list[Row] = read_again(batch.rows)
    return rows
