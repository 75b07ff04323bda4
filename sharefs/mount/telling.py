"""Telling the kernel that it must ask again: about names, and about attributes.

About attributes it is told at once.  For a name it takes the lock of the directory, which a request
may hold that this daemon has to answer (libfuse warns of that), and which users may hold for long,
by listing it into memory that is not there yet.  So names are told by threads of their own, which
nobody waits for: who is stuck holds up one directory, and another goes on.  When all of them are,
the kernel is told to forget every name, for which it needs no lock (Linux 6.16); that also takes
away what is mounted on directories of ours, so it is for attacks alone.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sharefs.mount.protocol import (
    EXPIRE_ONLY,
    INVAL_ENTRY_OUT,
    INVAL_INODE_OUT,
    NOTIFY_INC_EPOCH,
    NOTIFY_INVAL_ENTRY,
    NOTIFY_INVAL_INODE,
)

THREADS: Final = 8
STUCK: Final = 0.1  # seconds that telling of one name may take before somebody else goes on
AGAIN: Final = 0.3  # seconds
ENDING: Final = 2.0  # seconds for those that are at work when the mount ends


class Notify(Protocol):
    """Writes one message that nobody asked for.  Raises OSError: ENOENT if it is about nothing
    that the kernel knows."""

    def __call__(self, code: int, *octets: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Name:
    """gently: the kernel looks again, but forgets nothing: what is mounted on a directory stays."""

    parent: int
    name: bytes
    gently: bool


class Teller:
    """One mount's.  All methods are for one thread at a time, under the session's turn."""

    def __init__(self, notify: Notify, clock: Callable[[], float] = time.monotonic) -> None:
        self._notify = notify
        self._clock = clock
        self._queue: deque[Name] = deque()
        self._ready = threading.Condition()
        self._at_work: dict[threading.Thread, float] = {}  # since when; 0: waits for work
        self._later: dict[int | Name, float] = {}  # when; in that order
        self._closed = False

    def attributes(self, ino: int, *, again: bool = True) -> None:
        """Whoever wants to know them asks.  again: once more in a moment, for a reply that is
        under way: the kernel may not have known the number yet, and know it now."""
        with contextlib.suppress(OSError):
            # Offset -1: pages stay until size or times are found to be others.  No lock is taken.
            self._notify(NOTIFY_INVAL_INODE, INVAL_INODE_OUT.pack(ino, -1, 0))
        if again:
            self._later.setdefault(ino, self._clock() + AGAIN)

    def name(self, name: Name) -> None:
        """In a thread."""
        if name.gently:
            # A reply to another look may be under way, and would make it last again.
            self._later.setdefault(name, self._clock() + AGAIN)
        self._put(name)

    def _put(self, name: Name) -> None:
        with self._ready:
            if self._closed:
                return
            self._queue.append(name)
            self._ready.notify()
        self._hire()

    def tick(self) -> None:
        """What was to be told again.  Call it about every AGAIN seconds."""
        now = self._clock()
        for what in [what for what, when in self._later.items() if when <= now]:
            del self._later[what]
            if isinstance(what, Name):
                self._put(what)
            else:
                self.attributes(what, again=False)
        self._hire()
        if self._all_stuck():
            with contextlib.suppress(OSError):
                self._notify(NOTIFY_INC_EPOCH)
            with self._ready:
                self._queue.clear()

    @property
    def has_more(self) -> bool:
        """Whether tick() has something to do before long."""
        return bool(self._later or self._queue)

    def _all_stuck(self) -> bool:
        with self._ready:
            return bool(self._queue) and len(self._at_work) >= THREADS and not self._somebody_free()

    def _somebody_free(self) -> bool:
        now = self._clock()
        return any(not since or now - since < STUCK for since in self._at_work.values())

    def _hire(self) -> None:
        with self._ready:
            if not self._queue or len(self._at_work) >= THREADS or self._somebody_free():
                return
            thread = threading.Thread(target=self._work, name="telling", daemon=True)
            self._at_work[thread] = 0.0
        thread.start()

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._ready:
                self._at_work[me] = 0.0
                while not self._queue:
                    if self._closed:
                        del self._at_work[me]
                        return
                    self._ready.wait()
                name = self._queue.popleft()
                self._at_work[me] = self._clock()
            flags = EXPIRE_ONLY if name.gently else 0
            with contextlib.suppress(OSError):
                self._notify(
                    NOTIFY_INVAL_ENTRY,
                    INVAL_ENTRY_OUT.pack(name.parent, len(name.name), flags), name.name, b"\0",
                )  # fmt: skip

    def close(self) -> None:
        """While requests are still answered: who is stuck waits for one."""
        with self._ready:
            self._closed = True
            self._queue.clear()
            self._ready.notify_all()
            threads = list(self._at_work)
        deadline = time.monotonic() + ENDING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
