"""Message batches: from the newest message back, no further than wanted, without a wasted call.

A conversation's messages have no time filter, only an offset that counts from the newest. How many
come at a time is not certain: 30 now, 20 and then 25 on the older API. So a batch ends the
conversation if it reaches back past what is wanted, or if it is shorter than batches of its kind
can be *and* as many messages came as the conversation is said to have; an empty batch, or the same
one again, always does. A message that arrives meanwhile shifts the offset by one: an overlap, never
a gap.

Source: reference, section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tap_pancake.rows import times

if TYPE_CHECKING:
    Row = dict[str, Any]

# The shortest full batch of any form of the API.
_SHORTEST_FULL = 20
# So many messages older than wanted end a conversation: one may just have an odd time.
_PAST = 3


class BatchSizes:
    """The largest batches seen in a run: of first calls, and of later ones."""

    def __init__(self) -> None:
        """Begin with what every form of the API can answer."""
        self._largest = {True: _SHORTEST_FULL, False: _SHORTEST_FULL}

    def is_short(self, size: int, *, first: bool) -> bool:
        """Tell whether a batch is shorter than others of its kind, and remember its size."""
        short = size < self._largest[first]
        self._largest[first] = max(self._largest[first], size)
        return short


class MessageBatches:
    """Walks one conversation's messages, newest batch first.

    Use: ask for the messages from offset `window` on, hand them to `take`, until `finished`.
    """

    def __init__(self, *, since: str, expected: int, sizes: BatchSizes) -> None:
        """Begin at the newest message.

        Args:
            since: messages sent before are not wanted; empty for all.
            expected: how many messages the conversation is said to have.
            sizes: shared by all conversations of a run.
        """
        self._since = times.unix(since) if since else None
        self._expected = expected
        self._sizes = sizes
        self._seen: set[str] = set()
        self._last: set[str] = set()
        self.finished = False
        self.window = 0
        """The offset to ask for next, counted from the newest message."""

    def take(self, rows: list[Row], total: int | None = None) -> list[Row]:  # noqa: ARG002
        """Move on by one batch.

        Args:
            rows: the batch, in any order.
            total: not used; messages are not counted.

        Returns:
            Its new messages, oldest first.
        """
        first = self.window == 0
        new = [row for row in rows if row["id"] not in self._seen]
        ids = {row["id"] for row in rows}
        self._seen |= ids
        sent = [
            at for row in rows if (at := times.unix_or_none(row.get("inserted_at"))) is not None
        ]
        since = self._since
        older = sum(at < since for at in sent) if since is not None else 0
        past = 0 < min(_PAST, len(sent)) <= older
        answered = getattr(rows, "answered", len(rows))  # those left out are counted by the API
        short = self._sizes.is_short(answered, first=first)
        # An API that does not end with an empty batch answers with the same one again. A batch that
        # only has nothing new was pushed down by as many messages as it holds.
        end = not rows or ids == self._last
        self.finished = end or past or (short and len(self._seen) >= self._expected)
        self._last = ids
        self.window += answered
        new.sort(key=lambda row: times.unix_or_none(row.get("inserted_at")) or 0.0)
        return new
