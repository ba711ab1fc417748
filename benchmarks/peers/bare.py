"""A bare asyncio script that only fetches and writes lines, to show what is possible.

Each page has a rate of its own, and reads several conversations at once. There is no state, no
schema and no SDK, so no tool can cost less.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

Row = dict[str, Any]

LIST_CUT = 60
BATCH_CUT = 30
AT_ONCE = 8
"""Conversations of a page at once, enough for 5 calls a second at a latency of one second."""
TOO_MANY = 429


class Page:
    """One page, with its token, its rate and its calls."""

    def __init__(self, session: aiohttp.ClientSession, page: Row, rate: float) -> None:
        """Begin without calls."""
        self.session = session
        self.id = page["id"]
        self.path = quote(self.id, safe="")
        self.token = page["settings"]["page_access_token"]
        self.pause = 1 / rate if rate else 0.0
        self.next_at = 0.0
        self.slots = asyncio.Semaphore(AT_ONCE)

    async def get(self, version: str, path: str, **params: str | int) -> Row:
        """Make one call as soon as the page's rate allows it, and return its answer."""
        url = f"/api/public_api/{version}/pages/{self.path}/conversations{path}"
        while True:
            if self.pause:
                now = time.monotonic()
                at = max(now, self.next_at)
                self.next_at = at + self.pause
                await asyncio.sleep(at - now)
            query = {"page_access_token": self.token, **params}
            async with self.session.get(url, params=query) as answer:
                if answer.status == TOO_MANY:
                    self.next_at = max(self.next_at, time.monotonic() + 1)
                    continue
                answer.raise_for_status()
                body: Row = orjson.loads(await answer.read())
                return body

    async def read(self) -> None:
        """Read all conversations and their messages."""
        async with asyncio.TaskGroup() as group:
            last: dict[str, str | int] = {}
            while True:
                rows = (await self.get("v2", "", **last))["conversations"]
                write("conversations", rows)
                for row in rows:
                    await self.slots.acquire()
                    group.create_task(self.read_messages(row["id"]))
                if len(rows) < LIST_CUT:
                    return
                last = {"last_conversation_id": rows[-1]["id"]}

    async def read_messages(self, conversation_id: str) -> None:
        """Read all messages of one conversation."""
        path = f"/{quote(conversation_id, safe='')}/messages"
        count = 0
        while True:
            rows = (await self.get("v1", path, current_count=count))["messages"]
            write("messages", rows)
            count += len(rows)
            if len(rows) < BATCH_CUT:
                break
        self.slots.release()


def write(stream: str, rows: list[Row]) -> None:
    """Write rows as lines."""
    sys.stdout.buffer.writelines(
        orjson.dumps({"stream": stream, "record": row}) + b"\n" for row in rows
    )


async def main() -> None:
    """Read all pages side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second for each page")
    arguments = parser.parse_args()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(arguments.url, connector=connector) as session:
        async with session.get("/api/v1/pages", params={"access_token": arguments.token}) as answer:
            pages = orjson.loads(await answer.read())["categorized"]["activated"]
        for page in pages:
            write("pages", [page])
        async with asyncio.TaskGroup() as group:
            for page in pages:
                group.create_task(Page(session, page, arguments.rate).read())


if __name__ == "__main__":
    asyncio.run(main())
