"""The four ways to make the kernel agree with the ACLs.  Pure: homes and nodes in, wishes out.

groups      setgid, and one group for each circle of people who share a mailbox
posix-acl   entries and defaults for each user
single-uid  all mail belongs to one uid, and the ACLs alone decide
mount       everything closed: the mount serves, and the ACLs alone decide
"""

import abc
import enum
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sharefs.permissions.access import Inode, Want, check
from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair.facts import Home, Mailbox, Need, Person, Placed, Role
from sharefs.repair.plan_file import Note
from sharefs.repair.wish import (
    Node,
    Wish,
    is_extended,
    limited,
    masked,
    with_users,
    without_group_and_others,
)

_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Name(enum.StrEnum):
    """The strategies' words on the command line and in plans."""

    GROUPS = "groups"
    POSIX_ACL = "posix-acl"
    SINGLE_UID = "single-uid"
    MOUNT = "mount"


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
                        f"keeps {_names(stuck)} out, and does not belong to"
                        f" {self.home.owner.name}: chmod o+x it, if that is what you want",
                    )
                )
                continue
            yield node, self._open_passage(node, stuck)

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


class Groups(Strategy):
    """See the module.  The group of a circle is one that all of its people are in already; making
    groups is the administrator's, and a note says what to type."""

    def __init__(self, home: Home, options: Options) -> None:
        super().__init__(home, options)
        self._circle: dict[str, int | None] = {}
        self._members: dict[int, list[str]] = {}
        for person in home.people.values():
            for gid in {person.gid, *person.groups}:
                self._members.setdefault(gid, []).append(person.name)
        for mailbox in home.mailboxes:
            if mailbox.is_shared:
                self._circle[mailbox.path] = self._circle_of(mailbox)
        self._reachable = {
            name: need
            for mailbox in home.mailboxes
            if self._circle.get(mailbox.path) is not None
            for name, need in mailbox.needs.items()
        }

    def _circle_of(self, mailbox: Mailbox) -> int | None:
        gid = self._group_for(mailbox.needs)
        if gid is None:
            names = sorted(mailbox.needs)
            self.notes.append(
                Note(
                    mailbox.path,
                    f"no group has {', '.join(names)} in it, with whom {mailbox.name} is shared:"
                    f" make one (groupadd), add them (usermod -aG, or mail_access_groups), and"
                    " plan again",
                )
            )
            return None
        others = sorted(set(self._members.get(gid, ())) - {*mailbox.needs, self.home.owner.name})
        if others:
            self.notes.append(
                Note(
                    mailbox.path,
                    f"group {self.home.group_text(gid)} lets {_some(others)} in as well, to whom"
                    f" the ACL of {mailbox.name} gives nothing; a group of its own would not",
                    False,
                )
            )
        readers = sorted(n for n, need in mailbox.needs.items() if need is Need.READ)
        if readers and Need.WRITE in mailbox.needs.values():
            self.notes.append(
                Note(
                    mailbox.path,
                    f"{_some(readers)} may only read {mailbox.name}, says the ACL; one group"
                    " lets all its members write, so the kernel does not enforce that",
                    False,
                )
            )
        return gid

    def _group_for(self, needs: Mapping[str, Need]) -> int | None:
        """The tightest group with everybody in it."""
        people = [self.home.people[name] for name in needs]
        if self.options.group is not None:
            candidates = {self.options.group}
        else:
            candidates = {people[0].gid, *people[0].groups}
        fitting = [gid for gid in candidates if all(one.in_group(gid) for one in people)]
        return min(fitting, key=lambda gid: (len(self._members.get(gid, ())), gid), default=None)

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        yield from self._passage(self._reachable)

    def wish(self, placed: Placed) -> Wish | None:
        mailbox = placed.mailbox
        gid = None if mailbox is None else self._circle.get(mailbox.path)
        is_root = placed.node.path == self.home.root
        if mailbox is None or not mailbox.is_shared:
            if is_root and self._reachable:
                return self._root_wish(placed.node)
            if mailbox is not None:
                return _closed_to_others(placed.node)
            return None
        if gid is None:
            return _closed_to_others(placed.node)
        writable = Need.WRITE in mailbox.needs.values()
        finding = self._finding(placed.node, mailbox, gid)
        if placed.role is Role.FILE:
            mode = (
                0o660 if writable and placed.node.path != f"{mailbox.path}/dovecot-acl" else 0o640
            )
            return Wish(finding, gid=gid, mode=mode, acl=minimal_acl(mode))
        mode = 0o2770 if writable else 0o2750
        if is_root and self._stuck_at(mode, gid):
            mode |= 0o011  # INBOX is shared with some; others only pass through its directory
        return Wish(finding, gid=gid, mode=mode, acl=minimal_acl(mode), default_acl=())

    def _stuck_at(self, mode: int, gid: int) -> bool:
        inode = Inode("", stat.S_IFDIR | mode, self.home.owner.uid, gid)
        return bool(self._stuck(inode, self._reachable))

    def _root_wish(self, node: Node) -> Wish | None:
        """The root is passed through, not read: lists come from the list cache.

        setgid, because new mailboxes copy the root's group and the owner need not be in it.
        """
        if not self._stuck(node.inode, self._reachable):
            return None
        gid = self._group_for(self._reachable)
        if gid is None or is_extended(node.acl):
            return self._open_passage(node, self._stuck(node.inode, self._reachable))
        mode = node.mode & 0o7707 | 0o2010
        return Wish(Finding.DENIED, gid=gid, mode=mode)

    def _finding(self, node: Node, mailbox: Mailbox, gid: int) -> Finding:
        for name, need in mailbox.needs.items():
            if not _satisfied(node.inode, self.home.people[name], need):
                return Finding.DENIED
        if node.inode.is_directory and node.inode.gid == gid and not node.mode & stat.S_ISGID:
            return Finding.SETGID
        return Finding.LEAK


