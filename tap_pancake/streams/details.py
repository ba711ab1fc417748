"""What stands beside the messages of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from tap_pancake.api.client import page_of
from tap_pancake.rows import times
from tap_pancake.rows.kept import read_again
from tap_pancake.streams.messages import Batch, MessagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.reading.selection import Share
    from tap_pancake.reading.state import Bookmark

# What an answer says of itself, and not of the conversation.
_OF_THE_ANSWER = ("success", "conversation_id")


class ConversationDetailsStream(MessagesStream):
    """`GET …/conversations/{conversation_id}/messages`: what stands beside the newest messages.

    If `messages` is selected too, it reads what that reads, with no call of its own. If not, it
    asks for the newest messages of each conversation that changed.
    """

    name = "conversation_details"
    brings = "the details of a conversation; no call of its own beside `messages`"
    primary_keys = ("page_id", "conversation_id")
    replication_key = "last_message_at"
    read_with = ("messages", "conversations")

    def follower_of(self, messages: Bookmark, context: Context) -> Bookmark | None:
        """Return the bookmark that keeps what `messages` keeps; None if it is not selected."""
        own = self.bookmark(context)
        if own is not None and own.coverage.lacks(messages.coverage) and self.run.is_new(self.name):
            self.logger.warning(
                "conversation_details: conversations that `messages` has read without it come with"
                " their next message: see docs/incremental.md for how to read all of them now"
            )
        return own

    @override
    def share(self, context: Context) -> Share | None:
        return self._conversations.share_for(self, context)

    @override
    def batches(self, context: Context, since: int, *, persist: bool = True) -> Iterator[Batch]:
        for batch in super().batches(context, since, persist=persist):
            if batch.details is not None:
                yield Batch(b"[]", batch.details)
                return

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        body = self.fetch(context, self.recent(context))
        return [_row_of(self.details_of(body, self.rows_of(body, context)))]

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of conversations always has one
        reading = self._conversations.readings[context["page_id"]]
        since, end = reading.part.since, self._conversations.end
        assert since is not None  # noqa: S101 - else there is no child context
        # What `messages` has met, or what nobody has asked for yet.
        details, reading.details = reading.details, None
        if details is None:
            (batch,) = reading.messages or self.ahead(context, since)
            details = batch.details
        assert details is not None  # noqa: S101 - each conversation has a newest batch
        row = _row_of(details)
        if not row.keys() - {"last_message_at"}:
            self.run.row_left_out("with nothing beside `messages`", self.name, page_of(context))
            return
        record = self.shape(row, context)
        last = record and record.get("last_message_at")
        if record is not None and (end is None or not last or last <= times.from_micros(end)):
            yield record


def _row_of(details: bytes) -> Row:
    """Read what stood beside messages."""
    row: Row = read_again(details)
    for name in _OF_THE_ANSWER:
        row.pop(name, None)
    if row.get("last_commented_at") is False:  # never (reference, section 8)
        row["last_commented_at"] = None
    return row
