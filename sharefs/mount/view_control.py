"""Control files in the view: dovecot-uidlist, indexes, caches, locks.

In his own mailboxes a viewer's programs use the files that lie there.  In everybody else's they
see those too, but what they write goes to copies of the viewer's own, which lie in a directory of
the daemon's: his programs work, and nothing of the owner's can be damaged.  dovecot-keywords alone
stays common to all, because it says what the letters in file names mean, which everybody shares;
it grows by whole new versions that keep every letter's meaning, for holders of w.
"""

import errno
import os
import time
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.account import Account
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.fsops import Ownership
from sharefs.mount.acting_files import KEPT_FLAGS
from sharefs.mount.caller import Caller
from sharefs.mount.copies import Copies
from sharefs.mount.handles import Handle
from sharefs.mount.locks import Target
from sharefs.mount.nodes import Found, Node
from sharefs.mount.policy import ACL_FILE, KEYWORDS_FILE, Act, Need, Spot, need_of
from sharefs.mount.view_seats import Box, Seat
from sharefs.mount.view_tree import ViewTree
from sharefs.rights import WRITE
from sharefs.store.maildir.keywords import Keywords

PRIVATE_MODE: Final = 0o600
MAX_COPIED: Final = 64 << 20  # octets of a control file that a viewer gets a copy of
MAX_KEYWORDS: Final = 1 << 16  # octets
LOCK_TIMEOUT: Final = 10.0  # seconds; as the Maildir storage waits for dovecot-keywords.lock
LOCK_STALE: Final = 120.0


