"""What a viewer gives to others and gets from them, over all mailboxes at once."""

from collections.abc import Iterator, Sequence

from sharefs.account.context import Context
from sharefs.account.others import as_others, as_shared
from sharefs.account.tree import is_real, listed, mailboxes_of
from sharefs.acl import Acl
from sharefs.namespaces.listing import EVERYTHING
from sharefs.namespaces.namespace import Namespace, Seen
from sharefs.rights import Rights
from sharefs.sharing.policy import Viewer


def given(
    context: Context, viewers: Sequence[Viewer]
) -> Iterator[tuple[str, Sequence[Rights] | None]]:
    """See Account.given()."""
    for namespace in _own_namespaces(context):
        theirs = as_shared(context, namespace)
        for seen in _own_mailboxes(context, namespace):
            mailbox = as_others(context, seen.found, theirs)
            if mailbox.ignored or not context.settings.acl_enabled:
                yield seen.name, None
                continue
            each = context.policy.rights_of_each(viewers, mailbox)
            yield seen.name, [found.rights for found in each]


def own_acls(context: Context) -> Iterator[tuple[str, Acl]]:
    """See Account.own_acls()."""
    for namespace in _own_namespaces(context):
        for seen in _own_mailboxes(context, namespace):
            acl = context.policy.file_of(seen.mailbox).acl
            if acl.entries:
                yield seen.name, acl


def received(context: Context) -> Iterator[tuple[str, str, Rights]]:
    """See Account.received()."""
    for line in listed(context, "", ["*"], EVERYTHING):
        found = context.namespaces.find(line.name)
        if found is None or not is_real(line):
            continue
        target = context.target_of(found)
        owner = target.mailbox.true_owner
        if owner is None and found.namespace.type == "shared":
            owner = found.namespace.owner
        if owner is not None:
            yield line.name, owner, target.rights


def _own_namespaces(context: Context) -> Iterator[Namespace]:
    """Each once, by its own name."""
    for namespace in context.namespaces.fixed:
        if namespace.type == "private" and not namespace.settings.alias_for:
            yield namespace


def _own_mailboxes(context: Context, namespace: Namespace) -> Iterator[Seen]:
    """Without those of others that are linked there."""
    for seen in mailboxes_of(context, namespace):
        if seen.mailbox.true_owner is None:
            yield seen
