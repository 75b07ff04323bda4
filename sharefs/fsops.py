"""System calls that create, link, move, remove and set permissions: hardened, in one place.

Every function takes a name and an optional dir_fd (None: the name is a path).  Rules of this file:
nothing here follows a symbolic link in the last component unless it says so; every descriptor is
close-on-exec; a name is created with O_EXCL or not at all; nobody ever sees a file with half its
permissions: where a group is to be given, it is made for the owner alone, then given its group,
then its mode.

The umask never matters here and is never touched: it belongs to the whole process.
"""

import contextlib
import ctypes
import enum
import errno
import logging
import os
import secrets
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sharefs.permissions.inherit import Creation
from sharefs.permissions.posix_acl import ACCESS
from sharefs.permissions.roots import RootPlan

log = logging.getLogger(__name__)

Name = str | os.PathLike[str]

# link(2) refusals that mean "this file system or policy has no links here", so copying is the
# answer.  A full disk or an exceeded quota is not among them, nor a name that exists.
# EPERM is protected_hardlinks or a file system without links (proc(5), link(2)).
LINK_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}
)
COPY_CHUNK: Final = 1 << 20  # octets for each copy_file_range(2) or read(2)
# copy_file_range(2) cannot serve this pair of files; read and write can.
_RANGE_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)
_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_CLONE_FS: Final = 0x200  # linux/sched.h: umask and working directory of a thread


class GroupRefused(PermissionError):
    """The kernel refused a chgrp that the permissions of a mailbox ask for.

    The group is not among the process's.  Remedies: setgid on the origin directory, or the group
    in mail_access_groups.  origin: the directory whose group was to be copied.
    """

    def __init__(self, path: str, gid: int, origin: str, *, kept: bool = False) -> None:
        super().__init__(
            errno.EPERM,
            f"cannot give group {gid}, taken from {origin}, to a new {'file' if kept else 'name'}:"
            f" this process (euid {os.geteuid()}, egid {os.getegid()}) is not in that group;"
            f" set the setgid bit there (chmod g+s {origin}) or add the group to"
            " mail_access_groups",
            path,
        )
        self.gid = gid
        self.origin = origin


# --- opening -------------------------------------------------------------------------------


def open_dir(
    name: Name, *, dir_fd: int | None = None, follow: bool = False, search_only: bool = False
) -> int:
    """Open a directory for use as dir_fd.  The caller closes it.

    follow: a symbolic link in the last component is followed (symlink shares, linked roots).
    search_only: the directory need not be readable (mode --x); it cannot be listed then.
    """
    flags = (os.O_PATH if search_only else os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    if not follow:
        flags |= os.O_NOFOLLOW
    return os.open(name, flags, dir_fd=dir_fd)


@contextlib.contextmanager
def directory(
    name: Name, *, dir_fd: int | None = None, follow: bool = False, search_only: bool = False
) -> Iterator[int]:
    """open_dir() for the length of a `with`."""
    fd = open_dir(name, dir_fd=dir_fd, follow=follow, search_only=search_only)
    try:
        yield fd
    finally:
        os.close(fd)


def open_file(
    name: Name, flags: int = os.O_RDONLY, *, dir_fd: int | None = None, follow: bool = False
) -> int:
    """Open an existing regular file.  The caller closes it.

    Never creates, never truncates, never waits: a FIFO or device that someone put in a shared
    directory raises OSError(EINVAL) instead of hanging the process.
    """
    if flags & (os.O_CREAT | os.O_TRUNC):
        raise ValueError("open_file() opens what exists; use create_file() or replace_file()")
    extra = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(name, flags | extra, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(name))
    return fd


def read_file(name: Name, *, dir_fd: int | None = None, follow: bool = False) -> bytes:
    """The whole content of a regular file."""
    with open(open_file(name, dir_fd=dir_fd, follow=follow), "rb", buffering=0) as file:
        return file.read()


# openat2(2), linux/openat2.h
_SYS_OPENAT2: Final = 437  # on every architecture of Linux: numbers are common since 424
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
DIRECTORY_ONLY: Final = os.O_PATH | os.O_DIRECTORY


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(name: Name, flags: int, *, dir_fd: int) -> int:
    """Open something below a directory, no symbolic link anywhere, never out of it.

    The kernel enforces it (openat2(2), Linux 5.6).  Raises OSError: ELOOP for a link, EXDEV for a
    way out.  The caller closes it.
    """
    how = _OpenHow(
        flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )  # fmt: skip
    fd = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(dir_fd), ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
    )  # fmt: skip
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(name))
    return int(fd)


