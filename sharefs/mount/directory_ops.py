"""Handlers: directories."""

import os

import pyfuse3

from sharefs.mount.base import Base, caller_of, demand_name
from sharefs.mount.errnos import answering
from sharefs.mount.handles import Handle
from sharefs.mount.questions import NotYet


class DirectoryOperations(Base):
    """mkdir rmdir opendir readdir releasedir fsyncdir"""

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with answering:
            parent, caller = self.node(parent_inode), caller_of(ctx)
            own = demand_name(name)
            node = await self.tree.make_directory(parent, own, caller)
            return self.known(node, self.tree.entry(node, caller))

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with answering:
            await self.tree.remove_directory(
                self.node(parent_inode), demand_name(name), caller_of(ctx)
            )

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        with answering:
            node, caller = self.node(inode), caller_of(ctx)
            self.tree.may_list(node, caller)
            self.handles.demand_room(caller)
            return self.handles.add(Handle(self.tree.open_directory(node), node, caller, 0))

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        with answering:
            handle = self.handles[fh]
            if handle.names is None or start_id == 0:
                self.tree.may_list(handle.node, handle.caller)
                handle.names = [".", "..", *self.tree.names(handle)]
            self._reply(handle, handle.names, start_id, token)

    def _reply(
        self, handle: Handle, names: list[str], start: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """Entries from a list made at the start: whatever changes meanwhile, none comes twice."""
        directory, caller = handle.node, handle.caller
        given = 0
        for position in range(start, len(names)):
            name = names[position]
            if name in (".", ".."):
                entry = self.tree.entry(directory, caller)
                if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, position + 1):
                    return
                given += 1
                continue
            try:
                node, status = self.tree.find(directory, name, caller)
                entry = self.tree.entry(node, caller, status)
            except FileNotFoundError:
                continue  # removed since
            except NotYet:
                if not given:
                    raise
                return  # with what there is so far; the kernel asks on from here
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, position + 1):
                self.tree.unused(node)
                return
            self.table.known(node)
            given += 1

    async def releasedir(self, fh: int) -> None:
        with answering:
            self.handles.close(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        with answering:
            handle = self.handles[fh]
            fd = handle.fd
            await self.waiting.run_long(lambda: os.fsync(fd), handle.caller.uid)
