"""Which kind of file system is below an open descriptor, and what follows from that.

Network file systems may say at close(2) that the disk is full; those on this machine's own disks
never do, and asking them costs every close(2) a request.  They are also the ones where nobody
changes anything without this machine's kernel.

Not looked up by st_dev: on Btrfs each subvolume has a number of its own, which mountinfo does not
have; of an overlay each layer.  The descriptor's mount (proc_pid_fdinfo(5)) is certain.
"""

import os
import select
import weakref
from pathlib import Path
from typing import Final

LOCAL: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "tmpfs", "xfs", "zfs"})
_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_CHANGED: Final = select.POLLPRI | select.POLLERR  # of mountinfo: proc_pid_mountinfo(5)


class Devices:
    """What was found, by st_dev, until something is mounted or unmounted: numbers are used again.

    mountinfo: the file proc(5) describes.  It stays open from the first question for as long as
    there is this object.
    """

    def __init__(self, mountinfo: Path = _MOUNTINFO) -> None:
        self._mountinfo = mountinfo
        self._known: dict[int, str] = {}
        self._news: select.poll | None = None

    def is_local(self, device: int, fd: int) -> bool:
        """Whether it is certain.  Arguments as of kind()."""
        return self.kind(device, fd) in LOCAL

    def kind(self, device: int, fd: int) -> str:
        """The type of the file system that a descriptor is on; empty if it is not known.

        device: st_dev of that descriptor.
        """
        if self._has_news():
            self._known.clear()
        found = self._known.get(device)
        if found is None:
            found = self._known[device] = type_of(fd, self._mountinfo)
        return found

    def kind_at(self, path: Path) -> str:
        """The same of a path.  Raises OSError."""
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            return self.kind(os.fstat(fd).st_dev, fd)
        finally:
            os.close(fd)

    def _has_news(self) -> bool:
        """Whether mounts have changed since this was asked last."""
        if self._news is None:
            fd = os.open(self._mountinfo, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, fd)
            self._news = select.poll()
            self._news.register(fd, _CHANGED)
        return bool(self._news.poll(0))


def type_of(fd: int, mountinfo: Path = _MOUNTINFO) -> str:
    """The type of the file system that a descriptor is on; empty if it is on no mount there."""
    number = mount_id(fd)
    for line in mountinfo.read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.partition(" ")[0] == number:
            return after.partition(" ")[0]
    return ""


def mount_id(fd: int) -> str:
    """The number of the mount that a descriptor is on, as mountinfo has it; empty if unknown."""
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text("ascii")
    except OSError:
        return ""
    return next((ln.split()[1] for ln in text.splitlines() if ln.startswith("mnt_id:")), "")
