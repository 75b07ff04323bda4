"""The mirror: one directory as it is.  Also what both trees have in common.

Who may do what is decided by the kernel here (default_permissions, POSIX ACLs included), with the
caller's true credentials.  Ours are owner, group and mode of what is new, and link or copy.  The
view overrides the may_* methods, which refuse by raising, and the way in which names are found.
"""

import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

from sharefs.fsops import Ownership
from sharefs.mount.caller import Caller, Groups
from sharefs.mount.changes import Change
from sharefs.mount.copying import TEMPORARY, remove_old_copies
from sharefs.mount.creation import MAIL_FOLDERS, Place, ownership
from sharefs.mount.devices import Devices
from sharefs.mount.entries import TIMEOUT, Entry, entry_of
from sharefs.mount.gate import Gate
from sharefs.mount.handles import Handle
from sharefs.mount.leave import Acts, KnownName, Leave, Making, Tell
from sharefs.mount.locks import Target
from sharefs.mount.nodes import NOWHERE, ROOT, Node, NodeTable
from sharefs.mount.silent import Silent
from sharefs.permissions.inherit import Facts

# The kernel has decided by permissions and ACLs; names of locks may stand for others (`dotlocks`).
ALL_BUT_LOCKS: Final = ~(Acts.LOCKS | Acts.LASTS | Acts.PRETEND)
OF_MESSAGES: Final = Acts.UNLOCKED | Acts.SIBLINGS  # in cur, new and tmp alone
LEAVE_TIME: Final = 1.0  # seconds; then it is asked whether that is still so
MIRROR: Final = "mirror"  # the one scope of a mirror


T = TypeVar("T")


class Waiting(Protocol):
    """How to wait while other requests are answered.  asker: the uid that has to wait.

    Both raise OSError(EAGAIN) if that uid has too many requests waiting.
    """

    def run_long(self, work: Callable[[], T], asker: int) -> Awaitable[T]:
        """What may take long, in a thread."""

    def wait_for(
        self,
        future: "Future[None]",
        asker: int,
        *,
        on_interrupt: Callable[[], object] | None = None,
    ) -> Awaitable[None]:
        """What other threads do.  on_interrupt: called when a signal came for whoever waits."""


