"""The conversations of a page, by the time of their last message."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PAGE_API_V1, PAGE_API_V2, is_id
from tap_pancake.api.errors import PageFailed, PageSkipped, PageUnreadable
from tap_pancake.reading.aside import Aside
from tap_pancake.reading.listing import Listing, Query, second
from tap_pancake.reading.lists import ListStream
from tap_pancake.reading.selection import Part, Share, nothing
from tap_pancake.rows import times
from tap_pancake.rows.kept import PartialDecoder, full_row
from tap_pancake.running.progress import counted
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import PancakeStream
    from tap_pancake.running.run import Run
    from tap_pancake.streams.ads import AdsStream
    from tap_pancake.streams.messages import Batch, MessagesStream

V2 = Listing(times=("updated_at", "inserted_at"), stored_at_field="inserted_at", page_size=60)
_ASSUMED_COUNT = 2
"""Assumed messages of a conversation that is set aside, so that an empty answer is a failure."""
V1_LONGEST = 28 * 86_400
"""Longest range of a v1 request, in seconds: fits in a month of any length (reference, 7.2)."""
V1_BEGINNING = times.micros("2010-01-01T00:00:00")
"""Start of all history for v1, which requires bounds: earlier than Pancake and its channels."""
V1 = Listing(
    times=V2.times,
    stored_at_field=V2.stored_at_field,
    bounded=True,
    longest=V1_LONGEST,
    first=second(V1_BEGINNING),
)


@dataclass
class PageReading:
    """State of the reading of one page's conversations in this run."""

    aside: Aside | None
    """Conversations that are set aside; None if no messages of the page are read."""
    part: Part = field(default_factory=Part)
    messages: Iterator[Batch] | None = None
    """Messages of the current conversation, read ahead."""
    details: bytes | None = None
    """Details of the current conversation as JSON, until `conversation_details` writes them."""


@dataclass(frozen=True, slots=True)
class _Ahead(Part):
    """A conversation whose messages are requested ahead, as soon as it appears in the list."""

    messages: Iterator[Batch] | None = None


