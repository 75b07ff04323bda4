"""How handlers wait while others are answered, and for how many of one uid that is done.

A handler that awaits is a coroutine, and a Pause is the only thing it can wait for.  Whoever
drives it (`session`) tells Patience, which has the work done in a thread, and goes on with the
handler afterwards.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

MAX_THREADS: Final = 32
THREADS_EACH: Final = 4  # for one uid
MAX_WAITING: Final = 64  # requests of one uid; who has more in hand is told to try again

Resume = Callable[[object, Exception | None], None]  # what came of it: a value, or a failure


class Pause(Generic[T]):
    """work: done in a thread, or future: done by others.  asker: the uid that has to wait.

    on_interrupt: called when a signal came for whoever waits.
    """

    __slots__ = ("asker", "future", "on_interrupt", "work")

    def __init__(
        self,
        asker: int,
        *,
        work: Callable[[], T] | None = None,
        future: Future[T] | None = None,
        on_interrupt: Callable[[], object] | None = None,
    ) -> None:
        self.asker = asker
        self.work = work
        self.future = future
        self.on_interrupt = on_interrupt

    def __await__(self) -> Generator["Pause[T]", Any, T]:
        result: T = yield self
        return result


class Pausing:
    """tree.Waiting for handlers that a session drives."""

    def run_long(self, work: Callable[[], T], asker: int) -> Pause[T]:
        return Pause(asker, work=work)

    def wait_for(
        self,
        future: Future[None],
        asker: int,
        *,
        on_interrupt: Callable[[], object] | None = None,
    ) -> Pause[None]:
        return Pause(asker, future=future, on_interrupt=on_interrupt)


class Patience:
    """Who waits for what.  begin() and done() are for one thread at a time: under the turn."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MAX_THREADS, "long")
        self._resuming = ThreadPoolExecutor(2, "resume")
        self._waiting: dict[int, int] = {}  # requests, by uid
        self._at_work: dict[int, int] = {}  # threads, by uid
        self._queues: dict[int, deque[Callable[[], None]]] = {}
        self._stopped = False

    def begin(self, pause: Pause[Any], resume: Resume) -> None:
        """resume() is called later, in some thread.  Raises OSError(EAGAIN) if too many of the
        asker's requests wait already."""
        if self._stopped:
            raise OSError(errno.EIO, "the mount is ending")
        asker, work, future = pause.asker, pause.work, pause.future
        waiting = self._waiting.get(asker, 0)
        if asker and waiting >= MAX_WAITING:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._waiting[asker] = waiting + 1
        if future is not None:
            future.add_done_callback(lambda _: self._submit_resume(resume))
            return
        assert work is not None

        def run() -> None:
            try:
                result, failure = work(), None
            except Exception as error:
                result, failure = None, error
            resume(result, failure)

        if self._at_work.get(asker, 0) < THREADS_EACH:
            self._start(asker, run)
        else:
            self._queues.setdefault(asker, deque()).append(run)

    def _submit_resume(self, resume: Resume) -> None:
        try:
            self._resuming.submit(resume, None, None)
        except RuntimeError:
            return  # the mount has ended; nobody waits any more

    def _start(self, asker: int, run: Callable[[], None]) -> None:
        self._at_work[asker] = self._at_work.get(asker, 0) + 1
        self._pool.submit(run)

    def done(self, pause: Pause[Any]) -> None:
        """Before the handler goes on."""
        asker = pause.asker
        _decrease(self._waiting, asker)
        if pause.work is None:
            return
        _decrease(self._at_work, asker)
        queue = self._queues.get(asker)
        if queue:
            self._start(asker, queue.popleft())
        elif queue is not None:
            del self._queues[asker]

    def stop(self) -> None:
        """What has not begun never will."""
        self._stopped = True
        self._queues.clear()

    def close(self) -> None:
        """Waits for what has begun."""
        self._pool.shutdown(wait=True)
        self._resuming.shutdown(wait=True)


def _decrease(counts: dict[int, int], key: int) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
