"""What chattr(1) has set on a file that refuses changes which its mode allows."""

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Final

# linux/fcntl.h, linux/stat.h
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_NO_AUTOMOUNT: Final = 0x800
_AT_EMPTY_PATH: Final = 0x1000
_AT_STATX_DONT_SYNC: Final = 0x4000
_AT_FDCWD: Final = -100
_SIZE: Final = 256
_ATTRIBUTES: Final = slice(8, 16)
_IMMUTABLE: Final = 0x10
_APPEND: Final = 0x20

_libc: Final = ctypes.CDLL(None)
_statx: Final = getattr(_libc, "statx", None)  # C libraries of before 2018 lack it


@dataclass(frozen=True, slots=True)
class InodeFlags:
    """immutable: `chattr +i`, nobody changes it or what is in it.  append_only: `chattr +a`."""

    immutable: bool = False
    append_only: bool = False


NO_FLAGS: Final = InodeFlags()
_FLAGS: Final = {
    0: NO_FLAGS,
    _IMMUTABLE: InodeFlags(immutable=True),
    _APPEND: InodeFlags(append_only=True),
    _IMMUTABLE | _APPEND: InodeFlags(immutable=True, append_only=True),
}


def inode_flags(file: int | str) -> InodeFlags:
    """Of a path, links not followed, or an open descriptor.  None are set if that is not known.

    statx(2) opens nothing, so that anything may have the name, and asks no server.
    """
    if _statx is None:
        return NO_FLAGS
    place, path = (file, b"") if isinstance(file, int) else (_AT_FDCWD, os.fsencode(file))
    how = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    found = ctypes.create_string_buffer(_SIZE)
    if _statx(place, path, how, 0, found):
        return NO_FLAGS
    bits = int.from_bytes(found.raw[_ATTRIBUTES], sys.byteorder)
    return _FLAGS[bits & (_IMMUTABLE | _APPEND)]
