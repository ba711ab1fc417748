"""The statistics of a page, and their form in each dialect.

A number is invented when it is first needed, from the account's seed, the page, the kind of
statistics and the hour or day. So it is the same in every process. About a third of the hours and
days are without traffic. Hours and days are naive, in the page's own time. `correct` changes a
number later, as Pancake does.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account, Json, Page
    from .dialects import Observed

    Bucket = datetime | date
    Held = Iterator[tuple[Bucket, str, Json]]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAGE = (
    "customer_comment_count",
    "customer_inbox_count",
    "inbox_interactive_count",
    "new_customer_count",
    "new_inbox_count",
    "page_comment_count",
    "page_inbox_count",
    "phone_number_count",
    "uniq_phone_number_count",
    "today_uniq_website_referral",
    "today_website_guest_referral",
)
USER = (
    "average_response_time",
    "inbox_count",
    "comment_count",
    "unique_inbox_count",
    "unique_comment_count",
    "private_reply_count",
    "phone_number_count",
    "order_count",
)
NEW_CUSTOMERS = (
    "new_customer_count",
    "new_page_inbox_count",
    "new_phone_number_count",
    "phone_number_count",
)
DOCUMENTED_SERIES = (
    "inbox",
    "comment",
    "total",
    "new_customer_replied",
    "customer_engagement_new_inbox",
    "order_count",
    "old_order_count",
)
ENGAGEMENTS = (*DOCUMENTED_SERIES, "new_customer", "new_customer_from_inbox")
DOCUMENTED_USER = ("inbox_count", "order_count", "old_order_count", "total_engagement")
USER_ENGAGEMENTS = (
    *DOCUMENTED_USER,
    "comment_count",
    "new_customer_replied_count",
    "customer_engagement_new_inbox",
)
ADS = ("reach", "impressions", "spend")
CAMPAIGNS = (
    *ADS,
    "cpc",
    "cpm",
    "ctr",
    "link_click",
    "budget_remaining",
    "daily_budget",
    "lifetime_budget",
    "messaging_conversation_started_7d",
    "messaging_first_reply",
    "post_comments",
    "purchases",
    "purchase_roas",
    "purchases_conversion_value",
    "lead_events",
)
FRACTIONS = frozenset({"spend", "cpc", "cpm", "ctr", "purchase_roas"})
HOURLY = frozenset({"page_statistics", "user_statistics"})
AD_NAMES = ("Tết sale", "Livestream", "Freeship")


class Statistics:
    """The numbers of one page between `since` and `until`; none if these are not set."""

    def __init__(self, page: Page) -> None:
        """Begin without numbers."""
        self._page = page
        self._corrected: dict[tuple[str, Bucket, str], Json] = {}
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.extra_series: dict[str, int] = {}
        """Undocumented series of engagements: name → the number of each day."""

    @property
    def zone(self) -> tzinfo:
        """The page's time zone."""
        return self._page.zone or timezone(timedelta(hours=self._page.timezone))

    def correct(self, stream: str, bucket: Bucket, who: str = "", **counts: float) -> None:
        """Change numbers of an hour or day; of a member of staff, a tag or an advertisement."""
        self._corrected.setdefault((stream, bucket, who), {}).update(counts)

    def counts(self, stream: str, bucket: Bucket, who: str, names: tuple[str, ...]) -> Json | None:
        """Return the numbers of one hour or day; None without traffic."""
        what = f"{self._page.account.seed}:{self._page.id}:{stream}:{bucket}:{who}"
        has_traffic, found = _invented(what, names)
        corrected = self._corrected.get((stream, bucket, who))
        if not has_traffic and corrected is None:
            return None
        return found | (corrected or {})

    def hours(
        self, low: datetime | None = None, high: datetime | None = None
    ) -> Iterator[datetime]:
        """Yield the local hours of the page's statistics, from `low` to `high`, both inclusive."""
        if self.since is None or self.until is None:
            return
        first = self.since.astimezone(self.zone).replace(tzinfo=None)
        at = first.replace(minute=0, second=0, microsecond=0)
        end = self.until.astimezone(self.zone).replace(tzinfo=None)
        if low is not None and low > at:
            at = low.replace(minute=0, second=0, microsecond=0)
            at += HOUR * (at < low)
        while at < end and (high is None or at <= high):
            # No clock shows the hour that is left out in spring. The hour that comes twice in
            # autumn is one hour.
            if self.instant(at).astimezone(self.zone).replace(tzinfo=None) == at:
                yield at
            at += HOUR

    def days(self, low: date | None = None, high: date | None = None) -> Iterator[date]:
        """Yield the local days of the page's statistics, from `low` to `high`, both inclusive."""
        if self.since is None or self.until is None:
            return
        day = self.since.astimezone(self.zone).date()
        end = (self.until - timedelta(microseconds=1)).astimezone(self.zone).date()
        day = day if low is None else max(day, low)
        end = end if high is None else min(end, high)
        while day <= end:
            yield day
            day += DAY

    def instant(self, hour: datetime) -> datetime:
        """Return when a local hour begins."""
        return hour.replace(tzinfo=self.zone).astimezone(UTC)


