"""The form of answers in each of the three dialects that the sources show.

`Observed` is the form of a saved real session (April 2026), `Documented` that of the official
OpenAPI document, `Older` that of the API page of 2021. A tap must read all three. Each difference
is a class attribute or an overridden method here, so this file is also the list of differences.
"""

from __future__ import annotations

from datetime import datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar

from .account import CATEGORIES

if TYPE_CHECKING:
    from .account import (
        Account,
        Conversation,
        Customer,
        Expected,
        Json,
        Message,
        Note,
        Order,
        Page,
        Staff,
        Tag,
    )

RECENT_PHONES = 5  # no source has the number that Pancake keeps


def _signed(address: str) -> str:
    """Return the address of a picture with a new signature, as in each answer."""
    return f"{address}?signature={token_hex(8)}"


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


class Observed:
    """The API as its answers were observed."""

    name: ClassVar[str] = "observed"
    versions: ClassVar[tuple[str, ...]] = ("v1", "v2")  # of the conversations list
    first_batch: ClassVar[int] = 30  # messages on a call without `current_count`
    next_batch: ClassVar[int] = 30
    newest_first: ClassVar[bool] = False  # inside one batch of messages
    customer_id_demanded: ClassVar[bool] = False
    token_refusal_status: ClassVar[int] = 200

    # Times.

    def time(self, at: datetime) -> str:
        """Return the time of a conversation or message: naive UTC, always with six digits."""
        return at.isoformat(timespec="microseconds")[:26]

    def seconds(self, at: datetime) -> str:
        """Return a time that Pancake keeps in whole seconds."""
        return at.isoformat(timespec="seconds")[:19]

    def legible(self, at: datetime) -> datetime:
        """Return a time with the precision that `time` shows."""
        return at

    # Identifiers.

    def conversation_id(self, conversation: Conversation) -> str:
        """Return the id of a conversation in answers."""
        return conversation.id

    def find(self, page: Page, conversation_id: str) -> Conversation | None:
        """Return the conversation with this id in answers, if it can be seen."""
        found = page.conversations.get(conversation_id)
        return found if found is not None and found.messages else None

    # List pages.

    def pages_body(self, account: Account) -> Json:
        """Return the answer of list-pages."""
        return {"success": True, "categorized": self._groups(account)}

    def _groups(self, account: Account) -> Json:
        groups: Json = {
            category: [self._page(page) for page in account.pages if page.category == category]
            for category in CATEGORIES
        }
        groups["activated_page_ids"] = [page["id"] for page in groups["activated"]]
        return groups

    def _page(self, page: Page) -> Json:
        settings: Json = {
            "auto_create_order": False,
            "hide_comment": None,
            "page_access_token": page.token,
            "quick_replies": [],
            "webhook_secret": f"SECRET-webhook-{page.id}",
        }
        if page.category != "activated" and page.token is None:
            del settings["page_access_token"]
        return {
            "id": page.id,
            "name": page.name,
            "platform": page.platform,
            "username": None,
            "is_activated": page.category == "activated",
            "is_silhouette": False,
            "business": None,
            "country": page.channel.country,
            "timezone": page.timezone,
            "shop_id": 1_000_000 + page.number,
            "role_in_page": "ADMINISTER" if page.category != "nopermission" else None,
            "inserted_at": self.seconds(page.inserted_at),
            "custom_page_color": "#aabbcc",
            "special_feature": False,
            "last_global_id_crawl": None,
            "need_fix_webhook": None,
            "page_content_sync_group_id": None,
            "quick_reply_sync_group_id": None,
            "tag_sync_group_id": None,
            "permissions": {"is_enabled_permissions": False},
            "platform_extra_info": {"country": page.channel.country},
            "active_user_ids": [staff.id for staff in page.staff if staff.status == "active"],
            "users": [
                {
                    "user_id": staff.id,
                    "name": staff.name,
                    "fb_id": staff.fb_id,
                    "page_id": page.id,
                    "phone_number": None,
                    "status": staff.status,
                }
                for staff in page.staff
            ],
            "settings": settings,
        }

    # Conversations.

    def conversations_body(self, rows: list[Json]) -> Json:
        """Return the answer of a conversations list."""
        return {"success": True, "conversations": rows}

    def conversation(self, page: Page, conversation: Conversation) -> Json:
        """Return one row of a conversations list."""
        conversation_id = self.conversation_id(conversation)
        row: Json = {
            "id": conversation_id,
            "type": conversation.type,
            "page_id": page.id,
            "post_id": conversation.post_id,
            "customer_id": conversation.customers[0].customer_id,
            "customers": self._customers(conversation),
            "from": conversation.starter,
            "last_sent_by": conversation.last_sent_by,
            "snippet": conversation.snippet,
            "seen": conversation.seen,
            "message_count": conversation.message_count,
            "has_phone": bool(conversation.captures),
            "recent_phone_numbers": self._recent_phones(conversation),
            "tags": self._tags(page, conversation),
            "tag_histories": [
                {
                    "conversation_id": conversation_id,
                    "inserted_at": self.time(change.at),
                    "payload": {
                        "action": change.action,
                        "editor_id": change.editor.id if change.editor else "",
                        "editor_name": change.editor.name if change.editor else "",
                        "tag": self._tag(change.tag),
                    },
                }
                for change in conversation.tag_histories
            ],
            "assignee_ids": [staff.id for staff in conversation.assignees],
            "assignee_group_id": None,
            "current_assign_users": [self._assignee(staff) for staff in conversation.assignees],
            "assignee_histories": [
                {
                    "conversation_id": conversation_id,
                    "inserted_at": self.time(change.at),
                    "payload": {
                        "added_users": [self._assignee(staff) for staff in change.added],
                        "deleted_users": [self._assignee(staff) for staff in change.removed],
                    },
                }
                for change in conversation.assignments
            ],
            "page_customer": self._page_customer(conversation),
            "inserted_at": self.time(conversation.inserted_at),
            "updated_at": self.time(conversation.updated_at),
        }
        self._add_ads(row, conversation)
        return row

    def _customers(self, conversation: Conversation) -> list[Json]:
        return [{"id": c.id, "fb_id": c.psid, "name": c.name} for c in conversation.customers]

    def _recent_phones(self, conversation: Conversation) -> list[Json]:
        return [
            self._capture(phone, message_id, offset)
            for phone, message_id, offset in conversation.captures[: -RECENT_PHONES - 1 : -1]
        ]

    def _capture(self, phone: str, message_id: str, offset: int) -> Json:
        return {
            "phone_number": phone,
            "captured": phone,
            "length": len(phone),
            "offset": offset,
            "m_id": message_id,
            "status": 0,
        }

    def _tags(self, page: Page, conversation: Conversation) -> list[Any]:
        return [
            None if tag_id is None else self._tag(page.tags[tag_id])
            for tag_id in conversation.tag_ids
        ]

    def _tag(self, tag: Tag) -> Json:
        row: Json = {
            "id": tag.id,
            "text": tag.text,
            "color": tag.color,
            "lighten_color": tag.lighten_color,
        }
        if tag.is_deactive:
            row |= {"is_deactive": True, "is_lead_event": False, "description": ""}
        return row

    def _assignee(self, staff: Staff) -> Json:
        return {"id": staff.id, "name": staff.name, "fb_id": staff.fb_id}

    def _add_ads(self, row: Json, conversation: Conversation) -> None:
        if conversation.type != "INBOX":
            return  # the keys are left out, and not empty
        row["ad_ids"] = conversation.ad_ids
        row["ads"] = self._ad_clicks(conversation)

    def _ad_clicks(self, conversation: Conversation) -> list[Json]:
        return [
            {"ad_id": ad_id, "post_id": None, "inserted_at": self.seconds(conversation.inserted_at)}
            for ad_id in conversation.ad_ids
        ]

    def _page_customer(self, conversation: Conversation) -> Json:
        customer = conversation.customers[0]
        return {
            "id": customer.id,
            "customer_id": customer.customer_id,
            "psid": customer.psid,
            "name": customer.name,
            "gender": customer.gender,
            "global_id": customer.global_id,
            "birthday": customer.birthday,
            "inserted_at": self.seconds(customer.inserted_at),
            "notes": self._notes(conversation),
            "recent_orders": [self._order(customer, order) for order in conversation.orders]
            or None,
        }

    def _notes(self, conversation: Conversation) -> list[Json] | None:
        return [self._note(note) for note in conversation.notes] or None

    def _note(self, note: Note) -> Json:
        row: Json = {
            "id": note.id,
            "message": note.message,
            "order_id": note.order_id,
            "created_at": _milliseconds(note.created_at),
            "updated_at": _milliseconds(note.updated_at),
            "removed_at": _milliseconds(note.removed_at),
            "is_pinned": note.pinned,
            "images": [],
            "links": [],
            "edit_history": [],
            "created_by": {
                "uid": note.author.id,
                "fb_id": note.author.fb_id,
                "fb_name": note.author.name,
                "application": 1,
                "session_id": f"SECRET-session-{note.id[:8]}",
                "token_for_business": f"SECRET-business-{note.id[:8]}",
            },
        }
        if note.updated_at is not None:
            # A former version has the form of a note, with its author: secrets two levels deep.
            row["edit_history"] = [{**row, "updated_at": None, "message": "…"}]
        return row

    def _order(self, customer: Customer, order: Order) -> Json:
        return {
            "id": order.id,
            "display_id": order.display_id,
            "status": 1,
            "payment": 0,
            "full_name": customer.name,
            "phone_number": order.phone_number,
            "email": None,
            "inserted_at": self.time(order.inserted_at),
            "last_update_status_at": self.seconds(order.status_at),
            "is_locked": False,
            "received_at_shop": False,
            "assigning_seller_id": None,
            "custom_id": None,
        }

    # Messages.

    def message(self, message: Message, conversation_id: str) -> Json:
        """Return one row of a message batch; `conversation_id` is the id in answers."""
        is_comment = message.type == "COMMENT"
        return {
            "id": message.id,
            "conversation_id": conversation_id,
            "page_id": message.page_id,
            "type": message.type,
            "message": message.html,
            "original_message": message.text,
            "inserted_at": self.time(message.inserted_at),
            "from": message.sender,
            "seen": message.seen,
            "has_phone": bool(message.phones),
            "phone_info": [
                self._capture(phone, message.id, offset) for phone, offset in message.phones
            ],
            "attachments": list(message.attachments),
            "message_tags": [
                {"type": "link", "link": link, "offset": offset, "length": len(link)}
                for link, offset in message.links
            ],
            "is_hidden": message.is_hidden,
            "is_parent": is_comment and message.parent_id is None,
            "is_parent_hidden": False,
            "is_removed": message.is_removed,
            "removed_by": None,
            "parent_id": message.parent_id,
            "comment_count": message.comment_count,
            "like_count": message.like_count,
            "user_likes": False,
            "is_livestream_order": None,
            "show_info": False,
            "can_comment": is_comment,
            "can_hide": is_comment,
            "can_like": is_comment,
            "can_remove": is_comment,
            "can_reply_privately": is_comment,
            "private_reply_conversation": self._private_reply(message),
            "rich_message": message.rich_message,
            "edit_history": self._edit_history(message),
        }

    def _private_reply(self, message: Message) -> Json | str | None:
        return None if message.private_reply_to is None else {"id": message.private_reply_to}

    def _edit_history(self, message: Message) -> Json | list[Json] | None:
        # An object, as in the webhook document; R1 holds only nulls.
        versions = self._versions(message)
        return {"histories": versions} if versions else None

    def _versions(self, message: Message) -> list[Json]:
        return [{"edited_at": self.time(at), "message": text} for at, text in message.edits]

    def messages_body(self, conversation: Conversation, rows: list[Json]) -> Json:
        """Return the answer of a message batch: the rows, and the data of the customer."""
        customer = conversation.customers[0]
        phones = list(dict.fromkeys(phone for phone, _, _ in conversation.captures))
        return {
            "success": True,
            "conversation_id": self.conversation_id(conversation),
            "messages": rows,
            "conv_from": conversation.starter,
            "conv_customers": self._customers(conversation),
            "customers": [
                self._message_customer(conversation, customer)
                for customer in conversation.customers
            ],
            "activities": [
                {
                    "type": "ad_click",
                    "source": "ADS",
                    **click,
                    "ads_context_data": {
                        "ad_title": "Khuyến mãi tháng này 🎉",
                        "photo_url": f"https://media.pancake.example/ads/{click['ad_id']}.jpg",
                        "post_id": click["post_id"],
                    },
                }
                for click in self._ad_clicks(conversation)
            ],
            "ad_clicks": {customer.id: self._ad_clicks(conversation) or None},
            "read_watermarks": self._watermarks(conversation),
            "can_inbox": conversation.type == "INBOX",
            "is_banned": False,
            "banned_by": None,
            "banned_count": 0,
            "reported_count": 0,
            "comment_count": len(conversation.messages) if conversation.type == "COMMENT" else 0,
            "last_commented_at": self._last_commented_at(conversation),
            "gender": customer.gender,
            "birthday": customer.birthday,
            "lives_in": customer.lives_in,
            "global_id": customer.global_id,
            "profile_updated_at": self.seconds(customer.inserted_at),
            "notes": self._notes(conversation),
            "recent_orders": [self._order(customer, order) for order in conversation.orders],
            "recent_phone_numbers": phones,
            "conv_phone_numbers": phones,
            "conv_recent_phone_numbers": [
                self._capture(*capture) for capture in conversation.captures
            ],
            "available_for_report_phone_numbers": phones,
            "reports_by_phone": {
                phone: {"order_fail": 0, "order_success": 1, "warning": 0} for phone in phones
            },
            "app": "100000000000999",
            "allow_use_data_for_training_ai": None,
            "matched_wa_fb_customers": None,
            "suggested_posts": None,
            "extra_info": {"sentiment_analysis": {}} if conversation.notes else {},
            "post": None
            if conversation.post_id is None
            else {"id": conversation.post_id, "message": "Hàng mới ✨"},
        }

    def _message_customer(self, conversation: Conversation, customer: Customer) -> Json:
        row: Json = {
            "id": customer.id,
            "customer_id": customer.customer_id,
            "fb_id": customer.psid,
            "global_id": customer.global_id,
            "name": customer.name,
            "can_inbox": conversation.type == "INBOX",
            "is_followed": None,
            "personal_info": {
                "job": None,
                "gender": customer.gender,
                "lives_in": customer.lives_in,
                "relationship_status": None,
                "profile_updated_at": self.seconds(customer.inserted_at),
            },
            "ad_clicks": self._ad_clicks(conversation),
            "web_sources": [],
            "address_source": [],
            "recent_phone_numbers": [
                {"phone_number": order.phone_number, "order_id": order.id}
                for order in conversation.orders
            ],
        }
        if conversation.orders:  # only customers with a shop record have these
            row |= {
                "currency": "VND",
                "order_count": len(conversation.orders),
                "succeed_order_count": 1,
                "last_order_at": self.seconds(conversation.orders[-1].inserted_at),
                "purchased_amount": 150_000,
                "reward_point": 0,
                "emails": [],
                "tags": [],
                "shop_customer_addresses": [],
            }
        return row

    def _watermarks(self, conversation: Conversation) -> list[Json]:
        last = conversation.messages[-1]
        return [
            {
                "message_id": last.id,
                "psid": conversation.psid,
                "watermark": int(last.inserted_at.timestamp()) + 9,
                "is_group_conv": None,
            },
        ]

    def _last_commented_at(self, conversation: Conversation) -> str | bool | None:
        # Observed: `false`, and not null, if the customer never commented.
        return self.time(conversation.updated_at) if conversation.type == "COMMENT" else False

    # The truth that this dialect shows.

    def legible_truth(self, account: Account, expected: Expected) -> Expected:
        """Return the truth with the ids and the precision of times of this dialect."""
        ids = {
            (page.id, conversation.id): self.conversation_id(conversation)
            for page in account.pages
            for conversation in page.conversations.values()
        }
        pages = {key: self._legible(row) for key, row in expected.pages.items()}
        conversations, messages = {}, {}
        for (page_id, conversation_id), row in expected.conversations.items():
            wire_id = ids[page_id, conversation_id]
            conversations[page_id, wire_id] = {**self._legible(row), "id": wire_id}
        for (conversation_id, message_id), row in expected.messages.items():
            wire_id = ids[row["page_id"], conversation_id]
            messages[wire_id, message_id] = {**self._legible(row), "conversation_id": wire_id}
        return type(expected)(pages, conversations, messages)

    def _legible(self, row: Json) -> Json:
        return {
            key: self.legible(value) if isinstance(value, datetime) else value
            for key, value in row.items()
        }


