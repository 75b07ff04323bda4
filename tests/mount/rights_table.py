"""Operations on somebody else's mailbox, and the rights each needs: what docs/mount.md promises.

Every row is carried out by bob in a mailbox of alice's with exactly these rights, where it works,
and in one with all other rights, where it gives the errno and changes nothing.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READ_ME: Final = "cur/1000.M1P1.host:2,"
SEEN: Final = "cur/1001.M1P1.host:2,S"
DOOMED: Final = "cur/1002.M1P1.host:2,T"
FRESH: Final = "new/1003.M1P1.host"
TEMP: Final = "tmp/1004.M1P1.host"
MESSAGES: Final = (READ_ME, SEEN, DOOMED, FRESH, TEMP)
BODY: Final = b"Subject: hello\n\nworld\n"
ACL: Final = "dovecot-acl"

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Row:
    """rights: what it takes besides l, all of them and one of any_of.  never: not even all rights
    suffice."""

    name: str
    rights: str
    do: Callable[[Path], object]
    refusal: str = "EACCES"
    never: bool = False
    any_of: str = ""


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def opened(flags: int, octets: bytes = b"") -> Callable[[Path], object]:
    def do(path: Path) -> object:
        fd = os.open(path, flags, 0o600)
        try:
            return os.write(fd, octets) if octets else os.read(fd, 100)
        finally:
            os.close(fd)

    return do


def on(name: str, do: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda box: do(box / name)


def moved(old: str, new: str) -> Callable[[Path], object]:
    return lambda box: os.rename(box / old, box / new)


def delivered(folder: str, name: str = "2000.M1P1.host") -> Callable[[Path], object]:
    """As an MDA does it: tmp, then rename."""

    def do(box: Path) -> None:
        opened(os.O_CREAT | os.O_EXCL | os.O_WRONLY, BODY)(box / "tmp" / "2000.M1P1.host")
        os.rename(box / "tmp" / "2000.M1P1.host", box / folder / name)

    return do


def linked(folder: str) -> Callable[[Path], object]:
    """As older MDAs do it: tmp, then link and unlink."""

    def do(box: Path) -> None:
        temp = box / "tmp" / "2001.M1P1.host"
        opened(os.O_CREAT | os.O_EXCL | os.O_WRONLY, BODY)(temp)
        os.link(temp, box / folder / "2001.M1P1.host")
        os.unlink(temp)

    return do


def to_own(name: str) -> Callable[[Path], object]:
    """Into bob's own INBOX."""
    return lambda box: os.rename(box / name, box.parent / "cur" / f"{box.name}{Path(name).name}")


def link_to_own(name: str) -> Callable[[Path], object]:
    return lambda box: os.link(box / name, box.parent / "cur" / f"l{box.name}{Path(name).name}")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(path.parent)
        sock.bind(path.name)


def mapped(path: Path) -> None:
    """Written through memory."""
    fd = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(fd, 4) as memory:
            memory[0] = ord("s")
            memory.flush()
        os.fsync(fd)
    finally:
        os.close(fd)


def resized(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, 3)
    finally:
        os.close(fd)


def copied(source: Path, dest: Path, flags: int) -> None:
    """By copy_file_range(2), which could go past read and write."""
    source_fd = os.open(source, os.O_RDONLY)
    try:
        dest_fd = os.open(dest, flags, 0o600)
        try:
            assert os.copy_file_range(source_fd, dest_fd, 5) == 5
        finally:
            os.close(dest_fd)
    finally:
        os.close(source_fd)


