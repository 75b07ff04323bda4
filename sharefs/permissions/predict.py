"""What a new file or directory will look like, before anybody makes it.  Pure.

Joins the creation rules (inherit) with the kernel's own (access): sharefs.fsops does it, this says
what will come of it.  Tests compare the two on real file systems.
"""

import stat
from dataclasses import dataclass

from sharefs.permissions.access import Answer, Credentials, Inode, can_chgrp, can_create
from sharefs.permissions.inherit import Creation
from sharefs.permissions.posix_acl import limit_of


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
    parent: Inode, creation: Creation, who: Credentials, *, grpid: bool = False
) -> Prediction:
    """What fsops.create_file() will make in an existing directory.

    grpid: the file system is mounted with grpid (bsdgroups): every new name gets the directory's
    group, and no new directory gets setgid from the one above (mount(8), ext4).
    """
    gid, refused = _group(parent, creation, who, grpid=grpid)
    answer = can_create(parent, who)
    return Prediction(bool(answer), creation.file_mode, who.uid, gid, refused, answer)


def predict_dir(
    parent: Inode, creation: Creation, who: Credentials, *, grpid: bool = False
) -> Prediction:
    """What fsops.make_dir() will make in an existing directory.  grpid: as for files."""
    gid, refused = _group(parent, creation, who, grpid=grpid)
    answer = can_create(parent, who)
    mode = creation.dir_mode
    if creation.gid is None and parent.mode & stat.S_ISGID:
        mode |= 0 if grpid else stat.S_ISGID
        # Outside the group a chmod(2) would clear setgid, so mkdir(2) has the last word, and it
        # respects a default ACL.
        if parent.default_acl is not None and not (who.superuser or who.in_group(gid)):
            mode &= limit_of(parent.default_acl) | 0o7000
    return Prediction(bool(answer) and refused is None, mode, who.uid, gid, refused, answer)


def _group(
    parent: Inode, creation: Creation, who: Credentials, *, grpid: bool
) -> tuple[int, int | None]:
    """The group a new name ends up with, and the one that was refused."""
    given = parent.gid if grpid or parent.mode & stat.S_ISGID else who.gid
    if creation.gid is None or creation.gid == given:
        return given, None
    new = Inode(parent.path, stat.S_IFREG, who.uid, given)
    if can_chgrp(new, creation.gid, who):
        return creation.gid, None
    return given, creation.gid
