"""Mailboxes whose directories others make and remove: the mount, where programs call mkdir(2).

The rights and what follows are those of CREATE, DELETE and SETACL; the directory itself is the
mount's business.
"""

from sharefs.account import shares
from sharefs.account.changes import copy_acl, demand_create, place_of
from sharefs.account.context import Context
from sharefs.account.opening import creation_for
from sharefs.account.shares import AclChange, shares_of
from sharefs.acl import Acl, AclViewer
from sharefs.errors import Code, SharingError
from sharefs.rights import ADMIN
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.files import acl_path
from sharefs.sharing.guards import locks_out
from sharefs.sharing.step import change_sharing, derive


def demand_place(context: Context, name: str) -> None:
    """Needs k on the nearest existing parent.  Raises NO_PERMISSION, CANNOT for a bad name."""
    demand_create(context, place_of(context, name))


def made(context: Context, name: str) -> None:
    """A directory for a new mailbox was made: give it a copy of its parent's ACL."""
    found = place_of(context, name)
    parent = demand_create(context, found)
    if copy_acl(context, found, parent):
        derive(shares_of(context, found.namespace))


def gone(context: Context, name: str) -> None:
    """A mailbox's directory was removed or renamed away: nobody is shown it any more."""
    found = context.locate(name)
    derive(shares_of(context, found.namespace))


def replace_acl(context: Context, name: str, octets: bytes, *, locked: bool = False) -> AclChange:
    """Put a whole new ACL file in place, list cache and sharing map with it.  Needs a.

    Raises SharingError(INVALID) for a text that does not parse, saying where; nothing is changed.
    In a private namespace the owner's own right to administer must survive (CANNOT).  locked: who
    asks for it holds the lock of the file.
    """
    parsed = parse_acl(octets, f"new ACL of {name}")
    if parsed.malformed:
        raise SharingError(Code.INVALID, "; ".join(str(problem) for problem in parsed.problems))
    target = context.target(name)
    context.policy.demand(context.viewer, target.mailbox, ADMIN)
    mailbox = target.mailbox
    if mailbox.acl_dir is None:
        raise SharingError(Code.CANNOT, f"{target.name} has no ACL file of its own")
    owner: AclViewer | None = shares.owner_of(context, target)

    def apply(old: Acl) -> Acl:
        target.demand_unmoved()
        entries = mailbox.settings
        danger = locks_out(old.joined(entries), parsed.acl.joined(entries), owner)
        if danger:
            raise SharingError(Code.CANNOT, f"the ACL of {target.name} was not changed: {danger}")
        return parsed.acl

    outcome = change_sharing(
        acl_path(mailbox.acl_dir), apply, creation_for(target.found, context.settings),
        shares_of(context, target.namespace), locked=locked,
    )  # fmt: skip
    return AclChange.of(outcome)


def owner_of(context: Context, name: str) -> str | None:
    """The true owner.  Raises NONEXISTENT for what the viewer may not know of."""
    mailbox = context.known(name).mailbox
    return (mailbox.owner if mailbox.true_owner is None else mailbox.true_owner) or None