# --- creating ------------------------------------------------------------------------------


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
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def create_unnamed(directory: Name, creation: Creation) -> int | None:
    """A new file that has no name yet, for name_file().  The caller closes it.

    Nobody can see it before it is complete, and nothing of it stays if this process dies.
    None: the file system cannot.
    """
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return None
        raise
    try:
        set_permissions(fd, directory, creation)
    except BaseException:
        os.close(fd)
        raise
    return fd


def name_file(fd: int, name: Name) -> None:
    """Give a file of create_unnamed() its name.  Raises FileExistsError."""
    # With a dir_fd, which an absolute path ignores, this is linkat(2) following the link in /proc.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)


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
            log.warning("%s; kept with group %d", refused, status.st_gid)
    if stat.S_IMODE(status.st_mode) != creation.file_mode:
        os.fchmod(fd, creation.file_mode)  # after fchown(2), which may clear bits


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
        if status.st_uid != os.geteuid():
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
            _call(_libc.unshare(_CLONE_FS), name)
            _libc.umask(0)
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


# --- linking and copying -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory.  dir_fd None: the name is a path."""

    dir_fd: int | None
    name: Name


class Placed(enum.Enum):
    """How a message came to its second place."""

    LINKED = "linked"
    COPIED = "copied"


def link(source: Entry, dest: Entry) -> None:
    """Hard link, never through a symbolic link.  Raises FileExistsError."""
    os.link(
        source.name, dest.name, src_dir_fd=source.dir_fd, dst_dir_fd=dest.dir_fd,
        follow_symlinks=False,
    )  # fmt: skip


def link_or_copy(
    source: Entry, dest: Entry, creation: Creation, *, alike: bool, fsync: bool = False
) -> Placed:
    """Put source's content at dest, which must not exist (else FileExistsError).

    creation: of the destination mailbox.  alike: link_decision() allows one inode for both.
    A copy keeps the modification time, which is a Maildir message's INTERNALDATE.  Errors of
    link(2) outside LINK_REFUSED propagate: a full disk is not a reason to copy.
    """
    if alike:
        try:
            link(source, dest)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
        else:
            return Placed.LINKED
    copy_file(source, dest, creation, fsync=fsync)
    return Placed.COPIED


def copy_file(source: Entry, dest: Entry, creation: Creation, *, fsync: bool = False) -> None:
    """Copy content and modification time to a new file.  A failed copy leaves nothing behind."""
    from_fd = open_file(source.name, dir_fd=source.dir_fd)
    try:
        to_fd = create_file(dest.name, creation, dir_fd=dest.dir_fd, flags=os.O_WRONLY)
        try:
            copy_octets(from_fd, to_fd)
            status = os.fstat(from_fd)
            os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            if fsync:
                os.fsync(to_fd)
        except BaseException:
            os.unlink(dest.name, dir_fd=dest.dir_fd)
            raise
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def copy_octets(from_fd: int, to_fd: int) -> None:
    """Everything from the one's position on, to the other's."""
    try:
        while os.copy_file_range(from_fd, to_fd, COPY_CHUNK):
            pass
    except OSError as error:
        if error.errno not in _RANGE_REFUSED:
            raise
    # Also what some file systems answer with 0 octets for (proc, some network ones).
    while octets := os.read(from_fd, COPY_CHUNK):
        write_all(to_fd, octets)


def write_all(fd: int, octets: bytes | memoryview) -> None:
    """write(2) until everything is written."""
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view) :]


# --- moving and replacing ------------------------------------------------------------------


def rename(source: Entry, dest: Entry) -> None:
    """rename(2): atomically replaces a file of that name.  Mailboxes use rename_new()."""
    os.rename(source.name, dest.name, src_dir_fd=source.dir_fd, dst_dir_fd=dest.dir_fd)


