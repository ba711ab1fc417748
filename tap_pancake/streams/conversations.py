"""The conversations of a page, by the time of their last message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PAGE_API_V1, PAGE_API_V2, PancakeStream, is_id
from tap_pancake.api.errors import PageFailed
from tap_pancake.reading.lists import ListStream, Part
from tap_pancake.reading.old import Bookmark, PageWalk
from tap_pancake.reading.windows import Cut, TimeWindows, Window
from tap_pancake.rows import times
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.running.run import Run
    from tap_pancake.streams.messages import MessagesStream

V1_LONGEST = 28 * 86_400
"""Seconds that a window of v1 may span: a month, of any length (reference, section 7.2)."""
V1_BEGINNING = "2010-01-01T00:00:00Z"
"""Where all history begins for v1, which demands bounds: before Pancake and its channels did."""


class ConversationsStream(ListStream):
    """`GET …/pages/{page_id}/conversations`: newest first, each by the time of its last message."""

    name = "conversations"
    path = "/pages/{page_id}/conversations"
    api = PAGE_API_V2
    records_key = "conversations"
    cut = Cut.of(60)  # reference, section 7.1
    windowing = {"newest_first": True}  # noqa: RUF012 - typed by the base class
    fails_when_idle = False  # it is what shows whether a page is idle
    brings = "up to 60 conversations"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Choose the version of the list."""
        super().__init__(tap, run)
        self._v1 = self.config["conversations_api"] == "v1"
        self._reads_ahead = False
        if self._v1:
            self.api = PAGE_API_V1
            # The cut of v1 is an assumption; no list is known to be cut shorter than 20.
            self.cut = Cut.assumed(60, at_least=20)
            self.windowing = {"newest_first": True, "longest": V1_LONGEST, "bounded": True}

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        window: Window = next_page_token
        return {
            "order_by": "updated_at",
            "since": window.since,
            "until": window.until,
            "page_number": window.page if self._v1 else None,
            "last_conversation_id": None if self._v1 else window.last_id,
        }

    @override
    def begin_walk(self, context: Context) -> PageWalk:
        """Decide what this run reads of a page, for this stream and for messages."""
        # A map may filter conversations, whose messages are then not read.
        self._reads_ahead = not self.is_mapped
        streams = [self, *self.child_streams]
        bookmarks = {
            stream.name: Bookmark({}, "", incremental=False) if stream.selected else None
            for stream in streams
            if isinstance(stream, PancakeStream)
        }
        walk = self.run.walks[context["page_id"]] = PageWalk(
            self.config,
            rows=bookmarks["conversations"],
            messages=bookmarks["messages"],
            now=times.text(datetime.now(UTC)),
        )
        return walk

    @override
    def windows(self, walk: PageWalk) -> TimeWindows:
        if self._v1:
            walk.start = walk.start or V1_BEGINNING
        return super().windows(walk)

    def is_idle(self, context: Context) -> bool:
        """Ask whether nothing was said on a page for four weeks."""
        return not self.rows_of(self.fetch(context, super().recent(context)), context)

    @override
    def recent(self, context: Context | None) -> Window:
        # Without bounds the newest ones come, however old, so that there is one to ask messages of.
        return super().recent(context) if self._v1 else Window(None, None)

    @override
    def note_unsorted(self, page_id: str) -> None:
        if self._v1:
            msg = (
                f"page {page_id}, conversations: the v1 list does not filter by `updated_at`:"
                " set `conversations_api` to v2"
            )
            raise PageFailed(msg)
        super().note_unsorted(page_id)

    @override
    def emits(self, record: Record) -> bool:
        return self.run.walks[record["page_id"]].wants_row(record.get("updated_at"))

    @override
    def tell(self, context: Context, at: str) -> None:
        if at:
            self.run.progress.reached(context["page_id"], at)

    @override
    def parts(self, windows: TimeWindows, walk: PageWalk, context: Context) -> Iterator[Part]:
        # A part for each conversation, whose messages are asked for when it comes into sight.
        for part in super().parts(windows, walk, context):
            if self._reads_ahead:
                for row in part.rows:
                    messages = self._messages_ahead(row, walk, context)
                    yield Part([row], None, part.sorted, unsettled=False, messages=messages)
                part = replace(part, rows=[])  # noqa: PLW2901 - what is known with the last of them
            yield part

    @override
    def room(self) -> int:
        return self.run.reach() if self._reads_ahead else super().room()

    def _messages_ahead(self, row: Row, walk: PageWalk, context: Context) -> Iterator[bytes] | None:
        """Begin to read the messages of a conversation, if it can have any that are wanted."""
        if not walk.wants_messages(times.normalised_or_none(row.get("updated_at"))):
            return None
        messages: MessagesStream = self.run.streams["messages"]
        return messages.ahead(self.get_child_context(row, context), walk)

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        # Of a row of the API, or as it was written.
        assert context is not None  # noqa: S101 - a child of pages always has one
        listed = record.get("customers")
        customers = listed if listed and isinstance(listed, list) else [record.get("page_customer")]
        customer = customers[0] if isinstance(customers[0], dict) else {}
        customer_id, count = customer.get("id"), record.get("message_count")
        return {
            "page_id": context["page_id"],
            "conversation_id": str(record["id"]),
            "customer_id": customer_id if is_id(customer_id) else None,
            "message_count": count if isinstance(count, int) else 0,
        }

    @override
    def generate_child_contexts(self, record: Record, context: Context | None) -> Iterable[Context]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        if self.run.walks[context["page_id"]].wants_messages(record.get("updated_at")):
            yield self.get_child_context(record, context)
