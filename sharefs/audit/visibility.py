"""What makes a mailbox show up in LIST: namespace, sharing map, mail root and list cache.

Only reads.  One line of an explanation for each.
"""

from collections.abc import Iterator
from pathlib import Path

from sharefs import fsops
from sharefs.account.context import Target
from sharefs.audit.layers import Kind, Layer, Verdict
from sharefs.audit.viewing import ViewerContext
from sharefs.errors import SharingError
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Want
from sharefs.permissions.explain import describe, explain_access
from sharefs.sharing import list_cache
from sharefs.sharing.keys import keys_for
from sharefs.sharing.policy import who_text


def listing_layers(context: ViewerContext, target: Target) -> Iterator[Layer]:
    """Namespace, sharing map and list cache: what makes a mailbox show up in LIST."""
    namespace = target.namespace
    if namespace.settings.list == "no":
        text = "list = no, so its mailboxes are not listed"
        yield Layer(Kind.NAMESPACE, Verdict.NO, namespace.prefix, text)
    if namespace.type == "shared":
        yield from _map(context, target)
    if target.levels != ("INBOX",):
        yield from _root(context, target)


def _map(context: ViewerContext, target: Target) -> Iterator[Layer]:
    owner = target.namespace.owner or ""
    settings = context.settings.sharing_map
    if context.share_map is None or settings is None:
        text = "there is no sharing map, so nothing shared is listed"
        yield Layer(Kind.MAP, Verdict.NO, "acl_sharing_map", text)
        return
    place = str(settings.path or settings.parameters.get("prefix", settings.driver))
    keys = keys_for(context.policy.acl_viewer(context.viewer, target.mailbox))
    try:
        matching = sorted(keys & context.share_map.shares_of(owner))
    except SharingError as refusal:
        yield Layer(Kind.MAP, Verdict.NO, place, refusal.detail)
        return
    if matching:
        yield Layer(Kind.MAP, Verdict.YES, place, f"{owner} shares with {matching[0]}")
    else:
        text = (
            f"does not say that {owner} shares anything with {who_text(context.viewer)};"
            f" `sharefs map rebuild -u {owner}` renews it"
        )
        yield Layer(Kind.MAP, Verdict.NO, place, text)
    domain = context.namespaces.viewer.domain
    for space in context.namespaces.shared:
        if not space.template.fits(Owner(owner), viewer_domain=domain):
            text = f"{owner} cannot be named by this prefix for a viewer of domain {domain!r}"
            yield Layer(Kind.NAMESPACE, Verdict.NO, space.template.text, text)


def _root(context: ViewerContext, target: Target) -> Iterator[Layer]:
    """A root that may be read is listed; else the list cache has to name the mailbox."""
    namespace = target.namespace
    root = namespace.location.path
    if explain_access(context.who, root, Want.READ | Want.SEARCH).allowed:
        yield Layer(Kind.PATH, Verdict.YES, str(root), "the mail root may be listed")
        return
    if namespace.type == "private":
        yield Layer(Kind.PATH, Verdict.NO, str(root), "the mail root may not be listed")
        return
    path = namespace.location.control_dir / list_cache.FILE_NAME
    names = cached_names(path)
    stored = namespace.stored_name(target.levels)
    if names is None or stored not in names:
        what = "there is no list cache" if names is None else "the list cache does not name it"
        text = (
            f"{what}, and the mail root may not be listed;"
            f" `sharefs acl recalc -u {namespace.owner or context.user.name}` renews it"
        )
        yield Layer(Kind.CACHE, Verdict.NO, str(path), text)
        return
    reading = explain_access(context.who, path, Want.READ)
    if reading.refusal is not None:
        why = describe(reading.refusal, context.who)
        text = f"may not be read, nor may the mail root be listed: {why}"
        yield Layer(Kind.CACHE, Verdict.NO, str(path), text)
    else:
        yield Layer(Kind.CACHE, Verdict.YES, str(path), f"names {stored}")


def cached_names(path: Path) -> frozenset[str] | None:
    """The mailboxes in a list cache.  None: there is none that can be read.  Removes nothing."""
    try:
        found = list_cache.parse_list(fsops.read_file(path))
    except OSError:
        return None
    return None if found is None else frozenset(line.name for line in found)
