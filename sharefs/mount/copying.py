"""Link or copy for link(2) and rename(2): a new file with its mailbox's permissions, or nothing.

The copy is complete, without a name or under a temporary one, before it gets its own: by link(2),
which replaces nothing, or by rename(2), which replaces at once.  Long copies belong into a thread;
these functions take descriptors that nobody else closes meanwhile.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sharefs import fsops
from sharefs.fsops import Entry, Ownership
from sharefs.permissions.access import Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import ACCESS, parse_posix_acl

IN_LINE: Final = 1 << 18  # octets; what is shorter is copied without a thread
COPY_MAX: Final = 64 << 20  # octets; beyond that link(2) and rename(2) answer EXDEV
RENAME_NOREPLACE: Final = 1  # linux/fs.h
TEMPORARY: Final = ".sharefs-copy."
OLD: Final = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Copy:
    """What is to be copied: an open file, and where to.  dir_fd: of the destination."""

    source_fd: int
    dir_fd: int
    name: str
    owned: Ownership


def copy_as_link(copy: Copy) -> None:
    """link(2)'s effect with another file.  Raises FileExistsError."""
    with _finished_copy(copy) as made:
        made.name_new()


def copy_as_rename(copy: Copy, source: Entry, flags: int) -> None:
    """rename(2)'s effect with another file: replaces at once; then the old name goes.

    If the old name cannot be removed the new one stays: a message twice rather than not at all.
    """
    with _finished_copy(copy) as made:
        try:
            made.name_new()
        except FileExistsError:
            if flags & RENAME_NOREPLACE:
                raise
            made.replace()
    if _same(source, copy.source_fd):
        fsops.unlink(source.name, dir_fd=source.dir_fd, missing_ok=True)


@dataclass(slots=True)
class _Made:
    """The complete copy.  fd: open.  temp: its name so far; "": it has none."""

    copy: Copy
    fd: int
    temp: str

    def name_new(self) -> None:
        """Raises FileExistsError."""
        if self.temp:
            fsops.rename_new(Entry(self.copy.dir_fd, self.temp), self._dest)
            self.temp = ""
        else:
            fsops.name_file(self.fd, self.copy.name, dir_fd=self.copy.dir_fd)

    def replace(self) -> None:
        """Only rename(2) replaces, and it wants a name."""
        if not self.temp:
            temp = fsops.temp_name(TEMPORARY)
            fsops.name_file(self.fd, temp, dir_fd=self.copy.dir_fd)
            self.temp = temp
        fsops.rename(Entry(self.copy.dir_fd, self.temp), self._dest)
        self.temp = ""

    @property
    def _dest(self) -> Entry:
        return Entry(self.copy.dir_fd, self.copy.name)


@contextlib.contextmanager
def _finished_copy(copy: Copy) -> Iterator[_Made]:
    """Without a name where the file system can: then nothing stays if this process is killed."""
    temp = ""
    fd = fsops.create_owned_unnamed(copy.dir_fd, copy.owned)
    if fd is None:
        temp = fsops.temp_name(TEMPORARY)
        fd = fsops.create_owned(temp, copy.owned, dir_fd=copy.dir_fd, flags=os.O_WRONLY)
    made = _Made(copy, fd, temp)
    try:
        fsops.copy_octets(copy.source_fd, fd)
        status = os.fstat(copy.source_fd)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        yield made
    finally:
        os.close(fd)
        if made.temp:
            fsops.unlink(made.temp, dir_fd=copy.dir_fd, missing_ok=True)


def is_copy_of_ours(name: str) -> bool:
    """Whether a daemon of this host calls its copies so before they are complete."""
    host = fsops.temp_start(0, TEMPORARY).removesuffix("0.")
    return re.fullmatch(re.escape(host) + r"[0-9]+\.[0-9a-f]{16}", name) is not None


def remove_old_copies(dir_fd: int, names: Iterable[str], now: float) -> None:
    """Remove what a daemon of this host left in a directory when it was killed, hours ago.

    names: what is listed there.  now: as time.time().  A name that is ours stands for nothing else
    (docs/mount.md), and no copy takes that long.
    """
    for name in names:
        if not name.startswith(TEMPORARY) or not is_copy_of_ours(name):
            continue
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and now - status.st_ctime > OLD:
                fsops.unlink(name, dir_fd=dir_fd, missing_ok=True)


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
