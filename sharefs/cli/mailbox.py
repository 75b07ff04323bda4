"""`sharefs mailbox`: list, make, delete, rename and look at mailboxes, as the user.

The same rights are demanded as over IMAP.
"""

import os
from collections.abc import Callable
from stat import S_ISGID
from typing import Any, Final

import click

from sharefs.account import Account
from sharefs.cli._common.mail import Host, Who, user_options
from sharefs.cli._common.output import echo, format_options, printable
from sharefs.errors import Code, SharingError
from sharefs.flags import System
from sharefs.identity.groups import name_of as group_name
from sharefs.namespaces.listing import NO_SELECT, Selection
from sharefs.permissions.inherit import GidReason
from sharefs.store.interface import Mailbox

WORDS = {"allow_interspersed_args": False}


@click.group()
def mailbox() -> None:
    """List, make, delete, rename and look at mailboxes.

    \b
    Examples:
      sharefs mailbox list -u bob 'shared/*'
      sharefs mailbox create -u alice Projects/2026
      sharefs mailbox status -u alice 'messages unseen' INBOX Work
      sharefs mailbox permissions -u alice Work
    """


@mailbox.command("list", context_settings=WORDS)
@user_options()
@click.option("-s", "--subscribed", is_flag=True, help="Only subscribed mailboxes.")
@click.option("--all-levels", is_flag=True, help="Also levels of hierarchy that hold no mail.")
@format_options
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def list_(
    ctx: click.Context, who: Who, subscribed: bool, all_levels: bool, form: str,
    patterns: tuple[str, ...],
) -> None:  # fmt: skip
    """List the mailboxes that the user may see, one name a line.

    PATTERN: `*` stands for any characters, `%` for any but the hierarchy separator.

    \b
    Examples:
      sharefs mailbox list -u bob
      sharefs mailbox list -u bob 'shared/*' 'Public/%'
      sharefs mailbox list -u bob --json
    """

    def action(account: Account) -> list[dict[str, Any]]:
        found = account.list("", patterns or ("*",), Selection(subscribed=subscribed))
        return [
            {"Mailbox": one.name, "Flags": sorted(one.flags)}
            for one in found
            if all_levels or subscribed or NO_SELECT not in one.flags
        ]

    host = Host.of(ctx)
    columns, records = host.records(who, ("Mailbox", "Flags"), action)
    if form == "table":
        for record in records:
            click.echo(" ".join(printable(record[name]) for name in columns if name != "Flags"))
    else:
        echo(columns, records, form)
    host.end()


@mailbox.command(context_settings=WORDS)
@user_options()
@click.option("-s", "--subscribe", is_flag=True, help="Subscribe to it as well.")
@click.argument("mailboxes", metavar="MAILBOX...", nargs=-1, required=True)
@click.pass_context
def create(ctx: click.Context, who: Who, subscribe: bool, mailboxes: tuple[str, ...]) -> None:
    """Make mailboxes.  Each gets a copy of its parent's ACL.

    \b
    Example:
      sharefs mailbox create -u alice Projects Projects/2026
    """

    def make(account: Account, name: str) -> None:
        account.create(name)
        if subscribe:
            account.subscribe(name)

    _for_each_name(ctx, who, mailboxes, make)


@mailbox.command(context_settings=WORDS)
@user_options()
@click.option("-r", "--recursive", is_flag=True, help="The mailboxes below it as well.")
@click.option("-s", "--unsubscribe", is_flag=True, help="Unsubscribe from it as well.")
@click.argument("mailboxes", metavar="MAILBOX...", nargs=-1, required=True)
@click.pass_context
def delete(
    ctx: click.Context, who: Who, recursive: bool, unsubscribe: bool, mailboxes: tuple[str, ...]
) -> None:
    """Delete mailboxes with all messages in them.

    Of a symbolic link only the link goes.

    \b
    Example:
      sharefs mailbox delete -u alice -r -s Projects
    """

    def remove(account: Account, name: str) -> None:
        # Deepest first: a mailbox with children cannot always go before them.
        names = reversed(account.tree(name, level=True)) if recursive else [name]
        for one in names:
            account.delete(one)
            if unsubscribe:
                account.unsubscribe(one)

    _for_each_name(ctx, who, mailboxes, remove)


