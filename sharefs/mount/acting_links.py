"""What a tree does for link(2) and rename(2), between mailboxes of different permissions too."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.mount.acting_directories import DirectoryActions
from sharefs.mount.caller import Caller
from sharefs.mount.copying import COPY_MAX, IN_LINE, Copy, copy_as_link, copy_as_rename, may_read
from sharefs.mount.creation import link_or_copy
from sharefs.mount.nodes import Found, Node

RENAME_NOREPLACE: Final = 1  # linux/fs.h
RENAME_EXCHANGE: Final = 2

Work = Callable[[], None]


class LinkActions(DirectoryActions):
    """See the module.  Each asks may_* first."""

    async def link(self, node: Node, parent: Node, name: str, caller: Caller) -> Found:
        self.may_link(node, (parent, name), caller)
        dir_fd = self.gate.directory(parent)
        source_fd, source_name = self.gate.locate(node)
        source_parent = next(reversed(node.names))[0]
        if self.stays_one_file(source_parent, parent, name) or self._alike(
            source_parent, parent, caller, node
        ):
            fsops.link(Entry(source_fd, source_name), Entry(dir_fd, name))
        else:
            copy = self._copy(node, parent, name, caller)
            if copy is None:
                raise OSError(errno.EACCES, "a copy would disclose what a link does not")
            await self._carry_out(copy, lambda: copy_as_link(copy), caller)
        return self.find(parent, name, caller)

    async def rename(
        self, old: tuple[Node, str], new: tuple[Node, str], flags: int, caller: Caller
    ) -> None:
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        node, status = self.find(*old, caller)
        self.may_rename((*old, node), new, flags, caller)
        source = Entry(self.gate.directory(old[0]), old[1])
        dest = Entry(self.gate.directory(new[0]), new[1])
        plain = (
            flags & RENAME_EXCHANGE
            or status is None
            or not stat.S_ISREG(status.st_mode)
            or self._alike(old[0], new[0], caller, node)
        )
        victim = self._victim(new, caller)
        copy = None if plain else self._copy(node, *new, caller)
        if copy is None:
            fsops.rename_flags(source, dest, flags)
            self._moved(node, old, new)
            if flags & RENAME_EXCHANGE and victim is not None:
                self._moved(victim, new, old)
            elif victim is not None and victim is not node:
                victim.name_is_gone(*new)
            return
        await self._carry_out(copy, lambda: copy_as_rename(copy, source, flags), caller)
        self._renamed_by_copy(new, node)

    def stays_one_file(self, source: Node, dest: Node, name: str) -> bool:
        """Whether a name must be a link to the very same file, whatever the permissions."""
        return False

    def _alike(self, source: Node, dest: Node, caller: Caller, node: Node) -> bool:
        """Whether the file may stay one and the same in both directories."""
        if source is dest:
            return True
        return bool(link_or_copy(self.place(source), self.place(dest), caller.gid))

    def _copy(self, node: Node, parent: Node, name: str, caller: Caller) -> Copy | None:
        """None: the caller may not read the file, so that no copy may be made for him."""
        with self.gate.pinned(node) as pinned:
            if not stat.S_ISREG(os.fstat(pinned).st_mode):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            if not self.may_copy(node, pinned, caller):
                return None
            owned = self.owned(parent, caller)
            if caller.is_superuser:  # who moves everybody's mail gets none of it
                owned = replace(owned, uid=os.fstat(pinned).st_uid)
        dir_fd = os.dup(self.gate.directory(parent))
        try:
            return Copy(self.gate.open_file(node, os.O_RDONLY), dir_fd, name, owned)
        except BaseException:
            os.close(dir_fd)
            raise

    def may_copy(self, node: Node, pinned: int, caller: Caller) -> bool:
        return may_read(pinned, self.groups.credentials_of(caller))

    def _victim(self, new: tuple[Node, str], caller: Caller) -> Node | None:
        """What is about to be replaced, held in case the kernel has it open."""
        try:
            victim, _ = self.find(*new, caller)
        except FileNotFoundError:
            return None
        self.keep(victim)
        return victim

    def _moved(self, node: Node, old: tuple[Node, str], new: tuple[Node, str]) -> None:
        node.name_is_gone(*old)
        node.name_is(*new)

    def _renamed_by_copy(self, new: tuple[Node, str], node: Node) -> None:
        """After a rename that made a new file: the kernel's number now means that."""
        parent, name = new
        status = os.stat(name, dir_fd=self.gate.directory(parent), follow_symlinks=False)
        self.gate.drop(node)
        node.names = ()
        node.name_is(parent, name)
        self.table.retarget(node, status)

    async def _carry_out(self, copy: Copy, work: Work, caller: Caller) -> None:
        """Short copies at once, long ones in a thread.  Closes the copy's descriptors."""
        try:
            size = os.fstat(copy.source_fd).st_size
            if size > COPY_MAX:
                # The kernel holds directories locked meanwhile.  mv(1) then copies by itself.
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            if size <= IN_LINE:
                work()
            else:
                await self.waiting.run_long(work, caller.uid)
        finally:
            os.close(copy.source_fd)
            os.close(copy.dir_fd)
