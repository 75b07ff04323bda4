"""Creating, deleting and renaming mailboxes: rights first, then the storage, then what follows.

What follows a change that was made is the ACL of a new mailbox, the list cache and the sharing
map.  After a refusal everything is as it was.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sharefs.account import shares
from sharefs.account.belongings import Belongings
from sharefs.account.context import Context, Target, explained, log
from sharefs.account.opening import creation_for, make_root
from sharefs.acl import Acl
from sharefs.errors import Code, SharingError
from sharefs.fsops import GroupRefused
from sharefs.names import flaw_of
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace
from sharefs.namespaces.special_use import special_uses
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.rights import CREATE, DELETE, LOOKUP, READ
from sharefs.sharing.files import acl_path, initial_acl, read_acl, update_acl
from sharefs.sharing.policy import AclMailbox, nonexistent, who_text
from sharefs.sharing.step import derive
from sharefs.store.interface import Existence, Mailbox


def place_of(context: Context, name: str) -> Found:
    """Where a new mailbox of that name would be.

    Raises SharingError(CANNOT) for a name that no mailbox can have, with the reason.
    """
    found = context.namespaces.find(name)
    if found is None:
        prefixes = ", ".join(repr(one.prefix) for one in context.namespaces.fixed)
        raise SharingError(
            Code.CANNOT, f"no namespace can hold a mailbox called {name!r}; prefixes are {prefixes}"
        )
    if not found.levels:
        raise SharingError(Code.CANNOT, f"{name} is a namespace and no mailbox")
    flaw = flaw_of(found.levels, found.namespace.naming)
    if flaw is not None:
        raise SharingError(Code.CANNOT, f"the mailbox name {name!r} {flaw}")
    return found


def parent_of(context: Context, found: Found) -> Found:
    """The nearest existing mailbox above a name, or the namespace itself (its default ACL)."""
    levels = found.levels[:-1]
    while levels:
        above = Found(found.namespace, levels)
        if context.existence(above) is not Existence.ABSENT:
            return above
        levels = levels[:-1]
    return Found(found.namespace, ())


def demand_create(context: Context, found: Found) -> AclMailbox:
    """Needs k on the nearest existing parent.  Returns that parent.

    The refusal is the same whether the parent is there, out of sight, or nobody's at all.
    """
    parent = context.acl_mailbox(parent_of(context, found))
    effective = context.policy.rights_of(context.viewer, parent)
    # Whoever is given k on everybody's mailboxes cannot make accounts with it: the root of
    # somebody else, who perhaps does not exist, is not ours to make.
    rootless = found.namespace.type == "shared" and not found.namespace.location.path.is_dir()
    if rootless or not effective.rights.covers(CREATE):
        raise SharingError(
            Code.NO_PERMISSION,
            f"{who_text(context.viewer)} lacks the right create above {found.name}",
        )
    return parent


def create(context: Context, name: str, special_use: Sequence[str] = ()) -> None:
    """CREATE.  A separator at the end asks for a level of hierarchy only (RFC 3501 6.3.3).

    Raises ALREADY_EXISTS, NO_PERMISSION, CANNOT.
    """
    separator = context.namespaces.separator_of(name)
    directory = name.endswith(separator)
    found = place_of(context, name.removesuffix(separator) if directory else name)
    _demand_special_use(found, special_use)
    parent = demand_create(context, found)
    target = context.target_of(found)
    if target.exists and not _is_virtual(context, target):
        # Whoever may not know of the mailbox learns only that he cannot have it.
        seen = target.rights.covers(LOOKUP)
        code = Code.ALREADY_EXISTS if seen else Code.NO_PERMISSION
        raise SharingError(code, f"mailbox {found.name} exists already")
    make(context, found, directory=directory, parent=parent)


def make(
    context: Context, found: Found, *, directory: bool = False, parent: AclMailbox | None
) -> None:
    """Make a mailbox, rights not looked at, and give it a copy of its parent's ACL.

    parent None: it starts without an ACL.  A mailbox that cannot get its ACL is removed again.
    """
    with refusals(found.name, "create", found.namespace):
        found.namespace.storage.create(found.levels, directory=directory)
    if parent is None:
        return
    try:
        copied = copy_acl(context, found, parent)
    except BaseException:
        with contextlib.suppress(SharingError, OSError):
            found.namespace.storage.delete(found.levels)
        raise
    if copied:
        derive(shares.shares_of(context, found.namespace))


def copy_acl(context: Context, found: Found, parent: AclMailbox) -> bool:
    """Write the parent's own entries to a new mailbox, once.  Returns whether there were any."""
    directory = parent.acl_dir
    if directory is None and not parent.default_name:
        directory = parent.default_acl_dir  # of the namespace; INBOX's default stays a default
    mine = context.acl_mailbox(found).acl_dir
    if directory is None or mine is None or not context.settings.acl_enabled:
        return False
    file = read_acl(acl_path(directory))
    if not file.readable:
        raise SharingError(Code.CORRUPT, f"{found.name} cannot be made: {file.problems[0]}")
    entries = initial_acl(file.acl)
    if not entries.entries:
        return False

    def copy(old: Acl) -> Acl:
        return entries

    update_acl(acl_path(mine), copy, creation_for(found, context.settings))
    return True


