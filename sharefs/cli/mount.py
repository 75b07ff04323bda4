"""sharefs mount: mount the view or a mirror, say what is mounted."""

import logging
import os
import sys
from pathlib import Path
from typing import Final

import click

from sharefs.config import load
from sharefs.errors import Code, SharingError

_UNTOUCHED: Final = Path  # not click.Path, which looks there: what is mounted may not answer


@click.command(short_help="Mount the mailboxes of everybody, or a mirror of one tree.")
@click.argument("mountpoint", type=_UNTOUCHED, required=False)
@click.option("-c", "--config", "config_path", metavar="FILE", help="Configuration file.")
@click.option("--mirror", "source", metavar="SOURCE", type=click.Path(path_type=Path),
              help="Show this directory as it is, under the creation rules only.")  # fmt: skip
@click.option("-o", "--options", "options", metavar="OPTION[,OPTION]", multiple=True,
              help="Mount options: ro, nodev, noexec, noatime, ...")  # fmt: skip
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path),
              help="Where viewers' own copies of control files lie."
              "  Default: /var/lib/sharefs/mount.")  # fmt: skip
@click.option("-F", "-f", "--foreground", is_flag=True, help="Stay; log to standard error.")
@click.option("--status", "action", flag_value="status", help="List what is mounted.")
@click.pass_context
def mount(
    ctx: click.Context,
    mountpoint: Path | None,
    config_path: str | None,
    source: Path | None,
    options: tuple[str, ...],
    state: Path | None,
    foreground: bool,
    action: str | None,
) -> None:
    """Mount the mailboxes of everybody under MOUNTPOINT, each user's own view of them.

    Every program that reads and writes Maildirs there is held to the ACLs, and what it makes gets
    the right mode and group.  With --mirror, SOURCE appears as it is and only new files are cared
    for.  Unmount with umount(8), or end the process.
    """
    try:
        from sharefs.mount import starting
    except ImportError as exc:
        raise SharingError(
            Code.UNAVAILABLE,
            f"mounting needs pyfuse3, which cannot be imported ({exc}); install libfuse3-dev,"
            " fuse3 and pkg-config, then `pip install 'sharefs[mount]'`",
        ) from exc
    if action == "status":
        for line in starting.status_lines(mountpoint):
            click.echo(line)
        return
    if mountpoint is None:
        raise click.UsageError("Missing argument 'MOUNTPOINT'.")
    words = [word for option in options for word in option.split(",") if word]
    request = starting.Request(
        mountpoint=Path(os.path.abspath(mountpoint)),
        source=Path(os.path.abspath(source)) if source is not None else None,
        options=frozenset(words),
        state=Path(os.path.abspath(state)) if state is not None else None,
    )
    config = None
    if source is None:
        given = config_path or ctx.obj["config_path"]
        path = Path(os.path.abspath(given)) if given else None
        config = load(path, overrides=tuple(ctx.obj["overrides"]))
    if foreground:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        starting.run(request, config)
    else:
        starting.run_in_background(request, config)


@click.command(name="mount.sharefs", add_help_option=False)
@click.argument("source")
@click.argument("mountpoint", type=_UNTOUCHED)
@click.option("-o", "options", multiple=True)
@click.option("-s", "-f", "-n", "-v", "_ignored", is_flag=True)  # mount(8) may pass them
@click.option("-t", "_kind")
@click.pass_context
def _helper(
    ctx: click.Context, source: str, mountpoint: Path, options: tuple[str, ...], _ignored: bool,
    _kind: str | None,
) -> None:  # fmt: skip
    """What mount(8) runs for a line of fstab(5): `view /mail sharefs defaults`, or a directory.

    config=FILE and state=DIR among the options are ours.
    """
    words = [word for option in options for word in option.split(",") if word]
    ours = dict(word.split("=", 1) for word in words if word.startswith(("config=", "state=")))
    rest = [word for word in words if not word.startswith(("config=", "state="))]
    state = ours.get("state")
    ctx.obj = {"config_path": None, "overrides": ()}
    ctx.invoke(
        mount,
        mountpoint=mountpoint,
        config_path=ours.get("config"),
        source=Path(source) if source.startswith("/") else None,
        options=tuple(rest),
        state=Path(state) if state else None,
        foreground=False,
        action=None,
    )


def mount_helper() -> None:
    """Entry point of mount.sharefs."""
    try:
        _helper.main(prog_name="mount.sharefs")
    except SharingError as refusal:
        click.echo(f"mount.sharefs: {refusal.detail}", err=True)
        sys.exit(32)  # mount(8): the mount failed
