"""The mailboxes that a viewer may see, namespace by namespace: what LIST is made from.

One pass over each storage; an ACL file is read only where there is one.  What goes wrong in one
namespace, or with one owner, is logged and leaves the others as they are.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sharefs.account.context import MAX_DESCRIBED, Context, explained, log
from sharefs.errors import Code, SharingError
from sharefs.names import Layout, Levels
from sharefs.namespaces.listing import EVERYTHING, Branch, Listed, Listing, Selection, Visible
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace, Seen
from sharefs.namespaces.patterns import fold_inbox, literal_start
from sharefs.namespaces.resolve import SharedSpace
from sharefs.namespaces.special_use import special_uses
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.rights import LOOKUP
from sharefs.sharing import list_cache
from sharefs.sharing.policy import AclMailbox
from sharefs.store.interface import Existence, StoredMailbox


def mailboxes_of(context: Context, namespace: Namespace) -> Iterator[Seen]:
    """Every mailbox of a namespace that the file system shows, rights not looked at.

    Automatic mailboxes come along.  Names that mean something in another namespace do not.
    """
    seen: set[Levels] = set()
    autos = context.autos(namespace)
    # Below a linked directory every name is in somebody else's tree; only fs layouts have those.
    resolve = namespace.naming.layout is Layout.FS
    listed = namespace.listed
    for stored in _stored(context, namespace):
        if stored.name in seen:
            continue
        known = listed.get(stored.name)
        if known is None or known.stored is not stored or resolve:
            found = Found(namespace, stored.name)
            if context.namespaces.is_shadowed(found.name, namespace):
                continue
            if stored.existence is not Existence.SELECTABLE and stored.name in autos:
                continue  # an automatic mailbox that is not made yet
            target = stored.link_target
            mailbox = context.acl_mailbox(found, link_target=target, resolve_link=resolve)
            if len(listed) >= MAX_DESCRIBED:
                listed.clear()
            known = listed[stored.name] = _seen(found, stored, mailbox)
        seen.add(stored.name)
        yield known
    missing = [levels for levels in autos if levels not in seen]
    if namespace is context.namespaces.inbox and INBOX_LEVELS not in (seen | set(missing)):
        missing.append(INBOX_LEVELS)
    for levels in missing:
        found = Found(namespace, levels)
        stored = StoredMailbox(levels, Existence.SELECTABLE)
        yield _seen(found, stored, context.acl_mailbox(found, resolve_link=False))


def _seen(found: Found, stored: StoredMailbox, mailbox: AclMailbox) -> Seen:
    namespace = found.namespace
    rules = [one for one in namespace.settings.mailboxes if one.special_use]
    uses: tuple[str, ...] = ()
    if rules:
        uses = special_uses(rules, namespace.separator.join(found.levels))
    selectable = stored.existence is Existence.SELECTABLE
    return Seen(found, stored, mailbox, Visible(found.name, selectable, uses))


def _stored(context: Context, namespace: Namespace) -> Iterator[StoredMailbox]:
    try:
        if namespace.type == "private" and (why := _closed(namespace.location.path)):
            log.error("namespace %s cannot be listed: %s", namespace.settings.name, why)
        yield from namespace.storage.iterate()
        if namespace.type != "private" and not os.access(namespace.location.path, os.R_OK):
            yield from _cached(namespace)
    except SharingError as refusal:
        log.warning("namespace %s cannot be listed: %s", namespace.settings.name, refusal.detail)
    except OSError as error:
        log.warning("namespace %s cannot be listed: %s", namespace.settings.name, explained(error))


def _closed(root: Path) -> str:
    """Why the viewer's own mail root cannot be listed; "" if it can, or is not there yet."""
    try:
        os.stat(root)
    except PermissionError:
        return explain_refusal(root)
    except OSError:
        return ""
    if os.access(root, os.R_OK | os.X_OK):
        return ""
    return explain_refusal(root, Want.READ | Want.SEARCH)


def _cached(namespace: Namespace) -> Iterator[StoredMailbox]:
    """What the owner's list cache names: all there is to go by where the root may be searched
    but not read."""
    path = namespace.location.control_dir / list_cache.FILE_NAME
    for line in list_cache.read_list(path) or ():
        levels = namespace.levels_stored_as(line.name)
        if levels is not None:
            existence = namespace.storage.existence(levels)
            if existence is not Existence.ABSENT:
                yield StoredMailbox(levels, existence)