def from_own(put: Callable[[Path, Path], object], name: str) -> Callable[[Path], object]:
    """A message of bob's own INBOX."""

    def do(box: Path) -> None:
        own = box.parent / "cur" / f"from{box.name}:2,"
        opened(CREATE, BODY)(own)
        try:
            put(own, box / name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                own.unlink()

    return do


def through_proc(flags: int) -> Callable[[Path], object]:
    """An O_PATH descriptor takes no right; what is opened by way of it does."""

    def do(path: Path) -> object:
        fd = os.open(path, os.O_PATH)
        try:
            return opened(flags, b"x" if flags != os.O_RDONLY else b"")(Path(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)

    return do


def rmdir_as_far_as_it_goes(path: Path) -> None:
    """Who may remove it learns that something is in it."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def acl_replaced(box: Path) -> None:
    """As editors do it."""
    opened(CREATE, b"user=carol lr\n")(box / "new-acl")
    os.rename(box / "new-acl", box / ACL)


def chgrp(path: Path) -> None:
    os.chown(path, -1, os.getgid())


CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY
FLAGGED: Final = "cur/1000.M1P1.host:2,F"
KEYWORD: Final = "cur/1000.M1P1.host:2,a"

ROWS: Final = [
    Row("stat mailbox", "", os.stat, "ENOENT"),
    Row("list mailbox", "", os.listdir, "ENOENT"),
    Row("list cur", "r", on("cur", os.listdir)),
    Row("list new", "r", on("new", os.listdir)),
    Row("list tmp", "", on("tmp", os.listdir), any_of="ri"),
    Row("stat cur", "", on("cur", os.stat), "ENOENT"),
    Row("stat new", "", on("new", os.stat), "ENOENT"),
    Row("stat tmp", "", on("tmp", os.stat), "ENOENT"),
    Row("stat message", "", on(READ_ME, os.stat), any_of="rstwiep"),
    Row("stat file in tmp", "", on(TEMP, os.stat), any_of="rstwiep"),
    Row("read file in tmp", "r", on(TEMP, opened(os.O_RDONLY))),
    Row("write file in tmp", "i", on(TEMP, opened(os.O_WRONLY, b"x"))),
    Row("remove file in tmp", "", on(TEMP, os.unlink), any_of="ipe"),
    Row("set times of file in tmp", "", on(TEMP, os.utime), any_of="ip"),
    Row("chmod file in tmp", "", on(TEMP, lambda path: os.chmod(path, 0o666)), "EPERM",
        any_of="ip"),
    Row("create in tmp", "", on("tmp/3004.host", opened(CREATE, BODY)), any_of="ip"),
    Row("read message by its descriptor", "r", on(READ_ME, through_proc(os.O_RDONLY))),
    Row("write message by its descriptor", "ite", on(READ_ME, through_proc(os.O_WRONLY))),
    Row("open to read with O_CREAT", "r", on(READ_ME, opened(os.O_RDONLY | os.O_CREAT))),
    Row("open with O_CREAT and O_TRUNC", "ite",
        on(READ_ME, opened(os.O_WRONLY | os.O_CREAT | os.O_TRUNC, b"x"))),
    Row("truncate what is open", "ite", on(READ_ME, resized)),
    Row("write through memory", "rite", on(READ_ME, mapped)),
    Row("copy_file_range into message", "rite",
        lambda box: copied(box / SEEN, box / READ_ME, os.O_WRONLY)),
    Row("copy_file_range to own mailbox", "r",
        lambda box: copied(box / READ_ME, box.parent / "tmp" / box.name, CREATE)),
    Row("read message", "r", on(READ_ME, opened(os.O_RDONLY))),
    Row("write message", "ite", on(READ_ME, opened(os.O_WRONLY, b"x"))),
    Row("append to message", "ite", on(READ_ME, opened(os.O_WRONLY | os.O_APPEND, b"x"))),
    Row("write and read message", "rite", on(READ_ME, opened(os.O_RDWR, b"x"))),
    Row("open with O_TRUNC", "ite", on(READ_ME, opened(os.O_WRONLY | os.O_TRUNC, b"x"))),
    Row("open to read with O_TRUNC", "rite", on(READ_ME, opened(os.O_RDONLY | os.O_TRUNC))),
    Row("truncate", "ite", on(READ_ME, lambda path: os.truncate(path, 3))),
    Row("write deleted message", "ie", on(DOOMED, opened(os.O_WRONLY, b"x"))),
    Row("set times", "i", on(READ_ME, lambda path: os.utime(path, (1, 1)))),
    Row("create in cur", "i", on("cur/3000.host:2,", opened(CREATE, BODY))),
    Row("create seen in cur", "is", on("cur/3000.host:2,S", opened(CREATE, BODY))),
    Row("create flagged in cur", "iw", on("cur/3000.host:2,F", opened(CREATE, BODY))),
    Row("mknod in new", "", on("new/3001.host", os.mknod), any_of="ip"),
    Row("mknod in cur", "i", on("cur/3001.host:2,", os.mknod)),
    Row("deliver to new", "", delivered("new"), any_of="ip"),
    Row("deliver to cur", "i", delivered("cur", "2000.M1P1.host:2,")),
    Row("deliver by link", "", linked("new"), any_of="ip"),
    Row("link within mailbox", "i", lambda box: os.link(box / READ_ME, box / "cur/3002.host:2,")),
    Row("link from cur to new", "", lambda box: os.link(box / READ_ME, box / "new/3002.host"),
        any_of="ip"),
    Row("link out of sight", "", lambda box: os.link(box / READ_ME, box / "tmp/3002.host"),
        any_of="ip"),
    Row("move from own mailbox", "i", from_own(os.rename, "cur/3003.host:2,")),
    Row("move flagged from own mailbox", "iw", from_own(os.rename, "cur/3003.host:2,F")),
    Row("move from own mailbox to new", "", from_own(os.rename, "new/3003.host"), any_of="ip"),
    Row("link from own mailbox", "is", from_own(os.link, "cur/3003.host:2,S")),
    Row("mark seen", "s", moved(READ_ME, READ_ME + "S")),
    Row("mark unseen", "s", moved(SEEN, SEEN[:-1])),
    Row("mark deleted", "t", moved(READ_ME, READ_ME + "T")),
    Row("undelete", "t", moved(DOOMED, DOOMED[:-1])),
    Row("flag", "w", moved(READ_ME, FLAGGED)),
    Row("set keyword", "w", moved(READ_ME, KEYWORD)),
    Row("set two flags", "sw", moved(READ_ME, FLAGGED + "S")),
    Row("notice and mark seen", "s", moved(FRESH, "cur/1003.M1P1.host:2,S")),
    Row("rename without replacing", "s",
        lambda box: renameat2(box / READ_ME, box / (READ_ME + "S"), RENAME_NOREPLACE)),
    Row("remove message", "te", on(READ_ME, os.unlink)),
    Row("remove deleted message", "e", on(DOOMED, os.unlink)),
    Row("rename to another base", "ite", moved(READ_ME, "cur/4000.host:2,")),
    Row("rename away to tmp", "te", moved(READ_ME, "tmp/1000"), any_of="ip"),
    Row("rename into hiding", "ite", moved(READ_ME, "cur/.hidden")),
    Row("replace by rename", "iste", moved(READ_ME, "cur/1001.M1P1.host:2,S")),
    Row("move to own mailbox", "rte", to_own(READ_ME)),
    Row("move deleted to own mailbox", "re", to_own(DOOMED)),
    Row("link to own mailbox", "r", link_to_own(READ_ME)),
    Row("stat ACL file", "a", on(ACL, os.stat), "ENOENT"),
    Row("set times of ACL file", "a", on(ACL, os.utime), "ENOENT"),
    Row("chmod ACL file", "a", on(ACL, lambda path: os.chmod(path, 0o666)), "ENOENT"),
    Row("read ACL file", "a", on(ACL, opened(os.O_RDONLY)), "ENOENT"),
    Row("write ACL file", "a", on(ACL, opened(os.O_WRONLY | os.O_TRUNC, b"user=carol lr\n")),
        "ENOENT"),
    Row("append to ACL file", "a",
        on(ACL, opened(os.O_WRONLY | os.O_APPEND, b"user=carol lr\n")),
        "ENOENT"),
    Row("truncate ACL file by name", "", on(ACL, lambda path: os.truncate(path, 0)), "EPERM",
        never=True),
    Row("remove ACL file", "a", on(ACL, os.unlink), "ENOENT"),
    Row("make ACL file", "a", on(ACL, opened(os.O_WRONLY | os.O_CREAT, b"user=carol lr\n"))),
    Row("put ACL file in place", "ra", acl_replaced),
    Row("make control file", "r", on("dovecot.index.log", opened(CREATE, BODY))),
    Row("remove cur", "x", on("cur", rmdir_as_far_as_it_goes)),
    Row("remove new", "x", on("new", rmdir_as_far_as_it_goes)),
    Row("remove tmp", "x", on("tmp", rmdir_as_far_as_it_goes)),
    Row("make a mailbox below", "k", lambda box: os.mkdir(f"{box}.Sub")),
    Row("chmod message", "", on(READ_ME, lambda path: os.chmod(path, 0o666)), "EPERM",
        any_of="stwie"),
    Row("chgrp message", "", on(READ_ME, chgrp), "EPERM", any_of="stwie"),
    Row("chmod cur", "", on("cur", lambda path: os.chmod(path, 0o777)), "EPERM", any_of="ka"),
    Row("chmod mailbox", "", lambda box: os.chmod(box, 0o777), "EPERM", any_of="ka"),
    Row("chmod new", "", on("new", lambda path: os.chmod(path, 0o777)), "EPERM", any_of="ka"),
    Row("chmod tmp", "", on("tmp", lambda path: os.chmod(path, 0o777)), "EPERM", any_of="ka"),
    Row("set times of cur", "", on("cur", os.utime), any_of="stwie"),
    Row("set times of new", "", on("new", os.utime), any_of="stwie"),
    Row("set times of tmp", "", on("tmp", os.utime), any_of="ip"),
    Row("set times of mailbox", "", os.utime, any_of="stwie"),
    Row("read acl attribute", "a", lambda box: os.getxattr(box, "user.sharefs.acl")),
    Row("set acl attribute", "a",
        lambda box: os.setxattr(box, "user.sharefs.acl.user=carol", b"lr")),
    Row("exchange", "", lambda box: renameat2(box / READ_ME, box / SEEN, RENAME_EXCHANGE),
        "EINVAL", never=True),
    Row("whiteout", "", lambda box: renameat2(box / READ_ME, box / FLAGGED, RENAME_WHITEOUT),
        "EINVAL", never=True),
    Row("rename ACL file", "", moved(ACL, "dovecot-acl.old"), "EPERM", never=True),
    Row("link ACL file", "", lambda box: os.link(box / ACL, box / "copy"), "EPERM", never=True),
    Row("nameless file", "", on("cur", lambda path: os.open(path, os.O_TMPFILE | os.O_RDWR)),
        "ENOTSUP", never=True),
    Row("symlink", "", on("cur/link", lambda path: os.symlink("/etc/passwd", path)), "EPERM",
        never=True),
    Row("mkfifo", "", on("cur/fifo", os.mkfifo), "EPERM", never=True),
    Row("socket", "", on("cur/sock", bind), "EPERM", never=True),
    Row("foreign directory", "", on("cur/dir", os.mkdir), "EPERM", never=True),
    Row("chown", "", on(READ_ME, lambda path: os.chown(path, 61003, -1)), "EPERM", never=True),
]  # fmt: skip


def picture(top: Path) -> dict[str, tuple[object, ...]]:
    """What is in a mailbox below: mode, owner, group and content of each file."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        ids = status.st_uid, status.st_gid
        found[str(path.relative_to(top))] = (status.st_mode, *ids, content)
    return found
