"""The results of each run, for readers of the warehouse instead of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.api.errors import PancakeError
from tap_pancake.reading.state import OPEN, TOP
from tap_pancake.reading.statistics import StatisticsStream
from tap_pancake.rows import times
from tap_pancake.running.account import ACCOUNT, PageRun, Status, Tally
from tap_pancake.running.interrupts import Interrupted
from tap_pancake.running.progress import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.running.run import Run


class SyncRunsStream(PancakeStream):
    """The tap's own account of a run: a row for each page.

    The row of a page is written when the page is done. All other rows are written at the end of the
    run, even if it fails or is interrupted.
    """

    name = "sync_runs"
    path = ""
    per_request = "no request"
    primary_keys = ("run_id", "page_id")
    replication_key = "ended_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Start with a run in progress."""
        super().__init__(tap, run)
        self._ending: tuple[Status, str] | None = None
        """Status and reason of a run that ended early; None otherwise."""

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        return None

    def write_page(self, page_id: str) -> None:
        """Write the row of a page that is done."""
        if self.selected:
            self.sync({"page_id": page_id})
        else:
            self.run.account.pop_page(page_id)

    def write_rest(self, end: BaseException) -> None:
        """Write the rows of all other pages when a run ends early.

        A first run without pages writes none: `meltano config test` takes any row for a success.
        """
        account = self.run.account
        if not self.selected or not account.has_pages:
            return
        failed = isinstance(end, PancakeError)
        reason = self.run.redactor.line(str(end))
        if isinstance(end, Interrupted):
            reason = f"the run was ended by {end.name}"
        account.is_closed = True
        self._ending = (Status.FAILED if failed else Status.INTERRUPTED, reason)
        if not account.is_listed and self.run.streams["pages"].is_needed:
            chosen = self.config.get("page_ids") or account.pages_in_state
            for page_id in sorted(account.pages_in_state.intersection(chosen)):
                account.missing(page_id, None, *self._ending)
        self.sync()

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        account = self.run.account
        for page_id in [context["page_id"]] if context else account.unreported():
            page = account.pop_page(page_id)
            never = page_id != ACCOUNT and page.started_at is None and page.missing is None
            if never and self._ending is None:
                continue  # a stream map filters the page
            yield self._record(page_id, page)

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        return {}  # the stream keeps no state

    @override
    def count_written(self, page_id: str | None, count: int) -> None:
        pass  # the stream does not count its own rows

    @override
    def write_state(self) -> None:
        if self.context is None:
            super().write_state()
        else:  # at intervals, not after each page
            self.run.state_clock.tick()

    def _record(self, page_id: str, page: PageRun) -> Record:
        streams = [*self._streams(page_id, page)]
        worst = max(streams, key=lambda one: Status(one["status"]).severity, default=None)
        status, reason = page.missing or self._end_of(page_id, page) or (Status.COMPLETE, None)
        if worst is not None and Status(worst["status"]).severity > status.severity:
            status, reason = worst["status"], worst["reason"]
        total = page.total
        return {
            "run_id": self.run.account.run_id,
            "page_id": page_id,
            "page_name": page.name,
            "shard_index": self.run.shard.index,
            "started_at": page.started_at,
            "ended_at": times.text(datetime.now(UTC)),
            "status": str(status),
            "reason": reason,
            "row_count": total.rows,
            "calls": total.calls,
            "retries": total.retries,
            "answers_429": total.limited,
            "tap_version": self._tap.plugin_version,
            "streams": streams,
        }

    def _end_of(self, page_id: str, page: PageRun) -> tuple[Status, str] | None:
        """Return status and reason of a page if an early end left it unfinished; else None."""
        if self._ending is None or (page.is_over and page_id != ACCOUNT):
            return None
        status, reason = self._ending
        return (status if page_id == ACCOUNT else Status.INTERRUPTED), reason

    def _streams(self, page_id: str, page: PageRun) -> Iterator[Row]:
        """Yield the results of the selected streams of a page, and of others that failed."""
        if page.missing:
            return
        for name, stream in self.run.streams.items():
            is_of_account = stream.parent_stream_type is None
            if stream is self or is_of_account != (page_id == ACCOUNT):
                continue
            tally = page.tallies.get(name, Tally())
            if (stream.selected and stream.is_read_of(page_id)) or tally.problem:
                yield self._stream(stream, page_id, page, tally)

    def _stream(self, stream: PancakeStream, page_id: str, page: PageRun, tally: Tally) -> Row:
        kept = stream.state_of(page_id)
        # Days of statistics that are set aside are also open stretches, and are shown as these.
        aside = [] if isinstance(stream, StatisticsStream) else kept.get("aside", [])
        left = kept.get(OPEN, [])
        conversations = [entry[0] for entry in aside]
        status, reason = self._problem_of(stream, page_id, page, tally) or (Status.COMPLETE, None)
        if status is Status.COMPLETE and conversations:
            status = Status.INCOMPLETE
            reason = f"set aside for a retry: {counted(len(conversations), 'conversation')}"
        elif status is Status.COMPLETE and left:
            status, reason = Status.INCOMPLETE, "not everything is read yet: later runs go on"
        return {
            "name": stream.name,
            "status": str(status),
            "reason": reason,
            "row_count": tally.rows,
            "calls": tally.calls,
            "top": kept.get(TOP),
            "open": [{"from": low or None, "to": high} for low, high in left],
            "set_aside": conversations,
        }

    def _problem_of(
        self, stream: PancakeStream, page_id: str, page: PageRun, tally: Tally
    ) -> tuple[Status, str] | None:
        """Return the problem of a stream, or of the streams that it needs; None without one."""
        sources = [page.tallies[name] for name in stream.read_with if name in page.tallies]
        problems = [one.problem for one in (tally, *sources) if one.problem]
        if problems:
            return problems[0]
        if tally.is_over:
            return None
        if (end := self._end_of(page_id, page)) or page_id == ACCOUNT:
            return end
        # The page ended early: another stream has the problem of the whole page.
        others = [one.problem for one in page.tallies.values() if one.problem]
        return max(others, key=lambda one: one[0].severity, default=None)