class ConversationsStream(ListStream):
    """`GET …/pages/{page_id}/conversations`: newest first, by the time of the last message."""

    name = "conversations"
    path = "/pages/{page_id}/conversations"
    api = PAGE_API_V2
    records_key = "conversations"
    row_decoder = PartialDecoder(records_key, "id", *V2.times)
    listing = V2
    fails_when_idle = False  # this stream shows whether a page is idle
    per_request = "up to 60 conversations"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Choose the version of the API."""
        super().__init__(tap, run)
        self.readings: dict[str, PageReading] = {}
        """The readings in progress, by page."""
        self._v1 = self.config["conversations_api"] == "v1"
        if self._v1:
            self.api = PAGE_API_V1
            self.listing = V1  # type: ignore[misc] # only for this object

    @property
    @override
    def start(self) -> int:
        return max(super().start, V1_BEGINNING) if self._v1 else super().start

    @property
    @override
    def is_needed(self) -> bool:
        return super().is_needed or self._ads.is_needed

    @property
    def _ads(self) -> AdsStream:
        ads: AdsStream = self.run.streams["ads"]
        return ads

    @property
    def _message_streams(self) -> list[MessagesStream]:
        return [self.run.streams[name] for name in ("messages", "conversation_details")]

    @property
    def _messages(self) -> MessagesStream:
        """The stream that requests messages: `conversation_details` if only that is selected."""
        messages, details = self._message_streams
        return details if details.selected and not messages.selected else messages

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        query: Query = next_page_token
        return {
            "order_by": query.order_by,
            "since": query.since,
            "until": query.until,
            "page_number": query.page if self._v1 else None,
            "last_conversation_id": None if self._v1 else query.last_id,
        }

    def is_idle(self, context: Context) -> bool:
        """Return whether no conversation of a page is newer than four weeks; costs one request."""
        return not self.rows_of(self.fetch(context, super().newest_window(context)), context)

    @override
    def newest_window(self, context: Context | None) -> Query:
        # Without bounds the answer has the newest conversations, however old. `--test` needs one of
        # them to request messages.
        return super().newest_window(context) if self._v1 else Query(self.listing.key)

    # The conversations of a page

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        yield from super().get_records(context)
        reading = self.readings.pop(context["page_id"])
        if reading.aside is not None:
            self._guard(reading, context, reading.aside.check_denied)

    @override
    def parts(self, context: Context) -> Iterator[Part]:
        shares = [stream.share(context) for stream in self._message_streams]
        children = [share for share in shares if share is not None]
        aside = None
        if children:
            new = partial(
                self.run.set_aside, stream=self._messages.name, page_id=context["page_id"]
            )
            aside = Aside([share.bookmark for share in children], self.run.clock, new)
        reading = self.readings[context["page_id"]] = PageReading(aside)
        reader = self.reader(
            context,
            rows=self.share(context),
            children=children,
            aside=aside.read_from if aside is not None else None,
            named=self._ads.share(context),
        )
        reader.after_head = lambda: self._read_aside(context, reading)
        return self._with_messages(reader.parts(), context, reading)

    def _with_messages(
        self, parts: Iterator[Part], context: Context, reading: PageReading
    ) -> Iterator[Part]:
        """Start to read the messages of each conversation as soon as it appears in the list."""
        # With stream maps, messages are not read ahead: a map may filter out the conversation.
        for part in parts:
            if part.row is None or part.since is None or self.is_mapped:
                yield part
                continue
            messages = None
            if reading.aside is not None:
                child = self.get_child_context(full_row(part.row), context)
                messages = self._messages.ahead(child, part.since)
            yield _Ahead(part.row, part.is_wanted, part.since, part.then, messages)

    @override
    def room(self) -> int:
        return self.run.items_ahead()

    @override
    def records(self, part: Part, context: Context) -> Iterator[Record]:
        reading = self.readings[context["page_id"]]
        reading.part = part
        reading.messages = part.messages if isinstance(part, _Ahead) else None
        if part.row is None:
            return
        row = full_row(part.row)
        self._ads.note_ads(row, context)
        record = self.shape(row, context)
        if record is not None:
            if at := record.get("updated_at"):
                self.run.progress.reached(context["page_id"], at, self.start_text)
            yield record

    @override
    def is_written(self, record: Record) -> bool:
        return self.readings[record["page_id"]].part.is_wanted

    def share_for(
        self, stream: PancakeStream, context: Context, *, newest_alone: bool = False
    ) -> Share | None:
        """Return what another stream needs of a page's list; None if it is not selected."""
        bookmark = stream.bookmark(context, start=self.start, end=self.end)
        if bookmark is None:
            return None
        return Share(
            bookmark,
            place=stream.place(context),
            first_back=self.back,
            back=self.back,
            end=self.end,
            newest_alone=newest_alone,
        )

    # Their messages

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        # The record may be a row of the API, or a record after shaping.
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
        reading = self.readings[context["page_id"]]
        if reading.part.since is not None and reading.aside is not None:
            yield self.get_child_context(record, context)

    @override
    def sync_children(self, context: Context) -> None:
        reading = self.readings[context["page_id"]]
        aside, since = reading.aside, reading.part.since
        assert aside is not None  # noqa: S101 - otherwise there is no child context
        assert since is not None  # noqa: S101
        conversation_id = context["conversation_id"]
        try:
            super().sync_children(context)
        except PageUnreadable:
            raise
        except PageFailed as failure:
            refusal = failure
            self._guard(
                reading,
                context,
                lambda: aside.item_failed(conversation_id, context["customer_id"], since, refusal),
            )
        else:
            aside.item_read(conversation_id, since)

    def _guard(self, reading: PageReading, context: Context, step: Callable[[], object]) -> None:
        """Take a step; if it fails for the whole page, go on without the messages of the page."""
        assert reading.aside is not None  # noqa: S101 - the caller checks it
        bookmarks = reading.aside.bookmarks
        try:
            step()
        except PageSkipped as refusal:
            for bookmark in bookmarks:
                bookmark.take_back()
            _, _, reason = str(refusal).partition(": ")
            page = {"page_id": context["page_id"]}
            refused = PageSkipped(f"{self._messages.place(page)}: {reason}")
            self.run.page_skipped(refused, self._messages.name, context["page_id"])
        except PageFailed as failure:
            for bookmark in bookmarks:
                bookmark.freeze()
            self.run.page_failed(failure, self._messages.name, context["page_id"])
        else:
            return
        reading.aside = None

    def _read_aside(self, context: Context, reading: PageReading) -> None:
        """Retry conversations that earlier runs have set aside."""
        aside = reading.aside
        if aside is None or not aside.waiting:
            return
        for entry in aside.due():
            child = {
                "page_id": context["page_id"],
                "conversation_id": entry.conversation_id,
                "customer_id": entry.customer_id,
                "message_count": _ASSUMED_COUNT,
            }
            reading.part = Part(since=entry.since)
            reading.messages = self._messages.batches(child, entry.since, retry=False)
            try:
                super().sync_children(child)
            except PageUnreadable:
                raise
            except PageFailed as failure:
                if aside.failed_again(entry):
                    msg = f"{failure}: it failed for 30 days, so the tap does not try it again"
                    self.run.page_failed(PageFailed(msg), self._messages.name, context["page_id"])
            else:
                aside.item_read(entry.conversation_id, entry.since)
        reading.part, reading.messages = Part(then=nothing), None
        if aside.waiting:
            self.run.still_aside(
                f"{self._messages.place(context)}: "
                + counted(len(aside.waiting), "conversation is", "conversations are")
                + " still set aside, since their messages cannot be read: "
                + ", ".join(aside.waiting[:5])
                + (" …" if len(aside.waiting) > 5 else ""),  # noqa: PLR2004
                self._messages.name,
                context["page_id"],
            )
