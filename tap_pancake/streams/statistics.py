"""Statistics of Pancake: pages, staff, tags, new customers, engagements."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import USER_API
from tap_pancake.api.errors import PageFailed, PageSkipped, PathNotFound, TransientError, code_of
from tap_pancake.reading.buckets import (
    HOUR,
    Unit,
    ahead_of_utc,
    is_day_and_month,
    spans_of,
    zone_of,
    zone_or_none,
)
from tap_pancake.reading.statistics import (
    StatisticsStream,
    object_in,
    rows_in,
)
from tap_pancake.rows import times
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Reply, Row
    from tap_pancake.reading.buckets import BucketWalk, Span
    from tap_pancake.reading.statistics import Bucket
    from tap_pancake.running.run import Run


class PageStatisticsStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/pages`: by hour; hours without traffic may be missing.

    Source: reference, section 12.
    """

    name = "page_statistics"
    path = "/pages/{page_id}/statistics/pages"
    unit = Unit.HOUR
    is_dated = True
    per_request = "`statistics_window_days` days"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "hour")
    replication_key = "hour_utc"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token.wider
        return {"since": span.since, "until": span.until}

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        for row in rows_in(body["data"]):
            at = span.hour_of(row["hour"])
            yield at, {**row, "hour_utc": times.text(at)}


class UserStatisticsStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/users`: by staff member and hour.

    Its rows may also have their hour in UTC, which shows the page's time zone. Source: reference,
    section 13.
    """

    name = "user_statistics"
    path = "/pages/{page_id}/statistics/users"
    unit = Unit.HOUR
    is_dated = True
    per_request = "`statistics_window_days` days"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "user_id", "hour")
    replication_key = "hour_utc"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start without any time zone."""
        super().__init__(tap, run)
        self.zones: dict[str, str] = {}
        """Page id to the hours ahead of UTC, from the newest row of the page that shows them."""

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token.wider
        return {"date_range": span.date_range}

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        data = object_in(body["data"])
        shown: list[tuple[datetime, timedelta]] = []
        totals = object_in(data.get("users") or {})
        for user_id, rows in object_in(data["statistics"]).items():
            user = object_in(totals.get(user_id) or {})
            for row in rows_in(rows):
                at = span.hour_of(row["hour"])
                ahead = ahead_of_utc(at, row.get("hour_in_integer"))
                if ahead is not None:
                    shown.append((at, ahead))
                yield (
                    at,
                    {
                        **row,
                        "user_id": user_id,
                        "user_name": user.get("user_name"),
                        "user_fb_id": user.get("user_fb_id"),
                        "hour_utc": times.text(
                            at if ahead is None else at.replace(tzinfo=timezone(ahead))
                        ),
                    },
                )
        if shown and context:
            self.zones.setdefault(context["page_id"], str(max(shown)[1] / HOUR))


class MultiPageUserStatisticsStream(StatisticsStream):
    """`GET /api/v1/statistics/user`: totals of each staff member over all pages, by day.

    If the user token cannot access one of the pages, Pancake refuses the whole request and names
    the page. The tap leaves it out and repeats the request. If the answer names no page, the tap
    requests each page alone to find it. Source: reference, sections 14 and 24, 10.
    """

    name = "multi_page_user_statistics"
    path = "/statistics/user"
    api = USER_API
    daily = True
    per_request = "all staff of one day"
    primary_keys = ("user_id", "date")
    replication_key = "date"
    state_partitioning_keys = None
    selected_by_default = False

    _NOT_THESE = frozenset({105})
    """Codes that here refuse a page; for other endpoints they are about the user token."""
    _NOT_ALLOWED = frozenset({121, 122, 125, 126}) | _NOT_THESE
    _CHECK = "check their plans and your rights in Pancake, or name the others in `page_ids`"
    _STAYS = "if each run says so, name only the other pages in `page_ids`"

    _has_tried_alone = False
    """Whether this run has requested each page alone without a result: a costly step."""

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span, page_ids = next_page_token
        return {"page_ids": ",".join(page_ids), "date_range": span.date_range}

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        if not self.run.shard.has_account:
            return None
        self._need_user_token()
        pages = self.run.streams["pages"].chosen
        if not pages:
            return None
        span = self.newest_window(None)
        try:
            body = self._answer(span, pages)
        except PageFailed as refusal:
            alone = self._refused_alone(span, pages, refusal)
            is_denied = all(isinstance(each, PageSkipped) for each in alone.values())
            msg = f"{self.name}: left out pages {', '.join(alone)}, since the API refused them: "
            raise (PageSkipped if is_denied else PageFailed)(msg + self._CHECK) from None
        if not self._names_pages(body):
            return [row for _, row in self.found(body, span, None)]
        ones = [error for error in body["errors"] if isinstance(error, dict)]
        named = ", ".join(str(error.get("page_id")) for error in ones)
        codes = ", ".join(sorted({str(code_of(error)) for error in ones}))
        msg = f"{self.name}: left out pages {named}, since the API refused them (error {codes}): "
        raise PageSkipped(msg + self._CHECK)

    @override
    def handles_failure(self, body: Body) -> bool:
        return self._names_pages(body) or code_of(body) in self._NOT_THESE

    def _names_pages(self, body: Body) -> bool:
        """Return whether an answer refuses some pages, and names them."""
        return bool(body.get("errors")) and isinstance(body["errors"], list)

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        for user_id, row in object_in(object_in(body["data"])["users"]).items():
            day = span.first
            yield day, {**object_in(row), "user_id": user_id, "date": day.date().isoformat()}

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        if not self.run.shard.has_account:
            return  # the totals are for all shards together; only one of them reads them
        # This stream is not a child of `pages`: its failure must not end the run.
        try:
            yield from self._read()
        except PageSkipped as refusal:
            self.run.page_skipped(refusal, self.name, None)
        except PageFailed as failure:
            self.run.page_failed(failure, self.name, None)

    def _read(self) -> Iterator[Record]:
        self._need_user_token()
        pages: dict[str, Row] = dict(self.run.streams["pages"].chosen)
        added = [times.normalised_or_none(page.get("inserted_at")) for page in pages.values()]
        if not pages:
            return
        # A day is complete when it is over in the time zones of all pages.
        zones = [zone_of(page.get("timezone")) for page in pages.values()]
        zone = min(zones, key=lambda zone: zone.utcoffset(None) or timedelta())
        oldest = min((at for at in added if at), default=None) if all(added) else None
        is_guessed = any(zone_or_none(page.get("timezone")) is None for page in pages.values())
        walk = self.walk_of(None, zone, oldest, slack=int(is_guessed))
        if walk is None:
            return
        failed: list[PageFailed] = []
        for span in walk.spans(self.days_a_call):
            try:
                body = self._totals(span, pages, failed)
                if not pages:
                    return
                yield from self.records_of(body, span, walk, None)
            except PageFailed as failure:
                self.span_failed(failure, span, walk, None)
                continue
            if not failed:
                self._note_pages(sorted(pages), walk)
                walk.span_read(span)
        walk.finish()

    def _note_pages(self, pages: list[str], walk: BucketWalk) -> None:
        """Keep the pages of the totals in the state; if there are new ones, read all days again."""
        before: list[str] = walk.bookmark.fact("pages")
        added = [page_id for page_id in pages if page_id not in before]
        if added and walk.has_read and not walk.read:
            self.logger.info(
                "%s: the totals are of all pages together, and those of earlier runs lack the pages"
                " %s: all days are read again",
                self.name,
                ", ".join(added),
            )
            walk.reopen()
        walk.bookmark.note("pages", pages)

    def _need_user_token(self) -> None:
        if not self.config.get("access_token"):
            msg = f"{self.name} needs the user token: set `access_token`, or do not select it"
            raise PageSkipped(msg)

    def _totals(self, span: Span, pages: dict[str, Row], failed: list[PageFailed]) -> Body:
        """Request a day of all pages together.

        Args:
            span: the day.
            pages: the pages; those that are refused are removed.
            failed: the reasons of pages that failed, as opposed to skipped, are added.

        Returns:
            The answer; empty if no page is left.

        Raises:
            PageFailed: the request is refused, and no page is the reason.
        """
        while pages:
            try:
                body = self._answer(span, pages)
            except PageFailed as refusal:
                refused = self._refused_alone(span, pages, refusal)
            else:
                if not self._names_pages(body):
                    return body
                refused = self._refused(body["errors"], pages)
            for page_id, reason in refused.items():
                del pages[page_id]
                if isinstance(reason, PageSkipped):
                    self.run.page_skipped(reason, self.name, None)
                else:
                    self.run.page_failed(reason, self.name, None)
                    failed.append(reason)
        return {}

    def _answer(self, span: Span, pages: Iterable[str]) -> Body:
        """Send one request for several pages.

        Raises:
            PageFailed: the request is refused, and the answer names no page.
        """
        body = self.fetch(None, (span, pages))
        if self.handles_failure(body) and not self._names_pages(body):
            msg = f"{self.name}: the API refused these pages (error {code_of(body)}): "
            raise PageSkipped(msg + self._CHECK)
        return body

    def _refused_alone(
        self, span: Span, pages: Collection[str], refusal: PageFailed
    ) -> dict[str, PageFailed]:
        """Request each page alone, because the refusal of all together names none.

        Returns:
            The refused pages, with the reason of each: at least one page, but not all.

        Raises:
            PageFailed: the refusal is not about some of the pages.
        """
        is_one = len(pages) == 1
        if is_one or self._has_tried_alone or not _may_be_of_a_page(refusal):
            raise refusal
        refused: dict[str, PageFailed] = {}
        for page_id in pages:
            try:
                body = self._answer(span, [page_id])
            except PageFailed as failure:
                if not _may_be_of_a_page(failure):
                    raise
                where, _, reason = str(failure).partition(": ")
                text = f"page {page_id}, {where}: left out, since the API also refuses it alone: "
                if isinstance(failure, PageSkipped):
                    refused[page_id] = PageSkipped(text + reason)
                else:
                    refused[page_id] = PageFailed(f"{text}{reason}; {self._STAYS}")
            else:
                if self._names_pages(body):
                    refused |= self._refused(body["errors"], [page_id])
        if len(refused) in {0, len(pages)}:
            self._has_tried_alone = True
            raise refusal
        return refused

    def _refused(self, errors: list[Any], pages: Iterable[str]) -> dict[str, PageFailed]:
        """Return the pages that an answer refuses, with the reason of each.

        Raises:
            PageFailed: the answer names no requested page.
        """
        named = {str(error.get("page_id")): error for error in errors if isinstance(error, dict)}
        refused: dict[str, PageFailed] = {}
        for page_id in pages:
            if page_id not in named:
                continue
            code = code_of(named[page_id])
            text = f"page {page_id}, {self.name}: left out, since the API refused it (error {code})"
            if code in self._NOT_ALLOWED:
                remedy = "check the page's plan and your rights in Pancake"
                refused[page_id] = PageSkipped(f"{text}: {remedy}")
            else:
                refused[page_id] = PageFailed(f"{text}: {self._STAYS}")
        if not refused:
            self.reject("refuses pages, but names none that was requested", None)
        return refused


def _may_be_of_a_page(refusal: PageFailed) -> bool:
    """Return whether a page may be the reason for a refusal, not the API or the connection."""
    if isinstance(refusal, TransientError):
        return refusal.status == HTTPStatus.OK and not refusal.unreadable
    return not isinstance(refusal, PathNotFound)


class TagStatisticsStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/tags`: how often each tag was set, by day.

    `data_today` of the answer is not read: its labels are not documented, and the days include
    today. Source: reference, section 16.
    """

    name = "tag_statistics"
    path = "/pages/{page_id}/statistics/tags"
    per_request = "`statistics_window_days` days"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "tag_id", "category")
    replication_key = "date"
    is_dated = True

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token.wider
        return {"since": span.since, "until": span.until}

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        data = object_in(body["data"])
        labels = [str(label) for label in data["categories"]]
        tags = {str(tag["id"]): tag for tag in rows_in(body.get("tags") or [])}
        for key, values in object_in(data["series"]).items():
            tag_id = key.removeprefix("tag_")
            tag = tags.get(tag_id, {})
            for label, value in zip(labels, values, strict=True):
                at = span.day_of(label)
                yield (
                    at,
                    {
                        **(value if isinstance(value, dict) else {"total": value}),
                        "tag_id": tag_id,
                        "category": _with_year(label, at, span),
                        "date": at and at.date().isoformat(),
                        "tag_text": tag.get("text"),
                        "tag_color": tag.get("color"),
                        "tag_lighten_color": tag.get("lighten_color"),
                        "tag_description": tag.get("description"),
                    },
                )


def _with_year(label: str, at: datetime | None, span: Span) -> str:
    """Return a unique label: with its year, or with the span if the label names no day."""
    if at is None:
        return f"{label} ({span.days})"
    return f"{label}/{at.year}" if is_day_and_month(label) else label


class NewCustomerStatisticsStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/customers`, or `…/page_customers`: new customers by day.

    The older document has one path, the newer document the other. The tap uses the path of the
    first successful request in a run. Source: reference, section 17.
    """

    name = "new_customer_statistics"
    path = "/pages/{page_id}/statistics/customers"
    per_request = "`statistics_window_days` days"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "date")
    replication_key = "date"

    _NAMES = ("customers", "page_customers")

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start with both paths."""
        super().__init__(tap, run)
        self._names: tuple[str, ...] = self._NAMES

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token
        return {"date_range": span.days, "group_by": "day"}

    @override
    def ask(
        self, url: str, params: Mapping[str, Any], context: Context | None, token: str
    ) -> Reply:
        # Until a path is found, pages try both in parallel; they do not wait for each other.
        base = url.removesuffix(self._NAMES[0])
        refusal: PageFailed | None = None
        for name in self._names:
            try:
                reply = super().ask(base + name, params, context, token)
            except (PathNotFound, TransientError) as fault:
                # A path that does not exist may also answer with the HTML of the web app.
                if isinstance(fault, TransientError) and not fault.unreadable:
                    raise
                # A fault that may pass is raised rather than a wrong path.
                refusal = fault if isinstance(fault, TransientError) else refusal or fault
            else:
                self._names = (name,)
                return reply
        assert refusal is not None  # noqa: S101 - there is at least one name
        raise refusal

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        data = body["data"]
        if isinstance(data, dict):
            data = data[context["page_id"]] if data and context else []
        days = set()
        for row in rows_in(data):
            day = span.day_of(row["date"])
            if day is None or day in days:
                raise ValueError
            days.add(day)
            yield day, {**row, "date": day.date().isoformat()}


class CustomerEngagementsStream(StatisticsStream):
    """`GET …/pages/{page_id}/statistics/customer_engagements`: customers served, by day.

    Its answers also have the rows of `user_engagements`, so this stream reads for both. Each
    request is then for one day, because these rows are totals of the range. Source: reference,
    section 15.
    """

    name = "customer_engagements"
    path = "/pages/{page_id}/statistics/customer_engagements"
    per_request = "`statistics_window_days` days; one day if `user_engagements` is selected"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "date")
    replication_key = "date"

    @property
    @override
    def is_needed(self) -> bool:
        return bool(self.selected or self._users.selected)

    @property
    def _users(self) -> UserEngagementsStream:
        users: UserEngagementsStream = self.run.streams[UserEngagementsStream.name]
        return users

    @override
    def place(self, context: Context | None) -> str:
        # Messages name the selected stream, which may be `user_engagements`.
        return super().place(context) if self.selected else self._users.place(context)

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token
        return {"date_range": span.date_range}

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        users = self._users
        if not users.selected:
            yield from super().get_records(context)
            return
        own, theirs = self.begin_walk(context), users.begin_walk(context)
        walks = [walk for walk in (own, theirs) if walk is not None]
        spans = spans_of(walks, 1)
        for span, answer in self.answers(spans, context, lambda: any(one.read for one in walks)):
            reading = [walk for walk in walks if walk.wants(span)]
            try:
                body = next(answer) if reading else {}
            except PageFailed as failure:
                self._both_failed(failure, span, reading, context)
                continue
            for walk in reading:
                try:
                    if walk is own:
                        yield from self.records_of(body, span, walk, context)
                    else:
                        users.write(body, span, walk, context)
                    walk.span_read(span)
                except PageFailed as failure:
                    try:
                        self.span_failed(failure, span, walk, context)
                    except PageFailed as ending:
                        # The other stream goes on.
                        self.run.page_failed(ending, self.name, context["page_id"])
                        walks.remove(walk)
            if not walks:
                return
        self._end((walk.finish for walk in walks), context)

    def _both_failed(
        self, failure: PageFailed, span: Span, walks: list[BucketWalk], context: Context
    ) -> None:
        """Set a span aside in both streams, but log it once."""
        steps = [
            partial(self.span_failed, failure, span, walk, context, is_logged=number > 0)
            for number, walk in enumerate(walks)
        ]
        self._end(steps, context)

    def _end(self, steps: Iterable[Callable[[], None]], context: Context) -> None:
        """Take all steps, and raise a failure only after the last one."""
        endings: dict[str, PageFailed] = {}
        for step in steps:
            try:
                step()
            except PageFailed as ending:
                endings.setdefault(str(ending), ending)
        for number, found in enumerate(endings.values(), 1):
            if number == len(endings):
                raise found
            self.run.page_failed(found, self.name, context["page_id"])

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        days: dict[datetime, Row] = {}
        counted = self.schema["properties"].keys() - {"page_id", "date"}
        for row in rows_in(body.get("statistics") or []):
            # Rows are for an hour or a day. Each customer counts once a day, so hours can be added.
            counts = days.setdefault(Unit.DAY.floor(span.hour_of(row["hour"])), {})
            for name, count in row.items():
                if name in counted:
                    counts[name] = _plus(counts.get(name), count)
                elif name != "hour":
                    counts[name] = count
        if body.get("data") is not None or not isinstance(body.get("statistics"), list):
            data = object_in(body["data"])
            labels = [span.day_of(str(label)) for label in data["categories"]]
            for series in rows_in(data["series"]):
                for day, count in zip(labels, series["data"], strict=True):
                    if day is None:
                        raise ValueError
                    days.setdefault(day, {})[series["name"]] = count
        for day in sorted(days):
            yield day, {**days[day], "date": day.date().isoformat()}


def _plus(total: float | None, count: object) -> float | None:
    """Return a total plus a number, or a number as text; null adds nothing.

    Raises:
        TypeError, ValueError: the count is not a number.
    """
    if count is None:
        return total
    if isinstance(count, str):
        count = float(count)
    if isinstance(count, bool) or not isinstance(count, (int, float)):
        raise TypeError
    return count if total is None else total + count


class UserEngagementsStream(StatisticsStream):
    """Engagements by staff member, which the answers of `customer_engagements` contain."""

    name = "user_engagements"
    path = CustomerEngagementsStream.path
    daily = True
    per_request = "all staff of one day, together with `customer_engagements`"
    read_with = (CustomerEngagementsStream.name,)
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "user_id", "date")
    replication_key = "date"

    @property
    @override
    def is_needed(self) -> bool:
        return False

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start without any answer."""
        super().__init__(tap, run)
        self._answers: dict[str, tuple[Body, Span, BucketWalk]] = {}

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        span = self.newest_window(context)
        body = self.run.streams[CustomerEngagementsStream.name].fetch(context, span)
        return [row for _, row in self.found(body, span, context)]

    def write(self, body: Body, span: Span, walk: BucketWalk, context: Context) -> None:
        """Write the rows of one answer, as a separate sync."""
        self._answers[context["page_id"]] = body, span, walk
        self.sync(context)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        body, span, walk = self._answers.pop(context["page_id"])
        yield from self.records_of(body, span, walk, context)

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        for row in rows_in(body["users_engagements"]):
            if row["user_id"]:
                yield span.first, {**row, "date": span.first.date().isoformat()}
            elif self.run.is_first_time(f"{self.name} of nobody"):
                self.logger.warning(
                    "%s: rows without a user are left out, since they have no key; the same may be"
                    " true of other pages",
                    self.place(context),
                )
