"""ACL against kernel, for every user at once: users that nothing tells apart are asked about once.

Only reads.  Two users get the same answer if the ACL and the permissions on the way mention
neither of them, or mention the same groups of both; so a host with a thousand users and one group
needs a handful of answers for each mailbox.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sharefs.acl import Acl
from sharefs.audit.facts import Account, Judged, UserFacts
from sharefs.audit.operations import MailboxFiles, Operation, questions_for
from sharefs.audit.plainly import plainly_allowed
from sharefs.audit.questions import Question, Told, Verb, World, ask
from sharefs.identifiers import Kind
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.explain import describe
from sharefs.permissions.posix_acl import Tag
from sharefs.rights import READ, Rights
from sharefs.sharing.files import acl_path
from sharefs.sharing.policy import AclMailbox, Policy, Viewer

# Which operation a right is good for; p has no file of its own to try it on.
OPERATIONS: Final = {
    "r": Operation.READ,
    "w": Operation.FLAG,
    "i": Operation.INSERT,
    "e": Operation.EXPUNGE,
    "k": Operation.CREATE,
    "x": Operation.DELETE,
    "a": Operation.ADMINISTER,
}
# Ids that no file belongs to: what they may do, everybody may.
_STRANGER: Final = Credentials(2**32 - 17, 2**32 - 17)
_MAX_MEMO: Final = 64  # partitions of the users; most mailboxes of a host share a few

_Groups = dict[object, list[UserFacts]]


@dataclass(frozen=True, slots=True)
class UserClass:
    """Users whom nothing tells apart.  first: one of them.  members, without: all but some names.

    A class may be most users of the host, and nobody asks who they are unless something is wrong
    with them; so nothing is made of the whole before that.
    """

    first: UserFacts
    members: Sequence[UserFacts]
    without: Container[str] = ()

    def names(self) -> tuple[str, ...]:
        return tuple(user.name for user in self.members if user.name not in self.without)


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Everybody whom the ACL and the permissions of one mailbox tell apart."""

    names: frozenset[str]
    acl_groups: frozenset[str]
    uids: frozenset[int]
    gids: frozenset[int]


def mentioned(
    acl: Acl, owner: str, inodes: Iterable[Inode], ids: Iterable[tuple[int, int]]
) -> Mentioned:
    """ids: (uid, gid) of files whose inodes are not at hand.  Pure."""
    names, groups, uids, gids = {owner}, set[str](), set[int](), set[int]()
    for entry in acl.entries:
        match entry.identifier.kind:
            case Kind.USER:
                names.add(entry.identifier.name)
            case Kind.GROUP | Kind.GROUP_OVERRIDE:
                groups.add(entry.identifier.name)
            case _:
                pass
    for inode in inodes:
        uids.add(inode.uid)
        gids.add(inode.gid)
        for item in inode.acl or ():
            if item.tag is Tag.USER and item.qualifier is not None:
                uids.add(item.qualifier)
            elif item.tag is Tag.GROUP and item.qualifier is not None:
                gids.add(item.qualifier)
    for uid, gid in ids:
        uids.add(uid)
        gids.add(gid)
    return Mentioned(frozenset(names), frozenset(groups), frozenset(uids), frozenset(gids))


