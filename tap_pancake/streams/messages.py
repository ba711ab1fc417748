"""The messages of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.reading.batches import BatchSizes, MessageBatches
from tap_pancake.streams.conversations import ConversationsStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.reading.old import PageWalk
    from tap_pancake.running.run import Run

ROOM = 5
"""How many batches of a conversation may be read before it is its turn to be written."""


class MessagesStream(PancakeStream):
    """`GET …/conversations/{conversation_id}/messages`: batches, counted from the newest."""

    name = "messages"
    path = "/pages/{page_id}/conversations/{conversation_id}/messages"
    records_key = "messages"
    brings = "up to 30 messages of a conversation"
    parent_stream_type = ConversationsStream
    primary_keys = ("conversation_id", "id")
    replication_key = "inserted_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Begin with no batch seen."""
        super().__init__(tap, run)
        self._sizes = BatchSizes()

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        # The older API demands `customer_id`, the present one does not mind it.
        return {
            "current_count": next_page_token or None,
            "customer_id": context["customer_id"] if context else None,
        }

    def batches(self, context: Context, walk: PageWalk) -> Iterator[bytes]:
        """Read a conversation as far back as it is wanted; may run without the baton.

        As JSON again, which takes a fifth of the memory while it waits for its turn.
        """
        pager = MessageBatches(
            since=walk.messages_since, expected=context["message_count"], sizes=self._sizes
        )
        return map(msgspec.json.encode, self.read(pager, context))

    def ahead(self, context: Context, walk: PageWalk) -> Iterator[bytes]:
        """Begin to read a conversation."""
        return self.run.lanes.ahead(self.batches(context, walk), lambda: ROOM)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of conversations always has one
        walk = self.run.walks[context["page_id"]]
        for batch in walk.messages or self.batches(context, walk):
            for row in msgspec.json.decode(batch):
                record = self.shape(row, context)
                if walk.wants_message(record.get("inserted_at")):
                    yield record
