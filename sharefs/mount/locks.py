"""Locks of programs on the mount, taken on the files below, where programs beside it see them.

Each owner of locks (a process for fcntl(2), an open file for flock(2)) gets an open file of the
daemon's own for each file that he locks something of: open file description locks on it
(fcntl_locking(2)) cut and join exactly as his would, and end when it is closed.

In somebody else's mailbox, where a viewer may hold files open but must not stop their owner's
programs, a nameless file takes the place of the real one: there locks hold between the viewer's
own programs.
"""

import errno
import fcntl
import os
import struct
import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from sharefs.mount.lock_ranges import (
    LAST,
    READ,
    UNLOCK,
    WRITE,
    Range,
    Ranges,
    first_conflict,
    waits_for_itself,
    with_range,
)

SHARE: Final = 4  # one uid may have this part of all lock owners; the superuser is not limited
MAX_RANGES: Final = 4096  # of one owner on one file
OFTEN: Final = 0.01  # seconds between two looks at what programs beside the mount hold ...
SELDOM: Final = 0.05  # ... and when nothing has changed for a while
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock: type whence start len pid
_FLOCK_OF: Final = {READ: fcntl.LOCK_SH, WRITE: fcntl.LOCK_EX, UNLOCK: fcntl.LOCK_UN}
_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES})  # by somebody else
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY})


