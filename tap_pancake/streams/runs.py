"""What each run did, for those who look into the warehouse and not into a log."""

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
    """The account of the run, which the tap gives itself: a row for each page.

    A page's row is written when it is done; all others at the end of the run, whatever ends it.
    """

    name = "sync_runs"
    path = ""
    brings = "nothing: it costs no call"
    primary_keys = ("run_id", "page_id")
    replication_key = "ended_at"

    def __init__(self, tap: Tap, run: Run) -> None:
        """Begin with a run that goes on."""
        super().__init__(tap, run)
        self._ending: tuple[Status, str] | None = None
        """How the run ended before all was read, and why."""

    @override
    def probe(self, context: Context | None) -> list[Row] | None:
        return None

    def tell(self, page_id: str) -> None:
        """Write the row of a page that is done."""
        if self.selected:
            self.sync({"page_id": page_id})
        else:
            self.run.account.tell(page_id)

    def tell_rest(self, end: BaseException) -> None:
        """Write what was not written when a run ended before all was read.

        Not of a first run that knows no page yet: `meltano config test` takes any row for success.
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
        if not account.is_listed and self.run.streams["pages"].is_wanted:
            chosen = self.config.get("page_ids") or account.known
            for page_id in sorted(account.known.intersection(chosen)):
                account.missing(page_id, None, *self._ending)
        self.sync()

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        account = self.run.account
        for page_id in [context["page_id"]] if context else account.untold():
            page = account.tell(page_id)
            never = page_id != ACCOUNT and page.started_at is None and page.instead is None
            if never and self._ending is None:
                continue  # a stream map filters the page
            yield self._record(page_id, page)

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        return {}  # there is nothing to keep

    @override
    def written(self, page_id: str | None, count: int) -> None:
        pass  # not of itself

    @override
    def write_state(self) -> None:
        if self.context is None:
            super().write_state()
        else:  # not for each page
            self.run.state_clock.tick()

    def _record(self, page_id: str, page: PageRun) -> Record:
        streams = [*self._streams(page_id, page)]
        worst = max(streams, key=lambda one: Status(one["status"]).badness, default=None)
        status, reason = page.instead or self._end_of(page_id, page) or (Status.COMPLETE, None)
        if worst is not None and Status(worst["status"]).badness > status.badness:
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
        """Say how the end of the run left a page that was not done; None if it is."""
        if self._ending is None or (page.is_over and page_id != ACCOUNT):
            return None
        status, reason = self._ending
        return (status if page_id == ACCOUNT else Status.INTERRUPTED), reason

    def _streams(self, page_id: str, page: PageRun) -> Iterator[Row]:
        """Tell of each stream of a page that was selected, and of others that failed."""
        if page.instead:
            return
        for name, stream in self.run.streams.items():
            is_of_account = stream.parent_stream_type is None
            if stream is self or is_of_account != (page_id == ACCOUNT):
                continue
            tally = page.tallies.get(name, Tally())
            if (stream.selected and stream.is_read_of(page_id)) or tally.problem:
                yield self._stream(stream, page_id, page, tally)

    def _stream(self, stream: PancakeStream, page_id: str, page: PageRun, tally: Tally) -> Row:
        kept = stream.kept(page_id)
        # Of statistics, days are aside, which are open, too.
        aside = [] if isinstance(stream, StatisticsStream) else kept.get("aside", [])
        left = kept.get(OPEN, [])
        conversations = [entry[0] for entry in aside]
        status, reason = self._fared(stream, page_id, page, tally) or (Status.COMPLETE, None)
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

    def _fared(
        self, stream: PancakeStream, page_id: str, page: PageRun, tally: Tally
    ) -> tuple[Status, str] | None:
        """Say what went wrong with a stream, or with those without which it has no rows."""
        sources = [page.tallies[name] for name in stream.read_with if name in page.tallies]
        problems = [one.problem for one in (tally, *sources) if one.problem]
        if problems:
            return problems[0]
        if tally.is_over:
            return None
        if (end := self._end_of(page_id, page)) or page_id == ACCOUNT:
            return end
        # Another one met what holds for the whole page.
        others = [one.problem for one in page.tallies.values() if one.problem]
        return max(others, key=lambda one: one[0].badness, default=None)