def rename_new(source: Entry, dest: Entry) -> None:
    """Rename, but raise FileExistsError rather than replace anything.

    Where the file system lacks RENAME_NOREPLACE, files go by link(2) and unlink(2), which is as
    safe; a directory is then only checked first.
    """
    result = _libc.renameat2(
        _AT_FDCWD if source.dir_fd is None else source.dir_fd, os.fsencode(source.name),
        _AT_FDCWD if dest.dir_fd is None else dest.dir_fd, os.fsencode(dest.name),
        _RENAME_NOREPLACE,
    )  # fmt: skip
    if result == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), os.fspath(source.name), None, os.fspath(dest.name))
    status = os.stat(source.name, dir_fd=source.dir_fd, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        link(source, dest)
        os.unlink(source.name, dir_fd=source.dir_fd)
        return
    if exists(dest.name, dir_fd=dest.dir_fd):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(dest.name))
    rename(source, dest)


def replace_file(
    name: Name,
    content: bytes,
    creation: Creation,
    *,
    dir_fd: int | None = None,
    fsync: bool = True,
    group_required: bool = False,
) -> None:
    """Replace a file's content at once, or create it: readers see the old or the new, whole.

    The new file has the creation's permissions.  fsync: the file and its directory are on disk
    when this returns.  Callers hold whatever lock the format asks for.
    """
    folder, _ = os.path.split(os.fspath(name))
    temp = os.path.join(folder, temp_name())
    fd = create_file(temp, creation, dir_fd=dir_fd, group_required=group_required)
    try:
        try:
            write_all(fd, content)
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=dir_fd)
        raise
    if fsync:
        fsync_dir(folder or ".", dir_fd=dir_fd)


def fsync_dir(name: Name = ".", *, dir_fd: int | None = None) -> None:
    """Make created, renamed and removed names durable.  A directory that only allows search, or
    a file system that cannot, is passed over: there is nothing better to do."""
    try:
        fd = open_dir(name, dir_fd=dir_fd, follow=True)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):
            raise
    finally:
        os.close(fd)


# --- removing ------------------------------------------------------------------------------


def unlink(name: Name, *, dir_fd: int | None = None, missing_ok: bool = False) -> bool:
    """Remove a file or a symbolic link.  Returns whether there was one."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        if not missing_ok:
            raise
        return False
    return True


def rmdir(name: Name, *, dir_fd: int | None = None) -> None:
    """Remove an empty directory."""
    os.rmdir(name, dir_fd=dir_fd)


def remove_tree(name: Name, *, dir_fd: int | None = None) -> None:
    """Remove a directory and everything below it, never following a symbolic link.

    Names that vanish meanwhile are fine; one that cannot be removed raises and the rest stays.
    Depth is bounded by descriptors, not by Python's stack.
    """
    # Each level: its descriptor, its own name, the subdirectories still to be removed.
    top = open_dir(name, dir_fd=dir_fd)
    levels: list[tuple[int, str, list[str]]] = [(top, "", [])]
    try:
        levels[0][2].extend(_remove_files(top))
        while levels:
            fd, own, pending = levels[-1]
            if pending:
                child = pending.pop()
                try:
                    child_fd = open_dir(child, dir_fd=fd)
                except FileNotFoundError:
                    continue
                levels.append((child_fd, child, []))
                levels[-1][2].extend(_remove_files(child_fd))
                continue
            levels.pop()
            os.close(fd)
            if levels:
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(own, dir_fd=levels[-1][0])
    finally:
        for fd, _, _ in levels:
            os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _remove_files(fd: int) -> list[str]:
    """Unlink all but the directories; return those."""
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if not is_dir:
            unlink(name, dir_fd=fd, missing_ok=True)
    return [name for name, is_dir in found if is_dir]


def exists(name: Name, *, dir_fd: int | None = None) -> bool:
    """Whether the name is taken, by a dangling symbolic link too."""
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


# --- permissions on what exists ------------------------------------------------------------


def change_permissions(
    name: Name, *, mode: int | None = None, gid: int | None = None, dir_fd: int | None = None
) -> None:
    """chgrp and chmod an existing file or directory, never through a symbolic link.

    For administrators' commands only: mail programs never change what exists.  The group goes
    first, since a chgrp may clear setgid.
    """
    fd = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
        dir_fd=dir_fd,
    )  # fmt: skip
    try:
        if gid is not None:
            os.fchown(fd, -1, gid)
        if mode is not None:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def open_socket_to(name: Name, mode: int) -> None:
    """chmod a Unix socket that this process has bound: who may write it may connect (unix(7)).

    A socket cannot be opened for fchmod(2), and bind(2) masks with the umask.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), os.fspath(name))
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def give_away(fd: int, uid: int, gid: int) -> None:
    """chown an open file or directory.  Only the superuser can, for provisioning."""
    os.fchown(fd, uid, gid)


