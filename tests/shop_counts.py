"""The rows that the dbt models must hold, counted in plain Python from the server's data.

Written from the rules, and not from the SQL: loops over conversations and their messages.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tests.dbt_said import sender_kind
from tests.transform import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.pancake_api import Conversation, Message, Page
    from tests.pancake_api.account import Customer
    from tests.tap import Json

    Rows = dict[tuple[Any, ...], Json]
    Truth = dict[str, list[Json]]
    """The rows of the other streams, as the server holds them."""

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AGES = {"under_1h": 1, "1h_to_4h": 4, "4h_to_24h": 24, "1d_to_3d": 72, "3d_to_7d": 168}
CLASSES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440)


@dataclass(frozen=True)
class Hours:
    """Opening hours of a page from a day on: weekday (1 is Monday) → minutes of the day."""

    valid_from: date
    week: dict[int, list[tuple[int, int]]]


@dataclass
class ReadMessage:
    """A message that the tap read."""

    message: Message
    kind: str
    """The kind of its sender."""
    staff_id: str | None
    staff_name: str | None
    is_third_person: bool

    @property
    def at(self) -> datetime:
        return self.message.inserted_at

    @property
    def is_answer(self) -> bool:
        return self.kind in {"staff", "outside"}

    @property
    def asks(self) -> bool:
        """Whether a customer can wait for an answer to it."""
        return self.kind == "customer" and not self.is_third_person and not closes(self.message)


@dataclass
class Wait:
    """The time from a customer's message to the next answer."""

    talk: Conversation
    asked: list[ReadMessage]
    is_first: bool
    """Whether there is no answer before it."""
    answer: ReadMessage | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    asked_at: datetime = field(init=False)
    is_cut_off: bool = False
    minutes: float = 0
    working: float = 0

    def __post_init__(self) -> None:
        self.asked_at = self.asked[0].at


def letters(text: str) -> str:
    """Return the letters, accents, digits and question marks of a text."""
    text = unicodedata.normalize("NFC", text.lower().replace("\ufe0f", ""))
    return "".join(one for one in text if one == "?" or unicodedata.category(one)[0] in "LMN")


def _phrases(name: str) -> list[str]:
    return [letters(str(text)) for text in DEFAULTS[name]]


def closes(message: Message) -> bool:
    """Return whether a customer's message needs no answer."""
    silent = {"reaction", "replied_message", "ad_click", "system_message"}
    kinds = [part["type"] for part in message.attachments if part["type"] not in silent]
    if not set(kinds) <= {"sticker", "response_feedback"}:
        return False
    if not message.text:
        return bool(kinds)
    rest = letters(message.text)
    if not rest:
        return any(unicodedata.category(one) == "So" for one in message.text)
    ends, closings = _phrases("pancake__closing_texts"), _phrases("pancake__closing_particles")
    # Place in the text → whether the phrases up to it are more than particles.
    made: dict[int, bool] = {0: False}
    for place in range(len(rest)):
        if place in made:
            for phrases, is_closing in ((ends, True), (closings, False)):
                for phrase in phrases:
                    if rest.startswith(phrase, place):
                        end = place + len(phrase)
                        made[end] = made.get(end, False) or made[place] or is_closing
    return made.get(len(rest), False)


