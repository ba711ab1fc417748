"""The results of a run, by page and stream, for the summary in the log and for `sync_runs`.

Results of streams without a page belong to the account, whose page id is the empty string. All
threads record their figures here.
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

ACCOUNT = "account"
"""Page id of results that belong to no page. Not empty: some targets write an empty key as null."""


class Case(StrEnum):
    """A kind of problem with a stream of a page, the worst first."""

    FAILED = "Failed"
    SET_ASIDE = "Set aside"
    STILL_ASIDE = "Still set aside"
    """Set aside by an earlier run; this run could not read it either."""
    LEFT_OUT = "Left out"
    """Rows cannot be written."""
    LACKING = "Lacking"
    """The API counts more than it returns."""
    SKIPPED = "Skipped"
    """A plan or a permission is missing."""
    IDLE = "Idle"
    """The page seems to have no traffic."""


class Status(StrEnum):
    """The result of a page, or of a stream of a page; the worst last."""

    COMPLETE = "complete"
    SKIPPED = "skipped"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    GONE = "gone"

    @property
    def severity(self) -> int:
        """Rank of the status; 0 is the best."""
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
    """Counts and problems of one stream of a page, or the counts of several."""

    rows: int = 0
    """Rows that were written, after stream maps and filters."""
    calls: int = 0
    retries: int = 0
    limited: int = 0
    """Number of answers with HTTP 429."""
    is_over: bool = False
    """Whether the stream was read to its end, or failed."""
    cases: list[tuple[Case, str]] = field(default_factory=list)
    """The problems, with their text in the log."""

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.rows += other.rows
        self.calls += other.calls
        self.retries += other.retries
        self.limited += other.limited

    @property
    def problem(self) -> tuple[Status, str] | None:
        """Status and text of the worst case; None without cases."""
        if not self.cases:
            return None
        case, text = min(self.cases, key=lambda one: list(Case).index(one[0]))
        return _STATUS[case], text


@dataclass(slots=True)
class PageRun:
    """Results of one page."""

    name: str | None = None
    """Name in the list of pages."""
    started_at: str | None = None
    """None if the page was not started."""
    is_over: bool = False
    """Whether the page was read to its end, or failed."""
    missing: tuple[Status, str] | None = None
    """Status and reason of a page that is missing and was not read; None otherwise."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """Tallies by stream."""

    @property
    def total(self) -> Tally:
        """Sum of the counts of all streams."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total


class RunAccount:
    """Results of one run."""

    def __init__(self) -> None:
        """Start the run now."""
        self.started_at = times.text(datetime.now(UTC))
        stamp = self.started_at.translate({ord(sign): None for sign in "-:"})[:15]
        self.run_id = f"{stamp}Z-{secrets.token_hex(4)}"
        """Unique id of the run; sorts by time."""
        self.pages_in_state: set[str] = set()
        """Ids of the pages in the state of earlier runs."""
        self.failing: set[str] = set()
        """Ids of the pages with failures."""
        self.is_closed = False
        """Whether the run ends; requests in progress no longer count."""
        self.is_listed = False
        """Whether the pages to read have been listed."""
        self._lock = threading.Lock()
        self._pages: dict[str, PageRun] = {ACCOUNT: PageRun(started_at=self.started_at)}
        """Pages that were not reported yet, by id."""
        self._reported: set[str] = set()
        self._totals: dict[str, Tally] = {}
        """Sums of the pages that were reported, by stream."""
        self._cases: list[tuple[Case, str]] = []

    def of(self, stream: str, page_id: str | None) -> Tally:
        """Return the tally of a stream of a page; page id None means the account."""
        page = self._pages.get(page_id or ACCOUNT)
        tally = page.tallies.get(stream) if page else None
        if tally is None:
            with self._lock:
                tallies = self._totals  # a late request, read ahead, of a page already reported
                if page_id not in self._reported:
                    tallies = self._pages.setdefault(page_id or ACCOUNT, PageRun()).tallies
                tally = tallies.setdefault(stream, Tally())
        return tally

    def expect(self, names: Mapping[str, str | None]) -> None:
        """Record the pages to read: id to name."""
        with self._lock:
            self.is_listed = True
            self._pages |= {page_id: PageRun(name) for page_id, name in names.items()}

    def begin(self, page_id: str) -> None:
        """Record that the reading of a page has started."""
        with self._lock:
            page = self._pages.setdefault(page_id, PageRun())
            page.started_at = times.text(datetime.now(UTC))

    def over(self, page_id: str) -> None:
        """Record that a page was read to its end, or failed."""
        self._pages[page_id].is_over = True

    def missing(self, page_id: str, name: str | None, status: Status, reason: str) -> None:
        """Record that a page is missing and cannot be read."""
        with self._lock:
            self._pages[page_id] = PageRun(name, missing=(status, reason))
            if status is Status.FAILED:
                self.failing.add(page_id)

    def called(self, stream: str, page_id: str | None) -> None:
        """Count a request."""
        tally = self.of(stream, page_id)
        with self._lock:
            tally.calls += not self.is_closed

    def retried(self, stream: str, page_id: str | None, *, limited: bool = False) -> None:
        """Count a retry, after HTTP 429 or a fault that may pass."""
        tally = self.of(stream, page_id)
        with self._lock:
            tally.retries += not self.is_closed
            tally.limited += limited and not self.is_closed

    def note(self, case: Case, text: str, stream: str, page_id: str | None) -> None:
        """Record a problem with a stream of a page."""
        tally = self.of(stream, page_id)
        with self._lock:
            if case is Case.LEFT_OUT and (case, text) in tally.cases:
                return  # each row may have the same problem
            tally.cases.append((case, text))
            self._cases.append((case, text))
            if case is Case.FAILED and page_id:
                self.failing.add(page_id)

    def cases(self, *kinds: Case) -> list[str]:
        """Return the texts of all problems of these kinds, for all pages."""
        with self._lock:
            return [text for case, text in self._cases if case in kinds]

    @property
    def has_pages(self) -> bool:
        """Whether this run or an earlier one has found a page."""
        return bool(self.pages_in_state or self._reported or self._pages.keys() - {ACCOUNT})

    def unreported(self) -> list[str]:
        """Return the ids of the pages that were not reported yet, the account last."""
        with self._lock:
            return sorted(self._pages, key=lambda page_id: page_id == ACCOUNT)

    def pop_page(self, page_id: str) -> PageRun:
        """Return the results of a page, and remove them; only their sums are kept in the totals."""
        with self._lock:
            page = self._pages.pop(page_id)
            self._reported.add(page_id)
            for stream, tally in page.tallies.items():
                self._totals.setdefault(stream, Tally()).add(tally)
        return page

    def totals(self) -> dict[str, Tally]:
        """Return the counts of each stream, for all pages together."""
        totals: dict[str, Tally] = {}
        with self._lock:
            for tallies in (self._totals, *(page.tallies for page in self._pages.values())):
                for stream, tally in tallies.items():
                    totals.setdefault(stream, Tally()).add(tally)
        return totals
