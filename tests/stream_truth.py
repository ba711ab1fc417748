"""The server's rows of every stream except pages, conversations and messages, as records."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from tests.pancake_api import Answer, feedbacks, lists, statistics
from tests.tap import KEYS, key_of
from tests.truth import text, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.pancake_api import Call, Conversation, Page, PancakeServer
    from tests.tap import Json

    Rows = Callable[[PancakeServer, Page], list[Json]]

OTHERS = tuple(name for name in KEYS if name not in {"pages", "conversations", "messages"})
NOT_OF_PAGES = {"multi_page_user_statistics", "conversation_details"}
CHILDREN = tuple(name for name in OTHERS if name not in NOT_OF_PAGES)
"""The streams that are read for each page alone."""
DATED = tuple(name for name in OTHERS if "statistics" in name or "engagements" in name)
"""The streams whose rows are numbers of an hour or a day."""
BY_DAYS = (*DATED, "customer_feedbacks")
"""The streams that are asked for in whole days."""
REFUSED = Answer(400, b'{"success": false, "error_code": 100}', "application/json")


def records(server: PancakeServer, stream: str) -> dict[tuple[str, ...], Json]:
    """Return the records that the tap must write of a stream, by primary key.

    Times are in the tap's form. Fields that the dialect does not have are left out.
    """
    with server.account.lock:
        pages = [page for page in server.account.pages if page.category == "activated"]
        if stream == "multi_page_user_statistics":
            rows = several_pages(pages)
        else:
            rows = [
                {"page_id": page.id, **row}
                for page in pages
                for row in of_page(server, page, stream)
            ]
    return {key_of(stream, row): {**row, "other_fields": None} for row in rows}


def held_ids(server: PancakeServer, stream: str) -> set[tuple[str, ...]]:
    """Return the primary keys of a complete extraction of a stream.

    A row that is shown without its id has no key, and its messages cannot be requested.
    """
    held: Any
    match stream:
        case "pages":
            held = {(page_id,) for page_id in server.expected().pages}
        case "conversations":
            held = server.expected().conversations
        case "messages":
            held = server.expected().messages
        case _:
            held = records(server, stream)
    nameless = server.world.without_id
    return {key for key in held if not nameless & {str(part) for part in key}}


def of_page(server: PancakeServer, page: Page, stream: str) -> list[Json]:
    """Return the rows of one page."""
    return ROWS[stream](server, page)


def tags(server: PancakeServer, page: Page) -> list[Json]:
    """Return the tags as they are listed."""
    return [written(tag) for tag in lists.tags_body(server.dialect, page)["tags"]]


def customers(server: PancakeServer, page: Page) -> list[Json]:
    """Return the customers that the dialect shows."""
    rows = page.belongings.customers(server.dialect)
    return [{**written(lists.wire(server.dialect, row)), "page_id": page.id} for row in rows]


def posts(server: PancakeServer, page: Page) -> list[Json]:
    """Return the posts."""
    rows = page.belongings.posts.values()
    return [{**written(lists.wire(server.dialect, row)), "page_id": page.id} for row in rows]


def call_logs(server: PancakeServer, page: Page) -> list[Json]:
    """Return the telephone calls."""
    return [written(lists.wire(server.dialect, row)) for row in page.belongings.calls.values()]


def ad_conversations(server: PancakeServer, page: Page) -> list[Json]:
    """Return the conversations that came from advertisements."""
    return [
        written(lists.export_row(server.dialect, page, conversation))
        for conversation in page.conversations.values()
        if conversation.ad_ids and conversation.messages
    ]


def conversation_details(server: PancakeServer, page: Page) -> list[Json]:
    """Return the fields beside the messages of each conversation."""
    return [
        details(server, page, conversation)
        for conversation in page.conversations.values()
        if conversation.messages
    ]


def details(server: PancakeServer, page: Page, conversation: Conversation) -> Json:
    """Return the fields beside the messages of one conversation."""
    row = server.details(page.id, conversation.id)
    newest = server.dialect.legible(conversation.messages[-1].inserted_at)
    return {
        **written(row),
        "ad_clicks": row["ad_clicks"],  # keyed by ids, so it has no columns
        "last_commented_at": written(row["last_commented_at"]) or None,
        "last_message_at": text(newest),
    }


def known_ads(_: PancakeServer, page: Page) -> list[Json]:
    """Return the advertisements that conversations name."""
    return [lists.ad_row(page, ad_id, named=True) for ad_id in lists.ad_ids(page)]


def page_statistics(server: PancakeServer, page: Page) -> list[Json]:
    """Return the hours of the page."""
    held = statistics.page_held(page, page.statistics.hours(), server.dialect)
    return [{**hour(server, page, at), **counts} for at, _, counts in held]


def user_statistics(server: PancakeServer, page: Page) -> list[Json]:
    """Return the hours of each member of staff."""
    known = statistics.known_users(page, server.dialect)
    nobody = {"user_name": None, "user_fb_id": None}
    return [
        {
            **hour(server, page, at),
            "user_id": user_id,
            "hour_in_integer": f"{instant(page, at):%Y%m%d%H%M%S}",
            **known.get(user_id, nobody),
            **counts,
        }
        for at, user_id, counts in statistics.user_held(page, page.statistics.hours())
    ]


def tag_statistics(server: PancakeServer, page: Page) -> list[Json]:
    """Return the days of each tag; only the observed dialect has `pin`."""
    observed = server.dialect.name == "observed"
    return [
        tag_row(
            page,
            day,
            tag_id,
            counts if observed else {"total": counts["total"]},
            # The label of this dialect lacks the year, which the key needs.
            statistics.tag_label(as_day(day), server.dialect) + f"/{day.year}" * observed,
        )
        for day, tag_id, counts in statistics.tag_held(page, page.statistics.days())
    ]


def new_customer_statistics(_: PancakeServer, page: Page) -> list[Json]:
    """Return the days of new customers."""
    held = statistics.new_customer_held(page, page.statistics.days())
    return [{"date": str(day), **counts} for day, _, counts in held]


def customer_feedbacks(server: PancakeServer, page: Page) -> list[Json]:
    """Return the feedbacks of customers, with times in UTC."""
    return [
        {**feedbacks.wire(page, row, server.dialect), "inserted_at": text(row["inserted_at"])}
        for row in page.feedbacks.held()
    ]


def customer_engagements(server: PancakeServer, page: Page) -> list[Json]:
    """Return the days of the page's engagements."""
    held = statistics.engagement_held(page, page.statistics.days(), server.dialect)
    return [{"date": str(day), **counts} for day, _, counts in held]