class Counted:
    """The rows of the models for one page."""

    def __init__(
        self,
        page: Page,
        *,
        start: datetime,
        end: datetime,
        as_of: datetime,
        hours: list[Hours],
        holidays: set[date],
        truth: Truth,
    ) -> None:
        """Take a page that was read from `start` to `end`."""
        self.page, self.start, self.end, self.as_of = page, start, end, as_of
        self.offset = timedelta(hours=page.timezone)
        self.hours, self.holidays = hours, holidays
        self.truth = truth
        self.talks = [talk for talk in page.conversations.values() if talk.updated_at >= start]
        self.people = {staff.id: staff for staff in page.staff}
        by_name: dict[str, list[str]] = defaultdict(list)
        for staff in page.staff:
            by_name[staff.name].append(staff.id)
        self.by_name = {name: ids[0] for name, ids in by_name.items() if len(ids) == 1}

    # Times

    def local(self, at: datetime) -> datetime:
        """Return a time in the page's own time."""
        return (at + self.offset).replace(tzinfo=None)

    def day(self, at: datetime) -> date:
        return self.local(at).date()

    def end_of(self, day: date) -> datetime:
        """Return when a day of the page ends."""
        return datetime.combine(day, time(), UTC) + DAY - self.offset

    def is_complete(self, model: str, key: tuple[Any, ...]) -> bool:
        """Return whether everything that a row of a model counts was read."""
        if model == "page_hourly":
            begins = key[2].replace(tzinfo=UTC) - self.offset
            return bool(self.start <= begins and begins + HOUR <= self.end)
        day = key[2] if len(key) > 2 else key[1]
        if model == "feedback":
            return self.is_counted(self.day(datetime.fromisoformat(self._rated[key[1]])))
        inbox = self.start <= self.end_of(day) - DAY and self.end_of(day) <= self.end
        return inbox and (model in {"staff_daily", "backlog_daily"} or self.is_counted(day))

    def is_counted(self, day: date) -> bool:
        """Return whether the statistics of a day were read, which come in whole days."""
        return self.day(self.start) <= day < self.day(self.end)

    def intervals(self, day: date) -> list[tuple[int, int]]:
        """Return the working hours of a day, in minutes of the day."""
        valid = [one for one in self.hours if one.valid_from <= day]
        if day in self.holidays:
            return []
        if not valid:
            return [(0, 1440)]
        return max(valid, key=lambda one: one.valid_from).week.get(day.isoweekday(), [])

    def working(self, low: datetime, high: datetime) -> float:
        """Return the working minutes between two times."""
        low, high = self.local(low), self.local(high)
        total, day = timedelta(), low.date()
        while day <= high.date():
            midnight = datetime.combine(day, time())
            for opens, closes_at in self.intervals(day):
                begins = max(low, midnight + timedelta(minutes=opens))
                ends = min(high, midnight + timedelta(minutes=closes_at))
                total += max(ends - begins, timedelta())
            day += DAY
        return total / timedelta(minutes=1)

    # Messages

    @cached_property
    def messages(self) -> dict[str, list[ReadMessage]]:
        """The messages of each conversation that were read, in order."""
        return {talk.id: self._messages_of(talk) for talk in self.talks}

    def _messages_of(self, talk: Conversation) -> list[ReadMessage]:
        read = copy.copy(talk)
        read.messages = [one for one in talk.messages if one.inserted_at >= self.start]
        customers = {talk.psid, talk.starter["id"], *(person.psid for person in talk.customers)}
        found = []
        for message in read.messages:
            kind, sender = sender_kind(self.page.id, read, message), message.sender
            name = sender.get("admin_name") if kind == "staff" else None
            uid = (
                sender.get("uid") or self.by_name.get(name or "", name) if kind == "staff" else None
            )
            third = kind == "customer" and talk.type != "INBOX" and sender["id"] not in customers
            found.append(ReadMessage(message, kind, uid, name, third))
        places = {"customer": 0, "staff": 1}
        return sorted(found, key=lambda one: (one.at, places.get(one.kind, 2), one.message.id))

    def person(self, one: ReadMessage | None) -> str:
        """Return the id of the member of staff who sent it, if known."""
        return (one and one.staff_id) or "unknown"

    def all_messages(self) -> Iterator[tuple[Conversation, ReadMessage]]:
        for talk in self.talks:
            for one in self.messages[talk.id]:
                yield talk, one

    # Waits

    @cached_property
    def waits(self) -> list[Wait]:
        """All waits, including those that were cut off."""
        return [wait for talk in self.talks for wait in self._waits(talk)]

    def _ends(self, talk: Conversation) -> Iterator[tuple[datetime, int, str, ReadMessage | None]]:
        """Yield what ends a wait in a conversation: answers, and private replies to it."""
        for one in self.messages[talk.id]:
            if one.is_answer:
                yield one.at, 1, "answer", one
            elif one.kind == "customer" and not one.is_third_person:
                reply_to = one.message.private_reply_to
                if reply_to is not None:
                    replies = self.messages.get(reply_to, [])
                    later = [r for r in replies if r.is_answer and r.at >= one.at]
                    yield (
                        (later[0].at, 1, "private_reply", later[0])
                        if later
                        else (one.at, 1, "private_reply", None)
                    )

    def _waits(self, talk: Conversation) -> list[Wait]:
        asking = [(one.at, 0, "", one) for one in self.messages[talk.id] if one.asks]
        most = timedelta(days=DEFAULTS["pancake__open_days"])
        found: list[Wait] = []
        waiting: Wait | None = None
        is_first = True
        for at, ends, how, one in sorted(
            [*asking, *self._ends(talk)], key=lambda event: (event[0], event[1])
        ):
            if not ends:
                assert one is not None
                if waiting is None or at - waiting.asked_at >= most:
                    if waiting is not None:
                        waiting.ended_by, waiting.ended_at = "expired", at
                    waiting = Wait(talk, [one], is_first)
                    found.append(waiting)
                    is_first = False
                else:
                    waiting.asked.append(one)
                continue
            is_first = False
            if waiting is not None and at - waiting.asked_at <= most:
                waiting.ended_by, waiting.ended_at, waiting.answer = how, at, one
            waiting = None
        for wait in found:
            self._finish(wait, most)
        return found

    def _finish(self, wait: Wait, most: timedelta) -> None:
        """Set how a wait without an answer ended, and how long it was."""
        if wait.ended_by in {None, "expired"}:
            of_comments = wait.talk.type != "INBOX"
            gone = [
                "removed" if one.message.is_removed else "hidden"
                for one in wait.asked
                if of_comments and (one.message.is_removed or one.message.is_hidden)
            ]
            left = [
                one.at
                for one in wait.asked
                if not of_comments or not (one.message.is_removed or one.message.is_hidden)
            ]
            if not left:
                wait.ended_by, wait.ended_at = max(gone), wait.asked[-1].at
            else:
                wait.asked_at = left[0]
                expires = min(wait.ended_at or left[0] + most, left[0] + most)
                if expires <= self.as_of:
                    wait.ended_by, wait.ended_at = "expired", expires
        earlier = any(one.inserted_at < self.start for one in wait.talk.messages)
        wait.is_cut_off = wait.is_first and earlier and wait.asked_at < self.start + most
        until = max(wait.ended_at or self.as_of, wait.asked_at)
        wait.minutes = (until - wait.asked_at) / timedelta(minutes=1)
        wait.working = self.working(wait.asked_at, until)

    def responses(self) -> list[Wait]:
        """Return the waits that count."""
        return [
            wait
            for wait in self.waits
            if not wait.is_cut_off and (wait.ended_by is None or wait.answer is not None)
        ]

    def response_times(self) -> Rows:
        """Return the rows of pancake__response_times, by conversation and time of the question."""
        target = DEFAULTS["pancake__response_target_minutes"]
        return {
            (self.page.id, wait.talk.id, wait.asked_at): {
                "conversation_type": wait.talk.type,
                "is_inbox": wait.talk.type == "INBOX",
                "asked_at_local": self.local(wait.asked_at),
                "date_day": self.day(wait.asked_at),
                "weekday": self.day(wait.asked_at).isoweekday(),
                "hour_of_day": self.local(wait.asked_at).hour,
                "asked_message_count": len(wait.asked),
                "answered_at": wait.ended_at,
                "answered_by_kind": wait.answer and wait.answer.kind,
                "staff_id": wait.answer and wait.answer.staff_id,
                "staff_name": wait.answer and wait.answer.staff_name,
                "is_open": wait.ended_by is None,
                "wait_minutes": wait.minutes,
                "working_minutes": wait.working,
                "is_within_target": wait.working <= target
                if wait.answer or wait.working > target
                else None,
            }
            for wait in self.responses()
        }

    # Conversations and sessions

    def conversations(self) -> Rows:
        """Return the rows of pancake__conversations."""
        return {(self.page.id, talk.id): self._conversation(talk) for talk in self.talks}

    def _conversation(self, talk: Conversation) -> Json:
        lines = self.messages[talk.id]
        waits = [wait for wait in self.waits if wait.talk is talk]
        kinds = Counter(one.kind for one in lines)
        heard = [one for one in lines if one.kind != "nobody"]
        last, first = (waits[-1], waits[0]) if waits else (None, None)
        if first is not None and first.is_cut_off:
            first = None
        names = {one.staff_id: one.staff_name for one in lines if one.kind == "staff"}
        tags = [tag for tag in talk.tag_ids if tag is not None]
        ads = talk.ad_ids if talk.type == "INBOX" else []
        states = {None: "open", "answer": "answered", "private_reply": "answered"}
        answered = first is not None and first.answer is not None
        return {
            "conversation_type": talk.type,
            "page_customer_id": talk.customers[0].id,
            "customer_id": talk.customers[0].customer_id,
            "customer_name": talk.customers[0].name,
            "post_id": talk.post_id,
            "inserted_at": talk.inserted_at,
            "inserted_at_local": self.local(talk.inserted_at),
            "updated_at": talk.updated_at,
            "first_message_at": min(one.at for one in lines),
            "last_message_at": max(one.at for one in lines),
            "last_customer_message_at": max(
                (one.at for one in lines if one.kind == "customer"), default=None
            ),
            "last_sender_kind": heard[-1].kind if heard else None,
            "is_open": last is not None and last.ended_by is None,
            "state": states.get(last.ended_by, last.ended_by) if last else None,
            "state_since_at": (last.ended_at or last.asked_at) if last else None,
            "stated_message_count": talk.message_count,
            "message_count": len(lines),
            **{
                f"{kind}_message_count": kinds[kind]
                for kind in ("customer", "staff", "outside", "automation")
            },
            "first_asked_at": first and first.asked_at,
            "first_answered_at": first.ended_at if first and answered else None,
            "first_response_minutes": first.minutes if first and answered else None,
            "first_response_working_minutes": first.working if first and answered else None,
            "first_response_staff_id": first.answer.staff_id if first and first.answer else None,
            "staff_count": len(names),
            "staff_names": ", ".join(sorted(name or "" for name in names.values())) or None,
            "tag_count": len(tags),
            "tag_names": ", ".join(self.page.tags[tag].text for tag in tags) or None,
            "ad_click_count": len(ads),
            "first_ad_id": ads[0] if ads else None,
            "first_ad_clicked_at": whole(talk.inserted_at) if ads else None,
            "has_phone": bool(talk.captures),
            "is_set_aside": False,
        }

    @cached_property
    def stretches(
        self,
    ) -> dict[str, list[list[tuple[datetime, bool, ReadMessage | None, str | None]]]]:
        """The sessions of each conversation; an event has a time, is_click, a message and an ad."""
        found = {}
        for talk in self.talks:
            events: list[tuple[datetime, bool, ReadMessage | None, str | None]] = [
                (one.at, is_click(one.message), one, None)
                for one in self.messages[talk.id]
                if (is_click(one.message) or one.kind != "nobody") and not one.is_third_person
            ]
            if talk.type == "INBOX":
                events += [(whole(talk.inserted_at), True, None, ad) for ad in talk.ad_ids]
            events.sort(key=lambda event: (event[0], not event[1]))
            parts: list[list[tuple[datetime, bool, ReadMessage | None, str | None]]] = []
            for event in events:
                if (
                    not parts
                    or event[0] - parts[-1][-1][0] >= DAY
                    or (event[1] and not parts[-1][-1][1])
                ):
                    parts.append([])
                parts[-1].append(event)
            found[talk.id] = [part for part in parts if any(one for _, _, one, _ in part)]
        return found

    def sessions(self) -> Rows:
        """Return the rows of pancake__sessions."""
        found: Rows = {}
        for talk in self.talks:
            parts = self.stretches[talk.id]
            for number, part in enumerate(parts, 1):
                lines = [one for _, _, one, _ in part if one is not None]
                answers = [one for one in lines if one.is_answer]
                texts = {one.message.id for one in lines}
                waits = [
                    wait
                    for wait in self.waits
                    if wait.talk is talk
                    and not wait.is_cut_off
                    and wait.asked[0].message.id in texts
                ]
                first = waits[0] if waits else None
                answer = first.answer if first else None
                clicks = [at for at, is_ad, _, _ in part if is_ad]
                kinds = Counter(one.kind for one in lines)
                orders = self._orders_of(talk, part[0][0])
                found[self.page.id, talk.id, number] = {
                    "conversation_type": talk.type,
                    "page_customer_id": talk.customers[0].id,
                    "started_by": "ad_click" if clicks else lines[0].kind,
                    "started_at": part[0][0],
                    "first_message_at_local": self.local(lines[0].at),
                    "date_day": self.day(lines[0].at),
                    "last_message_at": part[-1][0],
                    "is_ended": number < len(parts) or part[-1][0] + DAY <= self.as_of,
                    "message_count": len(lines),
                    **{
                        f"{kind}_message_count": kinds[kind]
                        for kind in ("customer", "staff", "outside", "automation")
                    },
                    "first_asked_at": first and first.asked_at,
                    "first_answered_at": first.ended_at if first and answer else None,
                    "first_response_minutes": first.minutes if first and answer else None,
                    "first_response_working_minutes": first.working if first and answer else None,
                    "staff_id": answers[0].staff_id if answers else None,
                    "staff_name": answers[0].staff_name if answers else None,
                    "staff_count": len({one.staff_id for one in answers} - {None}),
                    "ad_clicked_at": min(clicks, default=None),
                    "ad_id": next((ad for _, _, _, ad in part if ad), None),
                    "has_phone": any(
                        one.kind == "customer" and one.message.phones for one in lines
                    ),
                    "order_count": len(orders),
                    "has_order": bool(orders),
                    "first_ordered_at": min(orders, default=None),
                }
        return found

    @cached_property
    def orders(self) -> dict[tuple[str, str], datetime]:
        """The time of each order, by customer and order."""
        found: dict[tuple[str, str], datetime] = {}
        for talk in self.talks:
            for order in talk.orders:
                found[talk.customers[0].id, str(order.id)] = order.inserted_at
        return found

    def talks_of(self, customer_id: str) -> list[Conversation]:
        return [talk for talk in self.talks if talk.customers[0].id == customer_id]

    def _orders_of(self, talk: Conversation, started: datetime) -> list[datetime]:
        """Return the orders of the session of a conversation that began at a time."""
        customer = talk.customers[0].id
        begun = [
            (part[0][0], one.id)
            for one in self.talks_of(customer)
            for part in self.stretches[one.id]
        ]
        found = []
        for (owner, _), at in self.orders.items():
            before = [one for one in begun if one[0] <= at]
            if owner == customer and before and max(before) == (started, talk.id):
                found += [at] * (at < started + 7 * DAY)
        return found

    # Customers

    @cached_property
    def added(self) -> dict[str, datetime]:
        """The time at which each customer was added to the page."""
        found = {
            row["id"]: datetime.fromisoformat(row["inserted_at"])
            for row in self.truth["customers"]
            if row["page_id"] == self.page.id
            and datetime.fromisoformat(row["updated_at"]) >= self.start
        }
        for talk in self.talks:
            at = whole(talk.customers[0].inserted_at)
            found[talk.customers[0].id] = min(found.get(talk.customers[0].id, at), at)
        return found

    def phones(self) -> set[str]:
        """Return the customers with a telephone number."""
        listed = {row["id"] for row in self.truth["customers"] if row["phone_numbers"]}
        return (listed & self.added.keys()) | {
            talk.customers[0].id for talk in self.talks if talk.captures
        }

    def customers(self) -> Rows:
        """Return the rows of pancake__customers."""
        listed = {row["id"] for row in self.truth["customers"]}
        phones, rates = self.phones(), defaultdict(list)
        talks = {talk.id: talk for talk in self.talks}
        for row in self.feedback_rows():
            if row["conversation_id"] in talks:
                rates[talks[row["conversation_id"]].customers[0].id].append(row["rate"])
        found: Rows = {}
        for customer, added in self.added.items():
            own = self.talks_of(customer)
            spoken = [
                one.at
                for talk in own
                for one in self.messages[talk.id]
                if one.message.sender["id"] != self.page.id and not one.is_third_person
            ]
            clicks = [
                (whole(talk.inserted_at), ad)
                for talk in own
                if talk.type == "INBOX"
                for ad in talk.ad_ids
            ]
            orders = [at for (owner, _), at in self.orders.items() if owner == customer]
            found[self.page.id, customer] = {
                "is_in_customers": customer in listed,
                "added_at": added,
                "added_at_local": self.local(added),
                "first_seen_at": min(added, *spoken, added),
                "last_seen_at": max(added, *spoken, added),
                "conversation_count": len(own),
                "first_ad_id": min(clicks)[1] if clicks else None,
                "first_ad_at": min(clicks)[0] if clicks else None,
                "has_phone": customer in phones,
                "order_count": len(orders),
                "first_order_at": min(orders, default=None),
                "last_order_at": max(orders, default=None),
                "rating_count": len(rates[customer]),
                "average_rating": statistics.mean(rates[customer]) if rates[customer] else None,
            }
        return found

    # Hours and days

    def page_hourly(self) -> Rows:
        """Return the rows of pancake__page_hourly."""
        found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        talks: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        phones: dict[tuple[Any, ...], set[str]] = defaultdict(set)

        def hour(kind: str, at: datetime) -> tuple[Any, ...]:
            return self.page.id, kind, self.local(at).replace(minute=0, second=0, microsecond=0)

        for talk, one in self.all_messages():
            key = hour(talk.type, one.at)
            found[key][f"{one.kind}_message_count"] += 1
            found[key]["message_count"] += one.kind != "nobody"
            talks[key] |= {talk.id} if one.kind != "nobody" else set()
            if one.kind == "customer" and one.message.phones:
                found[key]["phone_message_count"] += 1
                phones[key].add(talk.id)
        for talk in self.talks:
            found[hour(talk.type, talk.inserted_at)]["new_conversation_count"] += 1
        for customer, at in self.added.items():
            own = sorted(self.talks_of(customer), key=lambda talk: (talk.inserted_at, talk.id))
            found[hour(own[0].type if own else "UNKNOWN", at)]["new_customer_count"] += 1
        names = [f"{kind}_message_count" for kind in (*KINDS, "unknown", "phone")]
        names += ["message_count", "new_conversation_count", "new_customer_count"]
        return {
            key: {name: counts[name] for name in names}
            | {"conversation_count": len(talks[key]), "phone_conversation_count": len(phones[key])}
            | {"date_day": key[2].date(), "hour_at": key[2] - self.offset}
            for key, counts in found.items()
        }

    def staff_daily(self) -> Rows:
        """Return the rows of pancake__staff_daily."""
        written, times, others = self._written(), self._times(), self._other_responses()
        credited, theirs = self._credits(), self._by_pancake()
        rows: Rows = {}
        for key in {*written, *times, *others, *credited, *theirs}:
            lines = written.get(key, [])
            talks = {talk.id for talk, _ in lines}
            phones, orders = credited.get(key, (set(), 0))
            person = self.people.get(key[1])
            rows[key] = {
                "staff_name": person.name if person else None,
                "message_count": len(lines),
                "conversation_count": len(talks),
                "other_response_count": others[key],
                "phone_conversation_count": len(phones),
                "order_count": orders,
                "close_rate": orders / len(talks) if talks else None,
            }
            for kind in ("inbox", "comment"):
                own = [talk.id for talk, _ in lines if talk.type == kind.upper()]
                rows[key][f"{kind}_message_count"] = len(own)
                rows[key][f"{kind}_conversation_count"] = len(set(own))
            rows[key] |= histogram(times.get(key, []))
            rows[key] |= theirs.get(key, dict.fromkeys(PANCAKES))
        return rows

    def _written(self) -> dict[tuple[Any, ...], list[tuple[Conversation, ReadMessage]]]:
        """Return the answers of each member of staff on each day."""
        found: dict[tuple[Any, ...], list[tuple[Conversation, ReadMessage]]] = defaultdict(list)
        for talk, one in self.all_messages():
            if one.is_answer:
                found[self.page.id, self.person(one), self.day(one.at)].append((talk, one))
        return found

    def _times(self) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
        """Return working and calendar minutes of responses, by staff and day of the question."""
        found: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
        for wait in self.responses():
            if wait.answer is not None and wait.talk.type == "INBOX":
                key = (self.page.id, self.person(wait.answer), self.day(wait.asked_at))
                found[key].append((wait.working, wait.minutes))
        return found

    def _other_responses(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (self.page.id, self.person(wait.answer), self.day(wait.asked_at))
            for wait in self.responses()
            if wait.answer is not None and wait.talk.type != "INBOX"
        )

    def _credits(self) -> dict[tuple[Any, ...], tuple[set[str], int]]:
        """Return the conversations with a phone number, and the orders, by staff and day."""
        phones: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        orders: Counter[tuple[Any, ...]] = Counter()
        for talk, one in self.all_messages():
            if one.kind == "customer" and one.message.phones:
                writer = self._credited(talk.customers[0], one.at)
                phones[self.page.id, writer, self.day(one.at)].add(talk.id)
        for (customer, _), at in self.orders.items():
            owner = self.talks_of(customer)[0].customers[0]
            orders[self.page.id, self._credited(owner, at), self.day(at)] += 1
        return {key: (phones.get(key, set()), orders[key]) for key in {*phones, *orders}}

    def _credited(self, customer: Customer, at: datetime) -> str:
        """Return who wrote last to a customer in the week before a time."""
        written = [
            (one.at, one.message.id, one)
            for talk in self.talks_of(customer.id)
            for one in self.messages[talk.id]
            if one.is_answer and one.at <= at
        ]
        if not written:
            return "unknown"
        last = max(written, key=lambda each: each[:2])
        return self.person(last[2]) if at - last[0] <= 7 * DAY else "unknown"

    def _by_pancake(self) -> Rows:
        """Return Pancake's own counts, by staff and day."""
        days: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
        for row in self.of("user_statistics"):
            days[self.page.id, row["user_id"], date.fromisoformat(row["hour"][:10])].append(row)
        found: Rows = {}
        for key, hours in days.items():
            measured = [row for row in hours if row["average_response_time"]]
            weights = [max(row["inbox_count"] + row["comment_count"], 1) for row in measured]
            times = [row["average_response_time"] for row in measured]
            found[key] = {
                f"pancake_{name}": sum(row[name] for row in hours)
                for name in (
                    "inbox_count",
                    "comment_count",
                    "unique_inbox_count",
                    "unique_comment_count",
                    "private_reply_count",
                    "phone_number_count",
                    "order_count",
                )
            }
            found[key]["pancake_average_response_minutes"] = (
                sum(a * b for a, b in zip(times, weights, strict=True)) / sum(weights) / 60
                if weights
                else None
            )
        return found

    def backlog_daily(self) -> Rows:
        """Return the rows of pancake__backlog_daily: who waits at each midnight, and at the end."""
        found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        for wait in self.waits:
            day = self.day(wait.asked_at)
            while not wait.is_cut_off and day <= self.day(self.as_of):
                end = min(self.end_of(day), self.as_of)
                if wait.asked_at < end and (wait.ended_at is None or wait.ended_at >= end):
                    age = (end - wait.asked_at) / HOUR
                    kind = next((name for name, top in AGES.items() if age < top), "over_7d")
                    found[self.page.id, wait.talk.type, day, kind].append(age)
                day += DAY
        return {
            key: {"open_count": len(ages), "longest_age_hours": max(ages)}
            for key, ages in found.items()
        }

    # Tags and ads

    def tag_changes(self) -> Rows:
        """Return the rows of pancake__tag_changes."""
        return {
            (self.page.id, talk.id, change.at, change.action, str(change.tag.id)): {
                "conversation_type": talk.type,
                "changed_at_local": self.local(change.at),
                "date_day": self.day(change.at),
                "tag_name": change.tag.text,
                "staff_id": change.editor and change.editor.id,
                "staff_name": change.editor and change.editor.name,
            }
            for talk in self.talks
            for change in talk.tag_histories
        }

    def tag_funnel(self) -> Rows:
        """Return the rows of pancake__tag_funnel."""
        found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        for talk in self.talks:
            now = {tag for tag in talk.tag_ids if tag is not None}
            for tag in now | {change.tag.id for change in talk.tag_histories}:
                days = [
                    self.day(change.at)
                    for change in talk.tag_histories
                    if change.tag.id == tag and change.action != "remove"
                ]
                week = min(days) - timedelta(days=min(days).weekday()) if days else None
                counts = found[self.page.id, str(tag), week]
                counts["ever_count"] += 1
                counts["now_count"] += tag in now
                counts["with_phone_count"] += bool(talk.captures)
        return {
            key: {name: counts[name] for name in ("ever_count", "now_count", "with_phone_count")}
            | {"tag_name": self.page.tags[int(key[1])].text}
            for key, counts in found.items()
        }

    def ads_daily(self) -> Rows:
        """Return the rows of pancake__ads_daily."""
        found: dict[tuple[Any, ...], Json] = defaultdict(Counter)
        clicks = [
            (whole(talk.inserted_at), ad, talk)
            for talk in self.talks
            if talk.type == "INBOX"
            for ad in talk.ad_ids
        ]
        phones = self.phones()
        for at, ad, talk in clicks:
            counts = found[self.page.id, ad, self.day(at)]
            customer = talk.customers[0].id
            of_talk = [one for one in clicks if one[2] is talk]
            of_customer = [one for one in clicks if one[2].customers[0].id == customer]
            is_first = (at, ad) == min(one[:2] for one in of_customer)
            is_new = is_first and at < self.added[customer] + DAY
            counts["conversation_count"] += 1
            counts["new_conversation_count"] += (at, ad) == min(
                one[:2] for one in of_talk
            ) and at < talk.inserted_at + DAY
            counts["new_customer_count"] += is_new
            counts["new_customer_with_phone_count"] += is_new and customer in phones
        for (customer, _), ordered in self.orders.items():
            before = [
                one[:2]
                for one in clicks
                if one[2].customers[0].id == customer and one[0] <= ordered
            ]
            if before and ordered < max(before)[0] + DAY:
                clicked, ad = max(before)
                found[self.page.id, ad, self.day(clicked)]["order_count"] += 1
        spent = {
            (self.page.id, row["ad_id"], date.fromisoformat(row["date"])): row
            for row in self.of("ad_statistics")
        }
        names: dict[str, str] = {}
        for row in sorted(
            [*self.of("campaign_statistics"), *self.of("ad_statistics")],
            key=lambda row: row["ad_id"],
        ):
            names[row["ad_id"]] = row["name"]
        ads = {row["id"]: row for row in self.of("ads")}
        rows: Rows = {}
        for key in {*found, *spent}:
            counts, spend = found[key], spent.get(key, {})
            known = ads.get(key[1], {})
            counted = (
                "conversation_count",
                "new_conversation_count",
                "new_customer_count",
                "new_customer_with_phone_count",
                "order_count",
            )
            rows[key] = {name: counts[name] for name in counted}
            for name in counted[1:]:
                per = spend["spend"] / counts[name] if spend and counts[name] else None
                rows[key]["cost_per_" + name.removesuffix("_count")] = per
            rows[key] |= {
                "spend": spend.get("spend"),
                "reach_count": spend.get("reach"),
                "impression_count": spend.get("impressions"),
                "currency": "VND" if key[1] in names else None,
                "ad_name": known.get("name", names.get(key[1])),
                "campaign_id": known.get("campaign_id"),
                "is_attribution_complete": self.end_of(key[2]) + DAY <= self.as_of,
            }
        return rows

    # Staff, feedback, and what Pancake counts

    def of(self, stream: str) -> list[Json]:
        """Return the rows of a stream of this page."""
        return [row for row in self.truth[stream] if row["page_id"] == self.page.id]

    def _seen(self) -> Iterator[tuple[str, datetime]]:
        """Yield each time at which a member of staff did something."""
        for _, one in self.all_messages():
            if one.kind == "staff":
                yield self.person(one), one.at
        for talk in self.talks:
            yield from ((one.editor.id, one.at) for one in talk.tag_histories if one.editor)
            yield from ((who.id, one.at) for one in talk.assignments for who in one.added)
        for row in self.of("user_statistics"):
            if row["inbox_count"] + row["comment_count"] + row["private_reply_count"]:
                yield row["user_id"], datetime.fromisoformat(row["hour_utc"])
        for row in self.of("user_engagements"):
            if row["total_engagement"]:
                yield row["user_id"], self.end_of(date.fromisoformat(row["date"])) - DAY

    def staff(self) -> Rows:
        """Return the rows of pancake__staff."""
        seen: dict[str, list[datetime]] = defaultdict(list)
        for staff_id, at in self._seen():
            seen[staff_id].append(at)
        return {
            (self.page.id, staff.id): {
                "page_name": self.page.name,
                "staff_name": staff.name,
                "fb_id": staff.fb_id,
                "is_active": staff.status == "active",
                "is_in_users": True,
                "first_seen_at": min(seen[staff.id], default=None),
                "last_seen_at": max(seen[staff.id], default=None),
            }
            for staff in self.page.staff
        }

    @cached_property
    def _rated(self) -> dict[str, str]:
        return {row["id"]: row["inserted_at"] for row in self.feedback_rows()}

    def feedback_rows(self) -> list[Json]:
        return self.of("customer_feedbacks")

    def feedback(self) -> Rows:
        """Return the rows of pancake__feedback."""
        talks = {talk.id: talk for talk in self.talks}
        by_fb = {staff.fb_id: staff for staff in self.page.staff}
        found: Rows = {}
        for row in self.feedback_rows():
            at = datetime.fromisoformat(row["inserted_at"])
            talk = talks.get(row["conversation_id"])
            before = [
                wait
                for wait in self.waits
                if wait.talk is talk
                and wait.ended_by == "answer"
                and not wait.is_cut_off
                and wait.ended_at is not None
                and wait.ended_at <= at
            ]
            last = before[-1] if before else None
            found[self.page.id, row["id"]] = {
                "rated_at": at,
                "date_day": self.day(at),
                "rating": row["rate"],
                "staff_id": by_fb[row["admin_id"]].id,
                "staff_name": by_fb[row["admin_id"]].name,
                "conversation_id": row["conversation_id"],
                "conversation_type": talk and talk.type,
                "page_customer_id": talk and talk.customers[0].id,
                "asked_before_at": last and last.asked_at,
                "answered_before_at": last and last.ended_at,
                "response_minutes_before": last and last.minutes,
                "working_response_minutes_before": last and last.working,
            }
        return found

    def reconciliation(self) -> Rows:
        """Return the rows of pancake__reconciliation."""
        found: dict[date, Counter[str]] = defaultdict(Counter)
        reported: dict[date, Counter[str]] = defaultdict(Counter)
        for talk, one in self.all_messages():
            day = found[self.day(one.at)]  # each day with a message has a row
            by = "customer" if one.kind == "customer" else "page"
            if talk.type in {"INBOX", "COMMENT"} and one.kind != "nobody":
                day[f"{by}_{talk.type.lower()}_message_count"] += 1
                day["message_count"] += 1
        for talk in self.talks:
            if talk.type == "INBOX":
                found[self.day(talk.inserted_at)]["new_conversation_count"] += 1
        for at in self.added.values():
            found[self.day(at)]["new_customer_count"] += 1
        for row in self.of("page_statistics"):
            day = reported[date.fromisoformat(row["hour"][:10])]
            for kind in ("customer_inbox", "page_inbox", "customer_comment", "page_comment"):
                day[f"{kind}_message_count"] += row[f"{kind}_count"]
                day["message_count"] += row[f"{kind}_count"]
            day["new_conversation_count"] += row["new_inbox_count"]
            day["new_customer_count"] += row["new_customer_count"]
        for row in self.of("new_customer_statistics"):
            day = reported[date.fromisoformat(row["date"])]
            day["new_customer_count"] = row["new_customer_count"]
            day.setdefault("new_conversation_count", row["new_page_inbox_count"])
        names = [
            f"{who}_{where}_message_count"
            for who in ("customer", "page")
            for where in ("inbox", "comment")
        ]
        names += ["message_count", "new_conversation_count", "new_customer_count"]
        rows: Rows = {}
        for key in {*found, *reported}:
            ratios: Json = {}
            for name in names:
                count, theirs = found[key][name], reported[key].get(name)
                ratios |= {name: count, f"reported_{name}": theirs}
                ratios[name.replace("_count", "_ratio")] = count / theirs if theirs else None
            rows[self.page.id, key] = ratios
        return rows


