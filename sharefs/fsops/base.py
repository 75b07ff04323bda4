"""What the modules of this package share: names, the C library, the refusal of a group."""

import ctypes
import errno
import os
from typing import Final

Name = str | os.PathLike[str]

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.renameat2.argtypes = [
    ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
]  # fmt: skip
AT_FDCWD: Final = -100  # linux/fcntl.h


def demand_zero(result: int, name: Name) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(name))


class GroupRefused(PermissionError):
    """The kernel refused a chgrp that the permissions of a mailbox ask for.

    The group is not among the process's.  Remedies: setgid on the origin directory, or the group
    in mail_access_groups.  origin: the directory whose group was to be copied.
    """

    def __init__(self, path: str, gid: int, origin: str, *, kept: bool = False) -> None:
        super().__init__(
            errno.EPERM,
            f"cannot give group {gid}, taken from {origin}, to a new {'file' if kept else 'name'}:"
            f" this process (euid {os.geteuid()}, egid {os.getegid()}) is not in that group;"
            f" set the setgid bit there (chmod g+s {origin}) or add the group to"
            " mail_access_groups",
            path,
        )
        self.gid = gid
        self.origin = origin
