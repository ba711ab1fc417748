"""Reads the data of the report from the models, as columns that are small enough to embed."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = dict[str, Any]
    Ask = Callable[[str], list[Row]]
    Columns = dict[str, list[Any]]

EPOCH = date(1970, 1, 1).toordinal()
MOST_WAITING = 100
"""Rows for each page and kind. With any filters, the table in report.js is full then."""
UNKNOWN = "unknown"
REASONS = {"plan": " plan", "permission": "permission was denied", "traffic": "without traffic"}
"""Codes of reasons that a manager can act on, and the words that show them in `sync_runs`."""

# The queries run in DuckDB and PostgreSQL. Unknown kinds are UNKNOWN, as in `pancake__page_hourly`.
AS_OF = "select as_of from int_pancake__clock"
PAGES = """
select pages.page_id, pages.page_name, pages.platform, pages.timezone,
    case
        when health.status = 'skipped' and streams.read_count = 0 then 'unread'
        else health.status
    end as status,
    health.reason, health.last_complete_at, health.is_stale, health.set_aside_count,
    streams.last_read_at
from pancake__pages as pages
left join pancake__sync_health as health on health.page_id = pages.page_id
left join (
    select page_id, max(last_complete_at) as last_read_at,
        sum(case when status = 'skipped' then 0 else 1 end) as read_count
    from int_pancake__streams
    group by page_id
) as streams on streams.page_id = pages.page_id
order by pages.page_name, pages.page_id
"""
COMPLETE = """
select page_id, date_day, is_inbox_complete
from int_pancake__complete_days
order by page_id, date_day
"""
TARGET = "select max(target_minutes) as target_minutes from pancake__response_times"
HOURS = """
select page_id, sum(closes_minute - opens_minute) = 1440 * count(distinct date_day) as is_all_hours
from int_pancake__working_time
group by page_id
"""
WAITS = """
select page_id, coalesce(conversation_type, 'UNKNOWN') as type, date_day, hour_of_day, is_open,
    is_within_target, wait_minutes, working_minutes,
    case when not is_open then coalesce(staff_id, 'unknown') end as staff_id, staff_name
from pancake__response_times
"""
MESSAGES = """
select page_id, conversation_type as type, date_day,
    sum(customer_message_count) as customer, sum(staff_message_count) as staff,
    sum(outside_message_count) as outside, sum(automation_message_count) as automation,
    sum(unknown_message_count) as other
from pancake__page_hourly
group by 1, 2, 3
"""
# As in `pancake__page_hourly`, a customer counts in the kind of their first conversation.
CUSTOMERS = """
select customers.page_id, coalesce(first_one.conversation_type, 'UNKNOWN') as type,
    cast(customers.added_at_local as date) as date_day, count(*) as customers,
    sum(case when customers.has_phone then 1 else 0 end) as with_phone
from pancake__customers as customers
left join (
    select page_id, page_customer_id, conversation_type,
        row_number() over (
            partition by page_id, page_customer_id order by inserted_at, conversation_id
        ) as place
    from pancake__conversations
    where inserted_at is not null
) as first_one
    on first_one.page_id = customers.page_id
    and first_one.page_customer_id = customers.page_customer_id
    and first_one.place = 1
where customers.added_at_local is not null
group by 1, 2, 3
"""
STAFF = """
select page_id, staff_id, staff_name, date_day, conversation_count, message_count,
    inbox_conversation_count, inbox_message_count, comment_conversation_count,
    comment_message_count, phone_conversation_count, order_count
from pancake__staff_daily
where message_count > 0 or response_count > 0 or other_response_count > 0
    or phone_conversation_count > 0 or order_count > 0
"""
BACKLOG = """
select page_id, conversation_type as type, date_day, sum(open_count) as open_count
from pancake__backlog_daily
group by 1, 2, 3
"""
OPEN = """
select page_id, coalesce(conversation_type, 'UNKNOWN') as type, count(*) as open_count
from pancake__response_times
where is_open
group by 1, 2
"""
WAITING = """
select waits.page_id, coalesce(waits.conversation_type, 'UNKNOWN') as type, waits.conversation_id,
    conversations.customer_name, waits.asked_at_local, waits.wait_minutes, waits.working_minutes,
    waits.place
