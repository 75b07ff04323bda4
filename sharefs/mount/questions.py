"""Questions that may take long to answer: asked in threads, their answers remembered.

The thread that handles requests must never wait for a user database: LDAP may be down, and then
everybody's mail would stand still.  It gets what is remembered, or NotYet; the handler then waits,
as others go on, and begins anew.  Each asker, which is a uid, has one question at work at a time,
so nobody's questions can be many enough to keep other people's waiting.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, cast

from sharefs.errors import Code, SharingError

T = TypeVar("T")
R = TypeVar("R")

NOBODY: Final = -1  # asks anew for what is known already, when nobody has to wait for it
THREADS: Final = 8
AT_ONCE: Final = {NOBODY: 2, 0: 2}  # questions of one asker at work; of all others one
MAX_LOST: Final = 64  # threads that wait for what does not answer, and have been replaced
TRIES: Final = 3  # of one question, when threads are given up at it
MAX_KEPT: Final = 20_000  # answers
WITHOUT_DATABASE: Final = 600.0  # seconds that an answer is good for while the database fails

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Age:
    """Seconds.  fresh: until it is asked anew.  kept: until nobody is told the old answer."""

    fresh: float
    kept: float


class NotYet(Exception):
    """There is no answer so far.  ask(asker): a future that is done when there is one."""

    def __init__(self, key: Key, ask: Callable[[int], "Future[None]"]) -> None:
        super().__init__(key)
        self.ask = ask


class _Answer:
    """at: when it was asked; known: when a database last said anything.  unread: somebody waited
    for it, and will be told it however long that took."""

    __slots__ = ("at", "error", "known", "unread", "value")

    def __init__(self, at: float, value: object, error: BaseException | None) -> None:
        self.at = self.known = at
        self.value = value
        self.error = error
        self.unread = False

    def result(self) -> object:
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.value

    def good_at(self, now: float) -> bool:
        """Whether it will do while the database fails."""
        return not self.failed and now - self.known < WITHOUT_DATABASE

    @property
    def failed(self) -> bool:
        """The database could not say."""
        return isinstance(self.error, SharingError) and self.error.code is Code.UNAVAILABLE


@dataclass(slots=True, eq=False)
class _Job(Generic[R]):
    key: Key
    work: Callable[[R], object]
    future: "Future[None]"
    askers: set[int] = field(default_factory=set)
    awaited: bool = False
    begun: bool = False
    given_up: int = 0


class Questions(Generic[R]):
    """See the module.  make: what a thread asks with, made by each thread for itself.

    start() begins the threads, close() ends them as soon as they have nothing to do.  answer() is
    for the thread that handles requests, wait() for others.
    """

    def __init__(
        self, make: Callable[[], R], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._changed = threading.Condition()
        self._answers: OrderedDict[Key, _Answer] = OrderedDict()
        self._pending: dict[Key, _Job[R]] = {}
        self._queues: OrderedDict[int, deque[_Job[R]]] = OrderedDict()
        self._at_work: dict[int, int] = {}
        self._threads: list[threading.Thread] = []
        self._busy: dict[int, tuple[int, _Job[R], float]] = {}  # by thread: who asks, since when
        self._lost: set[int] = set()
        self._closed = False

    def start(self, threads: int = THREADS) -> None:
        """Before anything acts as somebody else: threads inherit who their maker is."""
        for _ in range(threads):
            self._start_one()

    def _start_one(self) -> None:
        name = f"asks {len(self._threads)}"
        thread = threading.Thread(target=self._answer_all, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def at_work(self) -> list[int]:
        """Threads (threading.get_ident()) that are asking."""
        with self._changed:
            return [thread for thread in self._busy if thread not in self._lost]

    def give_up(self, thread: int) -> bool:
        """What a thread asks will not be answered for long.  Another one takes its place and asks
        again, which may go better now; in the end whoever waits is told that nobody can tell.

        False if the thread is not asking, or too many have been replaced already.
        """
        with self._changed:
            if thread not in self._busy or thread in self._lost or len(self._lost) >= MAX_LOST:
                return False
            self._lost.add(thread)
            asker, job, asked = self._busy[thread]
            job.given_up += 1
            again = job.given_up < TRIES and self._pending.get(job.key) is job
            if again:
                self._leaves(asker)
                job.begun = False
                self._queues.setdefault(asker, deque()).appendleft(job)
                self._changed.notify_all()
            else:
                refusal = SharingError(Code.UNAVAILABLE, "a file system does not answer")
                self._finish(asker, job, _Answer(asked, None, refusal))
            self._start_one()
        if not again:
            job.future.set_result(None)
        return True

    def close(self) -> None:
        """A thread that waits for a database is left to it, and ends with the process."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(0.2)

    def answer(self, key: Key, work: Callable[[R], T], age: Age) -> T:
        """What work() said last.  Raises what it raised, and NotYet if that is too long ago."""
        with self._changed:
            known = self._answers.get(key)
            if known is not None:
                passed = self._clock() - known.at
                if known.unread or passed < age.kept:
                    known.unread = False
                    if passed >= age.fresh:
                        self._enqueue(key, work, NOBODY)
                    return cast(T, known.result())
        raise NotYet(key, lambda asker: self.ask(key, work, asker))

    def wait(self, key: Key, work: Callable[[R], T], age: Age, asker: int) -> T:
        """The same for a thread that can wait."""
        while True:
            try:
                return self.answer(key, work, age)
            except NotYet as question:
                question.ask(asker).result()

    def ask(self, key: Key, work: Callable[[R], object], asker: int) -> "Future[None]":
        """A future that is done when there is an answer, whatever that is."""
        with self._changed:
            job = self._enqueue(key, work, asker)
            job.awaited = True
            return job.future

    def keep(self, key: Key, value: object) -> None:
        """An answer that came along with another one."""
        with self._changed:
            self._store(key, _Answer(self._clock(), value, None))

    def forget(self, key: Key) -> None:
        """What is known is wrong now, and what is being asked may turn out so."""
        with self._changed:
            self._answers.pop(key, None)
            self._pending.pop(key, None)

    def _enqueue(self, key: Key, work: Callable[[R], object], asker: int) -> _Job[R]:
        job = self._pending.get(key)
        if job is None:
            job = self._pending[key] = _Job(key, work, Future())
        elif job.begun or asker in job.askers:
            return job
        # Somebody else may have asked the same long ago, behind a thousand other questions.
        job.askers.add(asker)
        self._queues.setdefault(asker, deque()).append(job)
        self._changed.notify()
        return job

    # --- in the threads ------------------------------------------------------------------

    def _answer_all(self) -> None:
        source: R | None = None
        me = threading.get_ident()
        while (next_one := self._next()) is not None:
            asker, job = next_one
            value: object = None
            error: BaseException | None = None
            asked = self._clock()
            with self._changed:
                self._busy[me] = asker, job, asked
            try:
                if source is None:
                    source = self._make()
                value = job.work(source)
            except Exception as refusal:
                error = refusal
            with self._changed:
                del self._busy[me]
                if me in self._lost:
                    self._lost.remove(me)
                    self._threads.remove(threading.current_thread())
                    return
                self._finish(asker, job, _Answer(asked, value, error))
            job.future.set_result(None)

    def _next(self) -> tuple[int, _Job[R]] | None:
        with self._changed:
            while not self._closed:
                for asker, queue in self._queues.items():
                    if self._at_work.get(asker, 0) >= AT_ONCE.get(asker, 1):
                        continue
                    job = queue.popleft()
                    if queue:
                        self._queues.move_to_end(asker)
                    else:
                        del self._queues[asker]
                    if job.begun:
                        break  # answered by way of another queue; look again
                    job.begun = True
                    self._at_work[asker] = self._at_work.get(asker, 0) + 1
                    return asker, job
                else:
                    self._changed.wait()
            return None

    def _finish(self, asker: int, job: _Job[R], answer: _Answer) -> None:
        self._leaves(asker)
        if self._pending.get(job.key) is job:
            del self._pending[job.key]
            answer.unread = job.awaited
            before = self._answers.get(job.key)
            if answer.failed and before is not None and before.good_at(answer.at):
                before.at, before.unread = answer.at, answer.unread
                answer = before
            self._store(job.key, answer)
        self._changed.notify_all()

    def _leaves(self, asker: int) -> None:
        self._at_work[asker] -= 1
        if not self._at_work[asker]:
            del self._at_work[asker]

    def _store(self, key: Key, answer: _Answer) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > MAX_KEPT:
            self._answers.popitem(last=False)
