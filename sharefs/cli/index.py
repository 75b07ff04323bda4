"""`sharefs index`: the query indexes of mailboxes, looked at, built, checked and dropped."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from sharefs.account import Account
from sharefs.cli._common.mail import Host, Who, user_options
from sharefs.cli._common.output import echo, format_options, printable
from sharefs.errors import Code, SharingError
from sharefs.index import MailboxIndex, drop
from sharefs.index.helpers import Helpers, helpers
from sharefs.index.place import Unusable, existing
from sharefs.message import load_charsets
from sharefs.namespaces.listing import NO_SELECT
from sharefs.store.interface import Mailbox

BUILD_SLICE: Final = 0.5  # seconds between two lines of progress
MOST_JOBS: Final = 3  # by default; the one that writes has no time for what more of them find
WORTH_HELP: Final = 500  # messages; fewer are done before a second process is of use

Record = dict[str, Any]


@click.group(short_help="Look at, build, check and drop query indexes.")
def index() -> None:
    """Look at, build, check and drop the indexes that answer fetches and searches.

    An index is the user's own and only derived: dropping one loses nothing.

    \b
    Examples:
      sharefs index status -u alice
      sharefs index build -A
      sharefs index verify -u alice INBOX 'shared/*'
      sharefs index drop -u alice INBOX
    """
    load_charsets()  # before becoming a user


@index.command()
@user_options()
@format_options
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def status(ctx: click.Context, who: Who, form: str, patterns: tuple[str, ...]) -> None:
    """Show how much of each mailbox is indexed, how large that is, and where.

    Share is the index's size by that of the mail it is about.  Texts are messages whose texts can
    be searched without reading them.
    """

    def one(mailbox: Mailbox, index: MailboxIndex) -> Record:
        got = index.status()
        return {
            "Messages": got.messages,
            "Indexed": got.indexed,
            "Texts": got.texts,
            "Size": got.octets,
            "Share": f"{got.share:.0%}",
            "Path": None if got.path is None else str(got.path),
        }

    columns = ("Mailbox", "Messages", "Indexed", "Texts", "Size", "Share", "Path")
    host = Host.of(ctx)
    echo(*host.records(who, columns, lambda account: _each(account, patterns, one)), form)
    host.end()


@index.command()
@user_options()
@format_options
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 64),
    default=None,
    help="Processes that take messages apart for the one that writes; 1: it does that, too."
    f"  [default: one for each processor, at most {MOST_JOBS}]",
)
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def build(
    ctx: click.Context, who: Who, form: str, jobs: int | None, patterns: tuple[str, ...]
) -> None:
    """Index what is not indexed yet.  Progress goes to the terminal.

    The server does the same in the background for mailboxes that are in use.
    """
    jobs = jobs or min(MOST_JOBS, len(os.sched_getaffinity(0)))

    def one(mailbox: Mailbox, index: MailboxIndex) -> Record:
        began = time.monotonic()
        missing = index.missing()
        count = jobs if jobs > 1 and missing >= WORTH_HELP else 0
        with helpers(mailbox, count) as others:
            _build(mailbox, index, others)
        taken = time.monotonic() - began
        got = index.status()
        return {
            "Messages": got.messages,
            "Added": missing - index.missing(),
            "Seconds": f"{taken:.1f}",
            "Size": got.octets,
            "Path": None if got.path is None else str(got.path),
        }

    columns = ("Mailbox", "Messages", "Added", "Seconds", "Size", "Path")
    host = Host.of(ctx)
    echo(
        *host.records(who, columns, lambda account: _each(account, patterns, one, make=True)), form
    )
    host.end()


def _build(mailbox: Mailbox, index: MailboxIndex, others: Helpers) -> None:
    """Raises SharingError(UNAVAILABLE) if it comes to a standstill: full, locked, read-only."""
    total, shown = len(mailbox.uids()), False
    while not index.catch_up(BUILD_SLICE, bulk=True, helpers=others):
        if index.is_stuck:
            raise SharingError(
                Code.UNAVAILABLE, "the index cannot be written; the log says why", retryable=True
            )
        if shown := sys.stderr.isatty():
            done = total - index.missing()
            click.echo(f"\r{done} of {total} messages ", nl=False, err=True)
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)


@index.command()
@user_options()
@format_options
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def verify(ctx: click.Context, who: Who, form: str, patterns: tuple[str, ...]) -> None:
    """Compare all that is kept with the messages, reading every one of them.

    \b
    Exit status: 0 nothing is wrong; 1 something is, and an index with it is best dropped.
    """

    def action(account: Account) -> list[Record]:
        found: list[Record] = []
        for name, _, index in _indexes(account, patterns):
            found += [{"Mailbox": name, "Problem": problem} for problem in index.verify()]
        return found

    host = Host.of(ctx)
    columns, records = host.records(who, ("Mailbox", "Problem"), action)
    if records or form == "json":
        echo(columns, records, form)
    host.end()
    if records:
        sys.exit(1)


@index.command("drop")
@user_options()
@click.option("--orphans", is_flag=True, help="Indexes of mailboxes that are no more.")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.pass_context
def drop_(ctx: click.Context, who: Who, orphans: bool, patterns: tuple[str, ...]) -> None:
    """Remove indexes.  They are built again when the mailboxes are used.

    \b
    Examples:
      sharefs index drop -u alice '*'
      sharefs index drop -A --orphans
    """
    if not patterns and not orphans:
        raise click.UsageError("say which mailboxes, '*' for all, or --orphans")

    def action(account: Account) -> list[str]:
        dropped = _drop_orphans(account) if orphans else []
        for name in _names(account, patterns) if patterns else ():
            if any([_drop(place) for place in account.index_places(name)]):
                dropped.append(name)
        return dropped

    host = Host.of(ctx)
    for user, dropped in host.each(who, action):
        prefix = f"{user.name}: " if who.several else ""
        for name in dropped:
            click.echo(f"{prefix}dropped the index of {printable(name)}")
    host.end()


def _drop(place: Path, *, forget: bool = False) -> bool:
    try:
        return drop(place, forget=forget)
    except Unusable as error:
        raise SharingError(Code.NO_PERMISSION, str(error)) from error


def _drop_orphans(account: Account) -> list[str]:
    """Indexes below the viewer's root of indexes that belong to no mailbox he can see."""
    root = account.index_root()
    if root is None or not root.is_dir():
        return []
    alive = {place for name in _names(account, ()) for place in account.index_places(name)}
    return [
        str(place)
        for place in sorted(root.iterdir())
        if place not in alive and _drop(place, forget=True)
    ]


