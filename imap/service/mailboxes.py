"""Open mailboxes of one worker, shared by its connections and kept a while when idle.

Two connections of one identity to one mailbox use one Mailbox object: one listing, one memory.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final

import trio

from imap.service.indexing import Indexer
from imap.service.keeping import Keeper
from imap.service.opened import OpenMailbox
from imap.service.recall import Recall
from imap.service.shared_handle import SharedHandle
from imap.service.threads import in_thread
from imap.service.watcher import Watcher
from sharefs.errors import Code, SharingError
from sharefs.index import Shelf
from sharefs.store.interface import Mailbox

KEEP_IDLE: Final = 32  # mailboxes; each holds a few descriptors and about 200 bytes a message


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
        *,
        listed: bool = False,
    ) -> SharedHandle:
        """The mailbox for key; opener is called in a thread if nobody here has it open.

        places: where its index may be kept; None: it shall have none.  listed: the caller will ask
        what is in it, so it is listed before the thread is left.

        The caller has checked the viewer's rights: a mailbox that is open already is handed
        out without opener being asked again.
        """
        lock = self._opening.setdefault(key, trio.Lock())
        try:
            async with lock:
                opened = await self._held(key)
                if opened is None:
                    self._orders += 1
                    order = self._orders

                    def make() -> OpenMailbox:
                        mailbox = opener()
                        try:
                            if places:
                                mailbox.keep_in(Shelf(places))
                            made = OpenMailbox(self, mailbox, key, order, places, name)
                            if listed:
                                made.prepare()
                        except BaseException:
                            mailbox.close()
                            raise
                        return made

                    opened = await in_thread(make)
                    self._opened[key] = opened
                    self.hold(opened)
                    if listed:
                        self.keeper.want(opened)
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
