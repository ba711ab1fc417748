"""Pages in parallel: what each thread may do, and why this is safe.

The rate limit is per page, so pages are read in parallel. Each page has its *lane*: a thread that
reads the streams of the page one after the other, as the SDK would. But the SDK is not thread-safe.
So there is one global lock, the *baton*:

- Only the thread that holds the baton runs SDK code, changes bookmarks or counts, or writes output.
  A lane releases the baton in one place, `Lanes.waiting`, while it waits for an answer. So lanes
  take turns when they would otherwise be idle, and all other code works as in a single thread.
- A helper thread requests an answer *ahead* of the lane that needs it, without the baton (`Ahead`).
  It runs a generator that sends requests and decides on the next one. The generator may only use
  objects of its own (a pager) and thread-safe objects: limits, tokens, transport, log.
- The memory of all lanes together is limited in bytes. Answers that wait to be written, or are
  requested, count. Memory is reserved before the request. If there is none, only a few lanes at a
  time request what they need next. Such a lane waits for this one answer, and then makes room for
  another lane.
- A page has no more helper threads than it can have parallel requests. So a page that is slowed
  down takes no threads from other pages.
- Answers are used in the order of their requests, and a lane moves its bookmarks only past rows
  that it has written. So answers that were requested ahead can be dropped at any time. This happens
  when a stream fails or the run ends: no thread has to be stopped.
- Signals arrive in the main thread, which reads nothing and so can end at once. It takes the baton,
  keeps it (`Lanes.seize`), and writes the last STATE. All other threads are daemons: they wait, and
  end with the process.
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
"""Maximum bytes of answers that wait to be written or are requested, for all lanes together."""
URGENT = 16
"""Maximum number of answers beyond `MOST_WAITING` that lanes need next."""
USUAL = 2**20
"""Assumed bytes of an answer of a stream before the first one arrives."""
AHEAD = 12
"""Maximum number of parallel requests of a page."""
IDLE = 10.0
"""Seconds after which a thread without a job ends."""
# Number of answers in the moving average of the size.
_AVERAGE_OF = 64
# Seconds between two checks by a thread that waits for memory: `Backlog.forget` does not wake it.
_CHECK = 1.0


class Threads:
    """Daemon threads that are reused for the next job; a job never waits for another one."""

    def __init__(self) -> None:
        """Start without threads."""
        self._lock = threading.Lock()
        self._idle = 0
        self._jobs: SimpleQueue[Job] = SimpleQueue()

    def run(self, job: Job) -> None:
        """Start a job, which must not raise."""
        with self._lock:
            has_idle = self._idle > 0
            self._idle -= has_idle
        self._jobs.put(job)
        if not has_idle:
            # The job is not an argument, because a thread keeps its arguments as long as it lives.
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if self._idle:  # otherwise each waiting thread gets a job soon
                        self._idle -= 1
                        return
                continue
            job()
            del job  # free its memory: the next job may come much later
            with self._lock:
                self._idle += 1


class Helpers:
    """A limited number of threads that request ahead for a page; other jobs wait in a queue."""

    def __init__(self, threads: Threads, most: Callable[[], int]) -> None:
        """Start without threads.

        Args:
            threads: runs the jobs.
            most: returns the current maximum number of threads.
        """
        self._threads = threads
        self._most = most
        self._lock = threading.Lock()
        self._busy = 0
        self._jobs: deque[Job] = deque()

    def run(self, job: Job) -> None:
        """Start a job, which must not raise, or put it into the queue."""
        with self._lock:
            if self._busy >= self._most():
                self._jobs.append(job)
                return
            self._busy += 1
        self._threads.run(partial(self._work, job))

    def _work(self, job: Job) -> None:
        """Run a job, and then jobs from the queue."""
        while True:
            job()
            with self._lock:
                if not self._jobs or self._busy > self._most():
                    self._busy -= 1
                    return
                job = self._jobs.popleft()


class Room(NamedTuple):
    """Memory that is reserved for an answer, in bytes."""

    size: int
    is_urgent: bool = False
    """Whether it is beyond the shared limit."""


class Backlog:
    """The memory of answers that wait to be written or are requested, for all lanes together."""

    def __init__(
        self, most: int = MOST_WAITING, usual: int = USUAL, most_urgent: int = URGENT
    ) -> None:
        """Start empty.

        Args:
            most: maximum bytes, without urgent answers.
            usual: assumed bytes of an answer before the first one arrives.
            most_urgent: maximum number of urgent answers.
        """
        self._most = most
        self._most_urgent = most_urgent
        self._usual: defaultdict[str, tuple[float, int]] = defaultdict(lambda: (usual, 1))
        """By stream, the average bytes of an answer, and the number of answers in the average."""
        self._changed = threading.Condition(threading.Lock())
        self._bytes = 0
        self._urgent = 0
        self._forgotten: SimpleQueue[Room] = SimpleQueue()

    def see(self, stream: str, size: int) -> None:
        """Update the average size of the answers of a stream."""
        with self._changed:
            usual, number = self._usual[stream]
            number = min(number + 1, _AVERAGE_OF)
            self._usual[stream] = (usual + (size - usual) / number, number)

    def reserve(self, stream: str | None) -> Room | None:
        """Reserve memory for an answer before its request; return None if there is not enough.

        Args:
            stream: the stream of the answer; None reserves nothing.
        """
        if stream is None:
            return Room(0)
        with self._changed:
            return self._take(stream)

    def reserve_urgent(self, stream: str) -> Room:
        """Reserve memory for an answer that a lane waits for; wait until there is some."""
        with self._changed:
            while (room := self._take(stream)) is None and self._urgent >= self._most_urgent:
                self._changed.wait(_CHECK)
            return room or self._add(Room(self._size_of(stream), is_urgent=True))

    def fill(self, room: Room, size: int) -> Room:
        """Change a reservation to the real size of the answer."""
        self.release(Room(room.size - size))
        return room._replace(size=size)

    def release(self, room: Room) -> None:
        """Free a reservation, and wake a waiting thread."""
        with self._changed:
            self._subtract(room)
            self._changed.notify()

    def forget(self, room: Room) -> None:
        """Free a reservation later, without the lock, which the caller may hold already."""
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
    """An iterator whose items are made ahead in another thread, up to a limit.

    While the limit is reached, no thread waits: a thread starts when an item is consumed. So it is
    enough to delete the iterator to drop the rest.
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
        """Start to read.

        Args:
            source: makes the items, without the baton. Its exceptions are raised to the consumer.
            room: returns the current maximum number of ready items.
            size: returns the bytes of an item.
            lanes: runs other lanes while the consumer waits for an item.
            helpers: the threads.
            stream: the stream of the answers; None if waiting items take almost no memory.
        """
        self._source = source
        self._room = room
        self._size = size
        self._lanes = lanes
        self._helpers = helpers
        self._stream = stream
        self._lock = threading.Lock()
        self._reserved: deque[Room] = deque()
        """Reservations of the items that are ready."""
        self._reading = False
        self._awaited = False
        self._ended = False
        self._ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._begin()

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> T:
        """Return the next item, and wait for it; after an error, the iterator is exhausted."""
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
            self._lanes.backlog.release(self._reserved.popleft())
        self._begin()
        return item

    def __del__(self) -> None:
        """Free the reservations of the items that were not consumed."""
        for room in self._reserved:
            self._lanes.backlog.forget(room)

    @property
    def _is_needed(self) -> bool:
        return self._awaited and not self._reserved

    def _begin(self) -> None:
        """Start a thread to read on, if there is room and none is reading."""
        with self._lock:
            if self._reading or not (self._is_needed or len(self._reserved) < self._room()):
                return
            self._reading = True
        self._helpers.run(self._read)

    def _reserve(self) -> Room | None:
        """Reserve memory for an item; return None if there is not enough, and stop reading."""
        with self._lock:  # there may be no room any more after the wait for a helper
            backlog, room = self._lanes.backlog, None
            if (is_needed := self._is_needed) or len(self._reserved) < self._room():
                room = backlog.reserve(self._stream)
            self._reading = is_needed or room is not None
        if is_needed and room is None and self._stream is not None:
            room = backlog.reserve_urgent(self._stream)
        return room

    def _read(self) -> None:
        """Make items while there is room; after the last one, `_reading` stays set."""
        backlog = self._lanes.backlog
        while (room := self._reserve()) is not None:
            try:
                item = next(self._source)
            except StopIteration:  # not passed on: its traceback would keep the last item
                backlog.release(room)
                self._ready.put((None, None))
                return
            except BaseException as error:  # noqa: BLE001 - raised to the consumer
                backlog.release(room)
                self._ready.put((None, error))
                return
            filled = backlog.fill(room, self._size(item))
            with self._lock:  # so that the consumer of the item finds its reservation
                self._reserved.append(filled)
                self._ready.put((item, None))
            del item  # otherwise it would stay in memory until the next one


