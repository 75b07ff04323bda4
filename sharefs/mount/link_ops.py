"""Handlers: names that change, links."""

from sharefs.mount.base import DONE, Base, Body, demand_name, name_in, names_in
from sharefs.mount.caller import Caller
from sharefs.mount.protocol import LINK_IN, RENAME2_IN, RENAME_IN


class LinkOperations(Base):
    """link rename rename2 symlink unlink"""

    async def link(self, ino: int, caller: Caller, body: Body) -> bytes:
        (target,) = LINK_IN.unpack_from(body)
        name, parent = name_in(body[LINK_IN.size :]), self.node(ino)
        node, status = await self.tree.link(self.node(target), parent, name, caller)
        return self.known(node, self.tree.entry(node, caller, status)).entry_out()

    async def rename(self, ino: int, caller: Caller, body: Body) -> bytes:
        (above,) = RENAME_IN.unpack_from(body)
        old, new = names_in(body[RENAME_IN.size :])
        return await self._rename((ino, old), (above, new), 0, caller)

    async def rename2(self, ino: int, caller: Caller, body: Body) -> bytes:
        above, flags = RENAME2_IN.unpack_from(body)
        old, new = names_in(body[RENAME2_IN.size :])
        return await self._rename((ino, old), (above, new), flags, caller)

    async def _rename(
        self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int, caller: Caller
    ) -> bytes:
        source = self.node(old[0]), demand_name(old[1])
        dest = self.node(new[0]), demand_name(new[1])
        await self.tree.rename(source, dest, flags, caller)
        return DONE

    def symlink(self, ino: int, caller: Caller, body: Body) -> bytes:
        name, target = names_in(body)
        node = self.tree.make_symlink(self.node(ino), demand_name(name), target, caller)
        return self.known(node, self.tree.entry(node, caller)).entry_out()

    async def unlink(self, ino: int, caller: Caller, body: Body) -> bytes:
        await self.tree.remove_file(self.node(ino), name_in(body), caller)
        return DONE
