"""`sharefs user`: who somebody is to the mail system, and where each part of it was written."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from sharefs.cli._common.output import printable
from sharefs.config import load
from sharefs.errors import Code, SharingError
from sharefs.identity.model import MailUser, Verified
from sharefs.identity.passdb import AuthFailed, PasswordDatabase
from sharefs.identity.userdb import UserDatabase


class _Users(click.Group):
    """`user NAME` shows somebody; a word that is a subcommand is that."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["delete", "rename", "show"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in ("delete", "rename"):
            module = importlib.import_module("sharefs.cli.user_sweep")
            command = getattr(module, cmd_name)
            assert isinstance(command, click.Command)
            return command
        return show if cmd_name == "show" else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in ("delete", "rename", "show", "-h", "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(
    name="user", cls=_Users,
    short_help="Show users: ids, home, groups and where each came from; sweep grants.",
)  # fmt: skip
def user() -> None:
    """Show users, and sweep the ACLs of others when one is renamed or deleted.

    \b
    Examples:
      sharefs user alice
      sharefs user 'a*' --json
      sharefs user rename carol caroline
      sharefs user delete carol --yes
    """


@click.command(name="show", short_help="Show users: ids, home, groups; `sharefs user NAME`.")
@click.argument("names", metavar="USER...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each user and line.")
@click.option(
    "--check-password", is_flag=True,
    help="Ask for USER's password, or read it from standard input, and say whether it lets in.",
)  # fmt: skip
@click.option(
    "--remote", default="", metavar="ADDRESS",
    help="With --check-password: the client's address, for allow_nets.  Default: a local login.",
)  # fmt: skip
@click.pass_context
def show(
    ctx: click.Context,
    names: tuple[str, ...],
    as_json: bool,
    check_password: bool,
    remote: str,
) -> None:
    """Show who USER is to the mail system: uid, gid, home, ACL names, extra fields, and every
    group of the mail process with where it came from.

    A USER with * or ? in it is a pattern: the users that match are listed by name.

    \b
    Exit status: 0 found; 1 the password is wrong; 67 no such user; 75 a database is away.
    """
    if check_password and len(names) != 1:
        raise click.UsageError("--check-password takes one USER")
    # Nothing of mailboxes is loaded: this command must answer when they are the trouble.
    path = ctx.obj["config_path"]
    config = load(Path(path) if path else None, overrides=ctx.obj["overrides"])
    users = UserDatabase(config)
    if check_password:
        _check(PasswordDatabase(config), users, names[0], remote, as_json)
        return
    for number, name in enumerate(names):
        if number and not as_json:
            click.echo()
        if "*" in name or "?" in name:
            _list(users, name, as_json)
        else:
            _show(users.lookup(name), as_json)


def _list(users: UserDatabase, pattern: str, as_json: bool) -> None:
    """Every listable name that matches.  What cannot be listed is said, once, for people."""
    found = False
    for name in users.matching(pattern):
        found = True
        click.echo(json.dumps({"user": name}) if as_json else printable(name))
    for database in users.unlisted:
        click.echo(f"sharefs: {database.label} cannot list its users", err=True)
    if not found:
        raise SharingError(Code.NONEXISTENT, f"no user matches {pattern!r}")


def _check(
    passwords: PasswordDatabase, users: UserDatabase, login: str, remote: str, as_json: bool
) -> None:
    # Never an argument: everybody on the host can read a process's arguments.
    if sys.stdin.isatty():
        password = click.prompt(f"Password of {login}", hide_input=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        verified = passwords.verify(login, password, remote=remote)
    except AuthFailed as refusal:
        click.echo(f"sharefs: {printable(refusal.detail)}", err=True)
        raise SystemExit(1) from refusal
    _show(users.lookup(verified.user, login=verified), as_json, verified)


def _show(user: MailUser, as_json: bool, verified: Verified | None = None) -> None:
    facts = describe(user)
    if verified is not None:
        facts["verified"] = True
    if as_json:
        click.echo(json.dumps(facts))
        return
    rows = [("user", user.name, "")]
    if user.master:
        rows.append(("master", user.master, ""))
    rows += [
        ("uid", str(user.uid), user.origins.get("uid", "")),
        ("gid", str(user.gid), user.origins.get("gid", "")),
        ("home", "(none)" if user.home is None else str(user.home), user.origins.get("home", "")),
        ("acl user", user.acl_user, ""),
    ]
    rows += [("acl group", name, "") for name in sorted(user.acl_groups)]
    rows += [("group", str(group), group.origin) for group in user.groups]
    rows += [("field", f"{key}={value}", "") for key, value in sorted(user.fields.items())]
    width = max(len(value) for _, value, origin in rows if origin)
    for key, value, origin in rows:
        tail = f"  {'':{max(0, width - len(value))}}{origin}" if origin else ""
        click.echo(f"{key:<10}{printable(value)}{printable(tail)}")
    if verified is not None:
        click.echo("password  right")


def describe(user: MailUser) -> dict[str, Any]:
    """The user as JSON shows it.  Keys are stable."""
    return {
        "user": user.name,
        "master": user.master,
        "uid": user.uid,
        "gid": user.gid,
        "home": None if user.home is None else str(user.home),
        "acl_user": user.acl_user,
        "acl_groups": sorted(user.acl_groups),
        "groups": [
            {"gid": group.gid, "name": group.name or None, "origin": group.origin}
            for group in user.groups
        ],
        "fields": dict(user.fields),
        "origins": dict(user.origins),
    }
