"""The ads that conversations of a page mention: which ones are still to be requested.

The state of `ads` keeps them before their conversation counts as read. So if a run ends early, the
next run requests them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tap_pancake.api.errors import PageFailed, PageUnreadable, TransientError
from tap_pancake.reading.coverage import BEGINNING, DAY
from tap_pancake.reading.state import DATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_pancake.api.client import Body
    from tap_pancake.reading.aside import Aside
    from tap_pancake.reading.state import Bookmark

ASK_AGAIN = 7 * DAY
"""The age after which an ad is requested again, in microseconds: its name may change."""
MOST = 1_000
"""Largest number of requested ads to remember, and of waiting ads to keep if `ads` is refused."""
NO_AD = "0"
"""An id that no ad has. The API accepts it all the same (reference, section 24)."""
# Number of ads of a page refused one by one in a run; with so many, the cause is not single ads.
_MOST_REFUSED = 20


class MetAds:
    """The ads of one page: those that wait for a request, and those requested recently."""

    def __init__(self, bookmark: Bookmark, now: int) -> None:
        """Load the ads of the state.

        Args:
            bookmark: the bookmark of `ads`.
            now: the present time, in microseconds since 1970.
        """
        self.bookmark = bookmark
        self._today = DATE.text(now)
        lately = DATE.text(now - ASK_AGAIN)
        self._from_earlier_runs: dict[str, str] = {
            ad_id: day for ad_id, day in bookmark.fact("ads") if not day or day > lately
        }
        """The ads of earlier runs: the day of the request by id, empty while it waits.
        Newest first."""
        self._met: dict[str, str] = {}
        """The same for the ads that this run has met: newest first, as conversations are read."""

    @property
    def _all(self) -> dict[str, str]:
        return self._met | self._from_earlier_runs

    @property
    def waiting(self) -> list[str]:
        """The ids of the ads to request."""
        return [ad_id for ad_id, day in self._all.items() if not day]

    def meet(self, ad_ids: Iterable[str]) -> None:
        """Add ads, which wait for a request unless they were requested recently."""
        for ad_id in ad_ids:
            if ad_id not in self._met:
                self._met[ad_id] = self._from_earlier_runs.pop(ad_id, "")
                self._save()

    def asked(self, ad_ids: Iterable[str]) -> None:
        """Record that ads were requested, and that their rows are written."""
        for ad_id in ad_ids:
            ads = self._met if ad_id in self._met else self._from_earlier_runs
            ads[ad_id] = self._today
        self._save()

    def refused(self) -> int:
        """Keep only the newest ads that wait; return the number of ads that were dropped."""
        rest = self.waiting[MOST:]
        for ad_id in rest:
            self._met.pop(ad_id, None)
            self._from_earlier_runs.pop(ad_id, None)
        self._save()
        return len(rest)

    def _save(self) -> None:
        """Write the ads into the state."""
        entries = self._all.items()
        waiting = [[ad_id, day] for ad_id, day in entries if not day]
        asked = [[ad_id, day] for ad_id, day in entries if day]
        self.bookmark.note("ads", waiting + asked[:MOST])


class AdCalls:
    """The requests for the ads of a page. If one is refused, halves of its ids are requested."""

    def __init__(self, ask: Callable[[list[str]], Body], aside: Aside) -> None:
        """Begin without a request.

        Args:
            ask: a function that requests some ads.
            aside: the ads of the page that are set aside.
        """
        self._ask = ask
        self._aside = aside
        self.refused: dict[str, PageFailed] = {}
        """The ads that this run has set aside for the first time, with their errors."""

    def answers(self, ad_ids: list[str]) -> Iterator[Body]:
        """Yield the answers for some ads; set aside each ad that is refused alone.

        Raises:
            PageFailed: the API refuses `ads` as such, or too many single ads.
        """
        parts = deque([ad_ids])
        while parts:
            part = parts.popleft()
            try:
                body = self._ask(part)
            except (PageUnreadable, TransientError):
                raise
            except PageFailed as refusal:
                if part is ad_ids and self._is_refused(NO_AD):
                    raise
                if half := len(part) // 2:
                    parts.extend([part[:half], part[half:]])
                else:
                    self._set_aside(part[0], refusal)
            else:
                yield body

    def _is_refused(self, ad_id: str) -> bool:
        try:
            self._ask([ad_id])
        except PageFailed:
            return True
        return False

    def _set_aside(self, ad_id: str, refusal: PageFailed) -> None:
        """Set an ad aside for later runs.

        Raises:
            PageFailed: too many ads are refused.
        """
        if ad_id not in self._aside.read_from:
            self.refused[ad_id] = refusal
        # Whatever the error means for pages and conversations, here it concerns this id only.
        self._aside.item_failed(ad_id, None, BEGINNING, PageFailed(str(refusal)))
        if len(self.refused) >= _MOST_REFUSED:
            raise refusal
