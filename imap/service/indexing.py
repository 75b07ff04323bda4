"""Builds indexes in the background: a slice at a time, so that commands hardly wait for it.

A mailbox is here while there may be something to index.  Its sessions are served between slices,
for a slice holds its lock; and the process has at least as long for itself as a slice took.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from imap.service.threads import in_thread
from sharefs.errors import SharingError
from sharefs.index import MailboxIndex

log = logging.getLogger("imap.indexing")

SLICE: Final = 0.03  # seconds
PAUSE: Final = 0.02  # seconds at least between slices
SETTLE: Final = 0.5  # seconds without new messages before what came is indexed
LONGEST_WAIT: Final = 10.0  # seconds that messages which keep coming put it off at most
STUCK_PAUSE: Final = 60.0  # seconds until a file that could not be written is tried again


class Indexable(Protocol):
    """An open mailbox with an index; equal only to itself."""

    lock: trio.Lock

    def index(self) -> MailboxIndex | None:
        """May block."""
        ...

    def hold(self) -> bool:
        """Keep it open until leave().  Returns False if it is closed already."""
        ...

    def leave(self) -> None: ...


@dataclass(slots=True)
class _Turn:
    """since: when it was first wanted.  due: when it may be looked at.  Times of trio's clock."""

    since: float
    due: float


class Indexer:
    """want() what changed; run() does the work until cancelled."""

    def __init__(self) -> None:
        self._wanted: dict[Indexable, _Turn] = {}
        self._stuck: dict[Indexable, float] = {}  # when they may be tried again
        self._work = trio.Event()
        self._busy = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._busy and not self._wanted

    def want(self, mailbox: Indexable, *, at_leisure: bool = False) -> None:
        """There may be something to index.  Cheap, and harmless if there is nothing.

        at_leisure: messages have just come, and more may follow.  One transaction for all of them
        takes little longer than one for each, and does not come between them.
        """
        now = trio.current_time()
        turn = self._wanted.pop(mailbox, None)  # and now it is the last in the order
        if turn is None:
            turn = _Turn(now, now + (SETTLE if at_leisure else 0))
        elif at_leisure:
            turn.due = max(turn.due, min(now + SETTLE, turn.since + LONGEST_WAIT))
        else:
            turn.due = min(turn.due, now)
        self._wanted[mailbox] = turn
        self._work.set()

    def forget(self, mailbox: Indexable) -> None:
        """It is closed."""
        self._wanted.pop(mailbox, None)
        self._stuck.pop(mailbox, None)

    async def run(self) -> None:
        while True:
            mailbox = await self._next()
            if self._stuck.get(mailbox, 0) > trio.current_time() or not mailbox.hold():
                continue
            began = time.monotonic()
            self._busy = True
            try:
                if not await self._slice(mailbox):
                    self.want(mailbox)
            finally:
                self._busy = False
                mailbox.leave()
            await trio.sleep(max(PAUSE, time.monotonic() - began))

    async def _next(self) -> Indexable:
        """Wait for the first mailbox whose turn it is, and take it out."""
        while True:
            self._work = trio.Event()
            mailbox, turn = min(
                self._wanted.items(), key=lambda each: each[1].due, default=(None, None)
            )
            patience = math.inf if turn is None else turn.due - trio.current_time()
            if mailbox is not None and patience <= 0:
                del self._wanted[mailbox]
                return mailbox
            with trio.move_on_after(patience):
                await self._work.wait()

    async def _slice(self, mailbox: Indexable) -> bool:
        """Returns whether there is nothing left to do, for now."""
        async with mailbox.lock:
            try:
                index = await in_thread(_index_some, mailbox)
            except (SharingError, OSError) as error:
                # The mailbox is gone, or cannot be read: its sessions will hear of it themselves.
                log.info("Indexing ends: %s", error)
                return True
        if index is None:
            return True
        if index.is_stuck:
            self._stuck[mailbox] = trio.current_time() + STUCK_PAUSE
            return True
        return False


def _index_some(mailbox: Indexable) -> MailboxIndex | None:
    """In a thread, with the lock.  None: nothing is left to do."""
    index = mailbox.index()
    return None if index is None or index.catch_up(SLICE) else index
