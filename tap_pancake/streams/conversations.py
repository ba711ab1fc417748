"""The conversations of a page, by the time of their last message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake import times
from tap_pancake.client import PAGE_API_V1, PAGE_API_V2, PancakeStream
from tap_pancake.errors import PageFailed
from tap_pancake.state import BEGINNING, PageWalk
from tap_pancake.streams.pages import PagesStream
from tap_pancake.windows import Cut, TimeWindows, Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.run import Run

CUT = 60
"""Rows in a full answer (reference, section 7.1; for v1 an assumption, which is checked)."""
V1_CUT_AT_LEAST = 20
"""No list of the API is known to be cut shorter; a longer answer of v1 is looked at again."""
V1_LONGEST = 28 * 86_400
"""Seconds that a window of v1 may span: a month, of any length (reference, section 7.2)."""
V1_BEGINNING = "2010-01-01T00:00:00Z"
"""Where all history begins for v1, which demands bounds: before Pancake and its channels did."""


class ConversationsStream(PancakeStream):
    """`GET …/pages/{page_id}/conversations`: newest first, in time windows from old to new."""

    name = "conversations"
    path = "/pages/{page_id}/conversations"
    records_key = "conversations"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"
    is_sorted = True

    def __init__(self, tap: Tap, run: Run) -> None:
        """Choose the version of the list."""
        super().__init__(tap, run)
        self._v1 = self.config["conversations_api"] == "v1"
        self.api = PAGE_API_V1 if self._v1 else PAGE_API_V2
        self._unsorted: set[str] = set()
        self._cut = Cut.assumed(CUT, at_least=V1_CUT_AT_LEAST) if self._v1 else Cut.of(CUT)

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

    def begin_walk(self, context: Context) -> PageWalk:
        """Decide what this run reads of a page, for this stream and for messages."""
        streams = [self, *self.child_streams]
        bookmarks = {
            stream.name: stream.bookmark(context)
            for stream in streams
            if isinstance(stream, PancakeStream)
        }
        walk = self.run.walks[context["page_id"]] = PageWalk(
            self.config,
            conversations=bookmarks["conversations"],
            messages=bookmarks["messages"],
            now=times.text(datetime.now(UTC)),
        )
        return walk

    def windows(self, walk: PageWalk) -> TimeWindows:
        """Give the time windows of one page's walk."""
        start = walk.start or (V1_BEGINNING if self._v1 else None)
        return TimeWindows(
            start=times.unix(start) if start else None,
            end=times.unix(walk.stop) if walk.stop else None,
            cut=self._cut,
            time_of=lambda row: times.unix_or_none(row.get("updated_at")),
            longest=V1_LONGEST if self._v1 else None,
            bounded=self._v1,
        )

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        walk = self.begin_walk(context)
        windows = self.windows(walk)
        newest = BEGINNING
        for records in self.read(windows, context):
            for record in records:
                yield record  # after this, its messages have been read, and it has been written
                updated_at = record.get("updated_at") or BEGINNING
                if self.emits(record):
                    newest = max(newest, updated_at)
                if windows.sorted:
                    walk.passed(updated_at)
            if windows.unsettled:
                msg = (
                    f"{self.place(context)}: the list moves too much while it is read: run the tap"
                    " again, when the page is quieter"
                )
                raise PageFailed(msg)
            if windows.sorted:
                walk.cleared(times.text(times.from_unix(windows.low)))
            else:
                self._note_unsorted(context["page_id"])
        walk.finish(newest)

    def _note_unsorted(self, page_id: str) -> None:
        """Say once that the list of a page does not filter by time, so that it is read whole."""
        if self._v1:
            msg = (
                f"page {page_id}, conversations: the v1 list does not filter by `updated_at`:"
                " set `conversations_api` to v2"
            )
            raise PageFailed(msg)
        if page_id not in self._unsorted:
            self._unsorted.add(page_id)
            self.logger.warning(
                "page %s, conversations: the list does not filter by `updated_at` as it should, so"
                " it is read from the newest back; the bookmark moves when it is done",
                page_id,
            )

    @override
    def emits(self, record: Record) -> bool:
        return self.run.walks[record["page_id"]].wants_row(record.get("updated_at"))

    @override
    def generate_child_contexts(self, record: Record, context: Context | None) -> Iterable[Context]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        if self.run.walks[context["page_id"]].wants_messages(record.get("updated_at")):
            customers = record.get("customers") or [record.get("page_customer")]
            yield {
                "page_id": context["page_id"],
                "conversation_id": record["id"],
                "customer_id": (customers[0] or {}).get("id"),
                "message_count": record.get("message_count") or 0,
            }
