"""What a run did, by page and stream: the summary in the log and `sync_runs` both tell it.

What belongs to no one page is the account's, whose page id is the empty text. Figures are noted
where they arise, from any thread.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = ""
"""Stands for the page of what belongs to none."""


class Case(StrEnum):
    """What can be wrong with a stream of a page, the worst first."""

    FAILED = "Failed"
    SET_ASIDE = "Set aside"
    STILL_ASIDE = "Still set aside"
    """By an earlier run; this one could not read it either."""
    LEFT_OUT = "Left out"
    """Rows that cannot be written."""
    LACKING = "Lacking"
    """The API tells of more than it answers."""
    SKIPPED = "Skipped"
    """A plan or a right is missing."""
    IDLE = "Idle"
    """The page has no traffic, as far as is known."""


class Status(StrEnum):
    """How a page, or a stream of one, was read; the worst last."""

    COMPLETE = "complete"
    SKIPPED = "skipped"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    GONE = "gone"

    @property
    def badness(self) -> int:
        """Its place among them."""
        return list(Status).index(self)


_STATUS = {
    Case.FAILED: Status.FAILED,
    Case.SET_ASIDE: Status.INCOMPLETE,
    Case.STILL_ASIDE: Status.INCOMPLETE,
    Case.LEFT_OUT: Status.INCOMPLETE,
    Case.LACKING: Status.INCOMPLETE,
    Case.SKIPPED: Status.SKIPPED,
    Case.IDLE: Status.SKIPPED,
}


@dataclass(slots=True)
class Tally:
    """What was done for one stream of one page, or for several."""

    rows: int = 0
    """That were written, after maps and filters."""
    calls: int = 0
    retries: int = 0
    limited: int = 0
    """Answers 429."""
    is_over: bool = False
    """Whether it was read to its end, or to where it failed."""
    cases: list[tuple[Case, str]] = field(default_factory=list)
    """What was wrong, as the log says it."""

    def add(self, other: Tally) -> None:
        """Count what was done for another one, too."""
        self.rows += other.rows
        self.calls += other.calls
        self.retries += other.retries
        self.limited += other.limited

    @property
    def problem(self) -> tuple[Status, str] | None:
        """How the worst of the cases makes it, and what that says; None without cases."""
        if not self.cases:
            return None
        case, text = min(self.cases, key=lambda one: list(Case).index(one[0]))
        return _STATUS[case], text


@dataclass(slots=True)
class PageRun:
    """What was done of one page."""

    name: str | None = None
    """As the list of pages has it."""
    started_at: str | None = None
    """None if it was not begun."""
    is_over: bool = False
    """Whether it was read to its end, or to where it failed."""
    instead: tuple[Status, str] | None = None
    """Why it was not read at all, if it is not there; None if it is."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """By stream."""

    @property
    def total(self) -> Tally:
        """What was done for all of its streams together."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total


class RunAccount:
    """The account of one run."""

    def __init__(self) -> None:
        """Begin now."""
        self.started_at = times.text(datetime.now(UTC))
        stamp = self.started_at.translate({ord(sign): None for sign in "-:"})[:15]
        self.run_id = f"{stamp}Z-{secrets.token_hex(4)}"
        """Sorts by time; another one for each run."""
        self.known: set[str] = set()
        """The pages that the state knows."""
        self.failing: set[str] = set()
        """The pages of which something failed."""
        self.is_closed = False
        """Whether the run ends: what is still under way counts no more."""
        self.is_listed = False
        """Whether it is known which pages are to be read."""
        self._lock = threading.Lock()
        self._pages: dict[str, PageRun] = {ACCOUNT: PageRun(started_at=self.started_at)}
        """Those that were not told yet."""
        self._told: set[str] = set()
        self._totals: dict[str, Tally] = {}
        """By stream, of the pages that were."""
        self._cases: list[tuple[Case, str]] = []

    def of(self, stream: str, page_id: str | None) -> Tally:
        """Return the tally of a stream of a page; None is the account."""
        page = self._pages.get(page_id or ACCOUNT)
        tally = page.tallies.get(stream) if page else None
        if tally is None:
            with self._lock:
                tallies = self._totals  # of a page that was told, what was asked ahead in vain
                if page_id not in self._told:
                    tallies = self._pages.setdefault(page_id or ACCOUNT, PageRun()).tallies
                tally = tallies.setdefault(stream, Tally())
        return tally

    def expect(self, names: Mapping[str, str | None]) -> None:
        """Note which pages are to be read, and how they are called."""
        with self._lock:
            self.is_listed = True
            self._pages |= {page_id: PageRun(name) for page_id, name in names.items()}

    def begin(self, page_id: str) -> None:
        """Note that a page is being read."""
        with self._lock:
            page = self._pages.setdefault(page_id, PageRun())
            page.started_at = times.text(datetime.now(UTC))

    def over(self, page_id: str) -> None:
        """Note that a page was read to its end, or to where it failed."""
        self._pages[page_id].is_over = True

    def missing(self, page_id: str, name: str | None, status: Status, reason: str) -> None:
        """Note that a page is not there to be read."""
        with self._lock:
            self._pages[page_id] = PageRun(name, instead=(status, reason))
            if status is Status.FAILED:
                self.failing.add(page_id)

    def called(self, stream: str, page_id: str | None) -> None:
        """Note a call."""
        tally = self.of(stream, page_id)
        with self._lock:
            tally.calls += not self.is_closed

    def retried(self, stream: str, page_id: str | None, *, limited: bool = False) -> None:
        """Note that a call is made again, after an answer 429 or a fault that may pass."""
        tally = self.of(stream, page_id)
        with self._lock:
            tally.retries += not self.is_closed
            tally.limited += limited and not self.is_closed

    def note(self, case: Case, text: str, stream: str, page_id: str | None) -> None:
        """Note what is wrong with a stream of a page."""
        tally = self.of(stream, page_id)
        with self._lock:
            if case is Case.LEFT_OUT and (case, text) in tally.cases:
                return  # there may be one for each row
            tally.cases.append((case, text))
            self._cases.append((case, text))
            if case is Case.FAILED and page_id:
                self.failing.add(page_id)

    def cases(self, *kinds: Case) -> list[str]:
        """Return what was wrong in these ways, of all pages."""
        with self._lock:
            return [text for case, text in self._cases if case in kinds]

    @property
    def has_pages(self) -> bool:
        """Whether this run or an earlier one knows a page."""
        return bool(self.known or self._told or self._pages.keys() - {ACCOUNT})

    def untold(self) -> list[str]:
        """Return the pages that were not told yet, the account last."""
        with self._lock:
            return sorted(self._pages, key=lambda page_id: page_id == ACCOUNT)

    def tell(self, page_id: str) -> PageRun:
        """Return what was done of a page, for the last time; only the totals remember it then."""
        with self._lock:
            page = self._pages.pop(page_id)
            self._told.add(page_id)
            for stream, tally in page.tallies.items():
                self._totals.setdefault(stream, Tally()).add(tally)
        return page

    def totals(self) -> dict[str, Tally]:
        """Return what was done for each stream, of all pages together."""
        totals: dict[str, Tally] = {}
        with self._lock:
            for tallies in (self._totals, *(page.tallies for page in self._pages.values())):
                for stream, tally in tallies.items():
                    totals.setdefault(stream, Tally()).add(tally)
        return totals
