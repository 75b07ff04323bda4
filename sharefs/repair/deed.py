"""Doing one change to the very inode that it names, and seeing how things stand.

Nothing here follows a symbolic link, trusts a name twice, or reads or writes a message: handles
are pinned (fsops.pin), compared with the plan's device and inode, and then changed themselves.
"""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.permissions.inherit import Creation, Facts
from sharefs.permissions.posix_acl import (
    ACCESS,
    DEFAULT,
    acl_text,
    format_posix_acl,
    parse_acl_text,
    parse_posix_acl,
)
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair.change import Change, Kind
from sharefs.repair.edit import Changed, edited, is_done

LOCK_TIMEOUT: Final = 30.0  # seconds; of ACL files and the sharing map's file
LOCK_STALE: Final = 120.0
MAX_SIZE: Final = 64 << 20  # octets; of a sharing map.  More is no file of ours
_NO_ACL: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Picture:
    """A small file, whole: enough to put it back exactly."""

    content: bytes
    dress: fsops.Dress


# --- pinning -----------------------------------------------------------------------------------


@contextlib.contextmanager
def pinned(change: Change, *, any_device: bool = False) -> Iterator[int]:
    """A handle on the inode that a change names.  Raises Changed if another one is there.

    any_device: the host was started anew since, which may number devices differently.
    """
    path = os.path.dirname(change.path) if _in_directory(change) else change.path
    try:
        handle = fsops.pin(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
            raise Changed(f"{path} cannot be reached any more: {error.strerror}") from error
        raise
    try:
        status = os.fstat(handle)
        device = status.st_dev if any_device else change.device
        if (status.st_dev, status.st_ino) != (device, change.inode):
            raise Changed(f"{path} is not the inode it was: somebody replaced it")
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise Changed(f"{path} is neither a file nor a directory")
        yield handle
    finally:
        os.close(handle)


def _in_directory(change: Change) -> bool:
    return change.kind in (Kind.ACL_LINE, Kind.MAP_ENTRY, Kind.SYMLINK)


# --- how things stand --------------------------------------------------------------------------


def observed(change: Change, handle: int) -> str | None:
    """The present value, in the change's text form; of lines, whether it is old or new."""
    status = os.fstat(handle)
    match change.kind:
        case Kind.CHMOD | Kind.SETGID:
            return f"{stat.S_IMODE(status.st_mode):04o}"
        case Kind.CHGRP:
            return str(status.st_gid)
        case Kind.CHOWN:
            return str(status.st_uid)
        case Kind.SETFACL:
            octets = _attribute(handle, ACCESS)
            return acl_text(minimal_acl(status.st_mode)) if octets is None else _text_of(octets)
        case Kind.DEFACL:
            octets = _attribute(handle, DEFAULT)
            return "" if octets is None else _text_of(octets)
        case Kind.SYMLINK:
            try:
                return os.readlink(_name(change), dir_fd=handle)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise Changed(f"{change.path} is no symbolic link") from error
        case _:
            picture = take_picture(change, handle)
            content = None if picture is None else picture.content
            if is_done(change, content):
                return change.new
            edited(change, content)
            return change.old


def take_picture(change: Change, handle: int) -> Picture | None:
    """The file that a line is to be changed in, or a link with its target as content.

    None: it is not there.
    """
    if change.kind is Kind.SYMLINK:
        return _take_link(change, handle)
    try:
        fd = fsops.open_file(_name(change), dir_fd=handle)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL):
            raise Changed(f"{change.path} is a symbolic link or no regular file") from error
        raise
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if status.st_size > MAX_SIZE:
            raise Changed(f"{change.path} has {status.st_size} octets: more than any such file")
        dress = fsops.Dress(
            status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode),
            _attribute(fd, ACCESS), status.st_mtime_ns,
        )  # fmt: skip
        return Picture(file.readall() or b"", dress)


