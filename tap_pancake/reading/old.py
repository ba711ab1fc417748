"""Temporary: the walks of lists before coverage, so that this tree runs; thrown away in the merge."""
# mypy: ignore-errors
# ruff: noqa

from __future__ import annotations

from tap_pancake.rows import times

BOOKMARK = "replication_key_value"
RESUME = "resume"
ORDERED = "ordered"
_START, _REACHED, _END, _SETTLED = "start", "reached", "end", "settled"

# Sorts before every time.
BEGINNING = ""


class Bookmark:
    """One stream's part of the state for one page."""

    def __init__(self, state: dict[str, Any], key: str, *, incremental: bool) -> None:
        """Stand for a place in the state.

        Args:
            state: the page's dict in the state; it is written to.
            key: the stream's replication key.
            incremental: false if the user asked for the full table; nothing is kept then.
        """
        self._state = state if incremental else {}
        self._key = key

    @property
    def value(self) -> str:
        """The bookmark; `BEGINNING` if there is none."""
        return str(self._state.get(BOOKMARK) or BEGINNING)

    def advance(self, value: str) -> None:
        """Move the bookmark; it never moves back."""
        if value > self.value:
            self._state["replication_key"] = self._key
            self._state[BOOKMARK] = value

    def resume_from(self, start: str, end: str | None) -> str:
        """Give where to go on: behind what an unfinished walk from `start` or before has done."""
        resume = self._state.get(RESUME)
        if not resume or resume[_START] > start:
            self._state.pop(RESUME, None)
            return start
        if resume.get(_END) not in {None, end}:
            # What that walk passed above its end, it did not read up to now.
            resume[_REACHED] = min(resume[_REACHED], resume.pop(_END))
        return max(start, str(resume[_REACHED]))

    def settled(self, settled: str) -> str:
        """Give what was settled when the walk began, maybe runs ago; now it is `settled`."""
        return min(settled, str(self._state.get(RESUME, {}).get(_SETTLED, settled)))

    def reached(self, start: str, end: str | None, place: str, settled: str | None = None) -> None:
        """Keep how far an unfinished walk has come, and what was settled when it began."""
        before = self._state.get(RESUME, {}).get(_REACHED, start)
        # The start is this walk's own: one that began later has not done what lies before it.
        kept = {} if settled is None else {_SETTLED: self.settled(settled)}
        self._state[RESUME] = {_START: start, _REACHED: max(place, before), **kept}
        if end is not None:
            self._state[RESUME][_END] = end

    def finish(self) -> None:
        """Forget the walk: it is done."""
        self._state.pop(RESUME, None)

    @property
    def is_ordered(self) -> bool:
        """Whether a run has seen that the list sorts by the replication key."""
        return self._state.get(ORDERED) is True

    def note_ordered(self) -> None:
        """Keep for later runs that the list sorts by the replication key."""
        self._state[ORDERED] = True


class PageWalk:
    """What one run reads of one list of a page, and of what hangs on it. Times are in one form."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        rows: Bookmark | None,
        messages: Bookmark | None = None,
        now: str,
    ) -> None:
        """Decide where to begin.

        Args:
            config: the settings.
            rows: the bookmark of the list's own stream; None if it is not selected.
            messages: the bookmark of `messages`; None if it is not selected, or hangs on another.
            now: the start of this walk.
        """
        self._rows = rows
        self._messages = messages
        lookback = float(config["message_lookback_minutes"])
        first = times.normalise(config["start_date"]) if config.get("start_date") else BEGINNING
        self.end: str | None = (
            times.normalise(config["end_date"]) if config.get("end_date") else None
        )
        self.settled = _whole(times.before(now, minutes=lookback))
        """Rows younger than this can still appear late, so a walk that goes on reads them again."""
        self._done = now if self.end is None else min(now, self.end)

        starts = []
        if rows is not None:
            self._rows_start = max(first, _back(rows, days=float(config["lookback_days"])))
            self.rows_since: str | None = rows.resume_from(self._rows_start, self.end)
            starts.append(self.rows_since)
        else:
            self.rows_since = None
        if messages is not None:
            # Where the API cuts off fractions, a message is up to a second younger than it says.
            self.messages_since = max(first, _whole(_back(messages, minutes=lookback)))
            self._touched_since: str | None = _whole(
                messages.resume_from(self.messages_since, self.end)
            )
            starts.append(self._touched_since)
        else:
            self.messages_since = BEGINNING
            self._touched_since = None
        self.start: str | None = min(starts, default=BEGINNING) or None
        """The first time to ask for; None is the beginning of all."""
        # A conversation touched after the end date may hold messages sent before it.
        self.stop: str | None = self.end if messages is None else None
        """The last time to ask for; None is no end."""
        self.messages: Iterator[bytes] | None = None
        """The messages that are read ahead, of the conversation that is written now."""

    def wants_row(self, at: str | None) -> bool:
        """Tell whether a row of the list is written."""
        if self.rows_since is None:
            return False
        if at is None:
            return True
        return at >= self.rows_since and (self.end is None or at <= self.end)

    def wants_messages(self, updated_at: str | None) -> bool:
        """Tell whether a conversation can have messages to read; if not, it costs no call."""
        if self._touched_since is None:
            return False
        return updated_at is None or updated_at >= self._touched_since

    def wants_message(self, inserted_at: str | None) -> bool:
        """Tell whether a message is written."""
        if inserted_at is None:
            return True
        return inserted_at >= self.messages_since and (self.end is None or inserted_at <= self.end)

    def passed(self, at: str) -> None:
        """Note that a row, and all that came before it, is done."""
        if self._rows is not None and self.wants_row(at):
            self._advance_rows(at)
        self.cleared(at)

    def cleared(self, until: str) -> None:
        """Note that nothing is left to read before a time."""
        place = min(until, self.settled)
        if self._rows is not None:
            self._rows.reached(self._rows_start, self.end, place, self.settled)
        if self._messages is not None:
            self._messages.reached(self.messages_since, self.end, place)

    def finish(self, newest: str) -> None:
        """Note that the whole page is done.

        Args:
            newest: the highest time of a row written; `BEGINNING` if there was none.
        """
        if self._rows is not None:
            self._advance_rows(newest)
            self._rows.finish()
        if self._messages is not None:
            self._messages.advance(self._done)
            self._messages.finish()

    def _advance_rows(self, at: str) -> None:
        """Move the bookmark of the rows, but not to where they can still appear late."""
        assert self._rows is not None  # noqa: S101 - the callers asked
        self._rows.advance(min(at, self._rows.settled(self.settled), self._done))


def _back(bookmark: Bookmark, *, days: float = 0, minutes: float = 0) -> str:
    """Give the time so much before a bookmark, if there is one."""
    if not bookmark.value:
        return BEGINNING
    return times.before(bookmark.value, days=days, minutes=minutes)


def _whole(value: str) -> str:
    """Give the whole second of a time."""
    return value and value[: len("2024-01-31T00:00:00")] + ".000000Z"



def _whole(value: str) -> str:
    """Give the whole second of a time."""
    return value and value[: len("2024-01-31T00:00:00")] + ".000000Z"


