"""Inodes of open files and directories.  Only reads.

An audit asks for a few of each mailbox, so what is the same for a whole file system is asked once:
whether it keeps POSIX ACLs, and whether it is mounted read-only.
"""

import errno
import os
import stat
from typing import Final

from sharefs.permissions.access import Inode
from sharefs.permissions.inode_flags import inode_flags
from sharefs.permissions.posix_acl import ACCESS, DEFAULT, PosixAcl, parse_posix_acl
from sharefs.permissions.read_only import is_read_only

_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP})


class Inodes:
    """Reads inodes.  One for all roots of a process, so that each file system is probed once.

    without_acls: numbers (st_dev) of file systems that said that they keep no POSIX ACLs.
    """

    def __init__(self) -> None:
        self.without_acls: set[int] = set()
        self._keeping: set[int] = set()

    def of_fd(
        self, fd: int, path: str, *, read_only: dict[int, bool] | None = None
    ) -> tuple[Inode, tuple[int, int]]:
        """permissions.explain.inode_of() of an open file; its file system's number, and its own.

        read_only: what is known of file systems, by number, and what is found out; None where
        mounts of one may differ.  Raises OSError.
        """
        status = os.fstat(fd)
        device = status.st_dev
        access = default = None
        if device not in self.without_acls:
            access = self._acl(fd, ACCESS, device)
            if stat.S_ISDIR(status.st_mode) and device not in self.without_acls:
                default = self._acl(fd, DEFAULT, device)
        closed = None if read_only is None else read_only.get(device)
        if closed is None:
            closed = is_read_only(fd)
            if read_only is not None:
                read_only[device] = closed
        mode = status.st_mode
        flags = inode_flags(fd)
        inode = Inode(
            path, mode, status.st_uid, status.st_gid, access, default, closed, flags.immutable,
            flags.append_only,
        )  # fmt: skip
        return inode, (device, status.st_ino)

    def acl_of(self, path: str, device: int) -> PosixAcl | None:
        """The access ACL of a path, which may have gone away."""
        return None if device in self.without_acls else self._acl(path, ACCESS, device)

    def keeps_acls(self, device: int) -> bool | None:
        """None: nothing on that file system was looked at."""
        if device in self.without_acls:
            return False
        return True if device in self._keeping else None

    def _acl(self, file: int | str, attribute: str, device: int) -> PosixAcl | None:
        try:
            # Links in the place of message files stand for themselves; a descriptor is no link.
            octets = os.getxattr(file, attribute, follow_symlinks=isinstance(file, int))
        except OSError as error:
            if error.errno in _UNSUPPORTED and isinstance(file, int):
                self.without_acls.add(device)
            else:
                self._keeping.add(device)
            return None
        self._keeping.add(device)
        try:
            return parse_posix_acl(octets)
        except ValueError:
            return None
