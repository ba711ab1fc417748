"""PageSizes: smaller page sizes for a list whose full answers fail."""

from __future__ import annotations

from collections import Counter

# Number of HTTP 500 answers in a row that halves the page size: a passing fault gives one or two.
# `--test` makes as many tries, so it must not be higher.
_FAULTS_TO_HALVE = 3


class ShorterAnswers(Exception):
    """The page size is smaller from now on. Page numbers change, so the reading begins again."""


class PageSizes:
    """The page sizes to request of one stream in one run, by page.

    Source: reference, section 24, 5.
    """

    def __init__(self, most: int, least: int) -> None:
        """Begin with the largest size for all pages.

        Args:
            most: the number of rows in a full answer.
            least: the smallest page size; 0 never halves it.
        """
        self._most = most
        self._least = least
        self._sizes: dict[str, int] = {}
        self._faults: Counter[str] = Counter()

    def of(self, page_id: str) -> int:
        """Return the page size to request."""
        return self._sizes.get(page_id, self._most)

    def answered(self, page_id: str) -> None:
        """Record a good answer."""
        self._faults.pop(page_id, None)

    def failed(self, page_id: str) -> bool:
        """Record an HTTP 500 answer; return whether the page size is halved now."""
        self._faults[page_id] += 1
        size = self.of(page_id)
        if self._faults[page_id] < _FAULTS_TO_HALVE or not self._least or size <= self._least:
            return False
        self._sizes[page_id] = max(size // 2, self._least)
        self.answered(page_id)
        return True
