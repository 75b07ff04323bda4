"""Open files and directories.  A handle belongs to its opener, and nobody can have all of them."""

import errno
import os
from collections.abc import Iterator
from typing import Final

from sharefs.mount.caller import Caller
from sharefs.mount.nodes import Node

MAX_NAMES: Final = 500_000  # in unfinished listings of one uid; a single one may be longer
SHARE: Final = 4  # one uid may have this part of all handles; the superuser is not limited


class Handle:
    """One open(2).  fd: the file below.  flags: the access mode and O_APPEND.

    names: a directory's, as of the last time somebody read it from the start.
    content: what is written to a file whose new content is looked at before it counts.
    status: what fstat(2) said when it was opened.
    """

    __slots__ = (
        "caller", "changed", "content", "created", "fd", "flags", "names", "node", "status",
    )  # fmt: skip

    def __init__(
        self, fd: int, node: Node, caller: Caller, flags: int, created: bool = False
    ) -> None:
        self.fd = fd
        self.node = node
        self.caller = caller
        self.flags = flags
        self.created = created
        self.names: list[str] | None = None
        self.content: bytearray | None = None
        self.changed = False
        self.status: os.stat_result | None = None

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class Handles:
    """By number, which is that of the descriptor below.  limit: how many there can be at all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.by_number: dict[int, Handle] = {}
        self._count: dict[int, int] = {}  # by uid; a Counter's methods are Python
        self._names: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.by_number)

    def __getitem__(self, number: int) -> Handle:
        return self.by_number[number]

    def __iter__(self) -> Iterator[Handle]:
        return iter(list(self.by_number.values()))

    def demand_room(self, caller: Caller) -> None:
        """Raises OSError(EMFILE) if the caller has his share, (ENFILE) if there is no more."""
        if len(self.by_number) >= self._limit:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        uid = caller.uid
        if uid and self._count.get(uid, 0) >= self._limit // SHARE:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def add(self, handle: Handle) -> int:
        """Takes the descriptor over: close() closes it."""
        self.by_number[handle.fd] = handle
        uid, node = handle.caller.uid, handle.node
        self._count[uid] = self._count.get(uid, 0) + 1
        node.handles = node.handles | {handle.fd} if node.handles else frozenset((handle.fd,))
        return handle.fd

    def hold_names(self, handle: Handle, names: list[str]) -> None:
        """The names of a directory, for as long as they are being read; [] lets go of them.

        Raises OSError(ENOMEM) if the opener holds too many others: that is memory of the daemon's.
        """
        uid = handle.caller.uid
        held = self._names.get(uid, 0) - len(handle.names or ())
        if held and names and uid and held + len(names) > MAX_NAMES:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        handle.names = names or None
        self._names[uid] = held + len(names)
        if not self._names[uid]:
            self._names.pop(uid)

    def close(self, number: int) -> None:
        handle = self.by_number.pop(number)
        if handle.names is not None:
            self.hold_names(handle, [])
        handle.node.handles -= {number}
        uid = handle.caller.uid
        left = self._count.pop(uid) - 1
        if left:
            self._count[uid] = left
        os.close(number)

    def close_all(self) -> None:
        for number in list(self.by_number):
            self.close(number)
