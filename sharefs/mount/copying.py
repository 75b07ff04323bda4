"""Link or copy for link(2) and rename(2): a new file with its mailbox's permissions, or nothing.

The copy is complete under a temporary name before it gets its own, by link(2), which replaces
nothing, or by rename(2), which replaces at once.  Long copies belong into a thread; these
functions take descriptors that nobody else closes meanwhile.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sharefs import fsops
from sharefs.fsops import Entry, Ownership
from sharefs.permissions.access import Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import ACCESS, parse_posix_acl

IN_LINE: Final = 1 << 18  # octets; what is shorter is copied without a thread
COPY_MAX: Final = 64 << 20  # octets; beyond that link(2) and rename(2) answer EXDEV
RENAME_NOREPLACE: Final = 1  # linux/fs.h


@dataclass(frozen=True, slots=True)
class Copy:
    """What is to be copied: an open file, and where to.  dir_fd: of the destination."""

    source_fd: int
    dir_fd: int
    name: str
    owned: Ownership


def copy_as_link(copy: Copy) -> None:
    """link(2)'s effect with another file.  Raises FileExistsError."""
    with _finished_copy(copy) as temp:
        fsops.rename_new(temp, Entry(copy.dir_fd, copy.name))


def copy_as_rename(copy: Copy, source: Entry, flags: int) -> None:
    """rename(2)'s effect with another file: replaces at once; then the old name goes.

    If the old name cannot be removed the new one stays: a message twice rather than not at all.
    """
    with _finished_copy(copy) as temp:
        dest = Entry(copy.dir_fd, copy.name)
        if flags & RENAME_NOREPLACE:
            fsops.rename_new(temp, dest)
        else:
            fsops.rename(temp, dest)
    if _same(source, copy.source_fd):
        fsops.unlink(source.name, dir_fd=source.dir_fd, missing_ok=True)


@contextlib.contextmanager
def _finished_copy(copy: Copy) -> Iterator[Entry]:
    temp = Entry(copy.dir_fd, fsops.temp_name(".sharefs-copy."))
    fd = fsops.create_owned(temp.name, copy.owned, dir_fd=copy.dir_fd, flags=os.O_WRONLY)
    try:
        try:
            fsops.copy_octets(copy.source_fd, fd)
            status = os.fstat(copy.source_fd)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)
        yield temp
    except BaseException:
        fsops.unlink(temp.name, dir_fd=copy.dir_fd, missing_ok=True)
        raise


def _same(entry: Entry, fd: int) -> bool:
    try:
        status = os.stat(entry.name, dir_fd=entry.dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (status.st_dev, status.st_ino) == (mine.st_dev, mine.st_ino)


def may_read(fd: int, who: Credentials) -> bool:
    """Whether the kernel would let who read the file: a copy must not disclose what a link or a
    rename leaves closed.  fd: O_PATH."""
    status = os.fstat(fd)
    acl = None
    try:
        acl = parse_posix_acl(os.getxattr(f"/proc/self/fd/{fd}", ACCESS))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
    inode = Inode("", status.st_mode, status.st_uid, status.st_gid, acl)
    return stat.S_ISREG(status.st_mode) and bool(check(inode, who, Want.READ))
