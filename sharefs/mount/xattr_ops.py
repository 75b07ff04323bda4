"""Handlers: extended attributes."""

from collections.abc import Sequence

import pyfuse3

from sharefs.mount.base import Base, caller_of
from sharefs.mount.errnos import answering


class ExtendedOperations(Base):
    """getxattr listxattr setxattr removexattr"""

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        with answering:
            return await self.tree.get_attribute(self.node(inode), name, caller_of(ctx))

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        with answering:
            return await self.tree.list_attributes(self.node(inode), caller_of(ctx))

    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        with answering:
            await self.tree.set_attribute(self.node(inode), name, value, caller_of(ctx))

    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with answering:
            await self.tree.remove_attribute(self.node(inode), name, caller_of(ctx))
