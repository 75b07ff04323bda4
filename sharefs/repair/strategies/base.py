"""What every strategy is, and what several of them use.  Pure."""

import abc
import enum
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sharefs.permissions.access import Inode, Want, check
from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag
from sharefs.repair.facts import Home, Need, Person, Placed
from sharefs.repair.plan_file import Note
from sharefs.repair.wish import Node, Wish, is_extended, limited, masked, with_users

_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Finding(enum.StrEnum):
    """What a strategy's changes cure, in the audit's words."""

    DENIED = "acl-without-access"  # the ACL grants what the kernel denies
    LEAK = "access-without-acl"  # the kernel grants what the ACL denies
    SETGID = "setgid-missing"  # several uids create here, and the group is not handed down
    OWNER = "wrong-owner"  # does not belong to the uid that serves it


@dataclass(slots=True)
class Options:
    """group: this one for every circle.  uid, gid: of single-uid."""

    group: int | None = None
    uid: int | None = None
    gid: int | None = None


class Strategy(abc.ABC):
    """One strategy for one home.  notes: what was found out that no change can cure."""

    def __init__(self, home: Home, options: Options) -> None:
        self.home = home
        self.options = options
        self.notes: list[Note] = []
        self._others: dict[int, list[str]] = {}

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        """Wishes for the directories above the root; asked for first."""
        yield from ()

    def wishes(self, placed: Placed) -> Iterator[tuple[Node, Wish]]:
        """Wishes for one node of the tree.  What is not the owner's is noted and left alone."""
        node = placed.node
        mode = node.inode.mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            if not stat.S_ISLNK(mode):
                self.notes.append(Note(node.path, "is no mail: a device, socket or FIFO", False))
            return
        if node.inode.uid not in self.trusted_uids() or (
            node.links > 1 and stat.S_ISREG(mode) and node.inode.uid != self.home.owner.uid
        ):
            # Somebody may have linked another's file here to have it opened or given away.
            self.notes.append(
                Note(
                    node.path,
                    f"belongs to uid {node.inode.uid} and not to {self.home.owner.name}: it is"
                    " left alone; see whose it is, then chown it",
                )
            )
            return
        if stat.S_ISREG(mode) and mode & _SPECIAL:
            self.notes.append(Note(node.path, "has a set-id or sticky bit: no mail has", True))
            return
        wish = self.wish(placed)
        if wish is not None:
            yield node, wish

    def trusted_uids(self) -> frozenset[int]:
        """Whose files may be in this tree: those of the owner, and of those who may write here."""
        writers = (
            self.home.people[name].uid
            for name, need in self.home.sharees().items()
            if need is Need.WRITE
        )
        return frozenset((self.home.owner.uid, *writers))

    @abc.abstractmethod
    def wish(self, placed: Placed) -> Wish | None:
        """None: leave it."""

    # --- what several share -----------------------------------------------------------------

    def _passage(self, needs: Mapping[str, Need]) -> Iterator[tuple[Node, Wish]]:
        """Let those people through the owner's directories above the root."""
        for node in self.home.above:
            stuck = self._stuck(node.inode, needs)
            if not stuck:
                continue
            if node.inode.uid != self.home.owner.uid:
                self.notes.append(
                    Note(
                        node.path,
                        f"keeps {some([one.name for one in stuck])} out, and does not belong to"
                        f" {self.home.owner.name}: chmod o+x it, if that is what you want",
                    )
                )
                continue
            yield node, self._open_passage(node, stuck)

    def others_in(self, gid: int) -> list[str]:
        """Mail users and login accounts in a group, without the owner."""
        if gid not in self._others:
            owner, people = self.home.owner, self.home.people.values()
            accounts = self.home.accounts.get(gid, {})
            names = {name for name, uid in accounts.items() if uid != owner.uid}
            names |= {one.name for one in people if one.in_group(gid) and one.uid != owner.uid}
            self._others[gid] = sorted(names)
        return self._others[gid]

    def _stuck(self, inode: Inode, needs: Mapping[str, Need]) -> list[Person]:
        people = (self.home.people[name] for name in sorted(needs))
        return [one for one in people if not check(inode, one.credentials, Want.SEARCH)]

    def _open_passage(self, node: Node, stuck: list[Person]) -> Wish:
        """Search permission only: who passes cannot see what else is there."""
        if all(one.in_group(node.inode.gid) for one in stuck) and not is_extended(node.acl):
            return Wish(Finding.DENIED, mode=node.mode | 0o010)
        if is_extended(node.acl):
            entries = [AclEntry(Tag.USER, 1, one.uid) for one in stuck]
            return Wish(Finding.DENIED, acl=with_users(node.acl, entries, frozenset()))
        # Group and others alike, or the kernel would keep the group's members out.
        return Wish(Finding.DENIED, mode=node.mode | 0o011)


def satisfied(inode: Inode, person: Person, need: Need) -> bool:
    want = Want.READ if need is Need.READ else Want.READ | Want.WRITE
    if inode.is_directory:
        want |= Want.SEARCH
    return bool(check(inode, person.credentials, want))


def others_closed(node: Node) -> PosixAcl:
    """The access ACL without read and write for others.

    The mask is applied to what it limits, since a new one will be computed.
    """
    keep = 1 if node.inode.is_directory else 0
    return masked(
        tuple(
            replace(entry, bits=entry.bits & keep) if entry.tag is Tag.OTHER else entry
            for entry in limited(node.acl)
        )
    )


def some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
