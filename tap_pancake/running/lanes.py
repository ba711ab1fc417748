"""Pages side by side: which thread may do what, and why that is safe.

The limit of calls holds for each page, so pages are read side by side, each in a *lane*: a thread
that reads the page's streams one after the other, just as the SDK would. But the SDK is not made
for threads. So there is one *baton*:

- Only who holds the baton runs SDK code, changes bookmarks or counts, or writes a line. A lane puts
  it down in one place, `Lanes.waiting`, while it waits for an answer. So lanes take turns where
  they would have been idle, and everything in between is as if there were no threads.
- An answer is asked for *ahead* of who needs it by a helper thread, without the baton (`Ahead`).
  What runs there, a generator that asks and decides what to ask next, may use only what is its own
  (a pager) and what is made for threads: limits, tokens, transport, log.
- What waits to be written or is on its way is counted in bytes, of all lanes together: room for an
  answer is taken before it is asked for. Without room, a few lanes at a time ask for what they need
  next. Each of them waits for just that, and so gives its place to another one.
- A page has no more helper threads than calls of it can be under way, so that one that is slowed
  takes none from another.
- Answers are taken in the order in which they were asked for, and a lane marks in its bookmarks
  only what it has written. So what was asked ahead can be dropped at any moment, and is, when a
  stream fails or the run ends: nothing needs to be told to stop.
- Signals come to the main thread, which reads nothing and so can end at once: it takes the baton,
  keeps it (`Lanes.seize`), and writes the last STATE. All other threads are daemons; they end
  with the process, where they wait.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Job = Callable[[], object]

T = TypeVar("T")

MOST_WAITING = 64 * 2**20
"""Bytes that wait to be written or are on their way, of all lanes together."""
URGENT = 16
"""How many answers may be asked for beside them, that lanes need next."""
USUAL = 2**20
"""Bytes that an answer of a stream may have, before any came."""
AHEAD = 12
"""How many calls of a page are under way at most."""
IDLE = 10.0
"""Seconds after which a thread without a job ends."""
# The usual size of an answer is the average of about so many.
_MEMORY = 64
# Seconds after which who waits for room looks whether some was forgotten, of which nobody tells.
_LOOK = 1.0


class Threads:
    """Daemon threads that are kept for the next job; a job never waits for another one to end."""

    def __init__(self) -> None:
        """Start none yet."""
        self._lock = threading.Lock()
        self._idle = 0
        self._jobs: SimpleQueue[Job] = SimpleQueue()

    def run(self, job: Job) -> None:
        """Begin a job, which must not raise."""
        with self._lock:
            is_spare = self._idle > 0
            self._idle -= is_spare
        self._jobs.put(job)
        if not is_spare:
            # Without the job as an argument, which a thread keeps as long as it lives.
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if self._idle:  # else a job is on its way to each that waits
                        self._idle -= 1
                        return
                continue
            job()
            del job  # and what it holds: the next one may be long in coming
            with self._lock:
                self._idle += 1


class Helpers:
    """Threads that ask ahead for a page, so many at most; other jobs wait, in their order."""

    def __init__(self, threads: Threads, most: Callable[[], int]) -> None:
        """Start none yet.

        Args:
            threads: does the jobs.
            most: how many there may be at present.
        """
        self._threads = threads
        self._most = most
        self._lock = threading.Lock()
        self._busy = 0
        self._jobs: deque[Job] = deque()

    def run(self, job: Job) -> None:
        """Begin a job, which must not raise, or let it wait."""
        with self._lock:
            if self._busy >= self._most():
                self._jobs.append(job)
                return
            self._busy += 1
        self._threads.run(partial(self._work, job))

    def _work(self, job: Job) -> None:
        """Do a job, and those that wait for one to end."""
        while True:
            job()
            with self._lock:
                if not self._jobs or self._busy > self._most():
                    self._busy -= 1
                    return
                job = self._jobs.popleft()


class Room(NamedTuple):
    """Bytes of memory that were taken for an answer."""

    size: int
    is_urgent: bool = False
    """Whether they are beside those that there are for all."""


class Backlog:
    """The bytes that wait to be written, or are on their way, of all lanes together."""

    def __init__(
        self, most: int = MOST_WAITING, usual: int = USUAL, most_urgent: int = URGENT
    ) -> None:
        """Begin with none.

        Args:
            most: how many there may be, beside what is urgent.
            usual: how many an answer may have, before any came.
            most_urgent: how many answers may be urgent.
        """
        self._most = most
        self._most_urgent = most_urgent
        self._usual: defaultdict[str, tuple[float, int]] = defaultdict(lambda: (usual, 1))
        """By stream, the bytes of an answer, and of how many that is the average."""
        self._changed = threading.Condition(threading.Lock())
        self._bytes = 0
        self._urgent = 0
        self._forgotten: SimpleQueue[Room] = SimpleQueue()

    def see(self, stream: str, size: int) -> None:
        """Learn from an answer how many bytes those of a stream have."""
        with self._changed:
            usual, number = self._usual[stream]
            number = min(number + 1, _MEMORY)
            self._usual[stream] = (usual + (size - usual) / number, number)

    def reserve(self, stream: str | None) -> Room | None:
        """Take the room for an answer, before it is asked for; None if there is none.

        Args:
            stream: whose answer it is; None takes no room.
        """
        if stream is None:
            return Room(0)
        with self._changed:
            return self._take(stream)

    def insist(self, stream: str) -> Room:
        """Take the room for an answer that a lane waits for, as soon as there is some."""
        with self._changed:
            while (room := self._take(stream)) is None and self._urgent >= self._most_urgent:
                self._changed.wait(_LOOK)
            return room or self._add(Room(self._size_of(stream), is_urgent=True))

    def fill(self, room: Room, size: int) -> Room:
        """Keep so many bytes of what was taken for an answer, now that it is there."""
        self.release(Room(room.size - size))
        return room._replace(size=size)

    def release(self, room: Room) -> None:
        """Return back what was taken."""
        with self._changed:
            self._subtract(room)
            self._changed.notify()

    def forget(self, room: Room) -> None:
        """Return back what was taken, without the lock: who holds it may be who forgets."""
        self._forgotten.put(room)

    def _size_of(self, stream: str) -> int:
        return int(self._usual[stream][0])

    def _take(self, stream: str) -> Room | None:
        while not self._forgotten.empty():
            self._subtract(self._forgotten.get())
        size = self._size_of(stream)
        return self._add(Room(size)) if self._bytes + size <= self._most else None

    def _add(self, room: Room) -> Room:
        self._bytes += room.size
        self._urgent += room.is_urgent
        return room

    def _subtract(self, room: Room) -> None:
        self._bytes -= room.size
        self._urgent -= room.is_urgent


class Ahead(Generic[T]):
    """An iterator whose items are made in another thread, at most so many before they are taken.

    No thread waits while there is no room: the next one begins when an item is taken. So to drop
    the rest, forget the iterator.
    """

    def __init__(
        self,
        source: Iterator[T],
        room: Callable[[], int],
        size: Callable[[T], int],
        lanes: Lanes,
        helpers: Helpers,
        *,
        stream: str | None,
    ) -> None:
        """Begin to read.

        Args:
            source: makes the items, without the baton. What it raises is raised to who takes.
            room: how many items may be ready at present.
            size: the bytes of an item.
            lanes: lets others run while one waits for an item.
            helpers: give the threads.
            stream: whose answers are asked for; None if what waits takes no memory to speak of.
        """
        self._source = source
        self._room = room
        self._size = size
        self._lanes = lanes
        self._helpers = helpers
        self._stream = stream
        self._lock = threading.Lock()
        self._taken: deque[Room] = deque()
        """By the items that are ready."""
        self._reading = False
        self._awaited = False
        self._ended = False
        self._ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._begin()

    def __iter__(self) -> Self:
        """Iterate over the rest."""
        return self

    def __next__(self) -> T:
        """Take the next item, when it is there; after an error, as after the last one, none is."""
        if self._ended:
            raise StopIteration
        if self._ready.empty() or self._lanes.over:
            self._awaited = True
            self._begin()
            with self._lanes.waiting():
                item, error = self._ready.get()
            self._awaited = False
        else:
            item, error = self._ready.get()
        if item is None:
            self._ended = True
            raise error or StopIteration
        with self._lock:
            self._lanes.backlog.release(self._taken.popleft())
        self._begin()
        return item

    def __del__(self) -> None:
        """Forget what was not taken."""
        for room in self._taken:
            self._lanes.backlog.forget(room)

    @property
    def _is_needed(self) -> bool:
        return self._awaited and not self._taken

    def _begin(self) -> None:
        """Begin to read on, if there is room and nobody does."""
        with self._lock:
            if self._reading or not (self._is_needed or len(self._taken) < self._room()):
                return
            self._reading = True
        self._helpers.run(self._read)

    def _reserve(self) -> Room | None:
        """Take the room for an item; None if there is none, and then nobody reads."""
        with self._lock:  # it may have waited for a helper until there was no room any more
            backlog, room = self._lanes.backlog, None
            if (is_needed := self._is_needed) or len(self._taken) < self._room():
                room = backlog.reserve(self._stream)
            self._reading = is_needed or room is not None
        if is_needed and room is None and self._stream is not None:
            room = backlog.insist(self._stream)
        return room

    def _read(self) -> None:
        """Make items while there is room; at the end `_reading` stays set, so that none begins."""
        backlog = self._lanes.backlog
        while (room := self._reserve()) is not None:
            try:
                item = next(self._source)
            except StopIteration:  # not kept: what it was raised through would keep the last item
                backlog.release(room)
                self._ready.put((None, None))
                return
            except BaseException as error:  # noqa: BLE001 - goes to who takes
                backlog.release(room)
                self._ready.put((None, error))
                return
            taken = backlog.fill(room, self._size(item))
            with self._lock:  # who takes it finds its size
                self._taken.append(taken)
                self._ready.put((item, None))
            del item  # else it would stay until the next one is there


class Early(Generic[T]):
    """What a helper may make early; who needs it makes it, if none has begun.

    So nobody waits for a job that waits for a thread.
    """

    def __init__(self, make: Callable[[], T], helpers: Helpers, done: Callable[[], object]) -> None:
        """Let a helper begin when there is one.

        Args:
            make: makes it, without the baton. What it raises is raised to who needs it.
            helpers: give the thread.
            done: is called when nothing waits here any more.
        """
        self._make = make
        self._done = done
        self._begun = threading.Lock()
        self._made = threading.Event()
        self._outcome: tuple[T, None] | tuple[None, BaseException]
        helpers.run(self._run)

    def result(self) -> T:
        """Return it, when it is there; not with the baton."""
        self._run()
        self._made.wait()
        self._done()
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # without an error there is one

    def forget(self) -> None:
        """Let nobody begin with it any more."""
        self._begun.acquire(blocking=False)
        self._done()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._outcome = (self._make(), None)
        except BaseException as error:  # noqa: BLE001 - goes to who needs it
            self._outcome = (None, error)
        self._made.set()


class Lanes:
    """The lanes of a run, and the baton that one of them, or who made them, holds."""

    def __init__(
        self,
        most: int,
        on_turn: Callable[[], object],
        calls: Callable[[str | None], int] = lambda _: 1,
    ) -> None:
        """Take the baton.

        Args:
            most: how many lanes there are at a time.
            on_turn: is called when a lane takes the baton up again after waiting: a moment when
                everything that was written is in order.
            calls: how many calls of a page can be under way at present.
        """
        self.threads = Threads()
        self.backlog = Backlog()
        self._calls = calls
        self._helpers: dict[str | None, Helpers] = {}
        self._most = most
        self._on_turn = on_turn
        self._running = 0
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._baton = threading.Lock()
        self._holder: int | None = None
        self.over = False
        """Whether the baton is wanted for the end of the run."""
        self._take()

    def start(self, job: Job) -> None:
        """Do a job in a lane, with the baton; wait for a free lane first.

        Raises:
            BaseException: what the job of some lane raised.
        """
        while self._running >= self._most:
            self._await_one()
        self._running += 1
        self.threads.run(lambda: self._do(job, self._ended.put))

    def finish(self) -> None:
        """Wait until all lanes have ended.

        Raises:
            BaseException: what the job of one raised.
        """
        while self._running:
            self._await_one()

    def ahead(
        self,
        source: Iterator[T],
        room: Callable[[], int] = lambda: 1,
        size: Callable[[T], int] = lambda _: 0,
        *,
        page: str | None = None,
        stream: str | None = None,
    ) -> Iterator[T]:
        """Return the items of a source, which is read ahead for a page; see `Ahead`."""
        return Ahead(source, room, size, self, self._helpers_of(page), stream=stream)

    def early(self, make: Callable[[], T], *, page: str | None, stream: str) -> Early[T] | None:
        """Let an answer be asked for early for a page, if there is room; see `Early`."""
        reserved = self.backlog.reserve(stream)
        if reserved is None:
            return None
        return Early(make, self._helpers_of(page), partial(self.backlog.forget, reserved))

    def forget(self, page: str) -> None:
        """Forget the helpers of a page that was read."""
        self._helpers.pop(page, None)

    def _helpers_of(self, page: str | None) -> Helpers:
        helpers = self._helpers.get(page)
        if helpers is None:
            made = Helpers(self.threads, partial(self._calls, page))
            helpers = self._helpers.setdefault(page, made)
        return helpers

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Put the baton down for a while, if this thread holds it."""
        if self._holder != threading.get_ident():
            yield
            return
        self._put_down()
        try:
            yield
        finally:
            self._take()
        self._on_turn()

    def hand_over(self, job: Job, tell: Callable[[BaseException | None], object]) -> None:
        """Do a job in another thread, and let it have the baton.

        Args:
            job: what to do.
            tell: is called when it has ended, with what it raised.
        """
        self._put_down()
        self.threads.run(lambda: self._do(job, tell))

    def seize(self) -> None:
        """Take the baton as soon as it is put down, and for good: nobody else ever gets it."""
        self.over = True
        if self._holder != threading.get_ident():
            self._baton.acquire()

    def _do(self, job: Job, tell: Callable[[BaseException | None], object]) -> None:
        """Do a job with the baton; tell how it ended."""
        self._take()
        outcome: BaseException | None = None
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised by who waits for the lane
            outcome = error
        self._put_down()
        tell(outcome)

    def _await_one(self) -> None:
        with self.waiting():
            outcome = self._ended.get()
        self._running -= 1
        if outcome is not None:
            raise outcome

    def _take(self) -> None:
        self._baton.acquire()
        while self.over:
            # It is needed for the end of the run: give way, for ever.
            self._baton.release()
            threading.Event().wait()
        self._holder = threading.get_ident()

    def _put_down(self) -> None:
        self._holder = None
        self._baton.release()
