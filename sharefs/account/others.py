"""How others see the mailboxes of an account: what the policy is told of them.

For administrators' tools, which ask on behalf of everybody and must get the answer that each of
them would get himself.
"""

from dataclasses import replace

from sharefs.account.context import Context, default_acl_dir
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.namespaces.templates import Owner
from sharefs.sharing.policy import AclMailbox, configured_entries


def as_shared(context: Context, namespace: Namespace) -> Namespace | None:
    """The shared namespace in which others see a private one; None if there is none."""
    if namespace.type != "private":
        return None
    for space in context.namespaces.shared:
        theirs = context.namespaces.of_owner(space, Owner(namespace.owner or ""))
        if theirs.location.path == namespace.location.path:
            return theirs
    return None


def as_others(context: Context, found: Found, theirs: Namespace | None) -> AclMailbox:
    """How another user's account describes this mailbox.  theirs: as_shared() of its namespace."""
    namespace = found.namespace
    if namespace.type != "private":
        return context.acl_mailbox(found, resolve_link=False)
    if theirs is not None:
        return context.acl_mailbox(Found(theirs, found.levels), resolve_link=False)
    settings = context.settings
    return replace(
        context.acl_mailbox(found, resolve_link=False),
        namespace_type="shared",
        settings=configured_entries(settings.acl, namespace.settings.acl),
        default_acl_dir=default_acl_dir(namespace, settings.acl_defaults_from_inbox),
    )
