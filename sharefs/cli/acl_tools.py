"""`sharefs acl apply|lint|fmt|export|import`: many ACLs at once, and those of other servers."""

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from sharefs.account import Account
from sharefs.acl import Acl, Change, Mode, Update
from sharefs.cli._common.mail import USERNAME, Host, Who, unknown_option, user_options
from sharefs.cli._common.output import echo, format_options, printable
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Kind
from sharefs.identity.model import MailUser
from sharefs.sharing.acl_text import format_acl, parse_acl
from sharefs.sharing.files import Condition, acl_path, read_acl, rewrite_acl
from sharefs.sharing.foreign import Dialect, export_acl, import_acl
from sharefs.sharing.tidy import doubts, tidy

_CLEAR: Final = Change(Mode.CLEAR)
_HEADER: Final = "# mailbox "  # a comment in all three formats
DIALECT = click.Choice([dialect.value for dialect in Dialect])


# --- apply -------------------------------------------------------------------------------------


@click.command()
@user_options(everybody=False)
@click.option("--recursive", is_flag=True, help="All levels below; else only the next one.")
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@click.argument("mailbox")
@click.pass_context
def apply(
    ctx: click.Context, who: Who, recursive: bool, yes: bool, force: bool, mailbox: str
) -> None:
    """Give the mailboxes below MAILBOX the same ACL as MAILBOX has.

    A new mailbox gets a copy of its parent's ACL, once; this brings later changes down.  Without
    --yes the differences are printed and nothing is changed.

    \b
    Example:
      sharefs acl apply -u alice --recursive Work
      sharefs acl apply -u alice --recursive --yes Work

    \b
    Exit status: 0 done, or would be; 69 it would lock the owner out and --force is missing.
    """
    override = os.geteuid() == 0

    def action(account: Account) -> list[str]:
        top, *below = account.tree(mailbox)
        separator = account.separator_of(top)
        acl = account.stored_acl(top, override=override).local()
        lines: list[str] = []
        for name in below:
            if recursive or separator not in name[len(top) + len(separator) :]:
                lines += _replace(account, name, acl, yes=yes, override=override, force=force)
        return lines

    host = Host.of(ctx)
    for _, lines in host.each(who, action):
        for line in lines:
            click.echo(printable(line))
    host.end()


def _replace(
    account: Account, name: str, acl: Acl, *, yes: bool, override: bool, force: bool
) -> list[str]:
    """Make a mailbox's own entries exactly these.  Returns the differences, a line each."""
    old = account.stored_acl(name, override=override).local()
    lines = [f"{name}: {line}" for line in _differences(old, acl)]
    if yes:
        for update in _updates(old, acl):
            account.change_acl(name, update, override=override, force=force)
    return lines


def _differences(old: Acl, new: Acl) -> Iterator[str]:
    before, after = ([*_lines(acl)] for acl in (old, new))
    yield from (f"- {line}" for line in before if line not in after)
    yield from (f"+ {line}" for line in after if line not in before)


def _lines(acl: Acl) -> Iterator[str]:
    for entry in acl.entries:
        if entry.rights is not None:
            yield f"{entry.identifier.file()} {entry.rights.file()}"
        if entry.negative is not None:
            yield f"{entry.identifier.file(negative=True)} {entry.negative.file()}"


def _updates(old: Acl, new: Acl) -> Iterator[Update]:
    """What is given first, so that the admin right is never nobody's on the way."""
    for entry in new.entries:
        if old.find(entry.identifier) != entry:
            parts = (entry.rights, entry.negative)
            positive, negative = (
                _CLEAR if rights is None else Change(Mode.REPLACE, rights) for rights in parts
            )
            yield Update(entry.identifier, positive, negative)
    for entry in old.entries:
        if new.find(entry.identifier) is None:
            yield Update(entry.identifier, _CLEAR, _CLEAR)


# --- lint and fmt ------------------------------------------------------------------------------


