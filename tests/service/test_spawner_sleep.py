"""The spawner against a worker in its user's hands: it sleeps by the rules or not at all."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import INotify

from imap.service.asleep import LONGEST_STATE
from imap.service.channel import Channel
from imap.service.settings import ServiceSettings
from imap.service.tickets import new_ticket
from tests.service.spawning import USER, Surroundings, spawner
from tests.support.server import PATIENCE, wait_until

pytestmark = pytest.mark.superuser


def bed(serial: int, **change: object) -> dict[str, Any]:
    return {
        "serial": serial, "state": "secret", "idle": False, "due": 60, "interval": 0, "in": 0,
        "out": 0, **change,
    }  # fmt: skip


def hostile_worker(control_fd: int, name: str) -> int:
    """Tries everything, writes the answers to its client, and sleeps in the end."""
    with (
        socket.socket(fileno=control_fd) as control,
        INotify() as inotify,
        open("/dev/null") as null,
    ):
        channel = Channel(control)
        control.setblocking(True)
        message = channel.receive()
        assert message is not None
        (fd,), serial = message.fds, message.number("serial")
        if "rest" in message.body:
            os.read(fd, 100)
            os.write(fd, f"{message.text('rest')} {message.body['roused']}".encode())
            return 0
        told = []

        def ask(*beds: object) -> None:
            channel.send({"sleep": list(beds)})
            answer = channel.receive()
            assert answer is not None
            told.append(answer.text("do"))

        ask(bed(serial))  # nothing tells of changes yet
        channel.send({"watch": True}, [null.fileno()])
        ask(bed(serial))  # nor does this
        channel.send({"watch": True}, [inotify.fileno()])
        ask()
        ask(bed(serial + 1))
        ask(bed(serial), bed(serial + 1))
        ask(bed(serial), bed(serial))
        ask(bed(serial, state="x" * (LONGEST_STATE + 1)))
        ask("nonsense")
        channel.send(bed(serial), [null.fileno()])  # the spawner takes no descriptor any more
        os.write(fd, " ".join(told).encode())
        ask(bed(serial))
        return 0 if told[-1] == "leave" else 1


@pytest.fixture
def around() -> Iterator[Surroundings]:
    settings = ServiceSettings(base_dir=Path("/nonexistent"), rest_after=1.0)
    with spawner(settings, hostile_worker) as around:
        yield around


def connect(around: Surroundings) -> socket.socket:
    ticket = new_ticket()
    around.grant(ticket, USER)
    client, server = socket.socketpair()
    client.settimeout(PATIENCE)
    body = {"id": 1, "ticket": ticket, "tag": "a", "unread": ""}
    around.tell(around.login, body, server.fileno())
    server.close()
    assert json.loads(around.login.recv(4096))["result"] == "ok"
    return client


def test_only_what_the_rules_allow_sleeps(around: Surroundings) -> None:
    with connect(around) as client:
        assert client.recv(100) == b"stay " * 7 + b"stay"
        client.send(b"x")
        assert client.recv(100) == b"secret False", "its state came back to its own identity"
        assert client.recv(100) == b"", "and the end of the worker is the connection's"


def test_who_hangs_up_leaves_nothing_behind(around: Surroundings) -> None:
    around.redeem("forged")  # it has taken all its channels by now
    before = os.listdir(f"/proc/{around.pid}/fd")
    with connect(around) as client:
        assert client.recv(100)
    wait_until(lambda: len(os.listdir(f"/proc/{around.pid}/fd")) == len(before))
