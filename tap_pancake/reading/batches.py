"""Message batches: from the newest message back, no further than is asked for.

A conversation's messages have no time filter, only an offset that counts from the newest. How many
come at a time is not certain: 30 now, 20 and then 25 on the older API. So each batch begins with a
message of the one before: that proves that nothing was skipped, also where a message was deleted
meanwhile. A message that arrives meanwhile pushes the others down: a larger overlap. And no empty
batch is believed at once where there should be messages.

Source: reference, section 8.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.rows import times

if TYPE_CHECKING:
    Row = dict[str, Any]

# The shortest full batch of any form of the API.
_SHORTEST_FULL = 20
# So many messages at the far end that are older than wanted end a conversation: one may just have
# an odd time.
_PAST = 3
# How many messages further up each time that a batch has none that is known.
_FURTHER = 8
# So often is asked again for the first batch of a conversation that should have messages, or whose
# count says nothing: 0 is what the API says of many that have some.
_EMPTY, _EMPTY_UNTOLD = 3, 1
# So often is a batch asked for again that should have messages, or one that is known.
_TRIES = 5
# So often the same batch comes with nothing new between, until that is the end.
_SAME = 2
# So often the way is gone once more where nothing came of a step, until that is the end.
_AGAIN = 2
# So many answers more than have brought something may bring nothing new.
_IDLE = 20
# So often an end is doubted where a whole batch of what is counted has not come.
_DOUBTS = 2


class BatchSizes:
    """The largest batches seen in a run: of first calls, and of later ones."""

    def __init__(self) -> None:
        """Begin with none."""
        self._largest = {True: 0, False: 0}

    def see(self, size: int, *, first: bool) -> None:
        """Remember the size of a batch."""
        self._largest[first] = max(self._largest[first], size)

    def is_short(self, size: int, *, first: bool) -> bool:
        """Tell whether a batch is shorter than every form of the API answers, or did so far."""
        return size < max(_SHORTEST_FULL, self._largest[first])

    @property
    def later(self) -> int:
        """How many messages a full batch after the first one holds; 0 if none was seen."""
        full = self._largest[False]
        return full if full >= _SHORTEST_FULL else 0

    def is_shown_short(self, size: int, *, first: bool) -> bool:
        """Tell whether a batch is shorter than another one of its kind was."""
        return size < self._largest[first]


class MessageBatches:
    """Walks one conversation's messages, newest batch first.

    Use: ask for the messages from offset `window` on, hand them to `take`, until `finished`.
    """

    def __init__(self, *, since: int, expected: int, sizes: BatchSizes) -> None:
        """Begin at the newest message.

        Args:
            since: messages sent before are not wanted; microseconds since 1970.
            expected: how many messages the conversation is said to have; there may be more.
            sizes: shared by all conversations of a run.
        """
        self._since = since
        self._expected = expected
        self._sizes = sizes
        self._seen: set[str] = set()
        self._given: set[str] = set()
        """Messages that came where no known one did."""
        self._last: set[str] = set()
        self._offset = 0
        self._overlaps = True
        self._missed = 0
        self._same = 0
        self._furthest = 0
        self._again = 0
        self._doubted = 0
        self._brought = 0
        self._idle = 0
        self.finished = False
        self.lacks = 0
        """How many messages that are counted did not come, of a conversation read to its end."""

    @property
    def window(self) -> int:
        """The offset to ask for next, counted from the newest message."""
        return self._offset

    @property
    def came_to_nothing(self) -> bool:
        """Whether no message came of several. Of a single one, it may have been removed."""
        return self.finished and not self._seen and self._expected > 1

    @property
    def is_stuck(self) -> bool:
        """Whether answer after answer brings nothing new, and none is an end."""
        return not self.finished and self._idle > _IDLE + self._brought

    @property
    def coming(self) -> range:
        """The offsets that will probably be asked for after the next one.

        None where not all messages are wanted, or where it is not known how far a batch reaches.
        """
        full = self._sizes.later
        if self._since > BEGINNING or not full or len(self._last) != full:
            return range(0)
        return range(self._offset + full - 1, self._expected, full - 1)

    def take(self, rows: list[Row], size: int | None = None) -> list[Row]:
        """Move on by one batch.

        Args:
            rows: the batch, in any order.
            size: how many messages it held, those that were left out included, if any was.

        Returns:
            Its new messages, oldest first.
        """
        ids = {str(row["id"]) for row in rows}
        first = not self._offset
        size = len(rows) if size is None else size
        sent = {id(row): times.micros_or_none(row.get("inserted_at")) for row in rows}
        new = [row for row in rows if str(row["id"]) not in self._seen]
        new.sort(key=lambda row: sent[id(row)] or 0)
        if self._is_missing(ids):
            self._ask_again(ids)
            self._idle += 1
            # It may never come where it belongs.
            given, self._given = self._given, self._given | ids
            return [row for row in new if str(row["id"]) not in given]
        self._idle = 0 if new else self._idle + 1
        self._brought += bool(new)
        self._again += self._missed > 1
        self._missed = 0
        self._seen |= ids
        self._sizes.see(size, first=first)
        short = self._sizes.is_short(size, first=first)
        # Gone back since messages were missing, it may not have come again to where it was.
        reached = self._offset + size
        self._again = 0 if new else self._again
        is_behind = reached <= self._furthest and 0 < self._again <= _AGAIN
        self._furthest = max(reached, self._furthest)
        # An API that does not end with an empty batch answers with the same one again and again.
        # Once, it may have been pushed down by as many messages as it holds, or be the one that was
        # gone back to since messages were deleted.
        self._same = 0 if new else self._same + (ids == self._last)
        end = not rows or (not new and not is_behind and (short or self._same >= _SAME))
        self._doubted = 0 if new else self._doubted
        doubted = end and self._may_be_cut(rows)
        # With a count that is too low, as 0 often is, a short batch may have more behind it: then
        # only one that brings nothing new is the end. Many a count is too low by one.
        is_told = self._expected > 0 and 0 <= len(self._seen) - self._expected <= 1
        is_last = is_told and (short if first else self._sizes.is_shown_short(size, first=first))
        is_end = (end and not doubted) or is_last
        is_past = self._is_past([at for at in sent.values() if at])
        self.finished = is_end or is_past
        missing = self._expected - len(self._seen)
        self.lacks = missing if is_end and not is_past and missing >= _SHORTEST_FULL else 0
        self._last = ids
        self._overlaps = size > 1  # else there would be no way on
        self._offset += max(1, size - 1)
        if doubted:
            self._doubted += 1
            self._overlaps = bool(self._seen)
            self._offset = max(0, reached - _FURTHER)
        return [row for row in new if str(row["id"]) not in self._given]

    def _may_be_cut(self, rows: list[Row]) -> bool:
        """Tell whether what seems to be the end may be a cut answer, or one of a copy that lags."""
        lacks = self._expected - len(self._seen) >= _SHORTEST_FULL
        # An empty batch where one is known to be was asked for often enough.
        return lacks and bool(rows or not self._overlaps) and self._doubted < _DOUBTS

    def _is_missing(self, ids: set[str]) -> bool:
        """Tell whether a batch lacks what must be there."""
        if not self._seen:
            return not ids and self._missed < (_EMPTY if self._expected else _EMPTY_UNTOLD)
        if not self._overlaps:
            return False
        # At the newest message itself after that, all that were known are gone.
        gone = not self._offset and self._missed >= (1 if ids else _TRIES)
        return ids.isdisjoint(self._seen) and not gone

    def _ask_again(self, ids: set[str]) -> None:
        """Ask once more; then further up, since messages may have been deleted."""
        self._missed += 1
        if self._seen and (ids or self._missed > 1):
            further = _FURTHER**self._missed if self._missed < _TRIES else self._offset
            self._offset = max(0, self._offset - further)

    def _is_past(self, sent: list[int]) -> bool:
        """Tell whether a batch reaches back past what is wanted, by the times of its messages."""
        # Which end is the far one shows in most of them: some may have been stored long after.
        up = sum(later >= earlier for earlier, later in pairwise(sent))
        far = sent[:_PAST] if 2 * up >= len(sent) - 1 else sent[-_PAST:]
        return bool(far) and all(at < self._since for at in far)
