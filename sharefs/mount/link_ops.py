"""Handlers: names that change, links."""

import pyfuse3

from sharefs.mount.base import Base, caller_of, demand_name
from sharefs.mount.errnos import answering


class LinkOperations(Base):
    """link rename symlink unlink"""

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with answering:
            parent, caller = self.node(new_parent_inode), caller_of(ctx)
            node = await self.tree.link(self.node(inode), parent, demand_name(new_name), caller)
            return self.known(node, self.tree.entry(node, caller))

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        with answering:
            old = self.node(parent_inode_old), demand_name(name_old)
            new = self.node(parent_inode_new), demand_name(name_new)
            await self.tree.rename(old, new, flags, caller_of(ctx))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with answering:
            parent, caller = self.node(parent_inode), caller_of(ctx)
            node = self.tree.make_symlink(parent, demand_name(name), target, caller)
            return self.known(node, self.tree.entry(node, caller))

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with answering:
            await self.tree.remove_file(self.node(parent_inode), demand_name(name), caller_of(ctx))
