"""`sharefs audit`: everything about permissions and sharing that is wrong on this host."""

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sharefs.audit.audit import Audit
from sharefs.audit.audit import Progress as Done
from sharefs.audit.findings import Finding, Severity
from sharefs.audit.output import FORMATS, render
from sharefs.audit.probing import probe
from sharefs.audit.resuming import ResumeFile, fingerprint
from sharefs.config import examine
from sharefs.errors import SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.userdb import UserDatabase

COULD_NOT_RUN = 2
NEVER = "never"
GARBAGE = 50_000  # objects that are made between two looks for garbage


@click.command()
@click.option("--user", "-u", "users", metavar="USER", multiple=True,
              help="Audit only this user's mailboxes.  May be repeated.")  # fmt: skip
@click.option("--namespace", "namespaces", metavar="NAME", multiple=True,
              help="Audit only this namespace of the configuration.  May be repeated.")  # fmt: skip
@click.option("--json", "form", flag_value="json", help="Same as --format json.")
@click.option("--format", "-f", "form", type=click.Choice(FORMATS), default="text",
              show_default=True, help="How to print the findings.")  # fmt: skip
@click.option("--fail-on", type=click.Choice([each.word for each in Severity] + [NEVER]),
              default=Severity.WARNING.word, show_default=True,
              help="The least severity that makes the exit status 1.")  # fmt: skip
@click.option("--jobs", "-j", type=click.IntRange(1, 64), default=min(os.cpu_count() or 1, 8),
              show_default=True, help="How many processes look at mail.")  # fmt: skip
@click.option("--probe", "probed", metavar="DIR", type=click.Path(path_type=Path), multiple=True,
              help="Also try what the file system of DIR does, in a temporary directory there that"
              " is removed again.  May be repeated.")  # fmt: skip
@click.option("--resume", "resume", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Remember in FILE which users are done; go on there after an audit that was cut"
              " short.  FILE is removed at the end.")  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@click.pass_context
def audit(
    ctx: click.Context,
    users: tuple[str, ...],
    namespaces: tuple[str, ...],
    form: str,
    fail_on: str,
    jobs: int,
    probed: tuple[Path, ...],
    resume: Path | None,
    quiet: bool,
) -> None:
    """Look for everything that is wrong with permissions and sharing.  Changes nothing.

    Reads the configuration, all users that the user databases list, and every mailbox, in one
    pass and never through symbolic links; then compares what the ACLs grant with what the kernel
    allows, the ACLs with list caches and sharing map, and every file with the rule that it should
    have been made by.  Works on hosts that run Dovecot: it reads /etc/dovecot/dovecot.conf too.
    Run it as root; who is not sees his own mail only.

    Each finding has a stable id (docs/audit.md), a severity, evidence, and a remedy.

    Exit status: 0 nothing at or above --fail-on, 1 findings, 2 it could not run.

    \b
    Examples:
      sharefs audit
      sharefs audit --user alice --fail-on notice
      sharefs audit --format sarif > audit.sarif
      sharefs audit --resume /var/lib/sharefs-audit/going
      sharefs audit --format prometheus > /var/lib/node_exporter/sharefs.prom
    """
    options = ctx.find_root().obj or {}
    path = options.get("config_path")
    # Objects of an audit live for one user's mail and have no cycles: looking for some is rarely
    # worth the time.
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    try:
        config = examine(Path(path) if path else None, overrides=options.get("overrides", ()))
        database = UserDatabase(identity_settings(config))
        with contextlib.ExitStack() as stack:
            going = None
            if resume is not None:
                mark = fingerprint(config, users, namespaces)
                going = stack.enter_context(ResumeFile.open(resume, mark))
                if going.afresh:
                    click.echo(f"sharefs: {resume} is begun afresh: {going.afresh}", err=True)
            report = stack.enter_context(_progress(quiet=quiet))
            run = Audit(
                config, database, users, frozenset(namespaces), progress=report, jobs=jobs,
                resume=going, probes=[probe(directory) for directory in probed],
            )  # fmt: skip
            findings = list(run.run())
            if going is not None:
                going.finish()
    except SharingError as refusal:
        click.echo(f"sharefs: the audit could not run: {refusal.detail}", err=True)
        ctx.exit(COULD_NOT_RUN)
    except OSError as error:
        click.echo(f"sharefs: the audit could not run: {error}", err=True)
        ctx.exit(COULD_NOT_RUN)
    counts = {"users": run.users, "mailboxes": run.mailboxes, "entries": run.entries}
    click.echo(render(findings, form, counts), nl=False)
    if _fails(findings, fail_on):
        ctx.exit(1)


def _fails(findings: list[Finding], fail_on: str) -> bool:
    if fail_on == NEVER:
        return False
    least = next(each for each in Severity if each.word == fail_on)
    return any(finding.severity <= least for finding in findings)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Done], None] | None]:
    """A bar on standard error, if somebody watches it: users, entries, rate and time left."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("users"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[entries]:,} entries, {task.fields[rate]:,}/s"),
        TimeRemainingColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("audit", total=None, entries=0, rate=0)
        began = time.monotonic()

        def report(done: Done) -> None:
            rate = round(done.entries / max(time.monotonic() - began, 0.001))
            bar.update(task, total=done.of, completed=done.owners, entries=done.entries, rate=rate)

        yield report
