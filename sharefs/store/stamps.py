"""What tells later that nothing has happened to files and directories, for a few hundred octets."""

import os
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from sharefs.store.boot import this_boot
from sharefs.store.interface import Memento, Stamp

# What changed this recently may change again within one timestamp of a file system that keeps
# whole seconds.
RECENT: Final = 2.0  # seconds

# Device, inode, size, mtime and ctime in ns.  Of these only the ctime cannot be set by a program.
_Stamp = tuple[int, int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def is_over(stamp: Stamp, now: float) -> bool:
    """Whether a later change will show, of a directory that had this stamp now or later.

    now: seconds since 1970, from before it was looked at.
    """
    return max(stamp[2:]) < (now - RECENT) * 1e9


class Stamps(Memento):
    """The files as they are when this is made.  One that is missing should stay missing.

    Whoever makes it knows that a change since he looked would show (see directory.py).
    """

    __slots__ = ("_stamps",)

    def __init__(self, paths: Iterable[str]) -> None:
        self._stamps = tuple((path, _file_stamp(path)) for path in paths)

    def looks_unchanged(self) -> bool:
        try:
            for path, stamp in self._stamps:
                if stamp is None:
                    if _file_stamp(path) is not None:
                        return False
                    continue
                status = os.lstat(path)
                if stamp != (
                    status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
                    status.st_ctime_ns,
                ):  # fmt: skip
                    return False
        except OSError:
            return False
        return True

    def fingerprint(self) -> bytes:
        """Not of the paths: they lead to the same files from everywhere."""
        if not this_boot():
            return b""
        text = repr((this_boot(), [stamp for _, stamp in self._stamps]))
        return blake2b(text.encode("ascii"), digest_size=16).digest()


def _file_stamp(path: str) -> _Stamp | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip
