"""The gate: from a node to (dir_fd, name).  The only way by which the mount reaches a file.

Rules of this file.  A name is one component, never followed if it is a symbolic link.  What is
found must be what the kernel was told of (device and inode), else ESTALE, upon which the kernel
looks again.  Directories are opened one below the other from the root's descriptor, so nothing
that happens to paths above or beside leads out of the tree.
"""

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from sharefs import fsops
from sharefs.mount.devices import mount_id
from sharefs.mount.nodes import Node

MAX_DEPTH: Final = 100_000  # levels of directories; no path reaches that far
MAX_DIRECTORIES: Final = 4096  # descriptors kept open; what else is needed is opened again
MAX_LOST: Final = 8192  # files without a name that somebody may still look at (O_PATH)


def stale() -> OSError:
    """What the kernel was told of is not there any more.  It looks the path up again."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def component(name: bytes) -> str:
    """A name from the kernel, which never has more than one component; a fence nevertheless."""
    if b"/" in name or name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, "not a name")
    return os.fsdecode(name)


class Gate:
    """Opens nodes.  One for a mount; only for the thread that handles requests."""

    def __init__(self, capacity: int = MAX_DIRECTORIES, lost: int = MAX_LOST) -> None:
        self._capacity = capacity
        self._max_lost = lost
        self._open: OrderedDict[Node, None] = OrderedDict()
        self._lost: OrderedDict[Node, None] = OrderedDict()

    def stay_within(self, descriptors: int) -> None:
        """How many descriptors this gate may keep at all."""
        self._capacity = max(8, min(MAX_DIRECTORIES, descriptors // 2))
        self._max_lost = max(8, min(MAX_LOST, descriptors // 2))

    def adopt(self, node: Node, fd: int) -> None:
        """Give a node a descriptor that stays until drop(): the root, a mailbox, a lost file."""
        self.drop(node)
        node.fd = fd

    def lend(self, node: Node, fd: int) -> None:
        """Give a node a descriptor for as long as there is room: it can be opened again."""
        self.drop(node)
        node.fd = fd
        self._open[node] = None
        self._make_room()

    def _make_room(self) -> None:
        while len(self._open) > self._capacity:
            oldest, _ = self._open.popitem(last=False)
            os.close(oldest.fd)
            oldest.fd = -1

    def leave_unmounted(self, devices: frozenset[int], mounts: frozenset[str]) -> None:
        """Close directories on what is not mounted any more (umount -l), which they keep alive.

        devices: st_dev of all that is mounted; on Btrfs there are others, too.  mounts: as of
        devices.mount_id().
        """
        for node in [one for one in self._open if one.identity[0] not in devices]:
            if mount_id(node.fd) not in mounts:
                self.drop(node)

    def drop(self, node: Node) -> None:
        """Close what a node keeps open."""
        if node.fd >= 0:  # or it is in neither
            self._open.pop(node, None)
            self._lost.pop(node, None)
            os.close(node.fd)
            node.fd = -1

    def directory(self, node: Node) -> int:
        """An O_PATH descriptor of a directory.  Valid until the next request; do not close it."""
        if node.fd >= 0:
            if node in self._open:
                self._open.move_to_end(node)
            return node.fd
        fd = self._open_from_above(node)
        node.fd = fd
        self._open[node] = None
        self._make_room()
        return fd

    def _open_from_above(self, node: Node) -> int:
        """Reopen a chain of directories from the nearest open one.  Depth costs no stack."""
        chain = [node]
        while chain[-1].fd < 0 and chain[-1].opener is None:
            if not chain[-1].names or len(chain) > MAX_DEPTH:
                raise stale()
            chain.append(next(reversed(chain[-1].names))[0])
        fd, borrowed = self._start_of(chain.pop())
        try:
            while chain:
                here = chain.pop()
                name = next(reversed(here.names))[1]
                below = fsops.open_beneath(name, fsops.DIRECTORY_ONLY, dir_fd=fd)
                if not borrowed:
                    os.close(fd)
                fd, borrowed = below, False
                status = os.fstat(fd)
                if not here.is_same(status):
                    raise stale()
        except BaseException as error:
            if not borrowed:
                os.close(fd)
            if isinstance(error, FileNotFoundError | NotADirectoryError) or (
                isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.EXDEV)
            ):
                raise stale() from error
            raise
        return fd

    def _start_of(self, node: Node) -> tuple[int, bool]:
        """A directory that is open, or that opens by itself; and whether it must stay open."""
        if node.fd >= 0:
            return node.fd, True
        if node.opener is None:
            raise stale()
        fd = node.opener()
        status = os.fstat(fd)
        if not node.is_same(status):
            os.close(fd)
            raise stale()
        return fd, False

    def locate(self, node: Node) -> tuple[int, str]:
        """A (dir_fd, name) under which the node is found now."""
        self._status_by_name(node)
        parent, name = next(reversed(node.names))
        return self.directory(parent), name

    def status(self, node: Node) -> os.stat_result:
        """stat(2) of the very file the kernel means, symbolic links not followed."""
        if node.fd >= 0:
            return os.fstat(node.fd)
        if node.is_dir:
            return os.fstat(self.directory(node))
        try:
            return self._status_by_name(node)
        except OSError:
            if not node.handles:
                raise
            return os.fstat(next(iter(node.handles)))

    def _status_by_name(self, node: Node) -> os.stat_result:
        for key in reversed(node.names):
            parent, name = key
            try:
                status = os.stat(name, dir_fd=self.directory(parent), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if node.is_same(status):
                node.name_is(parent, name)
                return status
        raise stale()

    @contextlib.contextmanager
    def pinned(self, node: Node) -> Iterator[int]:
        """A descriptor for /proc/self/fd, of the node itself: a symbolic link is not followed.

        O_PATH, but for a file that is open: then one of its handles.
        """
        if node.fd >= 0 or node.is_dir:
            yield self.directory(node)
            return
        for handle in node.handles:
            if node.is_same(os.fstat(handle)):  # not so after a copy took the file's place
                yield handle
                return
        try:
            fd, _ = self._open_verified(node, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ESTALE or not node.handles:
                raise
            yield next(iter(node.handles))
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def pin(self, node: Node) -> None:
        """Keep a file that is about to lose a name, for as long as the kernel knows it.

        An open handle keeps it anyway.  Of the others there are at most so many: whoever collects
        nameless files gets ESTALE for the oldest, and takes no descriptors from anybody.
        """
        if node.fd >= 0 or node.is_dir or node.handles:
            return
        self.hold(node, self._open_verified(node, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)[0])

    def hold(self, node: Node, fd: int) -> None:
        """Keep it by this descriptor, which is taken over."""
        self.adopt(node, fd)
        self._lost[node] = None
        if len(self._lost) > self._max_lost:
            self.drop(next(iter(self._lost)))

    def open_file(self, node: Node, flags: int) -> int:
        """Open a regular file; the caller closes it.  Never waits, never creates, never truncates.

        A device or FIFO in its place raises before its open could do anything.
        """
        return self.open_verified(node, flags)[0]

    def open_verified(self, node: Node, flags: int) -> tuple[int, os.stat_result]:
        """open_file(), and what fstat(2) said of it."""
        flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        if node.fd >= 0:
            fd = os.open(f"/proc/self/fd/{node.fd}", flags)
            return fd, os.fstat(fd)
        try:
            return self._open_verified(node, flags | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ESTALE or not node.handles:
                raise
            fd = os.open(f"/proc/self/fd/{next(iter(node.handles))}", flags)
            return fd, os.fstat(fd)

    def _open_verified(self, node: Node, flags: int) -> tuple[int, os.stat_result]:
        for parent, name in reversed(node.names):
            try:
                fd = os.open(name, flags, dir_fd=self.directory(parent))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    continue  # a symbolic link or a FIFO was put in its place
                raise
            status = os.fstat(fd)
            if node.is_same(status):
                return fd, status
            os.close(fd)
        raise stale()

    def open_directory(self, node: Node) -> int:
        """A descriptor for listing.  The caller closes it."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(".", flags, dir_fd=self.directory(node))

    def close(self) -> None:
        for node in list(self._open):
            self.drop(node)
