"""`sharefs share`: share mailboxes, take shares back, and see what is shared with whom."""

import os
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import click

from sharefs.account import Account
from sharefs.acl import Change, Mode, Update
from sharefs.cli._common import linking
from sharefs.cli._common.mail import Host, Who, unknown_option, user_options
from sharefs.cli._common.output import echo, format_options, printable
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Kind, user
from sharefs.identity.model import MailUser
from sharefs.rights import ROLES, Rights
from sharefs.sharing.policy import Viewer

_WORDS = ("anyone", "anonymous", "authenticated", "owner")


ROLE_LINES = "".join(f"  {name:12} {role}\n" for name, role in ROLES.items())
ADD_HELP = f"""Share MAILBOX with WHOM: a user's name, $GROUP, or an identifier of `sharefs acl`.

The ACL, the list cache and the sharing map change in one step.  What WHOM was given before is
replaced.

\b
Roles:
{ROLE_LINES}
\b
Examples:
  sharefs share add -u alice Work bob --role reader
  sharefs share add -u alice Projects group=staff --role editor --recursive
"""


@click.group()
def share() -> None:
    """Share mailboxes with other users, and take shares back.

    \b
    Examples:
      sharefs share add -u alice Work bob --role reader
      sharefs share add -u alice Work '$staff' --role editor
      sharefs share list --by alice
      sharefs share list --to bob
      sharefs share remove -u alice Work bob
      sharefs share link -u bob --with-children alice Work
    """


def identifier_of(text: str) -> Identifier:
    """Whom a share is with: a bare word is a user's name.  Raises SharingError(INVALID)."""
    if "=" in text or text in _WORDS or text.startswith(("$", "!$")):
        return Identifier.parse_cli(text).identifier
    return user(text)


@share.command(help=ADD_HELP, short_help="Share a mailbox with a user or a group.")
@user_options(everybody=False)
@click.option("--role", type=click.Choice(sorted(ROLES)), default="reader", show_default=True,
              help="What they may do; see above.")  # fmt: skip
@click.option(
    "--rights", "words", metavar="RIGHTS", help="Letters or long names instead of a role."
)
@click.option("--create", is_flag=True, help="Make the mailbox if it is not there.")
@click.option("--recursive", is_flag=True, help="Share the mailboxes below it as well.")
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@unknown_option
@click.argument("mailbox")
@click.argument("whom")
@click.pass_context
def add(
    ctx: click.Context, who: Who, role: str, words: str | None, create: bool, recursive: bool,
    force: bool, allow_unknown: bool, mailbox: str, whom: str,
) -> None:  # fmt: skip
    rights = Rights.parse_names(words.split()) if words else ROLES[role]
    update = Update.whole(identifier_of(whom), rights)
    override = os.geteuid() == 0

    def action(account: Account) -> list[dict[str, Any]]:
        if create and not account.exists(mailbox):
            account.create(mailbox)
        names = account.tree(mailbox, level=True) if recursive else [mailbox]
        return [_change(account, name, update, override, force) for name in names]

    _report(ctx, who, action, given_to=None if allow_unknown else update.identifier)


@share.command(short_help="Take a mailbox back from somebody.")
@user_options(everybody=False)
@click.option("--recursive", is_flag=True, help="Take back the mailboxes below it as well.")
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@click.argument("mailbox")
@click.argument("whom")
@click.pass_context
def remove(
    ctx: click.Context, who: Who, recursive: bool, force: bool, mailbox: str, whom: str
) -> None:
    """Take MAILBOX back from WHOM, the entry in the sharing map included.

    \b
    Example:
      sharefs share remove -u alice Work bob
    """
    gone = Change(Mode.CLEAR)
    update = Update(identifier_of(whom), gone, gone)
    override = os.geteuid() == 0

    def action(account: Account) -> list[dict[str, Any]]:
        names = account.tree(mailbox, level=True) if recursive else [mailbox]
        return [_change(account, name, update, override, force) for name in names]

    _report(ctx, who, action)


def _change(
    account: Account, name: str, update: Update, override: bool, force: bool
) -> dict[str, Any]:
    outcome = account.change_acl(name, update, override=override, force=force)
    entry = outcome.after.find(update.identifier)
    rights = str(entry.rights) if entry is not None and entry.rights is not None else ""
    return {
        "mailbox": name,
        "identifier": update.identifier.file(),
        "rights": rights,
        "changed": outcome.changed,
        "warnings": list(outcome.warnings),
    }


