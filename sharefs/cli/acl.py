"""`sharefs acl`: look at and change mailbox ACLs, in doveadm's syntax.

Every change writes the ACL file, the list cache and the sharing map in one step, as the user.
"""

import inspect
import os
from typing import Any

import click

from sharefs.account import Account
from sharefs.acl import Change, Mode, Update
from sharefs.cli import acl_tools
from sharefs.cli._common.mail import Host, Who, unknown_option, user_options
from sharefs.cli._common.output import echo, format_options
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Signed
from sharefs.identity.model import MailUser
from sharefs.rights import ALL, NONE, ROLES, Rights

# Options end at the mailbox: what follows may begin with `-` (-user=bob, -read) and is no option.
WORDS = {"allow_interspersed_args": False}

IDENTIFIERS = """
\b
IDENTIFIER is one of, weakest first:
  anyone                everybody, anonymous users included
  authenticated         everybody who logged in
  group=NAME  ($NAME)   the members of a group
  owner                 the mailbox's owner
  user=NAME             one user
  group-override=NAME   members of a group, stronger than user= and owner
A leading `-` makes the rights negative: they are taken away.
"""

ROLE_TEXT = ", ".join(f"{name} {role}" for name, role in ROLES.items() if role != ALL)
RIGHTS = f"""
\b
RIGHT is a letter or several (lrs), a long name, a role, or :NAME:
  l lookup    see the mailbox          i insert   copy and append into it
  r read      open it, read messages   p post     deliver to it
  w write     flags and keywords       e expunge  remove deleted messages
  s write-seen     the \\Seen flag      k create   mailboxes below it
  t write-deleted  the \\Deleted flag   x delete   the mailbox itself
  a admin     change its ACL           all        all of these
  {ROLE_TEXT}, manager all
A leading `-` names a right to take away.
"""


@click.group()
def acl() -> None:
    """Look at and change who may do what with a mailbox.

    \b
    Examples:
      sharefs acl get -u alice Work
      sharefs acl set -u alice Work user=bob lookup read
      sharefs acl add -u alice Work group=staff reader
      sharefs acl set -u alice Work -user=carol read
      sharefs acl rights -u bob shared/alice/Work
      sharefs acl debug -u bob shared/alice/Work
      sharefs acl lint -A
      sharefs acl apply -u alice --recursive Work
      sharefs acl export -u alice --format cyrus
    """


@acl.command(context_settings=WORDS)
@user_options()
@format_options
@click.argument("mailbox")
@click.pass_context
def get(ctx: click.Context, who: Who, form: str, mailbox: str) -> None:
    """Print all entries of a MAILBOX's ACL.

    Entries from the configuration are marked "global".  Rights that are taken away begin with
    `-`.

    \b
    Examples:
      sharefs acl get -u alice Work
      sharefs acl get -A --json Work
    """
    host = Host.of(ctx)
    override = _is_superuser()
    columns, records = host.records(
        who, ("ID", "Global", "Rights"), lambda account: _entries(account, mailbox, override)
    )
    echo(columns, records, form)
    host.end()


def _entries(account: Account, mailbox: str, override: bool) -> list[dict[str, Any]]:
    return [
        {
            "ID": entry.identifier.file(),
            "Global": "global" if entry.is_global else "",
            "Rights": " ".join(_names(entry.rights) + _names(entry.negative, "-")),
        }
        for entry in account.stored_acl(mailbox, override=override).entries
    ]


def _names(rights: Rights | None, mark: str = "") -> list[str]:
    return [mark + name for name in sorted((rights or NONE).long_names())]


@acl.command(context_settings=WORDS)
@user_options()
@format_options
@click.argument("mailbox")
@click.pass_context
def rights(ctx: click.Context, who: Who, form: str, mailbox: str) -> None:
    """Print the user's own rights to a MAILBOX.

    Exit status 67 if there is no such mailbox, or none that the user may know of.
    """

    def action(account: Account) -> list[dict[str, Any]]:
        return [{"Rights": " ".join(account.rights(mailbox).rights.long_names())}]

    host = Host.of(ctx)
    columns, records = host.records(who, ("Rights",), action)
    echo(columns, records, form)
    host.end()


def _change_command(name: str, mode: Mode, text: str) -> None:
    """Adds `set`, `add` or `remove`."""

    text = "\n".join((inspect.cleandoc(text), IDENTIFIERS, RIGHTS))

    @acl.command(name, context_settings=WORDS, help=text)
    @user_options()
    @click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
    @click.argument("mailbox")
    @click.argument("identifier")
    @click.argument("words", metavar="RIGHT...", nargs=-1, required=True, type=click.UNPROCESSED)
    @click.pass_context
    def command(
        ctx: click.Context, who: Who, force: bool, mailbox: str, identifier: str,
        words: tuple[str, ...], allow_unknown: bool = True,
    ) -> None:  # fmt: skip
        update = update_of(Identifier.parse_cli(identifier), mode, words)
        _apply(ctx, who, mailbox, update, force, allow_unknown=allow_unknown)

    if mode is not Mode.REMOVE:  # whoever is no more can always be taken out
        unknown_option(command)


