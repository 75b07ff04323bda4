"""`sharefs report`: who can read what, as one HTML file or as text."""

import os
import socket
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from sharefs import fsops
from sharefs.audit.audit import Audit, Progress
from sharefs.audit.facts import RootFacts
from sharefs.audit.report.collect import Collector
from sharefs.audit.report.data import FORMATS, data_lines
from sharefs.audit.report.html import render
from sharefs.audit.report.matrix import Matrix
from sharefs.audit.report.model import ReportModel, headline, summary_of
from sharefs.audit.report.terminal import matrix_lines, report_lines
from sharefs.config import examine
from sharefs.errors import Code, SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.userdb import UserDatabase
from sharefs.permissions.inherit import DEFAULTS

COULD_NOT_RUN = 2
STDOUT = "-"


@click.command(short_help="Show who can read what, and where ACL and kernel differ.")
@click.option("--output", "-o", metavar="FILE",
              help="Write an HTML report there; - is standard output.")  # fmt: skip
@click.option("--matrix", "table", is_flag=True,
              help="Print a table of mailboxes by users instead of the findings.")  # fmt: skip
@click.option("--format", "-f", "form", type=click.Choice(FORMATS), default="text",
              show_default=True, help="With --matrix: how to print it.")  # fmt: skip
@click.option("--user", "-u", "users", metavar="USER", multiple=True,
              help="Look only at this user's mailboxes.  May be repeated.")  # fmt: skip
@click.option("--viewer", "viewers", metavar="USER", multiple=True,
              help="With --matrix: a column of the table.  May be repeated.")  # fmt: skip
@click.option("--namespace", "namespaces", metavar="NAME", multiple=True,
              help="Look only at this namespace of the configuration.")  # fmt: skip
@click.option("--jobs", "-j", type=click.IntRange(1, 64), default=min(os.cpu_count() or 1, 8),
              show_default=True, help="How many processes look at mail.")  # fmt: skip
@click.pass_context
def report(
    ctx: click.Context,
    output: str | None,
    table: bool,
    form: str,
    jobs: int,
    users: tuple[str, ...],
    viewers: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> None:
    """Show who can read what, and where the ACL and the kernel disagree.  Changes nothing.

    Looks at the same as `sharefs audit`.  The HTML report is one file that needs no network and
    works from disk, on paper and on a phone; only its owner may read it, for it names what others
    may not even list.  Without -o the report is text.

    With --matrix, JSON and CSV have a record for each user and mailbox that are not strangers to
    each other: what the ACL grants, what of it works, what the kernel refuses, what leaks, and why.

    Exit status: 0 the report was made, 2 it could not be.

    \b
    Examples:
      sharefs report -o report.html
      sharefs report --matrix --user alice --viewer bob --viewer carol
      sharefs report --matrix --format csv > who-reads-what.csv
    """
    if form != "text" and (not table or output is not None):
        raise click.UsageError("--format goes with --matrix, and not with --output", ctx)
    options = ctx.find_root().obj or {}
    path = options.get("config_path")
    try:
        if output is not None and output != STDOUT:
            _demand_replaceable(output)
        model = _model(path, options.get("overrides", ()), users, namespaces, jobs)
        if output is not None and output != STDOUT:
            _write(output, render(model))
    except SharingError as refusal:
        click.echo(f"sharefs: the report could not be made: {refusal.detail}", err=True)
        ctx.exit(COULD_NOT_RUN)
    except OSError as error:
        what = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        click.echo(f"sharefs: the report could not be made: {what}{error.strerror}", err=True)
        ctx.exit(COULD_NOT_RUN)
    if output == STDOUT:
        click.echo(render(model).encode("utf-8"), nl=False)
    if output not in (None, STDOUT):
        click.echo(f"{headline(summary_of(model))}.  Open {output} in a browser.")
    elif output is None and form != "text":
        for line in data_lines(model.matrix, form, _columns(ctx, model.matrix, viewers)):
            click.echo(line, nl=False)
    elif output is None and table:
        for line in matrix_lines(model.matrix, users=_columns(ctx, model.matrix, viewers)):
            click.echo(line)
    elif output is None:
        for line in report_lines(model):
            click.echo(line)


def _model(
    path: str | None,
    overrides: tuple[str, ...],
    users: tuple[str, ...],
    names: tuple[str, ...],
    jobs: int,
) -> ReportModel:
    """Run the audit and keep what a report shows.  Raises SharingError, OSError."""
    began = time.monotonic()
    config = examine(Path(path) if path else None, overrides=overrides)
    run = Audit(config, UserDatabase(identity_settings(config)), users, frozenset(names))
    collector: Collector | None = None

    def observe(root: RootFacts) -> None:
        nonlocal collector
        if collector is None:  # who is compared is known from the first root on
            collector = Collector(run.people)
        collector.root(root)

    run.observe = observe
    run.progress = _tell if sys.stderr.isatty() else None
    run.jobs = jobs
    findings = list(run.run())
    return (collector or Collector(run.people)).build(
        findings,
        host=socket.getfqdn(),
        made=datetime.now(UTC),
        config=str(config.path or ""),
        seconds=time.monotonic() - began,
    )


def _tell(done: Progress) -> None:
    """How far it is, on one line of a terminal."""
    end = "\n" if done.owners == done.of else ""
    click.echo(f"\r{done.owners}/{done.of} users, {done.entries} entries{end}", err=True, nl=False)


def _demand_replaceable(output: str) -> None:
    """Raises SharingError for what is there and no regular file: with /dev/null, say, replaced by
    a report nothing on the host would work.  OSError if it cannot be looked at."""
    try:
        mode = os.lstat(output).st_mode
    except FileNotFoundError:
        os.stat(os.path.dirname(output) or ".")
        return
    if not stat.S_ISREG(mode):
        raise SharingError(
            Code.CANNOT,
            f"{output} is no regular file, and is not replaced; for standard output write"
            f" -o {STDOUT}",
        )


def _write(output: str, text: str) -> None:
    try:
        fsops.replace_file(output, text.encode("utf-8"), DEFAULTS)
    except OSError as error:  # of a temporary file beside it
        raise OSError(error.errno, error.strerror, output) from error


def _columns(ctx: click.Context, matrix: Matrix, viewers: tuple[str, ...]) -> list[int] | None:
    if not viewers:
        return None
    numbers = {user.name: number for number, user in enumerate(matrix.users)}
    for viewer in viewers:
        if viewer not in numbers:
            click.echo(f"sharefs: no user {viewer}", err=True)
            ctx.exit(COULD_NOT_RUN)
    return [numbers[viewer] for viewer in viewers]