def _own_files(account: Account, mailboxes: tuple[str, ...]) -> list[tuple[str, Path]]:
    """The user's own mailboxes and where their ACL files are or would be."""
    found = []
    names = mailboxes or [listed.name for listed in account.list("", ["*"])]
    for name in names:
        place = account.find(name)
        own = place is not None and place.namespace.type == "private" and place.levels
        if not own or (mailboxes and not account.exists(name)):
            if mailboxes:
                raise SharingError(Code.NONEXISTENT, f"Mailbox doesn't exist: {name}")
            continue
        directory = account.paths(name).get("acl")
        if directory is not None:
            found.append((name, acl_path(Path(directory))))
    return found


@click.command()
@user_options()
@format_options
@click.argument("mailboxes", metavar="[MAILBOX]...", nargs=-1)
@click.pass_context
def lint(ctx: click.Context, who: Who, form: str, mailboxes: tuple[str, ...]) -> None:
    """Look through ACL files for what is malformed, or hardly means what it says.

    \b
    Severities:
      error    the file cannot be read, so nobody but the owner gets in
      warning  an entry matches nobody: a TAB, an unknown user, a user without the domain
      note     legal and maybe meant so: everybody is named, or lookup is missing

    \b
    Examples:
      sharefs acl lint -u alice
      sharefs acl lint -A --json

    \b
    Exit status: 0 nothing, or only notes; 1 errors or warnings.
    """

    def action(account: Account) -> list[dict[str, Any]]:
        return [
            {"name": name, "path": str(path), "problem": _unreadable(path), "text": _text(path)}
            for name, path in _own_files(account, mailboxes)
        ]

    host = Host.of(ctx)
    known: dict[str, bool] = {}

    def exists(name: str) -> bool:
        if name not in known:
            try:
                known[name] = host.users.exists(name)
            except SharingError:
                known[name] = True  # a database that is away has not said that nobody is there
        return known[name]

    records: list[dict[str, Any]] = []
    for user, files in host.each(who, action):
        for file in files:
            for place, severity, text in _flaws(file, user.domain, exists):
                flaw = {"Mailbox": file["name"], "Place": place, "Severity": severity}
                records.append({USERNAME: user.name, **flaw, "Problem": text})
    columns = ("Mailbox", "Place", "Severity", "Problem")
    echo((USERNAME, *columns) if who.several else columns, records, form)
    host.end()
    if any(record["Severity"] != "note" for record in records):
        sys.exit(1)


def _flaws(
    file: dict[str, Any], domain: str, exists: Callable[[str], bool]
) -> Iterator[tuple[str, str, str]]:
    """(place, severity, text)."""
    if file["problem"]:
        yield file["path"], "error", file["problem"]
    if file["text"] is None:
        return
    parsed = parse_acl(file["text"].encode("utf-8", "surrogateescape"), file["path"])
    for flaw in parsed.problems:
        yield str(flaw.place), flaw.severity.value, flaw.text
    for doubt in doubts(parsed.acl, exists=exists, domain=domain):
        yield str(doubt.place or ""), "note" if doubt.note else "warning", doubt.text


def _unreadable(path: Path) -> str:
    """What is wrong with a file as a whole; "" if its lines can be looked at."""
    file = read_acl(path)
    whole = [problem for problem in file.problems if not problem.place.line]
    return whole[0].text if whole else ""


def _text(path: Path) -> str | None:
    octets = None if _unreadable(path) else _octets_of(path)
    return None if octets is None else octets.decode("utf-8", "surrogateescape")


