"""From stat(2) to what the kernel caches, and for how long."""

import os
import stat
from typing import Final

import pyfuse3

from sharefs.mount.nodes import Node

TIMEOUT: Final = 1.0  # seconds that the kernel may rely on what it was told; see docs/mount.md


def entry_of(
    node: Node, status: os.stat_result, timeout: float = TIMEOUT
) -> pyfuse3.EntryAttributes:
    """The attributes of a node: those below, under the mount's own number."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node.ino
    entry.entry_timeout = timeout
    entry.attr_timeout = timeout
    entry.st_mode = status.st_mode
    entry.st_nlink = status.st_nlink
    entry.st_uid = status.st_uid
    entry.st_gid = status.st_gid
    entry.st_rdev = status.st_rdev
    entry.st_size = status.st_size
    entry.st_blksize = status.st_blksize
    entry.st_blocks = status.st_blocks
    entry.st_atime_ns = status.st_atime_ns
    entry.st_mtime_ns = status.st_mtime_ns
    entry.st_ctime_ns = status.st_ctime_ns
    return entry


def virtual_directory(node: Node, uid: int, mode: int, timeout: float) -> pyfuse3.EntryAttributes:
    """A directory that exists in the mount alone."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node.ino
    entry.entry_timeout = timeout
    entry.attr_timeout = timeout
    entry.st_mode = stat.S_IFDIR | mode
    entry.st_nlink = 2
    entry.st_uid = uid
    return entry
