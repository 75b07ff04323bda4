"""A spawner in a process of its own, with our ends of its channels to auth and to login."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from imap.service.channel import pair
from imap.service.handover import encode_user
from imap.service.processes import fork_child
from imap.service.settings import ServiceSettings
from imap.service.spare import no_rehearsal
from imap.service.spawner import main
from sharefs.identity.model import MailUser
from tests.support.server import PATIENCE

USER: Final = MailUser(name="alice", uid=70001, gid=70001)


@dataclass
class Surroundings:
    """A spawner in a process of its own, and our ends of its channels."""

    pid: int
    control: socket.socket
    auth: socket.socket
    login: socket.socket

    def tell(self, sock: socket.socket, body: dict[str, Any], *fds: int) -> None:
        socket.send_fds(sock, [json.dumps(body).encode()], fds)

    def grant(self, ticket: str, user: MailUser = USER, remote: str = "192.0.2.1") -> None:
        """What auth does."""
        self.tell(
            self.auth,
            {
                "ticket": ticket,
                "user": encode_user(user),
                "session": "s",
                "remote": remote,
                "remote_port": 1,
                "local": "192.0.2.2",
                "local_port": 143,
                "tls": False,
            },
        )

    def redeem(self, ticket: str) -> tuple[dict[str, Any], bytes]:
        """What login does: the spawner's answer, and what came on the connection's other end."""
        with self.hand_over(ticket) as client:
            return self.answer(), client.recv(100)

    def hand_over(self, ticket: str) -> socket.socket:
        """The connection's other end, which the caller closes; answer() says what became of it."""
        client, server = socket.socketpair()
        with server:
            body = {"id": 1, "ticket": ticket, "tag": "a", "unread": ""}
            self.tell(self.login, body, server.fileno())
        client.settimeout(PATIENCE)
        return client

    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.login.recv(4096)))


@contextlib.contextmanager
def spawner(
    settings: ServiceSettings,
    run_worker: Callable[[int, str], int],
    rehearse: Callable[[], None] = no_rehearsal,
) -> Iterator[Surroundings]:
    """run_worker, rehearse: what its workers do.  At the end it must have ended well."""
    control, its_control = pair()
    auth, its_auth = pair()
    login, its_login = pair()
    fd = its_control.fileno()
    pid = fork_child(
        lambda: main(fd, settings, run_worker, rehearse), name="spawner", keep=[fd], log_fd=2
    )
    its_control.close()
    for sock in (control, auth, login):
        sock.settimeout(PATIENCE)
    around = Surroundings(pid, control, auth, login)
    around.tell(control, {"take": "auth"}, its_auth.fileno())
    around.tell(control, {"take": "login"}, its_login.fileno())
    its_auth.close()
    its_login.close()
    yield around
    for sock in (control, auth, login):
        sock.close()
    assert os.waitpid(pid, 0)[1] == 0