from (
    select response_times.*, row_number() over (
        partition by page_id, conversation_type order by wait_minutes desc, wait_id
    ) as place
    from pancake__response_times as response_times
    where is_open
) as waits
left join pancake__conversations as conversations
    on conversations.page_id = waits.page_id
    and conversations.conversation_id = waits.conversation_id
order by waits.wait_minutes desc, waits.wait_id
"""
ADS = """
select page_id, ad_id, ad_name, currency, date_day, spend, new_conversation_count,
    new_customer_count, new_customer_with_phone_count, order_count,
    is_complete and is_attribution_complete as is_complete
from pancake__ads_daily
where spend > 0 or conversation_count > 0 or order_count > 0
"""
# Pancake asks for ratings in private messages.
RATINGS = """
select page_id, coalesce(conversation_type, 'INBOX') as type, date_day, rating,
    count(*) as rating_count
from pancake__feedback
where rating is not null
group by 1, 2, 3, 4
"""
TAGS = """
select page_id, tag_name, week_start_day, sum(ever_count) as ever_count,
    sum(now_count) as now_count, sum(with_phone_count) as with_phone_count
from pancake__tag_funnel
group by 1, 2, 3
"""


@contextmanager
def opened(database: str, schema: str | None = None) -> Iterator[Ask]:
    """Open the database of the models, for reading.

    Args:
        database: A DuckDB file, or the URL of a PostgreSQL database.
        schema: Schema of the models; by default `pancake` in DuckDB and `pancake_models` in
            PostgreSQL, as in transform/profiles.yml.

    Yields:
        A function that returns the rows of a query.
    """
    if re.match(r"postgres(ql)?://", database):
        try:
            import psycopg  # noqa: PLC0415 - only PostgreSQL needs it
        except ImportError:
            message = "to read PostgreSQL, install psycopg: pip install 'psycopg[binary]'"
            raise SystemExit(message) from None

        with psycopg.connect(database, row_factory=psycopg.rows.dict_row) as session:
            session.read_only = True
            session.execute(
                "select set_config('search_path', quote_ident(%s), false)",
                [schema or "pancake_models"],
            )
            yield lambda query: session.execute(query.encode()).fetchall()
        return
    with duckdb.connect(database, read_only=True) as connection:
        # With the database, whose name may be the same as that of the schema.
        (name,) = connection.execute("select current_database()").fetchone() or ("",)
        connection.execute(f"use {quoted(name)}.{quoted(schema or 'pancake')}")

        def ask(query: str) -> list[Row]:
            found = connection.execute(query)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        yield ask


def quoted(name: str) -> str:
    """Return an identifier in quotes."""
    return '"{}"'.format(name.replace('"', '""'))


def read(ask: Ask) -> Row:
    """Return the data of the report.

    Days are numbers from 1970-01-01. Pages, types, staff and ads are positions in the lists of
    that name. Minutes have two decimals.
    """
    there = {
        row["table_name"]
        for row in ask(
            "select table_name from information_schema.tables where table_schema = current_schema()"
        )
    }

    def rows(query: str) -> list[Row]:
        """Return the rows; none if a model is disabled."""
        models = set(re.findall(r"\b(?:int_)?pancake__\w+", query))
        return ask(query) if models <= there else []

    pages = rows(PAGES)
    if not pages:
        message = "no pages in the models: was `dbt build` run, and is it the right schema?"
        raise SystemExit(message)
    as_of = rows(AS_OF)[0]["as_of"]
    targets = rows(TARGET)
    lists = Lists()
    for page in pages:
        lists.page(page)
    staff = rows(STAFF)
    for row in staff:
        lists.staff(row)
    waits = [row | {"staff_name": None} if row["is_open"] else row for row in rows(WAITS)]
    return {
        "as_of": as_of.isoformat() if as_of else None,
        "target": number(targets[0]["target_minutes"]) if targets else None,
        "pages": described(pages, rows(COMPLETE), rows(HOURS)),
        "waits": columns(
            waits,
            page=lists.page,
            type=lists.type,
            day=day,
            hour=lambda row: row["hour_of_day"],
            staff=lists.staff,
            minutes=lambda row: hundredths(row["wait_minutes"]),
            working=lambda row: hundredths(row["working_minutes"]),
            open=lambda row: int(row["is_open"]),
            within=lambda row: (
                None if row["is_within_target"] is None else +row["is_within_target"]
            ),
        ),
        "messages": columns(
            rows(MESSAGES),
            page=lists.page,
            type=lists.type,
            day=day,
            **counts("customer", "staff", "outside", "automation", "other"),
        ),
        "customers": columns(
            rows(CUSTOMERS),
            page=lists.page,
            type=lists.type,
            day=day,
            **counts("customers", "with_phone"),
        ),
        "staff_days": columns(
            staff,
            page=lists.page,
            staff=lists.staff,
            day=day,
            **counts(
                *("conversation_count", "message_count", "inbox_conversation_count"),
                *("inbox_message_count", "comment_conversation_count", "comment_message_count"),
                *("phone_conversation_count", "order_count"),
            ),
        ),
        "backlog": columns(
            rows(BACKLOG),
            page=lists.page,
            type=lists.type,
            day=day,
            **counts("open_count"),
        ),
        # Separate from the waits, because open waits of days that do not fit count too.
        "open": columns(rows(OPEN), page=lists.page, type=lists.type, **counts("open_count")),
        "waiting": columns(
            [row for row in rows(WAITING) if row["place"] <= MOST_WAITING],
            page=lists.page,
            type=lists.type,
            name=lambda row: row["customer_name"] or row["conversation_id"],
            since=lambda row: moment(row["asked_at_local"]),
            minutes=lambda row: hundredths(row["wait_minutes"]),
            working=lambda row: hundredths(row["working_minutes"]),
        ),
        "ad_days": columns(
            rows(ADS),
            page=lists.page,
            ad=lists.ad,
            day=day,
            spend=lambda row: number(row["spend"]),
            complete=lambda row: int(row["is_complete"]),
            **counts(
                *("new_conversation_count", "new_customer_count"),
                *("new_customer_with_phone_count", "order_count"),
            ),
        ),
        "ratings": columns(
            rows(RATINGS),
            page=lists.page,
            type=lists.type,
            day=day,
            **counts("rating", "rating_count"),
        ),
        "tags": columns(
            rows(TAGS),
            page=lists.page,
            name=lambda row: row["tag_name"],
            day=lambda row: ordinal(row["week_start_day"]),
            **counts("ever_count", "now_count", "with_phone_count"),
        ),
        "types": list(lists.types),
        "staff": list(lists.people.values()),
        "ads": list(lists.ads.values()),
    }


class Lists:
    """Lists of pages, types, staff and ads, to which rows refer by position."""

    def __init__(self) -> None:
        """Create empty lists."""
        self.pages: dict[str, int] = {}
        # The filter always has these two, in this order.
        self.types: dict[str, int] = {"INBOX": 0, "COMMENT": 1}
        self.people: dict[tuple[str, ...], str | None] = {}
        self.ads: dict[tuple[str | None, ...], list[str | None]] = {}
        self._places: dict[Any, int] = {}

    def page(self, row: Row) -> int:
        """Return the position of a row's page."""
        return self.pages.setdefault(row["page_id"], len(self.pages))

    def type(self, row: Row) -> int:
        """Return the position of a row's kind of conversation."""
        return self.types.setdefault(row["type"], len(self.types))

    def staff(self, row: Row) -> int | None:
        """Return the position of a row's member of staff, whose name is null if unknown."""
        staff_id, name = row["staff_id"], row["staff_name"]
        if staff_id is None:
            return None
        key: tuple[str, ...] = (staff_id,)
        if staff_id == UNKNOWN:
            name = None
        elif staff_id == (name := name or staff_id):
            # Without an id, the same name on another page may be another person.
            key = (staff_id, row["page_id"])
        self.people[key] = self.people.get(key) or name
        return self._places.setdefault(("staff", key), len(self.people) - 1)

    def ad(self, row: Row) -> int:
        """Return the position of a row's ad. An ad with two currencies is two ads."""
        key = row["page_id"], row["ad_id"], row["currency"]
        name = row["ad_name"] or row["ad_id"]
        self.ads.setdefault(key, [name, row["currency"]])
        return self._places.setdefault(("ad", key), len(self.ads) - 1)


