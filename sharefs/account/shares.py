"""Changing ACLs, and keeping list cache and sharing map in step with them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sharefs.account.context import Context, Target
from sharefs.account.opening import creation_for, root_creation
from sharefs.account.tree import mailboxes_of
from sharefs.acl import Acl, AclViewer, Change, Entry, Update, shown
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Kind
from sharefs.names import Layout
from sharefs.namespaces.namespace import Namespace
from sharefs.rights import ADMIN
from sharefs.sharing import list_cache
from sharefs.sharing.files import acl_path
from sharefs.sharing.guards import keep_admin, locks_out
from sharefs.sharing.keys import MapDiff
from sharefs.sharing.maps import ShareMap
from sharefs.sharing.policy import nonexistent
from sharefs.sharing.step import (
    Derived,
    Outcome,
    OwnedMailbox,
    Shares,
    change_sharing,
    check_map,
    derive,
    unreadable_files,
    wanted_of,
)


@dataclass(frozen=True, slots=True)
class ShownAcl:
    """An ACL in the order in which GETACL shows it, which is not the order of precedence."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AclChange:
    """What a change did.

    warnings: derived places that are out of step now, with remedies; why it has no effect.
    """

    before: Acl
    after: Acl
    changed: bool
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, outcome: Outcome) -> "AclChange":
        acl = outcome.acl
        return cls(acl.before, acl.after, acl.changed, outcome.derived.warnings)


@dataclass(frozen=True, slots=True)
class MapReport:
    """The sharing map against the ACL files of one owner."""

    owner: str
    change: MapDiff
    unstorable: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """(state, with whom, detail), as `sharefs map check` prints them."""
        for key in sorted(self.change.added):
            yield "missing", str(key), "an ACL shares something, the map does not say so"
        for key in sorted(self.change.removed):
            yield "stale", str(key), "the map says so, no ACL does"
        for text in self.unstorable:
            yield "unstorable", text, "the map cannot hold a name with a slash"
        for flaw in self.unreadable:
            yield "unreadable", "", f"{flaw}; nothing is removed until that is repaired"

    def lines(self) -> list[str]:
        """What a rebuild changed, for people."""
        done = [f"added to the sharing map: {key}" for key in sorted(self.change.added)]
        done += [f"removed from the sharing map: {key}" for key in sorted(self.change.removed)]
        return [*done, *self.warnings]


def demand_admin(context: Context, target: Target) -> None:
    """Raises NONEXISTENT without the lookup right, NO_PERMISSION without admin."""
    if not target.exists or not target.levels:
        raise nonexistent(target.name)
    context.policy.demand(context.viewer, target.mailbox, ADMIN)


def shown_acl(context: Context, target: Target) -> ShownAcl:
    """As GETACL answers.  Needs the right a."""
    demand_admin(context, target)
    acl = context.policy.acl_of(target.mailbox)
    return ShownAcl(shown(acl, context.policy.acl_viewer(context.viewer, target.mailbox)))


def stored_acl(context: Context, target: Target) -> Acl:
    """Local and global entries as they are, for administrators.  No right is demanded."""
    if not target.exists or not target.levels:
        raise nonexistent(target.name)
    return context.policy.acl_of(target.mailbox)


def wire_update(
    context: Context, target: Target, identifier: Identifier, change: Change, *, negative: bool
) -> Update:
    """SETACL's rules: which identifiers a client may name, and keeping one's own a.

    Raises SharingError(INVALID) for anyone and authenticated unless imap_acl_allow_anyone,
    SharingError(CANNOT) for `owner` where nobody is the owner.
    """
    demand_identifier(context, target, identifier)
    part = (None, change) if negative else (change, None)
    update = Update(identifier, *part)
    acl = context.policy.acl_of(target.mailbox)
    return keep_admin(acl, update, context.policy.acl_viewer(context.viewer, target.mailbox))


def demand_identifier(context: Context, target: Target, identifier: Identifier) -> None:
    """Whether clients may give this identifier rights.  Deleting its entry is always allowed."""
    if identifier.kind is Kind.OWNER and target.namespace.type == "public":
        raise SharingError(
            Code.CANNOT, f"{target.name} is in a public namespace: nobody owns it, so `owner`"
            " cannot be given rights; name a user or a group",
        )  # fmt: skip
    widest = identifier.kind in (Kind.ANYONE, Kind.AUTHENTICATED)
    if widest and not context.settings.imap_acl_allow_anyone:
        raise SharingError(
            Code.INVALID,
            f"{identifier} cannot be given rights over IMAP; set imap_acl_allow_anyone = yes, or"
            " use `sharefs acl set`",
        )


def change_acl(
    context: Context, target: Target, update: Update, *, force: bool = True
) -> AclChange:
    """Change the ACL file, then list cache and sharing map.  Rights are the caller's business.

    The derived places are renewed even if the ACL is as asked already: that mends a lost map.

    force: False refuses, with SharingError(CANNOT), what would leave nobody to undo it.
    """
    owner = owner_of(context, target)
    mailbox = target.mailbox
    if mailbox.acl_dir is None:
        raise SharingError(
            Code.CANNOT, f"{target.name} has no ACL file of its own: acl_globals_only is set"
        )

    def apply(old: Acl) -> Acl:
        target.demand_unmoved()
        new = old.apply(update)
        if not force:
            entries = mailbox.settings
            danger = locks_out(old.joined(entries), new.joined(entries), owner)
            if danger:
                raise SharingError(
                    Code.CANNOT,
                    f"the ACL of {target.name} was not changed: {danger}.  Use --force to do it"
                    " nevertheless",
                )
        return new

    outcome = change_sharing(
        acl_path(mailbox.acl_dir), apply, creation_for(target.found, context.settings),
        shares_of(context, target.namespace), always=True,
    )  # fmt: skip
    change = AclChange.of(outcome)
    return replace(change, warnings=(*change.warnings, *_without_effect(context, target, update)))


