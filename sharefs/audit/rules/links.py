"""Symbolic links in the place of mailboxes.  Pure."""

from collections.abc import Iterator
from typing import Final

from sharefs.audit.commands import line, planned
from sharefs.audit.facts import BoxFacts, HostFacts, RootFacts
from sharefs.audit.findings import Finding, Severity, rule

AREA: Final = "links"

dangling = rule(
    "link-dangling", Severity.WARNING, AREA, "A linked mailbox leads nowhere",
    "The mailbox is gone for the linker; perhaps a file system is not mounted.",
)  # fmt: skip
loop = rule(
    "link-loop", Severity.WARNING, AREA, "A linked mailbox leads to itself",
    "It can never be opened.",
)  # fmt: skip
crosses = rule(
    "link-without-acl", Severity.CRITICAL, AREA,
    "A link into another user's mail that no ACL entry covers",
    "Dovecot takes whoever has the link for the owner: all rights, the ACL unread. Only an entry"
    " for him limits him.",
)  # fmt: skip
children = rule(
    "link-without-children", Severity.NOTICE, AREA, "A linked mailbox lacks the ones below it",
    "In a Maildir++ every mailbox needs its own link.",
)  # fmt: skip
outside = rule(
    "link-outside", Severity.WARNING, AREA, "A linked mailbox is in no mail root",
    "Nobody owns what it leads to, no ACL covers it, and no backup of the mail has it.",
)  # fmt: skip


def find_links(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    link = box.link
    if link is None:
        return
    text = f"{box.path} -> {link.target}"
    if link.loops:
        yield loop(box.subject, text, remedy="remove the link", mailbox=box.name,
                   commands=(line("rm", box.path),))  # fmt: skip
        return
    if not link.real:
        yield dangling(
            box.subject, text, remedy="mount or make what it leads to, or remove the link",
            commands=planned("stores", root), mailbox=box.name,
        )  # fmt: skip
        return
    if not link.owner:
        yield outside(
            box.subject, f"{text}, which is {link.real}",
            remedy="move the mailbox into a mail root, or remove the link", mailbox=box.name,
        )  # fmt: skip
    elif link.owner != box.owner and not link.named:
        yield crosses(
            box.subject, f"{text}, a mailbox of {link.owner}",
            remedy=f"give {box.owner or 'the linker'} an entry with the rights he is meant to have,"
            " or remove the link",
            commands=(line("rm", box.path),), mailbox=box.name, user=link.owner,
        )  # fmt: skip
    if link.missing:
        yield children(
            box.subject, f"{text}, below which are {', '.join(link.missing[:10])}",
            remedy="link them too, or share through the shared namespace",
            commands=planned("stores", root), mailbox=box.name,
        )  # fmt: skip


BOX_RULES: Final = (find_links,)
