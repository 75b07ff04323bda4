"""Handlers: locks."""

import errno
import os

from sharefs.mount.base import DONE, Answer, Base, Body, Octets
from sharefs.mount.caller import Caller
from sharefs.mount.lock_ranges import LAST, READ, UNLOCK, WRITE, Range
from sharefs.mount.locks import Locks, Owner, Target, Wait
from sharefs.mount.protocol import LK_FLOCK, LK_IN, LK_OUT


class LockOperations(Base):
    """getlk setlk setlkw.  Who has the file open may lock it, as far as the mount is concerned:
    whom that could stop is decided by what is locked (tree.lock_target)."""

    def getlk(self, ino: int, caller: Caller, body: Body) -> bytes:
        target, owner, wanted = self._asked(caller, body)
        found = self._all_locks().conflict(target, owner, wanted) or Range(0, 0, UNLOCK)
        return LK_OUT.pack(found.start, found.end, found.kind, found.pid)

    def setlk(self, ino: int, caller: Caller, body: Body) -> bytes:
        if not self._all_locks().try_set(*self._asked(caller, body)):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return DONE

    def setlkw(self, ino: int, caller: Caller, body: Body) -> Answer:
        asked, locks = self._asked(caller, body), self._all_locks()
        if locks.try_set(*asked):
            return DONE
        return self._wait(locks, locks.wait(*asked), caller)

    async def _wait(self, locks: Locks, wait: Wait, caller: Caller) -> Octets:
        future = wait.future
        try:
            await self.waiting.wait_for(
                future, caller.uid, on_interrupt=lambda: locks.give_up(wait)
            )
        except OSError as refusal:  # too many of his wait already
            locks.give_up(wait)
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from refusal
        future.result()
        return DONE

    def _all_locks(self) -> Locks:
        assert self.locks is not None, "the kernel was not told to ask for locks"
        return self.locks

    def _asked(self, caller: Caller, body: Body) -> tuple[Target, Owner, Range]:
        fh, number, start, end, kind, pid, flags = LK_IN.unpack_from(body)
        handle = self.handles[fh]
        if kind not in (READ, WRITE, UNLOCK) or not 0 <= start <= end <= LAST:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        owner = Owner(number, bool(flags & LK_FLOCK), handle.caller.uid, fh)
        return self.tree.lock_target(handle), owner, Range(start, end, kind, pid)
