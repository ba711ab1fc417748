"""The rows of a page besides conversations, and their form in each dialect.

Customers come from the conversations; posts and calls are invented. Times are aware, in whole
seconds, as these lists show no more (the reference, section 3).
"""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from . import invented

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .account import Conversation, Customer, Json, Page
    from .dialects import Observed

ADS_A_CALL = 20  # the reference, 24
POST_TYPES = ("photo", "video", "text", "livestream", "rating")
CALL_STATES = ("completed", "missed", "busy")


def _whole(at: datetime) -> datetime:
    return at.replace(microsecond=0)


class Belongings:
    """The customers, posts and calls of a page. Tests may change the rows in place."""

    def __init__(self, page: Page) -> None:
        """Begin with the customers of the page's conversations."""
        self._page = page
        self._rng = Random(f"{page.account.seed}:{page.id}:belongings")
        self._added: dict[str, Json] = {}
        self._touched: dict[str, datetime] = {}
        self.posts: dict[str, Json] = {}
        self.calls: dict[str, Json] = {}
        self.unknown_ads: set[str] = set()
        """The advertisements that conversations name and Pancake does not know."""
        self.sip_package_id = f"sip-{page.number}"

    def fill(self, start: datetime, end: datetime, *, posts: int = 12, calls: int = 9) -> None:
        """Invent some posts and calls between two times."""
        span = (end - start) // timedelta(seconds=1)
        for _ in range(posts):
            self.add_post(start + timedelta(seconds=self._rng.randrange(span)))
        for _ in range(calls):
            self.add_call(start + timedelta(seconds=self._rng.randrange(span)))

    def add_customer(self, at: datetime, updated_at: datetime | None = None) -> str:
        """Add a customer without a conversation, and return the id."""
        rng, page = self._rng, self._page
        customer_id = invented.uuid(rng)
        self._added[customer_id] = {
            "id": customer_id,
            "customer_id": invented.uuid(rng),
            "psid": f"9{page.number:04d}{len(self._added):08d}",
            "thread_id": None,
            "name": invented.person(page.channel.language, rng),
            "gender": rng.choice(("male", "female", None)),
            "birthday": None,
            "can_inbox": False,
            "phone_numbers": [],
            "notes": None,
            "recent_orders": None,
            "inserted_at": _whole(at),
            "updated_at": _whole(updated_at or at),
        }
        return customer_id

    def touch_customer(self, customer_id: str, at: datetime) -> None:
        """Change a customer at a time."""
        self._touched[customer_id] = _whole(at)

    def add_post(self, at: datetime) -> str:
        """Add a post, and return its id."""
        rng, page = self._rng, self._page
        number = len(self.posts) + 1
        post_id = f"{page.id}_8{number * 7_919 % 100_000:05d}{number:04d}"
        kind = rng.choice(POST_TYPES)
        likes = rng.randrange(90)
        self.posts[post_id] = {
            "id": post_id,
            "page_id": None if page.platform.startswith("tiktok") else page.id,
            "from": {"id": page.id, "name": page.name},
            "admin_creator": {"id": page.staff[0].fb_id, "name": page.staff[0].name}
            if rng.random() < 0.5
            else None,
            "message": invented.sentence(page.channel.language, rng),
            "type": kind,
            "sub_type": None,
            "live_video_status": "vod" if kind == "livestream" else None,
            "is_removed": rng.random() < 0.1,
            "is_visitor_post": False,
            "story_tags": [{"id": page.id, "name": page.name, "type": "page"}],
            "comment_count": rng.randrange(40),
            "like_count": likes,
            "reaction_count": likes + 3,
            "phone_number_count": rng.randrange(4),
            "reactions": {"like_count": likes, "love_count": 3},
            "inserted_at": _whole(at),
            "updated_at": _whole(at) + timedelta(hours=1),
        }
        return post_id

    def add_call(self, at: datetime) -> str:
        """Add a telephone call, and return its id."""
        rng, page = self._rng, self._page
        call_id = f"call-{page.number}-{len(self.calls) * 7_919 % 100_003:06d}"
        self.calls[call_id] = {
            "call_id": call_id,
            "caller": invented.phone(rng),
            "callee": None if rng.random() < 0.1 else invented.phone(rng),
            "start_time": _whole(at),
            "duration": rng.randrange(600),
            "status": rng.choice(CALL_STATES),
        }
        return call_id

    def remove(self, key: str) -> None:
        """Delete a customer without a conversation, a post or a telephone call."""
        for rows in (self._added, self.posts, self.calls):
            rows.pop(key, None)

    def as_of(self, page: Page, at: datetime) -> Belongings:
        """Return the rows of a page as it was at a time."""
        old = copy(self)
        old._turn_back(page, at)  # noqa: SLF001 - of the same class
        return old

    def _turn_back(self, page: Page, at: datetime) -> None:
        self._page = page
        self._added, self.posts, self.calls = (
            {key: row for key, row in rows.items() if row[name] <= at}
            for rows, name in (
                (self._added, "inserted_at"),
                (self.posts, "inserted_at"),
                (self.calls, "start_time"),
            )
        )
        self._touched = {key: then for key, then in self._touched.items() if then <= at}

    def customers(self, dialect: Observed) -> list[Json]:
        """Return all customers, including those of conversations."""
        found = dict(self._added)
        for conversation in self._page.conversations.values():
            for customer in conversation.customers if conversation.messages else ():
                found[customer.id] = _customer_of(dialect, conversation, customer)
        return [
            {**row, "updated_at": max(row["updated_at"], self._touched.get(key, row["updated_at"]))}
            for key, row in found.items()
        ]


