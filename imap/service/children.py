"""The master's children: how each role is started, and what the master knows of it."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import imap
from imap.service.channel import Channel, pair
from imap.service.log_writer import LogPipe, LogWriter
from imap.service.processes import fork_child

_LOG_PIPE_SIZE: Final = 256 * 1024  # octets

LOGIN: Final = "login"
AUTH: Final = "auth"
SPAWNER: Final = "spawner"

# How the lines of a role begin.  The spawner's pipe is its workers' too: "imap(bob)...".
_SPEAKERS: Final = {LOGIN: "imap-login", AUTH: "auth", SPAWNER: ""}


@dataclass(slots=True)
class Child:
    """A process started by the master.  started: seconds of the monotonic clock."""

    role: str
    pid: int
    channel: Channel
    log: LogPipe
    started: float
    ready: bool = False
    told_to_end: bool = False
    peers: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.role} (pid {self.pid})"

    def tell(self, order: str) -> bool:
        """Send {"do": order}.  False: the child does not listen; waitpid will say why."""
        return self.send({"do": order})

    def send(self, body: dict[str, Any], fds: Iterable[int] = ()) -> bool:
        try:
            self.channel.send(body, fds)
        except OSError:
            return False
        return True


def introduce(one: Child, other: Child) -> None:
    """Give each a channel to the other.  Replaces one that either had to a predecessor."""
    ends = pair()
    with ends[0], ends[1]:
        one.send({"take": other.role}, [ends[0].fileno()])
        other.send({"take": one.role}, [ends[1].fileno()])


def fork_role(role: str, main: Callable[[int], int], writer: LogWriter, *, now: float) -> Child:
    """A child that is trusted with the configuration: auth, spawner.  main gets its channel."""
    ours, theirs = pair()
    log_out, log_in = _log_pipe()
    with theirs:
        fd = theirs.fileno()
        pid = fork_child(lambda: main(fd), name=f"sharefs-{role}", keep=[fd], log_fd=log_in)
    os.close(log_in)
    return Child(role, pid, Channel(ours), LogPipe(log_out, _SPEAKERS[role], writer), now)


def exec_login(settings: dict[str, Any], writer: LogWriter, *, now: float) -> Child:
    """A login process: a fresh interpreter that learns nothing but settings."""
    ours, theirs = pair()
    log_out, log_in = _log_pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "imap.service.login", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log_in,
            stderr=log_in,
            pass_fds=[theirs.fileno()],
            cwd="/",
            env={"PYTHONPATH": _code_directories(), "LANG": "C.UTF-8"},
        )
    os.close(log_in)
    pid = process.pid
    process.returncode = 0  # the master waits for its children itself
    child = Child(LOGIN, pid, Channel(ours), LogPipe(log_out, _SPEAKERS[LOGIN], writer), now)
    child.send({"settings": settings})
    return child


def _log_pipe() -> tuple[int, int]:
    """A pipe whose writers never wait.

    When the disk of the log hangs, the master hangs in its write; mail must not hang with it.
    Then lines are lost, but only after a quarter of a mebibyte of them.
    """
    log_out, log_in = os.pipe()
    os.set_blocking(log_in, False)
    with contextlib.suppress(OSError):  # an unprivileged user may have used up the host's allowance
        fcntl.fcntl(log_in, fcntl.F_SETPIPE_SZ, _LOG_PIPE_SIZE)
    return log_out, log_in


def _code_directories() -> str:
    """Where the login process finds the packages that this process runs."""
    ours = str(Path(imap.__file__).resolve().parent.parent)
    return os.pathsep.join(dict.fromkeys([ours, *filter(os.path.isabs, sys.path)]))


def take_listener(child: Child, sock: socket.socket, *, tls: bool) -> None:
    child.send({"take": "listener", "tls": tls}, [sock.fileno()])