class Comparison:
    """Compares for one set of users; asks about one mailbox after the other.

    served: a mount serves what is shared, so that nobody but the owner has to get in by himself.
    """

    def __init__(
        self, users: Sequence[UserFacts], accounts: Sequence[Account], *, served: bool = False
    ) -> None:
        self._users = users
        self._served = served
        self._by_name: dict[str, list[UserFacts]] = {}
        self._by_uid: dict[int, list[UserFacts]] = {}
        for user in users:
            for name in {user.name, user.user.acl_user}:
                self._by_name.setdefault(name, []).append(user)
            self._by_uid.setdefault(user.who.uid, []).append(user)
        self._outsiders = [account for account in accounts if account.who.uid not in self._by_uid]
        self._memo: dict[tuple[frozenset[str], frozenset[int]], _Groups] = {}

    def classes(self, by: Mentioned) -> list[UserClass]:
        """The users in classes that `by` cannot tell apart."""
        key = (by.acl_groups, by.gids)
        by_groups = self._memo.get(key)
        if by_groups is None:
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            by_groups = {}
            for user in self._users:
                by_groups.setdefault(_key(user, by), []).append(user)
            self._memo[key] = by_groups
        special = {
            user.name: user
            for found in (
                *(self._by_name.get(name, ()) for name in by.names),
                *(self._by_uid.get(uid, ()) for uid in by.uids),
            )
            for user in found
        }
        groups: _Groups = {}
        for user in special.values():
            named = {user.name, user.user.acl_user} & by.names
            own = user.name if named else "", user.who.uid if user.who.uid in by.uids else None
            groups.setdefault((own, _key(user, by)), []).append(user)
        classes = [UserClass(members[0], members) for members in groups.values()]
        for members in by_groups.values():
            first = next((user for user in members if user.name not in special), None)
            if first is not None:
                classes.append(UserClass(first, members, special))
        return classes

    def judged(
        self,
        box: MailboxFiles,
        own: AclMailbox,
        shared: AclMailbox,
        policy: Policy,
        by: Mentioned,
        world: World,
    ) -> Iterator[Judged]:
        """What each class may do.  own: as its owner sees the mailbox; shared: as others do."""
        for each in self.classes(by):
            first = each.first
            is_owner = bool(own.owner) and first.name == own.owner
            viewer = Viewer(first.user.acl_user, first.user.acl_groups)
            rights = policy.rights_of(viewer, own if is_owner else shared).rights
            denied: dict[str, str] = {}
            if is_owner or not self._served:
                denied.update(self._denied(box, rights, first.who, world))
                if "l" in rights.letters and "l" not in denied and not is_owner:
                    denied.update(_unlisted(box, first.who, world))
            leaked = ""
            if first.shell is not None and not is_owner and not rights.covers(READ):
                leaked = readable_by(box, first.shell, world)
            if rights or leaked or is_owner:
                yield Judged(each.names(), rights, denied, leaked, is_owner)

    @staticmethod
    def _denied(
        box: MailboxFiles, rights: Rights, who: Credentials, world: World
    ) -> Iterator[tuple[str, str]]:
        letters = [letter for letter in OPERATIONS if letter in rights.letters]
        if box.path == box.root and "x" in letters:
            letters.remove("x")  # an INBOX that is the mail root itself is never taken away
        if not rights or plainly_allowed(letters, box, who, world):
            return
        told_already: dict[tuple[Verb, str, str], Told] = {}  # operations have steps in common
        if box.acl_dir is not None and box.samples is not None and "acl" in box.samples:
            question = Question(Verb.READ, str(acl_path(box.acl_dir)), "know the rights")
            told = ask(question, who, world)
            if not told.allowed:
                yield "l", _why(told, who)
                return
        for letter in letters:
            for question in questions_of(letter, box):
                key = (question.verb, question.path, question.other)
                known = told_already.get(key)
                told = known or told_already.setdefault(key, ask(question, who, world))
                if not told.allowed:
                    yield letter, _why(told, who)
                    break

    def outsiders(self, box: MailboxFiles, world: World) -> list[str]:
        """Login accounts that are no mail users and may read the messages."""
        return [account.name for account in self._outsiders if readable_by(box, account.who, world)]


def questions_of(letter: str, box: MailboxFiles) -> Iterator[Question]:
    """What a right is good for, put to the kernel.  k is about a mailbox below this one."""
    if letter != "k":
        yield from questions_for(OPERATIONS[letter], box)
    elif box.child is not None:
        yield from questions_for(Operation.CREATE, replace(box, path=box.child))


def _unlisted(box: MailboxFiles, who: Credentials, world: World) -> Iterator[tuple[str, str]]:
    """LIST shows what is in the root, or where that may not be listed, what the cache names."""
    if box.list_cache is None:
        return
    root = ask(Question(Verb.LOOK, str(box.root), "list the mailboxes"), who, world)
    if root.allowed:
        return
    cache = ask(Question(Verb.READ, str(box.list_cache), "list the mailboxes"), who, world)
    if not cache.allowed:
        yield "l", f"LIST does not show it: {_why(root, who)}; and {_why(cache, who)}"


def readable_by(box: MailboxFiles, who: Credentials, world: World) -> str:
    """The message that somebody may read, and by which class; "" if there is none."""
    if world.way(who, str(box.path)).inode is None:
        return ""
    for folder in ("cur", "new"):
        for path in box.files_in(folder):
            told = ask(Question(Verb.READ, path, "read it"), who, world)
            if told.allowed:
                return f"{path} by {told.steps[-1].decided_by.value}"
    return ""


def readable_by_everybody(box: MailboxFiles, world: World) -> str:
    return readable_by(box, _STRANGER, world)


def _key(user: UserFacts, by: Mentioned) -> object:
    """The groups of a user, as far as they matter."""
    who, shell = user.who, user.shell
    gids = frozenset(gid for gid in by.gids if who.in_group(gid))
    shells = None if shell is None else frozenset(gid for gid in by.gids if shell.in_group(gid))
    return user.user.acl_groups & by.acl_groups, gids, shells


def _why(told: Told, who: Credentials) -> str:
    if told.refusal is not None:
        return describe(told.refusal, who)
    return told.obstacle or f"{told.missing} does not exist"