class PosixAcls(Strategy):
    """See the module.  Entries of people to whom the ACL gives nothing go."""

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        needs = self.home.sharees()
        for node in self.home.above:
            stuck = self._stuck(node.inode, needs)
            if stuck and node.inode.uid == self.home.owner.uid:
                entries = [AclEntry(Tag.USER, 1, one.uid) for one in stuck]
                yield node, Wish(Finding.DENIED, acl=with_users(node.acl, entries, frozenset()))
            elif stuck:
                yield from self._passage({one.name: needs[one.name] for one in stuck})

    def wish(self, placed: Placed) -> Wish | None:
        node, mailbox = placed.node, placed.mailbox
        is_root = node.path == self.home.root
        everybody = self.home.sharees()
        if mailbox is None and not is_root:
            return None
        needs = {} if mailbox is None else mailbox.needs
        if placed.role is Role.FILE:
            bits = {Need.READ: 4, Need.WRITE: 6}
            if node.path.endswith("/dovecot-acl"):
                bits = {Need.READ: 4, Need.WRITE: 4}
        else:
            bits = {Need.READ: 5, Need.WRITE: 7}
        entries = [AclEntry(Tag.USER, bits[need], self._uid(n)) for n, need in needs.items()]
        passing: list[AclEntry] = []
        if is_root:
            passing = [AclEntry(Tag.USER, 1, self._uid(n)) for n in everybody if n not in needs]
        drop = frozenset(one.uid for one in self.home.people.values()) - {self.home.owner.uid}
        acl = with_users(_others_closed(node), (*entries, *passing), drop)
        default = None
        mode = node.mode
        if node.inode.is_directory:
            # What is made here later gets the same; who only passes through gets nothing more.
            handed = with_users(_others_closed(node), entries, drop) if entries else ()
            default = handed if mailbox is not None or node.inode.default_acl else None
            if Need.WRITE in needs.values():
                mode |= stat.S_ISGID  # the owner's group is not one of the writers'
        finding = Finding.LEAK
        for name, need in needs.items():
            if not _satisfied(node.inode, self.home.people[name], need):
                finding = Finding.DENIED
        if is_root and self._stuck(node.inode, everybody):
            finding = Finding.DENIED
        return Wish(finding, mode=mode, acl=acl, default_acl=default)

    def _uid(self, name: str) -> int:
        return self.home.people[name].uid


class SingleUid(Strategy):
    """See the module."""

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        uid, gid = self._ids()
        server = Person("the mail server", uid, gid)
        for node in self.home.above:
            if not check(node.inode, server.credentials, Want.SEARCH):
                self.notes.append(
                    Note(
                        node.path,
                        f"keeps uid {uid} out: mail does not belong in homes then; move it to"
                        " /var/mail or the like, or chmod o+x the directory",
                    )
                )
        self.notes.append(
            Note(
                self.home.root,
                f"set mail_uid = {uid} and mail_gid = {gid} in the configuration before the server"
                " starts again",
                False,
            )
        )
        yield from ()

    def wish(self, placed: Placed) -> Wish | None:
        uid, gid = self._ids()
        mode = 0o700 if placed.node.inode.is_directory else 0o600
        return Wish(
            Finding.OWNER, uid=uid, gid=gid, mode=mode, acl=minimal_acl(mode), default_acl=()
        )

    def trusted_uids(self) -> frozenset[int]:
        return super().trusted_uids() | {self._ids()[0]}

    def _ids(self) -> tuple[int, int]:
        uid = self.options.uid
        assert uid is not None, "the command asks for it"
        return uid, uid if self.options.gid is None else self.options.gid


class Mount(Strategy):
    """See the module."""

    def wish(self, placed: Placed) -> Wish | None:
        node = placed.node
        kept = node.mode & 0o5000 | node.mode & 0o700
        default = () if node.inode.is_directory else None
        return Wish(
            Finding.LEAK, mode=kept, acl=without_group_and_others(node.acl), default_acl=default
        )


STRATEGIES: Final[Mapping[Name, type[Strategy]]] = {
    Name.GROUPS: Groups,
    Name.POSIX_ACL: PosixAcls,
    Name.SINGLE_UID: SingleUid,
    Name.MOUNT: Mount,
}


def _satisfied(inode: Inode, person: Person, need: Need) -> bool:
    want = Want.READ if need is Need.READ else Want.READ | Want.WRITE
    if inode.is_directory:
        want |= Want.SEARCH
    return bool(check(inode, person.credentials, want))


def _closed_to_others(node: Node) -> Wish | None:
    """What is shared with nobody is not for the world to read."""
    if not node.mode & (0o006 if node.inode.is_directory else 0o007):
        return None
    if is_extended(node.acl):
        return Wish(Finding.LEAK, acl=_others_closed(node))
    keep = 0o001 if node.inode.is_directory else 0  # passing through may be wanted
    return Wish(Finding.LEAK, mode=node.mode & ~0o007 | node.mode & keep)


def _others_closed(node: Node) -> PosixAcl:
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


def _names(people: list[Person]) -> str:
    return _some([one.name for one in people])


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
