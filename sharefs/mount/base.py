"""What the handlers of all themes share."""

import errno
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from sharefs.mount.caller import Caller
from sharefs.mount.entries import Entry
from sharefs.mount.gate import Gate, stale
from sharefs.mount.handles import Handles
from sharefs.mount.locks import Locks
from sharefs.mount.mirror import Acting
from sharefs.mount.nodes import Node, NodeTable
from sharefs.mount.waiting import Pause

Body = memoryview  # valid until the handler returns or waits
Octets = bytes | memoryview
# The reply behind its header; None: there is none; or what becomes a reply after long work.
Answer = Octets | None | Coroutine[Pause[Any], Any, Octets]

NAME_MAX: Final = 255  # limits.h
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_NO_NAMES: Final = frozenset({"", ".", ".."})

DONE: Final = b""  # success, with nothing to tell


class Handler(Protocol):
    """Answers one kind of request.  Raises OSError or SharingError for a refusal."""

    def __call__(self, ino: int, caller: Caller, body: Body, /) -> Answer: ...


class Kernel(Protocol):
    """What handlers may tell the kernel without being asked."""

    def store(self, ino: int, octets: bytes) -> None:
        """Put a file's content into the page cache."""


class Base:
    """A tree and the handlers' ways into it.  Handlers only translate: caller, node, answer.

    kernel: None before the kernel has introduced itself.
    drops_set_id: the kernel says with each write whether setuid and setgid go.
    locks: None: the kernel keeps them, for programs on the mount alone.
    """

    kernel: Kernel | None = None
    drops_set_id = False
    locks: Locks | None = None

    def __init__(
        self,
        tree: Acting,
        handles: Handles,
        *,
        enable_acl: bool = False,
        locks: Locks | None = None,
    ) -> None:
        self.tree = tree
        self.table: NodeTable = tree.table
        self.gate: Gate = tree.gate
        self.handles = handles
        self.waiting = tree.waiting
        self.enable_acl = enable_acl
        self.locks = locks

    def start(self) -> None:
        """Before the first request, when this process has given up what it does not need."""
        if self.locks is not None:
            self.locks.start()

    def let_go(self, fh: int) -> None:
        """Nobody has it open any more."""
        self.handles.close(fh)

    def node(self, ino: int) -> Node:
        """Raises OSError(ESTALE) for a number we never gave out, or have forgotten."""
        node = self.table.get(ino)
        if node is None:
            raise stale()
        return node

    def known(self, node: Node, entry: Entry) -> Entry:
        """The kernel is told of the node by this answer, and will say when it forgets it."""
        self.table.known(node)
        return entry


def name_in(octets: memoryview) -> str:
    """The name at the end of a request.  Raises OSError(ENAMETOOLONG) as the file system below
    would, (EINVAL) for what is no name."""
    if len(octets) > NAME_MAX + 1:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    name = str(octets[:-1], _ENCODING, _ERRORS)
    if "/" in name or "\0" in name or name in _NO_NAMES:
        raise OSError(errno.EINVAL, "not a name")
    return name


def names_in(octets: Octets) -> tuple[bytes, bytes]:
    """Two of them."""
    first, _, rest = bytes(octets).partition(b"\0")
    return first, rest.removesuffix(b"\0")


def demand_name(name: bytes) -> str:
    """name_in(), for one that came with another."""
    return name_in(memoryview(name + b"\0"))
