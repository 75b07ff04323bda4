"""`sharefs apply`: carry out a plan, exactly as it was read and not otherwise."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sharefs import fsops
from sharefs.audit.words import counted
from sharefs.cli._common.output import printable
from sharefs.errors import Code, SharingError
from sharefs.repair import carry_out
from sharefs.repair.carry_out import Report
from sharefs.repair.change import Change, format_change
from sharefs.repair.journal import Journal, demand_trusted
from sharefs.repair.plan_file import fingerprint, parse_plan

JOURNAL_SUFFIX = ".journal"


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--journal", "journal_path", metavar="FILE",
              help="Where to keep the journal.  Default: PLAN.journal.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do it.  Without, nothing is changed.")
@click.option("--keep-going", is_flag=True, help="Leave out what is refused, and do the rest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def apply(plan: str, journal_path: str | None, yes: bool, keep_going: bool, as_json: bool) -> None:
    """Carry out the PLAN that `sharefs plan` wrote.  Without --yes: only look whether it fits.

    Every change names an inode and the value it expects there.  If anything is not as it was
    when the plan was made, nothing is done at all (or, with --keep-going, all but that).  No
    symbolic link is followed and no message is read or written.

    What is done is written to a journal first.  After a crash or a kill the same command goes on
    where it stopped, and `sharefs undo JOURNAL` takes everything back.

    \b
    Examples:
      sharefs apply /root/groups.plan
      sharefs apply --yes /root/groups.plan
      sharefs undo --yes /root/groups.plan.journal

    \b
    Exit status: 0 all done, or all would be; 1 something was refused; 2 usage; 65 no plan;
    75 the plan cannot be read, or the journal is in use; 77 somebody else could have written
    the plan.
    """
    octets = read_trusted(plan)
    parsed = parse_plan(octets, plan)
    where = Path(journal_path or plan + JOURNAL_SUFFIX)
    with environment(str(where)):
        if not yes:
            report = _check(parsed.changes, where, fingerprint(octets))
        else:
            report = _apply(parsed.changes, where, fingerprint(octets), keep_going=keep_going)
    verb = "done" if yes else "would be done"
    tell(report, verb, where, as_json=as_json, dry=not yes)
    if not yes and not as_json and not report.refused and report.done:
        click.echo(f"Nothing was changed yet.  To do it: sharefs apply --yes {plan}", err=True)
    if report.refused:
        sys.exit(1)


def _check(changes: tuple[Change, ...], where: Path, plan: str) -> Report:
    try:
        with Journal.open(where) as journal:
            _demand_plan(journal, plan)
            return carry_out.check(changes, journal.history.entries)
    except FileNotFoundError:
        return carry_out.check(changes)


def _apply(changes: tuple[Change, ...], where: Path, plan: str, *, keep_going: bool) -> Report:
    try:
        journal = Journal.open(where)
    except FileNotFoundError:
        if not keep_going:
            found = carry_out.check(changes)
            if found.refused:
                found.done = 0
                return found
        journal = Journal.create(where, plan)
    with journal:
        _demand_plan(journal, plan)
        return carry_out.apply(changes, journal, keep_going=keep_going)


def _demand_plan(journal: Journal, plan: str) -> None:
    if journal.history.plan != plan:
        raise SharingError(
            Code.CANNOT,
            f"{journal.path} is the journal of another plan, or the plan was edited since; name"
            " another one with --journal",
        )
    if journal.history.undoing:
        raise SharingError(
            Code.CANNOT,
            f"{journal.path} is being undone, or was; to apply the plan anew name another journal",
        )


def read_trusted(path: str) -> bytes:
    """A file that nobody else could have written.  Raises SharingError."""
    try:
        fd = fsops.open_file(path, follow=True)
    except OSError as error:
        raise SharingError(Code.UNAVAILABLE, f"{path}: {error.strerror}") from error
    with open(fd, "rb") as file:
        demand_trusted(fd, path)
        return file.read()


@contextlib.contextmanager
def environment(where: str) -> Iterator[None]:
    """What the environment refuses about a journal, as a refusal."""
    try:
        yield
    except OSError as error:
        raise SharingError(
            Code.UNAVAILABLE, f"{error.filename or where}: {error.strerror}"
        ) from error


def tell(report: Report, verb: str, journal: Path, *, as_json: bool, dry: bool) -> None:
    """What apply and undo print."""
    if as_json:
        refused = [
            {"change": json.loads(format_change(one.change)), "reason": one.reason}
            for one in report.refused
        ]
        fields = {
            "done": report.done,
            "already": report.already,
            "refused": refused,
            "dry_run": dry,
            "journal": os.path.abspath(journal),
        }
        click.echo(json.dumps(fields, indent=1))
        return
    for one in report.refused:
        click.echo(f"refused: {printable(one)}")
    already = f", {report.already} done before" if report.already else ""
    refusals = f", {len(report.refused)} refused" if report.refused else ""
    click.echo(f"{counted(report.done, 'change')} {verb}{already}{refusals}")