class Documented(Observed):
    """The API as its official OpenAPI document describes it."""

    name = "documented"
    versions = ("v2",)
    newest_first = True
    token_refusal_status = 401

    def time(self, at: datetime) -> str:
        """Return a time as RFC 3339 in whole seconds, with a zone."""
        return f"{at.isoformat(timespec='seconds')[:19]}Z"

    seconds = time

    def legible(self, at: datetime) -> datetime:
        """Return a time in whole seconds."""
        return at.replace(microsecond=0)

    def conversation_id(self, conversation: Conversation) -> str:
        """Return the id of a conversation; for an inbox thread, the customer's PSID."""
        return conversation.psid if conversation.type == "INBOX" else conversation.id

    def find(self, page: Page, conversation_id: str) -> Conversation | None:
        """Return the conversation with this id in answers, if it can be seen."""
        found = page.inboxes.get(conversation_id) or page.conversations.get(conversation_id)
        return (
            found
            if found is not None
            and found.messages
            and self.conversation_id(found) == conversation_id
            else None
        )

    def pages_body(self, account: Account) -> Json:
        """Return a plain list without tokens; of the pages that can be read, as no source says."""
        return {
            "pages": [self._page(page) for page in account.pages if page.category == "activated"]
        }

    def _page(self, page: Page) -> Json:
        avatar_url = _signed(f"https://media.pancake.example/avatar/{page.number}.png")
        return {
            "id": page.id,
            "platform": page.platform,
            "name": page.name,
            "avatar_url": avatar_url,
        }

    def conversations_body(self, rows: list[Json]) -> Json:
        """Return the answer of a conversations list; no `success` is documented."""
        return {"conversations": rows}

    def _recent_phones(self, conversation: Conversation) -> list[Json]:
        phones = [
            {"phone_number": order.phone_number, "order_id": order.id}
            for order in conversation.orders
        ]
        return phones + [{"phone_number": phone} for phone, _, _ in conversation.captures]

    def _tag(self, tag: Tag) -> Json:
        return {
            "id": tag.id,
            "text": tag.text,
            "color": tag.color,
            "is_deactive": tag.is_deactive,
            "is_lead_event": False,
        }

    def _add_ads(self, row: Json, conversation: Conversation) -> None:
        row |= {"ad_ids": None, "ads": None}
        if conversation.ad_ids:
            super()._add_ads(row, conversation)

    def _private_reply(self, message: Message) -> Json | str | None:
        return message.private_reply_to

    def _edit_history(self, message: Message) -> Json | list[Json] | None:
        return self._versions(message) or None

    def _last_commented_at(self, conversation: Conversation) -> str | bool | None:
        return self.time(conversation.updated_at) if conversation.type == "COMMENT" else None

    def messages_body(self, conversation: Conversation, rows: list[Json]) -> Json:
        """Return the observed answer, and two keys that only the document has."""
        return {
            **super().messages_body(conversation, rows),
            "recent_emails": [],
            "suggested_products": {},
        }