def _report(
    ctx: click.Context,
    who: Who,
    action: Callable[[Account], list[dict[str, Any]]],
    *,
    given_to: Identifier | None = None,
) -> None:
    """given_to: who must be somebody."""
    host = Host.of(ctx)

    def first(owner: MailUser) -> None:
        if given_to is not None:
            host.demand_somebody(given_to, owner)

    for user_, changes in host.each(who, action, first=first):
        for change in changes:
            state = f"has {change['rights']}" if change["rights"] else "has nothing"
            unchanged = "" if change["changed"] else " (no change)"
            click.echo(f"{change['mailbox']}: {change['identifier']} {state}{unchanged}")
            for warning in change["warnings"]:
                click.echo(f"sharefs({user_.name}): {warning}", err=True)
    host.end()


@share.command("list", short_help="List what is shared with whom.")
@user_options()
@click.option("--by", "owner", metavar="OWNER", help="What OWNER shares; the same as -u OWNER.")
@click.option("--to", "viewer", metavar="[USER]", is_flag=False, flag_value="",
              help="What is shared with USER, from everybody's ACL files; root only.  Without a"
              " name: what the user of -u sees of it.")  # fmt: skip
@click.option("--links", is_flag=True, help="Mailboxes of others that are linked into the tree.")
@format_options
@click.argument("mailboxes", metavar="[MAILBOX]...", nargs=-1)
@click.pass_context
def list_(
    ctx: click.Context, who: Who, owner: str | None, viewer: str | None, links: bool, form: str,
    mailboxes: tuple[str, ...],
) -> None:  # fmt: skip
    """List what the user shares with others, from the ACL files themselves.

    With --to USER: what anybody shares with USER, whether or not USER can see it.

    \b
    With --links: symbolic links to others' mailboxes, and how each is doing:
      good       it leads to a mailbox; Missing says how many below it have no link
      dangling   what it leads to is gone            loop  it leads to itself
      closed     the kernel lets the user not in     inside  it leads into the user's own tree
      no mailbox  it leads to something else

    \b
    Examples:
      sharefs share list --by alice
      sharefs share list --to bob
      sharefs share list -u bob --to
      sharefs share list -A --links --json
    """
    if owner is not None:
        if who.mask or who.everybody:
            raise click.UsageError("--by says whose shares; -u and -A say it too")
        who = Who(owner, False)
    host = Host.of(ctx)
    if links:
        columns, records = host.records(who, LINK_COLUMNS, linking.listed)
        names = _names_by_uid(host)
        for record in records:
            record["Owner"] = names.get(record["uid"], record["uid"])
    elif viewer and os.geteuid() == 0:
        columns, records = ("Mailbox", "Owner", "Rights", "Role"), _granted_to(host, viewer)
    elif viewer is not None:
        asked = Who(viewer, False) if viewer else who
        columns, records = host.records(asked, ("Mailbox", "Owner", "Rights", "Role"), _received)
    else:
        columns, records = host.records(
            who, ("Mailbox", "With", "Rights", "Role"), lambda account: _given(account, mailboxes)
        )
    echo(columns, records, form)
    host.end()


LINK_COLUMNS = ("Link", "State", "Owner", "Missing", "Target")


def _names_by_uid(host: Host) -> dict[int, str]:
    """Users who have a uid of their own; a uid of several says nothing."""
    names: dict[int, list[str]] = {}
    for name in host.users.iterate():
        names.setdefault(host.users.lookup(name).uid, []).append(name)
    return {uid: found[0] for uid, found in names.items() if len(found) == 1}


def _granted_to(host: Host, name: str) -> list[dict[str, Any]]:
    """What the ACL files of all owners give one user.  Names are the owners'."""
    viewer = host.users.lookup(name)

    def action(account: Account) -> list[dict[str, Any]]:
        return [
            {
                "Mailbox": mailbox,
                "Owner": account.user.name,
                "Rights": str(rights),
                "Role": role_of(rights),
            }
            for mailbox, each in account.given([Viewer(viewer.acl_user, viewer.acl_groups)])
            for rights in each or ()
            if rights
        ]

    everybody = host.each(Who(None, True), action)
    found = [one for user, given in everybody if user.name != viewer.name for one in given]
    return sorted(found, key=lambda one: (one["Owner"], one["Mailbox"]))