# --- on behalf of others ---------------------------------------------------------------------
#
# For a superuser who makes things that belong to somebody else (the mount).  What is made belongs
# to us until it is finished, so whoever may write to the directory cannot get hold of it earlier;
# owner, group and mode are given through a descriptor, never through the name again.


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a new file or directory ends up with.  mode: permission bits, setgid included."""

    uid: int
    gid: int
    mode: int


def create_owned(
    name: Name, owned: Ownership, *, dir_fd: int | None = None, flags: int = os.O_RDWR
) -> int:
    """Create a file that did not exist, for somebody else, and open it.  The caller closes it.

    Raises FileExistsError.  Any other failure removes the file again.
    """
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
    try:
        _hand_over(fd, owned)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=dir_fd)
        raise
    return fd


def make_owned_dir(name: Name, owned: Ownership, *, dir_fd: int | None = None) -> None:
    """Make a directory for somebody else.  Raises FileExistsError."""
    os.mkdir(name, 0o700, dir_fd=dir_fd)
    try:
        with directory(name, dir_fd=dir_fd) as fd:
            _demand_ours(os.fstat(fd), name)
            _hand_over(fd, owned)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=dir_fd)
        raise


def make_owned_symlink(
    target: Name, name: Name, owned: Ownership, *, dir_fd: int | None = None
) -> None:
    """Make a symbolic link for somebody else.  Raises FileExistsError.  Links have no mode."""
    os.symlink(target, name, dir_fd=dir_fd)
    _finish_special(name, owned, dir_fd, stat.S_IFLNK)


def make_owned_node(
    name: Name, kind: int, owned: Ownership, *, device: int = 0, dir_fd: int | None = None
) -> None:
    """mknod(2) for somebody else.  kind: S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK."""
    os.mknod(name, kind | 0o600, device, dir_fd=dir_fd)
    _finish_special(name, owned, dir_fd, kind)


def _finish_special(name: Name, owned: Ownership, dir_fd: int | None, kind: int) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        _demand_ours(status, name)
        if stat.S_IFMT(status.st_mode) != kind or status.st_nlink != 1:
            raise PermissionError(errno.EPERM, "somebody put something else in its place")
        if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
            chown_pinned(fd, owned.uid, owned.gid)
        if kind != stat.S_IFLNK:
            chmod_pinned(fd, owned.mode)
    finally:
        os.close(fd)


def _hand_over(fd: int, owned: Ownership) -> None:
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
        os.fchown(fd, owned.uid, owned.gid)
    os.fchmod(fd, owned.mode)  # after fchown(2), which clears setgid


def _demand_ours(status: os.stat_result, name: Name) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(
            errno.EPERM, "somebody put something else in its place", os.fspath(name)
        )


def chown_pinned(fd: int, uid: int, gid: int) -> None:
    """chown(2) of what an O_PATH descriptor stands for, a symbolic link itself included.

    -1 leaves an id as it is.  /proc is the way because fchown(2) refuses O_PATH.
    """
    os.chown(f"/proc/self/fd/{fd}", uid, gid)


def chmod_pinned(fd: int, mode: int) -> None:
    """chmod(2) of what an O_PATH descriptor stands for."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def drop_set_id(fd: int) -> None:
    """Take setuid and setgid from an open file, as write(2) does for those without CAP_FSETID."""
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def truncate_pinned(fd: int, length: int) -> None:
    """truncate(2) of the regular file that an O_PATH descriptor stands for."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.truncate(f"/proc/self/fd/{fd}", length)


def rename_flags(source: Entry, dest: Entry, flags: int) -> None:
    """renameat2(2) with its flags: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2.  No substitutes."""
    result = _libc.renameat2(
        _AT_FDCWD if source.dir_fd is None else source.dir_fd, os.fsencode(source.name),
        _AT_FDCWD if dest.dir_fd is None else dest.dir_fd, os.fsencode(dest.name), flags,
    )  # fmt: skip
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(source.name), None, os.fspath(dest.name))


# --- repairing: one inode, held fast -------------------------------------------------------


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


_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = [
    ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
]  # fmt: skip
_AT_FDCWD: Final = -100  # linux/fcntl.h


def _call(result: int, name: Name) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(name))
