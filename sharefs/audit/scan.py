"""One pass over a mail root, by directory descriptors and never through a symbolic link.

Only reads.  Message files are counted by kind, not kept, so memory does not grow with their number.
What cannot be looked at, and what goes away meanwhile, is noted as Trouble.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sharefs import fsops
from sharefs.audit.facts import FileKind, Trouble
from sharefs.audit.inodes import Inodes
from sharefs.audit.kinds import Kinds, batches, parted_by_acl
from sharefs.names import Layout
from sharefs.permissions.access import Inode
from sharefs.sharing.files import FILE_NAME, MAX_SIZE

FOLDERS: Final = ("cur", "new", "tmp")
MAX_NAMED: Final = 20  # odd entries that are named one by one; more would fill a report
MAX_DEPTH: Final = 64  # directories below one root; deeper trees are accidents or attacks
MAX_LINKED: Final = 1_000_000  # names of files with several names that are remembered
MAX_TROUBLES: Final = 1000

# What mail servers and deliverers keep in a mail root and in a mailbox.
_OURS: Final = ("dovecot", "courier", ".temp.", ".lock", "maildir", "sieve", ".nfs")
_KNOWN: Final = frozenset(
    {"subscriptions", ".subscriptions", "shared-maildirs", "shared-folders", "quotawarn"}
)


@dataclass(slots=True)
class ScannedBox:
    """A directory, or a link, in the place of a mailbox.

    stored: its path below the root.  has_acl: there is something by that name, acl: its octets if
    they could be read.
    """

    stored: str
    path: str
    inode: Inode | None = None
    is_link: bool = False
    target: str = ""
    folders: dict[str, Inode] = field(default_factory=dict)
    kinds: list[FileKind] = field(default_factory=list)
    acl: bytes | None = None
    acl_inode: Inode | None = None
    has_acl: bool = False
    acl_is_link: bool = False
    foreign: list[str] = field(default_factory=list)
    locks: list[tuple[str, float]] = field(default_factory=list)  # names, ages in seconds
    linked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def selectable(self) -> bool:
        return "cur" in self.folders


@dataclass(slots=True)
class ScannedRoot:
    """What is in a root itself.

    own: it as a mailbox (INBOX).  marker: it has maildirfolder.  device: its file system
    (st_dev); devices: those of all directories in it.
    """

    own: ScannedBox
    foreign: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    marker: bool = False
    count: int = 0
    device: int = -1
    devices: set[int] = field(default_factory=set)


class Scanner:
    """Scans one root.

    tick: called with the number of entries since the last call.  inodes: shared by all scanners
    of a process.  nested: there may be mounts inside the root.
    """

    def __init__(
        self,
        layout: Layout,
        tick: Callable[[int], None] | None = None,
        *,
        inodes: Inodes | None = None,
        nested: bool = True,
    ) -> None:
        self._layout = layout
        self._tick = tick or (lambda count: None)
        self._linked = 0
        self._inodes = inodes or Inodes()
        # Of file systems by st_dev, where there is one mount: Btrfs has several on that.
        self._read_only: dict[int, bool] | None = None if nested else {}

    def scan(self, path: str) -> tuple[ScannedRoot, Iterator[ScannedBox]]:
        """The root, and its mailboxes one by one.  The troubles of the root grow meanwhile.

        Raises OSError if the root itself cannot be opened.
        """
        fd = fsops.open_dir(path, follow=True)
        root = ScannedRoot(ScannedBox("", path))
        return root, self._boxes(root, fd, path)

    def _boxes(self, root: ScannedRoot, fd: int, path: str) -> Iterator[ScannedBox]:
        try:
            root.own.inode, _ = self._inode(root, fd, path)
            below = self._entries(root, root.own, fd, depth=0)
            if root.own.selectable:
                yield root.own
            for name in below:
                yield from self._below(root, fd, path, name, name, ())
        finally:
            os.close(fd)

    def _below(
        self,
        root: ScannedRoot,
        dir_fd: int,
        directory: str,
        name: str,
        stored: str,
        above: tuple[tuple[int, int], ...],
    ) -> Iterator[ScannedBox]:
        path = os.path.join(directory, name)
        box = ScannedBox(stored, path)
        try:
            fd = fsops.open_dir(name, dir_fd=dir_fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                yield from self._link(root, dir_fd, box, name)
            else:
                self._trouble(root, path, error)
            return
        try:
            box.inode, here = self._inode(root, fd, path)
            if here in above or len(above) >= MAX_DEPTH:
                note = "it leads back to a directory above it, or too deep"
                root.troubles.append(Trouble(path, note))
                return
            below = self._entries(root, box, fd, depth=len(above) + 1)
            if box.selectable or not self._is_known(name):
                yield box
            if self._layout is Layout.FS:
                for child in below:
                    yield from self._below(
                        root, fd, path, child, f"{stored}/{child}", (*above, here)
                    )
        except OSError as error:
            self._trouble(root, path, error)
        finally:
            os.close(fd)

    def _link(
        self, root: ScannedRoot, dir_fd: int, box: ScannedBox, name: str
    ) -> Iterator[ScannedBox]:
        try:
            box.target = os.readlink(name, dir_fd=dir_fd)
        except OSError as error:
            self._trouble(root, box.path, error)
            return
        box.is_link = True
        yield box

    def _entries(self, root: ScannedRoot, box: ScannedBox, fd: int, *, depth: int) -> list[str]:
        """Sort the entries of a directory into what they are.  Returns names of mailboxes."""
        below: list[str] = []
        top = depth == 0
        number = 0
        with os.scandir(fd) as entries:
            for entry in entries:
                number += 1
                name = entry.name
                is_link, is_dir = entry.is_symlink(), entry.is_dir(follow_symlinks=False)
                if name in FOLDERS:
                    self._folder(root, box, fd, name)
                elif (is_dir or is_link) and self._is_mailbox_name(name, top=top):
                    if not is_dir and not os.path.isdir(os.path.join(box.path, name)):
                        self._maybe_link(box, below, fd, name)
                    else:
                        below.append(name)
                elif name == FILE_NAME:
                    self._acl(root, box, fd, is_link=is_link)
                elif name.endswith(".lock"):
                    self._lock(box, entry)
                elif name == "maildirfolder" and top:
                    root.marker = True
                elif not self._is_known(name) and len(box.foreign) < MAX_NAMED:
                    box.foreign.append(name)
        self._count(root, number)
        return sorted(below)

    def _maybe_link(self, box: ScannedBox, below: list[str], fd: int, name: str) -> None:
        """A link that leads to no directory: dangling, or to a file that is no mailbox."""
        try:
            os.stat(name, dir_fd=fd)
        except OSError:
            below.append(name)  # dangling or looping: a mailbox's place all the same
        else:
            if not self._is_known(name) and len(box.foreign) < MAX_NAMED:
                box.foreign.append(name)

    def _is_mailbox_name(self, name: str, *, top: bool) -> bool:
        if self._layout is Layout.MAILDIRPP:
            return top and name.startswith(".") and name[1:2] != "."
        return not name.startswith(".") and not self._is_known(name)

    @staticmethod
    def _is_known(name: str) -> bool:
        bare = name.lstrip(".")
        return (
            name in _KNOWN or bare.startswith(_OURS) or name.startswith(_OURS) or name[:2] == ".."
        )

    def _folder(self, root: ScannedRoot, box: ScannedBox, dir_fd: int, name: str) -> None:
        """cur, new or tmp: message files by kind."""
        path = os.path.join(box.path, name)
        try:
            fd = fsops.open_dir(name, dir_fd=dir_fd)
        except OSError as error:
            self._trouble(root, path, error)
            return
        try:
            folder, (device, _) = self._inode(root, fd, path)
            box.folders[name] = folder
            likely = folder.acl is not None or folder.default_acl is not None
            kinds = Kinds(MAX_LINKED - self._linked)
            with os.scandir(fd) as entries:
                for batch in batches(entries):
                    self._count(root, len(batch))
                    kinds.add(batch)
            self._linked += len(kinds.linked)
            box.linked += kinds.linked
            for kind in parted_by_acl(fd, list(kinds.each()), self._inodes, device, likely=likely):
                mode, uid, gid, count, sample, linked, acl = kind
                at = os.path.join(path, sample)
                box.kinds.append(FileKind(name, mode, uid, gid, count, at, linked, acl))
        except OSError as error:
            self._trouble(root, path, error)
        finally:
            os.close(fd)

    def _acl(self, root: ScannedRoot, box: ScannedBox, fd: int, *, is_link: bool) -> None:
        box.has_acl = True
        if is_link:
            box.acl_is_link = True
            return
        try:
            with open(fsops.open_file(FILE_NAME, dir_fd=fd), "rb", buffering=0) as file:
                path = os.path.join(box.path, FILE_NAME)
                box.acl_inode, _ = self._inode(root, file.fileno(), path)
                box.acl = file.read(MAX_SIZE + 1)
        except OSError as error:
            self._trouble(root, os.path.join(box.path, FILE_NAME), error)

    @staticmethod
    def _lock(box: ScannedBox, entry: "os.DirEntry[str]") -> None:
        try:
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            box.locks.append((entry.name, age))
        except OSError:
            return  # released meanwhile, as locks are

    def _inode(self, root: ScannedRoot, fd: int, path: str) -> tuple[Inode, tuple[int, int]]:
        """Also its device and number."""
        inode, here = self._inodes.of_fd(fd, path, read_only=self._read_only)
        if not root.devices:
            root.device = here[0]
        root.devices.add(here[0])
        return inode, here

    def _count(self, root: ScannedRoot, number: int) -> None:
        root.count += number
        self._tick(number)

    @staticmethod
    def _trouble(root: ScannedRoot, path: str, error: OSError) -> None:
        if len(root.troubles) < MAX_TROUBLES:
            gone = isinstance(error, FileNotFoundError)
            root.troubles.append(Trouble(path, error.strerror or str(error), gone))