def user_engagements(server: PancakeServer, page: Page) -> list[Json]:
    """Return the days of engagements of each member of staff."""
    people = {staff.id: staff.name for staff in page.staff}
    held = statistics.user_engagement_held(page, page.statistics.days(), server.dialect)
    return [
        {"date": str(day), "user_id": user_id, "name": people[user_id], **counts}
        for day, user_id, counts in held
    ]


def ads(stream: str) -> Rows:
    """Return the function for the days of each advertisement, whose key is its id or its name."""

    def rows(server: PancakeServer, page: Page) -> list[Json]:
        found = []
        for day, ad_id, counts in statistics.ad_held(page, page.statistics.days(), stream):
            facts = statistics.ad_facts(page, ad_id, stream, server.dialect)
            key = facts.get("ad_id") or facts.get("id") or facts["name"]
            found.append({**facts, "date": str(day), "ad_id": key, **counts})
        return found

    return rows


def as_day(bucket: datetime | date) -> date:
    """Return a day without a time."""
    return bucket.date() if isinstance(bucket, datetime) else bucket


def instant(page: Page, at: datetime | date) -> datetime:
    """Return when a local hour begins, in UTC."""
    assert isinstance(at, datetime)
    return page.statistics.instant(at)


def hour(server: PancakeServer, page: Page, at: datetime | date) -> Json:
    """Return the two fields with the hour of a row."""
    label = statistics.hour_label(at, server.dialect)
    return {"hour": label, "hour_utc": text(instant(page, at))}


