"""The process that unmounts when the daemon ends, however it ends.

Unmounting takes CAP_SYS_ADMIN, which a daemon that reads what users wrote should not have.  So a
child keeps just that, does nothing but wait for the daemon's end of a pipe to close, unmounts, and
ends.  A daemon that was killed leaves no dead mount behind either.

The pipe stays open while any thread of the daemon lives, and a killed one may live on in the
kernel: it tells of a name (`telling`) in a directory that is locked by a request which nobody
answers any more.  So the death of the first thread is heard of too, and requests are given up.
"""

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from sharefs.identity.privileges import Capability, keep_capabilities

_MNT_DETACH: Final = 2  # sys/mount.h: out of the tree at once, whoever has files open
_UMOUNT_NOFOLLOW: Final = 8
_MNT_FORCE: Final = 1  # requests that wait for an answer get ECONNABORTED
_PR_SET_PDEATHSIG: Final = 1  # sys/prctl.h
_MOUNTED: Final = b"m"


class Unmounter:
    """Start it before the mount and before any thread; tell it when there is something to do.

    In the thread that lives as long as the daemon does.
    """

    def __init__(self, mountpoint: Path) -> None:
        reader, self._writer = os.pipe()
        daemon = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            status = os.EX_SOFTWARE
            try:
                status = _wait_and_unmount(mountpoint, reader, daemon)
            finally:
                os._exit(status)
        os.close(reader)

    def mounted(self) -> None:
        """From now on there is a mount to be removed."""
        os.write(self._writer, _MOUNTED)

    def end(self) -> None:
        """Unmount now, and wait for it."""
        os.close(self._writer)
        os.waitpid(self._pid, 0)


class _Died(Exception):
    """The daemon did."""


class _Hearing:
    """Raises _Died once.

    The kernel tells of the death of each of the daemon's threads that the child passes to.
    """

    def __init__(self) -> None:
        self._heard = False

    def __call__(self, number: int, frame: object) -> None:
        if not self._heard:
            self._heard = True
            raise _Died


def _wait_and_unmount(mountpoint: Path, reader: int, daemon: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon's to obey; we follow its end
    os.dup2(reader, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 1 << 16)
    os.chdir("/")
    keep_capabilities([Capability.SYS_ADMIN])
    libc = ctypes.CDLL(None, use_errno=True)
    # Filled by the kernel, so that no signal can come between reading and knowing.
    told, how = bytearray(1), _MNT_DETACH | _UMOUNT_NOFOLLOW
    try:
        signal.signal(signal.SIGUSR1, _Hearing())
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() != daemon:
            raise _Died
        while os.readv(0, [told]):
            pass
    except _Died:
        how |= _MNT_FORCE
        os.set_blocking(0, False)
        with contextlib.suppress(BlockingIOError):
            os.readv(0, [told])
    if not any(told):
        return 0
    result = libc.umount2(os.fsencode(mountpoint), how)
    return 0 if result == 0 else os.EX_OSERR
