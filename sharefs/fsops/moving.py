"""Renaming, and replacing a file whole or not at all."""

import contextlib
import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable
from typing import Final

from sharefs.fsops.base import AT_FDCWD, Name, libc
from sharefs.fsops.creating import create_file, temp_name
from sharefs.fsops.linking import Entry, link, write_all
from sharefs.fsops.opening import open_dir
from sharefs.fsops.removing import exists
from sharefs.permissions.inherit import Creation

_RENAME_NOREPLACE: Final = 1  # linux/fs.h


def rename(source: Entry, dest: Entry) -> None:
    """rename(2): atomically replaces a file of that name.  Mailboxes use rename_new()."""
    os.rename(source.name, dest.name, src_dir_fd=source.dir_fd, dst_dir_fd=dest.dir_fd)


def renamer(from_fd: int, to_fd: int) -> Callable[[str, str], None]:
    """rename() for many names of the same two directories."""
    return functools.partial(os.rename, src_dir_fd=from_fd, dst_dir_fd=to_fd)


def rename_new(source: Entry, dest: Entry) -> None:
    """Rename, but raise FileExistsError rather than replace anything.

    Where the file system lacks RENAME_NOREPLACE, files go by link(2) and unlink(2), which is as
    safe; a directory is then only checked first.
    """
    result = libc.renameat2(
        AT_FDCWD if source.dir_fd is None else source.dir_fd, os.fsencode(source.name),
        AT_FDCWD if dest.dir_fd is None else dest.dir_fd, os.fsencode(dest.name),
        _RENAME_NOREPLACE,
    )  # fmt: skip
    if result == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), os.fspath(source.name), None, os.fspath(dest.name))
    status = os.stat(source.name, dir_fd=source.dir_fd, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        link(source, dest)
        os.unlink(source.name, dir_fd=source.dir_fd)
        return
    if exists(dest.name, dir_fd=dest.dir_fd):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(dest.name))
    rename(source, dest)


def replace_file(
    name: Name,
    content: bytes,
    creation: Creation,
    *,
    dir_fd: int | None = None,
    fsync: bool = True,
    group_required: bool = False,
) -> None:
    """Replace a file's content at once, or create it: readers see the old or the new, whole.

    The new file has the creation's permissions.  fsync: the file and its directory are on disk
    when this returns.  Callers hold whatever lock the format asks for.
    """
    put_file(name, content, creation, dir_fd=dir_fd, fsync=fsync, group_required=group_required)
    if fsync:
        fsync_dir(os.path.dirname(os.fspath(name)) or ".", dir_fd=dir_fd)


def put_file(
    name: Name,
    content: bytes,
    creation: Creation,
    *,
    dir_fd: int | None = None,
    fsync: bool = True,
    group_required: bool = False,
    mtime: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """As replace_file(), but its new name need not be on disk when this returns: see fsync_dir().

    mtime: seconds since 1970.  ready: called just before the file takes its place; what it raises
    passes through, and nothing has happened.
    """
    # Not a file without a name until then: Btrfs flushes nothing that could be found of one.
    temp = os.path.join(os.path.dirname(os.fspath(name)), temp_name())
    fd = create_file(temp, creation, dir_fd=dir_fd, group_required=group_required)
    try:
        try:
            write_all(fd, content)
            if mtime is not None:
                os.utime(fd, (mtime, mtime))
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        ready()
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=dir_fd)
        raise


def fsync_dir(name: Name = ".", *, dir_fd: int | None = None) -> None:
    """Make created, renamed and removed names durable.  A directory that only allows search, or
    a file system that cannot, is passed over: there is nothing better to do."""
    try:
        fd = open_dir(name, dir_fd=dir_fd, follow=True)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):
            raise
    finally:
        os.close(fd)
