"""Opens mail directories for a daemon that runs as root, on paths that users have a say in.

A configured path like /home/alice/Maildir leads through directories where alice may put whatever
she likes.  A symbolic link on the way is followed only if the superuser made it, or if what it
leads to in the end belongs to whoever made the link: then he gains nothing that was not his.
Below the mail root no link is followed at all.
"""

import errno
import os
import stat
from collections import deque
from pathlib import Path
from typing import Final

from sharefs import fsops

MAX_LINKS: Final = 40  # as the kernel's limit (path_resolution(7))


def open_root(path: Path) -> int:
    """An O_PATH descriptor of a directory.  The caller closes it.

    Raises OSError: ELOOP for a link that is not to be followed, what openat(2) says otherwise.
    """
    pending = deque(path.parts[1:])
    makers: set[int] = set()  # who else than root made links on the way
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    links = 0
    try:
        while pending:
            name = pending.popleft()
            if name in ("", "."):
                continue
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            status = os.fstat(below)
            if not stat.S_ISLNK(status.st_mode):
                os.close(fd)
                fd = below
                continue
            try:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
                if status.st_uid != 0:
                    makers.add(status.st_uid)
                target = os.readlink("", dir_fd=below)
            finally:
                os.close(below)
            pending.extendleft(reversed(target.split("/")))
            if target.startswith("/"):
                os.close(fd)
                fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
        if makers - {status.st_uid}:
            raise OSError(
                errno.ELOOP,
                f"a symbolic link of uid {min(makers)} leads to a directory of uid {status.st_uid}",
                os.fspath(path),
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_mailbox(root: Path, mailbox: Path) -> int:
    """An O_PATH descriptor of a mailbox's directory.  The caller closes it.

    root: the mail root.  A mailbox elsewhere (an INBOX with a path of its own) is a root itself.
    """
    if not mailbox.is_relative_to(root):
        return open_root(mailbox)
    fd = open_root(root)
    if mailbox == root:
        return fd
    try:
        return fsops.open_beneath(mailbox.relative_to(root), fsops.DIRECTORY_ONLY, dir_fd=fd)
    finally:
        os.close(fd)
