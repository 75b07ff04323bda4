"""What tells later that nothing has happened to files and directories, for a few hundred octets."""

import os
from collections.abc import Iterable

from sharefs.store.interface import Memento

_Stamp = tuple[int, int, int, int]  # device, inode, size, mtime in ns


class Stamps(Memento):
    """The files as they are when this is made.  One that is missing should stay missing.

    Whoever makes it knows that a change since he looked would show (see directory.py).
    """

    __slots__ = ("_stamps",)

    def __init__(self, paths: Iterable[str]) -> None:
        self._stamps = tuple((path, _stamp_of(path)) for path in paths)

    def looks_unchanged(self) -> bool:
        try:
            return all(_stamp_of(path) == stamp for path, stamp in self._stamps)
        except OSError:
            return False


def _stamp_of(path: str) -> _Stamp | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
