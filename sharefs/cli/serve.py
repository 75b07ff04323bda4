"""sharefs serve: start, stop and reload the server."""

import contextlib
import errno
import fcntl
import importlib
import os
import signal
import time
from pathlib import Path
from types import ModuleType
from typing import Final

import click

from sharefs.config import load
from sharefs.errors import Code, SharingError

_START_PATIENCE: Final = 60.0  # seconds for a server in the background to become ready
_STOP_PATIENCE: Final = 10.0  # seconds for a server to end; it kills what is left after three


@click.command()
@click.option("-c", "--config", "config_path", metavar="FILE", help="Configuration file.")
@click.option("-F", "--foreground", is_flag=True, help="Stay; log to standard error.")
@click.option("--stop", "action", flag_value="stop", help="End the running server.")
@click.option("--reload", "action", flag_value="reload",
              help="Let the running server read its configuration anew.")  # fmt: skip
@click.pass_context
def serve(
    ctx: click.Context, config_path: str | None, foreground: bool, action: str | None
) -> None:
    """Run the IMAP server.

    As root, every user's mail is served under the user's own uid and groups.  As any other user it
    serves that user alone.  Without --foreground it returns when the server is ready.
    """
    given = config_path or ctx.obj["config_path"]
    path = Path(os.path.abspath(given)) if given else None  # in the background we leave this place
    overrides = tuple(ctx.obj["overrides"])
    # By name, and only here: sharefs does not depend on imap.
    run: ModuleType = importlib.import_module("imap.service.run")
    if action == "stop":
        _stop(run.pid_path(path, overrides))
    elif action == "reload":
        _reload(run.pid_path(path, overrides), path, overrides)
    elif foreground:
        ctx.exit(run.serve(path, overrides, foreground=True, on_ready=lambda: None))
    else:
        _start(run, path, overrides)


def _start(run: ModuleType, path: Path | None, overrides: tuple[str, ...]) -> None:
    """Start in the background.  The answer comes when the server is ready, or cannot start."""
    # What is wrong with the file is said here, on the terminal.
    for warning in run.warnings_of(path, overrides):
        click.echo(f"sharefs: warning: {warning}", err=True)
    ready_out, ready_in = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ready_out)
        os._exit(_background(run, path, overrides, ready_in))
    os.close(ready_in)
    os.waitpid(pid, 0)
    with open(ready_out, "rb") as pipe:
        answer = pipe.read()
    if answer != b"ready":
        detail = answer.decode("utf-8", "replace") or "it ended before it was ready; see the log"
        raise SharingError(Code.UNAVAILABLE, f"the server did not start: {detail}")


def _background(run: ModuleType, path: Path | None, overrides: tuple[str, ...], ready: int) -> int:
    """In the first child: detach, leave the server in a second one."""
    os.setsid()
    if os.fork():
        return 0
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)

    def on_ready() -> None:
        nonlocal ready
        if ready >= 0:
            os.write(ready, b"ready")
            os.close(ready)
            ready = -1

    try:
        status: int = run.serve(path, overrides, foreground=False, on_ready=on_ready)
    except SharingError as refusal:
        if ready >= 0:
            os.write(ready, refusal.detail.encode())
        return os.EX_UNAVAILABLE
    return status


def _running(pid_path: Path) -> int:
    """The running server's pid.  Raises SharingError when there is none.

    A running master holds the file's lock; without it the number is what a crash left behind, and
    may be anybody's by now.
    """
    try:
        with pid_path.open() as file:
            pid = int(file.read())
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                raise ProcessLookupError(errno.ESRCH, f"process {pid} does not hold its lock")
        os.kill(pid, 0)
    except (OSError, ValueError) as exc:
        detail = f"no server is running: {pid_path}: {getattr(exc, 'strerror', None) or exc}"
        raise SharingError(Code.UNAVAILABLE, detail) from exc
    return pid


def _stop(pid_path: Path) -> None:
    pid = _running(pid_path)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise SharingError(Code.IN_USE, f"the server (process {pid}) does not end", retryable=True)


def _reload(pid_path: Path, path: Path | None, overrides: tuple[str, ...]) -> None:
    load(path, overrides=overrides)  # refuse here what the server would refuse in its log
    os.kill(_running(pid_path), signal.SIGHUP)
