"""ListStream: a list that is cut off, read in time windows from old to new."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.api.client import PancakeStream
from tap_pancake.api.errors import PageFailed
from tap_pancake.reading.old import BEGINNING, Bookmark, PageWalk
from tap_pancake.reading.windows import Cut, TimeWindows, Window
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Row
    from tap_pancake.running.run import Run


RECENT = 28 * 86_400
"""Seconds: what is newer tells whether a page is in use. Versions that bound it allow a month."""
# Clocks differ, but not by more.
_AHEAD = 86_400


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a list that are certain, and what is known of the list with them."""

    rows: list[Row]
    """Oldest first, if `sorted`."""
    cleared: float | None
    """Unix seconds: every row older than this is in this part or one before; None if unknown."""
    sorted: bool
    """False once the list was seen not to filter; the rest comes in its own order."""
    unsettled: bool
    """Whether the list moves too much to be read to its end."""
    messages: Iterator[bytes] | None = None
    """Of the one row, a conversation, the messages that are read ahead."""


class ListStream(PancakeStream):
    """A list that comes in answers of so many rows, by the time that is its replication key."""

    cut: Cut
    is_sorted = True
    windowing: dict[str, Any] = {}  # noqa: RUF012 - set in classes, never changed
    """What else `TimeWindows` must know of the list."""

    def __init__(self, tap: Tap, run: Run) -> None:
        """Begin with what is known of the list; a run may learn that an answer holds fewer."""
        super().__init__(tap, run)
        self.cut = replace(self.cut)

    @override
    def recent(self, context: Context | None) -> Window:
        now = int(time.time())
        return Window(now - RECENT, now + _AHEAD)

    def begin_walk(self, context: Context) -> PageWalk:
        """Decide what this run reads of a page."""
        now = times.text(datetime.now(UTC))
        return PageWalk(self.config, rows=Bookmark({}, "", incremental=False) if self.selected else None, now=now)

    def windows(self, walk: PageWalk) -> TimeWindows:
        """Give the time windows of one page's walk."""
        key = str(self.replication_key)
        return TimeWindows(
            start=times.unix(walk.start) if walk.start else None,
            end=times.unix(walk.stop) if walk.stop else None,
            cut=self.cut,
            time_of=lambda row: times.unix_or_none(row.get(key)),
            row_id=self.row_id,
            settled=times.unix(walk.settled),
            **self.windowing,
        )

    def parts(
        self,
        windows: TimeWindows,
        walk: PageWalk,  # noqa: ARG002 - for streams with children
        context: Context,
    ) -> Iterator[Part]:
        """Read the list, part after part; runs ahead, without the baton."""
        for rows in self.read(windows, context):
            yield Part(rows, windows.low, sorted=windows.sorted, unsettled=windows.unsettled)

    def room(self) -> int:
        """How many parts may be read before they are needed."""
        return 1

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        assert context is not None  # noqa: S101 - a child of pages always has one
        walk = self.begin_walk(context)
        newest = BEGINNING
        parts = self.parts(self.windows(walk), walk, context)
        for part in self.run.lanes.ahead(parts, self.room):
            walk.messages = part.messages
            for row in part.rows:
                record = self.shape(row, context)
                at = record.get(str(self.replication_key)) or BEGINNING
                is_row = walk.wants_row(at or None)
                if is_row or self.child_streams:
                    yield record  # after this, its children have been read, and it was written
                if is_row:
                    newest = max(newest, at)
                if part.sorted:
                    walk.passed(at)
                    self.tell(context, at)
            if part.unsettled:
                msg = (
                    f"{self.place(context)}: the list moves too much while it is read: run the tap"
                    " again, when the page is quieter"
                )
                raise PageFailed(msg)
            if not part.sorted:
                self.note_unsorted(context["page_id"])
            elif part.cleared is not None:
                walk.cleared(times.text(times.from_unix(part.cleared)))
        walk.finish(newest)

    def tell(self, context: Context, at: str) -> None:
        """Tell that a page is read up to a time, if this is the list that takes longest."""

    def note_unsorted(self, page_id: str) -> None:
        """Say once that the list does not filter by its time, if that is why it is read whole."""
        if self.cut.strayed and self.run.is_new(f"{self.name} unsorted"):
            self.logger.warning(
                "page %s, %s: the list does not filter by `%s` as it should, so it is read from"
                " the newest back; the bookmark moves when it is done",
                page_id,
                self.name,
                self.replication_key,
            )