# --- mailboxes ------------------------------------------------------------------------------


def _names(account: Account, patterns: tuple[str, ...]) -> list[str]:
    return [
        one.name
        for one in account.list("", patterns or ("*",))
        if NO_SELECT not in one.flags and "\\NonExistent" not in one.flags
    ]


def _indexes(
    account: Account, patterns: tuple[str, ...], *, make: bool = False
) -> Iterator[tuple[str, Mailbox, MailboxIndex]]:
    """Every mailbox of those that the viewer may read, with its index, open meanwhile.

    make: one that is missing is begun; else it is as if there were an empty one.
    """
    for name in _names(account, patterns):
        try:
            mailbox = account.open_mailbox(name)
        except SharingError as refusal:
            if refusal.code is Code.NO_PERMISSION:
                continue  # it may be listed, not read: there is nothing to index
            raise
        with contextlib.closing(mailbox):
            mailbox.sync()
            places = account.index_places(name)
            if not make:
                places = existing(places)
            with contextlib.closing(MailboxIndex.open(mailbox, places, label=name)) as index:
                yield name, mailbox, index


def _each(
    account: Account,
    patterns: tuple[str, ...],
    one: Callable[[Mailbox, MailboxIndex], Record],
    *,
    make: bool = False,
) -> list[Record]:
    return [
        {"Mailbox": name, **one(mailbox, index)}
        for name, mailbox, index in _indexes(account, patterns, make=make)
    ]
