"""A small server that replies with recorded answers of the real API.

The recorded answers (`RECORDED`) are beside the project, and not a part of it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tap import Json

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "recorded"
STREAMS = (
    "pages",
    "conversations",
    "messages",
    "conversation_details",
    "customers",
    "tags",
    "users",
)
"""The streams with recorded answers."""
_FILES = {
    "conversations": ("conversations_v2-*", "conversations"),
    "messages": ("messages-*", "messages"),
    "customers": ("page_customers-*", "customers"),
    "tags": ("tags-*", "tags"),
    "users": ("users-*", "users"),
}
"""Stream → the pattern of its files, and the key of its rows."""
FACEBOOK = "8232708581465811"
"""The page of the recorded customers, tags and users."""


def answers(pattern: str) -> list[Any]:
    return [json.loads(file.read_bytes()) for file in sorted(RECORDED.glob(f"{pattern}.json"))]


@cache
def categorized() -> Json:
    """Return the pages of all accounts, by category."""
    merged: Json = {}
    for answer in answers("list_pages-*"):
        for category, pages in answer["categorized"].items():
            merged.setdefault(category, []).extend(pages)
    return merged


@cache
def rows(stream: str) -> list[Json]:
    """Return all recorded rows of a stream, with their page."""
    if stream == "pages":
        return [{**page, "category": "activated"} for page in categorized()["activated"]]
    if stream == "conversation_details":
        return [{"page_id": row["page_id"], **details(row["id"])} for row in rows("conversations")]
    pattern, key = _FILES[stream]
    found = [row for answer in answers(pattern) for row in answer[key]]
    if stream == "conversations":
        # Of some conversations, only the messages were recorded.
        listed = {row["id"] for row in found}
        newest = {row["conversation_id"]: row for row in sorted(rows("messages"), key=_sent)}
        found += [
            {
                **found[0],
                "page_id": row["page_id"],
                "id": name,
                "updated_at": row["inserted_at"],
            }
            for name, row in newest.items()
            if name not in listed
        ]
        # Of others, some messages or only their count were recorded: messages would be missing.
        came = Counter(row["conversation_id"] for row in rows("messages"))
        found = [
            {**row, "message_count": min(row["message_count"], came[row["id"]])} for row in found
        ]
    return [{"page_id": FACEBOOK, **row} for row in found]


@cache
def details(conversation: str) -> Json:
    """Return the fields beside the newest messages of a conversation; few if none was recorded."""
    held = [answer for answer in answers("messages-*") if answer["conversation_id"] == conversation]
    newest: Json = max(
        held,
        key=lambda answer: max(map(_sent, answer["messages"])),
        default={"conversation_id": conversation, "can_inbox": True},
    )
    return {name: newest[name] for name in newest if name not in {"success", "messages"}}


def _sent(row: Json) -> str:
    return str(row["inserted_at"])


def _seconds(row: Json, name: str) -> float:
    return datetime.fromisoformat(row[name]).replace(tzinfo=UTC).timestamp()


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the recorded lists, as the reference describes them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        body = json.dumps(_answer(unquote(address.path), asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _answer(path: str, asked: dict[str, str]) -> Json:
    if path == "/api/v1/pages":
        return {"success": True, "categorized": categorized()}
    found = re.fullmatch(r"/api/public_api/v[12]/pages/([^/]+)/(.+)", path)
    assert found, path
    page_id, rest = found.groups()
    if rest.endswith("/messages"):
        conversation = rest.split("/")[1]
        held = [row for row in rows("messages") if row["conversation_id"] == conversation]
        held.sort(key=_sent, reverse=True)
        skip = int(asked.get("current_count", 0))
        batch = held[skip : skip + 30][::-1]
        return {"success": True, **details(conversation), "messages": batch}
    name = {"page_customers": "customers"}.get(rest, rest)
    held = [row for row in rows(name) if row["page_id"] == page_id]
    if name == "users":
        return {**answers("users-*")[0], "users": held}
    if name in {"conversations", "customers"}:
        default = "updated_at" if name == "conversations" else "inserted_at"
        order = asked.get("order_by", default)
        since, until = float(asked.get("since", 0)), float(asked.get("until", "inf"))
        held = [row for row in held if since <= _seconds(row, order) <= until]
        held.sort(key=lambda row: str(row[order]), reverse=True)
        if last := asked.get("last_conversation_id"):
            ids = [row["id"] for row in held]
            held = held[ids.index(last) + 1 :]
        skip = (int(asked.get("page_number", 1)) - 1) * int(asked.get("page_size", 60))
        total, held = len(held), held[skip : skip + int(asked.get("page_size", 60))]
        return {"success": True, "total": total, name: held}
    return {"success": True, name: held}


@contextmanager
def serve() -> Iterator[str]:
    """Serve the recorded answers, and yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
