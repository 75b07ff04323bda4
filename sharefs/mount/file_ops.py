"""Handlers: files."""

import os
import stat

import pyfuse3

from sharefs.mount.base import Base, caller_of, demand_name
from sharefs.mount.errnos import answering
from sharefs.mount.handles import Handle


class FileOperations(Base):
    """create open read write flush release fsync mknod"""

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        with answering:
            parent, own, caller = self.node(parent_inode), demand_name(name), caller_of(ctx)
            self.handles.demand_room(caller)
            handle = self.tree.create_file(parent, own, flags, caller)
            self.handles.add(handle)
            entry = self.tree.entry(handle.node, caller)
            return self._info(handle), self.known(handle.node, entry)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        with answering:
            node, caller = self.node(inode), caller_of(ctx)
            self.handles.demand_room(caller)
            handle = self.tree.open_file(node, flags, caller)
            self.handles.add(handle)
            return self._info(handle)

    def _info(self, handle: Handle) -> pyfuse3.FileInfo:
        """Cached pages stay when nothing changed since they were read."""
        stamp = self.tree.stamp_of(handle)
        keep = stamp == handle.node.stamp
        handle.node.stamp = stamp
        return pyfuse3.FileInfo(fh=handle.fd, keep_cache=keep)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        with answering:
            return self.tree.read(self.handles[fh], off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        with answering:
            return self.tree.write(self.handles[fh], off, buf)

    async def flush(self, fh: int) -> None:
        with answering:
            await self.tree.flush(self.handles[fh])

    async def release(self, fh: int) -> None:
        with answering:
            handle = self.handles[fh]
            if handle.writable:
                handle.node.stamp = self.tree.stamp_of(handle)
            self.handles.close(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        with answering:
            handle = self.handles[fh]
            await self.tree.flush(handle)
            fd, sync = handle.fd, os.fdatasync if datasync else os.fsync
            await self.waiting.run_long(lambda: sync(fd), handle.caller.uid)

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with answering:
            parent, own, caller = self.node(parent_inode), demand_name(name), caller_of(ctx)
            node = self.tree.make_node(parent, own, stat.S_IFMT(mode), rdev, caller)
            return self.known(node, self.tree.entry(node, caller))
