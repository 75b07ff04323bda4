"""The `sharefs` command: a table of command groups, loaded when they are asked for.

Exit statuses, stable: 0 done; 1 the answer is no (a check failed, a right is missing); 2 usage;
64-78 as in sysexits.h, through EXIT_STATUS.  Ctrl-C, and a reader of the output who went away, end
a command by their signals, so that neither looks like an answer.
"""

import importlib
import os
import signal
import sys
from typing import Final, NoReturn

import click

from sharefs import __version__, build
from sharefs.cli._common import streams
from sharefs.cli._common.output import printable
from sharefs.errors import Code, SharingError

# Command -> module:attribute.  Loading all of them would make every start slow.
COMMANDS: Final = {
    "acl": "sharefs.cli.acl:acl",
    "apply": "sharefs.cli.apply:apply",
    "audit": "sharefs.cli.audit:audit",
    "config": "sharefs.cli.config:config",
    "explain": "sharefs.cli.explain:explain",
    "index": "sharefs.cli.index:index",
    "mailbox": "sharefs.cli.mailbox:mailbox",
    "map": "sharefs.cli.map:map_",
    "mount": "sharefs.cli.mount:mount",
    "plan": "sharefs.cli.plan:plan",
    "predict": "sharefs.cli.predict:predict",
    "report": "sharefs.cli.report:report",
    "serve": "sharefs.cli.serve:serve",
    "share": "sharefs.cli.share:share",
    "undo": "sharefs.cli.undo:undo",
    "user": "sharefs.cli.user:user",
}

EXIT_STATUS: Final = {
    Code.NONEXISTENT: os.EX_NOUSER,  # 67; doveadm answers 68 for a missing mailbox, 67 for a user
    Code.ALREADY_EXISTS: os.EX_CANTCREAT,
    Code.NO_PERMISSION: os.EX_NOPERM,
    Code.CANNOT: os.EX_UNAVAILABLE,
    Code.INVALID: os.EX_DATAERR,
    Code.IN_USE: os.EX_TEMPFAIL,
    Code.LIMIT: os.EX_TEMPFAIL,
    Code.OVER_QUOTA: os.EX_CANTCREAT,
    Code.EXPUNGED: os.EX_UNAVAILABLE,
    Code.CORRUPT: os.EX_DATAERR,
    Code.UNAVAILABLE: os.EX_TEMPFAIL,
}


class _Ended(Exception):
    """Ctrl-C, or an OSError that nobody has explained.  Kept from click, for which both are 1, an
    answer."""

    def __init__(self, cause: OSError | KeyboardInterrupt) -> None:
        super().__init__(str(cause))
        self.cause = cause


class LazyGroup(click.Group):
    """Finds a command in COMMANDS and imports its module only then."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:  # fmt: skip
        try:
            return super().make_context(info_name, args, parent, **extra)
        except (OSError, KeyboardInterrupt) as cause:
            raise _Ended(cause) from cause

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (OSError, KeyboardInterrupt) as cause:
            raise _Ended(cause) from cause

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


def _say_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"sharefs, version {__version__} ({build.description()})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version,
              help="Print the version, and whether modules are compiled; then exit.")  # fmt: skip
@click.option(
    "-c", "--config", "config_path", metavar="FILE", envvar="SHAREFS_CONFIG",
    help="Configuration file.  Default: /etc/sharefs/sharefs.conf, then /etc/dovecot/dovecot.conf.",
)  # fmt: skip
@click.option("-o", "--override", "overrides", metavar="SETTING=VALUE", multiple=True,
              help="Override one setting, as in doveconf -o.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Share mailboxes between many Unix users, and see who may do what, and why."""
    ctx.obj = {"config_path": config_path, "overrides": overrides}


def main(argv: list[str] | None = None) -> None:
    """Entry point.  Refusals become one line on standard error and an exit status."""
    streams.prepare()
    try:
        cli.main(args=argv, prog_name="sharefs")
    except SharingError as refusal:
        # What was asked for may be in it: names may hold anything, terminals must not.
        lines = "\n".join(printable(line) for line in refusal.detail.split("\n"))
        click.echo(f"sharefs: {lines}", err=True)
        sys.exit(EXIT_STATUS[refusal.code])
    except _Ended as ended:
        if isinstance(ended.cause, KeyboardInterrupt):
            streams.die_of(signal.SIGINT)
        _explain(ended.cause)


def _explain(error: OSError) -> NoReturn:
    """What the environment refused, in a line.  Without a file to name it is our bug: raised."""
    if error.filename is None:
        raise error
    if error.filename == streams.OUTPUT:
        streams.leave_output()
        if isinstance(error, BrokenPipeError):  # as `| head` does
            streams.die_of(signal.SIGPIPE)
    click.echo(f"sharefs: {printable(os.fsdecode(error.filename))}: {error.strerror}", err=True)
    sys.exit(os.EX_TEMPFAIL)