def described(pages: list[Row], days: list[Row], hours: list[Row]) -> list[Row]:
    """Return the pages with their state. `complete` has one digit for each day from `first`."""
    flags: dict[str, list[tuple[int | None, bool]]] = {}
    for row in days:
        flags.setdefault(row["page_id"], []).append((day(row), row["is_inbox_complete"]))
    always_open = {row["page_id"] for row in hours if row["is_all_hours"]}
    found = []
    for page in pages:
        days_of_page = flags.get(page["page_id"], [])
        found.append(
            {
                "name": page["page_name"],
                "channel": page["platform"],
                "zone": number(page["timezone"]),
                "status": page["status"],
                "stale": bool(page["is_stale"]),
                "reason": reason(page["reason"]),
                "last_complete": moment(page["last_complete_at"]),
                "last_read": moment(page["last_read_at"]),
                "all_hours": page["page_id"] in always_open,
                "set_aside": page["set_aside_count"] or 0,
                "first": days_of_page[0][0] if days_of_page else None,
                "complete": "".join("1" if is_complete else "0" for _, is_complete in days_of_page),
            }
        )
    return found


def reason(text: str | None) -> str | None:
    """Return why a page was not read: a code with a text in texts.json, or the tap's reason."""
    for code, words in REASONS.items():
        if text and words in text:
            return code
    # Without the details of the API's response.
    return text and text.partition(" (HTTP")[0]


