"""Reads the file system and says why a path may not be used: which component, which bit, whose.

Only looks, never changes.  Run by the superuser it sees everything; run by the refused user
himself it sees as far as the first refusal, which is what matters.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.permissions.access import Answer, Class, Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import (
    ACCESS,
    DEFAULT,
    PosixAcl,
    parse_posix_acl,
    rwx,
)

MAX_LINKS: Final = 40  # symbolic links in one path, path_resolution(7)
_NO_ACL: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES})

GroupName = Callable[[int], str]
"""How a message names a gid; sharefs.identity knows names and where they came from."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every component that was asked, in order; the last one refused, unless all agreed.

    missing_path: the first component that does not exist, None if all do.
    unexplained: the kernel refuses although every mode and ACL that we can see allows it.
    """

    path: str
    who: Credentials
    want: Want
    steps: tuple[Answer, ...]
    missing_path: str | None = None
    unexplained: bool = False

    @property
    def allowed(self) -> bool:
        return not self.unexplained and self.missing_path is None and self.refusal is None

    @property
    def refusal(self) -> Answer | None:
        """The first answer that denies."""
        return next((step for step in self.steps if not step), None)

    def text(self, group_name: GroupName = str) -> str:
        """One line for a log."""
        who = f"uid {self.who.uid}, gid {group_name(self.who.gid)}"
        refusal = self.refusal
        if refusal is not None:
            return f"{self.path}: {who}: {describe(refusal, self.who, group_name)}"
        if self.missing_path is not None:
            return f"{self.path}: {self.missing_path} does not exist"
        if self.unexplained:
            return (
                f"{self.path}: {who}: modes and ACLs allow {self.want.letters()}, yet the kernel"
                " refuses: look for a security module (SELinux, AppArmor), a mount option or a"
                " network file system's server"
            )
        return f"{self.path}: {who}: allowed"

    def remedy(self) -> str:
        """The smallest change that lifts the first refusal.  Empty if there is none to name."""
        return "" if self.refusal is None else remedy_for(self.refusal, self.who)


def describe(answer: Answer, who: Credentials, group_name: GroupName = str) -> str:
    """What one inode says no to, and which of its permissions decide that."""
    inode = answer.inode
    facts = f"mode {stat.S_IMODE(inode.mode):04o}, owner {inode.uid}:{group_name(inode.gid)}"
    match answer.decided_by:
        case Class.STICKY:
            return f"{inode.path} is sticky: only owners may remove or rename there ({facts})"
        case Class.PROTECTED_LINK:
            return f"{inode.path} belongs to uid {inode.uid}: fs.protected_hardlinks ({facts})"
        case Class.OWNERSHIP:
            return f"{inode.path} belongs to uid {inode.uid} ({facts})"
        case Class.MEMBERSHIP:
            return f"not a member of the group wanted for {inode.path} ({facts})"
        case Class.READ_ONLY:
            return f"{inode.path} is on a file system mounted read-only"
        case _:
            pass
    text = f"{inode.path} lacks {answer.missing.letters()} for {answer.decided_by.value}"
    if answer.entry is not None:
        text += f", entry {answer.entry}"
    text += f" ({facts}"
    if answer.decided_by is Class.OTHER and inode.mode >> 3 & answer.missing == answer.missing:
        text += f"; the group would allow it, but the process is not in {group_name(inode.gid)}"
    if inode.acl is not None and answer.entry is None:
        text += "; it has a POSIX ACL"
    return text + ")"


def remedy_for(answer: Answer, who: Credentials) -> str:
    """The smallest change, as a command or a setting, that makes this inode agree."""
    inode, letters = answer.inode, answer.missing.letters()
    group_helps = inode.mode >> 3 & answer.missing == answer.missing and inode.acl is None
    match answer.decided_by:
        case Class.OWNER:
            return f"chmod u+{letters} {inode.path}"
        case Class.GROUP if answer.entry is None:
            return f"chmod g+{letters} {inode.path}"
        case Class.OTHER if group_helps:
            return f"add group {inode.gid} to mail_access_groups, or uid {who.uid} to the group"
        case Class.MASK:
            bits = (0 if answer.entry is None else answer.entry.bits) | answer.missing
            return f"setfacl -m m::{rwx(bits)} {inode.path}"
        case Class.OTHER | Class.GROUP | Class.ACL_USER | Class.ACL_GROUP:
            granted = rwx(_bits_of(inode, who) | answer.missing)
            return f"setfacl -m u:{who.uid}:{granted} {inode.path}"
        case Class.MEMBERSHIP:
            return f"chmod g+s {inode.path}, or add the group to mail_access_groups"
        case _:
            return ""


def _bits_of(inode: Inode, who: Credentials) -> int:
    """What is granted already, so that a new entry for the user takes nothing away."""
    return sum(bit for bit in Want if check(inode, who, bit))


def explain_access(who: Credentials, path: Path | str, want: Want) -> Explanation:
    """Walk a path as the kernel would, symbolic links included, and ask each component.

    Raises nothing for what does not exist or may not be seen: both are part of the explanation.
    """
    steps: list[Answer] = []
    absolute = os.path.abspath(path)
    try:
        final = _walk(absolute, who, steps)
    except _Missing as missing:
        return Explanation(str(path), who, want, tuple(steps), missing_path=missing.path)
    if final is not None:
        steps.append(check(final, who, want))
    unexplained = all(steps) and _is_us(who) and not _kernel_agrees(absolute, want)
    return Explanation(str(path), who, want, tuple(steps), unexplained=unexplained)


def explain_refusal(path: Path | str, want: Want = Want.SEARCH) -> str:
    """Why this very process was refused, for a log line after an EACCES or EPERM."""
    explanation = explain_access(own_credentials(), path, want)
    remedy = explanation.remedy()
    return explanation.text() + (f"; remedy: {remedy}" if remedy else "")


def own_credentials() -> Credentials:
    """This process, as the kernel sees it."""
    return Credentials(
        os.geteuid(), os.getegid(), frozenset(os.getgroups()), superuser=os.geteuid() == 0
    )


def inode_of(path: str) -> Inode:
    """stat(2) and the ACLs of one path; a symbolic link stands for itself."""
    status = os.stat(path, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return Inode(path, status.st_mode, status.st_uid, status.st_gid)
    return Inode(
        path,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        _acl(path, ACCESS),
        _acl(path, DEFAULT) if stat.S_ISDIR(status.st_mode) else None,
        _read_only(path),
    )


class _Missing(Exception):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def _walk(path: str, who: Credentials, steps: list[Answer]) -> Inode | None:
    """Ask every directory on the way.  Returns the last component, None after a refusal."""
    pending = [part for part in reversed(path.split("/")) if part]
    here = _inode_or_missing("/")
    trail = ["/"]  # the directories above, for ".."
    links = 0
    while pending:
        name = pending.pop()
        if not here.is_directory:
            raise _Missing(os.path.join(here.path, name))
        steps.append(check(here, who, Want.SEARCH))
        if not steps[-1]:
            return None
        if name in (".", ".."):
            if name == ".." and len(trail) > 1:
                trail.pop()
            here = _inode_or_missing(trail[-1])
            continue
        found = _inode_or_missing(os.path.join(here.path, name))
        if not stat.S_ISLNK(found.mode):
            here = found
            trail.append(found.path)
            continue
        links += 1
        if links > MAX_LINKS:
            raise _Missing(found.path)
        target = os.readlink(found.path)
        if target.startswith("/"):
            trail = ["/"]
            here = _inode_or_missing("/")
        pending += [part for part in reversed(target.split("/")) if part]
    return here


def _inode_or_missing(path: str) -> Inode:
    try:
        return inode_of(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Missing(path) from error
    except PermissionError as error:
        # We ask on behalf of somebody who sees more than we do: as far as we know, it is not there.
        raise _Missing(path) from error


def _acl(path: str, attribute: str) -> PosixAcl | None:
    try:
        return parse_posix_acl(os.getxattr(path, attribute, follow_symlinks=False))
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return None


def _read_only(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _is_us(who: Credentials) -> bool:
    return who == own_credentials()


def _kernel_agrees(path: str, want: Want) -> bool:
    try:
        return os.access(path, int(want), effective_ids=True)
    except OSError:
        return False
