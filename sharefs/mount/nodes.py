"""The inode table: what the kernel knows of, and under which names we can reach it again.

A node stands for one file or directory below.  It has no path: it knows directories, which are
nodes, and its name in each.  Names may go stale when somebody works beside the mount, so whoever
uses one compares device and inode (`gate`).
"""

import os
import stat
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

ROOT: Final = 1  # FUSE_ROOT_ID
_SLOT_SHIFT: Final = 48  # inode numbers below are that small, but for some XFS and overlay ones
_MAX_SLOT: Final = 0x7FFE
_OVERFLOW: Final = 0x7FFF << _SLOT_SHIFT
MAX_NAMES: Final = 8  # names remembered for a file with many links

Identity = tuple[int, int]  # st_dev, st_ino
_NONE_OPEN: Final[frozenset[int]] = frozenset()
NOWHERE: Final[Identity] = (-1, -1)  # of a directory that exists in the mount alone


class Node:
    """One file or directory that the kernel knows.

    ino: the number that the kernel and programs see.  identity: device and inode below, or
    NOWHERE.  names: (directory, name), the latest last.
    lookups: how often the kernel was told of it.  fd: an O_PATH descriptor, for directories while
    they are in use and for files that lost their last name.  handles: open descriptors below.
    scope: which part of the view it belongs to; an ino means something within one scope only.
    opener: opens a directory that is reached by other ways than through its names: a mailbox.
    place: what the view knows of it.
    watch, due: what `lasting` knows of it: its mark, and when asking again is a sign of interest
    (on time.monotonic()'s clock; 0: not asked yet).
    """

    __slots__ = (
        "due", "fd", "handles", "identity", "ino", "is_dir", "kind", "lookups", "names", "opener",
        "place", "scope", "stamp", "watch",
    )  # fmt: skip

    def __init__(self, ino: int, identity: Identity, scope: Hashable, is_dir: bool) -> None:
        self.ino = ino
        self.identity = identity
        self.scope = scope
        self.is_dir = is_dir
        self.kind = stat.S_IFDIR if is_dir else stat.S_IFREG  # S_IFMT
        self.names: tuple[tuple[Node, str], ...] = ()
        self.lookups = 0
        self.fd = -1
        self.handles: frozenset[int] = _NONE_OPEN
        self.stamp: tuple[int, ...] = ()  # what the kernel's cached pages were read from
        self.opener: Callable[[], int] | None = None
        self.place: Any = None
        self.watch: Any = None
        self.due = 0.0

    def is_same(self, status: os.stat_result) -> bool:
        """Whether stat(2) tells of this very file.  Inode numbers are used again, and the kernel
        gives a file up for good (EIO) that becomes one of another kind."""
        same = (status.st_dev, status.st_ino) == self.identity
        return same and stat.S_IFMT(status.st_mode) == self.kind

    def name_is(self, parent: "Node", name: str) -> None:
        """Remember where it was seen last."""
        key, names = (parent, name), self.names
        if not names:
            self.names = (key,)
        elif names[-1] != key:
            self.names = (*(one for one in names if one != key), key)[-MAX_NAMES:]

    def name_is_gone(self, parent: "Node", name: str) -> None:
        """It is not there any more, or means something else."""
        self.names = tuple(one for one in self.names if one != (parent, name))


Found = tuple[Node, os.stat_result | None]  # and what stat(2) said, if asked


class NodeTable:
    """Nodes by number and by what they stand for.

    let_go: told of a node with a watch that the kernel forgets, or that becomes another file's.
    """

    let_go: Callable[[Node], object] = staticmethod(lambda node: None)

    def __init__(self, root: Node) -> None:
        self.by_number: dict[int, Node] = {ROOT: root}  # those that the kernel knows
        self.by_identity: dict[tuple[Hashable, Identity], Node] = {}
        self.slots: dict[tuple[Hashable, int], int] = {}
        self._overflow = 0
        root.lookups = 1
        self.by_identity[root.scope, root.identity] = root
        self.slots[root.scope, root.identity[0]] = 0

    def __len__(self) -> int:
        return len(self.by_number)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self.by_number.values()))

    def __getitem__(self, ino: int) -> Node:
        return self.by_number[ino]

    def get(self, ino: int) -> Node | None:
        return self.by_number.get(ino)

    def node_for(self, scope: Hashable, status: os.stat_result) -> Node:
        """The node of a file below, made if the kernel does not know it yet."""
        return self.node_at(scope, (status.st_dev, status.st_ino), stat.S_IFMT(status.st_mode))

    def node_at(self, scope: Hashable, identity: Identity, kind: int) -> Node:
        """The same, from what stat(2) said of it.  kind: S_IFMT."""
        node = self.by_identity.get((scope, identity))
        if node is not None and node.kind == kind:
            return node
        node = Node(self._number(scope, identity), identity, scope, kind == stat.S_IFDIR)
        node.kind = kind
        self.by_identity[scope, identity] = node
        return node

    def virtual(self, scope: Hashable) -> Node:
        """A directory that nothing below stands for, the only one of its scope."""
        node = self.by_identity.get((scope, NOWHERE))
        if node is None:
            node = Node(self._number(scope, NOWHERE), NOWHERE, scope, True)
            self.by_identity[scope, NOWHERE] = node
        return node

    def _number(self, scope: Hashable, identity: Identity) -> int:
        """The number below where that is possible: it is the same after a remount, and programs
        that remember numbers (rsync -H) see one number for one file."""
        device, inode = identity
        slot = self.slots.get((scope, device))
        if slot is None and len(self.slots) < _MAX_SLOT:
            slot = self.slots[scope, device] = len(self.slots)
        if slot is not None and 1 < inode < 1 << _SLOT_SHIFT:
            number = slot << _SLOT_SHIFT | inode
            if number not in self.by_number:
                return number
        self._overflow += 1
        return _OVERFLOW + self._overflow

    def known(self, node: Node) -> None:
        """The kernel is being told of it once more."""
        if not node.lookups:
            self.by_number[node.ino] = node
        node.lookups += 1

    def forget(self, ino: int, count: int) -> Node | None:
        """The kernel forgot it count times.  Returns the node if it is gone for good now."""
        node = self.by_number.get(ino)
        if node is None or ino == ROOT:
            return None
        node.lookups -= count
        if node.lookups > 0:
            return None
        node.lookups = 0
        if node.watch is not None:
            self.let_go(node)
        del self.by_number[ino]
        self._drop_identity(node)
        return node

    def retarget(self, node: Node, status: os.stat_result) -> None:
        """The kernel's number now stands for another file below: a moved message was copied."""
        if node.watch is not None:
            self.let_go(node)
        self._drop_identity(node)
        node.identity = (status.st_dev, status.st_ino)
        self.by_identity[node.scope, node.identity] = node

    def detach(self, node: Node) -> None:
        """What was found under this identity is another file: an inode number was used again."""
        self._drop_identity(node)

    def _drop_identity(self, node: Node) -> None:
        key = (node.scope, node.identity)
        if self.by_identity.get(key) is node:
            del self.by_identity[key]
