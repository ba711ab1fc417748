"""Requests to the bundled server over HTTP, for its own tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tests.pancake_api import Account

if TYPE_CHECKING:
    from tests.pancake_api import Conversation, Page, PancakeServer

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def seconds(at: datetime) -> int:
    return int(at.timestamp())


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int | None]:
        """The HTTP status and `error_code` of a refusal."""
        assert self.json["success"] is False
        return self.status, self.json.get("error_code")


class Redirected(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect, so that tests see the redirect itself."""


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), Redirected)


def get(
    server: PancakeServer, path: str, *, method: str = "GET", timeout: float = 5, **params: Any
) -> Answer:
    query = urlencode(
        {key: value for key, value in params.items() if value is not None}, doseq=True
    )
    request = urllib.request.Request(f"{server.url}{path}?{query}", method=method)
    try:
        with OPENER.open(request, timeout=timeout) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


def pages(server: PancakeServer, token: str | None = None) -> Answer:
    return get(server, "/api/v1/pages", access_token=token or server.account.user_token)


def conversations(server: PancakeServer, page: Page, version: str = "v2", **params: Any) -> Answer:
    params.setdefault("page_access_token", page.token)
    return get(server, f"/api/public_api/{version}/pages/{quote(page.id)}/conversations", **params)


def messages(server: PancakeServer, page: Page, conversation_id: str, **params: Any) -> Answer:
    params.setdefault("page_access_token", page.token)
    conversation = f"pages/{quote(page.id)}/conversations/{quote(conversation_id, safe='')}"
    return get(server, f"/api/public_api/v1/{conversation}/messages", **params)


def ids(answer: Answer) -> list[str]:
    return [row["id"] for row in answer.json["conversations"]]


def walk(server: PancakeServer, page: Page, **params: Any) -> list[str]:
    """Return all conversation ids of a v2 list, read with its cursor."""
    found: list[str] = []
    while batch := ids(
        conversations(server, page, last_conversation_id=found[-1] if found else None, **params)
    ):
        found += batch
    return found


def small_account(
    conversations: int = 3, **options: Any
) -> tuple[Account, Page, list[Conversation]]:
    """Return an account with one page, whose conversations are a second apart, from NOON on."""
    account = Account()
    page = account.add_page(**options)
    made = [
        page.add_conversation(at=NOON + timedelta(seconds=second))
        for second in range(conversations)
    ]
    return account, page, made


def of_page(server: PancakeServer, page: Page, path: str, **params: Any) -> Answer:
    """Request anything else of a page, by the last part of its path."""
    params.setdefault("page_access_token", page.token)
    return get(server, f"/api/public_api/v1/pages/{quote(page.id)}/{path}", **params)


LISTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "customers": ("page_customers", "customers", {"page_number": 1, "page_size": 100}),
    "posts": ("posts", "posts", {"page_number": 1, "page_size": 30}),
    "ad_conversations": ("export_data", "data", {"action": "conversations_from_ads"}),
}
"""List → its path, the key of its rows, and its required parameters."""


def listed(server: PancakeServer, page: Page, stream: str, **params: Any) -> list[Any]:
    """Return the rows of one answer of a list, by default of all times."""
    if stream == "conversations":
        answer, key = conversations(server, page, **params), "conversations"
    else:
        path, key, always = LISTS[stream]
        bounds = {"since": 0, "until": seconds(NOON) * 2}
        answer = of_page(server, page, path, **bounds | always | params)
    rows: list[Any] = answer.json[key]
    return rows
