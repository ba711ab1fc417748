"""The data of Pancake: an account, its pages, their conversations and messages.

Tests compare runs of the tap with this data. Times are aware UTC datetimes with microseconds; their
form in answers is in `dialects`. An account is generated (the same in every process for equal
arguments), or a test builds it step by step. It can change while it is read: `Page.receive` adds a
message.
"""

from __future__ import annotations

import random
import re
import threading
from bisect import bisect_left, insort
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from . import invented
from .feedbacks import Feedbacks
from .lists import Belongings
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import tzinfo

Json = dict[str, Any]
OrderBy = Literal["updated_at", "inserted_at"]
Bounds = Literal["[]", "[)", "(]", "()"]

USER_TOKEN = "user.demo+token/7="
CATEGORIES = ("activated", "inactivated", "hidden", "nopermission")
SNIPPET_LENGTH = 64  # the reference, 7.5 (C31)
TAG_HISTORY_LENGTH = 100  # the reference, 7.1 (user manual)

_BOTS = ("bot", "flow", "automated", "generated", "page itself")
"""The forms of `from` that show an automatic message."""
_PHONE = re.compile(r"0900000\d{3}")
_LINK = re.compile(r"https://[^\s<>\"]+")
_LAST_SERIAL = 1 << 62


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        message = f"a time of the inbox must be aware: {at!r}"
        raise ValueError(message)
    return at.astimezone(UTC)


def _place(message: Message) -> tuple[datetime, int]:
    return message.inserted_at, message.serial


def _scattered(serial: int) -> str:
    """Return nine digits, different for every serial below a billion, in no visible order.

    If ids grew with time, sorting by id would look like sorting by time.
    """
    return f"{serial * 387_420_489 % 1_000_000_000:09d}"


@dataclass(slots=True)
class Staff:
    """A person who answers for the shop."""

    id: str
    name: str
    fb_id: str
    status: str = "active"


@dataclass(slots=True)
class Tag:
    """A tag of one page; `id` has no meaning on another page."""

    id: int
    text: str
    color: str = "#4b5577"
    lighten_color: str = "#c9ccd6"
    is_deactive: bool = False


@dataclass(slots=True)
class TagChange:
    """One entry of a conversation's tag history. Without `editor`, the system made the change."""

    at: datetime
    action: str
    tag: Tag
    editor: Staff | None


@dataclass(slots=True)
class Assignment:
    """One entry of a conversation's assignment history."""

    at: datetime
    added: list[Staff]
    removed: list[Staff]


@dataclass(slots=True)
class Order:
    """An order of a customer; `id` has up to 15 digits."""

    id: int
    display_id: int
    phone_number: str
    inserted_at: datetime
    status_at: datetime


@dataclass(slots=True)
class Note:
    """A note on a customer. Its author has the secrets `session_id` and `token_for_business`."""

    id: str
    message: str | None
    order_id: str | None
    author: Staff
    created_at: datetime
    updated_at: datetime | None = None
    removed_at: datetime | None = None
    pinned: bool = False


@dataclass(slots=True)
class Customer:
    """A customer: `id` on this page, `customer_id` for all pages."""

    id: str
    customer_id: str
    psid: str
    name: str
    inserted_at: datetime
    gender: str | None = None
    global_id: str | None = None
    birthday: dict[str, int] | None = None
    lives_in: str | None = None


@dataclass(slots=True)
class Message:
    """One message. `sender` is the API's `from` object, which is the same in every dialect.

    Tests may change a message in place (`is_removed`, `text`, ...), as nothing is cached.
    """

    page_id: str
    conversation_id: str
    id: str
    serial: int
    type: str
    text: str
    inserted_at: datetime
    sender: Json
    visible_at: datetime | None = None
    attachments: Sequence[Json] = ()
    phones: Sequence[tuple[str, int]] = ()
    parent_id: str | None = None
    private_reply_to: str | None = None
    rich_message: Json | None = None
    edits: Sequence[tuple[datetime, str]] = ()
    like_count: int | None = None
    comment_count: int | None = None
    is_hidden: bool = False
    is_removed: bool = False
    seen: bool = True

    @property
    def links(self) -> list[tuple[str, int]]:
        """The links in the text, each with its offset."""
        return (
            [(found[0], found.start()) for found in _LINK.finditer(self.text)]
            if "https" in self.text
            else []
        )

    @property
    def html(self) -> str:
        """The field `message`: the text as Pancake's own HTML."""
        lines = escape(self.text, quote=False).replace("\n", "<br key='n_0' />")
        return f"<div>{lines}</div>"

    def truth(self) -> Json:
        """Return the fields with the same value in every dialect, under the API's names."""
        return {
            "id": self.id,
            "conversation_id": self.conversation_id,
            "page_id": self.page_id,
            "type": self.type,
            "message": self.html,
            "original_message": self.text,
            "inserted_at": self.inserted_at,
            "from": self.sender,
            "seen": self.seen,
            "has_phone": bool(self.phones),
            "attachments": list(self.attachments),
            "is_hidden": self.is_hidden,
            "is_removed": self.is_removed,
            "parent_id": self.parent_id,
            "like_count": self.like_count,
            "comment_count": self.comment_count,
            "rich_message": self.rich_message,
        }


