"""Builds indexes in the background: a slice at a time, so that commands hardly wait for it.

A mailbox is here while there may be something to index.  Its sessions are served between slices,
for a slice holds its lock; and the process has at least as long for itself as a slice took.
"""

import logging
import time
from typing import Final, Protocol

import trio

from sharefs.errors import SharingError
from sharefs.index import MailboxIndex

log = logging.getLogger("imap.indexing")

SLICE: Final = 0.03  # seconds
PAUSE: Final = 0.02  # seconds at least between slices
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


class Indexer:
    """want() what changed; run() does the work until cancelled."""

    def __init__(self) -> None:
        self._wanted: dict[Indexable, None] = {}  # in turn
        self._stuck: dict[Indexable, float] = {}  # when they may be tried again
        self._work = trio.Event()

    def want(self, mailbox: Indexable) -> None:
        """There may be something to index.  Cheap, and harmless if there is nothing."""
        self._wanted[mailbox] = None
        self._work.set()

    def forget(self, mailbox: Indexable) -> None:
        """It is closed."""
        self._wanted.pop(mailbox, None)
        self._stuck.pop(mailbox, None)

    async def run(self) -> None:
        while True:
            while not self._wanted:
                self._work = trio.Event()
                await self._work.wait()
            mailbox = next(iter(self._wanted))
            del self._wanted[mailbox]
            if self._stuck.get(mailbox, 0) > trio.current_time() or not mailbox.hold():
                continue
            began = time.monotonic()
            try:
                if not await self._slice(mailbox):
                    self._wanted[mailbox] = None
            finally:
                mailbox.leave()
            await trio.sleep(max(PAUSE, time.monotonic() - began))

    async def _slice(self, mailbox: Indexable) -> bool:
        """Returns whether there is nothing left to do, for now."""
        async with mailbox.lock:
            try:
                index = await trio.to_thread.run_sync(mailbox.index)
                if index is None or await trio.to_thread.run_sync(index.catch_up, SLICE):
                    return True
            except (SharingError, OSError) as error:
                # The mailbox is gone, or cannot be read: its sessions will hear of it themselves.
                log.info("Indexing ends: %s", error)
                return True
        if index.is_stuck:
            self._stuck[mailbox] = trio.current_time() + STUCK_PAUSE
            return True
        return False
