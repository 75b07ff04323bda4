"""Creating files, directories and links with the permissions that a Creation says."""

import contextlib
import errno
import logging
import os
import secrets
import socket
import stat
import threading
from collections.abc import Iterator
from typing import Final

from sharefs.fsops.base import GroupRefused, Name, demand_zero, libc
from sharefs.fsops.opening import directory
from sharefs.permissions.acting import file_uid
from sharefs.permissions.inherit import Creation
from sharefs.permissions.roots import RootPlan

log = logging.getLogger("sharefs.fsops")

_CLONE_FS: Final = 0x200  # linux/sched.h: umask and working directory of a thread


def create_file(
    name: Name,
    creation: Creation,
    *,
    dir_fd: int | None = None,
    flags: int = os.O_RDWR,
    group_required: bool = False,
) -> int:
    """Create a file that did not exist and open it.  The caller closes it.

    Raises FileExistsError.  A refused chgrp is logged and the file kept, with the kernel's group;
    with group_required it is removed again and GroupRefused raised.  Any other failure removes it.
    """
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # Only a group still to be chosen is a reason to keep others out for a moment: whoever waits for
    # a lock file wants to look at it as soon as it is there.
    first = creation.file_mode & 0o777 if creation.gid is None else 0o600
    fd = os.open(name, flags, first, dir_fd=dir_fd)
    try:
        set_permissions(fd, name, creation, group_required=group_required)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=dir_fd)
        raise
    return fd


# open(2): file systems without O_TMPFILE, and kernels that take it for O_DIRECTORY.
NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def create_unnamed(directory: Name, creation: Creation) -> int | None:
    """A new file that has no name yet, for name_file().  The caller closes it.

    Nobody can see it before it is complete, and nothing of it stays if this process dies.
    None: the file system cannot.
    """
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in NO_TMPFILE:
            return None
        raise
    try:
        set_permissions(fd, directory, creation)
    except BaseException:
        os.close(fd)
        raise
    return fd


def name_file(fd: int, name: Name, *, dir_fd: int | None = None) -> None:
    """Give a file of create_unnamed() its name.  Raises FileExistsError."""
    # With a dir_fd, which an absolute path ignores, this is linkat(2) following the link in /proc.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, dst_dir_fd=dir_fd, follow_symlinks=True)


def set_permissions(
    fd: int, name: Name, creation: Creation, *, group_required: bool = False
) -> None:
    """Give a file of ours the group and mode of its creation.  name: for messages."""
    status = os.fstat(fd)
    if creation.gid is not None and status.st_gid != creation.gid:
        try:
            os.fchown(fd, -1, creation.gid)
        except PermissionError:
            refused = GroupRefused(os.fspath(name), creation.gid, creation.origin, kept=True)
            if group_required:
                raise refused from None
            _tell_kept(str(refused.strerror), os.fspath(name), creation.origin, status.st_gid)
    if stat.S_IMODE(status.st_mode) != creation.file_mode:
        os.fchmod(fd, creation.file_mode)  # after fchown(2), which may clear bits


_told: set[tuple[str, int]] = set()  # origins and groups that the log has heard of


def _tell_kept(why: str, name: str | bytes, origin: str, gid: int) -> None:
    """Log a refused group once for each directory it comes from, not for each message."""
    if (origin, gid) not in _told:
        _told.add((origin, gid))
        log.warning("%s: %s; kept with group %d", os.fsdecode(name), why, gid)


def make_dir(name: Name, creation: Creation, *, dir_fd: int | None = None) -> None:
    """Make a directory with the creation's mode and group, whatever the umask.

    Raises FileExistsError; GroupRefused, with the directory removed again, if the kernel refuses
    the chgrp.  A setgid bit handed down by the kernel stays unless a group is chosen.
    """
    # With a group still to be chosen nobody else may look in; without one mkdir(2) gets the mode
    # itself, because a later chmod(2) by a process outside the group would clear setgid.
    first = creation.dir_mode & 0o1777 if creation.gid is None else 0o700
    os.mkdir(name, first, dir_fd=dir_fd)
    try:
        _finish_dir(name, creation, dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=dir_fd)
        raise