class Tree:
    """See the module.  root_fd: an open directory, taken over."""

    def __init__(self, root_fd: int, waiting: Waiting, *, timeout: float = TIMEOUT) -> None:
        status = os.fstat(root_fd)
        root = Node(ROOT, (status.st_dev, status.st_ino), MIRROR, True)
        root.fd = root_fd
        self.timeout = timeout
        self.waiting = waiting
        self.groups = Groups()
        self.table = NodeTable(root)
        self.gate = Gate()
        self.devices = Devices()
        self.silent = Silent()
        self._page = memoryview(b"")  # of long reads
        self.answered_without_asking: Callable[[], int] = lambda: 0  # requests

    # --- finding -------------------------------------------------------------------------

    def find(self, parent: Node, name: str, caller: Caller) -> tuple[Node, os.stat_result | None]:
        """The node of a name, and what stat(2) said if asked.  Raises FileNotFoundError."""
        status = self.status_at(self.gate.directory(parent), name)
        return self.node_of(parent, name, status), status

    def status_at(self, dir_fd: int, name: str) -> os.stat_result:
        """lstat(2) of a name.  Raises OSError(ETIMEDOUT) if what is mounted on it is silent."""
        self.silent.demand_name(dir_fd, name)
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    def node_of(self, parent: Node, name: str, status: os.stat_result) -> Node:
        node = self.table.node_for(parent.scope, status)
        node.name_is(parent, name)
        return node

    def entry(self, node: Node, caller: Caller, status: os.stat_result | None = None) -> Entry:
        """What the kernel is told of a node."""
        return entry_of(node, status or self.gate.status(node), self.timeout)

    def found(
        self, parent: Node, name: str, node: Node, status: os.stat_result | None, caller: Caller,
        *, listed: bool = False,
    ) -> Entry:  # fmt: skip
        """entry(), of what find() found.  listed: among others."""
        return self.entry(node, caller, status)

    def asked(self, node: Node, caller: Caller) -> Entry:
        """entry(), of what the kernel knows already."""
        return self.entry(node, caller)

    def missing(self, parent: Node, name: str, caller: Caller) -> float:
        """For how many seconds the kernel may remember that find() found nothing."""
        return 0.0

    def names(self, handle: Handle) -> list[str]:
        """The names in an open directory, without dots.  The order is that of the file system."""
        return self.listed(handle.fd)

    def listed(self, fd: int) -> list[str]:
        os.lseek(fd, 0, os.SEEK_SET)  # Btrfs lists what was there when a descriptor was rewound
        found = os.listdir(fd)
        old = [name for name in found if name.startswith(TEMPORARY)]
        if old:
            remove_old_copies(fd, old, time.time())
        return found

    def leave_page(self) -> None:
        """Somebody may be reading into it still who has lost his turn."""
        self._page = memoryview(b"")

    def at_work(self) -> list[int]:
        """Threads that may be given up when they wait for a file system that is silent."""
        return []

    def give_up(self, thread: int) -> bool:
        """Go on without one of them.  False if that cannot be."""
        return False

    def statvfs(self, caller: Caller) -> os.statvfs_result:
        return os.fstatvfs(self.gate.directory(self.table[ROOT]))

    # --- without being asked ---------------------------------------------------------------

    def leave(self, directory: Node, caller: Caller) -> Leave | None:
        """What may be answered about a directory's names without asking this tree."""
        acts = ALL_BUT_LOCKS if is_mail_folder(directory) else ALL_BUT_LOCKS & ~OF_MESSAGES
        if not self.devices.is_local(directory.identity[0], self.gate.directory(directory)):
            acts &= ~Acts.LOCAL
        until = time.monotonic() + LEAVE_TIME
        return Leave(acts, self.timeout, self.timeout, until=until)

    def making(self, directory: Node, caller: Caller) -> Making:
        """What files that the caller makes there get.  Raises OSError."""
        place = self.place(directory)
        above = None if place.source == place.holder else next(reversed(directory.names))[0]
        return Making(place, self.owned(directory, caller), above)

    def rules_of_lasting(self) -> tuple[Tell, float, float] | None:
        """For Acts.LASTS: Lasting.tell, and seconds, LONG and SOON."""
        return None

    def known_name(self, directory: Node, name: str, caller: Caller) -> KnownName | None:
        """The same for one name, where there is no leave for the directory."""
        return None

    def on_revoke(self, revoke: Callable[[], None]) -> None:
        """revoke: to be called when leave that was given does not count any more."""

    def status(self) -> bytes:
        """What is in use, line by line, for who looks after the daemon."""
        nodes = list(self.table)
        numbers = {
            "inodes": len(nodes),
            "lookups": sum(node.lookups for node in nodes),
            "handles": sum(len(node.handles) for node in nodes),
            "directories": sum(node.fd >= 0 for node in nodes),
        }
        numbers["compiled"] = self.answered_without_asking()
        return "".join(f"{name} {number}\n" for name, number in numbers.items()).encode()

    # --- creating ------------------------------------------------------------------------

    def place(self, parent: Node) -> Place:
        """Whose permissions something new in this directory copies."""
        holder = facts_of(self.gate.status(parent))
        above = next(reversed(parent.names), None)
        if above is None or above[1] not in MAIL_FOLDERS or above[0].identity == NOWHERE:
            return Place(holder, holder)
        return Place(facts_of(self.gate.status(above[0])), holder)

    def owned(self, parent: Node, caller: Caller, *, directory: bool = False) -> Ownership:
        return ownership(self.place(parent), caller.uid, caller.gid, directory=directory)

    # --- what the kernel has decided already ------------------------------------------------

    def may_look(self, node: Node, caller: Caller) -> None:
        """Attributes, a symbolic link's target, extended attributes of the file below."""

    def may_list(self, node: Node, caller: Caller) -> None: ...

    def may_open(self, node: Node, flags: int, caller: Caller) -> None: ...

    def may_write(self, handle: Handle) -> None:
        """Asked at each write, since rights may have gone since the open(2)."""

    def may_read(self, handle: Handle) -> None: ...

    def may_change(self, node: Node, change: Change, caller: Caller) -> None: ...

    def may_create(self, parent: Node, name: str, kind: int, caller: Caller) -> None:
        """kind: S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, ..."""

    def may_remove(self, parent: Node, name: str, node: Node, caller: Caller) -> None: ...

    def may_rename(
        self, source: tuple[Node, str, Node], dest: tuple[Node, str], flags: int, caller: Caller
    ) -> None: ...

    def may_link(self, node: Node, dest: tuple[Node, str], caller: Caller) -> None: ...

    # --- locks ---------------------------------------------------------------------------

    def lock_target(self, handle: Handle) -> Target:
        """What a lock of this open file is taken on."""
        status = os.fstat(handle.fd)
        return Target((status.st_dev, status.st_ino), handle.fd)

    def is_locked_often(self, handle: Handle) -> bool:
        """Whether programs lock such files; those of messages, never changed, they do not."""
        parent = next(reversed(handle.node.names), None)
        return parent is None or not is_mail_folder(parent[0])

    def close(self) -> None:
        """Close every descriptor that nodes keep."""
        self.gate.close()
        for node in self.table:
            self.gate.drop(node)


def is_mail_folder(directory: Node) -> bool:
    return next(reversed(directory.names), (None, ""))[1] in MAIL_FOLDERS


def facts_of(status: os.stat_result) -> Facts:
    return Facts(status.st_mode, status.st_uid, status.st_gid, "")
