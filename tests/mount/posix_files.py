"""System calls on what is in files, and on their attributes.  See `test_mirror_posix`."""

import contextlib
import fcntl
import functools
import mmap
import os
import select
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.mount.posix_names import Case, directory, opening, shape, tried, write

GIB: Final = 1 << 30
F_OFD_SETLK: Final = 37  # fcntl.h
ANOTHER: Final = 61003  # a uid and gid that the caller has nothing to do with


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    fd = opening(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def open_flags(top: Path) -> Any:
    """Every combination that matters, on each kind of file."""
    found: list[Any] = []
    for kind in ("file", "dir", "link", "missing"):
        for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            for more in (0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_APPEND,
                         os.O_CREAT | os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH,
                         os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND, os.O_NOATIME, os.O_SYNC,
                         os.O_DIRECTORY | os.O_NOFOLLOW):  # fmt: skip
                here = directory(top / f"{kind}-{access}-{more}")
                write(here / "target")
                match kind:
                    case "file":
                        write(here / "it")
                    case "dir":
                        directory(here / "it")
                    case "link":
                        (here / "it").symlink_to("target")
                got = tried(opening, here / "it", access | more)
                if isinstance(got, int):
                    kept = fcntl.fcntl(got, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
                    facts = tried(os.read, got, 9), tried(os.write, got, b"AB"), kept
                    os.close(got)
                    got = facts
                found.append((kind, access, more, got))
                found.append({path.name: shape(path.lstat()) for path in here.iterdir()})
    return found


def appending(top: Path) -> Any:
    path = write(top / "file", b"0123456789")
    with opened(path, os.O_WRONLY | os.O_APPEND) as one, opened(path, os.O_RDWR) as two:
        os.write(one, b"a")
        os.pwrite(two, b"B", 0)
        os.pwrite(one, b"c", 0)  # Linux appends all the same: pwrite(2), BUGS
        os.lseek(one, 3, os.SEEK_SET)
        os.write(one, b"d")
        os.ftruncate(two, 4)
        os.write(one, b"e")
        return path.read_bytes(), os.lseek(one, 0, os.SEEK_CUR), os.fstat(two).st_size


def appending_processes(top: Path) -> Any:
    """Nobody's line is lost or torn."""
    path = write(top / "log", b"")

    def lines(who: int) -> None:
        with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            for number in range(100):
                os.write(fd, f"{who} {number} {'x' * 200}\n".encode())

    in_children([functools.partial(lines, who) for who in range(3)])
    got = path.read_bytes().splitlines()
    path.unlink()  # the order is nobody's promise
    return sorted(got), len(got)


def in_children(actions: list[Callable[[], object]]) -> list[int]:
    """Each in a process of its own, at once.  Their exit statuses: what they returned, or 99."""
    pids = []
    for action in actions:
        pid = os.fork()
        if not pid:
            status = 99
            try:
                status = int(action() or 0)  # type: ignore[call-overload]  # an int or None
            finally:
                os._exit(status)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def exclusive_race(top: Path) -> Any:
    """O_EXCL, link(2) and mkdir(2) have one winner each."""

    def create(name: str) -> int:
        try:
            os.close(opening(top / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return 0
        return 1

    def link(name: str) -> int:
        return int(tried(os.link, top / "own", top / f"{name}-link") is None)

    def make(name: str) -> int:
        return int(tried(os.mkdir, top / f"{name}-dir") is None)

    write(top / "own")

    def run() -> int:
        return sum(one(str(number)) for number in range(40) for one in (create, link, make))

    return sum(in_children([run] * 4)), len(os.listdir(top))


def truncating(top: Path) -> Any:
    path = write(top / "file", b"0123456789")
    found: list[Any] = []
    for size in (4, 4, 100, 0, 5000):
        os.truncate(path, size)
        found.append((path.stat().st_size, path.read_bytes()))
    with opened(path, os.O_RDONLY) as fd:
        found.append(tried(os.ftruncate, fd, 0))
    with opened(path, os.O_RDWR) as fd:
        os.lseek(fd, 100, os.SEEK_SET)
        os.ftruncate(fd, 3)
        os.write(fd, b"x")
        found.append((os.fstat(fd).st_size, os.pread(fd, 200, 0)))
        found.append(tried(os.ftruncate, fd, -1))
    directory(top / "dir")
    return [
        *found, tried(os.truncate, top / "dir", 0), tried(os.truncate, top / "none", 0),
        tried(os.truncate, path, -5), tried(os.truncate, path, 1 << 50),
    ]  # fmt: skip


def truncated_below_a_reader(top: Path) -> Any:
    path = write(top / "file", b"x" * 10_000)
    with opened(path, os.O_RDONLY) as fd:
        first = len(os.read(fd, 4096))
        with opened(path, os.O_WRONLY | os.O_TRUNC):
            pass
        second = os.read(fd, 4096)
        path.write_bytes(b"new")
        return first, second, os.pread(fd, 100, 0)


def holes(top: Path) -> Any:
    path = top / "file"
    with opened(path, os.O_CREAT | os.O_RDWR) as fd:
        for offset in (0, 5 * GIB + 7, 2 * GIB - 1, 3 << 40):
            os.pwrite(fd, b"data", offset)
        status = os.fstat(fd)
        return [
            status.st_size, status.st_blocks, os.pread(fd, 8, 2 * GIB - 3),
            os.pread(fd, 8, 5 * GIB + 5), os.pread(fd, 3, GIB), os.lseek(fd, 0, os.SEEK_END),
            os.lseek(fd, -2, os.SEEK_END), os.read(fd, 10), tried(os.lseek, fd, -1, os.SEEK_SET),
            os.pread(fd, 8, 1 << 45),
        ]  # fmt: skip


def copying_in_the_kernel(top: Path) -> Any:
    source = write(top / "source", bytes(range(256)) * 4000)
    found: list[Any] = []
    with opened(source, os.O_RDONLY) as one, opened(top / "new", os.O_CREAT | os.O_RDWR) as two:
        # Btrfs shares whole blocks with the copy and leaves the rest to whoever asks again.
        found.append(0 < os.copy_file_range(one, two, 500_000) <= 500_000)
        while sent := os.sendfile(two, one, None, 1 << 20):
            found.append(sent > 0)
        left, right = os.pipe()
        found.append(os.splice(one, right, 4096, offset_src=512))
        found.append(len(os.read(left, 5000)))
        os.close(left)
        os.close(right)
        os.posix_fallocate(two, 2_000_000, 96)
    return found[0], (top / "new").read_bytes()[:1_024_000] == source.read_bytes(), found[-2:]


def mapped(top: Path) -> Any:
    path = write(top / "file", b"-" * 10_000)
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 10_000) as shared:
        with mmap.mmap(fd, 10_000, access=mmap.ACCESS_COPY) as private:
            private[0:4] = b"mine"
            shared[5000:5003] = b"all"
            shared.flush()
            found = [os.pread(fd, 3, 5000), os.pread(fd, 4, 0), private[5000:5003]]
        os.pwrite(fd, b"late", 8000)
        found.append(shared[8000:8004])
    return [*found, path.read_bytes()[4999:5004]]


def vectors(top: Path) -> Any:
    with opened(top / "file", os.O_CREAT | os.O_RDWR) as fd:
        written = os.writev(fd, [b"a" * 100_000, b"", b"b" * 200_001])
        os.pwritev(fd, [b"x", b"y"], 99_999)
        buffers = [bytearray(3), bytearray(3)]
        read = os.preadv(fd, buffers, 99_998)
        return written, read, [bytes(buffer) for buffer in buffers], os.fstat(fd).st_size


def syncing(top: Path) -> Any:
    with opened(top / "file", os.O_CREAT | os.O_RDWR | os.O_DSYNC) as fd:
        os.write(fd, b"hello")
        found = [tried(os.fsync, fd), tried(os.fdatasync, fd)]
    with opened(top, os.O_RDONLY) as fd:
        found += [tried(os.fsync, fd), tried(os.fdatasync, fd)]
    with opened(top / "file", os.O_RDONLY) as fd:
        return [*found, tried(os.fsync, fd)]


def times(top: Path) -> Any:
    path, made = write(top / "file"), directory(top / "dir")
    found: list[Any] = []
    for pair in ((0, 1), (10**18 + 123_456_789, 10**18 + 987_654_321), (2**33 * 10**9 + 1, 5)):
        for target in (path, made):
            os.utime(target, ns=pair)
            status = target.stat()
            found.append((status.st_atime_ns, status.st_mtime_ns))
    os.utime(path, ns=(-1_500_000_000, -1))
    found.append((path.stat().st_atime_ns, path.stat().st_mtime_ns))
    return found


def times_that_move(top: Path) -> Any:
    """Which call moves which time of what."""
    old = (10**18, 10**18)

    def moved(action: Callable[[], object], *watched: Path) -> list[tuple[bool, bool]]:
        for target in watched:
            os.utime(target, ns=old)
        before = [target.stat() for target in watched]
        select.select([], [], [], 0.012)  # longer than the clock of the file system stands still
        action()
        after = [target.stat() for target in watched]
        return [
            (two.st_mtime_ns != one.st_mtime_ns, two.st_ctime_ns > one.st_ctime_ns)
            for one, two in zip(before, after, strict=True)
        ]

    path, made = write(top / "file"), directory(top / "dir")
    return [
        moved(lambda: write(path, b"more"), path, top),
        moved(lambda: path.chmod(0o640), path, top),
        moved(lambda: os.truncate(path, 1), path),
        moved(lambda: write(made / "new"), made, top),
        moved(lambda: os.link(path, made / "link"), path, made),
        moved(lambda: (made / "link").unlink(), path, made),
        moved(lambda: (made / "new").rename(top / "new"), made, top),
        moved(lambda: os.setxattr(path, "user.x", b"1"), path),
        moved(lambda: os.utime(path), path),
        moved(lambda: path.read_bytes(), path),
        moved(lambda: os.truncate(path, 1), path),
    ]


def modes(top: Path) -> Any:
    path, made = write(top / "file"), directory(top / "dir")
    found: list[Any] = []
    for mode in (0o600, 0o000, 0o7777, 0o2755, 0o1777, 0o4711):
        for target in (path, made):
            os.chmod(target, mode)
            found.append(shape(target.stat())[0])
    os.chmod(made, 0o500)
    path.chmod(0o400)
    return [
        *found, tried(os.open, path, os.O_WRONLY), tried(os.truncate, path, 0),
        tried(os.mkdir, made / "x"), tried(os.listdir, made), os.access(path, os.W_OK),
        os.access(made, os.X_OK), tried(os.chmod, made, 0o700), tried(os.mkdir, made / "x"),
        tried(os.chmod, made, 0o600), tried((made / "x").exists), tried(os.listdir, made),
        tried(os.chmod, made, 0o700), tried(os.chmod, top / "none", 0o600),
    ]  # fmt: skip


def owners(top: Path) -> Any:
    path = write(top / "file")
    groups = sorted(os.getgroups())
    found: list[Any] = []
    for uid, gid in ((-1, -1), (os.getuid(), os.getgid()), (-1, groups[0]), (-1, ANOTHER),
                     (ANOTHER, -1), (ANOTHER, ANOTHER)):  # fmt: skip
        path.chmod(0o6755) if path.stat().st_uid == os.getuid() else None
        found.append((tried(os.chown, path, uid, gid), shape(path.stat())))
    (top / "link").symlink_to("none")
    return [*found, tried(os.chown, top / "link", -1, groups[0], follow_symlinks=False)]


def set_id_bits(top: Path) -> Any:
    """Writing takes them away.  (Not when the superuser writes: see test_mirror_posix.)"""
    found = []
    for action in ("write", "truncate", "open", "chown") if os.getuid() else ("chown",):
        path = write(top / action)
        path.chmod(0o6775)
        match action:
            case "write":
                with opened(path, os.O_WRONLY) as fd:
                    os.write(fd, b"x")
            case "truncate":
                os.truncate(path, 1)
            case "open":
                os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
            case "chown":
                os.chown(path, os.getuid(), os.getgid())
        found.append((action, shape(path.stat())))
    return found


def file_system(top: Path) -> Any:
    status = os.statvfs(top)
    return status.f_bsize, status.f_frsize, status.f_blocks, status.f_files, status.f_namemax


def running_a_program(top: Path) -> Any:
    script = write(top / "script", b"#!/bin/sh\necho ran\n")
    refused = tried(subprocess.run, [script], capture_output=True, check=False)
    script.chmod(0o700)
    program = write(top / "program", Path("/bin/true").read_bytes())
    program.chmod(0o700)
    return (
        refused, subprocess.run([script], capture_output=True, check=False).stdout,
        subprocess.run([program], check=False).returncode,
    )  # fmt: skip


def extended_attributes(top: Path) -> Any:
    path, made = write(top / "file"), directory(top / "dir")
    found: list[Any] = []
    for target in (path, made):
        found += [
            tried(os.listxattr, target),
            tried(os.setxattr, target, "user.one", b"1"),
            tried(os.setxattr, target, "user.empty", b""),
            tried(os.setxattr, target, "user.big", b"x" * 2000),
            tried(os.setxattr, target, "user.one", b"2", os.XATTR_CREATE),
            tried(os.setxattr, target, "user.two", b"2", os.XATTR_REPLACE),
            tried(os.setxattr, target, "user.one", b"3", os.XATTR_REPLACE),
            tried(os.setxattr, target, "user.new", b"4", os.XATTR_CREATE),
            tried(os.getxattr, target, "user.one"), tried(os.getxattr, target, "user.empty"),
            tried(os.getxattr, target, "user.big"), tried(os.getxattr, target, "user.none"),
            tried(os.getxattr, target, "user.sharefs.myrights"),
            sorted(os.listxattr(target)), tried(os.removexattr, target, "user.one"),
            tried(os.removexattr, target, "user.one"), sorted(os.listxattr(target)),
            tried(os.setxattr, target, "nonsense.x", b""), tried(os.setxattr, target, "user.", b""),
            tried(os.setxattr, target, "user.huge", b"x" * 65537),
            tried(os.setxattr, target, "user." + "n" * 251, b""),
            tried(os.getxattr, target, "trusted.x"), tried(os.getxattr, target, "security.x"),
        ]  # fmt: skip
    return found


def posix_acl(*entries: tuple[int, int, int]) -> bytes:
    """linux/posix_acl_xattr.h: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NONE: Final = 0xFFFFFFFF
_ACL: Final = posix_acl(
    (1, 6, _NONE), (2, 7, ANOTHER), (4, 4, _NONE), (16, 7, _NONE), (32, 0, _NONE)
)


def posix_acls(top: Path) -> Any:
    path, made = write(top / "file"), directory(top / "dir")
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    found = [
        tried(os.getxattr, path, access), tried(os.setxattr, path, access, _ACL),
        tried(os.getxattr, path, access), shape(path.stat()), sorted(os.listxattr(path)),
        tried(os.setxattr, path, default, _ACL), tried(os.setxattr, path, access, b"nonsense"),
        tried(os.setxattr, made, default, _ACL), tried(os.getxattr, made, default),
        shape(made.stat()),
    ]  # fmt: skip
    path.chmod(0o600)  # changes the mask, which takes the named user's rights away
    found.append(tried(os.getxattr, path, access))
    found.append(tried(os.removexattr, path, access))
    return [*found, tried(os.getxattr, path, access), shape(path.stat())]


def flocks(top: Path) -> Any:
    """flock(2) between two open files, and how it ends."""
    path = write(top / "file")
    now = fcntl.LOCK_NB
    with opened(path, os.O_RDWR) as one, opened(path, os.O_RDONLY) as two:
        found = [
            tried(fcntl.flock, one, fcntl.LOCK_EX | now),
            tried(fcntl.flock, two, fcntl.LOCK_EX | now),
            tried(fcntl.flock, two, fcntl.LOCK_SH | now),
            tried(fcntl.flock, one, fcntl.LOCK_SH | now),
            tried(fcntl.flock, two, fcntl.LOCK_SH | now),
            tried(fcntl.flock, one, fcntl.LOCK_EX | now),
            in_children([lambda: locked_out(path, fcntl.flock, fcntl.LOCK_EX | now)]),
            tried(fcntl.flock, two, fcntl.LOCK_UN),
            tried(fcntl.flock, one, fcntl.LOCK_EX | now),
        ]
    return [*found, in_children([lambda: locked_out(path, fcntl.flock, fcntl.LOCK_EX | now)])]


def locked_out(path: Path, lock: Callable[..., Any], *args: Any) -> int:
    with opened(path, os.O_RDWR) as fd:
        return int(tried(lock, fd, *args) is not None)


def range_locks(top: Path) -> Any:
    """fcntl(2) locks between two processes: ranges, kinds, and that any close(2) ends them."""
    path = write(top / "file", b"x" * 100)

    def probe(kind: int, length: int, start: int) -> int:
        return in_children([
            lambda: locked_out(path, fcntl.lockf, kind | fcntl.LOCK_NB, length, start)
        ])[0]  # fmt: skip

    ex, sh = fcntl.LOCK_EX, fcntl.LOCK_SH
    with opened(path, os.O_RDWR) as fd:
        fcntl.lockf(fd, ex, 10, 20)
        found = [probe(ex, 10, 0), probe(ex, 11, 10), probe(sh, 1, 29), probe(ex, 1, 30)]
        fcntl.lockf(fd, sh, 5, 20)
        found += [probe(sh, 5, 20), probe(ex, 5, 20), probe(sh, 5, 25), probe(sh, 0, 0)]
        fcntl.lockf(fd, fcntl.LOCK_UN, 5, 25)
        found += [probe(ex, 5, 25), probe(ex, 0, 0)]
        os.close(os.open(path, os.O_RDONLY))
        found += [probe(ex, 0, 0)]
        described = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(fd, F_OFD_SETLK, described)
        os.close(os.open(path, os.O_RDONLY))
        found += [probe(ex, 0, 0)]
    return [*found, probe(ex, 0, 0)]


def waiting_for_a_lock(top: Path) -> Any:
    """A second process waits, gets the lock when the first ends, and so nobody's count is lost."""
    path = write(top / "counter", b"0")

    def count(lock: Callable[..., Any]) -> None:
        for _ in range(25):
            with opened(path, os.O_RDWR) as fd:
                lock(fd, fcntl.LOCK_EX)
                value = int(os.pread(fd, 10, 0)) + 1
                os.pwrite(fd, b"%d" % value, 0)

    in_children([lambda: count(fcntl.lockf)] * 3)
    in_children([lambda: count(fcntl.flock)] * 3)
    return path.read_bytes()


def other_peoples_files(top: Path) -> Any:
    """top/theirs was made by the superuser: see prepare_other_peoples_files."""
    theirs, sticky = top / "theirs", top / "sticky"
    found: list[Any] = []
    for name in sorted(os.listdir(theirs)):
        path = theirs / name
        found.append((
            name, tried(path.read_bytes), tried(os.open, path, os.O_WRONLY),
            tried(os.open, path, os.O_RDONLY | os.O_TRUNC), tried(os.truncate, path, 0),
            tried(os.utime, path), tried(os.utime, path, ns=(1, 1)), tried(os.chmod, path, 0o777),
            tried(os.chown, path, os.getuid(), -1), tried(os.setxattr, path, "user.x", b""),
            tried(os.getxattr, path, "user.x"), os.access(path, os.R_OK), os.access(path, os.W_OK),
            tried(os.open, path, os.O_RDONLY | os.O_NOATIME), tried(os.listdir, path),
            tried(make_and_remove, path / "below"),
            tried(os.setxattr, path, "system.posix_acl_access", _ACL),
            tried(os.setxattr, path, "security.capability", b"x"),
        ))  # fmt: skip
        for fd in (one for one in found[-1] if type(one) is int):
            os.close(fd)
        found[-1] = tuple("opened" if type(one) is int else one for one in found[-1])
    return [
        *found, tried(os.unlink, theirs / "secret"), tried(os.rename, theirs / "secret", top / "x"),
        tried(os.unlink, sticky / "theirs"), tried(os.rename, sticky / "theirs", sticky / "mine"),
        write(sticky / "own").name, tried(os.unlink, sticky / "own"),
        tried(os.rename, sticky, top / "moved"), tried(os.rmdir, theirs),
    ]  # fmt: skip


def make_and_remove(path: Path) -> None:
    path.mkdir()  # with a mode that is the creation rules' business
    path.rmdir()


def prepare_other_peoples_files(top: Path) -> None:
    """As root, below the mount."""
    for name, mode in (("theirs", 0o755), ("sticky", 0o1777)):
        (top / name).mkdir()
        (top / name).chmod(mode)
    named = {"open": 0o666, "read": 0o644, "secret": 0o600, "group": 0o060, "granted": 0o600}
    for name, mode in named.items():
        path = write(top / "theirs" / name)
        os.chown(path, ANOTHER, ANOTHER)
        path.chmod(mode)
    caller = top.stat().st_uid
    acl = posix_acl((1, 6, _NONE), (2, 6, caller), (4, 0, _NONE), (16, 6, _NONE), (32, 0, _NONE))
    os.setxattr(top / "theirs" / "granted", "system.posix_acl_access", acl)
    for name, mode in (("shut", 0o700), ("world", 0o777), ("peek", 0o711)):
        path = directory(top / "theirs" / name)
        os.chown(path, ANOTHER, ANOTHER)
        path.chmod(mode)
    os.chown(write(top / "sticky" / "theirs"), ANOTHER, ANOTHER)


PREPARED: Final = {"other_peoples_files": prepare_other_peoples_files}

CASES: Final[tuple[Case, ...]] = (
    open_flags, appending, appending_processes, exclusive_race, truncating,
    truncated_below_a_reader, holes, copying_in_the_kernel, mapped, vectors, syncing, times,
    times_that_move, modes, owners, set_id_bits, file_system, running_a_program,
    extended_attributes, posix_acls, flocks, range_locks, waiting_for_a_lock, other_peoples_files,
)  # fmt: skip
