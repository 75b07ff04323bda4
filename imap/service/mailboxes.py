"""Open mailboxes of one worker, shared by its connections and kept a while when idle.

Two connections of one identity to one mailbox use one Mailbox object: one listing, one memory.
A trio.Lock serialises the work on it, for a Mailbox is not thread safe.
"""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import trio

from imap.commands.host import Handle
from imap.service.indexing import Indexer
from imap.service.keeping import Keeper
from imap.service.pace import Pace
from imap.service.recall import Recall
from imap.service.threads import in_thread
from imap.service.watcher import Watcher
from sharefs.errors import Code, SharingError
from sharefs.index import MailboxIndex, Modseqs, Shelf
from sharefs.store.interface import Mailbox

T = TypeVar("T")

KEEP_IDLE: Final = 32  # mailboxes; each holds a few descriptors and about 200 bytes a message
# A change made by another host of a network file system never shows in inotify.
CHECK_SECONDS: Final = 30.0  # Dovecot's mailbox_idle_check_interval
POLL_SECONDS: Final = 0.5  # where inotify cannot look; half of the second that IDLE promises


class OpenMailbox:
    """One Mailbox, its index, its lock, and whoever waits for it to change.

    places: where its index may be kept; None: it shall have none.  name: for messages; others may
    know the mailbox by another one.
    """

    def __init__(
        self,
        pool: "MailboxPool",
        mailbox: Mailbox,
        key: Hashable,
        order: int,
        places: Sequence[Path] | None,
        name: str,
    ) -> None:
        self._pool = pool
        self.mailbox = mailbox
        self._name = name
        self._places = places
        self._index: MailboxIndex | None = None
        self._closed = False
        self.is_asked = False  # since the indexer last heard of it
        self.key = key
        self.order = order  # the order in which two locks are taken, everywhere the same
        self.users = 0
        self.lock = trio.Lock()
        self.pace = Pace()
        self.hints = 0  # grows with every sign of a change
        self._waiting = trio.lowlevel.ParkingLot()

    def hint(self) -> None:
        self.hints += 1
        self._waiting.unpark_all()

    def may_work_in_line(self) -> bool:
        """Whether it has been quick lately, and no file of an index would be opened for it."""
        index_is_open = self._places is None or self._index is not None
        return index_is_open and self.pace.is_quick(time.monotonic())

    @property
    def has_index(self) -> bool:
        return self._places is not None

    def index(self) -> MailboxIndex | None:
        """In a thread, with the lock: opened when first asked for."""
        self.is_asked = True
        return self._open_index()

    def modseqs(self) -> Modseqs | None:
        """As index(); it need not be built for them."""
        index = self._open_index()
        return None if index is None else index.modseqs()

    def known_modseq(self) -> int | None:
        """See imap.commands.host.Handle."""
        if self._places is None:
            return 0
        if self._index is None:
            return None
        modseqs = self._index.modseqs()
        return 0 if modseqs is None else modseqs.known()

    def _open_index(self) -> MailboxIndex | None:
        if self._index is None and self._places is not None and not self._closed:
            self._index = MailboxIndex.open(self.mailbox, self._places, label=self._name)
        return self._index

    def hold(self) -> bool:
        """Keep it open until leave().  Returns False if it is closed already."""
        if self._closed:
            return False
        self._pool.hold(self)
        return True

    def leave(self) -> None:
        self._pool.leave(self)

    def settles_in(self) -> float | None:
        return self.mailbox.settles_in()

    def sync(self) -> bool:
        return self.mailbox.sync()

    def put_away(self) -> None:
        """Keep what spares the next process work.  In a thread, with the lock."""
        self.mailbox.put_away()
        if self._index is not None:
            self._index.put_away()

    def close(self) -> None:
        self._closed = True
        if self._index is not None:
            self._index.close()
        self.mailbox.close()

    async def wait_hint(self, seen: int) -> None:
        while self.hints == seen:
            await self._waiting.park()


class SharedHandle(Handle):
    """One session's hold on an OpenMailbox."""

    def __init__(self, pool: "MailboxPool", opened: OpenMailbox) -> None:
        self._pool = pool
        self._opened = opened
        self._seen = opened.hints
        self._released = False
        self.mailbox = opened.mailbox
        self.key = opened.key

    async def run(self, function: Callable[..., T], *args: object) -> T:
        async with self._opened.lock:
            return await self._in_thread(function, *args)

    async def run_short(self, function: Callable[..., T], *args: object) -> T:
        """In line if nobody else works on the mailbox, and such work has been quick lately."""
        if not self._opened.lock.locked() and self._opened.may_work_in_line():
            return self._in_line(function, *args)
        async with self._opened.lock:
            if self._opened.may_work_in_line():  # after those who were there before
                return self._in_line(function, *args)
            return await self._in_thread(_timed, self._opened.pace, function, *args)

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
                self._pool.indexer.want(self._opened)

    def announce(self) -> None:
        self._opened.hint()
        if self._opened.has_index:
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
    began = time.monotonic()
    try:
        return function(*args)
    finally:
        ended = time.monotonic()
        pace.note(ended - began, ended)


