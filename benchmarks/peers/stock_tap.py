"""The same streams as a stock singer-sdk tap, as its template and documentation suggest.

Everything else is the SDK's default: its writer, its conformance of records, its retries, and its
state for every parent. With many conversations, that state costs more than everything else, so the
tap can also keep it by page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import BaseAPIPaginator, BaseOffsetPaginator
from typing_extensions import override

if TYPE_CHECKING:
    import requests
    from singer_sdk.helpers.types import Context, Record

SCHEMAS = Path(__file__).parents[2] / "tap_pancake" / "schemas"
LIST_CUT = 60
BATCH_CUT = 30


def schema_of(name: str) -> dict[str, Any]:
    """Load a schema of tap-pancake, with the `properties` that the SDK's conformance needs."""

    def complete(part: Any) -> Any:
        if isinstance(part, dict) and "object" in part.get("type", []):
            part.setdefault("properties", {})
        return part

    text = (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text, object_hook=complete)
    return schema


class PancakeStream(RESTStream[Any]):
    """The base class of all streams."""

    @property
    @override
    def url_base(self) -> str:
        return f"{self.config['api_url']}/api"

    @property
    def page_tokens(self) -> dict[str, str]:
        """Page id → token, filled by the stream of pages."""
        assert isinstance(self._tap, StockTap)
        return self._tap.page_tokens


class PagesStream(PancakeStream):
    """The pages of the account."""

    name = "pages"
    schema = schema_of("pages")
    path = "/v1/pages"
    primary_keys = ("id",)
    records_jsonpath = "$.categorized.activated[*]"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        return {"access_token": self.config["access_token"]}

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        self.page_tokens[record["id"]] = record["settings"]["page_access_token"]
        return {"page_id": record["id"]}


class CursorPaginator(BaseAPIPaginator[str | None]):
    """The next list begins after the last conversation of this one."""

    @override
    def get_next(self, response: requests.Response) -> str | None:
        rows = response.json()["conversations"]
        return rows[-1]["id"] if len(rows) == LIST_CUT else None


class ConversationsStream(PancakeStream):
    """The conversations of a page."""

    name = "conversations"
    schema = schema_of("conversations")
    path = "/public_api/v2/pages/{page_id}/conversations"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"
    records_jsonpath = "$.conversations[*]"

    @override
    def get_new_paginator(self) -> CursorPaginator:
        return CursorPaginator(None)

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        assert context is not None
        params = {"page_access_token": self.page_tokens[context["page_id"]]}
        if next_page_token:
            params["last_conversation_id"] = next_page_token
        return params

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        return {"page_id": record["page_id"], "conversation_id": record["id"]}


class OffsetPaginator(BaseOffsetPaginator):
    """The next batch begins after the messages so far."""

    @override
    def has_more(self, response: requests.Response) -> bool:
        return len(response.json()["messages"]) == BATCH_CUT


class MessagesStream(PancakeStream):
    """The messages of a conversation."""

    name = "messages"
    schema = schema_of("messages")
    path = "/public_api/v1/pages/{page_id}/conversations/{conversation_id}/messages"
    parent_stream_type = ConversationsStream
    primary_keys = ("conversation_id", "id")
    replication_key = "inserted_at"
    records_jsonpath = "$.messages[*]"

    def __init__(self, tap: StockTap) -> None:
        """Keep state for each conversation (the default), or only for each page."""
        super().__init__(tap)
        if self.config["state_by_page"]:
            self.state_partitioning_keys = ["page_id"]

    @override
    def get_new_paginator(self) -> OffsetPaginator:
        return OffsetPaginator(start_value=0, page_size=BATCH_CUT)

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        assert context is not None
        return {
            "page_access_token": self.page_tokens[context["page_id"]],
            "current_count": next_page_token,
        }


class StockTap(Tap):
    """The stock tap."""

    name = "tap-stock"
    config_jsonschema = th.PropertiesList(
        th.Property("access_token", th.StringType, required=True, secret=True),
        th.Property("api_url", th.StringType, required=True),
        th.Property("state_by_page", th.BooleanType, default=False),
    ).to_dict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without page tokens."""
        self.page_tokens: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    @override
    def discover_streams(self) -> list[PancakeStream]:
        return [PagesStream(self), ConversationsStream(self), MessagesStream(self)]


if __name__ == "__main__":
    StockTap.cli()
