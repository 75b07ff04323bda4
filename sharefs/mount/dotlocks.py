"""Dotlocks of mbox files that are reached through symbolic links.

Whoever locks `shared -> /srv/mail/shared` makes `shared.lock` beside the link, and whoever locks
the file itself makes one beside the file: neither sees the other's.  In the mirror both are one:
the name of a lock beside a link means the lock beside what the link leads to, as long as that is
inside the tree and the caller could work there himself.
"""

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import Final

from sharefs.mount.acting_files import FileActions
from sharefs.mount.acting_links import LinkActions
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import ROOT, Found, Node
from sharefs.permissions.access import Inode, Want, check
from sharefs.permissions.posix_acl import ACCESS, parse_posix_acl

SUFFIX: Final = ".lock"
MAX_LINKS: Final = 40  # as the kernel's limit (path_resolution(7))

Place = tuple[Node, str]


class _Outside(Exception):
    """The link leads out of the tree, or nowhere: then the lock is an ordinary file."""


class DotLocks(FileActions, LinkActions):
    """See the module.  roots: paths by which programs may know the tree's top: source and mount."""

    roots: tuple[PurePosixPath, ...] = ()

    def find(self, parent: Node, name: str, caller: Caller) -> tuple[Node, os.stat_result | None]:
        return super().find(*self._place_of_lock(parent, name, caller), caller)

    def create_file(self, parent: Node, name: str, flags: int, caller: Caller) -> Handle:
        place = self._place_of_lock(parent, name, caller, change=True)
        return super().create_file(*place, flags, caller)

    def make_node(self, parent: Node, name: str, kind: int, device: int, caller: Caller) -> Node:
        place = self._place_of_lock(parent, name, caller, change=True)
        return super().make_node(*place, kind, device, caller)

    async def remove_file(self, parent: Node, name: str, caller: Caller) -> None:
        await super().remove_file(*self._place_of_lock(parent, name, caller, change=True), caller)

    async def link(self, node: Node, parent: Node, name: str, caller: Caller) -> Found:
        place = self._place_of_lock(parent, name, caller, change=True)
        return await super().link(node, *place, caller)

    async def rename(self, old: Place, new: Place, flags: int, caller: Caller) -> None:
        await super().rename(
            self._place_of_lock(*old, caller, change=True),
            self._place_of_lock(*new, caller, change=True), flags, caller,
        )  # fmt: skip

    def stays_one_file(self, source: Node, dest: Node, name: str) -> bool:
        """A lock is made by link(2) and recognised by its link count: never copy it."""
        return name.endswith(SUFFIX)

    # --- where the lock belongs ----------------------------------------------------------

    def _place_of_lock(
        self, parent: Node, name: str, caller: Caller, *, change: bool = False
    ) -> Place:
        """Raises OSError(EACCES) if the caller may not change the directory it belongs into."""
        here = parent, name
        locked = name.removesuffix(SUFFIX)
        if locked == name or not locked or not self._is_link(parent, locked):
            return here
        try:
            directory, real = self._follow(parent, locked, caller)
        except (_Outside, FileNotFoundError, NotADirectoryError, PermissionError):
            return here
        if directory is parent:
            return parent, real + SUFFIX
        if change:
            self._demand(directory, Want.WRITE | Want.SEARCH, caller)
        return directory, real + SUFFIX

    def _is_link(self, parent: Node, name: str) -> bool:
        try:
            status = os.stat(name, dir_fd=self.gate.directory(parent), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISLNK(status.st_mode)

    def _follow(self, parent: Node, name: str, caller: Caller) -> Place:
        """The directory and name of what a link leads to.  Raises _Outside."""
        links = 0
        pending = [name]  # in reverse
        here = parent
        while True:
            word = pending.pop()
            if word in ("", "."):
                continue
            if word == "..":
                above = next(reversed(here.names), None)
                if above is None:
                    raise _Outside
                here = above[0]
                continue
            if self._is_link(here, word):
                links += 1
                if links > MAX_LINKS:
                    raise _Outside
                target = os.readlink(word, dir_fd=self.gate.directory(here))
                if target.startswith("/"):
                    here, target = self.table[ROOT], self._below_root(target)
                pending += [part for part in reversed(target.split("/")) if part]
                if not pending:
                    raise _Outside
                continue
            if not pending:
                return here, word
            self._demand(here, Want.SEARCH, caller)
            below, _ = super().find(here, word, caller)
            if not below.is_dir:
                raise _Outside
            self.unused(below)
            here = below

    def _below_root(self, target: str) -> str:
        path = PurePosixPath(target)
        for root in self.roots:
            if path.is_relative_to(root):
                return str(path.relative_to(root))
        raise _Outside

    def _demand(self, directory: Node, want: Want, caller: Caller) -> None:
        with self.gate.pinned(directory) as fd:
            status = os.fstat(fd)
            acl = None
            try:
                acl = parse_posix_acl(os.getxattr(f"/proc/self/fd/{fd}", ACCESS))
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
            inode = Inode("", status.st_mode, status.st_uid, status.st_gid, acl)
            sticky = want & Want.WRITE and status.st_mode & stat.S_ISVTX
            if not check(inode, self.groups.credentials_of(caller), want):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if sticky and caller.uid not in (0, status.st_uid):
                # Whose locks may be removed here would be decided without the kernel.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
