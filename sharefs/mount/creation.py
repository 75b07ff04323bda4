"""What is made through the mount: owner the caller, mode and group by the mailbox's rules.  Pure.

The mode argument and the umask never matter.  A mailbox's own directory decides for its files and
for cur, new and tmp; elsewhere it is the directory in which something is made.
"""

import functools
import stat
from dataclasses import dataclass
from typing import Final

from sharefs.fsops import Ownership
from sharefs.permissions.inherit import Creation, Facts, LinkDecision, link_decision

MAIL_FOLDERS: Final = frozenset({"cur", "new", "tmp"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is made.  source: whose permissions are copied; holder: where it goes."""

    source: Facts
    holder: Facts

    def creation(self, egid: int) -> Creation:
        return Creation.of_directory(self.source, egid=egid)


def group_of(place: Place, egid: int) -> int:
    """The group of what is made, as a process with this egid would get it by the rules.

    Where the rules leave it to the kernel: the directory's group if that has setgid, else egid.
    """
    chosen = place.creation(egid).gid
    if chosen is not None:
        return chosen
    return place.holder.gid if place.holder.setgid else egid


@functools.lru_cache(1024)
def ownership(place: Place, uid: int, egid: int, *, directory: bool) -> Ownership:
    """What a new file or directory gets.  New directories keep a setgid bit that is handed down,
    unless the rules chose another group than the one handed down."""
    creation = place.creation(egid)
    gid = group_of(place, egid)
    if not directory:
        return Ownership(uid, gid, creation.file_mode)
    handed_down = place.holder.setgid and gid == place.holder.gid
    return Ownership(uid, gid, creation.dir_mode | (stat.S_ISGID if handed_down else 0))


def owner_in_view(place: Place, uid: int) -> int:
    """Who owns a file that uid makes in a mailbox: uid, unless that would lock the owner out.

    The view enforces rights, so a shared mailbox may stay closed to its owner's group.  A file of
    the viewer's would then be out of reach for the owner's own programs beside the mount.
    """
    group_writes = place.source.mode & 0o060 == 0o060
    return uid if group_writes or uid == place.source.uid else place.source.uid


@functools.lru_cache(1024)
def link_or_copy(source: Place, dest: Place, egid: int) -> LinkDecision:
    """Whether one inode may serve both places (docs/permissions.md, "Copying messages")."""
    if source.source == dest.source:
        return LinkDecision(True, "the same mailbox")
    return link_decision(source.creation(egid), dest.creation(egid))