def _take_link(change: Change, handle: int) -> Picture | None:
    try:
        target = os.readlink(_name(change), dir_fd=handle)
        status = os.stat(_name(change), dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None
    dress = fsops.Dress(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return Picture(os.fsencode(target), dress)


def _attribute(handle: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fsops.through(handle), name)
    except OSError as error:
        if error.errno in _NO_ACL:
            return None
        raise


# The files of a mailbox have few different ACLs between them.
@functools.lru_cache(maxsize=1024)
def _text_of(octets: bytes) -> str:
    return acl_text(parse_posix_acl(octets))


@functools.lru_cache(maxsize=1024)
def _octets_of(text: str) -> bytes:
    return format_posix_acl(parse_acl_text(text))


def _name(change: Change) -> str:
    return os.path.basename(change.path)


# --- doing -------------------------------------------------------------------------------------


def perform(change: Change, handle: int, picture: Picture | None = None) -> None:
    """Set the new value on a pinned inode that has the old one.  Raises OSError, Changed.

    picture: of a link that was there before and shall be again, for its owner.
    """
    new = change.new or ""
    match change.kind:
        case Kind.CHMOD | Kind.SETGID:
            fsops.set_mode(handle, int(new, 8))
        case Kind.CHGRP:
            fsops.set_owner(handle, gid=int(new))
        case Kind.CHOWN:
            fsops.set_owner(handle, uid=int(new))
        case Kind.SETFACL:
            _set_acl(handle, ACCESS, new)
        case Kind.DEFACL:
            _set_acl(handle, DEFAULT, new)
        case Kind.SYMLINK:
            _set_link(change, handle, picture)
        case _:
            with _locked(change, handle):
                picture = take_picture(change, handle)
                content = edited(change, None if picture is None else picture.content)
                dress = _new_dress(handle) if picture is None else picture.dress
                fsops.replace_dressed(_name(change), content, _without_time(dress), dir_fd=handle)
    # A file system may take a value and not keep it.
    got = observed(change, handle)
    if got != change.new:
        raise Changed(f"{change.path}: the kernel did not keep {change.new!r}; there is {got!r}")


def put_back(change: Change, handle: int, picture: Picture | None) -> None:
    """Undo the change of a line.  picture: the file before it.

    If nobody changed the file since, it becomes what it was, octet for octet, times included.  In
    the sharing map, which changes with every share on the host, else only our key is undone.
    Raises Changed.
    """
    with _locked(change, handle):
        back = way_back(change, handle, picture)
        if back is None:
            fsops.unlink(_name(change), dir_fd=handle, missing_ok=True)
        else:
            fsops.replace_dressed(_name(change), back.content, back.dress, dir_fd=handle)


def way_back(change: Change, handle: int, picture: Picture | None) -> Picture | None:
    """What put_back() would make of the file.  None: it would go.  Raises Changed."""
    before = None if picture is None else picture.content
    present = take_picture(change, handle)
    content = None if present is None else present.content
    if content in (before, edited(change, before)):
        return picture
    if change.kind is not Kind.MAP_ENTRY or present is None:
        raise Changed(
            f"{change.path} was changed by somebody else since; what was changed here: {change}"
        )
    undone = is_done(change.inverse(), present.content)
    content = present.content if undone else edited(change.inverse(), present.content)
    return Picture(content, _without_time(present.dress))


@contextlib.contextmanager
def _locked(change: Change, handle: int) -> Iterator[None]:
    """The lock that Dovecot takes for such a file, in the pinned directory and no other."""
    path = f"{fsops.through(handle)}/{_name(change)}"
    with DotLock(path, timeout=LOCK_TIMEOUT, stale=LOCK_STALE):
        yield


def sweep(change: Change, handle: int, pids: Collection[int]) -> None:
    """Remove what killed processes of ours left beside a file or link that was being changed."""
    if not _in_directory(change):
        return
    starts = tuple(map(fsops.temp_start, pids))
    with fsops.directory(".", dir_fd=handle) as fd, os.scandir(fd) as entries:
        names = [entry.name for entry in entries if starts and entry.name.startswith(starts)]
    for name in names:
        fsops.unlink(name, dir_fd=handle, missing_ok=True)
    if change.kind is not Kind.SYMLINK:
        with _locked(change, handle):
            pass  # a lock of a dead process is broken, and ours is gone with the block


def _set_acl(handle: int, name: str, text: str) -> None:
    """Three entries given as an access ACL become mode bits, and an ACL that was there goes."""
    path = fsops.through(handle)
    if text:
        os.setxattr(path, name, _octets_of(text))
        return
    with contextlib.suppress(OSError):
        os.removexattr(path, name)


def _set_link(change: Change, handle: int, picture: Picture | None) -> None:
    """At once: there is the old link or the new one, and never one that belongs to root."""
    name = _name(change)
    if change.new is None:
        fsops.unlink(name, dir_fd=handle)
        return
    temp = fsops.temp_name()
    fsops.symlink(change.new, temp, dir_fd=handle)
    try:
        if os.geteuid() == 0:  # it lies in somebody's tree
            status = os.fstat(handle)
            owner = (status.st_uid, status.st_gid)
            if picture is not None:
                owner = (picture.dress.uid, picture.dress.gid)
            fsops.set_link_owner(temp, *owner, dir_fd=handle)
        move = fsops.rename_new if change.old is None else fsops.rename
        move(fsops.Entry(handle, temp), fsops.Entry(handle, name))
    except BaseException:
        fsops.unlink(temp, dir_fd=handle, missing_ok=True)
        raise


def _new_dress(handle: int) -> fsops.Dress:
    """What a new file in a mailbox's directory gets: the owner of the directory, and its rule."""
    status = os.fstat(handle)
    creation = Creation.of_directory(
        Facts(status.st_mode, status.st_uid, status.st_gid, ""), egid=status.st_gid
    )
    uid = status.st_uid if os.geteuid() == 0 else -1
    return fsops.Dress(uid, status.st_gid, creation.file_mode)


def _without_time(dress: fsops.Dress) -> fsops.Dress:
    """A change is news: list caches compare the time."""
    return fsops.Dress(dress.uid, dress.gid, dress.mode, dress.acl)
