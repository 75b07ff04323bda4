"""Reads what planners ask for: the inodes of a mail tree and of the directories above it.

Only looks.  A tree that is being changed meanwhile is read as far as it can be: what vanishes is
left out, what cannot be read becomes a note, and no symbolic link is followed.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from sharefs import fsops
from sharefs.permissions.access import Inode
from sharefs.permissions.posix_acl import ACCESS, DEFAULT, PosixAcl, parse_posix_acl
from sharefs.repair.plan_file import Note
from sharefs.repair.wish import Node

MAX_DEPTH: Final = 256  # levels below the root; no layout has as many
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_NO_ACL: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


def nodes_above(root: str) -> tuple[Node, ...]:
    """The directories that lead to root, the top one first, root itself left out."""
    parents = [str(path) for path in PurePosixPath(root).parents][::-1]
    return tuple(node_at(path) for path in parents)


def node_at(path: str) -> Node:
    """Raises OSError; ELOOP if a component is a symbolic link."""
    handle = fsops.pin(path)
    try:
        return _node(handle, path)
    finally:
        os.close(handle)


def walk(root: str, notes: list[Note]) -> Iterator[Node]:
    """Root and everything below it, parents first.  Raises OSError if root cannot be read.

    Descriptors are bounded by depth, memory by the number of subdirectories of one path.
    """
    handle = fsops.pin(root)
    try:
        yield _node(handle, root)
        top = fsops.open_dir(".", dir_fd=handle)
    finally:
        os.close(handle)
    stack: list[tuple[int, str, Iterator[str]]] = []
    try:
        stack.append((top, root, iter(sorted(os.listdir(top)))))
        while stack:
            fd, path, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                os.close(fd)
                continue
            node = _child(fd, name, f"{path}/{name}", notes)
            if node is None:
                continue
            yield node
            if not node.inode.is_directory:
                continue
            if len(stack) >= MAX_DEPTH:
                notes.append(Note(node.path, f"is more than {MAX_DEPTH} levels deep: left out"))
                continue
            below = _enter(fd, name, node, notes)
            if below is not None:
                stack.append((below, node.path, iter(sorted(os.listdir(below)))))
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _child(fd: int, name: str, path: str, notes: list[Note]) -> Node | None:
    try:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError as error:
        if error.errno not in _GONE:
            notes.append(Note(path, f"could not be looked at: {error.strerror}"))
        return None
    try:
        return _node(handle, path)
    except OSError as error:
        notes.append(Note(path, f"could not be looked at: {error.strerror}"))
        return None
    finally:
        os.close(handle)


def _enter(fd: int, name: str, node: Node, notes: list[Note]) -> int | None:
    """The directory that was looked at, and no other that got its name meanwhile."""
    try:
        below = fsops.open_dir(name, dir_fd=fd)
    except OSError as error:
        if error.errno not in _GONE:
            notes.append(Note(node.path, f"could not be read: {error.strerror}"))
        return None
    status = os.fstat(below)
    if (status.st_dev, status.st_ino) != (node.device, node.number):
        os.close(below)
        notes.append(Note(node.path, "was replaced while it was looked at: plan again"))
        return None
    return below


def _node(handle: int, path: str) -> Node:
    status = os.fstat(handle)
    acl = default = None
    if not stat.S_ISLNK(status.st_mode):
        acl = _acl(handle, ACCESS)
        default = _acl(handle, DEFAULT) if stat.S_ISDIR(status.st_mode) else None
    inode = Inode(path, status.st_mode, status.st_uid, status.st_gid, acl, default)
    return Node(inode, status.st_dev, status.st_ino, status.st_nlink)


def _acl(handle: int, name: str) -> PosixAcl | None:
    try:
        return parse_posix_acl(os.getxattr(fsops.through(handle), name))
    except OSError as error:
        if error.errno in _NO_ACL:
            return None
        raise
