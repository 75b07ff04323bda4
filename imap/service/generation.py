"""One configuration's processes, introduced to each other: auth, spawner, and the logins.

A reload starts a new generation beside the old one.  When the new one is ready the old one is
retired: its logins take nobody new, its workers serve their connections to the end.
"""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from imap.service.children import (
    AUTH,
    LOGIN,
    SPAWNER,
    Child,
    exec_login,
    fork_role,
    introduce,
    take_listener,
)
from imap.service.log_writer import LogWriter
from imap.service.settings import ServiceSettings
from imap.service.supervision import Backoff

# A retired auth process is needed until the last client who connected before has logged in.
_AUTH_LINGERS: Final = 5.0  # seconds after the login timeout


@dataclass(frozen=True, slots=True)
class Program:
    """What a generation runs.  Made anew from each configuration.

    auth, spawner: run in a forked child with their channel's descriptor; exit status.
    warnings: what the administrator should hear at every start.
    """

    settings: ServiceSettings
    auth: Callable[[int], int]
    spawner: Callable[[int], int]
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Role:
    """A place to fill: "login 0", "auth".  due: when to start it again, None: it runs."""

    role: str
    child: Child | None = None
    backoff: Backoff = field(default_factory=Backoff)
    due: float | None = 0.0


class Generation:
    """start_due() starts what is missing; the caller watches channels and pipes, and waits."""

    def __init__(
        self,
        program: Program,
        listeners: list[tuple[socket.socket, bool]],
        lookup: socket.socket,
        writer: LogWriter,
    ) -> None:
        self.program = program
        self._listeners = listeners  # socket, TLS first
        self._lookup = lookup
        self._writer = writer
        logins = [_Role(LOGIN) for _ in range(program.settings.login_processes)]
        self._roles = [_Role(AUTH), _Role(SPAWNER), *logins]
        self.retired = False
        self._auth_ends_at: float | None = None

    @property
    def children(self) -> list[Child]:
        return [role.child for role in self._roles if role.child is not None]

    @property
    def ready(self) -> bool:
        """Whether every process has reported."""
        return all(role.child is not None and role.child.ready for role in self._roles)

    def next_due(self) -> float | None:
        """When there is something to do without an event."""
        times = [role.due for role in self._roles if role.due is not None and not self.retired]
        if self._auth_ends_at is not None:
            times.append(self._auth_ends_at)
        return min(times, default=None)

    def start_due(self, *, now: float) -> list[Child]:
        """Start what is missing and due; returns the new children."""
        if self._auth_ends_at is not None and now >= self._auth_ends_at:
            self._auth_ends_at = None
            self._tell(AUTH, "stop")
        if self.retired:
            return []
        return [
            self._start(role, now=now)
            for role in self._roles
            if role.due is not None and role.due <= now
        ]

    def _start(self, role: _Role, *, now: float) -> Child:
        settings = self.program.settings
        if role.role == LOGIN:
            child = exec_login(settings.login.encode(), self._writer, now=now)
            for sock, tls in self._listeners:
                take_listener(child, sock, tls=tls)
        else:
            main = self.program.auth if role.role == AUTH else self.program.spawner
            child = fork_role(role.role, main, self._writer, now=now)
        if role.role == AUTH:
            child.send({"take": "lookup"}, [self._lookup.fileno()])
        role.child, role.due = child, None
        for other in self.children:
            if other.role != child.role:
                introduce(child, other)
        child.tell("report")
        return child

    def died(self, child: Child, *, now: float) -> float | None:
        """Take note of a death.  Seconds until it is started again; None: not at all."""
        role = next(role for role in self._roles if role.child is child)
        role.child = None
        if self.retired:
            if self._auth_ends_at is not None and all(c.role != LOGIN for c in self.children):
                self._auth_ends_at = now  # nobody is left who could log in here
            return None
        role.backoff = role.backoff.after_death(lived=now - child.started)
        role.due = now + role.backoff.delay
        return role.backoff.delay

    def retire(self, *, now: float) -> None:
        """Take nobody new; end when the last client has gone."""
        self.retired = True
        self._tell(LOGIN, "retire")
        self._tell(SPAWNER, "retire")
        self._auth_ends_at = now + self.program.settings.login.timeout + _AUTH_LINGERS

    def stop(self, *roles: str) -> None:
        """Tell these roles to end now, politely."""
        self.retired = True
        self._auth_ends_at = None
        for role in roles:
            self._tell(role, "stop")

    def kill(self) -> None:
        """End what is left without asking."""
        for child in self.children:
            os.kill(child.pid, signal.SIGKILL)

    def _tell(self, role: str, order: str) -> None:
        for child in self.children:
            if child.role == role:
                child.told_to_end = True
                child.tell(order)
