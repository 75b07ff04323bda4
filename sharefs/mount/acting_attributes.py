"""What a tree does to attributes, extended ones too."""

import errno
import os
import stat
from typing import Final

import pyfuse3

from sharefs import fsops
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import Node
from sharefs.mount.tree import Tree
from sharefs.permissions.access import Want

OURS: Final = b"user.sharefs."  # attributes that the view answers itself
_KEEP: Final = -1  # chown(2): leave this id as it is


class AttributeActions(Tree):
    """See the module.  Who may change what has been decided by may_change() or the kernel."""

    def change(
        self, node: Node, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields,
        handle: Handle | None,
    ) -> None:  # fmt: skip
        """Size, owner and group, mode, times: in an order in which none undoes another."""
        if fields.update_size and handle is not None and handle.writable:
            os.ftruncate(handle.fd, attr.st_size)
        with self.gate.pinned(node) as fd:
            if fields.update_size and not (handle is not None and handle.writable):
                fsops.truncate_pinned(fd, attr.st_size)
            if fields.update_uid or fields.update_gid:
                uid = attr.st_uid if fields.update_uid else _KEEP
                gid = attr.st_gid if fields.update_gid else _KEEP
                fsops.chown_pinned(fd, uid, gid)
            if fields.update_mode:
                fsops.chmod_pinned(fd, stat.S_IMODE(attr.st_mode))
            if fields.update_atime or fields.update_mtime:
                now = os.fstat(fd)
                atime = attr.st_atime_ns if fields.update_atime else now.st_atime_ns
                mtime = attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns
                os.utime(f"/proc/self/fd/{fd}", ns=(atime, mtime))

    def prepare_change(self, node: Node) -> None:
        """The last moment before a file's attributes change."""

    def access(self, node: Node, want: Want, caller: Caller) -> bool:
        """access(2).  The mirror's is answered by the kernel."""
        return True

    async def get_attribute(self, node: Node, name: bytes, caller: Caller) -> bytes:
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
