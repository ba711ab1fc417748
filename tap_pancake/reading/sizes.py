"""How many rows to ask for in one answer of a list, where long answers fail."""

from __future__ import annotations

from collections import Counter

# After so many answers 500 in a row, of which a hiccup gives one or two. Not more than the tries of
# `--test`.
_FAULTS = 3


class ShorterAnswers(Exception):
    """Answers hold fewer rows from now on, so that page numbers lead elsewhere: begin again."""


class PageSizes:
    """The rows an answer of one stream is asked for, page by page, for as long as a run goes on.

    Source: reference, section 24, 5.
    """

    def __init__(self, most: int, least: int) -> None:
        """Begin with the most, for all pages.

        Args:
            most: rows of a full answer.
            least: it is never halved below this; 0 does not halve it at all.
        """
        self._most = most
        self._least = least
        self._sizes: dict[str, int] = {}
        self._faults: Counter[str] = Counter()

    def of(self, page_id: str) -> int:
        """Return how many rows to ask for."""
        return self._sizes.get(page_id, self._most)

    def answered(self, page_id: str) -> None:
        """Note an answer that is no fault."""
        self._faults.pop(page_id, None)

    def failed(self, page_id: str) -> bool:
        """Note an answer 500; return whether it is one too many, and the size is halved."""
        self._faults[page_id] += 1
        size = self.of(page_id)
        if self._faults[page_id] < _FAULTS or not self._least or size <= self._least:
            return False
        self._sizes[page_id] = max(size // 2, self._least)
        self.answered(page_id)
        return True