def _demand_special_use(found: Found, wanted: Sequence[str]) -> None:
    """RFC 6154 section 3: a special use that we cannot keep is refused.  Ours are configured."""
    rules = found.namespace.settings.mailboxes
    has = {use.lower() for use in special_uses(rules, found.namespace.separator.join(found.levels))}
    if missing := [use for use in wanted if use.lower() not in has]:
        raise SharingError(
            Code.CANNOT,
            f"{found.name} cannot be given the special use {missing[0]}: special uses come from the"
            " configuration (mailbox NAME { special_use = ... })",
        )


def _is_virtual(context: Context, target: Target) -> bool:
    """An automatic mailbox that nobody has made yet."""
    return context.is_auto(target.found) and not _stored(target.found)


def _stored(found: Found) -> bool:
    return found.namespace.storage.existence(found.levels) is Existence.SELECTABLE


def make_if_automatic(context: Context, target: Target) -> None:
    """Make an automatic mailbox when it is first used.  Nobody's right is asked for that."""
    if target.exists and _is_virtual(context, target):
        try:
            make(context, target.found, parent=None)
        except SharingError as refusal:
            if refusal.code is not Code.ALREADY_EXISTS:  # somebody was quicker
                raise
        if context.autos(target.namespace).get(target.levels):
            context.subscribed.add(target.found)


def delete(context: Context, name: str) -> None:
    """DELETE.  Needs x.  Mailboxes below it stay.

    A symbolic link in the viewer's own tree is the viewer's: it goes without asking the owner of
    the mailbox behind it, which stays.
    """
    target = context.target(name)
    if not target.exists or not target.levels:
        raise nonexistent(target.name)
    demand_not_inbox(target, "deleted")
    if not _is_own_link(target):
        context.policy.demand(context.viewer, target.mailbox, DELETE)
    if _is_virtual(context, target):
        raise nonexistent(target.name)
    had_acl = _has_acl(target)
    with refusals(target.name, "delete", target.namespace):
        target.demand_unmoved()
        target.storage.delete(target.levels)
    if had_acl:
        derive(shares.shares_of(context, target.namespace))


def rename(context: Context, old: str, new: str) -> None:
    """RENAME.  Needs x on the mailbox and k above its new place; those below go along.

    INBOX gives its messages to the new mailbox and stays (RFC 3501 section 6.3.5).
    """
    source = context.target(old)
    if not source.exists or not source.levels:
        raise nonexistent(source.name)
    if not _is_own_link(source):
        context.policy.demand(context.viewer, source.mailbox, DELETE)
    place = place_of(context, new.removesuffix(context.namespaces.separator_of(new)))
    if place.namespace is not source.namespace:
        demand_create(context, place)
        raise SharingError(
            Code.CANNOT, f"{old} cannot be renamed to {new}: they are in different namespaces"
        )
    if place.levels == source.levels:
        raise SharingError(Code.ALREADY_EXISTS, f"{old} is its name already")
    if place.levels[: len(source.levels)] == source.levels:
        raise SharingError(Code.CANNOT, f"{old} cannot be moved to {new}, below itself")
    parent = demand_create(context, place)
    existing = context.target_of(place)
    if existing.exists and not _is_virtual(context, existing):
        seen = existing.rights.covers(LOOKUP)
        code = Code.ALREADY_EXISTS if seen else Code.NO_PERMISSION
        raise SharingError(code, f"mailbox {place.name} exists already")
    if _is_inbox(source):
        _empty_inbox(context, source, place, parent)
        return
    make_if_automatic(context, source)
    had_acl = _has_acl_below(context, source.found)
    belongings = Belongings(context, source.found)
    with refusals(old, "rename", source.namespace):
        source.demand_unmoved()
        source.storage.rename(source.levels, place.levels)
    belongings.follow(place)
    if had_acl:
        derive(shares.shares_of(context, source.namespace))


def _empty_inbox(context: Context, source: Target, place: Found, parent: AclMailbox) -> None:
    context.policy.demand(context.viewer, source.mailbox, READ)
    make(context, place, parent=parent)
    with refusals(source.name, "rename"):
        inbox = source.storage.open(source.levels)
        try:
            inbox.sync()
            target = place.namespace.storage.open(place.levels)
            try:
                target.move_from(inbox, list(inbox.uids()))
            finally:
                target.close()
        finally:
            inbox.close()


