"""Message batches: the messages of a conversation, from the newest back to a given time.

The API has no time filter for messages, only an offset that counts from the newest. The page size
is not certain: 30 on the current API, 20 and then 25 on the older one. So each batch must begin
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
_PAST_LIMIT = 3
# Number of messages to step back towards the newest if a batch lacks an overlap; each retry goes 8
# times as far.
_STEP = 8
# Number of retries of an empty first batch: if the conversation has a message count, and if the
# count is 0, which the API also returns for many conversations with messages.
_EMPTY_RETRIES, _UNCOUNTED_RETRIES = 3, 1
# Number of tries for a batch that lacks messages or an overlap, before the walk goes back to the
# newest message.
_TRIES = 5
# Number of repeats of the same batch, without a new message in between, that show the end.
_REPEAT_LIMIT = 2
# Number of times that the walk may go back and find nothing new, before such a batch is the end.
_RETURN_LIMIT = 2
# Number of batches in a row that may bring nothing new, beyond the number that did.
_IDLE_LIMIT = 20
# Number of times to doubt an end if at least `_SHORTEST_FULL` counted messages are missing.
_DOUBT_LIMIT = 2


class BatchSizes:
    """The largest batches of a run: among first batches, and among later ones."""

    def __init__(self) -> None:
        """Begin without a batch."""
        self._largest = {True: 0, False: 0}

    def record(self, size: int, *, first: bool) -> None:
        """Record the size of a batch."""
        self._largest[first] = max(self._largest[first], size)

    def is_short(self, size: int, *, first: bool) -> bool:
        """Return whether a batch is shorter than each page size of the API, or than another one."""
        return size < max(_SHORTEST_FULL, self._largest[first])

    @property
    def later_size(self) -> int:
        """The page size of batches after the first one; 0 if no full batch has come yet."""
        full = self._largest[False]
        return full if full >= _SHORTEST_FULL else 0

    def is_shorter(self, size: int, *, first: bool) -> bool:
        """Return whether a batch is shorter than another batch of its kind."""
        return size < self._largest[first]


class MessageBatches:
    """A walk through the messages of one conversation, newest batch first.

    Request the messages at `offset` and pass them to `add_batch`; repeat until `finished`.
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
        self._seen_ids: set[str] = set()
        self._unproven_ids: set[str] = set()
        """The ids of messages from batches without an overlap; they are returned once."""
        self._last_ids: set[str] = set()
        self._offset = 0
        self._expects_overlap = True
        self._misses = 0
        self._repeats = 0
        self._furthest = 0
        self._idle_returns = 0
        self._doubts = 0
        self._useful_batches = 0
        self._idle_batches = 0
        self.finished = False
        self.missing_count = 0
        """Number of counted messages that did not come, once the conversation is read to its end;
        0 if fewer than `_SHORTEST_FULL`."""

    @property
    def offset(self) -> int:
        """The offset to request next, counted from the newest message."""
        return self._offset

    @property
    def lacks_all_messages(self) -> bool:
        """Whether several messages are counted and none came. A single one may be removed."""
        return self.finished and not self._seen_ids and self._expected > 1

    @property
    def is_stuck(self) -> bool:
        """Whether too many batches bring nothing new, and none is the end."""
        return not self.finished and self._idle_batches > _IDLE_LIMIT + self._useful_batches

    @property
    def next_offsets(self) -> range:
        """The offsets that are probably requested after the next one.

        Empty if not all messages are read, or if the page size is not clear yet.
        """
        full = self._sizes.later_size
        if self._since > BEGINNING or not full or len(self._last_ids) != full:
            return range(0)
        return range(self._offset + full - 1, self._expected, full - 1)

    def add_batch(self, rows: list[Row], size: int | None = None) -> list[Row]:
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
        new = [row for row in rows if str(row["id"]) not in self._seen_ids]
        new.sort(key=lambda row: sent[id(row)] or 0)
        if self._lacks_messages(ids):
            self._step_back(ids)
            self._idle_batches += 1
            # An overlap may never come, so these messages are returned now.
            unproven, self._unproven_ids = self._unproven_ids, self._unproven_ids | ids
            return [row for row in new if str(row["id"]) not in unproven]
        self._idle_batches = 0 if new else self._idle_batches + 1
        self._useful_batches += bool(new)
        self._idle_returns += self._misses > 1
        self._misses = 0
        self._seen_ids |= ids
        self._sizes.record(size, first=first)
        short = self._sizes.is_short(size, first=first)
        # After going back, the walk may not have reached its earlier place again.
        reached = self._offset + size
        self._idle_returns = 0 if new else self._idle_returns
        is_behind = reached <= self._furthest and 0 < self._idle_returns <= _RETURN_LIMIT
        self._furthest = max(reached, self._furthest)
        # An API without an empty last batch returns its last batch again and again. A single repeat
        # has other causes: as many new messages as the batch holds pushed it down, or the walk went
        # back because messages were deleted.
        self._repeats = 0 if new else self._repeats + (ids == self._last_ids)
        end = not rows or (not new and not is_behind and (short or self._repeats >= _REPEAT_LIMIT))
        self._doubts = 0 if new else self._doubts
        is_doubtful = end and self._may_be_truncated(rows)
        # If the count is too low, as 0 often is, messages may follow a short batch. Then only a
        # batch without a new message is the end. Many counts are too low by one.
        is_counted = self._expected > 0 and 0 <= len(self._seen_ids) - self._expected <= 1
        is_last = is_counted and (short if first else self._sizes.is_shorter(size, first=first))
        is_end = (end and not is_doubtful) or is_last
        is_past = self._is_past([at for at in sent.values() if at])
        self.finished = is_end or is_past
        missing = self._expected - len(self._seen_ids)
        self.missing_count = missing if is_end and not is_past and missing >= _SHORTEST_FULL else 0
        self._last_ids = ids
        # An overlap of a single message would request the same batch again.
        self._expects_overlap = size > 1
        self._offset += max(1, size - 1)
        if is_doubtful:
            self._doubts += 1
            self._expects_overlap = bool(self._seen_ids)
            self._offset = max(0, reached - _STEP)
        return [row for row in new if str(row["id"]) not in self._unproven_ids]

    def _may_be_truncated(self, rows: list[Row]) -> bool:
        """Return whether an apparent end may be truncated, or from an old copy of the data."""
        lacks = self._expected - len(self._seen_ids) >= _SHORTEST_FULL
        # An empty batch that should have an overlap has had enough retries.
        return lacks and bool(rows or not self._expects_overlap) and self._doubts < _DOUBT_LIMIT

    def _lacks_messages(self, ids: set[str]) -> bool:
        """Return whether a batch lacks messages or an overlap that should be there."""
        if not self._seen_ids:
            return not ids and self._misses < (
                _EMPTY_RETRIES if self._expected else _UNCOUNTED_RETRIES
            )
        if not self._expects_overlap:
            return False
        # If the batch at the newest message has no overlap either, all messages read are deleted.
        gone = not self._offset and self._misses >= (1 if ids else _TRIES)
        return ids.isdisjoint(self._seen_ids) and not gone

    def _step_back(self, ids: set[str]) -> None:
        """Repeat the request, then step back towards the newest: messages may have been deleted."""
        self._misses += 1
        if self._seen_ids and (ids or self._misses > 1):
            further = _STEP**self._misses if self._misses < _TRIES else self._offset
            self._offset = max(0, self._offset - further)

    def _is_past(self, sent: list[int]) -> bool:
        """Return whether the times of a batch reach back past `since`."""
        # Most pairs of messages show which end is the older one: single messages may have been
        # stored long after their time.
        ascending = sum(later >= earlier for earlier, later in pairwise(sent))
        oldest = sent[:_PAST_LIMIT] if 2 * ascending >= len(sent) - 1 else sent[-_PAST_LIMIT:]
        return bool(oldest) and all(at < self._since for at in oldest)
