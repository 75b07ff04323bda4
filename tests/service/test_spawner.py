"""The spawner against a login process in an attacker's hands: no ticket, no worker."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imap.service.channel import Channel
from imap.service.handover import encode_user
from imap.service.settings import ServiceSettings
from imap.service.tickets import new_ticket
from sharefs.identity.model import MailUser
from tests.service.spawning import USER, Surroundings, spawner
from tests.support.server import wait_until

pytestmark = pytest.mark.superuser


def answering_worker(control_fd: int, name: str) -> int:
    """A worker that says its uid on each connection it gets, and closes it."""
    with socket.socket(fileno=control_fd) as control:
        channel = Channel(control)
        control.setblocking(True)
        while message := channel.receive():
            for fd in message.fds:
                os.write(fd, f"uid {os.getuid()}".encode())
            message.close()
            channel.send({"closed": message.body["serial"]})
    return 0


@pytest.fixture
def around() -> Iterator[Surroundings]:
    settings = ServiceSettings(base_dir=Path("/nonexistent"), max_user_connections=3)
    with spawner(settings, answering_worker) as around:
        yield around


def test_a_ticket_buys_one_connection_under_the_users_uid(around: Surroundings) -> None:
    ticket = new_ticket()
    around.grant(ticket)
    answer, said = around.redeem(ticket)
    assert answer["result"] == "ok"
    assert said == b"uid 70001"
    answer, said = around.redeem(ticket)
    assert answer == {"id": 1, "result": "refused"}
    assert said == b""


def test_a_forged_ticket_buys_nothing(around: Surroundings) -> None:
    around.grant(new_ticket())
    for forged in (new_ticket(), "", "alice", "0" * 32):
        answer, said = around.redeem(forged)
        assert (answer["result"], said) == ("refused", b"")


def test_login_cannot_say_who_the_user_is(around: Surroundings) -> None:
    """Whatever it adds to its message, the identity is the ticket's."""
    ticket = new_ticket()
    around.grant(ticket)
    client, server = socket.socketpair()
    root = encode_user(MailUser(name="root", uid=1, gid=1))
    body = {"id": 1, "ticket": ticket, "tag": "a", "unread": "", "user": root, "uid": 0}
    around.tell(around.login, body, server.fileno())
    server.close()
    assert around.answer()["result"] == "ok"
    assert client.recv(100) == b"uid 70001"
    client.close()


def test_login_cannot_make_tickets(around: Surroundings) -> None:
    """auth's message, sent by login, is nonsense."""
    ticket = new_ticket()
    around.tell(
        around.login,
        {"ticket": ticket, "user": encode_user(USER), "session": "s", "remote": "x",
         "remote_port": 1, "local": "x", "local_port": 1, "tls": False},
    )  # fmt: skip
    answer, said = around.redeem(ticket)
    assert (answer["result"], said) == ("refused", b"")


@pytest.mark.parametrize("user", [MailUser("root", 0, 0), MailUser("wheel", 70001, 0)])
def test_not_even_auth_can_ask_for_the_superuser(around: Surroundings, user: MailUser) -> None:
    ticket = new_ticket()
    around.grant(ticket, user)
    _, said = around.redeem(ticket)
    assert said == b"", "become() refuses, and the worker ends before it reads anything"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": 1},
        {"id": "1", "ticket": "t", "tag": "a", "unread": ""},
        {"id": 1, "ticket": ["t"], "tag": "a", "unread": ""},
        {"id": 1, "ticket": "t", "tag": None, "unread": ""},
        {"do": "stop"},
        {"take": "auth"},
    ],
    ids=str,
)
def test_nonsense_from_login_changes_nothing(around: Surroundings, body: dict[str, Any]) -> None:
    with open(os.devnull) as null:
        around.tell(around.login, body, null.fileno())
    ticket = new_ticket()
    around.grant(ticket)
    answer, said = around.redeem(ticket)
    assert (answer["result"], said) == ("ok", b"uid 70001")


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_handover_has_exactly_one_socket(around: Surroundings, count: int) -> None:
    ticket = new_ticket()
    around.grant(ticket)
    with open(os.devnull) as null:
        body = {"id": 1, "ticket": ticket, "tag": "a", "unread": ""}
        around.tell(around.login, body, *[null.fileno()] * count)
        around.tell(around.login, body, null.fileno())
    answer, said = around.redeem(ticket)
    assert (answer["result"], said) == ("ok", b"uid 70001"), "and the ticket is not used up"


def test_who_has_ended_leaves_room_at_once() -> None:
    """A login that is read before the news of a worker's end is not refused for that worker."""
    settings = ServiceSettings(base_dir=Path("/nonexistent"), worker_limit=1)
    tickets = [new_ticket() for _ in range(2)]
    with spawner(settings, answering_worker) as around:
        for ticket, uid in zip(tickets, (70001, 70002), strict=True):
            around.grant(ticket, MailUser(f"user{uid}", uid, uid))
        answer, _ = around.redeem(tickets[0])
        os.kill(around.pid, signal.SIGSTOP)
        with around.hand_over(tickets[1]) as client:
            worker = Path(f"/proc/{answer['pid']}/stat")
            os.kill(answer["pid"], signal.SIGKILL)
            wait_until(lambda: ") Z " in worker.read_text())
            os.kill(around.pid, signal.SIGCONT)
            assert around.answer()["result"] == "ok"
            assert client.recv(100) == b"uid 70002"
