"""`sharefs share`: share mailboxes, take shares back, and see what is shared with whom."""

import os
from collections.abc import Callable
from typing import Any

import click

from sharefs.account import Account
from sharefs.acl import Change, Mode, Update
from sharefs.cli._common.mail import Host, Who, user_options
from sharefs.cli._common.output import echo, format_options
from sharefs.identifiers import Identifier, Kind, user
from sharefs.rights import ROLES, Rights

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
      sharefs share list -u alice
      sharefs share list -u bob --to
      sharefs share remove -u alice Work bob
    """


def identifier_of(text: str) -> Identifier:
    """Whom a share is with: a bare word is a user's name.  Raises SharingError(INVALID)."""
    if "=" in text or text in _WORDS or text.startswith(("$", "!$")):
        return Identifier.parse_cli(text).identifier
    return user(text)


@share.command(help=ADD_HELP)
@user_options(everybody=False)
@click.option("--role", type=click.Choice(sorted(ROLES)), default="reader", show_default=True,
              help="What they may do; see above.")  # fmt: skip
@click.option(
    "--rights", "words", metavar="RIGHTS", help="Letters or long names instead of a role."
)
@click.option("--create", is_flag=True, help="Make the mailbox if it is not there.")
@click.option("--recursive", is_flag=True, help="Share the mailboxes below it as well.")
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@click.argument("mailbox")
@click.argument("whom")
@click.pass_context
def add(
    ctx: click.Context, who: Who, role: str, words: str | None, create: bool, recursive: bool,
    force: bool, mailbox: str, whom: str,
) -> None:  # fmt: skip
    rights = Rights.parse_names(words.split()) if words else ROLES[role]
    update = Update.whole(identifier_of(whom), rights)
    override = os.geteuid() == 0

    def action(account: Account) -> list[dict[str, Any]]:
        if create and not account.exists(mailbox):
            account.create(mailbox)
        names = account.tree(mailbox) if recursive else [mailbox]
        return [_change(account, name, update, override, force) for name in names]

    _report(ctx, who, action)


@share.command()
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
        names = account.tree(mailbox) if recursive else [mailbox]
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
    ctx: click.Context, who: Who, action: Callable[[Account], list[dict[str, Any]]]
) -> None:
    host = Host.of(ctx)
    for user_, changes in host.each(who, action):
        for change in changes:
            state = f"has {change['rights']}" if change["rights"] else "has nothing"
            unchanged = "" if change["changed"] else " (no change)"
            click.echo(f"{change['mailbox']}: {change['identifier']} {state}{unchanged}")
            for warning in change["warnings"]:
                click.echo(f"sharefs({user_.name}): {warning}", err=True)
    host.end()


@share.command("list")
@user_options()
@click.option("--to", "to_me", is_flag=True, help="What others share with the user instead.")
@format_options
@click.argument("mailboxes", metavar="[MAILBOX]...", nargs=-1)
@click.pass_context
def list_(ctx: click.Context, who: Who, to_me: bool, form: str, mailboxes: tuple[str, ...]) -> None:
    """List what the user shares with others, from the ACL files themselves.

    With --to: what others share with the user, as far as the user can see it.

    \b
    Examples:
      sharefs share list -u alice
      sharefs share list -A --json
      sharefs share list -u bob --to
    """
    host = Host.of(ctx)
    if to_me:
        columns, records = host.records(who, ("Mailbox", "Owner", "Rights", "Role"), _received)
    else:
        columns, records = host.records(
            who, ("Mailbox", "With", "Rights", "Role"), lambda account: _given(account, mailboxes)
        )
    echo(columns, records, form)
    host.end()


def _given(account: Account, mailboxes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "Mailbox": name,
            "With": entry.identifier.file(negative=negative),
            "Rights": str(rights),
            "Role": role_of(rights) if not negative else "",
        }
        for name, acl in account.own_acls()
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
