"""Mail trees for tests of repair, and full pictures of them."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sharefs.permissions.posix_acl import ACCESS, DEFAULT
from sharefs.repair.change import Change, Kind

ALICE: Final = 61001
BOB: Final = 61002
TEAM: Final = 61500
MESSAGE: Final = b"Subject: hello\n\nbody\n"


@dataclass(frozen=True)
class Seen:
    """One name.  Times are left out for directories, where links and ACL files come and go."""

    mode: int
    uid: int
    gid: int
    size: int
    content: bytes
    mtime_ns: int | None
    attributes: tuple[tuple[str, bytes], ...]


def picture(top: Path) -> dict[str, Seen]:
    """Everything at and below top, POSIX ACLs, contents and times included."""
    found = {}
    paths = [str(top)]
    for directory, folders, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in (*folders, *files)]
    for path in paths:
        status = os.lstat(path)
        content = b""
        attributes: tuple[tuple[str, bytes], ...] = ()
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        else:
            if stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            attributes = tuple(
                (name, os.getxattr(path, name))
                for name in sorted(os.listxattr(path))
                if name in (ACCESS, DEFAULT)
            )
        is_mail_dir = os.path.basename(path) in ("cur", "new", "tmp")
        timed = stat.S_ISREG(status.st_mode) or is_mail_dir
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        found[path] = Seen(
            status.st_mode, status.st_uid, status.st_gid, size, content,
            status.st_mtime_ns if timed else None, attributes,
        )  # fmt: skip
    return found


def make_maildir(path: Path, uid: int = ALICE, gid: int = ALICE, mode: int = 0o700) -> Path:
    """One mailbox with one message in cur and one in new."""
    for directory in (path, path / "cur", path / "new", path / "tmp"):
        directory.mkdir(parents=True)
        os.chown(directory, uid, gid)
        directory.chmod(mode)
    for name in ("cur/1.a:2,S", "new/2.b", "dovecot-uidlist"):
        (path / name).write_bytes(MESSAGE)
        os.chown(path / name, uid, gid)
        (path / name).chmod(mode & 0o666)
    return path


def change(kind: Kind, path: Path, old: str | None, new: str | None, **more: Any) -> Change:
    """A change of what is there now."""
    at = path.parent if kind in (Kind.ACL_LINE, Kind.MAP_ENTRY, Kind.SYMLINK) else path
    status = os.lstat(at)
    return Change(
        kind, str(path), old, new, more.get("device", status.st_dev),
        more.get("inode", status.st_ino), more.get("finding", "test"),
    )  # fmt: skip
