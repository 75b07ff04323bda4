"""Reads the file system and says why a path may not be used: which component, which bit, whose.

Only looks, never changes.  Run by the superuser it sees everything; run by the refused user
himself it sees as far as the first refusal, which is what matters.
"""

import errno
import functools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.permissions.access import (
    Answer,
    Class,
    Credentials,
    Inode,
    Want,
    can_follow,
    check,
)
from sharefs.permissions.acting import own_credentials
from sharefs.permissions.inode_flags import inode_flags
from sharefs.permissions.posix_acl import (
    ACCESS,
    DEFAULT,
    PosixAcl,
    parse_posix_acl,
)
from sharefs.permissions.read_only import is_read_only
from sharefs.permissions.remedy import remedy_of

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
        case Class.PROTECTED_SYMLINK:
            return (
                f"{inode.path} is a link of uid {inode.uid} in a sticky directory that everybody"
                " may write to: fs.protected_symlinks"
            )
        case Class.READ_ONLY:
            return f"{inode.path} is on a read-only file system or subvolume"
        case Class.IMMUTABLE:
            return f"{inode.path} is immutable (chattr +i): not even root may change it"
        case Class.APPEND_ONLY:
            return (
                f"{inode.path} is append-only (chattr +a): nothing in it may be removed or renamed"
            )
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
    remedy = remedy_of(answer, who)
    return "" if remedy is None else remedy.command


# Reads one inode, links not followed; raises OSError.  Other than inode_of: a file system as it
# might be.
Look = Callable[[str], Inode]


@dataclass(frozen=True, slots=True)
class Walked:
    """The way along a path.

    steps: every directory that was asked, and links that may not be followed; the last one
    refused, unless all agreed.  inode: what the path leads to; None after a refusal, or if
    missing_path, the first component that does not exist, is not None.
    """

    steps: tuple[Answer, ...]
    inode: Inode | None
    missing_path: str | None = None


def walk(
    who: Credentials, path: Path | str, *, follow: bool = True, look: Look | None = None
) -> Walked:
    """Walk a path as the kernel would.  follow: whether a link at its end is followed.

    Raises nothing for what does not exist or may not be seen.
    """
    steps: list[Answer] = []
    absolute = os.path.join(os.getcwd(), path)
    try:
        final = _walk(absolute, who, steps, look or inode_of, follow=follow)
    except _Missing as missing:
        return Walked(tuple(steps), None, missing.path)
    return Walked(tuple(steps), final)


def explain_access(
    who: Credentials, path: Path | str, want: Want, *, look: Look | None = None
) -> Explanation:
    """Walk a path as the kernel would, symbolic links included, and ask each component.

    Raises nothing for what does not exist or may not be seen: both are part of the explanation.
    """
    walked = walk(who, path, look=look)
    steps = walked.steps
    if walked.missing_path is not None:
        return Explanation(str(path), who, want, steps, missing_path=walked.missing_path)
    if walked.inode is not None:
        steps = (*steps, check(walked.inode, who, want))
    unexplained = look is None and all(steps) and _is_us(who) and not _kernel_agrees(path, want)
    return Explanation(str(path), who, want, steps, unexplained=unexplained)


def explain_refusal(path: Path | str, want: Want = Want.SEARCH, *, with_remedy: bool = True) -> str:
    """Why this very process was refused, for a log line after an EACCES or EPERM.

    with_remedy False: where the refusal may be what the administrator wants.
    """
    explanation = explain_access(own_credentials(), path, want)
    remedy = explanation.remedy() if with_remedy else ""
    return explanation.text() + (f"; remedy: {remedy}" if remedy else "")


def inode_of(path: str) -> Inode:
    """stat(2) and the ACLs of one path; a symbolic link stands for itself."""
    status = os.stat(path, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return Inode(path, status.st_mode, status.st_uid, status.st_gid)
    flags = inode_flags(path)
    return Inode(
        path,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        _acl(path, ACCESS),
        _acl(path, DEFAULT) if stat.S_ISDIR(status.st_mode) else None,
        is_read_only(path),
        flags.immutable,
        flags.append_only,
    )


class _Missing(Exception):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def _walk(
    path: str, who: Credentials, steps: list[Answer], look: Look, *, follow: bool
) -> Inode | None:
    """Ask every directory on the way.  Returns the last component, None after a refusal."""
    pending = [part for part in reversed(path.split("/")) if part]
    slash = path.endswith("/")  # then what stands before it must be, or lead to, a directory
    follow = follow or slash
    here = _inode_or_missing("/", look)
    trail = ["/"]  # the directories above, for ".."
    links = 0
    while pending:
        trailing = len(pending) == 1
        name = pending.pop()
        if not here.is_directory:
            raise _Missing(os.path.join(here.path, name))
        steps.append(check(here, who, Want.SEARCH))
        if not steps[-1]:
            return None
        if name in (".", ".."):
            if name == ".." and len(trail) > 1:
                trail.pop()
            here = _inode_or_missing(trail[-1], look)
            continue
        found = _inode_or_missing(os.path.join(here.path, name), look)
        if not stat.S_ISLNK(found.mode) or (trailing and not follow):
            here = found
            trail.append(found.path)
            continue
        if trailing and protected_symlinks():
            steps.append(can_follow(here, found, who))
            if not steps[-1]:
                return None
        links += 1
        if links > MAX_LINKS:
            raise _Missing(found.path)
        target = os.readlink(found.path)
        if target.startswith("/"):
            trail = ["/"]
            here = _inode_or_missing("/", look)
        pending += [part for part in reversed(target.split("/")) if part]
    if slash and not here.is_directory:
        raise _Missing(path)
    return here


def protected_symlinks() -> bool:
    """fs.protected_symlinks (proc_sys_fs(5)) of this host."""
    return _sysctl("protected_symlinks")


def protected_hardlinks() -> bool:
    """fs.protected_hardlinks (proc_sys_fs(5)) of this host."""
    return _sysctl("protected_hardlinks")


@functools.cache
def _sysctl(name: str) -> bool:
    """True where it cannot be read: the kernel's usual setting, and the stricter one."""
    try:
        with open(f"/proc/sys/fs/{name}", "rb", buffering=0) as file:
            return file.read(16).strip() != b"0"
    except OSError:
        return True


def _inode_or_missing(path: str, look: Look) -> Inode:
    try:
        return look(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Missing(path) from error
    except PermissionError as error:
        # We ask on behalf of somebody who sees more than we do: as far as we know, it is not there.
        raise _Missing(path) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise _Missing(path) from error
        raise


def _acl(path: str, attribute: str) -> PosixAcl | None:
    try:
        return parse_posix_acl(os.getxattr(path, attribute, follow_symlinks=False))
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return None


def _is_us(who: Credentials) -> bool:
    return who == own_credentials()


def _kernel_agrees(path: Path | str, want: Want) -> bool:
    try:
        return os.access(path, int(want), effective_ids=True)
    except OSError:
        return False
