"""Advertisements: what they cost and did, and the conversations that came from them."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.reading.listing import Listing, Query
from tap_pancake.reading.lists import ListStream
from tap_pancake.reading.statistics import StatisticsStream, rows_in
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk.helpers.types import Context

    from tap_pancake.api.client import Body, Row
    from tap_pancake.reading.buckets import Span
    from tap_pancake.reading.statistics import Bucket


VIEW_AD_REPORTS = "view ad reports"
_IDS = ("ad_id", "id", "adset_id", "name")


class _AdStream(StatisticsStream):
    """Totals for each advertisement over what was asked for, so a day a call.

    Not every form of the answer has an id for them. `ad_id` is then what there is, and numbered
    where several rows have the same, in the order of the answer. Source: reference, section 20.
    """

    right = VIEW_AD_REPORTS
    daily = True
    brings = "a day of all advertisements"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "date", "ad_id")
    replication_key = "date"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        span: Span = next_page_token
        return {"since": span.since, "until": span.until}

    @override
    def buckets(self, body: Body, span: Span, context: Context | None) -> Iterable[Bucket]:
        ads: set[str] = set()
        for row in rows_in(body["data"]):
            name = _ad_of(row)
            names = chain([name], (f"{name} #{number}" for number in count(2)))
            ad_id = next(one for one in names if one not in ads)
            ads.add(ad_id)
            yield span.first, {**row, "ad_id": ad_id, "date": span.first.date().isoformat()}


def _ad_of(row: Row) -> str:
    """Give what tells a row's advertisement apart, as far as that goes.

    Raises:
        ValueError: there is nothing.
    """
    has = {name: str(row[name]) for name in _IDS if row.get(name) not in {None, ""}}
    found = has.get("ad_id") or has.get("id") or " ".join(has.values())
    if not found:
        raise ValueError
    return found


class AdStatisticsStream(_AdStream):
    """`GET …/pages/{page_id}/statistics/ads`: by advertisement and day."""

    name = "ad_statistics"
    path = "/pages/{page_id}/statistics/ads"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        return {**super().get_url_params(context, next_page_token), "type": "by_id"}


class CampaignStatisticsStream(_AdStream):
    """`GET …/pages/{page_id}/statistics/pages_campaigns`: advertisements with their campaigns."""

    name = "campaign_statistics"
    path = "/pages/{page_id}/statistics/pages_campaigns"


class AdConversationsStream(ListStream):
    """`GET …/pages/{page_id}/export_data`: conversations that came from advertisements.

    Oldest first, as was seen. Source: reference, section 20.
    """

    name = "ad_conversations"
    path = "/pages/{page_id}/export_data"
    records_key = "data"
    listing = Listing(times=("updated_at", "inserted_at"), bounded=True, newest_first=False)
    right = VIEW_AD_REPORTS
    brings = "up to 60 conversations"
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")
    replication_key = "updated_at"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        query: Query = next_page_token
        return {
            "action": "conversations_from_ads",
            "since": query.since,
            "until": query.until,
            "offset": query.offset,
        }
