"""`sharefs map`: what the sharing map says, whether it is true, and making it true.

The map tells who has shared something with whom, so that it can be listed.  ACL files are the
truth; the map is derived from them and can be rebuilt at any time.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import click

from sharefs.account import Account
from sharefs.cli._common.mail import Host, Who, user_options
from sharefs.cli._common.output import echo, format_options
from sharefs.errors import SharingError
from sharefs.identity.model import MailUser

COLUMNS = ("Owner", "State", "With", "Detail")


@click.group("map")
def map_() -> None:
    """Look at, check and rebuild the sharing map.

    \b
    Examples:
      sharefs map list -u alice
      sharefs map check --all
      sharefs map rebuild --all --dry-run
    """


@map_.command("list")
@user_options()
@click.option("--to", "to_me", is_flag=True, help="Who shares something with the user instead.")
@format_options
@click.pass_context
def list_(ctx: click.Context, who: Who, to_me: bool, form: str) -> None:
    """Print the entries of the map: those of one owner, or with -A of everybody.

    \b
    Examples:
      sharefs map list -u alice
      sharefs map list -u bob --to
      sharefs map list -A
    """

    def action(account: Account) -> list[dict[str, Any]]:
        if to_me:
            return [{"Owner": owner, "With": account.user.name} for owner in account.sharers()]
        keys = sorted(account.map_entries())
        return [{"Owner": account.user.name, "With": str(key)} for key in keys]

    host = Host.of(ctx)
    records = [record for _, found in host.each(who, action) for record in found]
    echo(("Owner", "With"), records, form)
    host.end()


@map_.command()
@user_options()
@format_options
@click.pass_context
def check(ctx: click.Context, who: Who, form: str) -> None:
    """Compare the map with the ACL files.  Exit status 1 if they differ.

    \b
    States:
      missing     an ACL shares a mailbox, and the map does not say so: nobody sees it listed
      stale       the map says so, and no ACL does
      gone        the map names an owner whom no user database knows
      unstorable  the map cannot hold such a name (it has a slash)
      unreadable  an ACL file could not be read, so nothing would be removed for this owner
    """
    host = Host.of(ctx)
    records = _differences(host, who, apply=False)
    echo(COLUMNS, records, form)
    host.end()
    if records:
        ctx.exit(1)


@map_.command()
@user_options()
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@format_options
@click.pass_context
def rebuild(ctx: click.Context, who: Who, dry_run: bool, form: str) -> None:
    """Make the map say what the ACL files say, and print what changed.

    For one owner, or with -A (--all) for all of them; then entries of owners who no longer exist
    go as well.  List caches are rebuilt along with it.

    \b
    Examples:
      sharefs map rebuild -u alice
      sharefs map rebuild --all --dry-run
    """
    host = Host.of(ctx)
    records = _differences(host, who, apply=not dry_run)
    echo(COLUMNS, records, form)
    host.end()


def _differences(host: Host, who: Who, *, apply: bool) -> list[dict[str, Any]]:
    """One record for each difference between map and ACL files, removed if apply says so."""

    def action(account: Account) -> dict[str, Any]:
        report = account.rebuild_map(dry_run=not apply)
        return {
            "map": account.map_label(),
            "owners": sorted(account.map_owners()) if who.everybody else [],
            "records": [
                {"Owner": account.user.name, "State": state, "With": text, "Detail": detail}
                for state, text, detail in report.differences()
            ],
        }

    found: list[dict[str, Any]] = []
    maps: dict[str, tuple[MailUser, set[str]]] = {}
    for user, got in host.each(who, action):
        found += got["records"]
        # Any user of a map may write it; the last one seen stands for all of them.
        maps[got["map"]] = user, set(got["owners"])
    for user, owners in maps.values():
        found += _gone(host, user, owners, apply=apply)
    return found


def _gone(
    host: Host, user: MailUser, owners: Iterable[str], *, apply: bool
) -> list[dict[str, Any]]:
    """Owners in a map whom nobody knows any more.  user: somebody who may write the map."""
    records = []
    for owner in sorted(owners):
        try:
            if host.users.exists(owner):
                continue
        except SharingError as refusal:
            click.echo(f"sharefs: {owner} is left alone: {refusal.detail}", err=True)
            continue
        records.append(
            {"Owner": owner, "State": "gone", "With": "", "Detail": "no user database knows it"}
        )
        if apply:
            host.act(user, partial(Account.forget_owner, owner=owner))
    return records
