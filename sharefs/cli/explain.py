"""`sharefs explain`: may this user do this to that mailbox or path, and what decides it?"""

import json
import os
import sys

import click

from sharefs.audit.explain import Asked, explain_mailbox, explain_path, people_of
from sharefs.audit.layers import Explained, Verdict
from sharefs.audit.names import Names
from sharefs.audit.operations import Operation
from sharefs.audit.viewing import ViewerContext
from sharefs.cli._common.acting import lacking
from sharefs.cli._common.mail import Host
from sharefs.cli._common.output import printable
from sharefs.errors import Code, SharingError
from sharefs.identity.model import MailUser

MARKS = {Verdict.YES: "✓", Verdict.NO: "✗", Verdict.NOTE: "·"}
PLAIN_MARKS = {Verdict.YES: "+", Verdict.NO: "-", Verdict.NOTE: " "}
OPERATIONS = [str(operation) for operation in Operation]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as one object.")
@click.option("--quiet", "-q", is_flag=True, help="Only what denies, and what would change it.")
@click.argument("user")
@click.argument("target")
@click.argument("operation", type=click.Choice(OPERATIONS), default="read")
@click.argument("other", required=False)
@click.pass_context
def explain(
    ctx: click.Context,
    as_json: bool,
    quiet: bool,
    user: str,
    target: str,
    operation: str,
    other: str | None,
) -> None:
    """Explain whether USER may do OPERATION to TARGET, layer by layer.

    TARGET is a mailbox as USER names it, or a path that begins with a slash; for a path only
    the kernel is asked.  OPERATION is `read` if none is given; copy-from and rename-to take
    the OTHER mailbox or path as well.  Nothing is changed.

    Every layer is one line: ✓ allows, ✗ denies, · is worth knowing.  Then follow the first
    thing that denies, and the smallest changes that would allow it, with what else each opens.

    Who is not root can ask about himself; what his mail processes may see and his shell may not
    is then out of sight, and instead of 1 the status is 77.

    Exit status: 0 allowed, 1 denied, 2 usage; 64-78 as in sysexits.h.

    \b
    Examples:
      sharefs explain bob shared/alice/Work
      sharefs explain bob shared/alice/Work insert
      sharefs explain bob Archive copy-from shared/alice/Work
      sharefs explain bob /home/alice/Maildir/.Work/cur list
    """
    asked = asked_of(ctx, operation, target, other)
    host = Host.of(ctx)
    known = host.users.lookup(user)
    demand_sight(known)
    names, everybody = Names(), people_of(_everybody(host, known))
    if target.startswith("/"):
        found = explain_path(known, asked, names=names, people=everybody)
    else:
        context = ViewerContext(host.config, known, host.users)
        found = explain_mailbox(context, asked, names=names, people=everybody)
    if as_json:
        click.echo(json.dumps(found.data(), indent=1))
    else:
        _print(found, quiet=quiet)
    if not found.allowed:
        lacks = "" if os.geteuid() == 0 else lacking(known, {os.getegid(), *os.getgroups()})
        if lacks:
            raise SharingError(Code.NO_PERMISSION, f'this "no" need not be true: {lacks}')
        ctx.exit(1)


def asked_of(ctx: click.Context, operation: str, target: str, other: str | None) -> Asked:
    """Raises click.UsageError if operation and OTHER do not go together."""
    wanted = Operation(operation)
    if wanted.takes_other != (other is not None):
        need = "needs" if wanted.takes_other else "takes no"
        raise click.UsageError(f"{operation} {need} second mailbox or path", ctx)
    if other is not None and other.startswith("/") != target.startswith("/"):
        raise click.UsageError("TARGET and OTHER must both be mailboxes, or both be paths", ctx)
    return Asked(wanted, target, other or "")


def demand_sight(user: MailUser) -> None:
    """Only the superuser sees what others' processes meet."""
    if os.geteuid() not in (0, user.uid):
        raise SharingError(
            Code.NO_PERMISSION,
            f"only root can look into the files of {user.name} (uid {user.uid}); you are uid"
            f" {os.geteuid()}.  Run this with sudo",
        )


def _everybody(host: Host, known: MailUser) -> list[MailUser]:
    """All users that can be listed, to say whom a change would concern."""
    found = [known]
    for name in host.users.iterate():
        try:
            found.append(host.users.lookup(name))
        except SharingError:
            continue  # `sharefs audit` says what is wrong with the entry
    return found


def _print(found: Explained, *, quiet: bool) -> None:
    marks = MARKS if _can_print("✓✗·") else PLAIN_MARKS
    may = "may" if found.allowed else "may not"
    click.echo(
        f"{printable(found.user)} {may} {printable(found.operation)}: {printable(found.target)}"
    )
    if not quiet:
        for layer in found.layers:
            place = f"{printable(layer.place)}: " if layer.place else ""
            mark = marks[layer.verdict]
            click.echo(f"  {mark} {layer.kind!s:<10} {place}{printable(layer.text)}")
    denied = found.denied
    if denied is None:
        return
    place = f"{printable(denied.place)}: " if denied.place else ""
    click.echo(f"First denied by: {denied.kind}: {place}{printable(denied.text)}")
    if found.changes:
        click.echo(
            "What would allow it:" if found.complete else "What would help, though not suffice:"
        )
    for number, change in enumerate(found.changes, 1):
        click.echo(f"  {number}. {printable(change.command)}")
        for text in change.opens:
            click.echo(f"     opens: {printable(text)}")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
