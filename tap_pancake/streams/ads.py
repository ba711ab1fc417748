"""Ads: their names, their statistics, and the conversations that came from them."""

from __future__ import annotations

import re
from functools import partial
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream, is_id
from tap_pancake.api.errors import PageFailed, PageSkipped
from tap_pancake.reading.aside import Aside
from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.reading.listing import Listing, Query
from tap_pancake.reading.lists import ListStream
from tap_pancake.reading.met import NO_AD, AdCalls, MetAds
from tap_pancake.reading.statistics import StatisticsStream, rows_in
from tap_pancake.running.progress import counted
from tap_pancake.streams.pages import PagesStream

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Body, Row
    from tap_pancake.reading.buckets import Span
    from tap_pancake.reading.selection import Share
    from tap_pancake.reading.statistics import Bucket
    from tap_pancake.running.run import Run
    from tap_pancake.streams.conversations import ConversationsStream


VIEW_AD_REPORTS = "view ad reports"
_IDS = ("ad_id", "id", "adset_id", "name")


class _AdStream(StatisticsStream):
    """Totals for each ad over the requested range, so each request is for one day.

    Some forms of the answer have no id of the ad. `ad_id` is then made of other fields of the row.
    If several rows have the same `ad_id`, they are numbered in the order of the answer. Source:
    reference, section 20.
    """

    required_permission = VIEW_AD_REPORTS
    daily = True
    per_request = "all ads of one day"
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
    """Return what identifies the ad of a row: its id, or the other fields of `_IDS` together.

    Raises:
        ValueError: the row has none of these fields.
    """
    has = {name: str(row[name]) for name in _IDS if row.get(name) not in {None, ""}}
    found = has.get("ad_id") or has.get("id") or " ".join(has.values())
    if not found:
        raise ValueError
    return found


class AdStatisticsStream(_AdStream):
    """`GET …/pages/{page_id}/statistics/ads`: cost and results of each ad by day."""

    name = "ad_statistics"
    path = "/pages/{page_id}/statistics/ads"

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        return {**super().get_url_params(context, next_page_token), "type": "by_id"}


class CampaignStatisticsStream(_AdStream):
    """`GET …/pages/{page_id}/statistics/pages_campaigns`: each ad by day, with its ad set."""

    name = "campaign_statistics"
    path = "/pages/{page_id}/statistics/pages_campaigns"


class AdConversationsStream(ListStream):
    """`GET …/pages/{page_id}/export_data`: conversations that started from ads.

    Oldest first in the answers seen. Source: reference, section 20.
    """

    name = "ad_conversations"
    path = "/pages/{page_id}/export_data"
    records_key = "data"
    listing = Listing(times=("updated_at", "inserted_at"), bounded=True, newest_first=False)
    required_permission = VIEW_AD_REPORTS
    per_request = "up to 60 conversations"
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


ADS_A_CALL = 20
"""Maximum number of ads in a request (reference, section 24)."""
# Number of requests for an ad that is missing from the answer.
_TRIES = 2
# Characters that separate the ids in a request, so an id with one cannot be requested.
_SEPARATOR = re.compile(r"[\s,]")
# Maximum number of refused ads that are named in a message.
_NAMED = 5
_TIKTOK = ("tt_", "ttm_")
"""Prefixes of the ids of TikTok pages (reference, section 4), for pages without `platform`."""


