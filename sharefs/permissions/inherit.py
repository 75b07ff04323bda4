"""What a new file or directory gets: mode, group, and where that came from.  Pure.

The rules, with `ls -l` before and after, are in docs/permissions.md.  Rule of this file: values
in, values out; stat results and the process's egid arrive as arguments.

One trap decides the shape of everything here.  chmod(2) to a plain mode clears the setgid bit
that mkdir(2) inherited, and sharing breaks one level down.  So `dir_mode` never carries a setgid
bit that the kernel will hand down anyway, and sharefs.fsops never takes away one that it did.
"""

import enum
import stat
from dataclasses import dataclass
from typing import Final, Self

FILE_BITS: Final = 0o666
DIR_BITS: Final = 0o777
OWNER_FILE: Final = 0o600  # the owner can always work with what was made for him
OWNER_DIR: Final = 0o700


class GidReason(enum.Enum):
    """Why a group was chosen, or why the choice was left to the kernel."""

    COPIED = "copied"  # the group of the directory that permissions are copied from
    SETGID = "setgid"  # the kernel hands the group down; no need to be a member
    GROUP_IS_OTHER = "group-is-other"  # the group bits grant nothing that others lack
    ALREADY_OURS = "already-ours"  # the directory's group is the process's own
    EGID = "egid"  # a user's own directory inside a shared one goes back to the user's group
    PARENT = "parent"  # a home made under a setgid directory
    PRESERVED = "preserved"  # an existing file keeps its group
    DEFAULTS = "defaults"  # there is nothing to copy from


@dataclass(frozen=True, slots=True)
class Facts:
    """What stat(2) said.  mode: st_mode whole, type bits included.  path: for the origin text."""

    mode: int
    uid: int
    gid: int
    path: str

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def setgid(self) -> bool:
        return bool(self.mode & stat.S_ISGID)


@dataclass(frozen=True, slots=True)
class Creation:
    """What new files and directories get.

    file_mode, dir_mode: exact modes, whatever the umask.  dir_mode comes on top of a setgid bit
    handed down by the kernel, unless a gid is chosen.
    gid: the group to chgrp to; None: leave it to the kernel.
    reason, origin: why this group, and the path (or the word) it was taken from.
    owner_uid, owner_gid: owner of the place permissions were copied from; None: the process's own.
    group: the group that a new file ends up with; None: the process's egid.
    """

    file_mode: int
    dir_mode: int
    gid: int | None
    reason: GidReason
    origin: str
    owner_uid: int | None = None
    owner_gid: int | None = None
    group: int | None = None

    @classmethod
    def of_directory(cls, facts: Facts, *, egid: int) -> Self:
        """What is made inside or beside a directory whose permissions are copied."""
        return cls._of(facts, setgid=facts.setgid, dir_mode=facts.mode, egid=egid)

    @classmethod
    def of_file(cls, facts: Facts, *, parent: Facts | None, egid: int) -> Self:
        """What is made for a mailbox that is a file (mbox).

        Directories get x for each class that may read or write the file.  A setgid parent
        directory leaves the group to the kernel.
        """
        readable = facts.mode & FILE_BITS
        search = (readable >> 2 | readable >> 1) & 0o111
        handed_down = parent is not None and parent.setgid
        made = cls._of(facts, setgid=handed_down, dir_mode=readable | search, egid=egid)
        if parent is None or made.reason is not GidReason.SETGID:
            return made
        group = parent.gid if parent.gid != egid else None
        return cls(made.file_mode, made.dir_mode, None, made.reason, parent.path,
                   made.owner_uid, made.owner_gid, group)  # fmt: skip

    @classmethod
    def _of(cls, facts: Facts, *, setgid: bool, dir_mode: int, egid: int) -> Self:
        reason = _gid_reason(facts, setgid=setgid, egid=egid)
        taken = facts.gid if reason in (GidReason.COPIED, GidReason.SETGID) else egid
        return cls(
            file_mode=facts.mode & FILE_BITS | OWNER_FILE,
            dir_mode=dir_mode & DIR_BITS | OWNER_DIR,
            gid=facts.gid if reason is GidReason.COPIED else None,
            reason=reason,
            origin=facts.path,
            owner_uid=facts.uid,
            owner_gid=facts.gid,
            group=taken if taken != egid else None,
        )


