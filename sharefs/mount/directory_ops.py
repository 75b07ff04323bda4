"""Handlers: directories."""

import errno
import os

from sharefs.mount.base import DONE, Base, Body, Octets, name_in
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.protocol import DIRENTPLUS, FH_IN, FSYNC_IN, MKDIR_IN, OPEN_OUT, READ_IN
from sharefs.mount.questions import NotYet

_NO_ENTRY = (0,) * 22  # of fuse_entry_out: a name without a node, for "." and ".."
_UNKNOWN_INO = 0xFFFFFFFF  # as libfuse says it
# What is wrong with the directory or with us, not with one name in it.
_OF_THE_WHOLE = frozenset({errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DirectoryOperations(Base):
    """mkdir rmdir opendir readdirplus releasedir fsyncdir"""

    async def mkdir(self, ino: int, caller: Caller, body: Body) -> bytes:
        name = name_in(body[MKDIR_IN.size :])
        node = await self.tree.make_directory(self.node(ino), name, caller)
        return self.known(node, self.tree.entry(node, caller)).entry_out()

    async def rmdir(self, ino: int, caller: Caller, body: Body) -> bytes:
        await self.tree.remove_directory(self.node(ino), name_in(body), caller)
        return DONE

    def opendir(self, ino: int, caller: Caller, body: Body) -> bytes:
        node = self.node(ino)
        self.tree.may_list(node, caller)
        self.handles.demand_room(caller)
        handle = Handle(self.tree.open_directory(node), node, caller, 0)
        return OPEN_OUT.pack(self.handles.add(handle), 0, 0)

    def readdirplus(self, ino: int, caller: Caller, body: Body) -> Octets:
        fh, offset, size = READ_IN.unpack_from(body)
        handle = self.handles[fh]
        names = handle.names
        if names is None or offset == 0:
            self.tree.may_list(handle.node, handle.caller)
            names = [".", "..", *self.tree.names(handle)]
            self.handles.hold_names(handle, names)
        if offset >= len(names):
            self.handles.hold_names(handle, [])  # read to the end
        return self._listed(handle, names, offset, size)

    def _listed(self, handle: Handle, names: list[str], start: int, size: int) -> memoryview:
        """Entries from a list made at the start: whatever changes meanwhile, none comes twice."""
        directory, caller, tree = handle.node, handle.caller, self.tree
        page, used = bytearray(size), 0
        for position in range(start, len(names)):
            name = names[position]
            octets = os.fsencode(name)
            length = DIRENTPLUS.size + len(octets)
            end = used + (length + 7 & ~7)
            if end > size:
                break
            if name in (".", ".."):
                DIRENTPLUS.pack_into(
                    page, used, *_NO_ENTRY, directory.ino, position + 1, len(octets), 4
                )
            else:
                try:
                    node, status = tree.find(directory, name, caller)
                    entry = tree.found(directory, name, node, status, caller, listed=True)
                except FileNotFoundError:
                    continue  # removed since
                except (NotYet, OSError) as error:
                    if isinstance(error, OSError) and error.errno not in _OF_THE_WHOLE:
                        # The name alone: whoever asks for more is told what is wrong with it.
                        DIRENTPLUS.pack_into(
                            page, used, *_NO_ENTRY, _UNKNOWN_INO, position + 1, len(octets), 0
                        )
                    elif used:
                        break  # with what the kernel is told of so far; it asks on from here
                    else:
                        raise
                else:
                    DIRENTPLUS.pack_into(
                        page, used, *entry.entry_fields(), node.ino, position + 1, len(octets),
                        entry.st_mode >> 12 & 15,
                    )  # fmt: skip
                    self.table.known(node)
            page[used + DIRENTPLUS.size : used + length] = octets
            used = end
        return memoryview(page)[:used]

    def releasedir(self, ino: int, caller: Caller, body: Body) -> bytes:
        self.handles.close(FH_IN.unpack_from(body)[0])
        return DONE

    async def fsyncdir(self, ino: int, caller: Caller, body: Body) -> bytes:
        handle = self.handles[FSYNC_IN.unpack_from(body)[0]]
        fd = handle.fd
        await self.waiting.run_long(lambda: os.fsync(fd), handle.caller.uid)
        return DONE
