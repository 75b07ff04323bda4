"""Account: everything one viewer can do to mailboxes.  Checks rights, then acts.

The one door behind all doors.  Names are decoded Unicode with the namespace's prefix and
separator.  Methods may block on the disk; one Account serves one connection and is not thread
safe.  Every refusal is a SharingError; its text is for the log.
"""

import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharefs.account import changes, directories, shares, survey, tree
from sharefs.account.context import Context, Target
from sharefs.account.explain import Step, explain
from sharefs.account.opening import (
    creation_for,
    index_places,
    own_index_root,
    paths_of,
    private_seen_dir,
)
from sharefs.account.shares import AclChange, MapReport, ShownAcl
from sharefs.acl import Acl, Change, Effective, Mode, Update
from sharefs.config import Config, Settings
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.namespaces.listing import EVERYTHING, Listed, Selection
from sharefs.namespaces.namespace import Found
from sharefs.permissions.inherit import Creation
from sharefs.rights import ADMIN, INSERT, LOOKUP, READ, Rights
from sharefs.sharing.keys import ShareKey
from sharefs.sharing.policy import AclMailbox, Viewer, nonexistent
from sharefs.store import private_seen
from sharefs.store.interface import Existence, Mailbox
from sharefs.store.maildir.config import Fsync

# What lets a viewer subscribe: deliberately wider than RFC 4314's lookup alone.
SUBSCRIBABLE = LOOKUP | READ | INSERT


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """One line of NAMESPACE (RFC 2342).  A shared namespace's prefix ends before its owner."""

    type: str
    prefix: str
    separator: str
    hidden: bool
    list: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mailbox is, for whoever keeps mailboxes open.

    key: see mailbox_key().  index: see index_places(); None: it shall have no index.
    """

    key: Hashable
    index: Sequence[Path] | None


class Account:
    """See the module.  Made by open()."""

    def __init__(self, context: Context, like: "Account | None" = None) -> None:
        self._context = context
        self.user: MailUser = context.user
        self.settings: Settings = context.settings
        self._places: dict[str, tuple[tuple[int, int] | None, Place]] = (
            {} if like is None else like._places
        )
        self._near: set[str] = set()  # of others' mailboxes, those whose owners' homes are known

    @classmethod
    def open(
        cls,
        config: Config,
        user: MailUser,
        users: HomeLookup,
        *,
        protocol: str = "imap",
        like: "Account | None" = None,
    ) -> "Account":
        """The account of a user, in a process that runs as that user.  Touches no mail.

        like: an account that was opened with the same arguments, and may be in use: what that has
        seen need not be looked for again.

        Raises SharingError if the user's settings cannot work.
        """
        known = None if like is None else like._context
        return cls(Context(config, user, users, protocol=protocol, like=known), like)

    # --- names and listing ---------------------------------------------------------------

    def namespaces(self) -> Sequence[NamespaceView]:
        """In configuration order, the hidden ones included."""
        spaces = self._context.namespaces
        prefixes = [(one.settings, one.prefix) for one in spaces.fixed]
        prefixes += [(one.settings, one.template.top) for one in spaces.shared]
        views = {
            space.name: NamespaceView(space.type, prefix, space.separator, space.hidden, space.list)
            for space, prefix in prefixes
        }
        return [views[name] for name in spaces.order]

    def separator_of(self, name: str) -> str:
        """The hierarchy separator in force for a name or a prefix."""
        return self._context.namespaces.separator_of(name)

    def list(
        self, reference: str, patterns: Sequence[str], selection: Selection = EVERYTHING
    ) -> Iterator[Listed]:
        """LIST (RFC 3501, RFC 5258).  Trouble in one namespace leaves the others listed."""
        return tree.listed(self._context, reference, patterns, selection)

    def exists(self, name: str) -> bool:
        """As far as this viewer may know.  Never raises for the name."""
        try:
            self._context.known(name)
        except SharingError as refusal:
            if refusal.code is Code.NONEXISTENT:
                return False
            raise
        return True

    def tree(self, name: str, *, level: bool = False) -> Sequence[str]:
        """A mailbox and the visible ones below it, parents first.  Raises NONEXISTENT.

        level: a level of hierarchy that is no mailbox itself, or a hidden one, will do; then only
        those below it are returned.
        """
        return tree.tree(self._context, name, level=level)

    # --- rights --------------------------------------------------------------------------

    def rights(self, name: str) -> Effective:
        """The viewer's rights, with their reasons.

        Raises NONEXISTENT for a missing mailbox, and exactly so without any right but post.
        """
        return self._context.known(name).effective

    def rights_by_acl(self, name: str) -> Effective:
        """As rights(), for a door behind which the kernel refuses nothing (the mount).

        Where no ACL is obeyed only what is the viewer's own is there.
        """
        target = self._context.known(name)
        own = target.namespace.type == "private" and target.mailbox.true_owner is None
        if not own and (target.mailbox.ignored or not self.settings.acl_enabled):
            raise nonexistent(target.name)
        return target.effective

    def rights_of_linker(self, name: str, linker: Viewer) -> Effective:
        """What somebody else may do who has linked this mailbox into his own tree."""
        target = self._context.known(name)
        if target.mailbox.ignored or not self.settings.acl_enabled:
            raise nonexistent(target.name)
        return self._context.policy.rights_of(linker, target.mailbox)

    def is_shown_at(self, path: Path) -> bool:
        """Whether the ACL file of the mailbox in a directory, in whosever tree, shows it to the
        viewer as to one who is not its owner."""
        mailbox = AclMailbox(namespace_type="shared", name=str(path), acl_dir=path)
        return self._context.policy.rights_of(self._context.viewer, mailbox).rights.covers(LOOKUP)

    @property
    def acl_viewer(self) -> Viewer:
        """Who the viewer is to ACLs."""
        return self._context.viewer

    def demand(self, name: str, *rights: Rights) -> Rights:
        """Raises NO_PERMISSION without all of the rights; NONEXISTENT also without lookup.

        Returns all the rights that the viewer has there.
        """
        return self._demanded(name, *rights).rights

    def _demanded(self, name: str, *rights: Rights) -> Target:
        target = self._context.target(name)
        if not target.exists or not target.levels:
            raise nonexistent(target.name)
        self._context.demand(target, *rights)
        return target

    # --- mailboxes -----------------------------------------------------------------------

    def open_mailbox(self, name: str, *, readonly: bool = False) -> Mailbox:
        """Needs r.  The viewer's own \\Seen lies over it where that is set.  The caller closes it.

        An automatic mailbox is made.  Raises UNAVAILABLE where the kernel refuses.
        """
        target = self._demanded(name, READ)
        changes.make_if_automatic(self._context, target)
        return self._open(target, readonly=readonly)

    def writable_target(self, name: str, right: Rights = INSERT) -> Mailbox:
        """The mailbox for APPEND, COPY and MOVE.  Needs right (post for deliveries), not r."""
        target = self._demanded(name, right)
        changes.make_if_automatic(self._context, target)
        mailbox = self._open(target, readonly=False)
        if mailbox.backing().readonly:
            mailbox.close()
            raise changes.not_writable(target)
        return mailbox

    def _open(self, target: Target, *, readonly: bool) -> Mailbox:
        if target.existence is Existence.NO_SELECT:
            raise nonexistent(target.name)
        private = private_seen_dir(target.namespace, target.levels)
        with changes.refusals(target.name, "open"):
            if private is not None or target.namespace.location.control_path is not None:
                changes.make_own_root(self._context)
            mailbox = target.storage.open(target.levels, readonly=readonly)
            try:
                target.demand_unmoved()
                changes.demand_reachable(target.name, mailbox)
                if private is None:
                    return mailbox
                public = target.namespace.type == "public"
                fsync = Fsync(self.settings.mail_fsync)
                return private_seen.overlay(
                    mailbox, private, public=public, examine=readonly, fsync=fsync
                )
            except BaseException:
                mailbox.close()
                raise

    def mailbox_key(self, name: str, *, readonly: bool = False) -> Hashable:
        """Two mailboxes of equal key may be one open Mailbox object within one process.

        Equal: the same directory on disk, control files, private \\Seen and readonly.  The key
        says nothing of rights.  Raises NONEXISTENT for a name that cannot be one.
        """
        found = self._context.locate(name)
        if not found.levels:
            raise nonexistent(found.name)
        path = os.path.realpath(found.namespace.storage.mailbox_path(found.levels))
        return _key_of(found, path, readonly=readonly)

    def place(self, name: str, *rights: Rights) -> Place:
        """Where an existing mailbox is.  Demands the rights, as demand() does.

        Remembered, so asking again takes a few stat(2) calls only: see place_is_near().
        """
        return self.place_and_rights(name, *rights)[0]

    def place_and_rights(self, name: str, *rights: Rights) -> tuple[Place, Rights]:
        """place(), and all the rights that the viewer has there."""
        target = self._demanded(name, *rights)
        return self._place(name, target), target.rights

    def _place(self, name: str, target: Target) -> Place:
        if target.namespace.type == "shared":
            self._near.add(name)
        known = self._places.get(name)
        if known is not None and known[0] == target.identity:
            return known[1]
        found = target.found
        path = os.path.realpath(target.storage.mailbox_path(target.levels))
        index = None
        if self.settings.sharefs_index:
            index = index_places(found, self.settings, self.user.home, true_place=path)
        place = Place(_key_of(found, path), index)
        if target.identity is None:
            self._places.pop(name, None)  # an automatic mailbox that is still to be made
        else:
            self._places[name] = target.identity, place
        return place

    def place_is_near(self, name: str) -> bool:
        """Whether place() takes no more than a few stat(2) calls: nobody's home is to be found."""
        return name in self._near or not self._context.namespaces.is_shared(name)

    def uses_private_seen(self, name: str) -> bool:
        """Whether \\Seen of this mailbox is the viewer's own."""
        found = self._context.locate(name)
        return private_seen_dir(found.namespace, found.levels) is not None

    def create(self, name: str, special_use: Sequence[str] = ()) -> None:
        """Needs k above it.  It gets a copy of its parent's ACL.

        Raises ALREADY_EXISTS, NO_PERMISSION, CANNOT for an impossible name.
        """
        changes.create(self._context, name, special_use)

    def delete(self, name: str) -> None:
        """Needs x.  Raises CANNOT for INBOX."""
        changes.delete(self._context, name)

    def rename(self, old: str, new: str) -> None:
        """Needs x on old and k above new.  Mailboxes below go along.  INBOX stays, emptied."""
        changes.rename(self._context, old, new)

    # --- subscriptions -------------------------------------------------------------------

    def subscriptions(self) -> Sequence[str]:
        """Names the viewer is subscribed to, whether or not there are such mailboxes."""
        return list(self._context.subscriptions())

    def subscribe(self, name: str) -> None:
        """Needs l, r or i.  Raises NONEXISTENT.  Doing it twice is doing it once."""
        target = self._context.target(name)
        if not target.exists or not target.levels or not target.rights & SUBSCRIBABLE:
            raise nonexistent(target.name)
        self._context.subscribed.add(target.found)

    def unsubscribe(self, name: str) -> None:
        """Needs nothing: the mailbox may be gone.  Harmless if there is no subscription."""
        found = self._context.namespaces.find(name)
        if found is not None and found.levels:
            self._context.subscribed.remove(found)

    # --- ACLs ----------------------------------------------------------------------------

    def acl(self, name: str) -> ShownAcl:
        """As GETACL shows it, the owner's default entry added.  Needs a.

        Raises CORRUPT or UNAVAILABLE for an ACL file that cannot be read.
        """
        return shares.shown_acl(self._context, self._context.target(name))

    def set_acl(
        self, name: str, identifier: Identifier, mode: Mode, rights: Rights,
        *, negative: bool = False,
    ) -> AclChange:  # fmt: skip
        """SETACL: ACL file, list cache and sharing map in one step.  Needs a.

        In private namespaces one's own a stays.  Raises CANNOT for `owner` in public namespaces,
        INVALID for anyone and authenticated unless imap_acl_allow_anyone.
        """
        target = self._demanded(name, ADMIN)
        change = Change(mode, rights)
        update = shares.wire_update(self._context, target, identifier, change, negative=negative)
        return shares.change_acl(self._context, target, update)

    def delete_acl(self, name: str, identifier: Identifier, *, negative: bool = False) -> AclChange:
        """DELETEACL: the positive entry, or the negative one.  Needs a."""
        target = self._demanded(name, ADMIN)
        update = Update.deletion(identifier, negative=negative)
        return shares.change_acl(self._context, target, update)

    def stored_acl(self, name: str, *, override: bool = False) -> Acl:
        """The entries as they are, local and global.  override: an administrator asks; else a."""
        if not override:
            self.demand(name, ADMIN)
        return shares.stored_acl(self._context, self._context.target(name))

    def change_acl(
        self, name: str, update: Update, *, override: bool = False, force: bool = False
    ) -> AclChange:
        """Any change of a mailbox's ACL, for commands.  override as in stored_acl().

        force: even if nobody could undo it; else CANNOT.
        """
        target = self._context.target(name) if override else self._demanded(name, ADMIN)
        if not target.exists or not target.levels:
            raise nonexistent(target.name)
        changes.make_if_automatic(self._context, target)
        return shares.change_acl(self._context, target, update, force=force)

    def given(self, viewers: Sequence[Viewer]) -> Iterator[tuple[str, Sequence[Rights] | None]]:
        """The viewer's own mailboxes, and what each of these others may do with them: the same
        as they would be told themselves.  None: nothing is asked, since ACLs are ignored there.
        """
        return survey.given(self._context, viewers)

    def own_acls(self) -> Iterator[tuple[str, Acl]]:
        """The viewer's own mailboxes that have entries; unreadable files are left out."""
        return survey.own_acls(self._context)

    def received(self) -> Iterator[tuple[str, str, Rights]]:
        """(mailbox, owner, rights) of what others share with the viewer, as far as he sees it."""
        return survey.received(self._context)

    # --- directories that programs make by themselves (the mount) --------------------------

    def demand_place(self, name: str) -> None:
        """Needs k above a new mailbox's name.  Raises NO_PERMISSION, CANNOT."""
        directories.demand_place(self._context, name)

    def made(self, name: str) -> None:
        """Somebody made a mailbox's directory: it gets a copy of its parent's ACL.  Needs k."""
        directories.made(self._context, name)

    def owner_of(self, name: str) -> str | None:
        """Whose mailbox it really is, symbolic links resolved; None: nobody's.  Needs l."""
        return directories.owner_of(self._context, name)

    def gone(self, name: str) -> None:
        """Somebody removed a mailbox's directory: list cache and map follow."""
        directories.gone(self._context, name)

    def replace_acl(self, name: str, octets: bytes, *, locked: bool = False) -> AclChange:
        """A whole new ACL file.  Needs a.  Raises INVALID if it does not parse.

        locked: for a program that holds the lock of that file and goes on holding it.
        """
        return directories.replace_acl(self._context, name, octets, locked=locked)

    # --- the sharing map -----------------------------------------------------------------

    def sharers(self) -> Sequence[str]:
        """Who shares something with the viewer, says the map."""
        return sorted(self._context.sharers())

    def map_entries(self) -> frozenset[ShareKey]:
        """With whom the viewer shares, says the map."""
        share_map = shares.demand_map(self._context)
        return share_map.shares_of(self.user.name)

    def map_owners(self) -> frozenset[str]:
        """Every owner in the viewer's map."""
        return frozenset(shares.demand_map(self._context).all())

    def map_label(self) -> str:
        """Which map it is: users may have different ones."""
        settings = self.settings.sharing_map
        return "" if settings is None else f"{settings.driver} {settings.path}"

    def rebuild_map(self, *, dry_run: bool = False) -> MapReport:
        """Bring map and list caches in line with the viewer's ACL files; say what differed."""
        return shares.rebuild_map(self._context, dry_run=dry_run)

    def forget_owner(self, owner: str) -> None:
        """Take an owner who is no longer there out of the map."""
        shares.demand_map(self._context).replace(owner, ())

    # --- looking behind ------------------------------------------------------------------

    def explain(self, name: str) -> Sequence[Step]:
        """Why the viewer can or cannot see and open a mailbox, step by step."""
        return explain(self._context, name)

    def guid(self, name: str) -> str:
        """The mailbox's 128-bit id as 32 hex digits.  Needs l."""
        target = self._demanded(name, LOOKUP)
        return target.storage.guid(target.levels)

    def paths(self, name: str) -> dict[str, str]:
        """Where a mailbox is on disk: "mailbox", "control", "acl", and what else is set apart."""
        return paths_of(self._context.locate(name))

    def index_places(self, name: str) -> Sequence[Path]:
        """Directories in which the viewer may keep an index of a mailbox, the best first.

        The caller sees to it that they are the viewer's alone.  Empty: in memory.
        """
        found = self._context.locate(name)
        return index_places(found, self.settings, self.user.home)

    def index_root(self) -> Path | None:
        """Where indexes without a better place are, a directory for each."""
        return own_index_root(self.settings, self.user.home)

    def permissions(self, name: str) -> Creation:
        """What new files and directories in a mailbox get; of a missing one: what it would get.

        Raises CANNOT for a name that no mailbox can have.
        """
        return creation_for(changes.place_of(self._context, name), self.settings)

    def find(self, name: str) -> Found | None:
        """The namespace and storage name that a mailbox name means."""
        return self._context.namespaces.find(name)


def _key_of(found: Found, path: str, *, readonly: bool = False) -> Hashable:
    """path: of the mailbox, without links."""
    private = private_seen_dir(found.namespace, found.levels)
    return path, found.namespace.location.control_path, private, readonly
