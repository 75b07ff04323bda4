"""Making things that belong to somebody else: the superuser on behalf of a caller."""

import contextlib
import ctypes
import errno
import os
import stat
from dataclasses import dataclass

from sharefs.fsops.base import AT_FDCWD, Name, libc
from sharefs.fsops.creating import NO_TMPFILE
from sharefs.fsops.linking import Entry
from sharefs.fsops.opening import directory

#
# For a superuser who makes things that belong to somebody else (the mount).  What is made belongs
# to us until it is finished, so whoever may write to the directory cannot get hold of it earlier;
# owner, group and mode are given through a descriptor, never through the name again.


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a new file or directory ends up with.  mode: permission bits, setgid included."""

    uid: int
    gid: int
    mode: int


def create_owned(
    name: Name, owned: Ownership, *, dir_fd: int | None = None, flags: int = os.O_RDWR
) -> int:
    """Create a file that did not exist, for somebody else, and open it.  The caller closes it.

    Raises FileExistsError.  Any other failure removes the file again.
    """
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
    try:
        _hand_over(fd, owned)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=dir_fd)
        raise
    return fd


def create_owned_unnamed(dir_fd: int, owned: Ownership) -> int | None:
    """create_unnamed() for somebody else: a file in this directory that name_file() names."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in NO_TMPFILE:
            return None
        raise
    try:
        _hand_over(fd, owned)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_owned_dir(name: Name, owned: Ownership, *, dir_fd: int | None = None) -> None:
    """Make a directory for somebody else.  Raises FileExistsError."""
    os.mkdir(name, 0o700, dir_fd=dir_fd)
    try:
        with directory(name, dir_fd=dir_fd) as fd:
            _demand_ours(os.fstat(fd), name)
            _hand_over(fd, owned)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=dir_fd)
        raise


def make_owned_symlink(
    target: Name, name: Name, owned: Ownership, *, dir_fd: int | None = None
) -> None:
    """Make a symbolic link for somebody else.  Raises FileExistsError.  Links have no mode."""
    os.symlink(target, name, dir_fd=dir_fd)
    _finish_special(name, owned, dir_fd, stat.S_IFLNK)


def make_owned_node(
    name: Name, kind: int, owned: Ownership, *, device: int = 0, dir_fd: int | None = None
) -> None:
    """mknod(2) for somebody else.  kind: S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK."""
    os.mknod(name, kind | 0o600, device, dir_fd=dir_fd)
    _finish_special(name, owned, dir_fd, kind)


def _finish_special(name: Name, owned: Ownership, dir_fd: int | None, kind: int) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        _demand_ours(status, name)
        if stat.S_IFMT(status.st_mode) != kind or status.st_nlink != 1:
            raise PermissionError(errno.EPERM, "somebody put something else in its place")
        if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
            chown_pinned(fd, owned.uid, owned.gid)
        if kind != stat.S_IFLNK:
            chmod_pinned(fd, owned.mode)
    finally:
        os.close(fd)


def _hand_over(fd: int, owned: Ownership) -> None:
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
        os.fchown(fd, owned.uid, owned.gid)
    os.fchmod(fd, owned.mode)  # after fchown(2), which clears setgid


def _demand_ours(status: os.stat_result, name: Name) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(
            errno.EPERM, "somebody put something else in its place", os.fspath(name)
        )


def chown_pinned(fd: int, uid: int, gid: int) -> None:
    """chown(2) of what an O_PATH descriptor stands for, a symbolic link itself included.

    -1 leaves an id as it is.  /proc is the way because fchown(2) refuses O_PATH.
    """
    os.chown(f"/proc/self/fd/{fd}", uid, gid)


def chmod_pinned(fd: int, mode: int) -> None:
    """chmod(2) of what an O_PATH descriptor stands for."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def drop_set_id(fd: int) -> None:
    """Take setuid and setgid from an open file, as write(2) does for those without CAP_FSETID."""
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def truncate_pinned(fd: int, length: int) -> None:
    """truncate(2) of the regular file that an O_PATH descriptor stands for."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.truncate(f"/proc/self/fd/{fd}", length)


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) of an open file, with its modes: keep the size, punch a hole, and so on."""
    if libc.fallocate(fd, mode, offset, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def rename_flags(source: Entry, dest: Entry, flags: int) -> None:
    """renameat2(2) with its flags: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2.  No substitutes."""
    if not flags:
        os.rename(source.name, dest.name, src_dir_fd=source.dir_fd, dst_dir_fd=dest.dir_fd)
        return
    result = libc.renameat2(
        AT_FDCWD if source.dir_fd is None else source.dir_fd, os.fsencode(source.name),
        AT_FDCWD if dest.dir_fd is None else dest.dir_fd, os.fsencode(dest.name), flags,
    )  # fmt: skip
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(source.name), None, os.fspath(dest.name))
