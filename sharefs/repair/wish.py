"""From what an inode is and what it should be to single changes, in the order that works.  Pure."""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sharefs.permissions.access import Inode
from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag, acl_text
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair.change import Change, Kind


@dataclass(frozen=True, slots=True)
class Node:
    """An inode that was found: its name, its identity, its permissions.  links: st_nlink."""

    inode: Inode
    device: int
    number: int
    links: int = 1

    @property
    def path(self) -> str:
        return self.inode.path

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.inode.mode)

    @property
    def acl(self) -> PosixAcl:
        """The access ACL; of an inode without one, the three entries of its mode."""
        return self.inode.acl or minimal_acl(self.inode.mode)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an inode should be like.  None: as it is.

    mode: all 12 bits; with an acl only the upper three count, since the ACL holds the others.
    acl: access entries without a mask, which follows from them.  default_acl: (): none.
    finding: the id of what this cures.
    """

    finding: str
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    acl: PosixAcl | None = None
    default_acl: PosixAcl | None = None


def changes_for(node: Node, wish: Wish) -> Iterator[Change]:
    """None if the inode is as wished.

    Owner and group go first, since a chown may clear bits; then the ACL, which sets the mode's
    lower bits; then the mode, of which only the upper bits are left to do.
    """
    inode = node.inode
    if wish.uid is not None and wish.uid != inode.uid:
        yield _change(node, Kind.CHOWN, str(inode.uid), str(wish.uid), wish)
    if wish.gid is not None and wish.gid != inode.gid:
        yield _change(node, Kind.CHGRP, str(inode.gid), str(wish.gid), wish)
    mode = node.mode
    want_mode = mode if wish.mode is None else wish.mode
    if wish.acl is not None:
        want = masked(wish.acl)
        if acl_text(limited(want)) != acl_text(limited(node.acl)):
            if is_extended(want) or is_extended(node.acl):
                yield _change(node, Kind.SETFACL, acl_text(node.acl), acl_text(want), wish)
                mode = mode & 0o7000 | bits_of(want)
            want_mode = want_mode & 0o7000 | bits_of(want)
        else:
            want_mode = want_mode & 0o7000 | mode & 0o777
    elif wish.mode is not None and is_extended(node.acl):
        want_mode = want_mode & 0o7000 | mode & 0o777  # the group digit is a mask: leave it
    if want_mode != mode:
        kind = Kind.SETGID if want_mode ^ mode == stat.S_ISGID else Kind.CHMOD
        yield _change(node, kind, f"{mode:04o}", f"{want_mode:04o}", wish)
    if wish.default_acl is not None and inode.is_directory:
        old, new = acl_text(inode.default_acl), acl_text(masked(wish.default_acl))
        if old != new:
            yield _change(node, Kind.DEFACL, old, new, wish)


def all_changes(wishes: Iterable[tuple[Node, Wish]]) -> Iterator[Change]:
    for node, wish in wishes:
        yield from changes_for(node, wish)


def masked(acl: PosixAcl) -> PosixAcl:
    """With the mask that its entries need, none if it is not extended; sorted."""
    plain = [entry for entry in acl if entry.tag is not Tag.MASK]
    if any(entry.tag in (Tag.USER, Tag.GROUP) for entry in plain):
        mask = 0
        for entry in plain:
            if entry.tag in (Tag.USER, Tag.GROUP, Tag.GROUP_OBJ):
                mask |= entry.bits
        plain.append(AclEntry(Tag.MASK, mask))
    return tuple(sorted(plain, key=lambda entry: (entry.tag, entry.qualifier or 0)))


def limited(acl: PosixAcl) -> PosixAcl:
    """With the mask applied to the entries that it limits, and computed anew.

    What a default ACL hands to a new file has x in entries, which the file's mask then takes away.
    """
    mask = next((entry.bits for entry in acl if entry.tag is Tag.MASK), 7)
    return masked(
        tuple(
            replace(entry, bits=entry.bits & mask)
            if entry.tag in (Tag.USER, Tag.GROUP, Tag.GROUP_OBJ)
            else entry
            for entry in acl
        )
    )


def is_extended(acl: PosixAcl) -> bool:
    """Whether it says more than a mode can."""
    return any(entry.tag not in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER) for entry in acl)


def bits_of(acl: PosixAcl) -> int:
    """The nine mode bits that the kernel shows with this access ACL."""
    bits = {entry.tag: entry.bits for entry in acl if entry.tag not in (Tag.USER, Tag.GROUP)}
    group = bits.get(Tag.MASK, bits.get(Tag.GROUP_OBJ, 0))
    return bits.get(Tag.USER_OBJ, 0) << 6 | group << 3 | bits.get(Tag.OTHER, 0)


def with_users(acl: PosixAcl, entries: Iterable[AclEntry], drop: frozenset[int]) -> PosixAcl:
    """An ACL with these entries for users in it, and those of `drop` out of it."""
    new = {entry.qualifier: entry for entry in entries}
    kept = (
        entry
        for entry in acl
        if not (entry.tag is Tag.USER and (entry.qualifier in new or entry.qualifier in drop))
    )
    return masked((*kept, *new.values()))


def without_group_and_others(acl: PosixAcl) -> PosixAcl:
    """The owner's entry, and nothing for anybody else."""
    kept = [replace(entry, bits=0) for entry in acl if entry.tag in (Tag.GROUP_OBJ, Tag.OTHER)]
    return masked((*(entry for entry in acl if entry.tag is Tag.USER_OBJ), *kept))


def _change(node: Node, kind: Kind, old: str, new: str, wish: Wish) -> Change:
    return Change(kind, node.path, old, new, node.device, node.number, wish.finding)
