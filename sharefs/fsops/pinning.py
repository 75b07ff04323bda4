"""One inode held fast while it is repaired, whatever happens to its name."""

import contextlib
import errno
import os
import stat
import threading
from dataclasses import dataclass

from sharefs.fsops.base import Name
from sharefs.fsops.creating import temp_name
from sharefs.fsops.linking import write_all
from sharefs.fsops.moving import fsync_dir
from sharefs.fsops.opening import directory, open_beneath
from sharefs.permissions.posix_acl import ACCESS


def pin(path: Name) -> int:
    """A handle (O_PATH) on the very inode at an absolute path.  The caller closes it.

    No component may be a symbolic link (ELOOP, or ENOTDIR in the middle): whoever may write to a
    directory on the way could lead the superuser anywhere.  What is done through the handle is
    done to this inode, whatever is renamed meanwhile.
    """
    text = os.fspath(path)
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    parts = [part for part in text.split("/") if part]
    if ".." in parts or "." in parts:
        raise ValueError(f"{text!r} has a component '.' or '..'")
    handle = _pin_at_once(text)
    if handle is None:
        handle = _pin_step_by_step(parts, text)
    if stat.S_ISLNK(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), text)
    return handle


_no_openat2 = threading.Event()


def _pin_at_once(path: str) -> int | None:
    """One system call for the whole path; None: the kernel has none such, or forbids it."""
    if _no_openat2.is_set():
        return None
    with directory("/", search_only=True) as top:
        try:
            return open_beneath(path.strip("/") or ".", os.O_PATH, dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
            _no_openat2.set()
            return None


def _pin_step_by_step(parts: list[str], text: str) -> int:
    handle = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if last else os.O_DIRECTORY)
            step = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = step
    except OSError as error:
        os.close(handle)
        raise OSError(error.errno, os.strerror(error.errno or 0), text) from error
    return handle


def through(handle: int) -> str:
    """A path that leads to a handle's inode and nowhere else."""
    return f"/proc/self/fd/{handle}"


def set_mode(handle: int, mode: int) -> None:
    """chmod(2) of a pinned inode."""
    os.chmod(through(handle), mode)


def set_owner(handle: int, *, uid: int = -1, gid: int = -1) -> None:
    """chown(2) of a pinned inode."""
    os.chown(through(handle), uid, gid)


def set_link_owner(name: Name, uid: int, gid: int, *, dir_fd: int) -> None:
    """chown of a symbolic link itself."""
    os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Dress:
    """All that a file is besides its content and its name.  acl: the access ACL's attribute."""

    uid: int
    gid: int
    mode: int
    acl: bytes | None = None
    mtime_ns: int | None = None


def replace_dressed(name: Name, content: bytes, dress: Dress, *, dir_fd: int) -> None:
    """Replace a file at once by one with this content, owner, group, mode, ACL and time.

    Durable when this returns.  Callers hold whatever lock the format asks for.
    """
    temp = temp_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temp, flags, 0o600, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, content)
            os.fchown(fd, dress.uid, dress.gid)
            _dress_acl(fd, dress.acl)
            os.fchmod(fd, dress.mode)
            if dress.mtime_ns is not None:
                os.utime(fd, ns=(dress.mtime_ns, dress.mtime_ns))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=dir_fd)
        raise
    fsync_dir(dir_fd=dir_fd)


def _dress_acl(fd: int, acl: bytes | None) -> None:
    if acl is not None:
        os.setxattr(fd, ACCESS, acl)
        return
    try:  # what the directory's default ACL gave it
        os.removexattr(fd, ACCESS)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
