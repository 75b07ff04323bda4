"""From stat(2) to what the kernel caches, and for how long."""

import functools
import os
import stat
from typing import Final, cast

from sharefs.mount.nodes import Node
from sharefs.mount.protocol import ATTR_OUT, ENTRY_OUT

TIMEOUT: Final = 1.0  # seconds that the kernel may rely on what it was told; see docs/mount.md
_SECOND: Final = 1_000_000_000  # nanoseconds
_ATTRIBUTES: Final = 16  # numbers in fuse_attr


class Entry:
    """A node's attributes: those below, under the mount's own number.

    status: what stat(2) said below; None for a directory that exists in the mount alone.
    entry_timeout, attr_timeout: seconds.
    """

    __slots__ = ("attr_timeout", "entry_timeout", "st_ino", "st_mode", "status", "uid")

    def __init__(
        self, ino: int, status: os.stat_result | None, mode: int, timeout: float, uid: int = 0
    ) -> None:
        self.st_ino = ino
        self.status = status
        self.st_mode = mode
        self.uid = uid
        self.entry_timeout = timeout
        self.attr_timeout = timeout

    def attributes(self) -> tuple[int, ...]:
        """fuse_attr: ino size blocks, times, mode nlink uid gid rdev blksize flags."""
        status = self.status
        if status is None:
            return (self.st_ino, 0, 0, 0, 0, 0, 0, 0, 0, self.st_mode, 2, self.uid, 0, 0, 4096, 0)
        # A sequence of whole numbers, whole seconds too; typeshed says otherwise.
        whole = cast("tuple[int, ...]", status)
        _, _, _, links, uid, gid, size, atime, mtime, ctime = whole
        return (
            self.st_ino, size, status.st_blocks, atime, mtime, ctime,
            status.st_atime_ns - atime * _SECOND, status.st_mtime_ns - mtime * _SECOND,
            status.st_ctime_ns - ctime * _SECOND, self.st_mode, links, uid, gid,
            status.st_rdev & 0xFFFFFFFF, status.st_blksize, 0,
        )  # fmt: skip

    def entry_fields(self) -> tuple[int, ...]:
        """fuse_entry_out: nodeid generation, timeouts, attributes."""
        name, name_part = _parts(self.entry_timeout)
        attr, attr_part = _parts(self.attr_timeout)
        return self.st_ino, 0, name, attr, name_part, attr_part, *self.attributes()

    def entry_out(self) -> bytes:
        return ENTRY_OUT.pack(*self.entry_fields())

    def attr_out(self) -> bytes:
        return ATTR_OUT.pack(*_parts(self.attr_timeout), 0, *self.attributes())


@functools.cache
def _parts(timeout: float) -> tuple[int, int]:
    """Seconds and nanoseconds.  There are few timeouts altogether."""
    whole = int(timeout)
    return whole, int((timeout - whole) * _SECOND)


def entry_of(node: Node, status: os.stat_result, timeout: float = TIMEOUT) -> Entry:
    """The attributes of a node: those below, under the mount's own number."""
    return Entry(node.ino, status, status.st_mode, timeout)


def virtual_directory(node: Node, uid: int, mode: int, timeout: float) -> Entry:
    """A directory that exists in the mount alone."""
    return Entry(node.ino, None, stat.S_IFDIR | mode, timeout, uid)


@functools.cache
def nothing_out(timeout: float) -> bytes:
    """fuse_entry_out: there is no such name, and will not be for so many seconds."""
    name, name_part = _parts(timeout)
    return ENTRY_OUT.pack(0, 0, name, 0, name_part, 0, *(0,) * _ATTRIBUTES)
