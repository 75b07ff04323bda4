"""Which file systems below keep what they are given without telling of errors at close(2).

Network file systems may say at close(2) that the disk is full; those on this machine's own disks
never do, and asking them costs every close(2) a request.
"""

import os
from pathlib import Path
from typing import Final

LOCAL: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "tmpfs", "xfs", "zfs"})


class Devices:
    """By st_dev.  mountinfo: the file proc(5) describes."""

    def __init__(self, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._mountinfo = mountinfo
        self._known: dict[int, str] = {}

    def is_local(self, device: int) -> bool:
        """Whether it is certain.  What is in no line, a subvolume say, is not."""
        return self.kind(device) in LOCAL

    def kind(self, device: int) -> str:
        """As type_of()."""
        found = self._known.get(device)
        if found is None:
            found = self._known[device] = type_of(device, self._mountinfo)
        return found


def type_of(device: int, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The file system's type; empty if nothing with this device number is mounted."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == number:
            return after.split(" ")[0]
    return ""
