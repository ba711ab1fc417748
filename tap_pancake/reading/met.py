"""The advertisements that conversations of a page name: which wait to be asked for.

They are kept in the state of `ads` before their conversation counts as read, so that a run that
ends early leaves them to the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_pancake.reading.coverage import DAY
from tap_pancake.reading.state import DATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_pancake.reading.state import Bookmark

ASK_AGAIN = 7 * DAY
"""An advertisement that was asked for is not asked for again so long: its name may change."""
MOST = 1_000
"""So many that were asked for are remembered, and so many that are refused wait."""


class MetAds:
    """The advertisements of one page: those that wait, and those that were asked for lately."""

    def __init__(self, bookmark: Bookmark, now: int) -> None:
        """Take up what the state holds.

        Args:
            bookmark: of `ads`.
            now: microseconds since 1970.
        """
        self._bookmark = bookmark
        self._today = DATE.text(now)
        lately = DATE.text(now - ASK_AGAIN)
        self._earlier: dict[str, str] = {
            ad_id: day for ad_id, day in bookmark.fact("ads") if not day or day > lately
        }
        """Id to the day when it was asked for; empty if it waits. Newest first."""
        self._met: dict[str, str] = {}
        """The same of those that this run has met: newest first, as conversations are read."""

    @property
    def _all(self) -> dict[str, str]:
        return self._met | self._earlier

    @property
    def waiting(self) -> list[str]:
        """Which ones are to be asked for."""
        return [ad_id for ad_id, day in self._all.items() if not day]

    def meet(self, ad_ids: Iterable[str]) -> None:
        """Let those wait that were not asked for lately."""
        for ad_id in ad_ids:
            if ad_id not in self._met:
                self._met[ad_id] = self._earlier.pop(ad_id, "")
                self._keep()

    def asked(self, ad_ids: Iterable[str]) -> None:
        """Note that what the API knows of some was written."""
        for ad_id in ad_ids:
            known = self._met if ad_id in self._met else self._earlier
            known[ad_id] = self._today
        self._keep()

    def refused(self) -> int:
        """Let only the newest ones go on waiting; return how many do not."""
        rest = self.waiting[MOST:]
        for ad_id in rest:
            self._met.pop(ad_id, None)
            self._earlier.pop(ad_id, None)
        self._keep()
        return len(rest)

    def _keep(self) -> None:
        """Write into the state what waits and what was asked for."""
        entries = self._all.items()
        waiting = [[ad_id, day] for ad_id, day in entries if not day]
        asked = [[ad_id, day] for ad_id, day in entries if day]
        self._bookmark.note("ads", waiting + asked[:MOST])