# The tap and the tests need the same numbers many times.
@lru_cache(100_000)
def _invented(what: str, names: tuple[str, ...]) -> tuple[bool, Json]:
    """Return whether there was traffic, and the numbers, which must not be changed."""
    rng = Random(what)
    has_traffic = rng.random() >= 0.35
    return has_traffic, {
        name: round(rng.random() * 900, 2) if name in FRACTIONS else rng.randrange(60)
        for name in names
    }


def _local(text: str) -> datetime | None:
    for form in ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y"):
        try:
            return datetime.strptime(text.strip(), form)  # noqa: DTZ007 - local on purpose
        except ValueError:
            continue
    return None


def date_range(text: str | None) -> tuple[datetime, datetime] | None:
    """Return the bounds of a `date_range`; None if it is not valid."""
    low, _, high = (text or "").partition(" - ")
    bounds = _local(low), _local(high)
    if bounds[0] is None or bounds[1] is None:
        return None
    last = bounds[1] if ":" in high else datetime.combine(bounds[1], time.max)
    return bounds[0], last


def _plus(totals: Json, counts: Json) -> None:
    for name, count in counts.items():
        totals[name] = round(totals.get(name, 0) + count, 2)


def hour_label(hour: Bucket, dialect: Observed) -> str:
    """Return an hour as text: local, although the document says `date-time`."""
    return f"{hour:%Y-%m-%dT%H:%M:%S}" + ("Z" if dialect.name == "documented" else "")


# For each kind, `…_held` returns the numbers between two times, and `…_body` the answer.


def page_held(page: Page, hours: Iterator[datetime], dialect: Observed) -> Held:
    """Return the hours of a page."""
    names = PAGE + (("order_count", "total_interactions") if dialect.name == "observed" else ())
    for hour in hours:
        counts = page.statistics.counts("page_statistics", hour, "", names)
        if counts is not None:
            yield hour, "", counts


def page_body(page: Page, hours: Iterator[datetime], dialect: Observed) -> Json:
    """Return the answer of `statistics/pages`."""
    return {
        "success": True,
        "data": [
            {"hour": hour_label(hour, dialect), **counts}
            for hour, _, counts in page_held(page, hours, dialect)
        ],
    }


def user_held(page: Page, hours: Iterator[datetime]) -> Held:
    """Return the hours of each member of staff."""
    for hour in hours:
        for staff in page.staff:
            counts = page.statistics.counts("user_statistics", hour, staff.id, USER)
            if counts is not None:
                yield hour, staff.id, counts


def known_users(page: Page, dialect: Observed) -> dict[str, Json]:
    """Return the name and Facebook id of staff; not always of those who have left."""
    return {
        staff.id: {"user_name": staff.name, "user_fb_id": staff.fb_id if number else None}
        for number, staff in enumerate(page.staff)
        if staff.status == "active" or dialect.name != "observed"
    }


def user_body(page: Page, hours: Iterator[datetime], dialect: Observed) -> Json:
    """Return the answer of `statistics/users`."""
    rows: dict[str, list[Json]] = {}
    totals: dict[str, Json] = {}
    for hour, user_id, counts in user_held(page, hours):
        text = hour_label(hour, dialect)
        assert isinstance(hour, datetime)
        rows.setdefault(user_id, []).append(
            {
                "hour": text,
                "hour_in_integer": f"{page.statistics.instant(hour):%Y%m%d%H%M%S}",
                "page_id": page.id,
                **counts,
            }
        )
        _plus(totals.setdefault(user_id, {}), counts)
        totals[user_id]["hour"] = text
    known = known_users(page, dialect)
    users = {key: {**known[key], **total} for key, total in totals.items() if key in known}
    return {"success": True, "data": {"statistics": rows, "users": users}}


