"""What is mounted, and by whom: which file systems may never answer.

Those of another machine, or of a process on this one.  What a file system answers that a user has
mounted himself, by FUSE, for everybody to enter, and whether it does, is up to its user.  Pure.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

REMOTE: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gpfs", "lustre", "nfs", "nfs4", "orangefs",
     "smb3", "smbfs", "virtiofs"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of proc(5) mountinfo.  number: the minor part of its device, which is st_dev.

    uid: of who made a FUSE file system, that others than he may enter; None: it is another one.
    """

    path: PurePosixPath
    number: int
    kind: str
    uid: int | None
    device: int = 0

    @property
    def may_hang(self) -> bool:
        """Whether somebody else than this kernel has to answer."""
        return self.kind in REMOTE or self.kind.startswith("fuse")

    @property
    def is_foreign(self) -> bool:
        """Root's own are trusted to answer, and others than their maker cannot enter the rest."""
        return bool(self.uid)


def parse_mountinfo(text: str) -> tuple[Mounted, ...]:
    """Whole, in the order of mounting."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) < 6 or len(kinds) < 3:
            continue
        options = kinds[2].split(",")
        uids = [int(word[8:]) for word in options if re.fullmatch(r"user_id=[0-9]+", word)]
        shared = kinds[0].startswith("fuse") and "allow_other" in options
        uid = uids[0] if uids and shared else None
        major, _, minor = words[2].partition(":")
        number, device = int(minor), os.makedev(int(major), int(minor))
        found.append(Mounted(PurePosixPath(_plain(words[4])), number, kinds[0], uid, device))
    return tuple(found)


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def holder_of(where: PurePosixPath, mounts: Iterable[Mounted]) -> Mounted | None:
    """On which of them a path lies, as far as no symbolic link is on the way."""
    best: Mounted | None = None
    for one in mounts:
        if where.is_relative_to(one.path) and (
            best is None or len(one.path.parts) >= len(best.path.parts)
        ):
            best = one
    return best


def blame(
    where: PurePosixPath | None, mounts: Iterable[Mounted], suspects: Iterable[Mounted]
) -> Mounted | None:
    """Which of the suspects, foreign ones that have not answered, a thread of ours waits for.

    where: what it called the kernel with; a symbolic link in it may lead anywhere.  None: nobody
    knows.  None is to blame when it waits for a FUSE file system of root's, which may be our own.
    """
    suspects = list(suspects)
    holder = holder_of(where, mounts) if where is not None else None
    if holder is not None and holder in suspects:
        return holder
    if holder is not None and holder.kind.startswith("fuse"):
        return None
    return suspects[0] if suspects else None