def _customer_of(dialect: Observed, conversation: Conversation, customer: Customer) -> Json:
    known = dialect._page_customer(conversation)  # noqa: SLF001 - one family of forms
    inbox = conversation.type == "INBOX"
    row = {
        "id": customer.id,
        "customer_id": customer.customer_id,
        "psid": customer.psid,
        "thread_id": f"{conversation.page_id}_{customer.psid}" if inbox else None,
        "name": customer.name,
        "gender": customer.gender,
        "birthday": customer.birthday
        if dialect.name == "older" or customer.birthday is None
        else "{year:04d}-{month:02d}-{date:02d}".format(**customer.birthday),
        "can_inbox": inbox,
        "phone_numbers": [phone for phone, _, _ in conversation.captures],
        "notes": known["notes"],
        "recent_orders": known["recent_orders"],
        "inserted_at": _whole(customer.inserted_at),
        "updated_at": _whole(max(conversation.updated_at, customer.inserted_at)),
    }
    if customer.lives_in is not None:
        row["lives_in"] = customer.lives_in
    return row


def wire(dialect: Observed, row: Json) -> Json:
    """Return a row with its times as answers have them."""
    return {
        name: dialect.seconds(value) if hasattr(value, "tzinfo") else value
        for name, value in row.items()
    }


def users_body(dialect: Observed, page: Page) -> Json:
    """Return the answer of the users of a page."""
    users: list[Json] = [
        {
            "id": staff.id,
            "name": staff.name,
            "status": "available",
            "fb_id": staff.fb_id,
            "page_permissions": {"permissions": [100, 71, 81]},
            "status_in_page": staff.status,
            "is_online": False,
        }
        for staff in page.staff
        if staff.status == "active"
    ]
    if users and dialect.name != "documented":
        users[0]["email"] = "staff@shop.example"
        users[0]["fb_id"] = None
    body: Json = {
        "users": users,
        "disabled_users": [
            {"id": staff.id, "name": staff.name, "fb_id": staff.fb_id}
            for staff in page.staff
            if staff.status != "active"
        ],
        "round_robin_users": {
            "inbox": [user["id"] for user in users[:1]],
            "comment": [user["id"] for user in users[1:2]],
        },
    }
    # One client also accepts all this one level deeper (the reference, section 11).
    return {"success": True, **({"data": body} if dialect.name == "older" else body)}


