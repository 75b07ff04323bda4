"""The mail that both servers get: made once, then hard links, for no server changes messages."""

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.imap.servers import CROWD, FRIEND, GROUP, MANY, OWNER, UIDS, USER
from benchmarks.mail import make_maildir, make_message

SHARED: Final = "Box"


def make_home(top: Path, count: int) -> None:
    """The home of USER below top/dovecot and top/sharefs, with so many messages in INBOX."""
    (top / "dovecot").mkdir(mode=0o711)
    _make_user(top / "dovecot" / USER, UIDS[USER], count)
    _copy(top)


def make_homes(top: Path, count: int, *, mailboxes: int) -> None:
    """Homes of all users.  count: messages in each INBOX.  mailboxes: how many MANY has."""
    first = top / "dovecot"
    first.mkdir(mode=0o711)
    for name, uid in UIDS.items():
        _make_user(first / name, uid, count if name in (USER, *CROWD) else 0)
    _make_many(first / MANY / "Maildir", mailboxes)
    _make_shared(first / OWNER / "Maildir" / f".{SHARED}")
    shares = first / "shared-mailboxes.db"
    shares.write_text("")
    os.chown(shares, 0, GROUP)
    shares.chmod(0o660)
    _copy(top)
    _own_copy(top / "sharefs" / shares.name)


def _make_user(home: Path, uid: int, count: int) -> None:
    home.mkdir(mode=0o711)
    make_maildir(home / "Maildir", count, uid=uid, gid=uid)
    shutil.chown(home, uid, uid)


def _copy(top: Path) -> None:
    second = top / "sharefs"
    subprocess.run(["cp", "-al", top / "dovecot", second], check=True)
    for path in second.glob("*/Maildir/**/dovecot-uidlist"):
        _own_copy(path)  # these the servers do change


def _own_copy(path: Path) -> None:
    status = path.stat()
    octets = path.read_bytes()
    path.unlink()
    path.write_bytes(octets)
    path.chmod(status.st_mode & 0o777)
    os.chown(path, status.st_uid, status.st_gid)


def _make_many(root: Path, mailboxes: int) -> None:
    """A hierarchy of two levels, with a message in each."""
    uid = UIDS[MANY]
    for number in range(mailboxes):
        name = f".Project {number // 20:02}"
        if number % 20:
            name += f".Part {number % 20:02}"
        make_maildir(root / name, 1, uid=uid, gid=uid, seed=number)
        (root / name / "maildirfolder").touch()


def _make_shared(path: Path) -> None:
    """The owner's mailbox that FRIEND may do everything with."""
    make_maildir(path, 100, uid=UIDS[OWNER], gid=GROUP)
    (path / "maildirfolder").touch()
    for directory in (path.parent, path, *(path / name for name in ("cur", "new", "tmp"))):
        os.chown(directory, UIDS[OWNER], GROUP)
        directory.chmod(0o2770)
    acl = path / "dovecot-acl"
    acl.write_text(f"user={FRIEND} lrwstipekxa\n")
    for file in (acl, path / "dovecot-uidlist", path / "maildirfolder", *(path / "cur").iterdir()):
        os.chown(file, UIDS[OWNER], GROUP)
        file.chmod(0o660)


def sample() -> bytes:
    """One message as a client sends it."""
    return make_message(1, random.Random(2)).replace(b"\n", b"\r\n")