@click.command()
@user_options()
@click.option("--yes", is_flag=True, help="Write it.  Without, only the differences are printed.")
@click.argument("mailboxes", metavar="[MAILBOX]...", nargs=-1)
@click.pass_context
def fmt(ctx: click.Context, who: Who, yes: bool, mailboxes: tuple[str, ...]) -> None:
    """Put ACL files in order: sorted, one entry a line, rights in the servers' order.

    A TAB or several spaces between identifier and rights are mended, which gives the entry the
    rights that it was meant to have: look at the differences first.  Comments go.  A file with a
    line that cannot be mended is left alone.

    \b
    Examples:
      sharefs acl fmt -u alice
      sharefs acl fmt -A --yes

    \b
    Exit status: 0 in order, or would be; 1 a file was left alone.
    """

    def action(account: Account) -> dict[str, Any]:
        out: list[str] = []
        left: list[str] = []
        changed = False
        for name, path in _own_files(account, mailboxes):
            octets = _octets_of(path)
            if octets is None:
                continue
            tidied = tidy(octets, str(path))
            left += map(str, tidied.left)
            if tidied.content == octets:
                continue
            old, new = (
                text.decode("utf-8", "backslashreplace").splitlines()
                for text in (octets, tidied.content)
            )
            out += difflib.unified_diff(old, new, str(path), str(path), lineterm="")
            if yes:
                creation = account.permissions(name)
                changed |= rewrite_acl(path, lambda now: tidy(now).content, creation)
        if changed and account.map_label():
            account.rebuild_map()
        return {"out": out, "left": left}

    host = Host.of(ctx)
    trouble = False
    for user, got in host.each(who, action):
        for line in got["out"]:
            click.echo(printable(line))
        for line in got["left"]:
            click.echo(f"sharefs({user.name}): {printable(line)}; left alone", err=True)
            trouble = True
    host.end()
    if trouble:
        sys.exit(1)


def _octets_of(path: Path) -> bytes | None:
    """None: there is no file.  One that cannot be read or is no file is what lint tells of."""
    if read_acl(path).condition in (Condition.MISSING, Condition.NO_ACCESS):
        return None
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


# --- export and import -------------------------------------------------------------------------


@click.command()
@user_options(everybody=False)
@click.option("--format", "dialect", type=DIALECT, default="dovecot", show_default=True,
              help="Whose rules.")  # fmt: skip
@click.argument("mailboxes", metavar="[MAILBOX]...", nargs=-1)
@click.pass_context
def export(ctx: click.Context, who: Who, dialect: str, mailboxes: tuple[str, ...]) -> None:
    """Print the ACLs of the user's own mailboxes in the rules of another server.

    Each begins with a line `# mailbox NAME`.  Cyrus and Courier add up what matches where Dovecot
    replaces, so entries are computed anew.  Every place where meaning cannot be kept is told on
    standard error; what cannot be said gives less there and not more, unless it is told.

    \b
    Examples:
      sharefs acl export -u alice > alice.acl
      sharefs acl export -u alice --format cyrus Work

    \b
    Exit status: 0 all means the same there; 1 something was lost.
    """
    host = Host.of(ctx)
    owner = next(iter(host.chosen(who)))

    def action(account: Account) -> list[list[str]]:
        acls = [
            (name, acl) for name, acl in account.own_acls() if not mailboxes or name in mailboxes
        ]
        return sorted([name, _written(acl)] for name, acl in acls)

    losses: list[str] = []
    for name, text in host.act(owner, action):
        acl = _read_back(text)
        got = export_acl(
            acl, Dialect(dialect), owner=owner.acl_user, groups_of=_groups_of(host, acl, owner)
        )
        click.echo(f"{_HEADER}{printable(name)}\n{got.text}", nl=False)
        losses += [f"{name}: {loss}" for loss in got.losses]
    _tell_losses(losses)


def _written(acl: Acl) -> str:
    """The mailbox's own entries, as they travel between processes."""
    return format_acl(acl.local()).decode("utf-8", "surrogateescape")


def _read_back(text: str) -> Acl:
    return parse_acl(text.encode("utf-8", "surrogateescape"), "").acl


def _groups_of(host: Host, acl: Acl, owner: MailUser) -> dict[str, frozenset[str]]:
    """Of everybody whom an ACL names and the user databases know."""
    found = {owner.acl_user: owner.acl_groups}
    for entry in acl.entries:
        if entry.identifier.kind is Kind.USER:
            with contextlib.suppress(SharingError):
                found[entry.identifier.name] = host.users.lookup(entry.identifier.name).acl_groups
    return found


