"""Has mailboxes kept for the next process, once they have come to rest.

A worker may be ended at any time, so what it knows is written down while it runs: soon after a
mailbox was left by all, and now and then while it is used.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from sharefs.errors import SharingError

log = logging.getLogger("imap.keeping")

QUIET: Final = 0.5  # seconds after it was left
# Seconds between two times while it is used: a large mailbox that changes all the time is listed
# once more each time.
EVERY: Final = 30.0
TRIES: Final = 5  # looks at a mailbox that others change all the time


class Keepable(Protocol):
    """An open mailbox; equal only to itself."""

    lock: trio.Lock

    def hold(self) -> bool:
        """Keep it open until leave().  Returns False if it is closed already."""
        ...

    def leave(self) -> None: ...

    def settles_in(self) -> float | None:
        """As Mailbox.settles_in()."""
        ...

    def sync(self) -> bool:
        """In a thread.  As Mailbox.sync()."""
        ...

    def put_away(self) -> None:
        """In a thread, with the lock.  Raises nothing that sync() does not."""
        ...

    def hint(self) -> None:
        """It has changed."""
        ...


@dataclass(slots=True)
class _Turn:
    """due: a time of trio's clock.  tries: looks after which it was still changing."""

    due: float
    tries: int = 0


class Keeper:
    """want() what was used; run() does the work until cancelled.

    in_thread: runs what may block.
    """

    def __init__(
        self,
        in_thread: Callable[[Callable[[], object]], Awaitable[object]] = trio.to_thread.run_sync,
    ) -> None:
        self._in_thread = in_thread
        self._wanted: dict[Keepable, _Turn] = {}
        self._last: dict[Keepable, float] = {}  # when it was done
        self._work = trio.Event()

    def want(self, mailbox: Keepable) -> None:
        """It was used.  Cheap, and harmless if there is nothing to keep."""
        if mailbox not in self._wanted:
            now = trio.current_time()
            last = self._last.get(mailbox, now)
            self._wanted[mailbox] = _Turn(max(now + QUIET, last + EVERY))
            self._work.set()

    def want_soon(self, mailbox: Keepable) -> None:
        """It was left by its last user; what was not wanted is kept already."""
        turn = self._wanted.get(mailbox)
        if turn is not None and (due := trio.current_time() + QUIET) < turn.due:
            turn.due = due
            self._work.set()

    def forget(self, mailbox: Keepable) -> bool:
        """It is about to be closed.  Returns whether there may be something to keep."""
        self._last.pop(mailbox, None)
        return self._wanted.pop(mailbox, None) is not None

    async def run(self) -> None:
        while True:
            mailbox, turn = await self._next()
            if not mailbox.hold():
                continue
            self._last[mailbox] = trio.current_time()  # it may be used again meanwhile
            try:
                wait = await self._put_away(mailbox)
            except (SharingError, OSError) as error:
                # It is gone, or cannot be read: its sessions will hear of it themselves.
                log.debug("A mailbox is not kept: %s", error)
                wait = None
            finally:
                mailbox.leave()
            if wait is not None and turn.tries < TRIES and mailbox not in self._wanted:
                due = trio.current_time() + max(wait, QUIET)
                self._wanted[mailbox] = _Turn(due, turn.tries + 1)

    async def _put_away(self, mailbox: Keepable) -> float | None:
        """Seconds until it should be tried again."""
        async with mailbox.lock:
            if mailbox.settles_in() is not None and await self._in_thread(mailbox.sync):
                mailbox.hint()
            wait = mailbox.settles_in()
            if wait is None:
                await self._in_thread(mailbox.put_away)
            return wait

    async def _next(self) -> tuple[Keepable, _Turn]:
        """Wait for the first mailbox whose turn it is, and take it out."""
        while True:
            self._work = trio.Event()
            mailbox, turn = min(
                self._wanted.items(), key=lambda each: each[1].due, default=(None, None)
            )
            patience = math.inf if turn is None else turn.due - trio.current_time()
            if mailbox is not None and turn is not None and patience <= 0:
                del self._wanted[mailbox]
                return mailbox, turn
            with trio.move_on_after(patience):
                await self._work.wait()