class ControlFiles(ViewTree):
    """See the module.  all_copies: the daemon's directory for the copies."""

    all_copies: Copies

    # --- where a control file lies ---------------------------------------------------------

    def _is_own_copy(self, parent: Node, name: str) -> bool:
        """Whether a name in this directory means the viewer's copy, if there is one."""
        seat = parent.place
        if seat is None or seat.spot is not Spot.MAILBOX or seat.box.copies is parent:
            return False
        return name not in (ACL_FILE, KEYWORDS_FILE, "cur", "new", "tmp") and not seat.box.is_own

    def _copies(self, box: Box, *, make: bool = False) -> Node | None:
        """The directory of the viewer's copies for one mailbox; it never is shown itself."""
        if box.copies is not None:
            return box.copies
        words = [box.viewer.user.name, box.mailbox]
        if box.link is not None:  # what is copied belongs to the mailbox, not to the link
            words += [box.link.owner.user.name, box.link.mailbox]
        path = self.all_copies.path_of(box.viewer.uid, words)
        fd = self.all_copies.open(path, make=make)
        if fd is None:
            return None
        status = os.fstat(fd)
        node = Node(0, (status.st_dev, status.st_ino), box.scope, True)
        node.place = Seat(box, Spot.MAILBOX)
        node.opener = lambda: fsops.open_dir(path, search_only=True)
        self.gate.lend(node, fd)
        box.copies = node
        return node

    def _place_for_copy(self, parent: Node, name: str) -> Node:
        """Where a new control file goes."""
        if not self._is_own_copy(parent, name):
            return parent
        copies = self._copies(parent.place.box, make=True)
        assert copies is not None
        self._pay(parent.place.box, 0, files=1)
        return copies

    def _pay(self, box: Box, octets: int, *, files: int = 0) -> None:
        """Before the viewer's copies grow.  Raises OSError(EDQUOT)."""
        uid = box.viewer.uid
        self.all_copies.pay(uid, octets, files=files, nameless=lambda: self._nameless(uid))

    def _nameless(self, uid: int) -> int:
        """Octets of copies that were removed and are still open."""
        found = 0
        for node in self.table:
            seat = node.place
            if node.handles and _is_copy(seat) and seat.box.viewer.uid == uid:
                status = os.fstat(next(iter(node.handles)))
                found += 0 if status.st_nlink else status.st_blocks * 512
        return found

    def find(self, parent: Node, name: str, caller: Caller) -> tuple[Node, os.stat_result | None]:
        if self._is_own_copy(parent, name):
            box: Box = parent.place.box
            copies = self._copies(box)
            if copies is not None:
                self.demand(box, caller, need_of(Act.SEE, Spot.CONTROL))
                try:
                    status = os.stat(name, dir_fd=self.directory(copies), follow_symlinks=False)
                except FileNotFoundError:
                    return super().find(parent, name, caller)
                return self.node_of(copies, name, status), status
        return super().find(parent, name, caller)

    def names(self, handle: Handle) -> list[str]:
        found = super().names(handle)
        seat = handle.node.place
        if seat is None or seat.spot is not Spot.MAILBOX or seat.box.is_own:
            return found
        copies = self._copies(seat.box)
        if copies is None:
            return found
        fd = self.gate.open_directory(copies)
        try:
            return [*found, *(set(os.listdir(fd)) - set(found))]
        finally:
            os.close(fd)

    def owned(self, parent: Node, caller: Caller, *, directory: bool = False) -> Ownership:
        seat = parent.place
        if seat is not None and seat.box.copies is parent:
            return Ownership(seat.box.viewer.uid, seat.box.viewer.user.gid, PRIVATE_MODE)
        return super().owned(parent, caller, directory=directory)

    # --- copying up ------------------------------------------------------------------------

    def _own_copy_of(self, node: Node) -> None:
        """From now on the node stands for a copy of the viewer's own."""
        seat = self.seat(node)
        if node.is_dir or seat.spot is not Spot.CONTROL or not node.names:
            return
        parent, name = next(reversed(node.names))
        if not self._is_own_copy(parent, name):
            return
        copies = self._place_for_copy(parent, name)
        source = self.gate.open_file(node, os.O_RDONLY)
        try:
            size = os.fstat(source).st_size
            if size > MAX_COPIED:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            self._pay(seat.box, size)
            owned = Ownership(seat.box.viewer.uid, seat.box.viewer.user.gid, PRIVATE_MODE)
            dir_fd = self.gate.directory(copies)
            fd = fsops.create_owned(name, owned, dir_fd=dir_fd)
            try:
                fsops.copy_octets(source, fd)
                status = os.fstat(source)
                os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
                self.gate.drop(node)
                node.names = ()
                node.name_is(copies, name)
                self.table.retarget(node, os.fstat(fd))
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def open_file(self, node: Node, flags: int, caller: Caller) -> Handle:
        writing = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        if writing and self.seat(node).spot is Spot.CONTROL:
            self.may_open(node, flags, caller)
            self._refuse_keywords(node)
            self._own_copy_of(node)
        return super().open_file(node, flags & (KEPT_FLAGS | os.O_TRUNC), caller)

    def write(
        self, handle: Handle, offset: int, octets: bytes | memoryview, *, drop_set_id: bool
    ) -> int:
        seat = handle.node.place
        if _is_copy(seat):
            self._pay(seat.box, len(octets))
        return super().write(handle, offset, octets, drop_set_id=drop_set_id)

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        seat = handle.node.place
        if _is_copy(seat):
            self._pay(seat.box, length)
        await super().allocate(handle, mode, offset, length)

    def _refuse_keywords(self, node: Node) -> None:
        """Others replace dovecot-keywords as a whole, which can be looked at; see rename()."""
        _, name = next(reversed(node.names), (None, ""))
        if name == KEYWORDS_FILE and not self.seat(node).box.is_own:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def prepare_change(self, node: Node) -> None:
        if not node.is_dir and self.seat(node).spot is Spot.CONTROL:
            self._refuse_keywords(node)
            self._own_copy_of(node)

    # --- names -----------------------------------------------------------------------------

    def create_file(self, parent: Node, name: str, flags: int, caller: Caller) -> Handle:
        self._refuse_new_keywords(parent, name)
        handle = super().create_file(self._place_for_copy(parent, name), name, flags, caller)
        self.seat(handle.node)  # write() asks what it is
        return handle

    def make_node(self, parent: Node, name: str, kind: int, device: int, caller: Caller) -> Node:
        self._refuse_new_keywords(parent, name)
        return super().make_node(self._place_for_copy(parent, name), name, kind, device, caller)

    def _refuse_new_keywords(self, parent: Node, name: str) -> None:
        seat = parent.place
        at_mailbox = seat is not None and seat.spot is Spot.MAILBOX
        if name == KEYWORDS_FILE and at_mailbox and not seat.box.is_own:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    async def remove_file(self, parent: Node, name: str, caller: Caller) -> None:
        if not self._is_own_copy(parent, name):
            seat = parent.place
            if name == KEYWORDS_FILE and seat.spot is Spot.MAILBOX and not seat.box.is_own:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            await super().remove_file(parent, name, caller)
            return
        node, _ = self.find(parent, name, caller)
        holder = next(reversed(node.names))[0]
        if holder is not parent.place.box.copies:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))  # the owner's stays
        await super().remove_file(holder, name, caller)

    async def link(self, node: Node, parent: Node, name: str, caller: Caller) -> Found:
        return await super().link(node, self._place_for_copy(parent, name), name, caller)

    async def rename(
        self, old: tuple[Node, str], new: tuple[Node, str], flags: int, caller: Caller
    ) -> None:
        seat = new[0].place
        at_mailbox = seat is not None and seat.spot is Spot.MAILBOX and not seat.box.is_own
        if at_mailbox and new[1] == KEYWORDS_FILE:
            await self._replace_keywords(old, new[0], caller)
            return
        if at_mailbox and old[0] is new[0] and self._is_own_copy(*old) and self._is_own_copy(*new):
            node, _ = self.find(*old, caller)
            if node.is_dir:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            self._own_copy_of(node)
            copies = self._place_for_copy(*old)
            await super().rename((copies, old[1]), (copies, new[1]), flags, caller)
            return
        await super().rename(old, new, flags, caller)

    def _may_rename_other(
        self, source: tuple[Node, str, Node], dest: tuple[Node, str], caller: Caller
    ) -> None:
        """Control files may be renamed within their directory."""
        old_parent, old_name, node = source
        seat = old_parent.place
        names = {old_name, dest[1]}
        if node.is_dir or old_parent is not dest[0] or seat.spot is not Spot.MAILBOX:
            super()._may_rename_other(source, dest, caller)
        if ACL_FILE in names or (KEYWORDS_FILE in names and not seat.box.is_own):
            super()._may_rename_other(source, dest, caller)
        self.demand(seat.box, caller, need_of(Act.REMOVE, Spot.CONTROL))
        self.demand(seat.box, caller, need_of(Act.MAKE, Spot.CONTROL))

    # --- locks -----------------------------------------------------------------------------

    def lock_target(self, handle: Handle) -> Target:
        """Whoever may read somebody else's file must not stop the owner's programs: his locks are
        for his own programs on the mount."""
        target = super().lock_target(handle)
        if self.seat(handle.node).box.is_own:
            return target
        return Target((handle.node.scope, target.key), -1)

    def is_locked_often(self, handle: Handle) -> bool:
        return self.seat(handle.node).spot not in (Spot.MESSAGE, Spot.TEMPORARY)

    # --- keywords --------------------------------------------------------------------------

    async def _replace_keywords(self, old: tuple[Node, str], parent: Node, caller: Caller) -> None:
        """A new version of a mailbox's keyword names, by somebody who is not its owner."""
        box: Box = parent.place.box
        node, _ = self.find(*old, caller)
        seat = self.seat(node)
        if node.is_dir or seat.box is not box or seat.spot is not Spot.CONTROL:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self.demand(box, caller, Need((WRITE,)))
        self.demand_disposable(node)
        fd = self.gate.open_file(node, os.O_RDONLY)
        try:
            octets = os.pread(fd, MAX_KEYWORDS + 1, 0)
        finally:
            os.close(fd)
        await self.act(box, lambda account, name: _install_keywords(account, name, octets))
        self.dispose(node)


