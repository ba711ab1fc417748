"""Accounts with rows for every stream, and the dates around them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.pancake_api import Account
from tests.stream_truth import utc

if TYPE_CHECKING:
    from datetime import datetime

DIALECTS = ("observed", "documented", "older")
FIRST, LAST = utc(2025, 12, 27, 3), utc(2026, 1, 8, 15)
BEFORE_AND_AFTER = {
    "start_date": "2025-12-25T00:00:00Z",
    "end_date": "2026-01-12T00:00:00Z",
}

MAY: Any = {"start": utc(2026, 5, 1), "end": utc(2026, 5, 9)}
"""The start and end of a generated account."""
AROUND_MAY = {"start_date": "2026-05-01", "end_date": "2026-05-10"}
"""Settings that read all of `MAY`."""


def full_account(
    dialect: str = "observed",
    *,
    first: datetime = FIRST,
    last: datetime = LAST,
    pages: int = 3,
    messages: tuple[int, int] = (1, 4),
) -> Account:
    """Return an account with rows for every stream, on pages in different time zones."""
    account = Account.generate(
        seed=31, pages=pages, conversations=12, messages=messages, start=first, end=last
    )
    # The official document has no time zone, so the tap assumes the usual one.
    for page, hours in zip(account.pages[:pages], itertools.cycle((7, 5.5, -9.5)), strict=False):
        page.timezone = 7 if dialect == "documented" else hours
        for number, conversation in enumerate(list(page.conversations.values())[::2]):
            conversation.ad_ids = [f"4{page.number:014d}", f"8{page.number:05d}{number:09d}"]
        page.belongings.unknown_ads = {f"4{page.number:014d}"}
    return account


def crowded_account(stream: str) -> Account:
    """Return an account with one page that has many rows of a stream."""
    begin = utc(2025, 12, 1, 3)
    account = Account(seed=5)
    page = account.add_page(timezone=7)
    page.statistics.since, page.statistics.until = begin, utc(2026, 1, 10)
    page.fill(10, (1, 2), begin, begin + timedelta(days=1))
    hours = (begin + timedelta(minutes=number * 7) for number in range(300))
    match stream:
        case "conversations" | "conversation_details":
            page.fill(300, (1, 1), begin, utc(2026, 1, 10))
        case "messages":
            conversation = page.add_conversation(at=begin)
            for at in hours:
                page.receive(conversation.id, at=at)
        case "new_customer_statistics":  # only of some days
            page.statistics.since = utc(2025, 6, 1)
        case "ad_conversations" | "ads":
            page.fill(200, (1, 1), begin, utc(2026, 1, 10))
            for one in page.conversations.values():
                one.ad_ids = [f"4{one.serial}"]
        case "customers":
            for at in hours:
                page.belongings.add_customer(at, at)
        case "posts" | "call_logs":
            for at in hours:
                page.belongings.add_post(at)
                page.belongings.add_call(at)
    return account
