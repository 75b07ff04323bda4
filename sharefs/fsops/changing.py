"""Permissions and owners of what exists already."""

import errno
import os
import stat

from sharefs.fsops.base import Name


def change_permissions(
    name: Name, *, mode: int | None = None, gid: int | None = None, dir_fd: int | None = None
) -> None:
    """chgrp and chmod an existing file or directory, never through a symbolic link.

    For administrators' commands only: mail programs never change what exists.  The group goes
    first, since a chgrp may clear setgid.
    """
    fd = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
        dir_fd=dir_fd,
    )  # fmt: skip
    try:
        if gid is not None:
            os.fchown(fd, -1, gid)
        if mode is not None:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def open_socket_to(name: Name, mode: int) -> None:
    """chmod a Unix socket that this process has bound: who may write it may connect (unix(7)).

    A socket cannot be opened for fchmod(2), and bind(2) masks with the umask.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), os.fspath(name))
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def give_away(fd: int, uid: int, gid: int) -> None:
    """chown an open file or directory.  Only the superuser can, for provisioning."""
    os.fchown(fd, uid, gid)