def multi_held(pages: list[Page], low: datetime, high: datetime) -> dict[str, Json]:
    """Return the totals of staff over several pages."""
    totals: dict[str, Json] = {}
    for page in pages:
        for hour, user_id, counts in user_held(page, page.statistics.hours(low, high)):
            total = totals.setdefault(user_id, {})
            _plus(total, counts)
            total["hour"] = max(total.get("hour", ""), f"{hour:%Y-%m-%dT%H:%M:%S}")
            staff = next(staff for staff in page.staff if staff.id == user_id)
            total |= {"user_name": staff.name, "user_fb_id": staff.fb_id}
    return totals


def multi_body(account: Account, page_ids: list[str], low: datetime, high: datetime) -> Json:
    """Return the answer of the user API's `statistics/user`, which one bad page makes fail."""
    known = {page.id: page for page in account.pages}
    errors = []
    for page_id in page_ids:
        page = known.get(page_id)
        code = 105 if page is None or page.category != "activated" else None
        code = code or (page.refused.get("multi_page_user_statistics") if page else None)
        if code:
            errors.append({"page_id": page_id, "error_code": code})
    if errors:
        return {"success": False, "errors": errors}
    pages = [known[page_id] for page_id in page_ids]
    rows: dict[str, list[Json]] = {}
    for page in pages:
        for hour, user_id, counts in user_held(page, page.statistics.hours(low, high)):
            row = {"hour": f"{hour:%Y-%m-%dT%H:%M:%S}", "page_id": page.id, **counts}
            rows.setdefault(user_id, []).append(row)
    return {"success": True, "data": {"statistics": rows, "users": multi_held(pages, low, high)}}


def tag_held(page: Page, days: Iterator[date]) -> Held:
    """Return the days of each tag; a day without traffic is 0."""
    for day in days:
        for tag_id in (*list(page.tags)[:3], 77):
            counts = page.statistics.counts("tag_statistics", day, str(tag_id), ("pin", "total"))
            yield day, str(tag_id), counts or {"pin": 0, "total": 0}


def tag_label(day: Bucket, dialect: Observed) -> str:
    """Return a day as `statistics/tags` writes it."""
    labels = {
        "observed": f"{day.day}/{day.month}",
        "documented": f"{day.day}/{day.month}/{day.year}",
        "older": day.isoformat(),
    }
    return labels[dialect.name]


def tag_body(page: Page, days: Iterator[date], dialect: Observed) -> Json:
    """Return the answer of `statistics/tags`; a deleted tag is in no list."""
    labels: dict[Bucket, str] = {}
    series: dict[str, list[Any]] = {}
    for day, tag_id, counts in tag_held(page, days):
        labels[day] = tag_label(day, dialect)
        key = f"tag_{tag_id}" if dialect.name == "older" else tag_id
        value = counts if dialect.name == "observed" else counts["total"]
        series.setdefault(key, []).append(value)
    return {
        "success": True,
        "data": {"categories": list(labels.values()), "series": series},
        "data_today": {"categories": ["0", "1"], "series": {key: [0, 0] for key in series}},
        "tags": [
            {
                "id": str(tag.id) if dialect.name == "documented" else tag.id,
                "text": tag.text,
                "color": tag.color,
                "lighten_color": tag.lighten_color,
                "description": None,
            }
            for tag in page.tags.values()
        ],
    }


def new_customer_held(page: Page, days: Iterator[date]) -> Held:
    """Return the days with new customers."""
    for day in days:
        counts = page.statistics.counts("new_customer_statistics", day, "", NEW_CUSTOMERS)
        if counts is not None:
            yield day, "", counts


def new_customer_body(page: Page, days: Iterator[date], dialect: Observed) -> Json:
    """Return the answer of `statistics/customers`, or `statistics/page_customers`."""
    end = "T00:00:00" if dialect.name == "documented" else ""
    rows = [{"date": f"{day}{end}", **counts} for day, _, counts in new_customer_held(page, days)]
    return {"success": True, "data": {page.id: rows} if dialect.name == "older" else rows}


def engagement_held(page: Page, days: Iterator[date], dialect: Observed) -> Held:
    """Return the days of engagements; a day without traffic is 0."""
    names = DOCUMENTED_SERIES if dialect.name == "documented" else ENGAGEMENTS
    for day in days:
        counts = page.statistics.counts("customer_engagements", day, "", ENGAGEMENTS) or {}
        yield day, "", {name: counts.get(name, 0) for name in names}