def _without_effect(context: Context, target: Target, update: Update) -> Iterator[str]:
    """Why a change that was made does not change what anybody may do."""
    if not context.settings.acl_enabled or target.mailbox.ignored:
        yield (
            f"ACLs are not obeyed for {target.name} (acl_driver is not set, or acl_ignore is):"
            " whoever reaches it may do everything with it"
        )
        return
    for entry in target.mailbox.settings:
        if entry.identifier == update.identifier:
            who = update.identifier.file()
            yield f"{entry.place}: the entry for {who} in the configuration outweighs this one"


def owner_of(context: Context, target: Target) -> AclViewer | None:
    """The mailbox's owner as a viewer, groups unknown unless it is the viewer himself."""
    name = target.mailbox.true_owner
    if name is None:
        name = target.mailbox.owner
    if not name:
        return None
    groups = context.viewer.groups if name == context.viewer.acl_user else frozenset()
    return AclViewer(name, groups, is_owner=True, owner_name=name, private_namespace=True)


# --- derived places ------------------------------------------------------------------------


def shares_of(context: Context, namespace: Namespace) -> Shares:
    """The derived places of a namespace, and what they are derived from."""
    own = namespace.type == "private"
    complete = own or _sees_all(namespace)
    location = namespace.location
    return Shares(
        owner=namespace.owner or "",
        mailboxes=lambda: owned_mailboxes(context, namespace),
        # A cache written from half a view would hide mailboxes: leave the owner's alone.
        list_path=(location.control_dir if complete else NO_PLACE) / list_cache.FILE_NAME,
        list_creation=root_creation(location),
        share_map=context.share_map if namespace.type != "public" else None,
        elsewhere=((lambda: _elsewhere(context, namespace)) if complete else (lambda: (UNSEEN,))),
    )


NO_PLACE = Path("/nonexistent/sharefs-no-place")

# Stands for mailboxes that the viewer cannot see: a directory is no ACL file, so it counts as
# one that could not be read, and nothing is removed from the map.
UNSEEN = OwnedMailbox("", Path("/"))


def _sees_all(namespace: Namespace) -> bool:
    """Whether the viewer sees every mailbox of another owner, so that what he does not find is
    not there.  With the fs layout a level below may be closed to him."""
    flat = namespace.naming.layout is Layout.MAILDIRPP
    return flat and os.access(namespace.location.path, os.R_OK | os.X_OK)


def owned_mailboxes(context: Context, namespace: Namespace) -> Iterator[OwnedMailbox]:
    """The namespace's own mailboxes: not those that only a symbolic link brings there."""
    for seen in mailboxes_of(context, namespace):
        mailbox = seen.mailbox
        if mailbox.acl_dir is None or mailbox.true_owner is not None:
            continue
        stored = namespace.stored_name(seen.found.levels)
        yield OwnedMailbox(stored, acl_path(mailbox.acl_dir), mailbox.settings)


def _elsewhere(context: Context, namespace: Namespace) -> Iterator[OwnedMailbox]:
    """Mailboxes of the same owner in other private namespaces.  For a stranger's view of an owner:
    more private namespaces than the shared one shows may exist, so nothing is complete."""
    others = [
        one
        for one in context.namespaces.fixed
        if one.type == "private" and one is not namespace and not one.settings.alias_for
    ]
    if namespace.type == "private":
        for other in others:
            yield from owned_mailboxes(context, other)
    elif len(others) > 1:
        yield UNSEEN


def own_namespace(context: Context) -> Namespace:
    """The viewer's first private namespace.  Raises SharingError(CANNOT) without one."""
    inbox = context.namespaces.inbox
    if inbox is not None and inbox.type == "private":
        return inbox
    for namespace in context.namespaces.fixed:
        if namespace.type == "private" and not namespace.settings.alias_for:
            return namespace
    raise SharingError(Code.CANNOT, f"{context.user.name} has no private namespace")


def demand_map(context: Context) -> ShareMap:
    """The sharing map.  Raises SharingError(CANNOT) without one."""
    if context.share_map is None:
        raise SharingError(
            Code.CANNOT,
            "no sharing map is configured, so shares cannot be listed; set for example"
            " acl_sharing_map { dict file { path = /var/lib/sharefs/shared-mailboxes.db } }",
        )
    return context.share_map


def rebuild_map(context: Context, *, dry_run: bool) -> MapReport:
    """Compare the map with the viewer's own ACL files, and make it so unless dry_run."""
    namespace = own_namespace(context)
    shares = shares_of(context, namespace)
    owner = shares.owner
    demand_map(context)
    wanted = wanted_of(shares, context.policy.reader)
    change = check_map(shares, context.policy.reader)
    unstorable = tuple(str(key) for key in sorted(wanted.unstorable))
    warnings: tuple[str, ...] = ()
    if not dry_run:
        derived: Derived = derive(shares)
        if derived.map_change is None:
            raise SharingError(
                Code.UNAVAILABLE,
                f"the map of {owner} was not rebuilt: " + "; ".join(derived.warnings),
            )
        change, warnings = derived.map_change, derived.warnings
    unreadable = tuple(unreadable_files(shares, context.policy.reader))
    return MapReport(owner, change, unstorable, unreadable, warnings)
