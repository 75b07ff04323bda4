"""The four ways to make the kernel agree with the ACLs.  Pure: homes and nodes in, wishes out.

groups      setgid, and one group for each circle of people who share a mailbox
posix-acl   entries and defaults for each user
single-uid  all mail belongs to one uid, and the ACLs alone decide
mount       everything closed: the mount serves, and the ACLs alone decide
"""

import enum
from collections.abc import Mapping
from typing import Final

from sharefs.repair.strategies.base import Finding, Options, Strategy
from sharefs.repair.strategies.closed import Mount, SingleUid
from sharefs.repair.strategies.groups import Groups
from sharefs.repair.strategies.posix_acls import PosixAcls


class Name(enum.StrEnum):
    """The strategies' words on the command line and in plans."""

    GROUPS = "groups"
    POSIX_ACL = "posix-acl"
    SINGLE_UID = "single-uid"
    MOUNT = "mount"


STRATEGIES: Final[Mapping[Name, type[Strategy]]] = {
    Name.GROUPS: Groups,
    Name.POSIX_ACL: PosixAcls,
    Name.SINGLE_UID: SingleUid,
    Name.MOUNT: Mount,
}


__all__ = ["STRATEGIES", "Finding", "Name", "Options", "Strategy"]