@dataclass(slots=True)
class Conversation:
    """One thread.

    `messages` are the messages that can be seen, oldest first; `updated_at` is the time of the last
    one. `customer` is the `from` object of the customer's messages. `starter` is the thread's own
    `from`, which is the page itself if the page wrote first.
    """

    page_id: str
    id: str
    serial: int
    type: str
    psid: str
    customers: list[Customer]
    customer: Json
    starter: Json
    inserted_at: datetime
    updated_at: datetime
    post_id: str | None = None
    messages: list[Message] = field(default_factory=list)
    captures: list[tuple[str, str, int]] = field(default_factory=list)
    count_error: int = 0
    tag_ids: list[int | None] = field(default_factory=list)
    tag_histories: list[TagChange] = field(default_factory=list)
    assignees: list[Staff] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    ad_ids: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    @property
    def message_count(self) -> int:
        """The number that Pancake shows, which can be off by one (`count_error`)."""
        return len(self.messages) + self.count_error

    @property
    def snippet(self) -> str | None:
        """The beginning of the last message; None if it has no text."""
        text = self.messages[-1].text
        return (text if len(text) <= SNIPPET_LENGTH else f"{text[:SNIPPET_LENGTH]}…") or None

    @property
    def last_sent_by(self) -> Json:
        """The sender of the last message, without the fields that only messages have."""
        hidden = ("app_id", "flow_id", "page_customer_id")
        return {key: value for key, value in self.messages[-1].sender.items() if key not in hidden}

    @property
    def seen(self) -> bool:
        """Whether the shop has nothing to answer."""
        return bool(self.messages[-1].sender["id"] == self.page_id)

    def truth(self) -> Json:
        """Return the fields with the same value in every dialect, under the API's names.

        `tag_ids` is no field of the API: it has the ids of `tags`, in any of their forms.
        """
        return {
            "id": self.id,
            "page_id": self.page_id,
            "type": self.type,
            "post_id": self.post_id,
            "customer_id": self.customers[0].customer_id,
            "customers": [{"id": c.id, "fb_id": c.psid, "name": c.name} for c in self.customers],
            "from": self.starter,
            "last_sent_by": self.last_sent_by,
            "snippet": self.snippet,
            "seen": self.seen,
            "message_count": self.message_count,
            "has_phone": bool(self.captures),
            "tag_ids": [tag_id for tag_id in self.tag_ids if tag_id is not None],
            "assignee_ids": [staff.id for staff in self.assignees],
            "inserted_at": self.inserted_at,
            "updated_at": self.updated_at,
        }


@dataclass(slots=True)
class Expected:
    """The rows of a full extraction, by page id, (page_id, id) and (conversation_id, id)."""

    pages: dict[str, Json] = field(default_factory=dict)
    conversations: dict[tuple[str, str], Json] = field(default_factory=dict)
    messages: dict[tuple[str, str], Json] = field(default_factory=dict)