@share.command()
@user_options(everybody=False)
@click.option("--with-children", is_flag=True, help="Link the mailboxes below it as well.")
@click.option("--force", is_flag=True, help="Even if the ACL gives the user nothing.")
@click.option("--dry-run", is_flag=True, help="Only print what would be linked.")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("name", required=False)
@click.pass_context
def link(
    ctx: click.Context, who: Who, with_children: bool, force: bool, dry_run: bool, owner: str,
    mailbox: str, name: str | None,
) -> None:  # fmt: skip
    """Link OWNER's MAILBOX into the user's own tree as NAME.  Default: shared/OWNER.

    NAME must be given where a shared namespace has that prefix already; what it lists needs no
    links in sharefs or Dovecot, only in programs that know no such namespaces.

    With the Maildir++ layout every mailbox needs a link of its own: --with-children makes them.
    The owner's ACL decides what the user may do there, through sharefs; another IMAP server may
    take who linked a mailbox for its owner, so what the ACL does not show is not linked.

    \b
    Examples:
      sharefs share link -u bob alice Work
      sharefs share link -u bob --with-children alice Projects linked/alice
    """
    host = Host.of(ctx)
    viewer = next(iter(host.chosen(who)))
    got = host.act(
        host.users.lookup(owner),
        lambda account: linking.sources_of(account, mailbox, viewer, with_children),
    )
    sources = [one for one in got["sources"] if one["visible"] or force]
    if not any(not one["levels"] for one in sources):
        raise SharingError(
            Code.NO_PERMISSION,
            f"the ACL of {owner}'s {mailbox} does not show it to {viewer.name}: share it first"
            f" (sharefs share add -u {owner} {mailbox} {viewer.name}), or use --force",
        )
    for one in got["sources"]:
        if one not in sources:
            click.echo(f"{one['name']} is not shown to {viewer.name}: not linked", err=True)

    def action(account: Account) -> list[list[str]]:
        separator = account.separator_of("INBOX")
        as_name = name or separator.join(("shared", owner))
        return linking.link(account, as_name, sources, dry_run)

    _tell_links(host.act(viewer, action))


@share.command()
@user_options(everybody=False)
@click.option("--with-children", is_flag=True, help="The links below it as well.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@click.argument("name")
@click.pass_context
def unlink(ctx: click.Context, who: Who, with_children: bool, dry_run: bool, name: str) -> None:
    """Remove the link that shows another's mailbox as NAME.  The mailbox itself stays.

    \b
    Example:
      sharefs share unlink -u bob --with-children shared/alice
    """
    host = Host.of(ctx)
    viewer = next(iter(host.chosen(who)))
    _tell_links(
        host.act(viewer, lambda account: linking.unlink(account, name, with_children, dry_run))
    )


@share.command(short_help="Remove links that lead nowhere, and make missing ones.")
@user_options()
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@click.pass_context
def repair(ctx: click.Context, who: Who, yes: bool) -> None:
    """Remove links that lead nowhere, and link what was made below linked mailboxes since.

    Exit status 0; what is refused for one of several users becomes the status at the end.

    \b
    Examples:
      sharefs share repair -u bob
      sharefs share repair -A --yes
    """
    host = Host.of(ctx)
    for _, done in host.each(who, lambda account: linking.repair(account, not yes)):
        _tell_links(done)
    host.end()


def _tell_links(done: list[list[str]]) -> None:
    for state, path, target in done:
        click.echo(f"{state}: {printable(path)} -> {printable(target)}")


def _given(account: Account, mailboxes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "Mailbox": name,
            "With": entry.identifier.file(negative=negative),
            "Rights": str(rights),
            "Role": role_of(rights) if not negative else "",
        }
        for name, acl in sorted(account.own_acls(), key=itemgetter(0))
        if not mailboxes or name in mailboxes
        for entry in acl.entries
        if entry.identifier.kind is not Kind.OWNER
        for rights, negative in ((entry.rights, False), (entry.negative, True))
        if rights is not None
    ]


def _received(account: Account) -> list[dict[str, Any]]:
    return [
        {"Mailbox": name, "Owner": owner, "Rights": str(rights), "Role": role_of(rights)}
        for name, owner, rights in account.received()
    ]


def role_of(rights: Rights) -> str:
    """The role that means exactly these rights, or ""."""
    return next((name for name, role in ROLES.items() if role == rights), "")
