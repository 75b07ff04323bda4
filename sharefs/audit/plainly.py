"""A quick yes for what is plainly allowed.  Reads what is not remembered; changes nothing.

An audit asks for each mailbox whether its sharees can carry out what the ACL grants, and nearly
always they can.  The questions of audit.operations would find that out one system call after the
other.  Here a few bits are looked at that together answer all of them with yes; whatever is not so
plain (sticky bits, links, other mounts, the superuser) is left to the questions, which also find
the reasons.
"""

import os
import stat
from collections.abc import Iterable
from typing import Final

from sharefs.audit.operations import MailboxFiles
from sharefs.audit.questions import World
from sharefs.permissions.access import Credentials, Inode, Want, check

_R: Final = 4
_W: Final = 2
_X: Final = 1
_ALL: Final = 7
_ALL_WANTED: Final = Want.READ | Want.WRITE | Want.SEARCH
_LOOK_WANTED: Final = Want.READ | Want.SEARCH


def bits_of(inode: Inode, who: Credentials) -> int:
    """What who plainly has of rwx; never too much, though with a POSIX ACL perhaps too little."""
    mode = inode.mode
    if inode.is_held:
        return 0
    if who.uid == inode.uid:
        bits = mode >> 6 & 7
    elif inode.acl is not None:
        if check(inode, who, _ALL_WANTED):
            return _ALL
        return _R | _X if check(inode, who, _LOOK_WANTED) else 0
    elif who.in_group(inode.gid):
        bits = mode >> 3 & 7
    else:
        bits = mode & 7
    return bits & ~_W if inode.read_only else bits


def plainly_allowed(
    letters: Iterable[str], box: MailboxFiles, who: Credentials, world: World
) -> bool:
    """Whether all that these rights are good for is allowed.  False: nobody knows yet.

    letters: of audit.compare.OPERATIONS; others are ignored.
    """
    samples = box.samples
    if who.superuser or not box.is_plain or samples is None or box.is_link or box.is_automatic:
        return False
    wanted = set(letters)
    walked = world.way(who, str(box.path))
    here = walked.inode
    if here is None or not here.is_directory:
        return False
    own = bits_of(here, who)
    if not own & _X:
        return False
    if "acl" in samples and (box.acl_dir != box.path or not _may(samples["acl"], _R, who, world)):
        return False
    if "a" in wanted and not _may_administer(box, here, own):
        return False
    if "k" in wanted and not _may_create(box, who, world):
        return False
    if "x" in wanted and not _may_take_away(box, here, own, who, world):
        return False
    if not wanted & set("rwie"):
        return True
    return box.control == box.path and _folders(wanted, box, here, own, who, world)


def _folders(
    wanted: set[str], box: MailboxFiles, here: Inode, own: int, who: Credentials, world: World
) -> bool:
    """Reading, flags, expunging and adding, as far as they are wanted."""
    assert box.samples is not None
    if "i" in wanted and not _may_change(here, own):  # the lock of the uidlist
        return False
    folders = [("cur", _R), ("new", _R)]
    if wanted & set("wie"):
        folders = [("cur", _R | _W), ("new", _R | _W)]
    if "i" in wanted:
        folders.append(("tmp", _W))
    for name, bits in folders:
        try:
            inode = world.look(os.path.join(here.path, name))
        except OSError:
            return False
        if not inode.is_directory or ~bits_of(inode, who) & (bits | _X):
            return False
        if bits & _W and inode.mode & stat.S_ISVTX:
            return False
    # Only messages that are to be read must be readable; but what is renamed must be a file.
    bits = _R if "r" in wanted else 0
    return _may((*box.samples["cur"], *box.samples["new"]), bits, who, world)


def _may_change(directory: Inode, bits: int) -> bool:
    return bits & (_W | _X) == _W | _X and not directory.mode & stat.S_ISVTX


def _may_administer(box: MailboxFiles, here: Inode, own: int) -> bool:
    if box.acl_dir is None:
        return True
    return box.acl_dir == box.path and _may_change(here, own)


def _may_create(box: MailboxFiles, who: Credentials, world: World) -> bool:
    if box.child is None:
        return True
    above = world.way(who, str(box.child.parent)).inode
    return above is not None and above.is_directory and _may_change(above, bits_of(above, who))


def _may_take_away(
    box: MailboxFiles, here: Inode, own: int, who: Credentials, world: World
) -> bool:
    """A directory that moves to another one must be writable itself."""
    above = world.way(who, str(box.path.parent)).inode
    root = world.way(who, str(box.root)).inode
    if above is None or root is None or (above != root and not own & _W):
        return False
    return _may_change(above, bits_of(above, who)) and _may_change(root, bits_of(root, who))


def _may(paths: Iterable[str], bits: int, who: Credentials, world: World) -> bool:
    """Whether all these are regular files that give the bits; their directory was asked."""
    for path in paths:
        try:
            inode = world.look(path)
        except OSError:
            return False
        if not stat.S_ISREG(inode.mode) or inode.is_held or bits & ~bits_of(inode, who):
            return False
    return True