def counts(*names: str) -> dict[str, Callable[[Row], Any]]:
    """Return functions that read the named columns as numbers."""

    def count(name: str) -> Callable[[Row], Any]:
        return lambda row: number(row[name])

    return {name: count(name) for name in names}


def columns(rows: list[Row], **values: Callable[[Row], Any]) -> Columns:
    """Return a table as columns; each function returns the value of one column for a row."""
    return {name: [value(row) for row in rows] for name, value in values.items()}


def day(row: Row) -> int | None:
    """Return the day of a row, from 1970-01-01."""
    return ordinal(row["date_day"])


def ordinal(value: date | datetime | None) -> int | None:
    """Return the number of days from 1970-01-01."""
    return value.toordinal() - EPOCH if value else None


def moment(value: datetime | None) -> str | None:
    """Return a time as text, to the minute."""
    return value.isoformat(timespec="minutes") if value else None


def number(value: Any) -> int | float | None:
    """Return a number for JSON. PostgreSQL returns sums as decimals."""
    if isinstance(value, (Decimal, float)):
        return int(value) if value == int(value) else round(float(value), 4)
    return None if value is None else int(value)


def hundredths(value: Any) -> int | float | None:
    """Return a number with at most two decimals."""
    return None if value is None else number(round(float(value), 2))


def later_than(data: Row, first: int) -> Row:
    """Return the data without rows of days before `first`."""

    def kept(table: Columns) -> Columns:
        days = table["day"]
        keep = [place for place, one in enumerate(days) if one is None or one >= first]
        return {name: [values[place] for place in keep] for name, values in table.items()}

    def shortened(page: Row) -> Row:
        begins = page["first"] or first
        cut = max(first - begins, 0)
        return page | {"first": begins + cut, "complete": page["complete"][cut:]}

    return (
        data
        | {
            name: kept(table)
            for name, table in data.items()
            if isinstance(table, dict) and "day" in table
        }
        | {"pages": [shortened(page) for page in data["pages"]]}
    )


def first_day(data: Row) -> int | None:
    """Return the first day with rows. Weeks of tags do not count."""
    return min(
        (
            one
            for name, table in data.items()
            if isinstance(table, dict) and name != "tags"
            for one in table.get("day", ())
            if one is not None
        ),
        default=None,
    )
