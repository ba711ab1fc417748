"""One request of the tap's own transport, and an answer as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_pancake.api.transport import Transport

if TYPE_CHECKING:
    from tap_pancake.api.transport import Answer
    from tests.pancake_api import PancakeServer

TOKEN = "uSerTokenHead-uSerTokenTail"
BODY = b'{"success": true, "pages": []}'


def answer_bytes(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    """Return a whole answer as the server sends it."""
    head = [f"HTTP/1.1 {status}", *lines, f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def ask(server: PancakeServer, transport: Transport | None = None, **query: str) -> Answer:
    """Send one request with a token, as the tap does."""
    transport = transport or Transport(timeout=0.5, user_agent="tests", connections=1)
    url = f"{server.url}/api/v1/pages"
    return transport.get(
        url, query, {"access_token": TOKEN}, where="pages", wait=lambda connect: connect()
    )
