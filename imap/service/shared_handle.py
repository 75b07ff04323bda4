"""One session's hold on an open mailbox: work on it, in line or in a thread, and news of it.

A trio.Lock serialises the work, for a Mailbox is not thread safe.
"""

import contextlib
import resource
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from imap.commands.host import Handle
from imap.service.opened import OpenMailbox
from imap.service.pace import QUICK, Pace, counted
from imap.service.threads import in_thread
from sharefs.errors import Code, SharingError
from sharefs.index import MailboxIndex, Modseqs
from sharefs.rights import Rights

if TYPE_CHECKING:
    from imap.service.mailboxes import MailboxPool

T = TypeVar("T")

# A change made by another host of a network file system never shows in inotify.
CHECK_SECONDS: Final = 30.0  # Dovecot's mailbox_idle_check_interval
POLL_SECONDS: Final = 0.5  # where inotify cannot look; half of the second that IDLE promises


class SharedHandle(Handle):
    """One session's hold on an OpenMailbox."""

    def __init__(self, pool: "MailboxPool", opened: OpenMailbox) -> None:
        self._pool = pool
        self._opened = opened
        self._seen = opened.hints
        self._released = False
        self.mailbox = opened.mailbox
        self.key = opened.key
        self.at_once: Rights | None = None

    async def run(self, function: Callable[..., T], *args: object) -> T:
        async with self._opened.lock:
            return await self._in_thread(function, *args)

    async def run_short(self, function: Callable[..., T], *args: object) -> T:
        """In line if nobody else works on the mailbox, and such work has been quick lately."""
        if self.works_in_line():
            return self._in_line(function, *args)
        async with self._opened.lock:
            if self._opened.may_work_in_line():  # after those who were there before
                return self._in_line(function, *args)
            return await self._in_thread(_timed, self._opened.pace, function, *args)

    def works_in_line(self) -> bool:
        return not self._opened.lock.locked() and self._opened.may_work_in_line()

    def _in_line(self, function: Callable[..., T], *args: object) -> T:
        with self._noting():
            return _timed(self._opened.pace, function, *args)

    async def run_with(self, other: Handle, function: Callable[..., T], *args: object) -> T:
        assert isinstance(other, SharedHandle)
        both = {opened.order: opened for opened in (self._opened, other._opened)}
        async with contextlib.AsyncExitStack() as stack:
            for order in sorted(both):
                await stack.enter_async_context(both[order].lock)
            return await self._in_thread(function, *args)

    def index(self) -> MailboxIndex | None:
        self._opened.is_asked = True
        return self._opened.index()

    def modseqs(self) -> Modseqs | None:
        return self._opened.modseqs()

    def known_modseq(self) -> int | None:
        return self._opened.known_modseq()

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        with self._noting():
            return await in_thread(function, *args)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """What becomes of work on the mailbox: it is gone, or its index was asked."""
        try:
            yield
        except SharingError as error:
            if error.code is Code.NONEXISTENT:
                self._pool.forget(self._opened)
            raise
        finally:
            self._pool.keeper.want(self._opened)
            if self._opened.is_asked:
                self._opened.is_asked = False
                if not self._opened.is_indexed:
                    self._pool.indexer.want(self._opened)

    def announce(self) -> None:
        self._opened.hint()
        if not self._opened.is_indexed:
            self._pool.indexer.want(self._opened, at_leisure=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[float]:
        """While inside, wait_change() hears of changes by other processes.

        Yields the interval in seconds at which to look besides.
        """
        watcher, opened = self._pool.watcher, self._opened
        watches, complete = watcher.watch(opened.mailbox.watch_paths(), opened.hint)
        try:
            yield CHECK_SECONDS if complete else POLL_SECONDS
        finally:
            watcher.unwatch(watches, opened.hint)

    async def wait_change(self) -> None:
        """Return once something hinted at a change since the last call returned."""
        await self._opened.wait_hint(self._seen)
        self._seen = self._opened.hints

    def release(self) -> None:
        assert not self._released, "a handle is released once"
        self._released = True
        self._pool.leave(self._opened)


def _timed(pace: Pace, function: Callable[..., T], *args: object) -> T:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_THREAD)
    try:
        return function(*args)
    finally:
        ended = time.monotonic()
        seconds = ended - began
        if seconds > QUICK:
            after = resource.getrusage(resource.RUSAGE_THREAD)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds = counted(seconds, used, waited=after.ru_nvcsw != before.ru_nvcsw)
        pace.note(seconds, ended)
