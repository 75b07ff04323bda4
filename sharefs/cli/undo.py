"""`sharefs undo`: take back what `sharefs apply` did."""

import sys
from pathlib import Path

import click

from sharefs.cli.apply import environment, tell
from sharefs.errors import Code, SharingError
from sharefs.repair import carry_out
from sharefs.repair.journal import Journal


@click.command(short_help="Take back what `sharefs apply` did.")
@click.argument("journal", metavar="JOURNAL")
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@click.option("--keep-going", is_flag=True, help="Leave out what is refused, and do the rest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def undo(journal: str, yes: bool, keep_going: bool, as_json: bool) -> None:
    """Take back, last change first, what `sharefs apply` did and wrote to JOURNAL.

    Modes, owners, groups, POSIX ACLs, ACL files and links become what they were.  What somebody
    else has changed since is left alone and told.  May be interrupted and called again.

    \b
    Examples:
      sharefs undo /root/groups.plan.journal
      sharefs undo --yes /root/groups.plan.journal

    \b
    Exit status: 0 all taken back, or would be; 1 something was refused; 2 usage; 65 no journal;
    75 the journal is in use or not there; 77 somebody else could have written it.
    """
    path = Path(journal)
    with environment(journal):
        try:
            opened = Journal.open(path)
        except FileNotFoundError:
            raise SharingError(
                Code.UNAVAILABLE, f"{journal} is not there, or nothing was done under it"
            ) from None
        with opened:
            if yes:
                report = carry_out.undo(opened, keep_going=keep_going)
            else:
                report = carry_out.check_undo(opened)
    verb = "taken back" if yes else "would be taken back"
    tell(report, verb, path, as_json=as_json, dry=not yes)
    if report.refused:
        sys.exit(1)