def _for_each_name(
    ctx: click.Context, who: Who, names: tuple[str, ...], act: Callable[[Account, str], None]
) -> None:
    """Act on each mailbox; one refusal does not stop the others, but is the exit status."""

    def action(account: Account) -> list[list[Any]]:
        refusals = []
        for name in names:
            try:
                act(account, name)
            except SharingError as refusal:
                named = "" if name in refusal.detail else f"{name}: "
                refusals.append([refusal.code, named + refusal.detail])
        return refusals

    last: SharingError | None = None
    host = Host.of(ctx)
    for user, refusals in host.each(who, action):
        for code, detail in refusals:
            if last is not None:
                click.echo(f"sharefs: {last.detail}", err=True)
            last = SharingError(Code(code), f"({user.name}) {detail}" if who.several else detail)
    host.end()
    if last is not None:
        raise last


@mailbox.command(context_settings=WORDS)
@user_options()
@click.argument("mailboxes", metavar="MAILBOX...", nargs=-1, required=True)
@click.pass_context
def subscribe(ctx: click.Context, who: Who, mailboxes: tuple[str, ...]) -> None:
    """Subscribe to mailboxes, shared and public ones included.

    \b
    Example:
      sharefs mailbox subscribe -u bob shared/alice/Work
    """
    _for_each_name(ctx, who, mailboxes, Account.subscribe)


@mailbox.command(context_settings=WORDS)
@user_options()
@click.argument("mailboxes", metavar="MAILBOX...", nargs=-1, required=True)
@click.pass_context
def unsubscribe(ctx: click.Context, who: Who, mailboxes: tuple[str, ...]) -> None:
    """Unsubscribe from mailboxes, whether or not they are still there.

    \b
    Example:
      sharefs mailbox unsubscribe -u bob shared/alice/Work
    """
    _for_each_name(ctx, who, mailboxes, Account.unsubscribe)


@mailbox.command(context_settings=WORDS)
@user_options()
@click.option("-s", "--subscriptions", is_flag=True, help="Move the subscriptions along.")
@click.argument("old")
@click.argument("new")
@click.pass_context
def rename(ctx: click.Context, who: Who, subscriptions: bool, old: str, new: str) -> None:
    """Rename a mailbox and those below it.

    \b
    Example:
      sharefs mailbox rename -u alice Projects Archive/Projects
    """

    def action(account: Account) -> None:
        names = account.tree(old) if subscriptions else []
        subscribed = set(account.subscriptions())
        account.rename(old, new)
        for name in names:
            if name in subscribed:
                account.unsubscribe(name)
                account.subscribe(new + name[len(old) :])

    host = Host.of(ctx)
    for _ in host.each(who, action):
        pass
    host.end()


ITEMS: Final[dict[str, Callable[[Account, str, Mailbox], Any]]] = {
    "messages": lambda account, name, box: len(box.uids()),
    "recent": lambda account, name, box: len(box.recent(claim=False)),
    "uidnext": lambda account, name, box: box.uidnext,
    "uidvalidity": lambda account, name, box: box.uidvalidity,
    "unseen": lambda account, name, box: sum(
        not box.flags_of(uid).system & System.SEEN for uid in box.uids()
    ),
    "vsize": lambda account, name, box: sum(box.info(uid).size for uid in box.uids()),
    "guid": lambda account, name, box: account.guid(name),
}