def users(server: PancakeServer, page: Page) -> list[Json]:
    """Return the staff, with the columns that the tap adds."""
    body = lists.users_body(server.dialect, page)
    body = body.get("data", body)
    duties = body["round_robin_users"]
    return [
        {
            **user,
            "is_disabled": is_disabled,
            "round_robin_inbox": user["id"] in duties["inbox"],
            "round_robin_comment": user["id"] in duties["comment"],
        }
        for key, is_disabled in (("users", False), ("disabled_users", True))
        for user in body[key]
    ]


def tag_row(page: Page, day: datetime | date, tag_id: str, counts: Json, category: str) -> Json:
    """Return one day of a tag, with the tag's name and colours."""
    tag = page.tags.get(int(tag_id))
    return {
        "tag_id": tag_id,
        "category": category,
        "date": str(day),
        **counts,
        "tag_text": tag and tag.text,
        "tag_color": tag and tag.color,
        "tag_lighten_color": tag and tag.lighten_color,
        "tag_description": None,
    }


def several_pages(pages: list[Page]) -> list[Json]:
    """Return the days of staff over all pages; a day ends when it has ended on each page."""
    days = {day for page in pages for day in page.statistics.days()}
    rows: list[Json] = []
    for day in sorted(days):
        low, high = datetime.combine(day, time.min), datetime.combine(day, time.max)
        totals = statistics.multi_held(pages, low, high)
        rows += [
            {"user_id": user_id, "date": str(day), **total} for user_id, total in totals.items()
        ]
    return rows


def assert_same(
    written_rows: dict[tuple[str, ...], Json], held: dict[tuple[str, ...], Json]
) -> None:
    """Assert that all rows and values arrived; a null may stand for a field that is missing."""
    assert written_rows.keys() == held.keys()
    for key, row in held.items():
        found: dict[str, Any] = {
            name: value
            for name, value in written_rows[key].items()
            if value is not None or name in row
        }
        assert found == row, key


def refuse_statistics(server: PancakeServer, wrong: Callable[[Call], bool]) -> None:
    """Refuse the calls of statistics that `wrong` chooses, from now on."""
    server.instead = lambda call: REFUSED if "statistics" in call.path and wrong(call) else None


def asks_for_day(call: Call, day: datetime) -> bool:
    """Return whether a call asks for days that include this one."""
    if bounds := call.params.get("date_range"):
        low, high = (datetime.strptime(part[:10], "%d/%m/%Y") for part in bounds.split(" - "))  # noqa: DTZ007
        return low <= day.replace(tzinfo=None) < high + timedelta(days=1)
    since, until = int(call.params["since"]), int(call.params["until"])
    return since <= day.timestamp() < until


def utc(*parts: int) -> datetime:
    """Return an aware time in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


ROWS: dict[str, Rows] = {
    "tags": tags,
    "users": users,
    "customers": customers,
    "posts": posts,
    "call_logs": call_logs,
    "ad_conversations": ad_conversations,
    "conversation_details": conversation_details,
    "ads": known_ads,
    "page_statistics": page_statistics,
    "user_statistics": user_statistics,
    "tag_statistics": tag_statistics,
    "new_customer_statistics": new_customer_statistics,
    "customer_feedbacks": customer_feedbacks,
    "customer_engagements": customer_engagements,
    "user_engagements": user_engagements,
    "ad_statistics": ads("ad_statistics"),
    "campaign_statistics": ads("campaign_statistics"),
}
"""Stream → the function that returns the rows of one page."""
