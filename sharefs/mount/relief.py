"""Relieves a thread that has the turn, and waits for a file system that does not answer.

A hard NFS mount whose server is gone, or FUSE whose process stands still, keeps whoever asks it
anything, for as long as it likes, and nothing short of the end of this process ends that.  So a
thread of its own looks who has the turn (`turn`) and for how long he has been in one system call
that leads into a file system that may hang.  After some time the turn goes on without him: the
request that he was at is refused, a new thread takes his place, and until he is back, whoever asks
for anything on that file system is told at once that it does not answer (`silent`).
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Protocol

from sharefs.mount.blocked import call_of, call_path, places_of, switches_of, threads
from sharefs.mount.foreign import Mounted, parse_mountinfo
from sharefs.mount.mount_table import text_of
from sharefs.mount.silent import Silent, mount_of

log: Final = logging.getLogger(__name__)

PATIENCE: Final = 3.0  # seconds; a server that is busy is not gone
HASTE: Final = 0.3  # seconds, with users' own, and where everybody had to wait MEMORY ago
MEMORY: Final = 3600.0  # seconds
LOOK: Final = 0.1  # seconds between two looks, while there is anything mounted that may hang


class Taking(Protocol):
    """Whose turn it is, and how to give it to others: the session's side.

    Nothing here waits for the turn, since nobody else would end that.
    """

    silent: Silent

    def at_turn(self) -> int:
        """The thread that has the turn (threading.get_ident()); 0: none."""

    def device_asked(self, thread: int) -> int:
        """Of the file that the request is about at which a thread is; 0: nobody knows."""

    def relieve(self, thread: int, path: str, call: bytes, device: int) -> bool:
        """Go on without it, if it is still in that call: False if it is not."""

    def at_work(self) -> list[int]:
        """Threads that do without the turn, and that others wait for."""

    def give_up(self, thread: int, device: int) -> bool:
        """Go on without one of those; False if that cannot be."""

    def is_back(self, device: int) -> None:
        """That file system has answered."""


@dataclass(slots=True)
class _Waiting:
    """One thread in one call.  number: the kernel's; ident: Python's."""

    ident: int
    number: int
    call: bytes
    switches: str
    since: float


class Relief:
    """See the module.  start() and close() as of a thread.

    ours: where our own mount is, which we never ask.  on_relief: called with what did not answer.
    """

    def __init__(
        self,
        session: Taking,
        ours: PurePosixPath,
        on_relief: Callable[[Mounted], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._ours = ours
        self._on_relief = on_relief
        self._clock = clock
        self._waiting: dict[int, _Waiting] = {}
        self._relieved: list[tuple[int, bytes, int]] = []  # threads' numbers, calls, devices
        self._known: dict[int, float] = {}  # when everybody had to wait for a device
        self._mounts: tuple[Mounted, ...] = ()
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="relief", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Nobody is relieved any more."""
        os.close(self._writer)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._reader)

    def _watch(self) -> None:
        mountinfo = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(mountinfo, select.POLLPRI)  # something was mounted or unmounted
            poll.register(self._reader, select.POLLIN)
            self._read_mounts(mountinfo)
            while True:
                busy = self._relieved or any(one.may_hang for one in self._mounts)
                events = dict(poll.poll(LOOK * 1000 if busy else None))
                if self._reader in events:
                    return
                if mountinfo in events:
                    self._read_mounts(mountinfo)
                self.look()
        except Exception:
            log.exception("nobody is relieved any more who waits for a file system")
        finally:
            os.close(mountinfo)

    def _read_mounts(self, mountinfo: int) -> None:
        mounts = parse_mountinfo(text_of(mountinfo))
        self._mounts = tuple(one for one in mounts if one.path != self._ours)
        self._session.silent.mounts = self._mounts

    def look(self) -> None:
        """Once: whether anybody has waited for too long, and whether anybody is back."""
        self._look_who_is_back()
        now = self._clock()
        idents = [*self._session.at_work(), self._session.at_turn()]
        before, self._waiting = self._waiting, {}
        for ident in filter(None, idents):
            waiting = _in_a_call(ident, now)
            if waiting is None:
                continue
            same = before.get(ident)
            if same is not None and (same.call, same.switches) == (waiting.call, waiting.switches):
                waiting.since = same.since
            self._waiting[ident] = waiting
            if now - waiting.since >= HASTE:
                self._do_without(waiting, now, with_turn=ident == idents[-1])

    def _do_without(self, waiting: _Waiting, now: float, *, with_turn: bool) -> None:
        mounted = self._what_hangs(waiting)
        if mounted is None or now - waiting.since < self._patience(mounted, now):
            return
        ident, call, device = waiting.ident, waiting.call, mounted.device
        if with_turn:
            path = call_path(waiting.number)
            done = self._session.relieve(ident, path, call, device)
        else:
            done = self._session.give_up(ident, device)
        if not done:
            return
        del self._waiting[ident]
        self._known[device] = now
        self._relieved.append((waiting.number, call, device))
        log.warning("the file system on %s does not answer: requests for it are refused",
                    mounted.path)  # fmt: skip
        if with_turn and self._on_relief is not None:
            self._on_relief(mounted)

    def _patience(self, mounted: Mounted, now: float) -> float:
        before = self._known.get(mounted.device)
        known = before is not None and now - before < MEMORY
        return HASTE if mounted.is_foreign or known else PATIENCE

    def _what_hangs(self, waiting: _Waiting) -> Mounted | None:
        """What he waits for; he may be waiting for another thread of ours that does."""
        if places_of(waiting.call.decode()):
            return self._mount_in(waiting.call)
        device = self._session.device_asked(waiting.ident)  # close(2) does not tell
        for one in self._mounts:
            if one.device == device and one.may_hang:
                return one
        for number in threads():
            try:
                found = self._mount_in(call_of(number))
            except OSError:
                continue  # it has ended
            if found is not None:
                return found
        return None

    def _mount_in(self, call: bytes) -> Mounted | None:
        for place in places_of(call.decode()):
            found = mount_of(place, self._mounts)
            if found is not None and found.may_hang:
                return found
        return None

    def _look_who_is_back(self) -> None:
        for one in list(self._relieved):
            number, call, device = one
            try:
                if call_of(number) == call:
                    continue
            except OSError:
                pass  # it has ended
            self._relieved.remove(one)
            if not any(other[2] == device for other in self._relieved):
                log.warning("a file system answers again")
                self._session.is_back(device)


def _in_a_call(ident: int, now: float) -> _Waiting | None:
    """A thread, as of now; None if it has ended."""
    number = next((one.native_id for one in threading.enumerate() if one.ident == ident), None)
    if number is None:
        return None
    try:
        return _Waiting(ident, number, call_of(number), switches_of(number), now)
    except OSError:
        return None
