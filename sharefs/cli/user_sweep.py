"""`sharefs user rename` and `user delete`: what others granted to an account that is no more.

An ACL entry for a name that nobody has grants nothing today, and everything to whoever gets the
name tomorrow.
"""

import sys
from collections.abc import Callable
from typing import Any

import click

from sharefs.account import Account
from sharefs.acl import Change, Entry, Mode, Update
from sharefs.cli._common.mail import Host, Who
from sharefs.cli._common.output import echo, format_options
from sharefs.errors import SharingError
from sharefs.identifiers import Identifier
from sharefs.identifiers import user as user_identifier
from sharefs.identity.model import UnknownUser
from sharefs.rights import NONE, Rights

COLUMNS = ("Owner", "Mailbox", "Was", "Now", "Detail")
_GONE = Change(Mode.CLEAR)

Sweep = Callable[[Account, str, Entry, Entry | None], list[Update]]


@click.command()
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@format_options
@click.argument("old")
@click.argument("new")
@click.pass_context
def rename(ctx: click.Context, yes: bool, form: str, old: str, new: str) -> None:
    """Let NEW have what everybody's ACLs grant to OLD, and put NEW's shares into the map.

    Rights that NEW had already stay: the two are joined.  Mail is not moved: rename the account
    and its home first, so that the user databases know NEW.

    \b
    Example:
      sharefs user rename carol caroline
      sharefs user rename --yes carol caroline

    \b
    Exit status: 0 done, or would be; 1 something was refused; 67 nobody is called NEW.
    """
    host = Host.of(ctx)
    target = user_identifier(host.users.lookup(new).acl_user)

    def updates(account: Account, name: str, entry: Entry, other: Entry | None) -> list[Update]:
        merged = Entry(target, entry.rights, entry.negative)
        if other is not None:
            merged = Entry(
                target,
                _joined(entry.rights, other.rights),
                _joined(entry.negative, other.negative),
            )
        return [_exactly(merged), Update(entry.identifier, _GONE, _GONE)]

    _sweep(host, old, target, updates, yes, form)


def _joined(one: Rights | None, other: Rights | None) -> Rights | None:
    return other if one is None else one | (other or NONE)


def _exactly(entry: Entry) -> Update:
    parts = (entry.rights, entry.negative)
    positive, negative = (
        _GONE if rights is None else Change(Mode.REPLACE, rights) for rights in parts
    )
    return Update(entry.identifier, positive, negative)


@click.command()
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@format_options
@click.argument("name")
@click.pass_context
def delete(ctx: click.Context, yes: bool, form: str, name: str) -> None:
    """Take out of everybody's ACLs, and out of the sharing map, what speaks of user NAME.

    NAME need not exist any more.  Mail is not deleted.

    \b
    Example:
      sharefs user delete carol
      sharefs user delete --yes carol

    \b
    Exit status: 0 done, or would be; 1 something was refused.
    """

    def updates(account: Account, mailbox: str, entry: Entry, other: Entry | None) -> list[Update]:
        return [Update(entry.identifier, _GONE, _GONE)]

    _sweep(Host.of(ctx), name, None, updates, yes, form)


def _sweep(
    host: Host, old: str, new: Identifier | None, updates: Sweep, yes: bool, form: str
) -> None:
    identifier = user_identifier(old)

    def action(account: Account) -> dict[str, Any]:
        records = []
        for name, acl in list(account.own_acls()):
            entry = acl.find(identifier)
            if entry is None:
                continue
            detail, other = "", None if new is None else acl.find(new)
            if yes:
                try:
                    for update in updates(account, name, entry, other):
                        warnings = account.change_acl(name, update, override=True, force=True)
                        detail = "; ".join(warnings.warnings)
                except SharingError as refusal:
                    detail = f"refused: {refusal.detail}"
            now = "" if new is None else new.file()
            record = {"Owner": account.user.name, "Mailbox": name, "Was": identifier.file()}
            records.append({**record, "Now": now, "Detail": detail})
        owners = sorted(account.map_owners()) if account.map_label() else []
        return {"records": records, "map": account.map_label(), "owners": owners}

    records: list[dict[str, Any]] = []
    maps: set[str] = set()
    for user, got in host.each(Who(None, True), action):
        records += got["records"]
        # The map is renewed once for each map; the account of a living user renews his own.
        if old in got["owners"] and got["map"] not in maps and user.name != old:
            maps.add(got["map"])
            records += _map_record(host, user.name, old, yes)
    if new is not None and yes:
        _renew(host, new.name)
    echo(COLUMNS, records, form)
    host.end()
    if any(str(record["Detail"]).startswith("refused") for record in records):
        sys.exit(1)


def _map_record(host: Host, by: str, old: str, yes: bool) -> list[dict[str, Any]]:
    """What to do about the map's entries of an owner who is no more."""
    record = {"Owner": old, "Mailbox": "(sharing map)", "Was": old, "Now": "", "Detail": ""}
    try:
        host.users.lookup(old)
    except UnknownUser:
        if yes:
            host.act(host.users.lookup(by), lambda account: account.forget_owner(old))
        return [record]
    detail = f"{old} still exists and shares: delete the account first, then do this again"
    return [{**record, "Now": old, "Detail": detail}]


def _renew(host: Host, name: str) -> None:
    """Put a renamed owner's own shares under the new name into the map."""

    def action(account: Account) -> None:
        if account.map_label():
            account.rebuild_map()

    host.act(host.users.lookup(name), action)