def visible_in(context: Context, namespace: Namespace) -> list[Visible]:
    """The mailboxes of a namespace that the viewer may know of: those with the lookup right."""
    answer, viewer = context.policy.answer, context.viewer
    return [
        seen.visible
        for seen in mailboxes_of(context, namespace)
        if answer(viewer, seen.mailbox, seen.stored.stamp).effective.rights.covers(LOOKUP)
    ]


def branches(context: Context, patterns: Sequence[str]) -> Iterator[Branch]:
    """What each namespace adds to LIST.  Owners come from the sharing map.

    Namespaces in which no pattern can match anything are not looked at.
    """
    for namespace in context.namespaces.fixed:
        # Another name for a namespace that is listed already: only for who asks by that name.
        shown = "no" if namespace.settings.alias_for else namespace.settings.list
        if _may_match(namespace.prefix, patterns):
            wanted = shown != "no" or _names_prefix(namespace.prefix, patterns)
            mailboxes = visible_in(context, namespace) if wanted else []
            yield Branch(namespace.prefix, namespace.separator, shown, mailboxes)
    for shared in context.namespaces.shared:
        template = shared.template
        if not _may_match(template.top, patterns):
            continue
        yield Branch(template.top, template.separator, shared.settings.list, [])
        for name in sorted(context.sharers()):
            owner = Owner(name)
            prefix = template.prefix_of(owner)
            fits = template.fits(owner, viewer_domain=context.namespaces.viewer.domain)
            if not fits or not _may_match(prefix, patterns):
                continue
            visible = _visible_of_owner(context, shared, owner)
            # An owner who shares nothing that can be listed is not listed either.
            if visible:
                shown = "children" if shared.settings.list == "yes" else shared.settings.list
                yield Branch(prefix, template.separator, shown, visible)


def _visible_of_owner(context: Context, shared: SharedSpace, owner: Owner) -> list[Visible]:
    try:
        return visible_in(context, context.namespaces.of_owner(shared, owner))
    except SharingError as refusal:
        log.warning("mailboxes shared by %s cannot be listed: %s", owner.user, refusal)
        return []


def _names_prefix(prefix: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern begins with a prefix, as it must to see what is not listed otherwise."""
    return bool(prefix) and any(literal_start(pattern).startswith(prefix) for pattern in patterns)


def _may_match(prefix: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern can match the prefix, something below it, or a level above it."""
    starts = (literal_start(pattern) for pattern in patterns)
    return any(prefix.startswith(start) or start.startswith(prefix) for start in starts)


def listed(
    context: Context, reference: str, patterns: Sequence[str], selection: Selection
) -> Iterator[Listed]:
    """LIST.  Reference and pattern are joined as they are (RFC 3501 section 6.3.8)."""
    separator = context.namespaces.separator_of(reference)
    joined = [fold_inbox(reference + pattern, separator) for pattern in patterns]
    question = Listing(
        list(branches(context, joined)), joined, _subscriptions(context, selection), selection
    )
    if context.listing is None or context.listing[0] != question:
        context.listing = question, list(question.answer())
    return iter(context.listing[1])


def _subscriptions(context: Context, selection: Selection) -> dict[str, str]:
    """Unreadable subscriptions only matter to who asked for them."""
    try:
        return context.subscriptions()
    except SharingError as refusal:
        if selection.subscribed:
            raise
        log.warning("%s", refusal)
        return {}


def tree(context: Context, name: str, *, level: bool) -> Sequence[str]:
    """See Account.tree()."""
    top = context.locate(name).name
    below = top + context.namespaces.separator_of(top)
    # Wildcard characters in the name stay wildcards, so what is found is looked at again.
    names = [one.name for one in listed(context, "", [below + "*"], EVERYTHING) if is_real(one)]
    found = sorted(one for one in names if one.startswith(below))
    try:
        return [context.known(name).name, *found]
    except SharingError as refusal:
        if not level or not found or refusal.code is not Code.NONEXISTENT:
            raise
        return found


def is_real(one: Listed) -> bool:
    """Whether a line of LIST is about a mailbox, not a level of hierarchy alone."""
    return "\\NonExistent" not in one.flags and "\\NoSelect" not in one.flags
