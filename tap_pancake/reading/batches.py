"""Message batches: the messages of a conversation, from the newest back to a given time.

The API has no time filter for messages, only an offset that counts from the newest. The page size
is not certain: 30 on the present API, 20 and then 25 on the older one. So each batch must begin
with a message of the batch before. This proves that nothing was skipped, even if a message was
deleted meanwhile. A message that arrives meanwhile makes the overlap larger. An empty batch is
requested again if there should be messages.

Source: reference, section 8.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.rows import times

if TYPE_CHECKING:
    Row = dict[str, Any]

# The smallest page size of all versions of the API.
_SHORTEST_FULL = 20
# Number of messages in a row, at the older end of a batch, that must be older than `since` before
# the conversation ends: a single message may have a wrong time.
_PAST = 3
# Number of messages to step back towards the newest if a batch lacks an overlap; each retry goes 8
# times as far.
_FURTHER = 8
# Number of retries of an empty first batch: if the conversation has a message count, and if the
# count is 0, which the API also returns for many conversations with messages.
_EMPTY, _EMPTY_UNTOLD = 3, 1
# Number of tries for a batch that lacks messages or an overlap, before the walk goes back to the
# newest message.
_TRIES = 5
# Number of repeats of the same batch, without a new message in between, that show the end.
_SAME = 2
# Number of times that the walk may go back and find nothing new, before such a batch is the end.
_AGAIN = 2
# Number of batches in a row that may bring nothing new, beyond the number that did.
_IDLE = 20
# Number of times to doubt an end if at least `_SHORTEST_FULL` counted messages are missing.
_DOUBTS = 2


class BatchSizes:
    """The largest batches of a run: among first batches, and among later ones."""

    def __init__(self) -> None:
        """Begin without a batch."""
        self._largest = {True: 0, False: 0}

    def see(self, size: int, *, first: bool) -> None:
        """Record the size of a batch."""
        self._largest[first] = max(self._largest[first], size)

    def is_short(self, size: int, *, first: bool) -> bool:
        """Return whether a batch is shorter than each page size of the API, or than another one."""
        return size < max(_SHORTEST_FULL, self._largest[first])

    @property
    def later(self) -> int:
        """The page size of batches after the first one; 0 if no full batch has come yet."""
        full = self._largest[False]
        return full if full >= _SHORTEST_FULL else 0

    def is_shown_short(self, size: int, *, first: bool) -> bool:
        """Return whether a batch is shorter than another batch of its kind."""
        return size < self._largest[first]


class MessageBatches:
    """A walk through the messages of one conversation, newest batch first.

    Request the messages at offset `window` and pass them to `take`; repeat until `finished`.
    """

    def __init__(self, *, since: int, expected: int, sizes: BatchSizes) -> None:
        """Begin at the newest message.

        Args:
            since: the time to read back to, in microseconds since 1970.
            expected: the API's count of messages; there may be more.
            sizes: the largest batches, shared by all conversations of a run.
        """
        self._since = since
        self._expected = expected
        self._sizes = sizes
        self._seen: set[str] = set()
        self._given: set[str] = set()
        """The ids of messages from batches without an overlap; they are returned once."""
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
        """Number of counted messages that did not come, once the conversation is read to its end;
        0 if fewer than `_SHORTEST_FULL`."""

    @property
    def window(self) -> int:
        """The offset to request next, counted from the newest message."""
        return self._offset

    @property
    def came_to_nothing(self) -> bool:
        """Whether several messages are counted and none came. A single one may be removed."""
        return self.finished and not self._seen and self._expected > 1

    @property
    def is_stuck(self) -> bool:
        """Whether too many batches bring nothing new, and none is the end."""
        return not self.finished and self._idle > _IDLE + self._brought

    @property
    def coming(self) -> range:
        """The offsets that are probably requested after the next one.

        Empty if not all messages are read, or if the page size is not clear yet.
        """
        full = self._sizes.later
        if self._since > BEGINNING or not full or len(self._last) != full:
            return range(0)
        return range(self._offset + full - 1, self._expected, full - 1)

    def take(self, rows: list[Row], size: int | None = None) -> list[Row]:
        """Process one batch, and move on.

        Args:
            rows: the messages of the batch, in any order.
            size: the number of messages, with those that are left out; None if none is left out.

        Returns:
            The new messages of the batch, oldest first.
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
            # An overlap may never come, so these messages are returned now.
            given, self._given = self._given, self._given | ids
            return [row for row in new if str(row["id"]) not in given]
        self._idle = 0 if new else self._idle + 1
        self._brought += bool(new)
        self._again += self._missed > 1
        self._missed = 0
        self._seen |= ids
        self._sizes.see(size, first=first)
        short = self._sizes.is_short(size, first=first)
        # After going back, the walk may not have reached its earlier place again.
        reached = self._offset + size
        self._again = 0 if new else self._again
        is_behind = reached <= self._furthest and 0 < self._again <= _AGAIN
        self._furthest = max(reached, self._furthest)
        # An API without an empty last batch returns its last batch again and again. A single repeat
        # has other causes: as many new messages as the batch holds pushed it down, or the walk went
        # back because messages were deleted.
        self._same = 0 if new else self._same + (ids == self._last)
        end = not rows or (not new and not is_behind and (short or self._same >= _SAME))
        self._doubted = 0 if new else self._doubted
        doubted = end and self._may_be_cut(rows)
        # If the count is too low, as 0 often is, messages may follow a short batch. Then only a
        # batch without a new message is the end. Many counts are too low by one.
        is_told = self._expected > 0 and 0 <= len(self._seen) - self._expected <= 1
        is_last = is_told and (short if first else self._sizes.is_shown_short(size, first=first))
        is_end = (end and not doubted) or is_last
        is_past = self._is_past([at for at in sent.values() if at])
        self.finished = is_end or is_past
        missing = self._expected - len(self._seen)
        self.lacks = missing if is_end and not is_past and missing >= _SHORTEST_FULL else 0
        self._last = ids
        self._overlaps = size > 1  # an overlap of one message would request the same batch again
        self._offset += max(1, size - 1)
        if doubted:
            self._doubted += 1
            self._overlaps = bool(self._seen)
            self._offset = max(0, reached - _FURTHER)
        return [row for row in new if str(row["id"]) not in self._given]

    def _may_be_cut(self, rows: list[Row]) -> bool:
        """Return whether an apparent end may be truncated, or from an old copy of the data."""
        lacks = self._expected - len(self._seen) >= _SHORTEST_FULL
        # An empty batch that should have an overlap has had enough retries.
        return lacks and bool(rows or not self._overlaps) and self._doubted < _DOUBTS

    def _is_missing(self, ids: set[str]) -> bool:
        """Return whether a batch lacks messages or an overlap that should be there."""
        if not self._seen:
            return not ids and self._missed < (_EMPTY if self._expected else _EMPTY_UNTOLD)
        if not self._overlaps:
            return False
        # If the batch at the newest message has no overlap either, all messages read are deleted.
        gone = not self._offset and self._missed >= (1 if ids else _TRIES)
        return ids.isdisjoint(self._seen) and not gone

    def _ask_again(self, ids: set[str]) -> None:
        """Repeat the request, then step back towards the newest: messages may have been deleted."""
        self._missed += 1
        if self._seen and (ids or self._missed > 1):
            further = _FURTHER**self._missed if self._missed < _TRIES else self._offset
            self._offset = max(0, self._offset - further)

    def _is_past(self, sent: list[int]) -> bool:
        """Return whether the times of a batch reach back past `since`."""
        # Most pairs of messages show which end is the older one: single messages may have been
        # stored long after their time.
        up = sum(later >= earlier for earlier, later in pairwise(sent))
        far = sent[:_PAST] if 2 * up >= len(sent) - 1 else sent[-_PAST:]
        return bool(far) and all(at < self._since for at in far)
