"""The smallest change that makes one inode agree, and what the inode is like afterwards.  Pure.

A remedy is tried on values before it is named: what sharefs suggests, the kernel's own rules
(access) have agreed to.
"""

import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sharefs.permissions.access import Answer, Class, Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag, rwx

PERMISSION_CLASSES: Final = frozenset(
    {Class.OWNER, Class.GROUP, Class.OTHER, Class.ACL_USER, Class.ACL_GROUP, Class.MASK}
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change.

    command: what to type, or which setting to change.  after: the inode then; the same one if
    the change is elsewhere.  join: the group that the viewer's processes must be given instead.
    remount: the file system has to be made writable.
    """

    command: str
    after: Inode
    join: int | None = None
    remount: bool = False

    def applied_to(self, who: Credentials) -> Credentials:
        """The viewer afterwards."""
        return who if self.join is None else replace(who, groups=who.groups | {self.join})


def remedy_of(answer: Answer, who: Credentials) -> Remedy | None:
    """The smallest change that lifts a refusal.  None: there is none to name."""
    inode = answer.inode
    path = shlex.quote(inode.path)
    match answer.decided_by:
        case Class.STICKY:
            return Remedy(
                f"chmod -t {path}",
                replace(inode, mode=inode.mode & ~stat.S_ISVTX),
            )
        case Class.OWNERSHIP:
            return Remedy(f"chown {who.uid} {path}", replace(inode, uid=who.uid))
        case Class.MEMBERSHIP:
            after = replace(inode, mode=inode.mode | stat.S_ISGID)
            return Remedy(
                f"chmod g+s {path}, or add the group to mail_access_groups",
                after,
            )
        case Class.READ_ONLY:
            after = replace(inode, read_only=False)
            return Remedy(
                f"mount -o remount,rw the file system of {inode.path}", after, remount=True
            )
        case Class.IMMUTABLE:
            return Remedy(f"chattr -i {path}", replace(inode, immutable=False))
        case Class.APPEND_ONLY:
            return Remedy(f"chattr -a {path}", replace(inode, append_only=False))
        case Class.PROTECTED_LINK if answer.missing:
            wanted = answer.missing
        case kind if kind in PERMISSION_CLASSES:
            wanted = answer.missing
        case _:
            return None
    needed = Want(wanted | answer.want | _bits_of(inode, who))
    for remedy in _candidates(answer, who, wanted, needed):
        if check(remedy.after, remedy.applied_to(who), needed):
            return remedy
    return None


def _candidates(answer: Answer, who: Credentials, wanted: Want, needed: Want) -> Iterator[Remedy]:
    """From what opens least to what opens most.

    wanted: the bits that are missing.  needed: those, the others that were asked for, and what
    is granted already, so that a new entry for the user takes nothing away.
    """
    inode, letters = answer.inode, wanted.letters()
    path = shlex.quote(inode.path)
    match answer.decided_by:
        case Class.OWNER:
            yield _chmod(inode, "u", wanted << 6, letters)
        case Class.GROUP if inode.acl is None:
            yield _chmod(inode, "g", wanted << 3, letters)
        case Class.MASK:
            bits = (0 if answer.entry is None else answer.entry.bits) | wanted
            yield Remedy(f"setfacl -m m::{rwx(bits)} {path}", _with_mask(inode, bits))
        # Nobody is put into root's group for a mailbox's sake.
        case Class.OTHER if inode.acl is None and inode.gid and inode.mode >> 3 & wanted == wanted:
            text = f"add group {inode.gid} to mail_access_groups, or uid {who.uid} to the group"
            yield Remedy(text, inode, join=inode.gid)
        case _:
            pass
    command = f"setfacl -m u:{who.uid}:{rwx(needed)} {path}"
    yield Remedy(command, _with_user(inode, who.uid, needed))


def _chmod(inode: Inode, letter: str, bits: int, letters: str) -> Remedy:
    after = replace(inode, mode=inode.mode | bits)
    return Remedy(f"chmod {letter}+{letters} {shlex.quote(inode.path)}", after)


def _with_mask(inode: Inode, bits: int) -> Inode:
    assert inode.acl is not None, "a mask is part of an ACL"
    acl = tuple(
        replace(entry, bits=bits) if entry.tag is Tag.MASK else entry for entry in inode.acl
    )
    return replace(inode, acl=acl, mode=inode.mode & ~0o070 | bits << 3)


def _with_user(inode: Inode, uid: int, bits: int) -> Inode:
    """As `setfacl -m u:UID:BITS` leaves it: the mask becomes what its entries need."""
    kept = [
        entry
        for entry in inode.acl or minimal_acl(inode.mode)
        if entry.tag is not Tag.MASK and not (entry.tag is Tag.USER and entry.qualifier == uid)
    ]
    entries = [*kept, AclEntry(Tag.USER, bits, uid)]
    mask = 0
    for entry in entries:
        if entry.tag in (Tag.USER, Tag.GROUP_OBJ, Tag.GROUP):
            mask |= entry.bits
    entries.append(AclEntry(Tag.MASK, mask))
    acl = tuple(sorted(entries, key=lambda entry: (entry.tag, entry.qualifier or 0)))
    return replace(inode, acl=acl, mode=inode.mode & ~0o070 | mask << 3)


def minimal_acl(mode: int) -> PosixAcl:
    """The three entries that a mode stands for."""
    return (
        AclEntry(Tag.USER_OBJ, mode >> 6 & 7),
        AclEntry(Tag.GROUP_OBJ, mode >> 3 & 7),
        AclEntry(Tag.OTHER, mode & 7),
    )


def _bits_of(inode: Inode, who: Credentials) -> int:
    """What is granted already."""
    return sum(bit for bit in Want if check(inode, who, bit))
