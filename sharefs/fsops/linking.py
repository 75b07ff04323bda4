"""One message in two places: a hard link where that is possible, else a copy."""

import enum
import errno
import os
from typing import Final, NamedTuple

from sharefs.fsops.base import Name
from sharefs.fsops.creating import create_file
from sharefs.fsops.opening import open_file
from sharefs.permissions.inherit import Creation

# link(2) refusals that mean "this file system or policy has no links here", so copying is the
# answer.  A full disk or an exceeded quota is not among them, nor a name that exists.
# EPERM is protected_hardlinks or a file system without links (proc(5), link(2)).
LINK_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}
)
COPY_CHUNK: Final = 1 << 20  # octets for each copy_file_range(2) or read(2)
# copy_file_range(2) cannot serve this pair of files; read and write can.
_RANGE_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)


class Entry(NamedTuple):
    """A name in a directory.  dir_fd None: the name is a path."""

    dir_fd: int | None
    name: Name


class Placed(enum.Enum):
    """How a message came to its second place."""

    LINKED = "linked"
    COPIED = "copied"


def link(source: Entry, dest: Entry) -> None:
    """Hard link, never through a symbolic link.  Raises FileExistsError."""
    os.link(
        source.name, dest.name, src_dir_fd=source.dir_fd, dst_dir_fd=dest.dir_fd,
        follow_symlinks=False,
    )  # fmt: skip


def link_or_copy(
    source: Entry, dest: Entry, creation: Creation, *, alike: bool, fsync: bool = False
) -> Placed:
    """Put source's content at dest, which must not exist (else FileExistsError).

    creation: of the destination mailbox.  alike: link_decision() allows one inode for both.
    A copy keeps the modification time, which is a Maildir message's INTERNALDATE.  Errors of
    link(2) outside LINK_REFUSED propagate: a full disk is not a reason to copy.
    """
    if alike:
        try:
            link(source, dest)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
        else:
            return Placed.LINKED
    copy_file(source, dest, creation, fsync=fsync)
    return Placed.COPIED


def copy_file(source: Entry, dest: Entry, creation: Creation, *, fsync: bool = False) -> None:
    """Copy content and modification time to a new file.  A failed copy leaves nothing behind."""
    from_fd = open_file(source.name, dir_fd=source.dir_fd)
    try:
        to_fd = create_file(dest.name, creation, dir_fd=dest.dir_fd, flags=os.O_WRONLY)
        try:
            copy_octets(from_fd, to_fd)
            status = os.fstat(from_fd)
            os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            if fsync:
                os.fsync(to_fd)
        except BaseException:
            os.unlink(dest.name, dir_fd=dest.dir_fd)
            raise
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def copy_octets(from_fd: int, to_fd: int) -> None:
    """Everything from the one's position on, to the other's."""
    try:
        while os.copy_file_range(from_fd, to_fd, COPY_CHUNK):
            pass
    except OSError as error:
        if error.errno not in _RANGE_REFUSED:
            raise
    # Also what some file systems answer with 0 octets for (proc, some network ones).
    while octets := os.read(from_fd, COPY_CHUNK):
        write_all(to_fd, octets)


def write_all(fd: int, octets: bytes | memoryview) -> None:
    """write(2) until everything is written."""
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view) :]
