"""`sharefs config`: check a configuration, show what is in force, in the manner of doveconf."""

import difflib
import json
from pathlib import Path
from typing import Any

import click

from sharefs.config import Config, Problem, Settings, Severity, examine, legacy, load
from sharefs.config.dump import Entry, entries_of, find, render
from sharefs.config.known import is_known
from sharefs.config.settings import SCHEMA
from sharefs.errors import Code, SharingError
from sharefs.identity.userdb import UserDatabase


@click.group()
def config() -> None:
    """Check the configuration and show what is in force.

    The language is Dovecot's, in the 2.4 form and in the 2.3 form.  The file is the one that
    `sharefs -c FILE` names, or $SHAREFS_CONFIG, or /etc/sharefs/sharefs.conf, or
    /etc/dovecot/dovecot.conf, whichever exists first.

    \b
    Examples:
      sharefs config check
      sharefs -c ./test.conf config check --strict
      sharefs config dump -n
      sharefs config dump -u bob
      sharefs config get mail_path namespace/shared/prefix
    """


def _source(ctx: click.Context) -> tuple[Path | None, tuple[str, ...]]:
    options = ctx.find_root().obj or {}
    path = options.get("config_path")
    return (Path(path) if path else None), tuple(options.get("overrides", ()))


def _loaded(ctx: click.Context) -> Config:
    path, overrides = _source(ctx)
    return load(path, overrides=overrides)


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON list.")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings and unimplemented settings too.")
@click.argument("file", metavar="[FILE]", required=False)
@click.pass_context
def check(ctx: click.Context, as_json: bool, strict: bool, file: str | None) -> None:
    """Read the configuration and print everything that is wrong with it.

    FILE: read this one instead, as with `sharefs -c FILE`.

    Each finding has its file and line, and says what to write instead.  There are three kinds:
    an `error` keeps the configuration from being used; a `warning` is something that the
    documentation of shared mailboxes warns of; `unimplemented` is a setting that Dovecot has and
    that has no effect here.

    Exit status: 0 if there is no error (with --strict, no finding at all), else 1.
    """
    path, overrides = _source(ctx)
    if file is not None:
        path = Path(file)
    found = examine(path, overrides=overrides)
    if as_json:
        click.echo(json.dumps([_finding(each) for each in found.problems], indent=1))
    else:
        for each in found.problems:
            click.echo(str(each))
        if not found.problems:
            click.echo(f"{found.path}: no problems")
    severities = {each.severity for each in found.problems}
    if Severity.ERROR in severities or (strict and severities):
        ctx.exit(1)


def _finding(problem: Problem) -> dict[str, Any]:
    return {
        "severity": str(problem.severity),
        "check": problem.check,
        "file": problem.place.file,
        "line": problem.place.line,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _settings(found: Config, protocol: str, user: str | None) -> Settings:
    """What is in force for protocol; with a user, that user's fields and paths."""
    if user is None:
        return found.settings(protocol=protocol)
    known = UserDatabase(found).lookup(user)
    return found.settings(protocol=protocol, fields=known.fields, variables=known.variables())


_protocol = click.option(
    "-p", "--protocol", default="imap", show_default=True, metavar="PROTOCOL",
    help="Apply the `protocol PROTOCOL { }` blocks of this protocol.",
)  # fmt: skip
_user = click.option(
    "-u", "--user", metavar="USER",
    help="Apply this user's userdb fields and fill in its name, home and ids.",
)  # fmt: skip


@config.command()
@click.option("-n", "--non-default", is_flag=True, help="Only what differs from the defaults.")
@click.option("-a", "--all", "everything", is_flag=True, help="Everything.  The default.")
@_protocol
@_user
@click.option("-P", "--show-passwords", is_flag=True, help="Do not hide passwords.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of settings.")
@click.pass_context
def dump(
    ctx: click.Context, non_default: bool, everything: bool, protocol: str, user: str | None,
    show_passwords: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print what is in force, and where each value came from.

    The output is itself a configuration in the 2.4 form, whatever form the file has, so that
    `sharefs config dump -n > new.conf` translates an old one.  Each line ends in a comment: the
    file and line, `default`, `override`, or `userdb field NAME`.
    """
    if non_default and everything:
        raise click.UsageError("-n and -a exclude each other", ctx)
    found = _loaded(ctx)
    entries = list(entries_of(_settings(found, protocol, user)))
    if non_default:
        entries = [each for each in entries if not each.is_default]
    if as_json:
        click.echo(json.dumps([_entry(each, show_passwords) for each in entries], indent=1))
        return
    click.echo(f"# {found.path}, protocol {protocol}" + (f", user {user}" if user else ""))
    click.echo(render(entries, secrets=show_passwords), nl=False)


def _entry(entry: Entry, secrets: bool) -> dict[str, Any]:
    hidden = entry.is_secret and not secrets
    return {
        "setting": entry.path,
        "value": None if hidden else entry.value,
        "origin": entry.origin,
    }


@config.command(context_settings={"help_option_names": ["--help"]})
@_protocol
@_user
@click.option("-h", "--hide-name", is_flag=True, help="Print only the value, as doveconf -h.")
@click.option("--origin", is_flag=True, help="Also print where the value came from.")
@click.argument("names", metavar="SETTING...", nargs=-1, required=True)
@click.pass_context
def get(
    ctx: click.Context, protocol: str, user: str | None, hide_name: bool, origin: bool,
    names: tuple[str, ...],
) -> None:  # fmt: skip
    """Print single settings.

    SETTING is a name, or the path to one: namespace/inbox/separator,
    service/imap-login/inet_listener/imap/port.  A path to a block prints the settings in it.

    Exit status: 0; 65 if there is no such setting.
    """
    settings = _settings(_loaded(ctx), protocol, user)
    for name in names:
        for entry in _found(settings, name):
            line = entry.value if hide_name else f"{entry.path} = {entry.value}".rstrip()
            click.echo(f"{line}  # {entry.origin}" if origin else line)


def _found(settings: Settings, name: str) -> list[Entry]:
    if name == "disable_plaintext_auth":  # 2.3's name for the opposite
        (entry,) = find(settings, "auth_allow_cleartext")
        return [Entry((), name, legacy.inverse(entry.value), entry.origin)]
    try:
        return find(settings, legacy.RENAMED.get(name, legacy.FILE_SETTINGS.get(name, name)))
    except KeyError:
        pass
    if is_known(name):
        raise SharingError(Code.INVALID, f"{name} is not implemented and has no effect")
    near = difflib.get_close_matches(name, SCHEMA, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SharingError(Code.INVALID, f"there is no setting {name}{hint}")
