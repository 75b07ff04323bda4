"""Handlers: files."""

import os
import stat
from typing import Final

from sharefs.mount.base import DONE, Base, Body, Octets, name_in
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.protocol import (
    CREATE_IN,
    CREATE_OUT,
    FALLOCATE_IN,
    FH_IN,
    FLUSH_IN,
    FSYNC_FDATASYNC,
    FSYNC_IN,
    LSEEK_IN,
    LSEEK_OUT,
    MKNOD_IN,
    OPEN_IN,
    OPEN_OUT,
    READ_IN,
    WRITE_IN,
    WRITE_KILL_SUIDGID,
    WRITE_OUT,
    Fopen,
)

KEEP_CACHE, NOFLUSH, DIRECT_IO = map(int, (Fopen.KEEP_CACHE, Fopen.NOFLUSH, Fopen.DIRECT_IO))
STORED: Final = 1 << 15  # octets; files up to this size come along with the answer to open(2)


class FileOperations(Base):
    """create open read write flush release fsync mknod fallocate lseek"""

    def create(self, ino: int, caller: Caller, body: Body) -> bytes:
        flags, *_ = CREATE_IN.unpack_from(body)
        parent, name = self.node(ino), name_in(body[CREATE_IN.size :])
        self.handles.demand_room(caller)
        handle = self.tree.create_file(parent, name, flags, caller)
        self.handles.add(handle)
        entry = self.known(handle.node, self.tree.entry(handle.node, caller, handle.status))
        return CREATE_OUT.pack(*entry.entry_fields(), handle.fd, self._how(handle), 0)

    def open(self, ino: int, caller: Caller, body: Body) -> bytes:
        flags, _ = OPEN_IN.unpack_from(body)
        node = self.node(ino)
        self.handles.demand_room(caller)
        handle = self.tree.open_file(node, flags, caller)
        return OPEN_OUT.pack(self.handles.add(handle), self._how(handle), 0)

    def _how(self, handle: Handle) -> int:
        """What the kernel may do by itself.

        Cached pages stay when nothing changed since they were read.  Who only writes needs no
        pages: without them the kernel does not ask for security.capability at every write.
        """
        stamp = self.tree.stamp_of(handle.status or os.fstat(handle.fd))
        flags = KEEP_CACHE if stamp == handle.node.stamp else 0
        if handle.content is None:
            if not self.tree.flushes(handle) and not (
                self.locks is not None and self.tree.is_locked_often(handle)
            ):
                flags |= NOFLUSH
            if handle.flags & os.O_ACCMODE == os.O_WRONLY:
                flags |= DIRECT_IO
            elif not handle.node.stamp and self._bring_along(handle, stamp):
                flags |= KEEP_CACHE
        handle.node.stamp = stamp
        return flags

    def _bring_along(self, handle: Handle, stamp: tuple[int, ...]) -> bool:
        """Put a short file into the page cache before it is asked for: one request less.

        Only while nobody else can have it open: the kernel holds a page that it waits for locked,
        and this would wait for the page, and nobody would answer.  And only if nothing of the
        file was cached before, so that no old page remains.
        """
        size = stamp[1]
        if not self.tree.may_bring_along(handle):
            return False
        if handle.writable or handle.created or not 0 < size <= STORED or self.kernel is None:
            return False
        if len(handle.node.handles) != 1:
            return False
        octets = os.pread(handle.fd, size, 0)
        if len(octets) != size:
            return False
        self.kernel.store(handle.node.ino, octets)
        return True

    def read(self, ino: int, caller: Caller, body: Body) -> Octets:
        fh, offset, size = READ_IN.unpack_from(body)
        return self.tree.read(self.handles[fh], offset, size)

    def write(self, ino: int, caller: Caller, body: Body) -> bytes:
        fh, offset, size, flags = WRITE_IN.unpack_from(body)
        octets = body[WRITE_IN.size : WRITE_IN.size + size]
        drop = not self.drops_set_id or bool(flags & WRITE_KILL_SUIDGID)
        return WRITE_OUT.pack(self.tree.write(self.handles[fh], offset, octets, drop_set_id=drop))

    async def flush(self, ino: int, caller: Caller, body: Body) -> bytes:
        fh, owner = FLUSH_IN.unpack_from(body)
        handle = self.handles[fh]
        if self.locks:
            self.locks.closed_by(self.tree.lock_target(handle), owner)
        await self.tree.flush(handle)
        return DONE

    def release(self, ino: int, caller: Caller, body: Body) -> bytes:
        (fh,) = FH_IN.unpack_from(body)
        handle = self.handles[fh]
        if handle.writable:
            handle.node.stamp = self.tree.stamp_of(os.fstat(fh))
        self.let_go(fh)
        return DONE

    def let_go(self, fh: int) -> None:
        """Of an open file, and of the locks that were taken through it."""
        self.handles.close(fh)
        if self.locks:
            self.locks.released(fh)

    async def fsync(self, ino: int, caller: Caller, body: Body) -> bytes:
        fh, flags = FSYNC_IN.unpack_from(body)
        handle = self.handles[fh]
        await self.tree.flush(handle)
        fd, sync = handle.fd, os.fdatasync if flags & FSYNC_FDATASYNC else os.fsync
        await self.waiting.run_long(lambda: sync(fd), handle.caller.uid)
        return DONE

    def mknod(self, ino: int, caller: Caller, body: Body) -> bytes:
        mode, device, _ = MKNOD_IN.unpack_from(body)
        parent, name = self.node(ino), name_in(body[MKNOD_IN.size :])
        node = self.tree.make_node(parent, name, stat.S_IFMT(mode), device, caller)
        return self.known(node, self.tree.entry(node, caller)).entry_out()

    async def fallocate(self, ino: int, caller: Caller, body: Body) -> bytes:
        fh, offset, length, mode = FALLOCATE_IN.unpack_from(body)
        await self.tree.allocate(self.handles[fh], mode, offset, length)
        return DONE

    def lseek(self, ino: int, caller: Caller, body: Body) -> bytes:
        fh, offset, whence = LSEEK_IN.unpack_from(body)
        return LSEEK_OUT.pack(self.tree.seek(self.handles[fh], offset, whence))