def _gid_reason(facts: Facts, *, setgid: bool, egid: int) -> GidReason:
    group_bits, other_bits = facts.mode >> 3 & 7, facts.mode & 7
    rules = (  # the first that applies; docs/permissions.md, "The group"
        (setgid, GidReason.SETGID),
        (group_bits == other_bits, GidReason.GROUP_IS_OTHER),
        (facts.gid == egid, GidReason.ALREADY_OURS),
        (True, GidReason.COPIED),
    )
    return next(reason for applies, reason in rules if applies)


DEFAULTS: Final = Creation(OWNER_FILE, OWNER_DIR, None, GidReason.DEFAULTS, "defaults")


def of_dictionary(parent: Facts, existing: Facts | None) -> Creation:
    """What a dictionary file (a sharing map) gets.

    A new one takes the read and write bits of its directory, and the group only if the group bits
    say something that the other bits do not.  Afterwards every new version keeps the mode and
    group of the file it replaces, so an administrator's chmod and chgrp last.
    """
    if existing is not None:
        return Creation(
            file_mode=existing.mode & DIR_BITS,
            dir_mode=OWNER_DIR,
            gid=existing.gid,
            reason=GidReason.PRESERVED,
            origin=existing.path,
            owner_uid=existing.uid,
            owner_gid=existing.gid,
            group=existing.gid,
        )
    differs = (parent.mode >> 3 & 7) != (parent.mode & 7)
    reason = GidReason.COPIED if differs else GidReason.GROUP_IS_OTHER
    return Creation(
        file_mode=parent.mode & FILE_BITS,
        dir_mode=parent.mode & DIR_BITS if parent.setgid else OWNER_DIR,
        gid=parent.gid if differs else None,
        reason=reason if not parent.setgid else GidReason.SETGID,
        origin=parent.path,
        owner_uid=parent.uid,
        owner_gid=parent.gid,
        group=parent.gid if differs or parent.setgid else None,
    )


@dataclass(frozen=True, slots=True)
class LinkDecision:
    """Whether one inode may serve two mailboxes.  reason: for logs and `sharefs explain`."""

    link: bool
    reason: str

    def __bool__(self) -> bool:
        return self.link


def link_decision(source: Creation, dest: Creation) -> LinkDecision:
    """Hard link exactly when both mailboxes would give a new file the same permissions.

    Looks at the mailboxes only, never at the message file.  Stricter than Dovecot in one case:
    two setgid directories of different groups both leave the group to the kernel, which then
    hands down different ones; there we copy (docs/permissions.md, "Copying messages").
    """
    if source.file_mode != dest.file_mode:
        return LinkDecision(False, f"file modes differ: {source.file_mode:04o} at {source.origin},"
                                   f" {dest.file_mode:04o} at {dest.origin}")  # fmt: skip
    if source.group != dest.group or source.gid != dest.gid:
        return LinkDecision(
            False, f"groups are chosen differently: {_group_text(source)}, {_group_text(dest)}"
        )
    if source.owner_uid != dest.owner_uid and not dest.file_mode & 0o022:
        return LinkDecision(
            False,
            f"owners differ ({source.owner_uid} and {dest.owner_uid}) and mode"
            f" {dest.file_mode:04o} lets neither group nor others write",
        )
    return LinkDecision(True, f"same permissions: mode {dest.file_mode:04o}, {_group_text(dest)}")


def _group_text(creation: Creation) -> str:
    group = "the process's group" if creation.group is None else f"group {creation.group}"
    return f"{group} ({creation.reason.value}: {creation.origin})"


@dataclass(frozen=True, slots=True)
class RenameDecision:
    """Whether a mailbox may move.  reason: which permissions conflict, for the log."""

    allowed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


def rename_decision(mailbox: Creation, place: Creation, *, below_another: bool) -> RenameDecision:
    """Whether a mailbox may be renamed to a new place.

    mailbox: of the mailbox as it is.  place: what would be created at the new name.
    below_another: the new name has a parent mailbox; a move to the top level is not checked.
    """
    if not below_another:
        return RenameDecision(True, "the new name is at the top level")
    pairs: tuple[tuple[str, str, str], ...] = (
        ("file mode", f"{mailbox.file_mode:04o}", f"{place.file_mode:04o}"),
        ("directory mode", f"{mailbox.dir_mode:04o}", f"{place.dir_mode:04o}"),
        ("group", _group_text(mailbox), _group_text(place)),
    )
    if mailbox.gid == place.gid and mailbox.group == place.group:
        pairs = pairs[:2]
    for what, have, want in pairs:
        if have != want:
            return RenameDecision(
                False, f"{what} differs: {have} at {mailbox.origin}, {want} at {place.origin}"
            )
    return RenameDecision(True, "the permissions are the same")