def tags_body(dialect: Observed, page: Page) -> Json:
    """Return the answer of the tags of a page, which has no `success`."""
    rows = []
    for tag in page.tags.values():
        row: Json = {
            "id": tag.id,
            "text": tag.text,
            "color": tag.color,
            "lighten_color": tag.lighten_color,
        }
        if tag.is_deactive:
            row["is_deactive"] = True
        if tag.id == 1:
            row["is_lead_event"] = True
        if dialect.name != "observed":
            row["description"] = f"Tag {tag.id}"
        rows.append(row)
    return {"tags": rows}


def export_row(dialect: Observed, page: Page, conversation: Conversation) -> Json:
    """Return a conversation as in the export of conversations from advertisements."""

    def time(at: datetime) -> str:
        return dialect.time(at).rstrip("Z") + ("Z" if dialect.name == "documented" else "")

    return {
        "id": dialect.conversation_id(conversation),
        "tags": [page.tags[tag_id].text for tag_id in conversation.tag_ids if tag_id is not None],
        "from": conversation.starter,
        "inserted_at": time(conversation.inserted_at),
        "updated_at": time(conversation.updated_at),
        "customers": [
            {"id": customer.id, "fb_id": customer.psid, "name": customer.name}
            for customer in conversation.customers
        ],
        "recent_phone_numbers": [phone for phone, _, _ in conversation.captures],
        "recent_seen_users": [
            {
                "fb_id": page.staff[0].fb_id,
                "fb_name": page.staff[0].name,
                "seen_at": time(conversation.updated_at),
            }
        ],
        "thread_key": f"t_{conversation.psid}",
        "psid": conversation.psid,
        "ad_clicks": list(conversation.ad_ids),
        "is_banned": False,
        "assignees": [{"id": staff.id, "name": staff.name} for staff in conversation.assignees],
    }


def ad_row(page: Page, ad_id: str, *, named: bool) -> Json:
    """Return an advertisement: only its id if no conversation names it."""
    if not named or ad_id in page.belongings.unknown_ads:
        return {"id": ad_id}
    rng = Random(f"{page.account.seed}:{page.id}:ad:{ad_id}")
    row: Json = {"id": ad_id, "name": invented.sentence(page.channel.language, rng)}
    if rng.random() < 0.8:
        row["image_url"] = f"https://ads.example/{ad_id}.jpg"
    if rng.random() < 0.8:
        campaign_id = f"7{page.number:05d}{rng.randrange(3):09d}"
        row |= {"campaign_id": campaign_id, "campaign_name": f"Campaign {campaign_id[-1]}"}
    if rng.random() < 0.8:
        row["account_id"] = f"5{page.number:05d}"
    return row


def ad_ids(page: Page) -> list[str]:
    """Return the advertisements that conversations name; only INBOX does (the reference, 7.5)."""
    conversations = [
        one for one in page.conversations.values() if one.messages and one.type == "INBOX"
    ]
    return sorted({ad_id for one in conversations for ad_id in one.ad_ids})


def ads_body(page: Page, ids_text: str | None, kind: str | None) -> Json | None:
    """Return the answer of the advertisements with some ids; None if the parameters are wrong.

    It is the same in each dialect, as there is one source. A wrong type finds nothing.
    """
    asked = [ad_id for ad_id in (ids_text or "").split(",") if ad_id]
    if not 0 < len(asked) <= ADS_A_CALL or kind not in {"ads", "tt_ads"}:
        return None
    is_right = (kind == "tt_ads") == page.platform.startswith("tiktok")
    named = set(ad_ids(page)) if is_right else set()
    rows = [ad_row(page, ad_id, named=ad_id in named) for ad_id in asked]
    return {"success": True, "data": rows}


def newest_first(
    rows: list[Json],
    key: Callable[[Json], Any],
    *,
    descending: bool = True,
) -> list[Json]:
    """Return rows sorted by a time, and rows of the same time in an order of their own."""
    return sorted(
        rows, key=lambda row: (key(row), str(next(iter(row.values())))), reverse=descending
    )
