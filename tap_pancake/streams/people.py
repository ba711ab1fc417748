"""The customers of a page, and its staff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream, Rows
from tap_pancake.reading.listing import Listing, Query
from tap_pancake.reading.lists import ListStream
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context

    from tap_pancake.api.client import Body, Row


class CustomersStream(ListStream):
    """`GET …/pages/{page_id}/page_customers`: newest first, by the time of the last change.

    It is not certain whether `order_by` has an effect, and whether `since` and `until` filter by
    the same time (reference, section 9). The tap checks this in the answers. Busy pages may answer
    500 for 100 rows. The tap then halves the page size (section 24, 5).
    """

    name = "customers"
    path = "/pages/{page_id}/page_customers"
    records_key = "customers"
    listing = Listing(
        times=("updated_at", "inserted_at"), bounded=True, page_size=100, smallest_page_size=20
    )
    per_request = "up to 100 customers"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        query: Query = next_page_token
        return {
            "since": query.since,
            "until": query.until,
            "page_number": query.page,
            "page_size": self.sizes.of(context["page_id"]),
            "order_by": query.order_by,
        }


class UsersStream(PancakeStream):
    """`GET …/pages/{page_id}/users`: the staff of a page, active and disabled.

    Source: reference, section 11. Another client has also seen the lists in `data`.
    """

    name = "users"
    path = "/pages/{page_id}/users"
    records_key = "users"
    per_request = "all users of a page"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")

    @override
    def rows_of(self, body: Body, context: Context | None) -> Rows:
        if "users" not in body and isinstance(body.get("data"), dict):
            body = body["data"]
        round_robin = body.get("round_robin_users")
        disabled = {"users": body.get("disabled_users") or []}
        rows = {
            str(row["id"]): {
                **row,
                "is_disabled": is_disabled,
                "round_robin_inbox": _is_in_round_robin(row, round_robin, "inbox"),
                "round_robin_comment": _is_in_round_robin(row, round_robin, "comment"),
            }
            for part, is_disabled in ((disabled, True), (body, False))
            for row in super(UsersStream, self).rows_of(part, context)
        }
        return Rows(rows.values(), len(rows))


def _is_in_round_robin(user: Row, round_robin: object, kind: str) -> bool:
    """Return whether a user takes part in the round robin for a kind of conversation."""
    listed = round_robin.get(kind) if isinstance(round_robin, dict) else None
    ones = listed if isinstance(listed, list) else []
    return user["id"] in [one.get("id") if isinstance(one, dict) else one for one in ones]
