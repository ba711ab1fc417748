"""Who writes to a page, and who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.reading.lists import ListStream
from tap_pancake.reading.windows import Cut, Window
from tap_pancake.rows import times
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row


class CustomersStream(ListStream):
    """`GET …/pages/{page_id}/page_customers`: newest first, by the time of their last change.

    That `order_by` also chooses what `since` and `until` filter by, or that it is heeded at all, is
    not sure here (reference, section 9). So no lower bound is asked for: an answer then begins with
    the customer that changed last, and shows what holds. What was shown is kept in the state, since
    a quiet page whose customers never changed shows nothing.
    """

    name = "customers"
    path = "/pages/{page_id}/page_customers"
    records_key = "customers"
    cut = Cut.assumed(100, at_least=20)
    windowing = {  # noqa: RUF012 - typed by the base class
        "bounded": True,
        "other_time": lambda row: times.unix_or_none(row.get("inserted_at")),
    }
    brings = "up to 100 customers"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        window: Window = next_page_token
        return {
            "since": window.since,
            "until": window.until,
            "page_number": window.page,
            "page_size": 100,
            "order_by": "updated_at",
        }


class UsersStream(PancakeStream):
    """`GET …/pages/{page_id}/users`: the staff of a page, active and disabled.

    Source: reference, section 11. A client also met the lists one level down, in `data`.
    """

    name = "users"
    path = "/pages/{page_id}/users"
    records_key = "users"
    brings = "all users of a page"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")

    @override
    def rows_of(self, body: Body, context: Context | None) -> list[Row]:
        if "users" not in body and isinstance(body.get("data"), dict):
            body = body["data"]
        duties = body.get("round_robin_users")
        disabled = {"users": body.get("disabled_users") or []}
        rows = {
            str(row["id"]): {
                **row,
                "is_disabled": is_disabled,
                "round_robin_inbox": _is_on_duty(row, duties, "inbox"),
                "round_robin_comment": _is_on_duty(row, duties, "comment"),
            }
            for part, is_disabled in ((disabled, True), (body, False))
            for row in super(UsersStream, self).rows_of(part, context)
        }
        return list(rows.values())


def _is_on_duty(user: Row, duties: object, kind: str) -> bool:
    """Tell whether conversations of a kind are given to a user in turn."""
    listed = duties.get(kind) if isinstance(duties, dict) else None
    ones = listed if isinstance(listed, list) else []
    return user["id"] in [one.get("id") if isinstance(one, dict) else one for one in ones]
