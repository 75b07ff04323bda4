"""What an audit collects, as values: rules look at nothing else.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sharefs.acl import Acl
from sharefs.audit.mounts import Mount
from sharefs.audit.probing import Probed
from sharefs.config import Problem
from sharefs.identity.model import MailUser
from sharefs.names import Layout, Levels
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.inherit import Creation
from sharefs.permissions.posix_acl import PosixAcl
from sharefs.rights import Rights
from sharefs.sharing.files import AclFile
from sharefs.sharing.keys import MapDiff


@dataclass(frozen=True, slots=True)
class Account:
    """A Unix account with a login shell.  who: what its shell's processes may do.

    groups: names, for messages.
    """

    name: str
    who: Credentials
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserFacts:
    """A user of the mail system.  who: its mail process.  shell: its login shell, if any."""

    user: MailUser
    who: Credentials
    shell: Credentials | None = None

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def access_groups(self) -> dict[int, str]:
        """gid -> origin of the groups that only the mail process is meant to have."""
        return {
            group.gid: group.origin
            for group in self.user.groups
            if group.origin.startswith("mail_access_groups")
        }


@dataclass(frozen=True, slots=True)
class FileKind:
    """All message files of one folder with equal mode, owner and group.

    mode: st_mode whole.  sample: the path of one.  linked: how many have several names.  acl: of
    all of them.
    """

    folder: str
    mode: int
    uid: int
    gid: int
    count: int
    sample: str
    linked: int = 0
    acl: PosixAcl | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What could not be looked at, or changed meanwhile.  why: the system's word for it."""

    path: str
    why: str
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """A symbolic link in the place of a mailbox.

    target: as written.  real: where it leads, "" if nowhere.  loops: to itself.  owner: whose
    mail root that is in, "" for nobody's.  missing: mailboxes below the target that have no link.
    named: the ACL behind it names the linker.  linker_owns: the linker counts as the owner,
    whatever the ACL says (sharefs_symlink_owner).
    """

    target: str
    real: str
    loops: bool = False
    owner: str = ""
    missing: tuple[str, ...] = ()
    named: bool = False
    linker_owns: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What one class of users may do: all of them the same.

    people: their names.  rights: by the ACL.  denied: letters that the ACL gives and the kernel
    does not -> the component that refuses.  leaked: a login shell of theirs may read the messages,
    by which component's class; "" if not.  is_owner: the class is the owner alone.
    """

    people: tuple[str, ...]
    rights: Rights
    denied: Mapping[str, str]
    leaked: str = ""
    is_owner: bool = False


@dataclass(frozen=True, slots=True)
class BoxFacts:
    """One mailbox as found on disk.

    name: as its owner spells it; stored: as the list cache spells it.  path: its directory.
    inode None: it is a link, or it cannot be looked at.  folders: cur, new and tmp that exist.
    creation: what new files in it get, for its owner.  above: the directory whose permissions a
    new mailbox in its place would copy.  judged: filled in when users were compared.
    stranger: the component that lets somebody who is in no group read a message, "" if none does.
    outsiders: accounts that are no users of the mail system and may read it.
    """

    owner: str
    levels: Levels
    name: str
    stored: str
    path: Path
    inode: Inode | None = None
    folders: Mapping[str, Inode] = field(default_factory=dict)
    kinds: tuple[FileKind, ...] = ()
    creation: Creation | None = None
    above: Inode | None = None
    link: LinkFacts | None = None
    acl: AclFile | None = None
    effective_acl: Acl | None = None
    acl_lines: tuple[str, ...] = ()
    locks: tuple[tuple[str, float], ...] = ()
    foreign: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()
    stranger: str = ""
    outsiders: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return f"{self.owner}: {self.name}" if self.owner else self.name


@dataclass(frozen=True, slots=True)
class RootFacts:
    """One mail root: of an owner, or public (owner "").

    inode None: it does not exist.  cannot_make: why the owner could not make it.
    cached: names in its list cache; None: there is none.  cache_flaw: why it cannot be used.
    share_map: the owner's keys against his ACLs; None: not compared.  keeps_acls: whether its file
    system keeps POSIX ACLs; None: it was not asked.  driver: the format; only Maildirs are read.
    bare: (name, path, why) of mailboxes without cur, new and tmp, which the owner cannot make.
    """

    owner: str
    namespace: str
    type: str
    path: Path
    layout: Layout
    inode: Inode | None = None
    mount: Mount | None = None
    boxes: tuple[BoxFacts, ...] = ()
    foreign: tuple[str, ...] = ()
    locks: tuple[tuple[str, float], ...] = ()
    troubles: tuple[Trouble, ...] = ()
    cannot_make: str = ""
    chgrp: str = ""
    cached: frozenset[str] | None = None
    cache_path: str = ""
    cache_flaw: str = ""
    share_map: MapDiff | None = None
    unstorable: tuple[str, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()
    origin: str = "root"
    marker: bool = False
    driver: str = "maildir"
    keeps_acls: bool | None = None
    bare: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Whom ACL entries can mean.

    users: names in a userdb.  exists: of names in ACLs that were asked for.  acl_groups: what
    users have.  acl_users: names that ACL files may use for users.
    """

    users: frozenset[str]
    exists: Mapping[str, bool]
    acl_groups: frozenset[str]
    acl_users: frozenset[str]


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A running process that handles mail.

    umask None: not known, or of no consequence because the program sets modes itself.
    """

    pid: int
    name: str
    uid: int
    gids: frozenset[int]
    umask: int | None
    delivers: bool


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is not of one mail root.

    uids: of users, by name.  bad_users: names whose entry cannot be used -> why.
    access_groups: gid -> where mail_access_groups names it, for whomever.
    gone: owners in the sharing map whom no userdb knows.  map_flaws: (path, what is wrong).
    map_hidden: (path, why) if it is closed to who asks, and need not be to mail processes.
    crossing: mailboxes that have a message file in common and give new files other permissions.
    mbox: mbox files behind links whose locks protect nothing, and why.  probes: what file systems
    did when they were tried.  no_view: the mount point that the configuration names, if there is
    no view on it.
    """

    problems: tuple[Problem, ...] = ()
    users: tuple[UserFacts, ...] = ()
    uids: Mapping[str, int] = field(default_factory=dict)
    bad_users: Mapping[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    access_groups: Mapping[int, str] = field(default_factory=dict)
    processes: tuple[ProcessFacts, ...] = ()
    gone: tuple[str, ...] = ()
    map_flaws: tuple[tuple[str, str], ...] = ()
    map_hidden: tuple[tuple[str, str], ...] = ()
    known: Known = Known(frozenset(), {}, frozenset(), frozenset())
    allow_anyone: bool = False
    mbox: tuple[tuple[str, str], ...] = ()
    crossing: tuple[tuple[str, str], ...] = ()
    probes: tuple[Probed, ...] = ()
    no_view: str = ""