@dataclass(frozen=True, slots=True)
class Target:
    """What is locked.  key: equal for the same file.  fd: open, to be opened once more; -1: a file
    without a name, which nobody beside the mount sees, takes its place."""

    key: Hashable
    fd: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the lock is: the kernel's number for a process or an open file.  uid: who pays.

    handle: through which it is asked for; it ends with that at the latest.
    """

    number: int
    whole: bool  # flock(2)
    uid: int
    handle: int

    @property
    def key(self) -> tuple[bool, int]:
        return self.whole, self.number


OwnerKey = tuple[bool, int]


@dataclass(slots=True, eq=False)
class _Held:
    """What one owner has of one file.  fd: the open file that has it."""

    fd: int
    uid: int
    handles: set[int] = field(default_factory=set)
    ranges: Ranges = ()


@dataclass(slots=True, eq=False)
class _File:
    """base: of the nameless file; -1: there is a real one."""

    base: int
    owners: dict[OwnerKey, _Held] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Wait:
    """Somebody who waits.  future: done when he has the lock, or OSError."""

    target: Target
    owner: Owner
    wanted: Range
    future: "Future[None]" = field(default_factory=Future)


class Locks:
    """All locks of one mount.  limit: how many open files they may take.  For any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: dict[Hashable, _File] = {}
        self._by_handle: dict[int, set[tuple[Hashable, OwnerKey]]] = {}
        self._count: Counter[int] = Counter()
        self._waits: list[Wait] = []
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        """Owners who hold something, each on each file."""
        return self._count.total()

    def start(self) -> None:
        """Begin to look after those who wait.  Before anything acts as somebody else."""
        self._thread = threading.Thread(target=self._look_after, name="locks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody gets anything any more, and all locks end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            for key in list(self._files):
                for owner in list(self._files[key].owners):
                    self._drop(key, owner)

    # --- for handlers --------------------------------------------------------------------

    def conflict(self, target: Target, owner: Owner, wanted: Range) -> Range | None:
        """F_GETLK: what stands in the way; None: nothing does."""
        with self._changed:
            file = self._files.get(target.key)
            for other, held in file.owners.items() if file is not None else ():
                found = first_conflict(held.ranges, wanted)
                if found is not None and not other[0] and other != owner.key:
                    return found
            have = file.owners.get(owner.key) if file is not None else None
            if have is not None:
                return _beside(have.fd, wanted)
            if target.fd < 0:
                return None
            fd = _open_again(target.fd)
            try:
                return _beside(fd, wanted)
            finally:
                os.close(fd)

    def try_set(self, target: Target, owner: Owner, wanted: Range) -> bool:
        """False: somebody else has it.  Raises OSError(ENOLCK) for who has too many."""
        with self._changed:
            done = self._try(target, owner, wanted)
            if done and self._waits and wanted.kind != WRITE:
                self._serve()  # something may have become free
            return done

    def wait(self, target: Target, owner: Owner, wanted: Range) -> Wait:
        """After try_set() said no.  Raises OSError(EDEADLK) if that could never end."""
        with self._changed:
            if not owner.whole and waits_for_itself(
                owner.key, self._in_the_way(target, owner.key, wanted), self._waited_for_by
            ):
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
            wait = Wait(target, owner, wanted)
            self._waits.append(wait)
            self._changed.notify_all()
            return wait

    def give_up(self, wait: Wait) -> None:
        """He was interrupted.  Who has got it in the meantime keeps it."""
        with self._changed:
            if wait in self._waits:
                self._waits.remove(wait)
                wait.future.set_exception(OSError(errno.EINTR, os.strerror(errno.EINTR)))

    def closed_by(self, target: Target, number: int) -> None:
        """close(2) of any descriptor ends the locks that its process has on the file."""
        with self._changed:
            self._drop(target.key, (False, number))
            self._serve()

    def released(self, handle: int) -> None:
        """Nobody has the open file any more."""
        if handle not in self._by_handle:
            return
        with self._changed:
            for key, owner in self._by_handle.pop(handle, ()):
                self._drop(key, owner)
            self._serve()

    # --- under the condition -----------------------------------------------------------------

    def _try(self, target: Target, owner: Owner, wanted: Range) -> bool:
        file = self._files.get(target.key)
        held = file.owners.get(owner.key) if file is not None else None
        if held is None:
            if wanted.kind == UNLOCK:
                return True
            held = self._new(target, owner)
        if len(held.ranges) + 2 > MAX_RANGES:
            raise _no_more()
        try:
            if owner.whole:
                fcntl.flock(held.fd, _FLOCK_OF[wanted.kind] | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(held.fd, fcntl.F_OFD_SETLK, _packed(wanted))
        except OSError as error:
            if owner.whole:
                held.ranges = ()  # flock(2): who changes the kind gives up what he had
            if not held.ranges:
                self._drop(target.key, owner.key)
            if error.errno in _HELD:
                return False
            raise
        held.ranges = with_range(held.ranges, wanted)
        if not held.ranges:
            self._drop(target.key, owner.key)
            return True
        if owner.handle not in held.handles:
            held.handles.add(owner.handle)
            self._by_handle.setdefault(owner.handle, set()).add((target.key, owner.key))
        return True

    def _new(self, target: Target, owner: Owner) -> _Held:
        if self._closed or len(self) >= self._limit:
            raise _no_more()
        if owner.uid and self._count[owner.uid] >= self._limit // SHARE:
            raise _no_more()
        file = self._files.get(target.key)
        if file is None:
            base = -1 if target.fd >= 0 else os.memfd_create("locks", os.MFD_CLOEXEC)
            file = self._files[target.key] = _File(base)
        try:
            fd = _open_again(target.fd if file.base < 0 else file.base, whole=owner.whole)
        except BaseException:
            self._let_go(target.key, file)
            raise
        held = file.owners[owner.key] = _Held(fd, owner.uid)
        self._count[owner.uid] += 1
        return held

    def _drop(self, key: Hashable, owner: OwnerKey) -> None:
        file = self._files.get(key)
        held = file.owners.pop(owner, None) if file is not None else None
        if file is None or held is None:
            return
        os.close(held.fd)
        self._count[held.uid] -= 1
        if not self._count[held.uid]:
            del self._count[held.uid]
        for handle in held.handles:
            known = self._by_handle.get(handle)
            if known is not None:
                known.discard((key, owner))
                if not known:
                    del self._by_handle[handle]
        self._let_go(key, file)

    def _let_go(self, key: Hashable, file: _File) -> None:
        if not file.owners:
            if file.base >= 0:
                os.close(file.base)
            del self._files[key]

    def _in_the_way(self, target: Target, asker: OwnerKey, wanted: Range) -> Iterator[OwnerKey]:
        file = self._files.get(target.key)
        for other, held in file.owners.items() if file is not None else ():
            if other[0] == asker[0] and other != asker and first_conflict(held.ranges, wanted):
                yield other

    def _waited_for_by(self, owner: Hashable) -> list[OwnerKey]:
        return [
            other
            for wait in self._waits
            if wait.owner.key == owner
            for other in self._in_the_way(wait.target, wait.owner.key, wait.wanted)
        ]

    def _serve(self) -> bool:
        """Give what has become free to those who wait, the first first.  Whether anybody got it."""
        served = False
        for wait in list(self._waits):
            if next(self._in_the_way(wait.target, wait.owner.key, wait.wanted), None) is not None:
                continue
            try:
                if not self._try(wait.target, wait.owner, wait.wanted):
                    continue
            except OSError as error:
                self._waits.remove(wait)
                wait.future.set_exception(error)
                continue
            self._waits.remove(wait)
            wait.future.set_result(None)
            served = True
        return served

    def _look_after(self) -> None:
        """What is held beside the mount becomes free without a word: look again and again."""
        pause = OFTEN
        with self._changed:
            while not self._closed:
                if not self._waits:
                    pause = OFTEN
                    self._changed.wait()
                    continue
                self._changed.wait(pause)
                pause = OFTEN if self._serve() else min(pause * 1.2, SELDOM)


def _no_more() -> OSError:
    return OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def _open_again(fd: int, *, whole: bool = False) -> int:
    """The same file, opened once more: to write if that can be, which fcntl(2) wants of who locks
    to write; flock(2) does not, and whoever watches the file need not see it opened so."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if not whole:
        try:
            return os.open(f"/proc/self/fd/{fd}", flags | os.O_RDWR)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_RDONLY)


def _packed(wanted: Range) -> bytes:
    length = 0 if wanted.end >= LAST else wanted.end - wanted.start + 1
    return _FLOCK.pack(wanted.kind, os.SEEK_SET, wanted.start, length, 0)


def _beside(fd: int, wanted: Range) -> Range | None:
    """What programs beside the mount have."""
    octets = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _packed(wanted))
    kind, _, start, length, pid = _FLOCK.unpack(octets)
    if kind == UNLOCK:
        return None
    return Range(start, start + length - 1 if length else LAST, kind, max(pid, 0))