class MailboxPool:
    """All of a worker's open mailboxes.  close() ends them."""

    def __init__(self, watcher: Watcher, keep_idle: int = KEEP_IDLE) -> None:
        self.watcher = watcher
        self.indexer = Indexer()
        self.keeper = Keeper()
        self.recall = Recall()
        self._keep_idle = keep_idle
        self._opened: dict[Hashable, OpenMailbox] = {}
        self._idle: OrderedDict[Hashable, OpenMailbox] = OrderedDict()
        self._opening: dict[Hashable, trio.Lock] = {}
        self._orders = 0

    async def open(
        self,
        key: Hashable,
        opener: Callable[[], Mailbox],
        places: Sequence[Path] | None = None,
        name: str = "",
    ) -> SharedHandle:
        """The mailbox for key; opener is called in a thread if nobody here has it open.

        places: where its index may be kept; None: it shall have none.

        The caller has checked the viewer's rights: a mailbox that is open already is handed
        out without opener being asked again.
        """
        lock = self._opening.setdefault(key, trio.Lock())
        try:
            async with lock:
                opened = await self._held(key)
                if opened is None:
                    mailbox = await in_thread(opener)
                    if places:
                        mailbox.keep_in(Shelf(places))
                    self._orders += 1
                    opened = OpenMailbox(self, mailbox, key, self._orders, places, name)
                    self._opened[key] = opened
                    self.hold(opened)
        finally:
            if not lock.locked():
                self._opening.pop(key, None)
        return SharedHandle(self, opened)

    def open_nowait(self, key: Hashable) -> SharedHandle | None:
        """The mailbox for key if it is open here and certainly up to date; else None.

        For those who have just been told that they may have it, as with open().
        """
        opened = self._opened.get(key)
        if opened is None or not opened.mailbox.looks_unchanged():
            return None
        self.hold(opened)
        return SharedHandle(self, opened)

    def target_nowait(self, key: Hashable) -> SharedHandle | None:
        """As open_nowait(), for who adds messages: it need not be up to date."""
        opened = self._opened.get(key)
        if opened is None or not opened.mailbox.looks_the_same():
            return None
        self.hold(opened)
        return SharedHandle(self, opened)

    async def _held(self, key: Hashable) -> OpenMailbox | None:
        """The open mailbox for key, held for the caller, if there is one that is still there.

        Held before it is looked at: else it could be put away meanwhile as one of many idle ones.
        """
        opened = self._opened.get(key)
        if opened is None:
            return None
        self.hold(opened)
        there = False
        try:
            there = await self._still_there(opened)
        finally:
            if not there:
                self.leave(opened)
        return opened if there else None

    async def _still_there(self, opened: OpenMailbox) -> bool:
        """Whether the mailbox that opened stands for was not deleted, or deleted and made anew."""
        if opened.mailbox.looks_unchanged():
            return True
        handle = SharedHandle(self, opened)
        try:
            if await handle.run(opened.mailbox.sync):
                opened.hint()
        except SharingError as error:
            if error.code is not Code.NONEXISTENT:
                raise
            return False
        return True

    def hold(self, opened: OpenMailbox) -> None:
        """One user more, until leave()."""
        opened.users += 1
        if self._idle.get(opened.key) is opened:
            del self._idle[opened.key]

    def leave(self, opened: OpenMailbox) -> None:
        opened.users -= 1
        if opened.users:
            return
        if self._opened.get(opened.key) is not opened:
            self._end(opened)
            return
        self._idle[opened.key] = opened
        self.keeper.want_soon(opened)
        while len(self._idle) > self._keep_idle:
            self._close(next(iter(self._idle)))

    def forget(self, opened: OpenMailbox) -> None:
        """The mailbox behind it is gone: nobody may be given this object again."""
        if self._opened.get(opened.key) is opened:
            del self._opened[opened.key]
        if self._idle.pop(opened.key, None) is opened:
            self._end(opened)
        opened.hint()

    def _close(self, key: Hashable) -> None:
        self._end(self._idle.pop(key))
        del self._opened[key]

    def _end(self, opened: OpenMailbox) -> None:
        self.indexer.forget(opened)
        if self.keeper.forget(opened) and opened.settles_in() is None:
            with contextlib.suppress(SharingError, OSError):
                opened.put_away()
        opened.close()

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody works on any of them in a thread, and nothing is left to index."""
        busy = any(opened.lock.locked() for opened in self._opened.values())
        return self.indexer.is_idle and not busy

    def close(self) -> None:
        for opened in self._opened.values():
            self._end(opened)
        self._opened.clear()
        self._idle.clear()