def _finish_dir(name: Name, creation: Creation, dir_fd: int | None) -> None:
    setgid = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode & stat.S_ISGID
    with _new_directory(name, dir_fd) as fd:
        status = os.fstat(fd)
        if status.st_uid != file_uid():
            raise PermissionError(
                errno.EPERM, "somebody put another directory in its place", os.fspath(name)
            )
        want = creation.dir_mode
        if creation.gid is None:
            want |= setgid
        elif status.st_gid != creation.gid:
            try:
                os.fchown(fd, -1, creation.gid)
            except PermissionError:
                raise GroupRefused(os.fspath(name), creation.gid, creation.origin) from None
        if stat.S_IMODE(status.st_mode) == want:
            return
        os.fchmod(fd, want)
        lost = want & stat.S_ISGID and not os.fstat(fd).st_mode & stat.S_ISGID
    if lost:
        # The umask forced a chmod(2), and outside the group that cleared setgid (inode(7)).
        # Only mkdir(2) itself can give both, so make it again where the umask is zero.
        os.rmdir(name, dir_fd=dir_fd)
        _mkdir_without_umask(name, creation.dir_mode & 0o1777, dir_fd)


@contextlib.contextmanager
def _new_directory(name: Name, dir_fd: int | None) -> Iterator[int]:
    """Open a directory that we just made, even if a default ACL keeps its owner from reading it."""
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(directory(name, dir_fd=dir_fd))
        except PermissionError:
            handle = stack.enter_context(directory(name, dir_fd=dir_fd, search_only=True))
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)  # O_PATH knows no fchmod(2)
            fd = stack.enter_context(directory(name, dir_fd=dir_fd))
        yield fd


def _mkdir_without_umask(name: Name, mode: int, dir_fd: int | None) -> None:
    """mkdir(2) in a thread that shares no umask with the rest of the process."""
    failures: list[OSError] = []

    def make() -> None:
        try:
            demand_zero(libc.unshare(_CLONE_FS), name)
            libc.umask(0)
            os.mkdir(path, mode, dir_fd=dir_fd)
        except OSError as error:
            failures.append(error)

    path = name if dir_fd is not None else os.path.abspath(name)
    thread = threading.Thread(target=make, name="mkdir")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def make_dirs(path: Name, creation: Creation) -> None:
    """Make a directory and its missing parents, all with the same permissions.

    Harmless if it exists.  Existing directories are never changed.
    """
    path = os.fspath(path)
    try:
        make_dir(path, creation)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        parent = os.path.dirname(path.rstrip("/"))
        if parent in ("", path):
            raise
        make_dirs(parent, creation)
        with contextlib.suppress(FileExistsError):
            make_dir(path, creation)


def make_root(plan: RootPlan) -> None:
    """Carry out a plan for a missing mail root.  Somebody else making it first is harmless."""
    for step in plan.steps:
        try:
            make_dir(step.path, step.creation)
        except FileExistsError:
            if not os.path.isdir(step.path):
                raise


def symlink(target: Name, name: Name, *, dir_fd: int | None = None) -> None:
    """Raises FileExistsError."""
    os.symlink(target, name, dir_fd=dir_fd)


def temp_name(prefix: str = ".temp.") -> str:
    """A name that nobody else uses: prefix, host, pid, 16 hex digits."""
    return f"{temp_start(os.getpid(), prefix)}{secrets.token_hex(8)}"


def temp_start(pid: int, prefix: str = ".temp.") -> str:
    """How every temp_name() of a process of this host begins: what it left if it was killed."""
    host = socket.gethostname().replace("/", "_").replace(":", "_")
    return f"{prefix}{host}.{pid}."
