"""fanotify(7): being told what others do to single files and directories.

Marks are on inodes, not on the whole file system: what nobody asked for through the mount costs
nobody anything.  A group may be opened without any capability (since Linux 5.13), and marked after
capabilities were given up.
"""

import ctypes
import enum
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = (
    ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p,
)  # fmt: skip
_libc.name_to_handle_at.argtypes = (
    ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int,
)  # fmt: skip

# <linux/fanotify.h>
_CLOEXEC: Final = 0x1
_NONBLOCK: Final = 0x2
_REPORT_FID: Final = 0x200
_REPORT_DIR_FID: Final = 0x400
_REPORT_NAME: Final = 0x800
_MARK_ADD: Final = 0x1
_MARK_REMOVE: Final = 0x2
_MARK_FLUSH: Final = 0x80
_FID: Final = 1
_DFID_NAME: Final = 2
_DFID: Final = 3

_AT_EMPTY_PATH: Final = 0x1000  # <fcntl.h>
_AT_FDCWD: Final = -100
_HANDLE: Final = struct.Struct("=Ii")  # struct file_handle: handle_bytes handle_type
_MAX_HANDLE: Final = 128  # MAX_HANDLE_SZ

_EVENT: Final = struct.Struct("=IBBHQii")  # len vers reserved metadata_len mask fd pid
_INFO: Final = struct.Struct("=BBH")  # type pad len
_FSID: Final = 8  # octets, between that and the handle

READ_SIZE: Final = 1 << 16
_LOCK: Final = b".lock\0"


class Mask(enum.IntFlag):
    """What happened."""

    MODIFY = 0x2
    ATTRIB = 0x4
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    Q_OVERFLOW = 0x4000
    ONDIR = 0x40000000


# A name in a marked directory means something else now.
NAMES: Final = int(Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO)
OF_DIRECTORIES: Final = int(NAMES | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONDIR)
# Who has a file open may change it without further notice: by a mapping (mmap(2)).
OF_FILES: Final = int(Mask.MODIFY | Mask.ATTRIB | Mask.OPEN | Mask.DELETE_SELF | Mask.MOVE_SELF)


@dataclass(frozen=True, slots=True)
class Event:
    """pid: who did it; 0 if we may not know.  key: what it happened to, as key_of() says.

    name: in the directory with that key; empty if it happened to the directory or file itself.
    """

    mask: int
    pid: int
    key: bytes = b""
    name: bytes = b""


class Group:
    """A queue of events.  Raises OSError if this host has none."""

    def __init__(self) -> None:
        flags = _CLOEXEC | _NONBLOCK | _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME
        self.fd = _checked(_libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC))

    def mark(self, fd: int, mask: int) -> None:
        """Tell what happens to the file behind a descriptor (O_PATH will do) from now on."""
        self._change(_MARK_ADD, fd, mask)

    def unmark(self, fd: int, mask: int) -> None:
        self._change(_MARK_REMOVE, fd, mask)

    def _change(self, how: int, fd: int, mask: int) -> None:
        path = b"/proc/self/fd/%d" % fd
        _checked(_libc.fanotify_mark(self.fd, how, mask, _AT_FDCWD, path))

    def flush(self) -> None:
        """Take all marks away."""
        _checked(_libc.fanotify_mark(self.fd, _MARK_FLUSH, 0, _AT_FDCWD, b"/"))

    def read(self, *, but_of: int = -1, ours: int = 0) -> list[Event]:
        """What has been queued, without waiting; at most READ_SIZE octets of it.  See parse()."""
        try:
            return list(parse(os.read(self.fd, READ_SIZE), but_of=but_of, ours=ours))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.fd)


def key_of(fd: int) -> bytes:
    """What events call the file behind a descriptor.  Raises OSError if it has no handle."""
    space = ctypes.create_string_buffer(_HANDLE.size + _MAX_HANDLE)
    _HANDLE.pack_into(space, 0, _MAX_HANDLE, 0)
    mount = ctypes.c_int()
    _checked(_libc.name_to_handle_at(fd, b"", space, ctypes.byref(mount), _AT_EMPTY_PATH))
    size, _ = _HANDLE.unpack_from(space)
    return space.raw[: _HANDLE.size + size]


def parse(octets: bytes, *, but_of: int = -1, ours: int = 0) -> Iterator[Event]:
    """Pure.  but_of: a process whose doings are passed over, quickly; but for those in the mask
    ours, and those with locks, which may be made elsewhere than was asked for (`dotlocks`)."""
    start = 0
    while start < len(octets):
        length, _, _, header, mask, _, pid = _EVENT.unpack_from(octets, start)
        end = start + length
        if pid == but_of and not mask & ours and octets.find(_LOCK, start, end) < 0:
            start = end
            continue
        records = _records(octets, start + header, end)
        start = end
        key, name = records.get(_DFID_NAME, (b"", b""))
        if mask & NAMES and key:
            yield Event(mask & NAMES, pid, key, name)
            mask &= ~NAMES
        if mask & ~Mask.ONDIR:
            if _FID in records:
                key = records[_FID][0]
            elif _DFID in records:
                key = records[_DFID][0]
            yield Event(mask, pid, key)


def _records(octets: bytes, start: int, end: int) -> dict[int, tuple[bytes, bytes]]:
    """Type -> key and name."""
    found = {}
    while start < end:
        kind, _, length = _INFO.unpack_from(octets, start)
        at = start + _INFO.size + _FSID
        size, _ = _HANDLE.unpack_from(octets, at)
        behind = at + _HANDLE.size + size
        name = octets[behind : start + length].split(b"\0", 1)[0]
        found[kind] = octets[at:behind], b"" if name == b"." else name
        start += length
    return found


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
