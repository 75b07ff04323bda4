"""Reads the kernel's requests with as few turns of the scheduler as they need.

Most requests are answered without waiting for anything, one after the other, by one worker.  In
pyfuse3 each costs two task switches and a turn of trio's event loop, which is more than the answer
itself takes.  Here the worker goes on reading as long as there are requests, and hands the reading
over only when it is about to wait.  pyfuse3 finds what it waits with in its attribute `trio`, which
is how pyfuse3.asyncio replaces it, too.
"""

import contextlib
import errno
import os
import select
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, TypeVar

import pyfuse3
import trio

T = TypeVar("T")

IN_A_ROW: Final = 64  # requests; after so many, signals and finished threads get their turn
PATIENCE: Final = 1  # milliseconds to wait for the next request before others get their turn
LOOK_UP: Final = 5.0  # seconds until a worker that stands by looks whether anybody reads
MAX_THREADS: Final = 32
THREADS_EACH: Final = 4  # for one uid
MAX_WAITING: Final = 64  # requests of one uid; who has more in hand is told to try again


class Reading:
    """Who reads, for the workers of one mount.  Also trio to pyfuse3: see install()."""

    def __init__(self) -> None:
        self._held = False
        self._standing_by = trio.lowlevel.ParkingLot()
        self._row = 0
        self._working = 0  # threads
        self._poll: select.poll | None = None
        self._limiter = trio.CapacityLimiter(MAX_THREADS)
        self._waiters: dict[int, _Waiter] = {}

    # --- what pyfuse3 asks of trio -----------------------------------------------------------

    open_nursery = staticmethod(trio.open_nursery)
    ClosedResourceError = trio.ClosedResourceError
    from_thread = trio.from_thread
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)
    current_task = staticmethod(trio.lowlevel.current_task)

    @property
    def lowlevel(self) -> "Reading":
        return self

    def Lock(self) -> "Reading":
        return self

    async def __aenter__(self) -> None:
        while self._held:
            # Others hand over in time, but for an unmount just before a read, which ends a worker.
            with trio.move_on_after(LOOK_UP):
                await self._standing_by.park()
        self._held = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held = False
        if kind is not None:
            self._standing_by.unpark_all()

    async def wait_readable(self, fd: int) -> None:
        """Until there is a request, or no mount any more.  Raises trio.ClosedResourceError."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        events = []
        if self._row < IN_A_ROW and not self._working:
            self._row += 1
            events = self._poll.poll(PATIENCE)
        if not events:
            self._row = 0
            await trio.lowlevel.wait_readable(fd)
            events = self._poll.poll(0)
        if any(event & ~select.POLLIN for _, event in events):
            self._standing_by.unpark_all()  # unmounted: all of them end

    def notify_closing(self, fd: int) -> None:
        self._standing_by.unpark_all()
        trio.lowlevel.notify_closing(fd)

    # --- what the handlers ask --------------------------------------------------------------

    async def run_long(self, work: Callable[[], T], asker: int) -> T:
        """In a thread, to the end even if the mount is ending.  Somebody else reads meanwhile.

        asker: a uid, which has THREADS_EACH threads at most.  Raises OSError(EAGAIN) if too many
        of its requests wait already.
        """
        with self._waiting(asker) as waiter:
            async with waiter.threads:
                return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def wait_for(self, future: "Future[None]", asker: int) -> None:
        """Until it is done, by whatever thread.  Raises OSError(EAGAIN) as run_long() does."""
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def tell(_: "Future[None]") -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        with self._waiting(asker):
            future.add_done_callback(tell)
            await done.wait()

    @contextlib.contextmanager
    def _waiting(self, asker: int) -> Iterator["_Waiter"]:
        waiter = self._waiters.setdefault(asker, _Waiter())
        if asker and waiter.requests >= MAX_WAITING:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        waiter.requests += 1
        self._working += 1
        if not self._held:
            self._standing_by.unpark()
        try:
            yield waiter
        finally:
            self._working -= 1
            waiter.requests -= 1
            if not waiter.requests:
                del self._waiters[asker]


class _Waiter:
    """One uid's requests that wait for threads."""

    __slots__ = ("requests", "threads")

    def __init__(self) -> None:
        self.requests = 0
        self.threads = trio.CapacityLimiter(THREADS_EACH)


def install(reading: Reading) -> None:
    """Before pyfuse3.main()."""
    module: Any = pyfuse3
    module.trio = reading
