"""Handlers: looking up, forgetting, attributes."""

import os
from collections.abc import Sequence

import pyfuse3

from sharefs.mount.base import Base, caller_of, demand_name
from sharefs.mount.errnos import answering
from sharefs.permissions.access import Want


class AttributeOperations(Base):
    """lookup forget getattr setattr readlink statfs access"""

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with answering:
            caller = caller_of(ctx)
            node, status = self.tree.find(self.node(parent_inode), demand_name(name), caller)
            return self.known(node, self.tree.entry(node, caller, status))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            node = self.table.forget(ino, count)
            if node is not None:
                self.gate.drop(node)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        with answering:
            node, caller = self.node(inode), caller_of(ctx)
            self.tree.may_look(node, caller)
            return self.tree.entry(node, caller)

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        with answering:
            node, caller = self.node(inode), caller_of(ctx)
            self.tree.may_change(node, attr, fields, caller)
            self.tree.prepare_change(node)
            self.tree.change(node, attr, fields, self.handles[fh] if fh is not None else None)
            return self.tree.entry(node, caller)

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        with answering:
            node = self.node(inode)
            self.tree.may_look(node, caller_of(ctx))
            with self.gate.pinned(node) as fd:
                return os.readlink(b"", dir_fd=fd)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        with answering:
            status, answer = self.tree.statvfs(caller_of(ctx)), pyfuse3.StatvfsData()
            for field in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files",
                          "f_ffree", "f_favail"):  # fmt: skip
                setattr(answer, field, getattr(status, field))
            answer.f_namemax = status.f_namemax
            return answer

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        with answering:
            return self.tree.access(self.node(inode), Want(mode & 7), caller_of(ctx))