class Page:
    """One page: a shop on one channel, with its token and its conversations."""

    def __init__(
        self,
        account: Account,
        page_id: str,
        number: int,
        channel: invented.Channel,
        *,
        name: str | None = None,
        category: str = "activated",
        has_token: bool = True,
        timezone: float | None = None,
    ) -> None:
        """Create the page; tests use `Account.add_page`."""
        self.account = account
        self.id = page_id
        self.number = number
        self.channel = channel
        self.platform = channel.platform
        self.rng = random.Random(f"{account.seed}:{page_id}")
        self.name = name or f"{self.rng.choice(invented.SHOPS[channel.language])} {number}"
        self.category = category
        self.timezone = channel.timezone if timezone is None else timezone
        self.zone: tzinfo | None = None
        """The time zone of the page's statistics, if it is not one fixed offset."""
        self.inserted_at = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(days=number)
        self.plan_lapsed: int | None = None
        self.forbidden = False
        self.old_tokens: set[str] = set()
        self._token_number = 0
        self.token: str | None = None
        if has_token:
            self.renew_token()
        self.staff = [
            Staff(
                invented.uuid(self.rng),
                invented.person(channel.language, self.rng),
                f"3{number:05d}{i:09d}",
            )
            for i in range(3)
        ]
        self.staff[-1].status = "removed"
        self.tags = {i: Tag(i, *look) for i, look in enumerate(invented.TAGS)}
        self.tags[len(invented.TAGS) - 1].is_deactive = True
        self.conversations: dict[str, Conversation] = {}
        self.inboxes: dict[str, Conversation] = {}
        self._by_serial: dict[int, Conversation] = {}
        self._listed: dict[OrderBy, list[tuple[datetime, int]]] = {
            "updated_at": [],
            "inserted_at": [],
        }
        self._pending: list[tuple[datetime, int, Conversation, Message]] = []
        self._removed: list[tuple[datetime, Conversation, Message]] = []
        self._message_serial = 0
        self.refused: dict[str, int] = {}
        """Endpoint → HTTP status or error code of its answers, on this page alone."""
        self.belongings = Belongings(self)
        self.statistics = Statistics(self)
        self.feedbacks = Feedbacks(self)

    # Changes of a page.

    def renew_token(self) -> str:
        """Create and return a new page token; from now on, the old one gets 105."""
        with self.account.lock:
            if self.token is not None:
                self.old_tokens.add(self.token)
            self._token_number += 1
            self.token = f"page.{self.id}+token/{self._token_number}="
            return self.token

    def add_conversation(
        self,
        type: str = "INBOX",  # noqa: A002 - the API's name
        *,
        at: datetime | None = None,
        text: str | None = None,
        visible_at: datetime | None = None,
        stored_at: datetime | None = None,
    ) -> Conversation:
        """Add a conversation with one message of its customer, both at `at` (default: now).

        With a later `stored_at`, the conversation appears late: nothing of it can be seen before,
        and its `inserted_at` is that time. Add more messages with it as their `visible_at`.
        """
        with self.account.lock:
            at = self.account.now() if at is None else _utc(at)
            visible_at = visible_at if stored_at is None else stored_at
            conversation = self._new_conversation(type, at if stored_at is None else stored_at)
            message = self._new_message(conversation, at, self._text_or_any(text), None, first=True)
            self._take(conversation, message, visible_at)
            return conversation

    def receive(
        self,
        conversation_id: str,
        *,
        at: datetime | None = None,
        text: str | None = None,
        sender: str | Json | None = None,
        visible_at: datetime | None = None,
    ) -> Message:
        """Add a message, which moves the conversation's `updated_at`.

        Args:
            conversation_id: The id in this account (not the PSID of the `documented` dialect).
            at: The message's time, by default now. It may be before the last message's.
            text: The text, by default an invented sentence.
            sender: "customer" (the default), "staff", "order form" (with only the name of staff),
                "outside" (typed outside of Pancake), an automatic one ("bot", "flow", "automated",
                "generated", "page itself"), or a whole `from` object.
            visible_at: The time, by the account's clock, from which the message can be seen.
        """
        with self.account.lock:
            conversation = self.conversations[conversation_id]
            at = self.account.now() if at is None else _utc(at)
            message = self._new_message(conversation, at, self._text_or_any(text), sender)
            self._take(conversation, message, visible_at)
            return message

    def tag(
        self, conversation_id: str, tag_id: int, at: datetime | None = None, *, action: str = "add"
    ) -> None:
        """Add or remove a tag, which does not change `updated_at`."""
        with self.account.lock:
            conversation = self.conversations[conversation_id]
            tag = self.tags.setdefault(tag_id, Tag(tag_id, f"Tag {tag_id}"))
            if action == "remove":
                conversation.tag_ids = [known for known in conversation.tag_ids if known != tag_id]
            elif tag_id not in conversation.tag_ids:
                conversation.tag_ids.append(tag_id)
            at = self.account.now() if at is None else _utc(at)
            conversation.tag_histories.append(TagChange(at, action, tag, self.staff[0]))
            del conversation.tag_histories[:-TAG_HISTORY_LENGTH]

    def remove(self, conversation_id: str) -> None:
        """Delete a conversation with its messages."""
        for message in tuple(self.conversations[conversation_id].messages):
            self.remove_message(conversation_id, message.id)

    def remove_message(self, conversation_id: str, message_id: str) -> None:
        """Delete a message; `updated_at` is then the time of the newest one that is left."""
        with self.account.lock:
            conversation = self.conversations[conversation_id]
            self._unlist(conversation)
            for message in conversation.messages:
                if message.id == message_id:
                    self._removed.append((self.account.now(), conversation, message))
            conversation.messages = [one for one in conversation.messages if one.id != message_id]
            self._list(conversation)

    def settle(self) -> None:
        """Show the messages whose `visible_at` has passed; every reader calls this first."""
        if not self._pending:
            return
        now = self.account.now()
        while self._pending and self._pending[0][0] <= now:
            _, _, conversation, message = heappop(self._pending)
            self._show(conversation, [message])

    # The visible rows of a page. The caller holds `account.lock`.

    def window(
        self,
        order_by: OrderBy,
        since: datetime | None = None,
        until: datetime | None = None,
        bounds: Bounds = "[]",
    ) -> tuple[list[tuple[datetime, int]], int, int]:
        """Return the ascending sort keys of all listed conversations, and the window's slice."""
        keys = self._listed[order_by]
        low, high = 0, len(keys)
        if since is not None:
            low = bisect_left(keys, (since, -1 if bounds[0] == "[" else _LAST_SERIAL))
        if until is not None:
            high = bisect_left(keys, (until, _LAST_SERIAL if bounds[1] == "]" else -1))
        return keys, low, max(low, high)

    def position(self, order_by: OrderBy, conversation: Conversation) -> int:
        """Return the index of a listed conversation in the sort keys of `window`."""
        at = conversation.updated_at if order_by == "updated_at" else conversation.inserted_at
        return bisect_left(self._listed[order_by], (at, conversation.serial))

    def listed(self) -> list[Conversation]:
        """Return all conversations that can be seen."""
        return [self._by_serial[serial] for _, serial in self._listed["updated_at"]]

    def as_of(self, at: datetime) -> Page:
        """Return a copy of the page as it was at a time, for reading only.

        A message exists from its `visible_at`, or from its own time if it has none.
        """
        old = copy(self)
        old._turn_back(at)  # noqa: SLF001 - of the same class
        return old

    def _turn_back(self, at: datetime) -> None:
        removed, conversations = self._removed, self._by_serial
        self._pending, self._removed = [], []
        self._listed = {"updated_at": [], "inserted_at": []}
        self.conversations, self._by_serial, self.inboxes = {}, {}, {}
        for serial, conversation in conversations.items():
            gone = [one for when, of, one in removed if of is conversation and when > at]
            old = copy(conversation)
            old.messages = sorted(
                (
                    message
                    for message in (*conversation.messages, *gone)
                    if (message.visible_at or message.inserted_at) <= at
                ),
                key=_place,
            )
            self.conversations[old.id] = self._by_serial[serial] = old
            if old.type == "INBOX":
                self.inboxes[old.psid] = old
            self._list(old)
        self.belongings = self.belongings.as_of(self, at)

    def by_serial(self, serial: int) -> Conversation:
        """Return the conversation of a sort key."""
        return self._by_serial[serial]

    def expected_conversations(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> dict[tuple[str, str], Json]:
        """Return the conversations with `since <= updated_at <= until`, by (page_id, id)."""
        with self.account.lock:
            self.settle()
            keys, low, high = self.window("updated_at", since, until)
            found = (self._by_serial[serial] for _, serial in keys[low:high])
            return {(self.id, conversation.id): conversation.truth() for conversation in found}

    def expected_messages(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> dict[tuple[str, str], Json]:
        """Return the messages with `since <= inserted_at <= until`, by (conversation_id, id)."""
        with self.account.lock:
            self.settle()
            return {
                (message.conversation_id, message.id): message.truth()
                for conversation in self.conversations.values()
                for message in conversation.messages
                if (since is None or message.inserted_at >= since)
                and (until is None or message.inserted_at <= until)
            }

    # Invented conversations and messages.

    def fill(
        self,
        conversations: int,
        messages: tuple[int, int],
        start: datetime,
        end: datetime,
    ) -> None:
        """Add conversations with `messages` (fewest, most) messages between `start` and `end`."""
        rng = self.rng
        fewest, most = messages
        span = (end - start) / timedelta(microseconds=1)
        with self.account.lock:
            for _ in range(conversations):
                began = start + timedelta(microseconds=int(rng.random() * span))
                # Most threads are short, a few are long.
                count = fewest + int((most - fewest + 1) * rng.random() ** 3)
                left = (end - began) / timedelta(microseconds=1)
                lasts = min(left, rng.expovariate(1.0) * count * 6 * 3_600_000_000)
                offsets = [0, *sorted(int(rng.random() * lasts) for _ in range(count - 1))]
                conversation = self._new_conversation(rng.choice(self.channel.types), began)
                if count == 1 and rng.random() < 0.3:
                    conversation.inserted_at += timedelta(seconds=rng.randrange(1, 9))
                if count > 5 and rng.random() < 0.05:
                    conversation.count_error = -1
                times: list[datetime] = []
                for offset in offsets:
                    # Two messages at the same time are common (a picture and its caption).
                    again = bool(times) and rng.random() < 0.05
                    times.append(times[-1] if again else began + timedelta(microseconds=offset))
                if conversation.type == "INBOX" and rng.random() < 0.04:
                    conversation.starter = {"id": self.id, "name": self.name}
                self._adorn(conversation, times[-1])
                created = [
                    self._invent(conversation, at, first=i == 0) for i, at in enumerate(times)
                ]
                for before, message in pairwise(created):
                    if message.serial % 2:
                        self._follow(conversation, before, message)
                self._show(conversation, created)

    def _text_or_any(self, text: str | None) -> str:
        return invented.sentence(self.channel.language, self.rng) if text is None else text

    def _new_conversation(self, kind: str, at: datetime) -> Conversation:
        serial = len(self._by_serial) + 1
        rng = self.rng
        conversation_id, psid, post_id = self._ids(kind, serial)
        people = 2 if conversation_id.startswith("pzl_g_") else 1
        customers = [
            Customer(
                invented.uuid(rng),
                invented.uuid(rng),
                psid if number == 0 else f"{psid}-{number}",
                invented.person(self.channel.language, rng),
                at.replace(microsecond=0),
            )
            for number in range(people)
        ]
        customer: Json = {"id": psid, "name": customers[0].name}
        if kind == "INBOX" and self.platform == "facebook":
            customer["email"] = f"{psid}@facebook.com"
        conversation = Conversation(
            page_id=self.id,
            id=conversation_id,
            serial=serial,
            type=kind,
            psid=psid,
            customers=customers,
            customer=customer,
            starter=customer,
            inserted_at=at,
            updated_at=at,
            post_id=post_id,
        )
        self.conversations[conversation_id] = conversation
        if kind == "INBOX":
            self.inboxes[psid] = conversation
        self._by_serial[serial] = conversation
        return conversation

    def _ids(self, kind: str, serial: int) -> tuple[str, str, str | None]:
        """Return conversation id, PSID and post id in the channel's form (the reference, 4)."""
        digits = f"{self.number:04d}{_scattered(serial)}"
        post = f"7{self.number:04d}{serial % 20:010d}"
        if kind == "RATING":
            rating = f"{self.id}_8{digits}"
            return rating, f"200{digits}", rating
        if kind != "INBOX":
            return f"{post}_9{digits}", f"200{digits}", f"{self.id}_{post}"
        tail = f"200{digits}"
        match self.platform:
            case "tiktok_business_messaging" | "tiktok":
                return f"tt_0:1:{digits}:{serial}", f"tt_{digits}", None
            case "personal_zalo":
                group_or_user = f"pzl_{'g' if serial % 5 == 0 else 'u'}_{digits}"
                return group_or_user, group_or_user, None
            case "whatsapp":
                return f"{self.id}@c.us_{digits}@c.us", f"{digits}@c.us", None
            case "line":
                tail = f"U{digits:0>32}"
        return f"{self.id}_{tail}", tail, None

    def _new_message(
        self,
        conversation: Conversation,
        at: datetime,
        text: str,
        sender: str | Json | None,
        *,
        first: bool = False,
    ) -> Message:
        self._message_serial += 1
        serial = self._message_serial
        digits = f"{self.number:04d}{_scattered(serial)}"
        parent_id = None
        if conversation.type == "COMMENT":
            message_id = (
                conversation.id if first else f"{conversation.id.partition('_')[0]}_6{digits}"
            )
            parent_id = None if first else conversation.id
        elif self.platform in {"facebook", "instagram_official"}:
            message_id = f"m_Demo{digits}"
        else:
            message_id = f"{self.channel.prefix}{digits}"
        phones = (
            [(found[0], found.start()) for found in _PHONE.finditer(text)]
            if "0900000" in text
            else ()
        )
        message = Message(
            self.id,
            conversation.id,
            message_id,
            serial,
            conversation.type,
            text,
            at,
            self._sender(conversation, sender),
            phones=phones,
            parent_id=parent_id,
        )
        if conversation.type == "COMMENT":
            message.like_count = message.comment_count = 0
        return message

    def _sender(self, conversation: Conversation, sender: str | Json | None) -> Json:
        match sender:
            case None | "customer":
                return conversation.customer
            case "staff":
                staff = self.staff[conversation.serial % 2]
                names: Json = {"admin_id": staff.fb_id, "admin_name": staff.name, "uid": staff.id}
            case "bot":
                # 15 digits: too large only for a 32-bit integer column.
                names = {
                    "is_automated": True,
                    "ai_generated": True,
                    "app_id": 100_000_000_000_000 + self.number,
                }
                names |= {"flow_id": 900_000 + self.number, "uid": None}
            case "flow":
                names = {"admin_id": self.id, "admin_name": self.name, "ai_generated": False}
                names |= {"flow_id": 900_000 + self.number, "app_id": 100_000_000_000_007}
            case "automated":
                names = {"is_automated": True}
            case "generated":
                names = {"ai_generated": True}
            case "page itself":
                names = {"admin_id": self.id, "admin_name": self.name}
            case "order form":
                name = self.staff[conversation.serial % 2].name
                names = {"uid": None, "admin_name": name, "ai_generated": False}
            case "outside":
                names = {}
            case str():
                message = f"unknown kind of sender: {sender}"
                raise ValueError(message)
            case _:
                return sender
        return {"id": self.id, "name": self.name, **names}

    def _speaker(self, conversation: Conversation, *, first: bool) -> str:
        if first:
            return "customer" if conversation.starter is conversation.customer else "outside"
        chance = self.rng.random()
        return (
            "customer"
            if chance < 0.5
            else "staff"
            if chance < 0.83
            else "bot"
            if chance < 0.9
            else "outside"
        )

    def _invent(self, conversation: Conversation, at: datetime, *, first: bool) -> Message:
        """Return a message with some of the fields that real ones have besides their text."""
        rng = self.rng
        sender = self._speaker(conversation, first=first)
        language = self.channel.language
        text = (
            invented.BOT_GREETING[language] if sender == "bot" else invented.sentence(language, rng)
        )
        if sender == "bot":
            sender = _BOTS[self._message_serial % len(_BOTS)]
        message = self._new_message(conversation, at, text, sender, first=first)
        chance = rng.random()
        if chance < 0.15:
            message.attachments = [
                invented.attachment(rng.choice(invented.ATTACHMENT_KINDS), message.serial)
            ]
            message.text, message.phones = "", ()
        elif chance < 0.17:
            message.is_removed = True
        elif chance < 0.19:
            message.edits = [(at + timedelta(seconds=30), invented.sentence(language, rng))]
        elif chance < 0.21:
            message.rich_message = {"is_printed": True}
        elif chance < 0.22:
            message.seen = False
        if conversation.type == "COMMENT":
            message.like_count, message.comment_count = rng.randrange(5), rng.randrange(3)
            message.is_hidden = chance > 0.97
            if chance > 0.9:
                message.private_reply_to = f"{self.id}_{conversation.psid}"
        if first and conversation.ad_ids:
            # A pseudo message: its id is the advertisement's, and other conversations have it, too.
            message.id = f"ad_click_{conversation.ad_ids[0]}"
            message.attachments, message.text, message.phones = (
                [invented.ad_click(conversation.ad_ids[0])],
                "",
                (),
            )
            message.sender = {"id": self.id, "name": self.name}
        return message

    def _follow(self, conversation: Conversation, before: Message, message: Message) -> None:
        """Turn a message into a direct reply to the one before: an answer or an order form."""
        asked = before.sender["id"] != self.id or before.id.startswith("ad_click")
        if asked and message.sender.keys() == {"id", "name"}:
            at_once = before.inserted_at + timedelta(seconds=2)
            message.inserted_at = min(message.inserted_at, at_once)
        later = message.inserted_at > before.inserted_at
        if later and before.text and before.sender.get("uid") and message.sender.get("uid"):
            message.sender = self._sender(conversation, "order form")

    def _adorn(self, conversation: Conversation, last: datetime) -> None:
        """Add tags, assignees, notes and orders to some of the invented conversations."""
        rng = self.rng
        customer = conversation.customers[0]
        customer.gender = rng.choice(("male", "female", "female", None))
        customer.global_id = (
            None if rng.random() < 0.15 else f"10{self.number:04d}{_scattered(conversation.serial)}"
        )
        if rng.random() < 0.03:
            customer.birthday = {"date": rng.randrange(29), "month": rng.randrange(13), "year": 0}
        if rng.random() < 0.1:
            customer.lives_in = "Thành phố Thử"
        for tag_id in rng.sample(range(len(self.tags)), rng.randrange(4)):
            conversation.tag_ids.append(tag_id if rng.random() < 0.75 else None)
            editor = rng.choice((*self.staff, None))
            # Half of the changes come after the last message, and do not move `updated_at`.
            at = last + timedelta(
                seconds=rng.randrange(-3600, 3600), microseconds=rng.randrange(1_000_000)
            )
            change = TagChange(at, rng.choice(("add", "add", "clone")), self.tags[tag_id], editor)
            conversation.tag_histories += [change] * (2 if rng.random() < 0.05 else 1)
        if rng.random() < 0.4:
            conversation.assignees = [rng.choice(self.staff[:2])]
            conversation.assignments = [Assignment(last, list(conversation.assignees), [])]
        if conversation.type == "INBOX" and self.platform == "facebook" and rng.random() < 0.2:
            conversation.ad_ids = [f"4{self.number:05d}{rng.randrange(4):09d}"]
        if rng.random() < 0.2:
            order_id = rng.randrange(10**14, 10**15)
            phone = invented.phone(rng)
            conversation.orders = [
                Order(order_id, rng.randrange(1, 9999), phone, last, last.replace(microsecond=0))
            ]
        if rng.random() < 0.3:
            order = str(conversation.orders[0].id) if conversation.orders else None
            text = invented.sentence(self.channel.language, rng)
            note = Note(
                invented.uuid(rng), text, order, self.staff[0], last, pinned=rng.random() < 0.5
            )
            if rng.random() < 0.3:
                note.updated_at = last + timedelta(minutes=5)
            if rng.random() < 0.1:
                note.message, note.removed_at = None, last + timedelta(minutes=9)
            conversation.notes = [note]

    def _take(
        self, conversation: Conversation, message: Message, visible_at: datetime | None
    ) -> None:
        """Show a message now, or at its time."""
        if visible_at is None:
            self._show(conversation, [message])
        else:
            message.visible_at = _utc(visible_at)
            heappush(self._pending, (message.visible_at, message.serial, conversation, message))
            self.settle()

    def _show(self, conversation: Conversation, messages: list[Message]) -> None:
        """Make messages visible, and move the conversation to the place of its new `updated_at`."""
        self._unlist(conversation)
        for message in messages:
            insort(conversation.messages, message, key=_place)
            conversation.captures += [
                (phone, message.id, offset) for phone, offset in message.phones
            ]
        self._list(conversation)

    def _unlist(self, conversation: Conversation) -> None:
        """Remove a conversation from the lists, if it is in them."""
        if conversation.messages:
            for order_by, keys in self._listed.items():
                del keys[self.position(order_by, conversation)]

    def _list(self, conversation: Conversation) -> None:
        """Add a conversation to the lists, if it can be seen."""
        if conversation.messages:
            conversation.updated_at = conversation.messages[-1].inserted_at
            serial = conversation.serial
            insort(self._listed["updated_at"], (conversation.updated_at, serial))
            insort(self._listed["inserted_at"], (conversation.inserted_at, serial))


class Account:
    """The data that one user of Pancake can see."""

    def __init__(self, seed: int = 7, *, user_token: str = USER_TOKEN) -> None:
        """Create an account without pages; `seed` determines all invented data."""
        self.seed = seed
        self.user_token = user_token
        self.user_token_state: Literal["ok", "expired"] = "ok"
        self.pages: list[Page] = []
        self._by_id: dict[str, Page] = {}
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        # Re-entrant: a hook of the server may hold it while it changes several things.
        self.lock = threading.RLock()

    @classmethod
    def generate(
        cls,
        seed: int = 7,
        pages: int = 3,
        conversations: int = 40,
        messages: tuple[int, int] = (1, 70),
        *,
        start: datetime = datetime(2025, 1, 1, tzinfo=UTC),
        end: datetime = datetime(2026, 6, 1, tzinfo=UTC),
    ) -> Account:
        """Return an account with invented content, the same in every process for equal arguments.

        Args:
            seed: Determines everything that is random.
            pages: Activated pages; one inactivated and one hidden page are added.
            conversations: Conversations of each activated page.
            messages: Fewest and most messages of a conversation; most conversations are short.
            start: No message is older.
            end: All messages are older.
        """
        account = cls(seed)
        start, end = _utc(start), _utc(end)
        for index in range(pages):
            channel = invented.CHANNELS[index % len(invented.CHANNELS)]
            page = account.add_page(platform=channel.platform)
            page.fill(conversations, messages, start, end)
            page.belongings.fill(start, end)
            page.statistics.since, page.statistics.until = start, end
        for category in ("inactivated", "hidden"):
            account.add_page(category=category).fill(min(conversations, 3), messages, start, end)
        return account

    def now(self) -> datetime:
        """Return the time of the account's `clock`, which tests may replace."""
        return _utc(self.clock())

    def add_page(
        self,
        page_id: str | None = None,
        *,
        platform: str = "facebook",
        name: str | None = None,
        category: str = "activated",
        has_token: bool | None = None,
        timezone: float | None = None,
    ) -> Page:
        """Add a page without conversations.

        Args:
            page_id: Its id, by default in the form of the platform.
            platform: One of the platforms in `invented.CHANNELS`.
            name: Its name, by default invented.
            category: The group of list-pages that shows it.
            has_token: Whether it has a page token; by default if it is activated or hidden.
            timezone: Hours east of UTC, by default the platform's.
        """
        if category not in CATEGORIES:
            message = f"unknown category: {category}"
            raise ValueError(message)
        with self.lock:
            channel = next(known for known in invented.CHANNELS if known.platform == platform)
            number = len(self.pages) + 1
            if page_id is None:
                page_id = f"{channel.prefix}1{number:014d}"
            if page_id in self._by_id:
                message = f"there is a page {page_id} already"
                raise ValueError(message)
            if has_token is None:
                has_token = category in {"activated", "hidden"}
            options: Json = {
                "name": name,
                "category": category,
                "has_token": has_token,
                "timezone": timezone,
            }
            page = Page(self, page_id, number, channel, **options)
            self.pages.append(page)
            self._by_id[page_id] = page
            return page

    def page(self, page_id: str) -> Page:
        """Return the page with this id.

        Raises:
            KeyError: There is none.
        """
        return self._by_id[page_id]

    def expected(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        categories: Collection[str] = ("activated",),
    ) -> Expected:
        """Return the rows of a full extraction of the given categories.

        `since` and `until` (both inclusive) bound `updated_at` of conversations and `inserted_at`
        of messages.
        """
        found = Expected()
        with self.lock:
            for page in self.pages:
                if page.category not in categories:
                    continue
                found.pages[page.id] = {
                    "id": page.id,
                    "name": page.name,
                    "platform": page.platform,
                    "category": page.category,
                    "timezone": page.timezone,
                    "inserted_at": page.inserted_at,
                }
                found.conversations |= page.expected_conversations(since, until)
                found.messages |= page.expected_messages(since, until)
        return found