class AdsStream(PancakeStream):
    """`GET …/pages/{page_id}/ads`: the ads in `conversations.ad_ids`.

    The answer has only the id of an ad that Pancake does not know. Source: reference, section 24.
    """

    name = "ads"
    path = "/pages/{page_id}/ads"
    records_key = "data"
    keeps_state = True
    per_request = "up to 20 ads"
    read_with = ("conversations",)
    parent_stream_type = PagesStream
    primary_keys = ("page_id", "id")

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start without any ads."""
        super().__init__(tap, run)
        self._met: dict[str, MetAds] = {}
        """The ads that conversations name, by page, for pages in progress."""

    @override
    def get_url_params(self, context: Context | None, next_page_token: Any) -> dict[str, Any]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        platform = str(context["platform"] or "")
        is_tiktok = platform.startswith("tiktok") or context["page_id"].startswith(_TIKTOK)
        return {"ad_ids": ",".join(next_page_token), "type": "tt_ads" if is_tiktok else "ads"}

    @override
    def newest_window(self, context: Context | None) -> list[str]:
        return [NO_AD]

    def share(self, context: Context) -> Share | None:
        """Return what `ads` needs of a page's conversations; None if it is not selected."""
        lists: ConversationsStream = self.run.streams["conversations"]
        return lists.share_for(self, context)

    def note_ads(self, conversation: Row, context: Context) -> None:
        """Write the ads of a conversation to the state, before the conversation counts as read."""
        named, page_id = conversation.get("ad_ids"), context["page_id"]
        if not self.selected or not isinstance(named, list):
            return
        ad_ids = [str(ad_id) for ad_id in named if is_id(ad_id)]
        self._met_of(context).meet(one for one in ad_ids if not _SEPARATOR.search(one))
        for ad_id in filter(_SEPARATOR.search, ad_ids):
            # Several conversations may name it.
            if self.run.is_first_time(f"ad {ad_id} of {page_id}"):
                self.run.row_left_out("with a comma or a space in `id`", self.name, page_id)

    def _met_of(self, context: Context) -> MetAds:
        page_id = context["page_id"]
        if page_id not in self._met:
            bookmark = self.bookmark(context)
            assert bookmark is not None  # noqa: S101 - only called if the stream is selected
            self._met[page_id] = MetAds(bookmark, self.run.clock())
        return self._met[page_id]

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        met = self._met_of(context)
        del self._met[context["page_id"]]
        aside = Aside([met.bookmark], self.run.clock, lambda _: None)
        calls = AdCalls(partial(self.fetch, context), aside)
        waiting = [ad_id for ad_id in met.waiting if ad_id not in aside.read_from]
        try:
            for first in range(0, len(waiting), ADS_A_CALL):
                ad_ids = waiting[first : first + ADS_A_CALL]
                # The answer has a row for each id, even for an unknown ad. If a row is missing, the
                # answer is incomplete.
                for _ in range(_TRIES):
                    found = yield from self._read(ad_ids, calls, met, context)
                    ad_ids = [
                        one for one in ad_ids if one not in found and one not in aside.read_from
                    ]
                    if not ad_ids:
                        break
                else:
                    text = (
                        f"{self.place(context)}: the answers lack advertisements that the tap asked"
                        " for: the next run asks for them again"
                    )
                    self.run.lacking(text, self.name, context["page_id"])
            for entry in islice(aside.due(), ADS_A_CALL):
                ad_id = entry.conversation_id
                if (yield from self._read([ad_id], calls, met, context)):
                    aside.item_read(ad_id, BEGINNING)
                elif aside.failed_again(entry):
                    met.asked([ad_id])
                    msg = (
                        f"{self.place(context)}: advertisement {ad_id}: it failed for 30 days, so"
                        " the tap does not try it again"
                    )
                    self.run.page_failed(PageFailed(msg), self.name, context["page_id"])
        except PageSkipped:
            if forgotten := met.refused():
                self.logger.warning(
                    "%s: %s of the oldest advertisements are removed from the state, which is full",
                    self.place(context),
                    f"{forgotten:,}",
                )
            raise
        finally:
            self._log_aside(calls.refused, aside.waiting, context)

    def _read(
        self, ad_ids: list[str], calls: AdCalls, met: MetAds, context: Context
    ) -> Generator[Record, None, set[str]]:
        """Request ads, and yield their records. Return the ids in the answers."""
        all_found: set[str] = set()
        for body in calls.answers(ad_ids):
            rows = self.rows_of(body, context)
            yield from self.records_from(rows, context)
            found = {*ad_ids}.intersection(str(row["id"]) for row in rows)
            met.asked(found)
            all_found |= found
        return all_found

    def _log_aside(
        self, refused: dict[str, PageFailed], waiting: list[str], context: Context
    ) -> None:
        """Log the ads that this run set aside, and those that are still set aside."""
        place, page_id = self.place(context), context["page_id"]
        for failure in [*refused.values()][:1]:
            _, _, reason = str(failure).partition(": ")
            msg = f"{place}: {_named(refused)}: {reason}"
            self.run.set_aside(PageFailed(msg), self.name, page_id)
        if waiting:
            text = f"{place}: the API still refuses {_named(waiting)}"
            self.run.still_aside(text, self.name, page_id)


def _named(ad_ids: Collection[str]) -> str:
    """Return the number of ads and the first ids, as text for a message."""
    first = ", ".join([*ad_ids][:_NAMED]) + (" …" if len(ad_ids) > _NAMED else "")
    return f"{counted(len(ad_ids), 'advertisement')} ({first})"
