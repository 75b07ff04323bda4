"""Handlers: looking up, forgetting, attributes."""

import errno
import os
import time

from sharefs.mount.base import DONE, Base, Body, name_in
from sharefs.mount.caller import Caller
from sharefs.mount.changes import Change
from sharefs.mount.entries import nothing_out
from sharefs.mount.protocol import (
    ACCESS_IN,
    BATCH_FORGET_IN,
    FORGET_IN,
    FORGET_ONE,
    SETATTR_IN,
    STATFS_OUT,
    Fattr,
)
from sharefs.permissions.access import Want

_SECOND = 1_000_000_000  # nanoseconds


class AttributeOperations(Base):
    """lookup forget getattr setattr readlink statfs access"""

    def lookup(self, ino: int, caller: Caller, body: Body) -> bytes:
        parent, name = self.node(ino), name_in(body)
        try:
            node, status = self.tree.find(parent, name, caller)
        except FileNotFoundError:
            seconds = self.tree.missing(parent, name, caller)
            if not seconds:
                raise
            return nothing_out(seconds)
        return self.known(node, self.tree.found(parent, name, node, status, caller)).entry_out()

    def forget(self, ino: int, caller: Caller, body: Body) -> None:
        self._forget(ino, FORGET_IN.unpack_from(body)[0])

    def batch_forget(self, ino: int, caller: Caller, body: Body) -> None:
        (count,) = BATCH_FORGET_IN.unpack_from(body)
        start = BATCH_FORGET_IN.size
        for one, times in FORGET_ONE.iter_unpack(body[start : start + count * FORGET_ONE.size]):
            self._forget(one, times)

    def _forget(self, ino: int, count: int) -> None:
        node = self.table.forget(ino, count)
        if node is not None:
            self.gate.drop(node)

    def getattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        node = self.node(ino)
        self.tree.may_look(node, caller)
        return self.tree.asked(node, caller).attr_out()

    def setattr(self, ino: int, caller: Caller, body: Body) -> bytes:
        node, change = self.node(ino), _change_in(body)
        valid, fh, *_ = SETATTR_IN.unpack_from(body)
        if not valid & ~Fattr.FH:  # chown(2) without a new owner or group
            self.tree.confirm_owner(node, caller)
        else:
            self.tree.may_change(node, change, caller)
            self.tree.prepare_change(node)
            change = self.tree.what_counts(change, caller)
            self.tree.change(node, change, self.handles[fh] if valid & Fattr.FH else None)
        return self.tree.entry(node, caller).attr_out()

    def readlink(self, ino: int, caller: Caller, body: Body) -> bytes:
        node = self.node(ino)
        self.tree.may_look(node, caller)
        with self.gate.pinned(node) as fd:
            return os.readlink(b"", dir_fd=fd)

    def statfs(self, ino: int, caller: Caller, body: Body) -> bytes:
        found = self.tree.statvfs(caller)
        return STATFS_OUT.pack(
            found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
            found.f_bsize, found.f_namemax, found.f_frsize,
        )  # fmt: skip

    def access(self, ino: int, caller: Caller, body: Body) -> bytes:
        (mask,) = ACCESS_IN.unpack_from(body)
        if not self.tree.access(self.node(ino), Want(mask & 7), caller):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return DONE


def _change_in(body: Body) -> Change:
    (
        valid, _, size, _, atime, mtime, _, atime_part, mtime_part, _, mode, _, uid, gid,
    ) = SETATTR_IN.unpack_from(body)  # fmt: skip

    def moment(given: Fattr, now: Fattr, seconds: int, part: int) -> int | None:
        if valid & now:
            return time.time_ns()
        return seconds * _SECOND + part if valid & given else None

    return Change(
        mode=mode if valid & Fattr.MODE else None,
        uid=uid if valid & Fattr.UID else None,
        gid=gid if valid & Fattr.GID else None,
        size=size if valid & Fattr.SIZE else None,
        atime_ns=moment(Fattr.ATIME, Fattr.ATIME_NOW, atime, atime_part),
        mtime_ns=moment(Fattr.MTIME, Fattr.MTIME_NOW, mtime, mtime_part),
        drop_set_id=bool(valid & Fattr.KILL_SUIDGID),
    )
