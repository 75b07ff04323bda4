"""The process that unmounts when the daemon ends, however it ends.

Unmounting takes CAP_SYS_ADMIN, which a daemon that reads what users wrote should not have.  So a
child keeps just that, does nothing but wait for the daemon's end of a pipe to close, unmounts, and
ends.  A daemon that was killed leaves no dead mount behind either.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from sharefs.identity.privileges import Capability, keep_capabilities

_MNT_DETACH: Final = 2  # sys/mount.h: out of the tree at once, whoever has files open
_UMOUNT_NOFOLLOW: Final = 8
_MOUNTED: Final = b"m"


class Unmounter:
    """Start it before the mount and before any thread; tell it when there is something to do."""

    def __init__(self, mountpoint: Path) -> None:
        reader, self._writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            status = os.EX_SOFTWARE
            try:
                status = _wait_and_unmount(mountpoint, reader)
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


def _wait_and_unmount(mountpoint: Path, reader: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon's to obey; we follow its end
    os.dup2(reader, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 1 << 16)
    os.chdir("/")
    keep_capabilities([Capability.SYS_ADMIN])
    told = b""
    while part := os.read(0, 16):
        told += part
    if not told:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.umount2(os.fsencode(mountpoint), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    return 0 if result == 0 else os.EX_OSERR
