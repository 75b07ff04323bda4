"""What a tree does to attributes, extended ones too."""

import errno
import os
import stat
from typing import Final

from sharefs import fsops
from sharefs.mount.acting_files import take_set_id
from sharefs.mount.caller import Caller
from sharefs.mount.changes import Change
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import ROOT, Node
from sharefs.mount.tree import Tree
from sharefs.permissions.access import Want

OURS: Final = b"user.sharefs."  # attributes that the view answers itself
STATUS: Final = b"trusted.sharefs.status"  # of the mount's top, for the superuser
_KEEP: Final = -1  # chown(2): leave this id as it is


class AttributeActions(Tree):
    """See the module.  Who may change what has been decided by may_change() or the kernel."""

    def change(self, node: Node, change: Change, handle: Handle | None) -> None:
        """Size, owner and group, mode, times: in an order in which none undoes another."""
        writing = handle is not None and handle.writable
        if change.size is not None and handle is not None and writing:
            os.ftruncate(handle.fd, change.size)
            if change.drop_set_id:
                take_set_id(handle.fd)
        with self.gate.pinned(node) as fd:
            if change.size is not None and not writing:
                fsops.truncate_pinned(fd, change.size)
                if change.drop_set_id:
                    take_set_id(fd, pinned=True)
            if change.uid is not None or change.gid is not None:
                uid = _KEEP if change.uid is None else change.uid
                gid = _KEEP if change.gid is None else change.gid
                fsops.chown_pinned(fd, uid, gid)
            if change.mode is not None:
                fsops.chmod_pinned(fd, stat.S_IMODE(change.mode))
            if change.atime_ns is not None or change.mtime_ns is not None:
                now = os.fstat(fd)
                atime = now.st_atime_ns if change.atime_ns is None else change.atime_ns
                mtime = now.st_mtime_ns if change.mtime_ns is None else change.mtime_ns
                os.utime(f"/proc/self/fd/{fd}", ns=(atime, mtime))

    def confirm_owner(self, node: Node, caller: Caller) -> None:
        """chown(2) to what is so already.  Even that takes setuid and setgid away."""
        self.may_look(node, caller)
        with self.gate.pinned(node) as fd:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                if caller.uid not in (0, status.st_uid):
                    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
                take_set_id(fd, pinned=True)

    def what_counts(self, change: Change, caller: Caller) -> Change:
        """What is done of it."""
        return change

    def prepare_change(self, node: Node) -> None:
        """The last moment before a file's attributes change."""

    def access(self, node: Node, want: Want, caller: Caller) -> bool:
        """access(2).  The mirror's is answered by the kernel."""
        return True

    async def get_attribute(self, node: Node, name: bytes, caller: Caller) -> bytes:
        if name == STATUS and node is self.table[ROOT] and caller.is_superuser:
            return self.status()
        self.may_look(node, caller)
        with self.gate.pinned(node) as fd:
            return os.getxattr(f"/proc/self/fd/{fd}", name)

    async def list_attributes(self, node: Node, caller: Caller) -> list[bytes]:
        self.may_look(node, caller)
        with self.gate.pinned(node) as fd:
            return [os.fsencode(name) for name in os.listxattr(f"/proc/self/fd/{fd}")]

    async def set_attribute(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        demand_settable(name, caller)
        with self.gate.pinned(node) as fd:
            os.setxattr(f"/proc/self/fd/{fd}", name, value)

    async def remove_attribute(self, node: Node, name: bytes, caller: Caller) -> None:
        demand_settable(name, caller)
        with self.gate.pinned(node) as fd:
            os.removexattr(f"/proc/self/fd/{fd}", name)


def demand_settable(name: bytes, caller: Caller) -> None:
    """user.* and POSIX ACLs, which the kernel has checked.  The rest is for the superuser: file
    capabilities and labels of security modules would be set with our rights."""
    if not caller.is_superuser and not name.startswith((b"user.", b"system.posix_acl_")):
        known = name.startswith((b"trusted.", b"security.", b"system."))
        code = errno.EPERM if known else errno.EOPNOTSUPP
        raise OSError(code, os.strerror(code))
