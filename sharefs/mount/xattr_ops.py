"""Handlers: extended attributes."""

import errno
import os

from sharefs.mount.base import DONE, Base, Body
from sharefs.mount.caller import Caller
from sharefs.mount.protocol import GETXATTR_IN, GETXATTR_OUT, SETXATTR_IN


class ExtendedOperations(Base):
    """getxattr listxattr setxattr removexattr"""

    async def getxattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        (size,) = GETXATTR_IN.unpack_from(body)
        name = bytes(body[GETXATTR_IN.size : -1])
        return _sized(await self.tree.get_attribute(self.node(ino), name, caller), size)

    async def listxattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        (size,) = GETXATTR_IN.unpack_from(body)
        names = await self.tree.list_attributes(self.node(ino), caller)
        return _sized(b"".join(name + b"\0" for name in names), size)

    async def setxattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        size, flags = SETXATTR_IN.unpack_from(body)
        name, _, rest = bytes(body[SETXATTR_IN.size :]).partition(b"\0")
        node = self.node(ino)
        if flags & (os.XATTR_CREATE | os.XATTR_REPLACE):
            await self._demand_state(node.ino, name, caller, there=bool(flags & os.XATTR_REPLACE))
        await self.tree.set_attribute(node, name, rest[:size], caller)
        return DONE

    async def _demand_state(self, ino: int, name: bytes, caller: Caller, *, there: bool) -> None:
        """Raises OSError: EEXIST or ENODATA, if it is there, or is not, against what was said."""
        try:
            await self.tree.get_attribute(self.node(ino), name, caller)
        except OSError as error:
            if there or error.errno != errno.ENODATA:
                raise
        else:
            if not there:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    async def removexattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        name = bytes(body).removesuffix(b"\0")
        await self.tree.remove_attribute(self.node(ino), name, caller)
        return DONE


def _sized(value: bytes, size: int) -> bytes:
    """What getxattr(2) and listxattr(2) answer for a buffer of this size; 0: how much it is."""
    if not size:
        return GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value
