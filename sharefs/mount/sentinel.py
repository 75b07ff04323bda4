"""Lets nobody stop the daemon with a file system of his own that does not answer.

Where /etc/fuse.conf has user_allow_other any user can mount something into his home that everybody
may enter, the daemon too, and never answer.  A thread of the daemon's that looks there waits for
ever; its turn goes to others soon (`relief`), but it is lost.  So a thread of its own watches the
others while there are such file systems: one that keeps any waiting for PATIENCE seconds, or has
taken turns again and again, is aborted, as its user could do himself (/sys/fs/fuse/connections),
and whatever he mounts during the next hour at once.
"""

import ctypes
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from sharefs.mount.blocked import in_fuse, places_of
from sharefs.mount.foreign import Mounted, blame, parse_mountinfo
from sharefs.mount.mount_table import text_of

log: Final = logging.getLogger(__name__)

PATIENCE: Final = 3.0  # seconds
LOOK: Final = 0.5  # seconds between two looks, while there is somebody to watch
DISTRUST: Final = 3600.0  # seconds
TOO_OFTEN: Final = 3  # turns taken within DISTRUST
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture since Linux 5.2
_FSCONFIG_CMD_CREATE: Final = 6
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC


def open_connections() -> int:
    """A directory with one for each FUSE file system: fusectl, mounted for us alone.

    Takes CAP_SYS_ADMIN.  Raises OSError where the kernel cannot.  The caller closes it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*words: object) -> int:
        result = libc.syscall(*words)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(result)

    context = call(_FSOPEN, b"fusectl", _CLOEXEC)
    try:
        call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


class Sentinel:
    """See the module.  connections: from open_connections(), taken over.

    spared: what is mirrored; a file system that holds it was named by root, so it is trusted.
    """

    def __init__(
        self,
        connections: int,
        spared: PurePosixPath | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._spared = spared
        self._clock = clock
        self._waiting: dict[int, tuple[str, float]] = {}  # thread: its call, and since when
        self._distrusted: dict[int, float] = {}
        self._taken: dict[int, list[float]] = {}  # by uid: when turns had to be taken
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="sentinel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        os.close(self._writer)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._reader)
        os.close(self._connections)

    def _watch(self) -> None:
        mountinfo = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(mountinfo, select.POLLPRI)  # something was mounted or unmounted
            poll.register(self._reader, select.POLLIN)
            while True:
                mounts = parse_mountinfo(text_of(mountinfo))
                foreign = [one for one in mounts if one.is_foreign and not self._is_spared(one)]
                self.look(mounts, foreign)
                events = poll.poll(LOOK * 1000 if foreign else None)
                if any(fd == self._reader for fd, _ in events):
                    return
        except Exception:
            # Without it the mount works as it would where fusectl is missing.
            log.exception("nobody looks for file systems that do not answer any more")
        finally:
            os.close(mountinfo)

    def _is_spared(self, one: Mounted) -> bool:
        return self._spared is not None and self._spared.is_relative_to(one.path)

    def kept_waiting(self, one: Mounted) -> None:
        """Everybody has waited for it, until somebody was relieved.  For any thread."""
        if one.uid is None or not one.is_foreign or self._is_spared(one):
            return
        now = self._clock()
        taken = [at for at in self._taken.get(one.uid, ()) if now - at < DISTRUST]
        self._taken[one.uid] = [*taken, now]
        if len(taken) + 1 >= TOO_OFTEN:
            self._distrusted[one.uid] = now

    def look(self, mounts: tuple[Mounted, ...], foreign: list[Mounted]) -> None:
        """Once: whether any thread has waited too long."""
        now = self._clock()
        for one in foreign:
            if one.uid is not None and now - self._distrusted.get(one.uid, -DISTRUST) < DISTRUST:
                self._abort(one, "its user's last ones did not answer")
        waiting = dict(in_fuse()) if foreign else {}
        self._waiting = {
            thread: (call, since if call == before else now)
            for thread, call in waiting.items()
            for before, since in (self._waiting.get(thread, ("", now)),)
        }
        for call, since in self._waiting.values():
            if now - since < PATIENCE:
                continue
            where = next(reversed(places_of(call)), None)
            suspects = [one for one in foreign if self._has_requests(one)]
            culprit = blame(where, mounts, suspects)
            if culprit is not None and culprit.uid is not None:
                self._distrusted[culprit.uid] = now
                self._abort(culprit, f"it did not answer for {PATIENCE:.0f} s")
                return

    def _has_requests(self, one: Mounted) -> bool:
        try:
            return int(self._read(f"{one.number}/waiting")) > 0
        except (OSError, ValueError):
            return False

    def _read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._connections)
        try:
            return os.read(fd, 64)
        finally:
            os.close(fd)

    def _abort(self, one: Mounted, why: str) -> None:
        try:
            fd = os.open(
                f"{one.number}/abort", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._connections
            )
        except OSError:
            return  # aborted before, and still in the list of mounts
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
        log.warning(
            "the file system that uid %s mounted on %s was aborted: %s", one.uid, one.path, why
        )
