"""The details of a conversation, which come in the same answer as its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from tap_pancake.api.errors import PageFailed
from tap_pancake.rows import times
from tap_pancake.rows.kept import fields_beside_rows, read_again
from tap_pancake.streams.messages import Batch, MessagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row, Rows
    from tap_pancake.reading.selection import Share

# Fields that describe the answer and not the conversation.
_OF_THE_ANSWER = ("success", "conversation_id")


class ConversationDetailsStream(MessagesStream):
    """`GET …/conversations/{conversation_id}/messages`: the fields beside the newest messages.

    If `messages` reads a conversation, its answers have the details, and this stream makes no
    request. Otherwise, this stream requests the newest messages of the conversation.
    """

    name = "conversation_details"
    per_request = "one conversation; no request of its own if `messages` is selected"
    primary_keys = ("page_id", "conversation_id")
    replication_key = "last_message_at"
    read_with = ("messages", "conversations")

    @override
    def share(self, context: Context) -> Share | None:
        return self._conversations.share_for(self, context, newest_alone=True)

    def details_of(self, body: Body, rows: Rows) -> bytes:
        """Return the details in an answer, with the time of its last message, as JSON."""
        sent = [row["inserted_at"] for row in rows if times.micros_or_none(row.get("inserted_at"))]
        last = max(sent, key=times.micros, default=None)
        return fields_beside_rows(body, self.records_key, last_message_at=last)

    def has_content(self, details: bytes) -> bool:
        """Return whether the details have any content."""
        return _has_content(_row_of(details))

    @override
    def batches(self, context: Context, since: int, *, retry: bool = True) -> Iterator[Batch]:
        for batch in super().batches(context, since, retry=retry):
            if batch.details is not None:
                yield Batch(b"[]", batch.details)
                return

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        body = self.fetch(context, self.newest_window(context))
        return [_row_of(self.details_of(body, self.rows_of(body, context)))]

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of conversations always has one
        reading = self._conversations.readings[context["page_id"]]
        since, end = reading.part.since, self._conversations.end
        assert since is not None  # noqa: S101 - otherwise there is no child context
        # From the answers that `messages` has read, or from a request of its own.
        details, reading.details = reading.details, None
        if details is None:
            (batch,) = reading.messages or self.ahead(context, since)
            details = batch.details
        assert details is not None  # noqa: S101 - the newest batch always has details
        row = _row_of(details)
        if not _has_content(row):
            msg = (
                f"{self.place(context)}: two answers have `messages`, but no details: if later runs"
                " say so, report this"
            )
            raise PageFailed(msg)
        record = self.shape(row, context)
        last = record and record.get("last_message_at")
        if record is not None and (end is None or not last or last <= times.from_micros(end)):
            yield record


def _has_content(row: Row) -> bool:
    return bool(row.keys() - {"last_message_at"})


def _row_of(details: bytes) -> Row:
    """Return the row of the details."""
    row: Row = read_again(details)
    for name in _OF_THE_ANSWER:
        row.pop(name, None)
    if row.get("last_commented_at") is False:  # never (reference, section 8)
        row["last_commented_at"] = None
    return row
