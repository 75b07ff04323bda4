"""One open mailbox of a worker: the Mailbox, its index, its lock, and who waits for a change."""

import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

import trio

from imap.service.pace import Pace
from sharefs.index import MailboxIndex, Modseqs
from sharefs.index.highest import Highest, recall
from sharefs.index.place import is_there
from sharefs.store.interface import Mailbox


class Pool(Protocol):
    """Who opened it, and closes it when nobody holds it any more."""

    def hold(self, opened: "OpenMailbox", /) -> None: ...

    def leave(self, opened: "OpenMailbox", /) -> None: ...


class OpenMailbox:
    """One Mailbox, its index, its lock, and whoever waits for it to change.

    places: where its index may be kept; None: it shall have none.  name: for messages; others may
    know the mailbox by another one.
    """

    def __init__(
        self,
        pool: Pool,
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
        self._left: tuple[Path, Highest, int] | None = None  # and the mailbox's generation then
        self._closed = False
        self.is_asked = False  # by a session, since that was last looked at
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

    def index(self) -> MailboxIndex | None:
        """In a thread, with the lock: opened when first asked for."""
        return self._open_index()

    @property
    def is_indexed(self) -> bool:
        """Whether the indexer would find nothing to do, as far as memory tells."""
        if self._places is None:
            return True
        return self._index is not None and self._index.looks_complete()

    def modseqs(self) -> Modseqs | None:
        """As index(); it need not be built for them."""
        index = self._open_index()
        return None if index is None else index.modseqs()

    def known_modseq(self) -> int | None:
        """See imap.commands.host.Handle."""
        if self._places is None:
            return 0
        if self._index is None:
            return self._left_modseq()
        modseqs = self._index.modseqs()
        return 0 if modseqs is None else modseqs.known()

    def prepare(self) -> None:
        """In a thread, before anybody uses it: have it listed, and HIGHESTMODSEQ known if it was
        left beside the index.  Raises as Mailbox.sync()."""
        self.mailbox.late_uids()
        if self._places is not None:
            left = recall(self._places, self.mailbox)
            self._left = None if left is None else (*left, self.mailbox.generation)

    def _left_modseq(self) -> int | None:
        """As known_modseq(), while the index is not open."""
        if self._left is None:
            return None
        directory, left, generation = self._left
        if generation != self.mailbox.generation or not is_there(directory, left.state):
            return None
        return left.modseq

    def _open_index(self) -> MailboxIndex | None:
        if self._index is None and self._places is not None and not self._closed:
            self._index = MailboxIndex.open(self.mailbox, self._places, label=self._name)
            modseqs = self._index.modseqs()
            if self._left is not None and modseqs is not None:
                _, left, generation = self._left
                modseqs.resume(generation, left.modseq)
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