_change_command(
    "set",
    Mode.REPLACE,
    """Set an IDENTIFIER's rights to exactly the named ones.

    \b
    Examples:
      sharefs acl set -u alice Work user=bob lookup read
      sharefs acl set -u alice Work user=bob lrs
      sharefs acl set -u alice Work -user=bob write
    """,
)
_change_command(
    "add",
    Mode.ADD,
    """Add rights to those that an IDENTIFIER has.

    \b
    Example:
      sharefs acl add -u alice Work user=bob write
    """,
)
_change_command(
    "remove",
    Mode.REMOVE,
    """Remove rights from those that an IDENTIFIER has.

    \b
    Example:
      sharefs acl remove -u alice Work user=bob write write-deleted
    """,
)


def update_of(signed: Signed, mode: Mode, words: tuple[str, ...]) -> Update:
    """The change that a command line asks for.  Raises SharingError(INVALID)."""
    given = Rights.parse_names(word for word in words if not word.startswith("-"))
    taken = Rights.parse_names(word[1:] for word in words if word.startswith("-"))
    if signed.negative:
        if taken:
            raise SharingError(
                Code.INVALID,
                f"-{signed.identifier} is negative already: name its rights without `-`",
            )
        return Update.of(signed.identifier, mode, given, negative=True)
    if mode is Mode.REPLACE:
        return Update.whole(signed.identifier, given, taken)
    return Update(
        signed.identifier,
        Change(mode, given) if given else None,
        Change(mode, taken) if taken else None,
    )


@acl.command(context_settings=WORDS)
@user_options()
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@click.argument("mailbox")
@click.argument("identifier")
@click.pass_context
def delete(ctx: click.Context, who: Who, force: bool, mailbox: str, identifier: str) -> None:
    """Remove an IDENTIFIER's entry from a MAILBOX's ACL.

    Without `-` both its rights and its negative rights go; with it only the negative ones.

    \b
    Examples:
      sharefs acl delete -u alice Work user=bob
      sharefs acl delete -u alice Work -user=bob
    """
    signed = Identifier.parse_cli(identifier)
    update = Update.deletion(signed.identifier, negative=True if signed.negative else None)
    _apply(ctx, who, mailbox, update, force)


def _apply(
    ctx: click.Context, who: Who, mailbox: str, update: Update, force: bool, *,
    allow_unknown: bool = True,
) -> None:  # fmt: skip
    """allow_unknown: where it only takes away, an identifier may be one that nobody has."""
    override = _is_superuser()

    def action(account: Account) -> list[str]:
        outcome = account.change_acl(mailbox, update, override=override, force=force)
        return list(outcome.warnings)

    host = Host.of(ctx)

    def first(owner: MailUser) -> None:
        if not allow_unknown:
            host.demand_somebody(update.identifier, owner)

    for user, warnings in host.each(who, action, first=first):
        for warning in warnings:
            click.echo(f"sharefs({user.name}): {warning}", err=True)
    host.end()


@acl.command(context_settings=WORDS)
@user_options()
@format_options
@click.argument("mailbox")
@click.pass_context
def debug(ctx: click.Context, who: Who, form: str, mailbox: str) -> None:
    """Explain whether the user can see and open a MAILBOX, step by step.

    Walks namespace, path, file system, ACL lines, list cache and sharing map.  What denies is
    marked `no`; then the exit status is 1.

    \b
    Example:
      sharefs acl debug -u bob shared/alice/Work
    """

    def action(account: Account) -> list[dict[str, Any]]:
        return [{"Verdict": step.verdict, "Step": step.text} for step in account.explain(mailbox)]

    host = Host.of(ctx)
    columns, records = host.records(who, ("Verdict", "Step"), action)
    echo(columns, records, form)
    host.end()
    if any(record["Verdict"] == "no" for record in records):
        ctx.exit(1)


@acl.command(context_settings=WORDS)
@user_options()
@click.pass_context
def recalc(ctx: click.Context, who: Who) -> None:
    """Bring list caches and the sharing map in line with the user's ACL files.

    \b
    Examples:
      sharefs acl recalc -u alice
      sharefs acl recalc -A
    """
    host = Host.of(ctx)
    for user, changes in host.each(who, lambda account: account.rebuild_map().lines()):
        for line in changes:
            click.echo(f"{user.name}: {line}")
    host.end()


for _tool in (acl_tools.apply, acl_tools.lint, acl_tools.fmt, acl_tools.export, acl_tools.import_):
    acl.add_command(_tool)


def _is_superuser() -> bool:
    """Whether the administrator asks: then the ACL does not stand in the way, as with doveadm.

    Asked before the command becomes the user.
    """
    return os.geteuid() == 0