def demand_not_inbox(target: Target, what: str) -> None:
    if _is_inbox(target):
        raise SharingError(Code.CANNOT, f"{target.name} is an INBOX and cannot be {what}")


def _is_inbox(target: Target) -> bool:
    return target.levels == INBOX_LEVELS and target.namespace.type != "public"


def _is_own_link(target: Target) -> bool:
    """Whether the mailbox is a symbolic link that lies in the viewer's own tree.

    Not so one below a linked directory: that lies in somebody else's tree already.
    """
    if target.namespace.type != "private" or target.mailbox.true_owner is None:
        return False
    path = target.storage.mailbox_path(target.levels)
    root = os.path.realpath(target.namespace.location.path)
    above = os.path.realpath(path.parent)
    return path.is_symlink() and (above == root or above.startswith(root + os.sep))


def _has_acl(target: Target) -> bool:
    directory = target.mailbox.acl_dir
    return directory is not None and acl_path(directory).exists()


def _has_acl_below(context: Context, found: Found) -> bool:
    """Whether a mailbox, or one below it, has an ACL file."""
    depth = len(found.levels)
    for stored in found.namespace.storage.iterate():
        if stored.name[:depth] == found.levels:
            mailbox = context.acl_mailbox(Found(found.namespace, stored.name), resolve_link=False)
            if mailbox.acl_dir is not None and acl_path(mailbox.acl_dir).exists():
                return True
    return False


def demand_reachable(name: str, mailbox: Mailbox) -> None:
    """The ACL allows it; does the kernel?  Raises SharingError(UNAVAILABLE), explained.

    Asked when the mailbox is opened, so that a client learns of it then and not in the middle.
    """
    for path in mailbox.watch_paths():
        if not os.access(path, os.R_OK | os.X_OK) and os.path.lexists(path):
            detail = f"cannot open {name}: {explain_refusal(path, Want.READ | Want.SEARCH)}"
            log.error("%s", detail)
            raise SharingError(Code.UNAVAILABLE, detail)


def not_writable(target: Target) -> SharingError:
    """The refusal for a mailbox in which the ACL allows writing and the kernel does not."""
    path = target.storage.mailbox_path(target.levels)
    below: list[Path] = []
    with contextlib.suppress(OSError):  # one that may not be listed, or an mbox file
        below = [one for one in path.iterdir() if one.is_dir() and not os.access(one, os.W_OK)]
    why = explain_refusal(min(below, default=path), Want.WRITE | Want.SEARCH)
    detail = f"cannot write to {target.name}: {why}"
    log.error("%s", detail)
    return SharingError(Code.UNAVAILABLE, detail)


def make_own_root(context: Context) -> None:
    """Make the viewer's missing mail root before anything else of his is put below it.

    His private \\Seen and control files for others' mailboxes often lie in his own mail root. If
    they made it, it would not get the permissions that the rules for missing roots give it.
    """
    own = context.namespaces.inbox
    if own is None or own.type != "private" or os.path.lexists(own.location.path):
        return
    try:
        make_root(own.location)
    except OSError as error:
        log.warning("%s cannot be made: %s", own.location.path, explained(error))


@contextlib.contextmanager
def refusals(name: str, what: str, namespace: Namespace | None = None) -> Iterator[None]:
    """The kernel's refusals as SharingError, explained for the log.

    OVER_QUOTA for a full disk, which the user can do something about; NO_PERMISSION where the
    root of a public namespace may not be written; else UNAVAILABLE.  namespace: whose set of
    mailboxes is being changed; None if it is not.
    """
    try:
        yield
    except OSError as error:
        if namespace is not None and _closed_to_changes(namespace, error):
            why = explained(error, with_remedy=False)
            detail = f"cannot {what} {name}: the file system does not let this user do that: {why}"
            log.info("%s", detail)
            raise SharingError(Code.NO_PERMISSION, detail) from error
        detail = f"cannot {what} {name}: {explained(error)}"
        log.error("%s", detail)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SharingError(Code.OVER_QUOTA if full else Code.UNAVAILABLE, detail) from error


def _closed_to_changes(namespace: Namespace, error: OSError) -> bool:
    """Whether an administrator may well have wanted that refusal.

    "You can remove write permissions on purpose from public namespace root directory to prevent
    users from creating new mailboxes under it."  A group that the process lacks is no purpose,
    and in the tree of a user or below a root that may be written a refusal is a mistake.
    """
    if namespace.type != "public" or isinstance(error, GroupRefused):
        return False
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return refused and not os.access(namespace.location.path, os.W_OK)