def _nobody(host: Host, acl: Acl, owner: MailUser) -> list[str]:
    """Why entries that mean nobody are refused, an entry each."""
    refusals = []
    for entry in acl.entries:
        try:
            host.demand_somebody(entry.identifier, owner)
        except SharingError as refusal:
            refusals.append(refusal.detail)
    return refusals


def _tell_losses(losses: Iterable[str]) -> None:
    told = False
    for loss in losses:
        click.echo(f"sharefs: {printable(loss)}", err=True)
        told = True
    if told:
        sys.exit(1)


@click.command("import")
@user_options(everybody=False)
@click.option("--format", "dialect", type=DIALECT, default="dovecot", show_default=True,
              help="Whose rules the file is in.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@click.option("--force", is_flag=True, help="Even if it locks the last administrator out.")
@unknown_option
@click.argument("file", type=click.File("rb"))
@click.pass_context
def import_(
    ctx: click.Context, who: Who, dialect: str, yes: bool, force: bool, allow_unknown: bool,
    file: BinaryIO,
) -> None:  # fmt: skip
    """Replace ACLs of the user's own mailboxes by those in FILE (- for standard input).

    Each ACL begins with a line `# mailbox NAME`.  Courier: the lines of `maildiracl -list`.
    Cyrus: identifier and rights, as `cyradm listacl` prints them.  Without --yes the differences
    are printed.  Every place where meaning cannot be kept is told on standard error.  A mailbox
    whose ACL names users that no database knows keeps the one it has.

    \b
    Examples:
      sharefs acl import -u alice alice.acl
      sharefs acl import -u alice --format courier --yes courier.acl

    \b
    Exit status: 0 all means the same here; 1 something was lost, or a mailbox was left alone;
    65 the file is malformed, and nothing was done.
    """
    host = Host.of(ctx)
    owner = next(iter(host.chosen(who)))
    override = os.geteuid() == 0
    losses: list[str] = []
    acls: list[tuple[str, str]] = []
    for name, line, octets in _blocks(file.read(), file.name):
        padded = b"\n" * line + octets  # so that places are those of the file
        first = import_acl(padded, Dialect(dialect), owner=owner.acl_user, file=file.name)
        got = import_acl(
            padded, Dialect(dialect), owner=owner.acl_user, file=file.name,
            groups_of=_groups_of(host, first.acl, owner),
        )  # fmt: skip
        losses += [f"{name}: {loss}" for loss in got.losses]
        nobody = [] if allow_unknown else _nobody(host, got.acl, owner)
        losses += [f"{name}: {refusal}" for refusal in nobody]
        if not nobody:
            acls.append((name, _written(got.acl)))

    def action(account: Account) -> dict[str, Any]:
        lines: list[str] = []
        missing: list[str] = []
        for name, text in acls:
            try:
                acl = _read_back(text)
                lines += _replace(account, name, acl, yes=yes, override=override, force=force)
            except SharingError as refusal:
                missing.append(refusal.detail)
        return {"lines": lines, "missing": missing}

    done = host.act(owner, action)
    for text in done["lines"]:
        click.echo(printable(text))
    _tell_losses([*losses, *done["missing"]])


def _blocks(octets: bytes, file: str) -> Iterator[tuple[str, int, bytes]]:
    """(mailbox, lines before its first, its lines).  Raises SharingError(INVALID)."""
    name, start, lines = "", 0, list[bytes]()
    for number, line in enumerate(octets.split(b"\n"), 1):
        if line.startswith(_HEADER.encode()):
            if name:
                yield name, start, b"\n".join(lines)
            name = line.removeprefix(_HEADER.encode()).decode("utf-8", "surrogateescape").strip()
            start, lines = number, []
        elif name:
            lines.append(line)
        elif line.strip() and not line.startswith(b"#"):
            raise SharingError(
                Code.INVALID, f"{file}:{number}: an ACL begins with a line `{_HEADER}NAME`"
            )
    if name:
        yield name, start, b"\n".join(lines)
