"""Ways in which the real API may differ from the server's defaults.

Each way is a switch, and all switches can be combined. Effects on one call (no answer, an empty
one, one from a copy that lags behind) are a `Fault`. Changes of the data (a row that appears late,
a row that is deleted) are methods of `Page`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from .account import Bounds, Json
    from .server import Call, Endpoint

    Window = tuple[datetime | None, datetime | None]

Row = TypeVar("Row")
SortedBy = Literal["order_by", "inserted_at", "updated_at"]
FilteredBy = Literal["order_by", "inserted_at", "updated_at", "ignored"]

SECOND = timedelta(seconds=1)
KEY_FIELDS = ("id", "call_id")
LIST_KEYS: dict[Endpoint, str] = {
    "customer_feedbacks": "customer_feedback",
    **{name: name for name in ("conversations", "messages", "tags", "users", "customers", "posts")},
}
"""Endpoint → the key of its rows in the answer; the default is `data`."""


def list_key(endpoint: Endpoint) -> str:
    """Return the key of the rows in an answer."""
    return LIST_KEYS.get(endpoint, "data")


def is_head(call: Call) -> bool:
    """Return whether a call of a list asks for its newest rows."""
    params = call.params
    return (
        not {"last_conversation_id", "until"} & params.keys()
        and params.get("page_number", "1") == "1"
        and params.get("offset", "0") == "0"
    )


def is_first_batch(call: Call) -> bool:
    """Return whether a call asks for the newest messages of a conversation."""
    return call.endpoint == "messages" and call.params.get("current_count", "0") == "0"


def inside(at: datetime, window: Window, bounds: Bounds) -> bool:
    """Return whether a time is in a window."""
    since, until = window
    above = since is None or at > since or (at == since and bounds[0] == "[")
    return above and (until is None or at < until or (at == until and bounds[1] == "]"))


@dataclass(slots=True)
class World:
    """The switches; tests may set each while the server runs."""

    date_ahead: timedelta | None = timedelta(0)
    """The time by which the header `Date` is ahead of the account's clock; None for no header."""
    whole_seconds: bool = False
    """Whether `since` and `until` are compared with times in whole seconds."""
    sorted_by: dict[Endpoint, SortedBy] = field(default_factory=dict)
    """List → the time that it is sorted by, regardless of `order_by`."""
    filtered_by: dict[Endpoint, FilteredBy] = field(default_factory=dict)
    """List → the time that `since` and `until` filter by, regardless of `order_by`.

    Both switches apply to conversations, customers, posts and ad_conversations. They override
    `PancakeServer.window_filter`, `Desk.customers_filter` and `Desk.customers_ordered`.
    """
    oldest_first: set[Endpoint] = field(default_factory=lambda: {"ad_conversations"})
    """Lists in ascending order (for `call_logs` see `Desk.calls_ascending`)."""
    cuts: dict[Endpoint, Callable[[], int]] = field(default_factory=dict)
    """List → a function that returns the most rows of the next answer.

    In a numbered list, no other answer has the rows that are left out. For the same number in each
    answer, see `PancakeServer.page_size` and `Desk.cuts`.
    """
    null_times: dict[str, Collection[str]] = field(default_factory=dict)
    """Id of a row → its times that are null, in every list."""
    nulls: Literal["place", "first", "last"] = "place"
    """The place of rows whose time is null.

    "place": the place that the time would give them. "first" (before the newest rows, as in
    PostgreSQL) and "last": bounds exclude them, as in SQL.
    """
    without_id: set[str] = field(default_factory=set)
    """Ids of rows that are shown without their id."""

    def is_plain(self, endpoint: Endpoint) -> bool:
        """Return whether a list is sorted and filtered in the default way."""
        return not (
            endpoint in self.sorted_by
            or endpoint in self.filtered_by
            or endpoint in self.oldest_first
            or (self.null_times and self.nulls != "place")
        )

    def window(self, window: Window, bounds: Bounds) -> tuple[Window, Bounds]:
        """Return the window to compare full times with."""
        if not self.whole_seconds:
            return window, bounds
        since, until = window
        if since is not None and bounds[0] == "(":
            since += SECOND
        if until is not None and bounds[1] == "]":
            until += SECOND
        return (since, until), "[)"

    def arranged(
        self,
        endpoint: Endpoint,
        rows: Iterable[Row],
        key_of: Callable[[Row], str],
        time_of: Callable[[Row, str], datetime],
        *,
        order: str,
        filtered: str,
        window: Window,
        bounds: Bounds,
    ) -> list[Row]:
        """Return the rows of a list that are in a window, in its order.

        Args:
            endpoint: The list.
            rows: All rows.
            key_of: Returns a row's id, which orders rows of the same time.
            time_of: Returns a row's time by name.
            order: The default time for the order.
            filtered: The default time for the window.
            window: `since` and `until`.
            bounds: Whether they are inclusive.
        """
        by = self.sorted_by.get(endpoint, "order_by")
        order = order if by == "order_by" else by
        of = self.filtered_by.get(endpoint, "order_by")
        filtered = filtered if of == "order_by" else of
        window, bounds = self.window(window, bounds)
        if filtered == "ignored":
            window = (None, None)

        def is_null(row: Row, name: str) -> bool:
            return self.nulls != "place" and name in self.null_times.get(key_of(row), ())

        def passes(row: Row) -> bool:
            if window == (None, None):
                return True
            return not is_null(row, filtered) and inside(time_of(row, filtered), window, bounds)

        found = [row for row in rows if passes(row)]
        nulls = [row for row in found if is_null(row, order)]
        timed = sorted(
            (row for row in found if not is_null(row, order)),
            key=lambda row: (time_of(row, order), key_of(row)),
            reverse=endpoint not in self.oldest_first,
        )
        return nulls + timed if self.nulls == "first" else timed + nulls

    def cut(self, endpoint: Endpoint, size: int) -> int:
        """Return the most rows of the next answer of a list."""
        return min(size, self.cuts[endpoint]()) if endpoint in self.cuts else size

    def shown(self, row: Json) -> Json:
        """Return a row with the times and the id that this world shows."""
        name = next((name for name in KEY_FIELDS if name in row), "")
        key = str(row.get(name))
        row = row | dict.fromkeys(self.null_times.get(key, ()))
        if key in self.without_id:
            del row[name]
        return row

    def edit(self, endpoint: Endpoint, body: Any) -> Any:
        """Return an answer with its rows as this world shows them."""
        if isinstance(body, dict) and (self.null_times or self.without_id):
            # One dialect has its users one level deeper.
            holder = body["data"] if isinstance(body.get("data"), dict) else body
            rows = holder.get(list_key(endpoint))
            if isinstance(rows, list):
                holder[list_key(endpoint)] = [self.shown(row) for row in rows]
        return body
