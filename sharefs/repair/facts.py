"""What a planner must know: people, what the ACLs promise them, and a mail tree.  Values only."""

import enum
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sharefs.permissions.access import Credentials
from sharefs.repair.wish import Node
from sharefs.rights import (
    CREATE,
    DELETE,
    DELETED,
    EXPUNGE,
    INSERT,
    LOOKUP,
    READ,
    WRITE,
    Rights,
)
from sharefs.rights import SEEN as SEEN_RIGHT
from sharefs.sharing.policy import Viewer

MAIL_DIRS: Final = ("cur", "new", "tmp")


class Need(enum.IntEnum):
    """What somebody's mail process must be able to do to a mailbox's files."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Person:
    """One mail user as the kernel and the ACLs see him.  groups: gids of his mail processes."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    acl_user: str = ""
    acl_groups: frozenset[str] = frozenset()

    @property
    def viewer(self) -> Viewer:
        """Who this is to ACLs."""
        return Viewer(self.acl_user or self.name, self.acl_groups)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.uid, self.gid, self.groups)

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One of an owner's mailboxes.  path: its directory.  needs: by user, without the owner."""

    name: str
    path: str
    needs: Mapping[str, Need]

    @property
    def is_shared(self) -> bool:
        return bool(self.needs)


class Role(enum.Enum):
    """What a node is to its mailbox."""

    MAILBOX = "mailbox"  # its directory
    SUBDIR = "subdirectory"  # cur, new, tmp
    FILE = "file"
    ROOT = "root"  # the mail root, where it is not INBOX itself
    STRAY = "stray"  # in no mailbox: subscriptions, sieve scripts, other directories


@dataclass(frozen=True, slots=True)
class Placed:
    """A node, and which mailbox it belongs to."""

    node: Node
    role: Role
    mailbox: Mailbox | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """One tree of mail: what is at root, above it the directories that lead there, top first.

    owner: whose it is; of public mail, the uid that its root belongs to.  people: everybody on the
    host, by name.  group_names: for notes.  inner: roots of other namespaces below this one.
    accounts: by gid, uids of the login accounts in that group, by name.
    """

    owner: Person
    root: str
    above: tuple[Node, ...]
    mailboxes: tuple[Mailbox, ...]
    people: Mapping[str, Person]
    group_names: Mapping[int, str]
    inner: frozenset[str] = frozenset()
    accounts: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def is_root(self, path: str) -> bool:
        """Whether mailboxes lie here, so that whoever is let into one must pass."""
        return path == self.root or path in self.inner

    def sharees(self, without: Collection[str] = ()) -> dict[str, Need]:
        """Everybody with a need in any mailbox, and the greatest of his needs.

        without: paths of mailboxes that do not count.
        """
        found: dict[str, Need] = {}
        for mailbox in self.mailboxes:
            if mailbox.path in without:
                continue
            for name, need in mailbox.needs.items():
                found[name] = max(need, found.get(name, need))
        return found

    def group_text(self, gid: int) -> str:
        name = self.group_names.get(gid)
        return f"{name} ({gid})" if name else str(gid)


# Rights that need write permission in the mailbox: a flag is a new file name.
_WRITERS: Final = WRITE | DELETED | INSERT | EXPUNGE | DELETE
_READERS: Final = LOOKUP | READ | SEEN_RIGHT | CREATE


def need_for(rights: Rights, *, private_seen: bool) -> Need | None:
    """What these rights ask the kernel to let somebody do; None: nothing.

    private_seen: \\Seen is kept at home by each viewer, so that s needs no write permission.
    Creating mailboxes below (k) needs the mail root, which is never opened for that; posting (p)
    is the deliverer's business.
    """
    if rights & _WRITERS or (rights & SEEN_RIGHT and not private_seen):
        return Need.WRITE
    return Need.READ if rights & _READERS else None


def needs_of(
    owner: Person, each: Iterable[tuple[Person, Rights]], *, private_seen: bool
) -> dict[str, Need]:
    """By user.  Who shares the owner's uid needs nothing that the owner has not."""
    found: dict[str, Need] = {}
    for person, rights in each:
        need = need_for(rights, private_seen=private_seen)
        if need is not None and person.uid != owner.uid:
            found[person.name] = need
    return found


class Places:
    """Finds the mailbox of a path, for one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._by_path = {mailbox.path: mailbox for mailbox in home.mailboxes}

    def place(self, node: Node) -> Placed:
        """A path counts as a mailbox's if it is its directory, one of its cur, new and tmp, or a
        file in any of these."""
        path = node.path
        if (mailbox := self._by_path.get(path)) is not None:
            return Placed(node, Role.MAILBOX, mailbox)
        if self._home.is_root(path):
            return Placed(node, Role.ROOT)
        above, name = os.path.split(path)
        if node.inode.is_directory:
            if name in MAIL_DIRS and (mailbox := self._by_path.get(above)) is not None:
                return Placed(node, Role.SUBDIR, mailbox)
            return Placed(node, Role.STRAY)
        if os.path.basename(above) in MAIL_DIRS:
            above_mail = self._by_path.get(os.path.dirname(above))
            if above_mail is not None:
                return Placed(node, Role.FILE, above_mail)
        mailbox = self._by_path.get(above)
        return Placed(node, Role.STRAY if mailbox is None else Role.FILE, mailbox)