class Older(Observed):
    """The API as its page of 2021 describes it."""

    name = "older"
    versions = ("v1",)
    first_batch = 20
    next_batch = 25
    customer_id_demanded = True

    def time(self, at: datetime) -> str:
        """Return a time in naive UTC, with a fraction only if it has one."""
        return at.isoformat()[: 26 if at.microsecond else 19]

    def pages_body(self, account: Account) -> Json:
        """Return the groups under their former name."""
        return {"success": True, "categorized_pages": self._groups(account)}

    def _page(self, page: Page) -> Json:
        avatar_url = _signed(f"https://media.pancake.example/avatar/{page.number}.png")
        return {
            **super()._page(page),
            "avatar_url": avatar_url,
            "connected": page.category == "activated",
        }

    def conversation(self, page: Page, conversation: Conversation) -> Json:
        """Return one row of a conversations list, with keys that were removed later."""
        return {
            **super().conversation(page, conversation),
            "from_psid": conversation.psid,
            "thread_id": f"{page.id}_{conversation.psid}",
            "thread_key": f"t_{conversation.psid}",
            "is_removed": False,
            "unread_count": 0 if conversation.seen else 1,
        }

    def _tags(self, page: Page, conversation: Conversation) -> list[Any]:
        del page
        return [tag_id for tag_id in conversation.tag_ids if tag_id is not None]


DIALECTS: dict[str, Observed] = {
    dialect.name: dialect for dialect in (Observed(), Documented(), Older())
}
