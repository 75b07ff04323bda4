"""Changes to an ACL that would lock people out: kept from happening by accident.  Pure."""

from dataclasses import replace
from typing import Final

from sharefs.acl import Acl, AclViewer, Change, Mode, Update, effective
from sharefs.identifiers import OWNER, Identifier, Kind
from sharefs.rights import ADMIN, ALL, NONE, Rights


def keep_admin(acl: Acl, update: Update, viewer: AclViewer, defaults: Rights = ALL) -> Update:
    """The guard of SETACL: in a private namespace nobody drops his own admin right by accident.

    As in Dovecot: replacing one's own rights quietly keeps a, removing quietly leaves it, and
    adding to an owner who had no positive entry yet keeps what he had by default.  Deletion is
    not guarded, and neither are entries through which a right is lost indirectly, such as
    group-override: see locks_out.
    """
    change = update.positive
    if change is None or not viewer.private_namespace or not viewer.is_self(update.identifier):
        return update
    rights = change.rights
    match change.mode:
        case Mode.REPLACE:
            rights |= ADMIN
        case Mode.REMOVE:
            rights -= ADMIN
        case Mode.ADD if not _has_own_entry(acl, viewer):
            rights |= defaults
        case _:
            return update
    return replace(update, positive=Change(change.mode, rights))


def _has_own_entry(acl: Acl, viewer: AclViewer) -> bool:
    return any(
        entry.rights is not None and viewer.is_self(entry.identifier) for entry in acl.entries
    )


_NOBODY: Final = "\0"  # the name of a user whom no entry can name


def administrators(acl: Acl, owner: AclViewer | None) -> frozenset[Identifier]:
    """Who holds admin: the owner (None in a public namespace), and everybody named in the ACL.

    A named user counts with no groups and a group with a member who is nothing else, because
    membership is not known here.
    """
    found: set[Identifier] = set()
    if owner is not None and effective(acl, owner, NONE).rights.covers(ADMIN):
        found.add(OWNER)
    for entry in acl.entries:
        identifier = entry.identifier
        match identifier.kind:
            case Kind.USER:
                somebody = AclViewer(identifier.name)
            case Kind.GROUP | Kind.GROUP_OVERRIDE:
                somebody = AclViewer(_NOBODY, frozenset({identifier.name}))
            case Kind.AUTHENTICATED:
                somebody = AclViewer(_NOBODY)
            case Kind.ANYONE:
                somebody = AclViewer(None)
            case Kind.OWNER:
                continue
        if owner is not None and somebody.name == owner.name:
            continue
        if effective(acl, somebody, NONE).rights.covers(ADMIN):
            found.add(identifier)
    return frozenset(found)


def locks_out(before: Acl, after: Acl, owner: AclViewer | None) -> str:
    """Why a change should not be made without insisting; "" if it locks nobody out.

    Two cases: the owner had admin and loses it (through group-override, say, which no guard of
    SETACL covers), or nobody at all is left who could change the ACL again.
    """
    old, new = administrators(before, owner), administrators(after, owner)
    if OWNER in old and OWNER not in new:
        assert owner is not None
        reason = effective(after, owner, NONE).reason_for(ADMIN)
        return f"the owner {owner} would lose the admin right" + (f" ({reason})" if reason else "")
    if old and not new:
        return "nobody would be left with the admin right"
    return ""