@mailbox.command(context_settings=WORDS)
@user_options()
@format_options
@click.argument("items")
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.pass_context
def status(ctx: click.Context, who: Who, form: str, items: str, patterns: tuple[str, ...]) -> None:
    """Print numbers about mailboxes.

    ITEMS is `all` or one word of: messages recent uidnext uidvalidity unseen vsize guid.
    vsize is in octets, with CRLF line ends.

    \b
    Examples:
      sharefs mailbox status -u alice all INBOX
      sharefs mailbox status -u alice 'messages unseen' '*'
    """
    wanted = tuple(ITEMS) if items == "all" else tuple(items.split())
    if unknown := [item for item in wanted if item not in ITEMS]:
        raise click.UsageError(f"unknown item {unknown[0]!r}; known: all {' '.join(ITEMS)}", ctx)

    def action(account: Account) -> list[dict[str, Any]]:
        records = []
        for listed in account.list("", patterns):
            if NO_SELECT in listed.flags:
                continue
            try:
                box = account.open_mailbox(listed.name, readonly=True)
            except SharingError:
                continue  # seen in the list, but not to be read, or gone since
            try:
                box.sync()
                values = {item: ITEMS[item](account, listed.name, box) for item in wanted}
            except SharingError as refusal:
                # The others are still told; this one by its reason.
                click.echo(f"sharefs: {listed.name}: {refusal.detail}", err=True)
                continue
            finally:
                box.close()
            records.append({"Mailbox": listed.name, **values})
        return records

    host = Host.of(ctx)
    columns, records = host.records(who, ("Mailbox", *wanted), action)
    if form == "table":
        for record in records:  # as doveadm prints them: the name, then key=value
            names = [printable(record[name]) for name in columns if name not in wanted]
            click.echo(" ".join([*names, *(f"{item}={record[item]}" for item in wanted)]))
    else:
        echo(columns, records, form)
    host.end()
    if not records:
        raise SharingError(Code.NONEXISTENT, f"no mailbox is called {' or '.join(patterns)}")


@mailbox.command(context_settings=WORDS)
@user_options()
@click.option("-t", "--type", "kind", default="mailbox", show_default=True,
              type=click.Choice(["mailbox", "control", "index", "private", "acl", "all"]),
              help="Which of its paths.")  # fmt: skip
@format_options
@click.argument("name", metavar="MAILBOX")
@click.pass_context
def path(ctx: click.Context, who: Who, kind: str, form: str, name: str) -> None:
    """Print where a mailbox is on disk.

    \b
    Examples:
      sharefs mailbox path -u alice Work
      sharefs mailbox path -u bob -t all shared/alice/Work
    """

    def action(account: Account) -> list[dict[str, Any]]:
        paths = account.paths(name)
        kinds = list(paths) if kind == "all" else [kind]
        return [{"Type": one, "Path": paths[one]} for one in kinds if one in paths]

    host = Host.of(ctx)
    columns, records = host.records(who, ("Type", "Path"), action)
    if form == "table" and kind != "all":
        for record in records:
            click.echo(
                " ".join(printable(record[column]) for column in columns if column != "Type")
            )
    else:
        echo(columns, records, form)
    host.end()


@mailbox.command(context_settings=WORDS)
@user_options()
@format_options
@click.argument("name", metavar="MAILBOX")
@click.pass_context
def permissions(ctx: click.Context, who: Who, form: str, name: str) -> None:
    """Print what new files and directories in a mailbox would get, and why.

    For a mailbox that does not exist yet: what it would get itself.  Nothing is changed.

    \b
    Examples:
      sharefs mailbox permissions -u alice Work
      sharefs mailbox permissions -u alice Work/Not-yet
    """

    def action(account: Account) -> list[dict[str, Any]]:
        creation = account.permissions(name)
        gid = os.getegid() if creation.group is None else creation.group
        name_of_it = group_name(gid)
        group = f"{gid}({name_of_it})" if name_of_it else str(gid)
        handed_down = S_ISGID if creation.reason is GidReason.SETGID else 0  # by the kernel
        directories = creation.dir_mode | handed_down
        return [
            {
                "For": what,
                "Mode": f"{mode:04o}",
                "Group": group,
                "Reason": creation.reason.value,
                "Origin": creation.origin,
            }
            for what, mode in (("files", creation.file_mode), ("directories", directories))
        ]

    host = Host.of(ctx)
    columns, records = host.records(who, ("For", "Mode", "Group", "Reason", "Origin"), action)
    echo(columns, records, form)
    host.end()
