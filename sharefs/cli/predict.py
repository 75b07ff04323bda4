"""`sharefs predict`: mode, group and their origin of what has not been made yet."""

import json

import click

from sharefs.audit.names import Names
from sharefs.audit.predict import Predicted, predict_mailbox, predict_path
from sharefs.audit.viewing import ViewerContext
from sharefs.cli._common.mail import Host
from sharefs.cli._common.output import printable
from sharefs.cli.explain import demand_sight


@click.command(short_help="Predict mode, owner and group of what USER would make.")
@click.option("--json", "as_json", is_flag=True, help="Print the prediction as one object.")
@click.option("--copy-from", metavar="MAILBOX", help="Whether copies from there are hard links.")
@click.option("--rename-to", metavar="MAILBOX", help="Whether the rename is refused.")
@click.argument("user")
@click.argument("target")
@click.pass_context
def predict(
    ctx: click.Context,
    as_json: bool,
    copy_from: str | None,
    rename_to: str | None,
    user: str,
    target: str,
) -> None:
    """Predict what USER would leave on disk in TARGET, without doing it.

    TARGET is a mailbox as USER names it, or a directory that begins with a slash.  For a mailbox
    that exists: its new messages and control files, and a new mailbox below it; for one that
    does not: the mailbox itself, with the mail root if that is missing too.  Printed are mode,
    owner and group, why this group and from where, and a change of group that the kernel would
    refuse.  Rights are not looked at: `sharefs explain` does that.

    Exit status: 0 it would work, 1 something would be refused, 2 usage; 64-78 as in sysexits.h.

    \b
    Examples:
      sharefs predict bob shared/alice/Work
      sharefs predict alice Projects/2027
      sharefs predict bob Archive --copy-from shared/alice/Work
      sharefs predict alice Work --rename-to Old/Work
    """
    if target.startswith("/") and (copy_from or rename_to):
        raise click.UsageError("--copy-from and --rename-to are for mailboxes", ctx)
    if copy_from is not None and rename_to is not None:
        raise click.UsageError("--copy-from and --rename-to exclude each other", ctx)
    host = Host.of(ctx)
    known = host.users.lookup(user)
    demand_sight(known)
    if target.startswith("/"):
        found = predict_path(known, target, Names())
    else:
        context = ViewerContext(host.config, known, host.users)
        found = predict_mailbox(context, target, Names(), copy_from=copy_from, rename_to=rename_to)
    if as_json:
        click.echo(json.dumps(found.data(), indent=1))
    else:
        _print(found)
    if not found.succeeds:
        ctx.exit(1)


def _print(found: Predicted) -> None:
    for one in found.made:
        if not one.made:
            click.echo(f"{printable(one.what)}: would not be made: {printable(one.why)}")
        else:
            click.echo(
                f"{printable(one.what)}: mode {one.mode:04o}, owner {one.owner}, group {one.group}"
                f" ({one.reason}: {printable(one.origin)})"
            )
            if one.why:
                click.echo(f"  its group cannot be given: {printable(one.why)}")
        if one.remedy:
            click.echo(f"  remedy: {printable(one.remedy)}")
    if found.decided is not None:
        click.echo(f"{found.decided.outcome}: {printable(found.decided.why)}")
