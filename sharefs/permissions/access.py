"""What the kernel would answer: modes, POSIX ACLs, sticky directories, links.  Pure.

Follows the checks of the kernel (path_resolution(7), acl(5), unlink(2), rename(2), link(2),
chown(2)) for one identity and given stat results.  What it cannot see is left to
sharefs.permissions.explain: security modules, and servers behind network file systems.
"""

import enum
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag, rwx


class Want(enum.IntFlag):
    """What is asked of one inode.  Values are the mode bits.  SEARCH is "execute" for files."""

    SEARCH = 1
    WRITE = 2
    READ = 4

    def letters(self) -> str:
        """ "rw", without dashes."""
        return rwx(self).replace("-", "")


class Class(enum.Enum):
    """Which part of the permissions decided."""

    SUPERUSER = "superuser"
    OWNER = "owner"
    GROUP = "group"
    OTHER = "other"
    ACL_USER = "ACL user"
    ACL_GROUP = "ACL group"
    MASK = "ACL mask"
    STICKY = "sticky directory"
    PROTECTED_LINK = "protected hard links"
    PROTECTED_SYMLINK = "protected symbolic links"
    OWNERSHIP = "ownership"
    MEMBERSHIP = "group membership"
    READ_ONLY = "read-only file system"
    IMMUTABLE = "immutable file"
    APPEND_ONLY = "append-only file"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whom the kernel asks about: effective uid and gid, supplementary groups.

    superuser: has CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_CHOWN; normally so for uid 0 alone.
    """

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    superuser: bool = False

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


@dataclass(frozen=True, slots=True)
class Inode:
    """What stat(2) and getxattr(2) said.  mode: st_mode whole.  acl None: there is none.

    default_acl: what new names inside get; directories only.  immutable, append_only: what
    chattr(1) has set; no mode and no capability overrides these.
    """

    path: str
    mode: int
    uid: int
    gid: int
    acl: PosixAcl | None = None
    default_acl: PosixAcl | None = None
    read_only: bool = False
    immutable: bool = False
    append_only: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_held(self) -> bool:
        """Whether chattr(1) keeps name, owner, mode and ACL as they are."""
        return self.immutable or self.append_only


_NOTHING: Final = Want(0)
# Arithmetic of flags is slow, and a check of a whole host does millions: plain numbers, looked up.
_WANTS: Final = tuple(Want(bits) for bits in range(8))
_CREATE: Final = Want.WRITE | Want.SEARCH


@dataclass(frozen=True, slots=True)
class Answer:
    """One inode's answer.  missing: the bits that were asked for and not given.

    entry: the ACL entry that decided, if one did.  want: all that was asked for, where bits were.
    """

    inode: Inode
    decided_by: Class
    missing: Want = _NOTHING
    entry: AclEntry | None = None
    refused: bool = False
    want: Want = _NOTHING

    @property
    def granted(self) -> bool:
        return not self.missing and not self.refused

    def __bool__(self) -> bool:
        return self.granted


def check(inode: Inode, who: Credentials, want: Want) -> Answer:
    """May who do all of `want` to this inode, given that it can be reached?"""
    if inode.read_only and want & Want.WRITE:
        return Answer(inode, Class.READ_ONLY, Want.WRITE, want=want)
    if inode.immutable and want & Want.WRITE:
        return Answer(inode, Class.IMMUTABLE, Want.WRITE, want=want)
    answer = _check_modes(inode, who, want)
    if answer.missing and who.superuser:
        # CAP_DAC_OVERRIDE: everything, but a file must be executable by somebody to be executed.
        if not want & Want.SEARCH or inode.is_directory or inode.mode & 0o111:
            return Answer(inode, Class.SUPERUSER)
        return Answer(inode, Class.SUPERUSER, Want.SEARCH, want=want)
    return answer


def _check_modes(inode: Inode, who: Credentials, want: Want) -> Answer:
    if who.uid == inode.uid:
        return _answer(inode, Class.OWNER, inode.mode >> 6, want)
    # With no group bits (an empty mask) the kernel does not read the ACL, so that an entry for a
    # user no longer keeps the bits for others from him.
    if inode.acl is not None and inode.mode & 0o070:
        return _check_acl(inode, inode.acl, who, want)
    if who.in_group(inode.gid):
        return _answer(inode, Class.GROUP, inode.mode >> 3, want)
    return _answer(inode, Class.OTHER, inode.mode, want)


def _check_acl(inode: Inode, acl: PosixAcl, who: Credentials, want: Want) -> Answer:
    mask = next((entry for entry in acl if entry.tag is Tag.MASK), None)
    closest: AclEntry | None = None  # a group entry that matched but did not suffice
    for entry in acl:
        match entry.tag:
            case Tag.USER if entry.qualifier == who.uid:
                return _masked(inode, Class.ACL_USER, entry, mask, want)
            case Tag.GROUP_OBJ if who.in_group(inode.gid):
                if want & ~entry.bits == 0:
                    return _masked(inode, Class.GROUP, entry, mask, want)
                closest = closest or entry
            case Tag.GROUP if entry.qualifier is not None and who.in_group(entry.qualifier):
                if want & ~entry.bits == 0:
                    return _masked(inode, Class.ACL_GROUP, entry, mask, want)
                closest = closest or entry
            case Tag.OTHER:
                if closest is not None:
                    kind = Class.GROUP if closest.tag is Tag.GROUP_OBJ else Class.ACL_GROUP
                    return Answer(inode, kind, Want(want & ~closest.bits), closest, want=want)
                return Answer(inode, Class.OTHER, Want(want & ~entry.bits & 7), entry, want=want)
            case _:
                pass
    return Answer(inode, Class.OTHER, want, want=want)


def _masked(
    inode: Inode, kind: Class, entry: AclEntry, mask: AclEntry | None, want: Want
) -> Answer:
    if want & ~entry.bits & 7 == 0 and mask is not None and want & ~mask.bits & 7:
        return Answer(inode, Class.MASK, Want(want & ~mask.bits & 7), mask, want=want)
    return Answer(inode, kind, Want(want & ~entry.bits & 7), entry, want=want)


def _answer(inode: Inode, kind: Class, bits: int, want: Want) -> Answer:
    return Answer(inode, kind, _WANTS[int(want) & ~bits & 7], want=want)


def first_refusal(directories: Sequence[Inode], who: Credentials) -> Answer | None:
    """The first directory on a path that may not be searched.  None: all may."""
    for inode in directories:
        answer = check(inode, who, Want.SEARCH)
        if not answer:
            return answer
    return None


def can_follow(directory: Inode, link: Inode, who: Credentials) -> Answer:
    """Whether a symbolic link at the end of a path may be followed under fs.protected_symlinks.

    In a sticky directory that everybody may write to only one's own links are, and those of the
    directory's owner (proc_sys_fs(5)).  No capability lifts that.
    """
    guarded = directory.mode & 0o1002 == 0o1002
    refused = guarded and link.uid not in (who.uid, directory.uid)
    return Answer(link, Class.PROTECTED_SYMLINK, refused=refused)


def held(inode: Inode) -> Answer:
    """The refusal to change what chattr(1) keeps as it is.  inode.is_held must be so."""
    by = Class.IMMUTABLE if inode.immutable else Class.APPEND_ONLY
    return Answer(inode, by, refused=True)


def can_overwrite(entry: Inode, who: Credentials) -> Answer:
    """Whether a file may be opened for writing, and not just for appending."""
    answer = check(entry, who, Want.WRITE)
    return held(entry) if answer and entry.append_only and not entry.is_directory else answer


def can_create(directory: Inode, who: Credentials) -> Answer:
    """Whether a new name may be made in a directory."""
    return check(directory, who, _CREATE)


def can_remove(directory: Inode, entry: Inode, who: Credentials) -> Answer:
    """Whether unlink(2), rmdir(2), or rename(2) away is allowed.

    In a sticky directory only the owners of the entry and of the directory may.
    """
    answer = can_create(directory, who)
    if not answer:
        return answer
    if directory.append_only:
        return held(directory)
    if entry.is_held:
        return held(entry)
    sticky = directory.mode & stat.S_ISVTX
    if sticky and who.uid not in (entry.uid, directory.uid) and not who.superuser:
        return Answer(directory, Class.STICKY, refused=True)
    return answer


def can_rename(
    source: Inode, entry: Inode, dest: Inode, who: Credentials, *, replaced: Inode | None = None
) -> Answer:
    """Whether entry may move from directory source to directory dest.

    replaced: what already has the new name.  Moving a directory elsewhere changes its "..", so it
    must itself be writable.
    """
    answer = can_remove(source, entry, who)
    if answer:
        answer = can_create(dest, who) if replaced is None else can_remove(dest, replaced, who)
    if answer and entry.is_directory and source != dest:
        answer = check(entry, who, Want.WRITE)
    return answer


def can_link(source: Inode, dest: Inode, who: Credentials, *, protected: bool = True) -> Answer:
    """Whether a hard link to a file may be made in directory dest.

    protected: fs.protected_hardlinks (proc_sys_fs(5)), the usual setting: another's file must be
    regular, not privileged, and readable and writable.
    """
    answer = can_create(dest, who)
    if answer and source.is_held:
        return held(source)
    if not answer or not protected or who.superuser or who.uid == source.uid:
        return answer
    privileged = source.mode & stat.S_ISUID or (source.mode & 0o2010) == 0o2010
    reachable = check(source, who, Want.READ | Want.WRITE)
    if not stat.S_ISREG(source.mode) or privileged or not reachable:
        return Answer(
            source, Class.PROTECTED_LINK, reachable.missing, reachable.entry, True, reachable.want
        )
    return answer


def can_chgrp(entry: Inode, gid: int, who: Credentials) -> Answer:
    """Whether the group may be changed: one's own file, to a group one is in."""
    if entry.read_only:
        return Answer(entry, Class.READ_ONLY, Want.WRITE)
    if entry.is_held:
        return held(entry)
    if who.superuser:
        return Answer(entry, Class.SUPERUSER)
    if who.uid != entry.uid:
        return Answer(entry, Class.OWNERSHIP, refused=True)
    return Answer(entry, Class.MEMBERSHIP, refused=gid != entry.gid and not who.in_group(gid))


def can_chmod(entry: Inode, who: Credentials) -> Answer:
    """Whether the mode may be changed: one's own file only."""
    if entry.read_only:
        return Answer(entry, Class.READ_ONLY, Want.WRITE)
    if entry.is_held:
        return held(entry)
    if who.superuser:
        return Answer(entry, Class.SUPERUSER)
    return Answer(entry, Class.OWNERSHIP, refused=who.uid != entry.uid)
