"""What a tree does to files: create, open, read, write."""

import errno
import os
import stat
from typing import Final

from sharefs import fsops
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import Node
from sharefs.mount.tree import Tree

# What of open(2)'s flags reaches the file below; O_CREAT, O_EXCL and O_TRUNC never do.
KEPT_FLAGS: Final = os.O_ACCMODE | os.O_APPEND | os.O_DSYNC | os.O_SYNC
SHORT: Final = 1 << 16  # octets; longer reads go through one buffer, made once
SPECIAL: Final = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})


class FileActions(Tree):
    """See the module.  Each asks may_* first."""

    def create_file(self, parent: Node, name: str, flags: int, caller: Caller) -> Handle:
        """open(2) with O_CREAT, of a name that the kernel knows nothing of."""
        self.may_create(parent, name, stat.S_IFREG, caller)
        dir_fd = self.gate.directory(parent)
        owned = self.owned(parent, caller)
        # Always readable for us: the kernel may want pages for a file opened to write only.
        mode = os.O_RDWR | flags & (KEPT_FLAGS & ~os.O_ACCMODE)
        try:
            fd = fsops.create_owned(name, owned, dir_fd=dir_fd, flags=mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            # Somebody beside the mount was quicker.  The kernel asked to create, so it has not
            # checked anybody's rights to the file itself: let it look again and open.
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None
        try:
            status = os.fstat(fd)
            node = self.node_of(parent, name, status)
        except BaseException:
            os.close(fd)
            raise
        handle = Handle(fd, node, caller, flags & KEPT_FLAGS, created=True)
        handle.status = status
        return handle

    def open_file(self, node: Node, flags: int, caller: Caller) -> Handle:
        self.may_open(node, flags, caller)
        kept = flags & KEPT_FLAGS
        if flags & os.O_TRUNC and kept & os.O_ACCMODE == os.O_RDONLY:
            kept |= os.O_RDWR  # open(2) truncates even so
        fd, status = self.gate.open_verified(node, kept)
        handle = Handle(fd, node, caller, flags & KEPT_FLAGS)
        handle.status = status
        try:
            if flags & os.O_TRUNC:
                handle.status = None
                os.ftruncate(fd, 0)
                if not caller.is_superuser:
                    take_set_id(fd)
        except BaseException:
            os.close(fd)
            raise
        return handle

    def make_node(self, parent: Node, name: str, kind: int, device: int, caller: Caller) -> Node:
        """mknod(2), of regular files too."""
        self.may_create(parent, name, kind or stat.S_IFREG, caller)
        dir_fd = self.gate.directory(parent)
        owned = self.owned(parent, caller)
        if kind in (0, stat.S_IFREG):
            os.close(fsops.create_owned(name, owned, dir_fd=dir_fd))
        elif kind in SPECIAL:
            fsops.make_owned_node(name, kind, owned, device=device, dir_fd=dir_fd)
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self.find(parent, name, caller)[0]

    def read(self, handle: Handle, offset: int, size: int) -> bytes | memoryview:
        """A memoryview is valid until the next read()."""
        self.may_read(handle)
        if size <= SHORT:
            return os.pread(handle.fd, size, offset)
        if len(self._page) < size:
            self._page = memoryview(bytearray(size))
        return self._page[: os.preadv(handle.fd, [self._page[:size]], offset)]

    def may_bring_along(self, handle: Handle) -> bool:
        """Whether what open(2) allowed is allowed as long as the file is open: then the kernel may
        have the content without asking for it."""
        return True

    def write(
        self, handle: Handle, offset: int, octets: bytes | memoryview, *, drop_set_id: bool
    ) -> int:
        """Everything, or an error.  With O_APPEND the kernel below knows where the end is.

        drop_set_id: the writer may not keep setuid and setgid (he is without CAP_FSETID).
        """
        self.may_write(handle)
        if drop_set_id:
            take_set_id(handle.fd)
        written = os.pwrite(handle.fd, octets, offset)
        while written < len(octets):
            written += os.pwrite(handle.fd, octets[written:], offset + written)
        return written

    def flushes(self, handle: Handle) -> bool:
        """Whether close(2) could fail below, so that the kernel must ask (FLUSH)."""
        if not handle.writable:
            return False
        status = handle.status or os.fstat(handle.fd)
        return not self.devices.is_local(status.st_dev, handle.fd)

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """fallocate(2).  In a thread: the file system below may have to write zeros."""
        self.may_write(handle)
        take_set_id(handle.fd)
        fd = handle.fd
        await self.waiting.run_long(
            lambda: fsops.allocate(fd, mode, offset, length), handle.caller.uid
        )

    def seek(self, handle: Handle, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE."""
        self.may_read(handle)
        return os.lseek(handle.fd, offset, whence)

    async def flush(self, handle: Handle) -> None:
        """close(2) of one descriptor.  What the file system below has to say is said here."""
        if handle.writable:
            os.close(os.dup(handle.fd))

    def stamp_of(self, status: os.stat_result) -> tuple[int, ...]:
        """Equal stamps: cached pages are what is in the file."""
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def take_set_id(fd: int, *, pinned: bool = False) -> None:
    """Writing takes setuid and setgid away (inode(7)); our own capabilities would keep them.

    pinned: fd is an O_PATH descriptor.
    """
    mode = os.fstat(fd).st_mode
    group_execute = stat.S_ISGID | stat.S_IXGRP
    if mode & stat.S_ISUID or mode & group_execute == group_execute:
        if pinned:
            fsops.chmod_pinned(fd, stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))
        else:
            fsops.drop_set_id(fd)