def user_engagement_held(page: Page, days: Iterator[date], dialect: Observed) -> Held:
    """Return the days of each member of staff with engagements."""
    names = DOCUMENTED_USER if dialect.name == "documented" else USER_ENGAGEMENTS
    for day in days:
        for staff in page.staff:
            counts = page.statistics.counts("user_engagements", day, staff.id, USER_ENGAGEMENTS)
            if counts is not None:
                yield day, staff.id, {name: counts[name] for name in names}


def engagement_body(page: Page, low: date, high: date, dialect: Observed) -> Json:
    """Return the answer of `statistics/customer_engagements`, whose form has changed over time."""
    statistics = page.statistics
    days = {day: row for day, _, row in engagement_held(page, statistics.days(low, high), dialect)}
    if dialect.name == "documented":
        labels = {day: f"{day.day}/{day.month}/{day.year}" for day in sorted(days, reverse=True)}
    elif dialect.name == "observed":
        labels = {day: f"{day.day}/{day.month}" for day in days}
    else:
        labels = {day: str(day) for day in days}
    # The form of April 2026 has only two numbers in its rows.
    names = ENGAGEMENTS if dialect.name == "older" else DOCUMENTED_SERIES
    series = [{"name": name, "data": [days[day][name] for day in labels]} for name in names]
    series += [
        {"name": name, "data": [count] * len(labels)}
        for name, count in statistics.extra_series.items()
    ]
    totals: dict[str, Json] = {}
    for _, user_id, counts in user_engagement_held(page, statistics.days(low, high), dialect):
        _plus(totals.setdefault(user_id, {}), counts)
    people = {staff.id: staff.name for staff in page.staff}
    body: Json = {
        "success": True,
        "data": {"categories": list(labels.values()), "series": series},
        "users_engagements": [
            {"user_id": user_id, "name": people[user_id], **total}
            for user_id, total in totals.items()
        ],
    }
    if dialect.name == "observed":
        only = ("inbox", "comment", "total", "new_customer", "new_customer_from_inbox")
        body["statistics"] = [
            {"hour": f"{day}T00:00:00", **{name: row[name] for name in only}}
            for day, row in days.items()
        ]
    return body


def ad_held(page: Page, days: Iterator[date], kind: str) -> Held:
    """Return the days of each advertisement that was shown."""
    names = ADS if kind == "ad_statistics" else CAMPAIGNS
    for day in days:
        for number in range(len(AD_NAMES)):
            ad_id = f"4{page.number:05d}{number:09d}"
            counts = page.statistics.counts(kind, day, ad_id, names)
            if counts is not None:
                yield day, ad_id, counts


def ad_facts(page: Page, ad_id: str, kind: str, dialect: Observed) -> Json:
    """Return the facts of an advertisement besides numbers; the document has no id."""
    name = AD_NAMES[int(ad_id[-9:])]
    if kind == "campaign_statistics":
        return {
            "account_id": f"5{page.number:05d}",
            "ad_id": ad_id,
            "adset_id": f"6{ad_id[1:]}",
            "status": "ACTIVE",
            "currency": "VND",
            **({} if dialect.name == "documented" else {"name": name, "ad_status": "ACTIVE"}),
        }
    key = {"observed": {"id": ad_id}, "documented": {}, "older": {"ad_id": ad_id}}
    return {**key[dialect.name], "name": name, "status": "ACTIVE", "currency": "VND"}


def ad_body(page: Page, days: Iterator[date], kind: str, dialect: Observed) -> Any:
    """Return the answer of `statistics/ads` and `statistics/pages_campaigns`."""
    totals: dict[str, Json] = {}
    for _, ad_id, counts in ad_held(page, days, kind):
        _plus(totals.setdefault(ad_id, {}), counts)
    texts = {
        "observed": () if kind == "campaign_statistics" else ("spend",),
        "documented": (),
        "older": CAMPAIGNS,
    }[dialect.name]
    rows = [
        {
            **ad_facts(page, ad_id, kind, dialect),
            **{name: n if name in texts else str(n) for name, n in total.items()},
        }
        for ad_id, total in totals.items()
    ]
    if dialect.name == "documented":
        return rows
    return {"data": rows} if dialect.name == "older" else {"success": True, "data": rows}
