"""Opening what is there: never through a symbolic link in the last component unless asked to."""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from sharefs.fsops.base import Name, libc

_PIECE: Final = 1 << 20  # octets read at a time of a file that grows or shrinks


def open_dir(
    name: Name, *, dir_fd: int | None = None, follow: bool = False, search_only: bool = False
) -> int:
    """Open a directory for use as dir_fd.  The caller closes it.

    follow: a symbolic link in the last component is followed (symlink shares, linked roots).
    search_only: the directory need not be readable (mode --x); it cannot be listed then.
    """
    flags = (os.O_PATH if search_only else os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    if not follow:
        flags |= os.O_NOFOLLOW
    return os.open(name, flags, dir_fd=dir_fd)


@contextlib.contextmanager
def directory(
    name: Name, *, dir_fd: int | None = None, follow: bool = False, search_only: bool = False
) -> Iterator[int]:
    """open_dir() for the length of a `with`."""
    fd = open_dir(name, dir_fd=dir_fd, follow=follow, search_only=search_only)
    try:
        yield fd
    finally:
        os.close(fd)


def open_file(
    name: Name, flags: int = os.O_RDONLY, *, dir_fd: int | None = None, follow: bool = False
) -> int:
    """Open an existing regular file.  The caller closes it.

    Never creates, never truncates, never waits: a FIFO or device that someone put in a shared
    directory raises OSError(EINVAL) instead of hanging the process.
    """
    if flags & (os.O_CREAT | os.O_TRUNC):
        raise ValueError("open_file() opens what exists; use create_file() or replace_file()")
    return _opened(name, flags, dir_fd, follow)[0]


def _opened(name: Name, flags: int, dir_fd: int | None, follow: bool) -> tuple[int, os.stat_result]:
    extra = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(name, flags | extra, dir_fd=dir_fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(name))
    return fd, status


def read_file(name: Name, *, dir_fd: int | None = None, follow: bool = False) -> bytes:
    """The whole content of a regular file."""
    fd, status = _opened(name, os.O_RDONLY, dir_fd, follow)
    try:
        # One octet more than there should be: a short read is the end, and no second one is needed.
        octets = os.read(fd, status.st_size + 1)
        if len(octets) == status.st_size:
            return octets
        parts = [octets]
        while octets := os.read(fd, _PIECE):
            parts.append(octets)
        return b"".join(parts)
    finally:
        os.close(fd)


# openat2(2), linux/openat2.h
_SYS_OPENAT2: Final = 437  # on every architecture of Linux: numbers are common since 424
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
DIRECTORY_ONLY: Final = os.O_PATH | os.O_DIRECTORY


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(name: Name, flags: int, *, dir_fd: int) -> int:
    """Open something below a directory, no symbolic link anywhere, never out of it.

    The kernel enforces it (openat2(2), Linux 5.6).  Raises OSError: ELOOP for a link, EXDEV for a
    way out.  The caller closes it.
    """
    how = _OpenHow(
        flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )  # fmt: skip
    fd = libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(dir_fd), ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
    )  # fmt: skip
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(name))
    return int(fd)