KINDS = ("customer", "staff", "outside", "automation", "nobody")
PANCAKES = (
    "pancake_inbox_count",
    "pancake_comment_count",
    "pancake_unique_inbox_count",
    "pancake_unique_comment_count",
    "pancake_private_reply_count",
    "pancake_phone_number_count",
    "pancake_order_count",
    "pancake_average_response_minutes",
)
DATED = {"page_hourly", "staff_daily", "backlog_daily", "ads_daily", "feedback", "reconciliation"}
"""The models with a column for whether a row is complete."""
MODELS = {
    "page_hourly": ("page_id", "conversation_type", "hour_at_local"),
    "staff_daily": ("page_id", "staff_id", "date_day"),
    "response_times": ("page_id", "conversation_id", "asked_at"),
    "conversations": ("page_id", "conversation_id"),
    "sessions": ("page_id", "conversation_id", "session_number"),
    "backlog_daily": ("page_id", "conversation_type", "date_day", "age_class"),
    "tag_changes": ("page_id", "conversation_id", "changed_at", "action", "tag_id"),
    "tag_funnel": ("page_id", "tag_id", "week_start_day"),
    "ads_daily": ("page_id", "ad_id", "date_day"),
    "customers": ("page_id", "page_customer_id"),
    "staff": ("page_id", "staff_id"),
    "feedback": ("page_id", "feedback_id"),
    "reconciliation": ("page_id", "date_day"),
}
"""Model → its key in this module."""


def whole(at: datetime) -> datetime:
    """Return a time without its fraction, as Pancake keeps some times."""
    return at.replace(microsecond=0)


def is_click(message: Message) -> bool:
    """Return whether a message is a click on an ad."""
    return any(part["type"] == "ad_click" for part in message.attachments)


def histogram(waits: list[tuple[float, float]]) -> Json:
    """Return the columns of response times, from working and calendar minutes."""
    working = [one for one, _ in waits]
    row: Json = {
        f"response_under_{high}_minutes_count": len([one for one in working if low <= one < high])
        for low, high in itertools.pairwise((0, *CLASSES))
    }
    row["response_from_1440_minutes_count"] = len([one for one in working if one >= CLASSES[-1]])
    row["response_count"], row["response_minutes_sum"] = len(waits), sum(working)
    target = DEFAULTS["pancake__response_target_minutes"]
    row["within_target_count"] = len([one for one in working if one <= target])
    for name, values in (("", working), ("calendar_", [one for _, one in waits])):
        row[f"median_{name}response_minutes"] = part_of(values, 0.5)
        row[f"p90_{name}response_minutes"] = part_of(values, 0.9)
    return row


def part_of(values: Iterable[float], part: float) -> float | None:
    """Return a percentile, interpolated between two values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
