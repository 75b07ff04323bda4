"""The `sharefs` command: a table of command groups, loaded when they are asked for.

Exit statuses, stable: 0 done; 1 the answer is no (a check failed, a right is missing); 2 usage;
64-78 as in sysexits.h, through EXIT_STATUS.
"""

import importlib
import os
import sys
from typing import Final

import click

from sharefs import __version__, build
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


class LazyGroup(click.Group):
    """Finds a command in COMMANDS and imports its module only then."""

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
    try:
        cli.main(args=argv, prog_name="sharefs")
    except SharingError as refusal:
        click.echo(f"sharefs: {refusal.detail}", err=True)
        sys.exit(EXIT_STATUS[refusal.code])
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does: nothing to say, nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
