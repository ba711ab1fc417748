"""The advertisements that conversations of a page name: which wait to be asked for.

They are kept in the state of `ads` before their conversation counts as read, so that a run that
ends early leaves them to the next one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tap_pancake.api.errors import PageFailed, PageLost, TransientError
from tap_pancake.reading.coverage import BEGINNING, DAY
from tap_pancake.reading.state import DATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_pancake.api.client import Body
    from tap_pancake.reading.aside import Aside
    from tap_pancake.reading.state import Bookmark

ASK_AGAIN = 7 * DAY
"""An advertisement that was asked for is not asked for again so long: its name may change."""
MOST = 1_000
"""So many that were asked for are remembered, and so many that are refused wait."""
NO_AD = "0"
"""An id that no advertisement has: it is answered all the same (reference, section 24)."""
# So many that are refused alone in one run of a page are no matter of single ones.
_MOST_REFUSED = 20


class MetAds:
    """The advertisements of one page: those that wait, and those that were asked for lately."""

    def __init__(self, bookmark: Bookmark, now: int) -> None:
        """Take up what the state holds.

        Args:
            bookmark: of `ads`.
            now: microseconds since 1970.
        """
        self.bookmark = bookmark
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
        self.bookmark.note("ads", waiting + asked[:MOST])


class AdCalls:
    """The calls for the advertisements of a page: where one is refused, for halves of its ids."""

    def __init__(self, ask: Callable[[list[str]], Body], aside: Aside) -> None:
        """Begin with no answer.

        Args:
            ask: asks for some advertisements.
            aside: keeps those that are refused alone, for later runs.
        """
        self._ask = ask
        self._aside = aside
        self.refused: dict[str, PageFailed] = {}
        """Those that this run has set aside, and why."""

    def answers(self, ad_ids: list[str]) -> Iterator[Body]:
        """Ask for some advertisements; what is refused alone is set aside.

        Raises:
            PageFailed: it is not single ones that are refused.
        """
        parts = deque([ad_ids])
        while parts:
            part = parts.popleft()
            try:
                body = self._ask(part)
            except (PageLost, TransientError):
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
        """Leave one to later runs.

        Raises:
            PageFailed: too many are refused.
        """
        if ad_id not in self._aside.since:
            self.refused[ad_id] = refusal
        # Whatever it is of pages and conversations, here it is of this id.
        self._aside.failed(ad_id, None, BEGINNING, PageFailed(str(refusal)))
        if len(self.refused) >= _MOST_REFUSED:
            raise refusal
