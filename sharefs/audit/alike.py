"""Mailboxes of one root that nothing but their names tells apart are compared once.

Most of a user's mailboxes are alike: same owner, same modes, no ACL of their own.  What the
comparison of users found out about one of them then holds for all, as long as it found nothing:
evidence names paths, so what is wrong with a mailbox is looked for in it.  Pure.
"""

import os
from dataclasses import dataclass
from typing import Final

from sharefs.audit.facts import Judged
from sharefs.audit.scan import ScannedBox
from sharefs.permissions.access import Inode

MAX_LIKENESSES: Final = 1000  # of one mail root; real ones have a handful


@dataclass(frozen=True, slots=True)
class Compared:
    """Fields of BoxFacts of the same names."""

    judged: tuple[Judged, ...]
    stranger: str
    outsiders: tuple[str, ...]

    @property
    def is_quiet(self) -> bool:
        found = any(each.denied or each.leaked for each in self.judged)
        return not (found or self.stranger or self.outsiders)


def likeness(box: ScannedBox) -> object:
    """Equal for mailboxes of one root of which all questions have the same answers.

    That holds where nothing outside of the mailbox and of what is above it has a say: no links, no
    settings for single mailboxes, no control files elsewhere.
    """
    return (
        not box.stored, os.path.dirname(box.path), _facts(box.inode), _facts(box.acl_inode),
        box.acl, tuple((name, _facts(inode)) for name, inode in sorted(box.folders.items())),
        tuple((kind.folder, kind.mode, kind.uid, kind.gid, kind.acl) for kind in box.kinds),
    )  # fmt: skip


def _facts(inode: Inode | None) -> object:
    """All of an inode but its path."""
    if inode is None:
        return None
    return (
        inode.mode, inode.uid, inode.gid, inode.acl, inode.default_acl, inode.read_only,
        inode.immutable, inode.append_only,
    )  # fmt: skip


class Alike:
    """What came of the mailboxes of one root so far, by likeness.  None is like nothing."""

    def __init__(self) -> None:
        self._quiet: dict[object, Compared] = {}

    def get(self, likeness: object) -> Compared | None:
        return None if likeness is None else self._quiet.get(likeness)

    def keep(self, likeness: object, compared: Compared) -> None:
        if likeness is not None and compared.is_quiet and len(self._quiet) < MAX_LIKENESSES:
            self._quiet[likeness] = compared
