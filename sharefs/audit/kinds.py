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

BATCH: Final = 1024  # entries in memory at one time

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

    def each(self) -> Iterator[tuple[int, int, int, int, str, int]]:
        """(st_mode, st_uid, st_gid), how many, the name of one, how many with several names."""
        found: dict[tuple[int, int, int], tuple[int, str, int]] = {}
        for key, count in self._counts.items():
            total, name, linked = found.get(key[:3], (0, self._names[key], 0))
            several = count if key[3] > 1 and stat.S_ISREG(key[0]) else 0
            found[key[:3]] = (total + count, name, linked + several)
        for (mode, uid, gid), (count, name, linked) in sorted(found.items()):
            yield mode, uid, gid, count, name, linked


def _still_there(entries: list["os.DirEntry[str]"]) -> Iterator["os.DirEntry[str]"]:
    """Without those delivered, moved or expunged this moment: mail in use."""
    for entry in entries:
        try:
            entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield entry
