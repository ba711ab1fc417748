"""What the server holds of every stream but pages, conversations and messages, as records."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from tests.pancake_api import lists, statistics
from tests.tap import KEYS, key_of
from tests.truth import text, written

if TYPE_CHECKING:
    from tests.pancake_api import Page, PancakeServer
    from tests.tap import Json

OTHERS = tuple(name for name in KEYS if name not in {"pages", "conversations", "messages"})
CHILDREN = tuple(name for name in OTHERS if name != "multi_page_user_statistics")
DATED = tuple(name for name in OTHERS if "statistics" in name or "engagements" in name)
"""The streams whose rows are numbers of an hour or a day."""


def records(server: PancakeServer, stream: str) -> dict[tuple[str, ...], Json]:
    """All that the tap must write of a stream, by primary key.

    Times are in the tap's one form. A field that the dialect does not have is left out.
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
    return {key_of(stream, row): row for row in rows}


def of_page(server: PancakeServer, page: Page, stream: str) -> list[Json]:
    """The rows of one page."""
    dialect, belongings, numbers = server.dialect, page.belongings, page.statistics
    match stream:
        case "tags":
            return [written(tag) for tag in lists.tags_body(dialect, page)["tags"]]
        case "users":
            return users(server, page)
        case "customers":
            rows = belongings.customers(dialect)
            return [{**written(lists.wire(dialect, row)), "page_id": page.id} for row in rows]
        case "posts":
            posts = belongings.posts.values()
            return [{**written(lists.wire(dialect, row)), "page_id": page.id} for row in posts]
        case "call_logs":
            return [written(lists.wire(dialect, row)) for row in belongings.calls.values()]
        case "ad_conversations":
            return [
                written(lists.export_row(dialect, page, conversation))
                for conversation in page.conversations.values()
                if conversation.ad_ids and conversation.messages
            ]
        case "page_statistics":
            held = statistics.page_held(page, numbers.hours(), dialect)
            return [{**hour(page, at), **counts} for at, _, counts in held]
        case "user_statistics":
            known = statistics.known_users(page, dialect)
            nobody = {"user_name": None, "user_fb_id": None}
            return [
                {
                    **hour(page, at),
                    "user_id": user_id,
                    "hour_in_integer": f"{instant(page, at):%Y%m%d%H%M%S}",
                    **known.get(user_id, nobody),
                    **counts,
                }
                for at, user_id, counts in statistics.user_held(page, numbers.hours())
            ]
        case "tag_statistics":
            return [
                tag_row(page, day, tag_id, counts, statistics.tag_label(as_day(day), dialect))
                if dialect.name == "observed"
                else tag_row(
                    page,
                    day,
                    tag_id,
                    {"total": counts["total"]},
                    statistics.tag_label(as_day(day), dialect),
                )
                for day, tag_id, counts in statistics.tag_held(page, numbers.days())
            ]
        case "new_customer_statistics":
            held = statistics.new_customer_held(page, numbers.days())
            return [{"date": str(day), **counts} for day, _, counts in held]
        case "customer_engagements":
            held = statistics.engagement_held(page, numbers.days(), dialect)
            return [{"date": str(day), **counts} for day, _, counts in held]
        case "user_engagements":
            people = {staff.id: staff.name for staff in page.staff}
            return [
                {"date": str(day), "user_id": user_id, "name": people[user_id], **counts}
                for day, user_id, counts in statistics.user_engagement_held(
                    page, numbers.days(), dialect
                )
            ]
        case "ad_statistics" | "campaign_statistics":
            return [
                ad_row(server, page, stream, day, ad_id, counts)
                for day, ad_id, counts in statistics.ad_held(page, numbers.days(), stream)
            ]
        case _:
            raise KeyError(stream)


def as_day(bucket: datetime | date) -> date:
    """A day that is one."""
    return bucket.date() if isinstance(bucket, datetime) else bucket


def instant(page: Page, at: datetime | date) -> datetime:
    """When a local hour begins, in UTC."""
    assert isinstance(at, datetime)
    return page.statistics.instant(at)


def hour(page: Page, at: datetime | date) -> Json:
    """The two fields that say which hour a row is of."""
    return {"hour": f"{at:%Y-%m-%dT%H:%M:%S}", "hour_utc": text(instant(page, at))}


def users(server: PancakeServer, page: Page) -> list[Json]:
    """The staff, with what the tap adds."""
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
    """One day of a tag, with what is known of it."""
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


def ad_row(
    server: PancakeServer, page: Page, stream: str, day: datetime | date, ad_id: str, counts: Json
) -> Json:
    """One day of an advertisement; where the API has no id for it, its name is what it has."""
    facts = statistics.ad_facts(page, ad_id, stream, server.dialect)
    key = facts.get("ad_id") or facts.get("id") or facts["name"]
    return {**facts, "date": str(day), "ad_id": key, **counts}


def several_pages(pages: list[Page]) -> list[Json]:
    """Days of staff over all pages; a day ends when it has ended on each of them."""
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
    """Assert that all rows came, with all their values; a null may stand for what is not there."""
    assert written_rows.keys() == held.keys()
    for key, row in held.items():
        found: dict[str, Any] = {
            name: value
            for name, value in written_rows[key].items()
            if value is not None or name in row
        }
        assert found == row, key


def utc(*parts: int) -> datetime:
    """An aware time."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]
