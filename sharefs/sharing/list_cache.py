"""The list cache, dovecot-acl-list: which mailboxes have an ACL, so others may see them.

One for each namespace root; lines `<mtime of the ACL file> <storage name>`.  It is a superset: a
mailbox in it may turn out to be invisible, but one that is not in it was shared with nobody when
the file was written.  It can always be rebuilt, so failing to write it for lack of permission is
no failure, and a malformed one is removed.  No lock: it is replaced whole.
"""

import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.acl import Acl
from sharefs.permissions.acting import file_gid, file_uid
from sharefs.permissions.inherit import Creation

log = logging.getLogger(__name__)

FILE_NAME: Final = "dovecot-acl-list"
_READERS: Final = stat.S_IRGRP | stat.S_IROTH
MAX_SIZE: Final = 16 << 20  # octets; more than any namespace has mailboxes


@dataclass(frozen=True, slots=True)
class CachedMailbox:
    """One line.  mtime: seconds since 1970, 0 if there is no ACL file.

    name: the storage name as the layout spells it (`Work.Sub` in Maildir++, `Work/Sub` in fs).
    """

    name: str
    mtime: int


def is_listable(acl: Acl) -> bool:
    """Whether a mailbox belongs in here: it has an entry, local or global, whatever it says.

    Observed with Dovecot 2.3.19.1, although its documentation speaks of lookup rights.
    """
    return bool(acl.entries)


def parse_list(octets: bytes) -> tuple[CachedMailbox, ...] | None:
    """None: it is malformed.  Pure."""
    found: list[CachedMailbox] = []
    for line in octets.removesuffix(b"\n").split(b"\n") if octets else ():
        digits, space, name = line.partition(b" ")
        if not (digits.isdigit() and space and name) or len(digits) > 20:
            return None
        found.append(CachedMailbox(os.fsdecode(name), int(digits)))
    if octets and not octets.endswith(b"\n"):
        return None
    return tuple(found)


def format_list(mailboxes: Iterable[CachedMailbox]) -> bytes:
    """A name with a line end in it cannot be in the cache and is left out."""
    return b"".join(
        b"%d %s\n" % (max(mailbox.mtime, 0), os.fsencode(mailbox.name))
        for mailbox in mailboxes
        if "\n" not in mailbox.name
    )


def read_list(path: Path) -> tuple[CachedMailbox, ...] | None:
    """What the cache says.  None: there is none, or it had to be thrown away; rebuild it."""
    try:
        with open(fsops.open_file(path), "rb", buffering=0) as file:
            octets = file.read(MAX_SIZE + 1)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            log.warning("list cache %s cannot be read: %s", path, error.strerror)
        return None
    found = parse_list(octets) if len(octets) <= MAX_SIZE else None
    if found is None:
        log.warning("list cache %s is malformed; it is removed, to be rebuilt", path)
        try:
            fsops.unlink(path, missing_ok=True)
        except OSError as error:
            log.warning("list cache %s was not removed: %s", path, error.strerror)
    return found


def write_list(path: Path, mailboxes: Iterable[CachedMailbox], creation: Creation) -> bool:
    """Replace the cache.  Returns whether it was written: False when permissions forbid it.

    creation: those of the namespace root.  As in Dovecot, a root whose group the file cannot get
    has no cache.  Where the cache that is replaced lets more people read it, so does the new one:
    then somebody has opened it to those who may pass the root but not list it.  Raises OSError for
    a full disk and the like.
    """
    try:
        made = _no_narrower(path, creation)
        fsops.replace_file(path, format_list(mailboxes), made, fsync=False, group_required=True)
    except PermissionError as error:
        log.debug("list cache %s was not written: %s", path, error)
        return False
    except FileNotFoundError:
        return False  # the root itself is missing, so there is nothing to list
    return True


def _no_narrower(path: Path, creation: Creation) -> Creation:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return creation
    group = file_gid() if creation.group is None else creation.group
    if not stat.S_ISREG(found.st_mode) or found.st_uid != file_uid() or found.st_gid != group:
        return creation
    return replace(creation, file_mode=creation.file_mode | found.st_mode & _READERS)
