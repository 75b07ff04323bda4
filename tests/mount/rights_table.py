"""Operations on somebody else's mailbox, and the rights each needs: what docs/mount.md promises.

Every row is carried out by bob in a mailbox of alice's with exactly these rights, where it works,
and in one with all other rights, where it gives the errno and changes nothing.
"""

import ctypes
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
MESSAGES: Final = (READ_ME, SEEN, DOOMED, FRESH)
BODY: Final = b"Subject: hello\n\nworld\n"
ACL: Final = "dovecot-acl"

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Row:
    """rights: what it takes besides l.  never: not even all rights suffice."""

    name: str
    rights: str
    do: Callable[[Path], object]
    refusal: str = "EACCES"
    never: bool = False


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


CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY
FLAGGED: Final = "cur/1000.M1P1.host:2,F"
KEYWORD: Final = "cur/1000.M1P1.host:2,a"

ROWS: Final = [
    Row("stat mailbox", "", os.stat, "ENOENT"),
    Row("list mailbox", "", os.listdir, "ENOENT"),
    Row("list cur", "r", on("cur", os.listdir)),
    Row("stat message", "r", on(READ_ME, os.stat)),
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
    Row("deliver to new", "p", delivered("new")),
    Row("deliver to new with insert", "i", delivered("new")),
    Row("deliver to cur", "i", delivered("cur", "2000.M1P1.host:2,")),
    Row("deliver by link", "p", linked("new")),
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
    Row("rename away to tmp", "ite", moved(READ_ME, "tmp/1000")),
    Row("rename into hiding", "ite", moved(READ_ME, "cur/.hidden")),
    Row("replace by rename", "iste", moved(READ_ME, "cur/1001.M1P1.host:2,S")),
    Row("move to own mailbox", "rte", to_own(READ_ME)),
    Row("move deleted to own mailbox", "re", to_own(DOOMED)),
    Row("link to own mailbox", "r", link_to_own(READ_ME)),
    Row("read ACL file", "a", on(ACL, opened(os.O_RDONLY))),
    Row("write ACL file", "a", on(ACL, opened(os.O_WRONLY | os.O_TRUNC, b"user=carol lr\n"))),
    Row("remove tmp", "x", on("tmp", os.rmdir)),
    Row("read acl attribute", "a", lambda box: os.getxattr(box, "user.sharefs.acl")),
    Row("set acl attribute", "a",
        lambda box: os.setxattr(box, "user.sharefs.acl.user=carol", b"lr")),
    Row("exchange", "", lambda box: renameat2(box / READ_ME, box / SEEN, RENAME_EXCHANGE),
        "EINVAL", never=True),
    Row("symlink", "", on("cur/link", lambda path: os.symlink("/etc/passwd", path)), "EPERM",
        never=True),
    Row("mkfifo", "", on("cur/fifo", os.mkfifo), "EPERM", never=True),
    Row("socket", "", on("cur/sock", bind), "EPERM", never=True),
    Row("foreign directory", "", on("cur/dir", os.mkdir), "EPERM", never=True),
    Row("chown", "", on(READ_ME, lambda path: os.chown(path, 61003, -1)), "EPERM", never=True),
]  # fmt: skip


def picture(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """What is in a mailbox below: mode, size and content of each file."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns * 0, content)
    return found
