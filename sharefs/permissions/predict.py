"""What a new file or directory will look like, before anybody makes it.  Pure.

Joins the creation rules (inherit) with the kernel's own (access): sharefs.fsops does it, this says
what will come of it.  Tests compare the two on real file systems.
"""

import enum
import stat
from dataclasses import dataclass

from sharefs.permissions.access import Answer, Credentials, Inode, can_chgrp, can_create
from sharefs.permissions.inherit import Creation
from sharefs.permissions.posix_acl import limit_of


class GroupRule(enum.Enum):
    """Whose group a file system gives a new name (mount(8), ext4 and xfs).

    SYSV: the caller's; in a setgid directory the directory's, and directories get setgid too.
    BSD: the directory's always, and no directory gets setgid (ext4 with grpid, or bsdgroups).
    BSD_SETGID: the directory's always, and directories in setgid ones get setgid (XFS with grpid).
    """

    SYSV = "sysv"
    BSD = "bsd"
    BSD_SETGID = "bsd and setgid"


@dataclass(frozen=True, slots=True)
class Prediction:
    """made: whether there will be anything.  mode: permission and special bits.

    refused_gid: the group that the kernel will not let us give; a file is then kept with `gid`, a
    directory is not made.  answer: of the directory it is made in.
    """

    made: bool
    mode: int
    uid: int
    gid: int
    refused_gid: int | None
    answer: Answer


def predict_file(
    parent: Inode, creation: Creation, who: Credentials, *, rule: GroupRule = GroupRule.SYSV
) -> Prediction:
    """What fsops.create_file() will make in an existing directory.  rule: of its file system."""
    gid, refused = _group(parent, creation, who, rule)
    answer = can_create(parent, who)
    return Prediction(bool(answer), creation.file_mode, who.uid, gid, refused, answer)


def predict_dir(
    parent: Inode, creation: Creation, who: Credentials, *, rule: GroupRule = GroupRule.SYSV
) -> Prediction:
    """What fsops.make_dir() will make in an existing directory.  rule: as for files."""
    gid, refused = _group(parent, creation, who, rule)
    answer = can_create(parent, who)
    mode = creation.dir_mode
    if creation.gid is None and parent.mode & stat.S_ISGID:
        mode |= 0 if rule is GroupRule.BSD else stat.S_ISGID
        # Outside the group a chmod(2) would clear setgid, so mkdir(2) has the last word, and it
        # respects a default ACL.
        if parent.default_acl is not None and not (who.superuser or who.in_group(gid)):
            mode &= limit_of(parent.default_acl) | 0o7000
    return Prediction(bool(answer) and refused is None, mode, who.uid, gid, refused, answer)


def _group(
    parent: Inode, creation: Creation, who: Credentials, rule: GroupRule
) -> tuple[int, int | None]:
    """The group a new name ends up with, and the one that was refused."""
    of_directory = rule is not GroupRule.SYSV or parent.mode & stat.S_ISGID
    given = parent.gid if of_directory else who.gid
    if creation.gid is None or creation.gid == given:
        return given, None
    new = Inode(parent.path, stat.S_IFREG, who.uid, given)
    if can_chgrp(new, creation.gid, who):
        return creation.gid, None
    return given, creation.gid