class Early(Generic[T]):
    """A value that a helper thread may make early; otherwise the consumer makes it itself.

    So the consumer never waits for a job that has no thread yet.
    """

    def __init__(self, make: Callable[[], T], helpers: Helpers, done: Callable[[], object]) -> None:
        """Queue the job for a helper thread.

        Args:
            make: makes the value, without the baton. Its exceptions are raised to the consumer.
            helpers: the threads.
            done: called when the value is no longer kept.
        """
        self._make = make
        self._done = done
        self._begun = threading.Lock()
        self._made = threading.Event()
        self._outcome: tuple[T, None] | tuple[None, BaseException]
        helpers.run(self._run)

    def result(self) -> T:
        """Return the value, and wait for it; must be called without the baton."""
        self._run()
        self._made.wait()
        self._done()
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # without an error there is one

    def forget(self) -> None:
        """Cancel the job if it has not started."""
        self._begun.acquire(blocking=False)
        self._done()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._outcome = (self._make(), None)
        except BaseException as error:  # noqa: BLE001 - raised to the consumer
            self._outcome = (None, error)
        self._made.set()


class Lanes:
    """The lanes of a run, and the baton, which one of them or the main thread holds."""

    def __init__(
        self,
        most: int,
        on_turn: Callable[[], object],
        calls: Callable[[str | None], int] = lambda _: 1,
    ) -> None:
        """Take the baton for the calling thread.

        Args:
            most: maximum number of lanes at a time.
            on_turn: called when a lane takes the baton again after waiting. At this moment, output
                and bookmarks are consistent.
            calls: returns the current maximum number of parallel requests of a page.
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
        """Whether the run ends, and no other thread may take the baton."""
        self._take()

    def start(self, job: Job) -> None:
        """Run a job in a lane, with the baton; wait for a free lane first.

        Raises:
            BaseException: the exception of a job in any lane.
        """
        while self._running >= self._most:
            self._await_one()
        self._running += 1
        self.threads.run(lambda: self._do(job, self._ended.put))

    def finish(self) -> None:
        """Wait until all lanes have ended.

        Raises:
            BaseException: the exception of a job in any lane.
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
        """Return an iterator over a source that is read ahead for a page; see `Ahead`."""
        return Ahead(source, room, size, self, self._helpers_of(page), stream=stream)

    def early(self, make: Callable[[], T], *, page: str | None, stream: str) -> Early[T] | None:
        """Request an answer early for a page; None without enough memory. See `Early`."""
        reserved = self.backlog.reserve(stream)
        if reserved is None:
            return None
        return Early(make, self._helpers_of(page), partial(self.backlog.forget, reserved))

    def forget(self, page: str) -> None:
        """Remove the helpers of a page that is done."""
        self._helpers.pop(page, None)

    def _helpers_of(self, page: str | None) -> Helpers:
        helpers = self._helpers.get(page)
        if helpers is None:
            made = Helpers(self.threads, partial(self._calls, page))
            helpers = self._helpers.setdefault(page, made)
        return helpers

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Release the baton during the block, if this thread holds it."""
        if self._holder != threading.get_ident():
            yield
            return
        self._release()
        try:
            yield
        finally:
            self._take()
        self._on_turn()

    def hand_over(self, job: Job, on_end: Callable[[BaseException | None], object]) -> None:
        """Run a job in another thread, and give it the baton.

        Args:
            job: the job.
            on_end: called when the job has ended, with its exception or None.
        """
        self._release()
        self.threads.run(lambda: self._do(job, on_end))

    def seize(self) -> None:
        """Take the baton as soon as it is free, and keep it: no other thread ever gets it."""
        self.over = True
        if self._holder != threading.get_ident():
            self._baton.acquire()

    def _do(self, job: Job, on_end: Callable[[BaseException | None], object]) -> None:
        """Run a job with the baton, and report its exception or None."""
        self._take()
        outcome: BaseException | None = None
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again by `_await_one`
            outcome = error
        self._release()
        on_end(outcome)

    def _await_one(self) -> None:
        with self.waiting():
            outcome = self._ended.get()
        self._running -= 1
        if outcome is not None:
            raise outcome

    def _take(self) -> None:
        self._baton.acquire()
        while self.over:
            # The end of the run needs the baton: this thread waits forever.
            self._baton.release()
            threading.Event().wait()
        self._holder = threading.get_ident()

    def _release(self) -> None:
        self._holder = None
        self._baton.release()
