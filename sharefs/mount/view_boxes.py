"""Mailboxes that programs make, remove and rename in the view: mkdir(2) as CREATE, and so on."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.creation import Place, owner_in_view, ownership
from sharefs.mount.nodes import Node
from sharefs.mount.policy import Act, Spot
from sharefs.mount.tree import facts_of
from sharefs.mount.trusted import open_mailbox
from sharefs.mount.view_seats import Box, Seat, missing
from sharefs.mount.view_tree import ViewTree
from sharefs.permissions.inherit import Facts

# What remains in a mailbox when its messages and folders are gone.
_LEFT_BEHIND = ("dovecot", "maildirfolder", "maildirsize", "courierimap", "subscriptions", ".")


class MailboxChanges(ViewTree):
    """See the module."""

    def _named(self, home: Node, name: str) -> Box:
        """The mailbox a name in a home stands for.  Raises OSError(EPERM) if none can."""
        own: Seat = home.place
        mailbox = own.box.viewer.mailbox_of(name)
        if mailbox is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return self.box(own.box.viewer, mailbox)

    def _is_mailbox_name(self, parent: Node, name: str) -> bool:
        seat = parent.place
        at_home = seat is not None and seat.spot is Spot.MAILBOX and seat.box.is_home
        return at_home and name.startswith(".")

    # --- mkdir ---------------------------------------------------------------------------

    async def make_directory(self, parent: Node, name: str, caller: Caller) -> Node:
        if not self._is_mailbox_name(parent, name):
            return await super().make_directory(parent, name, caller)
        box = self._named(parent, name)
        self._demand_place(box, caller)
        if box.viewer.exists(box.mailbox):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._make_mailbox(box, caller)
        await self.act(box, lambda account, name: account.made(name))
        return await self.when_known(lambda: self.find(parent, name, caller)[0], caller.uid)

    def _demand_place(self, box: Box, caller: Caller) -> None:
        """The right k above it."""
        if caller.is_superuser:
            return
        self.rights(box, caller)
        try:
            box.viewer.account.demand_place(box.mailbox)
        except SharingError as refusal:
            if refusal.code is Code.CANNOT:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from refusal
            raise

    def _make_mailbox(self, box: Box, caller: Caller) -> None:
        site = box.viewer.site(box.mailbox)
        with _closing(open_mailbox(site.root, site.directory.parent)) as dir_fd:
            holder = facts_of(os.fstat(dir_fd))
            place = Place(self._model(box, site.root) or holder, holder)
            uid = place.source.uid if caller.is_superuser else owner_in_view(place, caller.uid)
            owned = ownership(place, uid, caller.gid, directory=True)
            fsops.make_owned_dir(site.directory.name, owned, dir_fd=dir_fd)

    def _model(self, box: Box, root: Path) -> Facts | None:
        """Whose permissions a new mailbox copies: the mail root's, or its parent mailbox's."""
        found = box.viewer.account.find(box.mailbox)
        if found is None:
            return None
        levels = found.levels[:-1]
        if box.viewer.account.settings.sharefs_mailbox_permissions_from == "parent":
            while levels:
                path = found.namespace.storage.mailbox_path(levels)
                try:
                    with _closing(open_mailbox(root, path)) as fd:
                        return facts_of(os.fstat(fd))
                except FileNotFoundError:
                    levels = levels[:-1]
        with _closing(open_mailbox(root, root)) as fd:
            return facts_of(os.fstat(fd))

    # --- rmdir ---------------------------------------------------------------------------

    async def remove_directory(self, parent: Node, name: str, caller: Caller) -> None:
        if not self._is_mailbox_name(parent, name):
            await super().remove_directory(parent, name, caller)
            return
        node, _ = self.find(parent, name, caller)
        seat: Seat = node.place
        self.demand(seat.box, caller, policy.need_of(Act.REMOVE, Spot.MAILBOX))
        self._remove_mailbox(seat.box, node)
        self.lost(node, parent, name)
        await self.act(seat.box, lambda account, own: account.gone(own))

    def _remove_mailbox(self, box: Box, node: Node) -> None:
        """rmdir(2) of a mailbox without messages and folders; its control files go along."""
        _demand_no_link(box)
        site = box.viewer.site(box.mailbox)
        with _closing(self.gate.open_directory(node)) as fd:
            left = os.listdir(fd)
            if not all(_left_behind(fd, name) for name in left):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            with _closing(open_mailbox(site.root, site.directory.parent)) as dir_fd:
                _demand_same(site.directory.name, dir_fd, fd)
                for name in left:
                    fsops.unlink(name, dir_fd=fd, missing_ok=True)
                fsops.rmdir(site.directory.name, dir_fd=dir_fd)

    # --- rename --------------------------------------------------------------------------

    async def rename(
        self, old: tuple[Node, str], new: tuple[Node, str], flags: int, caller: Caller
    ) -> None:
        if not self._is_mailbox_name(*old) and not self._is_mailbox_name(*new):
            await super().rename(old, new, flags, caller)
            return
        if flags & ~1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not (self._is_mailbox_name(*old) and old[0] is new[0]):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        node, _ = self.find(*old, caller)
        seat: Seat = node.place
        self.demand(seat.box, caller, policy.need_of(Act.REMOVE, Spot.MAILBOX))
        target = self._named(*new)
        self._demand_place(target, caller)
        self._rename_mailbox(seat.box, target, node)
        node.name_is_gone(*old)
        self.table.detach(node)
        await self.act(target, lambda account, name: account.gone(name))

    def _rename_mailbox(self, box: Box, target: Box, node: Node) -> None:
        """This directory alone: in Maildir++ those below have names of their own."""
        _demand_no_link(box)
        old, new = box.viewer.site(box.mailbox), target.viewer.site(target.mailbox)
        if old.root != new.root:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        with (
            _closing(open_mailbox(old.root, old.directory.parent)) as old_fd,
            _closing(open_mailbox(new.root, new.directory.parent)) as new_fd,
        ):
            _demand_same(old.directory.name, old_fd, self.gate.directory(node))
            source = fsops.Entry(old_fd, old.directory.name)
            fsops.rename_new(source, fsops.Entry(new_fd, new.directory.name))


def _demand_no_link(box: Box) -> None:
    """A link is removed where it lies: beside the mount."""
    if box.link is not None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def _left_behind(fd: int, name: str) -> bool:
    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    return not stat.S_ISDIR(mode) and name.startswith(_LEFT_BEHIND)


def _demand_same(name: str, dir_fd: int, fd: int) -> None:
    """The name still means the directory whose rights were looked at."""
    status, mine = os.stat(name, dir_fd=dir_fd, follow_symlinks=False), os.fstat(fd)
    if (status.st_dev, status.st_ino) != (mine.st_dev, mine.st_ino):
        raise missing()


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
