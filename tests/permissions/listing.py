"""`ls -l` as values, so that what a document shows can be compared with what a disk holds."""

import os
import stat
from pathlib import Path


def shown(path: Path) -> str:
    """The first column of `ls -l`, and the numeric owner: "drwxrws--- 5001:6000"."""
    status = os.stat(path, follow_symlinks=False)
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"


def make_owned(path: Path, mode: int, uid: int, gid: int) -> Path:
    """A directory as an administrator left it."""
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def make_maildir(path: Path, mode: int, uid: int, gid: int) -> Path:
    """A Maildir whose three directories have the permissions of the mailbox."""
    make_owned(path, mode, uid, gid)
    for name in ("cur", "new", "tmp"):
        make_owned(path / name, mode, uid, gid)
    return path
