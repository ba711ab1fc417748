"""The rows of the server in the form that the tap must write, and states to begin from."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.tap import key_of, part_of

if TYPE_CHECKING:
    from tests.pancake_api import Conversation, Page, PancakeServer
    from tests.tap import Json, Run

    Rows = dict[str, dict[tuple[str, ...], Json]]

SECRETS = frozenset({"settings", "session_id", "token_for_business"})
UNDESCRIBED = "edit_history"
"""A column of unknown content, in which a text that looks like a time stays as it is."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z?")


def text(at: datetime) -> str:
    """Return a time in the form that the tap writes."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Ids that may be numbers in an answer.
_IDS = frozenset({"app_id", "flow_id", "order_id", "province_id", "district_id", "commune_id"})


def _of_one_form(name: str, value: Any) -> Any:
    """Return a value in the column's form, for any form of the answer."""
    if name == "birthday" and isinstance(value, dict):
        return f"{value['year'] or 0:04}-{value['month'] or 0:02}-{value['date'] or 0:02}"
    if name == "private_reply_conversation" and isinstance(value, str):
        return {"id": value}
    if name == UNDESCRIBED and isinstance(value, dict):
        return [value]
    if name == "tags" and isinstance(value, list):
        bare = {int: "id", str: "text"}
        return [{bare[type(tag)]: tag} if type(tag) in bare else tag for tag in value]
    if name == "recent_orders" and isinstance(value, list):
        return [{**order, "id": str(order["id"])} for order in value]
    return str(value) if name in _IDS and isinstance(value, int) else value


def written(value: Any, *, described: bool = True) -> Any:
    """Return a value of an answer as a record must hold it: in one form, without credentials."""
    if isinstance(value, dict):
        return {
            name: written(_of_one_form(name, part), described=described and name != UNDESCRIBED)
            for name, part in value.items()
            if name not in SECRETS
        }
    if isinstance(value, list):
        return [written(part, described=described) for part in value]
    if described and isinstance(value, str) and (time := _TIME.fullmatch(value)):
        return f"{time[1]}{time[2] or '.':0<7}Z"
    return value


def _unsigned(page: Json) -> Json:
    """Return a page without the signature of its picture, which differs in each answer."""
    avatar = page.get("avatar_url")
    return page if avatar is None else {**page, "avatar_url": avatar.partition("?")[0]}


def rows_of(server: PancakeServer) -> Rows:
    """Return the rows of activated pages, conversations and messages, by stream and key."""
    body = server.dialect.pages_body(server.account)
    groups = body.get("categorized") or body.get("categorized_pages")
    pages = groups["activated"] if groups else body["pages"]
    wire: dict[str, list[Json]] = {
        "pages": [{**_unsigned(page), "category": "activated"} for page in pages],
        "conversations": [],
        "messages": [],
    }
    for page_id, conversation_id in server.expected().conversations:
        wire["conversations"].append(server.row(page_id, conversation_id))
        wire["messages"] += server.message_rows(page_id, conversation_id)
    return {
        stream: {key_of(stream, row): {**written(row), "other_fields": None} for row in rows}
        for stream, rows in wire.items()
    }


def merged(stream: str, *runs: Run) -> dict[tuple[str, ...], Json]:
    """Return the rows of a target that upserts after some runs."""
    rows: dict[tuple[str, ...], Json] = {}
    for run in runs:
        rows |= run.by_key(stream)
    return rows


def assert_all_arrived(server: PancakeServer, *runs: Run) -> None:
    """Assert that a target that upserts holds the server's rows after some runs."""
    for stream, rows in rows_of(server).items():
        arrived = merged(stream, *runs)
        assert arrived.keys() == rows.keys(), stream
        assert arrived == rows, stream


def assert_complete(server: PancakeServer, *runs: Run) -> None:
    """Assert that all conversations and messages arrived, with the times that they have now."""
    truth = server.expected()
    for stream, name, rows in (
        ("conversations", "updated_at", truth.conversations),
        ("messages", "inserted_at", truth.messages),
    ):
        arrived = merged(stream, *runs)
        assert arrived.keys() == rows.keys()
        for key, row in rows.items():
            assert arrived[key][name] == text(row[name]), (stream, key)


def read_to(part: Json) -> str:
    """Return the time up to which a page's state claims all rows; empty if it claims none."""
    lows = [str(low) for low, _ in part.get("open", [])]
    return min([str(part.get("replication_key_value", "")), *lows])


def assert_bookmarks_hold(server: PancakeServer, *runs: Run) -> None:
    """Assert that all messages arrived up to the time that the last state claims."""
    arrived = merged("messages", *runs)
    for page in server.account.pages:
        bookmark = read_to(part_of(runs[-1].state, "messages", page.id))
        if bookmark:
            before = page.expected_messages(until=datetime.fromisoformat(bookmark))
            assert before.keys() <= arrived.keys()


def show_the_order(page: Page) -> None:
    """Add a message to the oldest conversations of a page, as happens on any real page.

    Otherwise each conversation ends before the next one begins. Then nothing shows by which time
    the list is sorted, and the tap reads the whole list.
    """
    oldest = sorted(page.conversations.values(), key=lambda talk: talk.inserted_at)[:2]
    newest = max(talk.updated_at for talk in page.conversations.values())
    for number, talk in enumerate(oldest, 1):
        page.receive(talk.id, at=newest + timedelta(minutes=number))


def conversation_key(conversation: Conversation) -> tuple[str, str]:
    """Return a conversation's primary key."""
    return conversation.page_id, conversation.id


def message_keys(*conversations: Conversation) -> set[tuple[str, str]]:
    """Return the primary keys of all messages of some conversations."""
    return {(known.id, message.id) for known in conversations for message in known.messages}


def message_calls(server: PancakeServer) -> Counter[str]:
    """Return the number of requests for messages of each conversation."""
    return Counter(
        call.conversation_id or "" for call in server.calls if call.endpoint == "messages"
    )


def state_of(
    page: Page, *, conversations: datetime | None = None, messages: datetime | None = None
) -> Json:
    """Return a state with these bookmarks of one page."""
    bookmarks = {
        "conversations": ("updated_at", conversations),
        "messages": ("inserted_at", messages),
    }
    return {
        "bookmarks": {
            stream: {
                "partitions": [
                    {
                        "context": {"page_id": page.id},
                        "replication_key": key,
                        "replication_key_value": text(at),
                        "floor": "",
                    }
                ]
            }
            for stream, (key, at) in bookmarks.items()
            if at is not None
        }
    }
