"""Entries and defaults for each user.  Pure.

Whom a mailbox is shared with may list the mail root: LIST shows nothing where neither the root nor
the list cache can be read, and the cache is written anew with the root's own permissions.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from sharefs.permissions.posix_acl import AclEntry, PosixAcl, Tag
from sharefs.repair.facts import Home, Need, Placed, Role
from sharefs.repair.plan_file import Note
from sharefs.repair.strategies.base import (
    Finding,
    Options,
    Strategy,
    others_closed,
    satisfied,
    some,
)
from sharefs.repair.wish import Node, Wish, masked, with_users
from sharefs.sharing.list_cache import FILE_NAME

# Users that an ACL and a default ACL can name, both together in one block of ext4 (4 KiB).
MOST_USERS: Final = 200


class PosixAcls(Strategy):
    """See the module.  What gives something to people to whom the ACL gives nothing goes."""

    def __init__(self, home: Home, options: Options) -> None:
        super().__init__(home, options)
        self._crowded = frozenset(one.path for one in home.mailboxes if len(one.needs) > MOST_USERS)
        for mailbox in home.mailboxes:
            if mailbox.path in self._crowded:
                self.notes.append(
                    Note(
                        mailbox.path,
                        f"{mailbox.name} is shared with {len(mailbox.needs)} users; an ACL on a"
                        f" file cannot name more than {MOST_USERS}: use groups for it",
                    )
                )

    def _sharees(self) -> dict[str, Need]:
        return self.home.sharees(without=self._crowded)

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        needs = self._sharees()
        for node in self.home.above:
            stuck = self._stuck(node.inode, needs)
            owned = node.inode.uid == self.home.owner.uid
            if stuck and owned and len(stuck) <= MOST_USERS:
                entries = [AclEntry(Tag.USER, 1, one.uid) for one in stuck]
                yield node, Wish(Finding.DENIED, acl=with_users(node.acl, entries, frozenset()))
            elif stuck:
                yield from self._passage({one.name: needs[one.name] for one in stuck})

    def wish(self, placed: Placed) -> Wish | None:
        node, mailbox = placed.node, placed.mailbox
        is_root = self.home.is_root(node.path)
        everybody = self._sharees()
        if mailbox is None and not is_root:
            return None
        needs: Mapping[str, Need] = {}
        if mailbox is not None and mailbox.path not in self._crowded:
            needs = mailbox.needs
        if placed.role is Role.FILE:
            bits = {Need.READ: 4, Need.WRITE: 6}
            if node.path.endswith("/dovecot-acl"):
                bits = {Need.READ: 4, Need.WRITE: 4}
        else:
            bits = {Need.READ: 5, Need.WRITE: 7}
        entries = [AclEntry(Tag.USER, bits[need], self._uid(n)) for n, need in needs.items()]
        closed = self._groups_closed(placed, others_closed(node))
        base = closed
        if Need.WRITE in needs.values() and not self._owner_gets(node, closed):
            owner = self.home.owner.uid  # what others make here is his by no other entry
            entries.append(AclEntry(Tag.USER, bits[Need.WRITE], owner))
        passing: list[AclEntry] = []
        if is_root and len(everybody) > MOST_USERS:
            base = _let_pass(base)
            text = (
                f"mailboxes in it are shared with {len(everybody)} users, more than an ACL can let"
                " list it, so LIST shows them nothing of it: use groups"
            )
            self.notes.append(Note(node.path, text))
        elif is_root:
            passing = [AclEntry(Tag.USER, 5, self._uid(n)) for n in everybody if n not in needs]
        drop = frozenset(one.uid for one in self.home.people.values()) - {self.home.owner.uid}
        acl = with_users(base, (*entries, *passing), drop)
        default = None
        mode = node.mode
        if node.inode.is_directory:
            # What is made here later gets the same; who only passes through gets nothing more.
            handed = with_users(closed, entries, drop) if entries else ()
            default = handed if mailbox is not None or node.inode.default_acl else None
            if Need.WRITE in needs.values():
                mode |= stat.S_ISGID  # the owner's group is not one of the writers'
        if is_root and (needs or passing):
            self._warn_of_group(node)
        finding = Finding.LEAK
        for name, need in needs.items():
            if not satisfied(node.inode, self.home.people[name], need):
                finding = Finding.DENIED
        if is_root and self._stuck(node.inode, everybody):
            finding = Finding.DENIED
        return Wish(finding, mode=mode, acl=acl, default_acl=default)

    def _groups_closed(self, placed: Placed, acl: PosixAcl) -> PosixAcl:
        """Without what groups give in a mailbox: whom its ACL means has an entry of his own.

        A group that only the owner is in is left alone, and so is a mailbox with more sharees than
        entries fit.  A public root stays, because whoever makes public mailboxes is no owner.
        """
        mailbox, node = placed.mailbox, placed.node
        crowded = mailbox is not None and mailbox.path in self._crowded
        is_cache = bool(self._crowded) and os.path.basename(node.path) == FILE_NAME
        if mailbox is None or crowded or is_cache:
            return acl
        kept: list[AclEntry] = []
        for entry in acl:
            if entry.tag is Tag.GROUP_OBJ and self.others_in(node.inode.gid):
                kept.append(replace(entry, bits=0))
            elif entry.tag is not Tag.GROUP or not self.others_in(entry.qualifier or 0):
                kept.append(entry)
        return masked(tuple(kept))

    def _owner_gets(self, node: Node, acl: PosixAcl) -> bool:
        """Whether the owning group gives the owner of the tree the files that others make here."""
        owner = self.home.owner
        group = next((entry.bits for entry in acl if entry.tag is Tag.GROUP_OBJ), 0)
        return not owner.uid or bool(group) or not self.others_in(node.inode.gid)

    def _warn_of_group(self, root: Node) -> None:
        """The mask shows as the group's bits of the mode, which new mailboxes copy."""
        gid, owner = root.inode.gid, self.home.owner.name
        if self.others_in(gid):
            text = (
                f"belongs to group {self.home.group_text(gid)}, which has"
                f" {some(self.others_in(gid))} in it:"
                " new mailboxes copy mode and group from here, so they could read those; chgrp it"
                f" to a group that only {owner} is in"
            )
            self.notes.append(Note(root.path, text))

    def _uid(self, name: str) -> int:
        return self.home.people[name].uid


def _let_pass(acl: PosixAcl) -> PosixAcl:
    """With search permission for the group and for all others, and no more: new mailboxes copy
    the mode."""
    passing = (Tag.GROUP_OBJ, Tag.OTHER)
    return masked(
        tuple(replace(one, bits=one.bits | 1) if one.tag in passing else one for one in acl)
    )
