"""One group for each circle of people who share a mailbox.  Pure."""

import os
import stat
from collections.abc import Iterator, Mapping

from sharefs.permissions.access import Inode
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair.facts import Home, Mailbox, Need, Placed, Role
from sharefs.repair.plan_file import Note
from sharefs.repair.strategies.base import (
    Finding,
    Options,
    Strategy,
    others_closed,
    satisfied,
    some,
)
from sharefs.repair.wish import Node, Wish, is_extended
from sharefs.sharing.list_cache import FILE_NAME


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
        known = {person.uid for person in home.people.values()}
        for gid, accounts in home.accounts.items():
            names = (name for name, uid in accounts.items() if uid not in known)
            self._members.setdefault(gid, []).extend(names)
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
                    f"group {self.home.group_text(gid)} lets {some(others)} in as well, to whom"
                    f" the ACL of {mailbox.name} gives nothing; a group of its own would not",
                    False,
                )
            )
        readers = sorted(n for n, need in mailbox.needs.items() if need is Need.READ)
        if readers and Need.WRITE in mailbox.needs.values():
            self.notes.append(
                Note(
                    mailbox.path,
                    f"{some(readers)} may only read {mailbox.name}, says the ACL; one group"
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
        if self._is_cache(placed.node):
            return self._cache_wish(placed.node)
        is_root = self.home.is_root(placed.node.path)
        if mailbox is None or not mailbox.is_shared:
            if is_root and self._reachable:
                return self._root_wish(placed.node)
            if mailbox is not None:
                return self._unshared(placed.node)
            return None
        if gid is None:
            return closed_to_others(placed.node)
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

    def _unshared(self, node: Node) -> Wish | None:
        """What is shared with nobody is neither for the world nor for the members of a group."""
        if is_extended(node.acl) or not node.mode & 0o070 or not self.others_in(node.inode.gid):
            return closed_to_others(node)
        keep = 0o001 if node.inode.is_directory else 0
        return Wish(Finding.LEAK, mode=node.mode & (0o7700 | keep))

    def _stuck_at(self, mode: int, gid: int) -> bool:
        inode = Inode("", stat.S_IFDIR | mode, self.home.owner.uid, gid)
        return bool(self._stuck(inode, self._reachable))

    def _root_wish(self, node: Node) -> Wish | None:
        """The root is passed through, not read, because new mailboxes copy its mode and group:
        all of them would be open to the whole group.  LIST goes by the list cache.

        setgid, because new mailboxes copy the root's group and the owner need not be in it.
        """
        if not self._stuck(node.inode, self._reachable):
            return None
        gid = self._group_for(self._reachable)
        if gid is None or is_extended(node.acl):
            return self._open_passage(node, self._stuck(node.inode, self._reachable))
        mode = node.mode & 0o7707 | 0o2010
        return Wish(Finding.DENIED, gid=gid, mode=mode)

    def _is_cache(self, node: Node) -> bool:
        above, name = os.path.split(node.path)
        return name == FILE_NAME and self.home.is_root(above)

    def _cache_wish(self, node: Node) -> Wish | None:
        """The list cache names what is shared; whoever writes it anew keeps its mode."""
        if not self._reachable:
            return closed_to_others(node)
        gid = self._group_for(self._reachable)
        if gid is None:
            names = some(sorted(self._reachable))
            text = (
                f"LIST shows {names} only what this file names, and no group has all of them in it:"
                " make one and plan again, or chmod o+r it, for everybody on this host to read"
            )
            self.notes.append(Note(node.path, text))
            return None
        return Wish(Finding.DENIED, gid=gid, mode=0o640, acl=minimal_acl(0o640))

    def _finding(self, node: Node, mailbox: Mailbox, gid: int) -> Finding:
        for name, need in mailbox.needs.items():
            if not satisfied(node.inode, self.home.people[name], need):
                return Finding.DENIED
        if node.inode.is_directory and node.inode.gid == gid and not node.mode & stat.S_ISGID:
            return Finding.SETGID
        return Finding.LEAK


def closed_to_others(node: Node) -> Wish | None:
    """What is shared with nobody is not for the world to read."""
    if not node.mode & (0o006 if node.inode.is_directory else 0o007):
        return None
    if is_extended(node.acl):
        return Wish(Finding.LEAK, acl=others_closed(node))
    keep = 0o001 if node.inode.is_directory else 0  # passing through may be wanted
    return Wish(Finding.LEAK, mode=node.mode & ~0o007 | node.mode & keep)