def _is_copy(seat: Seat | None) -> bool:
    """Whether what is written there goes to a copy of the viewer's own."""
    return seat is not None and seat.spot is Spot.CONTROL and not seat.box.is_own


def demand_same_letters(before: Keywords, after: Keywords, octets: bytes) -> None:
    """Raises SharingError(INVALID) unless every letter that had a name keeps it."""
    if len(octets) > MAX_KEYWORDS or after.format() != octets:
        raise SharingError(Code.INVALID, "what was written is no dovecot-keywords file")
    for have, want in zip(before.names, after.names, strict=True):
        if have is not None and have != want:
            raise SharingError(
                Code.NO_PERMISSION, f"the keyword {have!r} would get lost, on everybody's messages"
            )


def _install_keywords(account: Account, mailbox: str, octets: bytes) -> None:
    """As the owner, under the lock that every program takes for this file."""
    path = Path(account.paths(mailbox)["control"]) / KEYWORDS_FILE
    lock = DotLock(
        path, timeout=LOCK_TIMEOUT, stale=LOCK_STALE, creation=account.permissions(mailbox)
    )
    with lock:
        try:
            current = fsops.read_file(path)
        except FileNotFoundError:
            current = b""
        demand_same_letters(Keywords.parse(current), Keywords.parse(octets), octets)
        lock.replace(octets, mtime=int(time.time()))
