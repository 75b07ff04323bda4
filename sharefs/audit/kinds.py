"""The message files of a folder by mode, owner and group: counted, not kept.

This is what an audit does a million times, so nothing here is written out for a single file:
entries come in batches, and each batch goes through functions that are loops in C.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter, itemgetter, methodcaller
from typing import Final

from sharefs.audit.inodes import Inodes
from sharefs.permissions.posix_acl import PosixAcl

BATCH: Final = 1024  # entries in memory at one time
MAX_KINDS: Final = 1000  # of one folder with POSIX ACLs; more are an attack on the auditor

FileKey = tuple[int, int, int, int]  # st_mode, st_uid, st_gid, st_nlink

_STATUS: Final = methodcaller("stat", follow_symlinks=False)
_KEY: Final = itemgetter(0, 4, 5, 3)  # of os.stat_result
_NAME: Final = attrgetter("name")


def batches(entries: Iterator["os.DirEntry[str]"]) -> Iterator[list["os.DirEntry[str]"]]:
    while batch := list(islice(entries, BATCH)):
        yield batch


class Kinds:
    """Counts of files that are alike, and the name of one of each kind.

    linked: device and inode of regular files with several names, at most max_linked of them.
    """

    def __init__(self, max_linked: int) -> None:
        self.linked: list[tuple[int, int]] = []
        self._counts: Counter[FileKey] = Counter()
        self._names: dict[FileKey, str] = {}
        self._max_linked = max_linked
        self._any_linked = False

    def add(self, entries: list["os.DirEntry[str]"]) -> None:
        """Raises OSError if a status cannot be had for another reason than that it is gone."""
        try:
            keys: list[FileKey] = list(map(_KEY, map(_STATUS, entries)))
        except FileNotFoundError:
            entries = list(_still_there(entries))
            keys = list(map(_KEY, map(_STATUS, entries)))  # each entry remembers its status
        known = len(self._counts)
        self._counts.update(keys)
        if len(self._counts) > known:
            first = dict(zip(reversed(keys), map(_NAME, reversed(entries)), strict=True))
            self._names = first | self._names
            self._any_linked = any(key[3] > 1 for key in self._counts)
        if self._any_linked:
            self._note_links(keys, entries)

    def _note_links(self, keys: list[FileKey], entries: list["os.DirEntry[str]"]) -> None:
        for key, entry in zip(keys, entries, strict=True):
            if key[3] > 1 and stat.S_ISREG(key[0]) and len(self.linked) < self._max_linked:
                status = entry.stat(follow_symlinks=False)
                self.linked.append((status.st_dev, status.st_ino))

    def each(self) -> Iterator["Kind"]:
        """Without ACLs, which parted_by_acl() adds."""
        found: dict[tuple[int, int, int], tuple[int, str, int]] = {}
        for key, count in self._counts.items():
            total, name, linked = found.get(key[:3], (0, self._names[key], 0))
            several = count if key[3] > 1 and stat.S_ISREG(key[0]) else 0
            found[key[:3]] = (total + count, name, linked + several)
        for (mode, uid, gid), (count, name, linked) in sorted(found.items()):
            yield mode, uid, gid, count, name, linked, None


# (st_mode, st_uid, st_gid), how many, the name of one, how many have several names, its ACL.
Kind = tuple[int, int, int, int, str, int, PosixAcl | None]


def parted_by_acl(
    fd: int, kinds: list[Kind], inodes: Inodes, device: int, *, likely: bool
) -> list[Kind]:
    """Files of equal mode may have different POSIX ACLs: where some have one, all are asked.

    With an ACL the group bits of the mode are only its mask.  Folders without ACLs, which are
    nearly all, cost one question for each kind; a single file with an ACL among others without, in
    a folder without, is not found that way.  likely: the folder has an ACL.  Raises OSError.
    """
    where = f"/proc/self/fd/{fd}"
    with_acl = [(*kind[:6], inodes.acl_of(f"{where}/{kind[4]}", device)) for kind in kinds]
    if not likely and all(kind[6] is None for kind in with_acl):
        return with_acl
    found: dict[object, Kind] = {}
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            acl = inodes.acl_of(f"{where}/{entry.name}", device)
            key: object = (*_KEY(status)[:3], acl)
            if key not in found and len(found) >= MAX_KINDS:
                key = _KEY(status)[:3]
            mode, uid, gid, links = _KEY(status)
            several = links > 1 and stat.S_ISREG(mode)
            before = found.get(key, (mode, uid, gid, 0, entry.name, 0, acl))
            found[key] = (*before[:3], before[3] + 1, before[4], before[5] + several, before[6])
    return sorted(found.values(), key=lambda kind: (kind[:3], kind[4]))


def _still_there(entries: list["os.DirEntry[str]"]) -> Iterator["os.DirEntry[str]"]:
    """Without those delivered, moved or expunged this moment: mail in use."""
    for entry in entries:
        try:
            entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield entry
