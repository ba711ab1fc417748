"""Other content of a page: tags, posts, and telephone calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.reading.listing import Listing, Query
from tap_pancake.reading.lists import ListStream
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.running.run import Run


class TagsStream(PancakeStream):
    """`GET …/pages/{page_id}/tags`: all tags of a page, including deactivated ones."""

    name = "tags"
    path = "/pages/{page_id}/tags"
    records_key = "tags"
    per_request = "all tags of a page"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")


class PostsStream(ListStream):
    """`GET …/pages/{page_id}/posts`: newest first, by creation time."""

    name = "posts"
    path = "/pages/{page_id}/posts"
    records_key = "posts"
    listing = Listing(times=("inserted_at", "updated_at"), bounded=True, page_size=30)
    per_request = "up to 30 posts"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "inserted_at"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        query: Query = next_page_token
        return {
            "since": query.since,
            "until": query.until,
            "page_number": query.page,
            "page_size": 30,
        }


class CallLogsStream(ListStream):
    """`GET …/pages/{page_id}/sip_call_logs`: filtered by start time, in no documented order.

    The id of a page's SIP package comes from the settings, because no endpoint returns it. A page
    without one has no calls to read; only `--test` reports this. Source: reference, section 18.
    """

    name = "call_logs"
    path = "/pages/{page_id}/sip_call_logs"
    records_key = "data"
    row_id = "call_id"
    listing = Listing(times=("start_time",), row_id="call_id", newest_first=False)
    per_request = "up to 30 calls"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "call_id")
    replication_key = "start_time"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Read the ids of the SIP packages from the settings."""
        super().__init__(tap, run)
        self._packages: dict[str, str | int] = self.config.get("sip_package_ids") or {}

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        query: Query = next_page_token
        return {
            "id": self._packages[context["page_id"]],
            "since": query.since,
            "until": query.until,
            "page_number": query.page,
            "page_size": 30,
        }

    @override
    def is_read_of(self, page_id: str) -> bool:
        return page_id in self._packages

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        has_package = context is not None and self.is_read_of(context["page_id"])
        return super().probe(context) if has_package else None

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        if self.is_read_of(context["page_id"]):
            yield from super().get_records(context)
