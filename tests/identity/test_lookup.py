"""The look-up of homes: the pure answer, and the client against a real socket."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.identity.lookup import MAX_ANSWER, MAX_REQUEST, LookupClient, answer
from sharefs.identity.model import UnknownUser


class Homes:
    """Users by name.  asked: every name that was looked up."""

    def __init__(self, **homes: str | None) -> None:
        self.homes = homes
        self.asked: list[str] = []
        self.broken = False

    def home_of(self, name: str) -> Path | None:
        self.asked.append(name)
        if self.broken:
            raise SharingError(Code.UNAVAILABLE, "secret detail")
        if name not in self.homes:
            raise UnknownUser(name)
        home = self.homes[name]
        return None if home is None else Path(home)

    def exists(self, name: str) -> bool:
        return name in self.homes


USERS = Homes(alice="/home/alice", nohome=None)

ANSWERS = [
    ({"user": "alice"}, {"exists": True, "home": "/home/alice"}),
    ({"user": "nohome"}, {"exists": True, "home": None}),
    ({"user": "zoe"}, {"exists": False}),
    ({"user": "../alice"}, {"exists": False}),
    ({"user": "a\0"}, {"exists": False}),
    ({"user": "", "more": 1}, {"exists": False}),
]


@pytest.mark.parametrize(("asked", "want"), ANSWERS)
def test_answers(asked: object, want: object) -> None:
    got = answer(json.dumps(asked).encode(), USERS)
    assert got.endswith(b"\n")
    assert json.loads(got) == want


@pytest.mark.parametrize(
    "request_",
    [b"", b"{}", b"[]", b"null", b'{"user": 5}', b"\xff", b"[" * 100_000, b"x" * 9_000],
)  # fmt: skip
def test_what_is_no_request_is_an_error(request_: bytes) -> None:
    assert set(json.loads(answer(request_, USERS))) == {"error"}


def test_trouble_has_no_detail() -> None:
    users = Homes()
    users.broken = True
    got = answer(b'{"user": "alice"}', users)
    assert b"secret" not in got
    assert b"error" in got


@given(st.binary(max_size=200))
def test_any_octets_have_one_line_of_answer(octets: bytes) -> None:
    got = answer(octets, USERS)
    assert got.count(b"\n") == 1
    assert isinstance(json.loads(got), dict)


def test_the_longest_lines_fit() -> None:
    name = "\U0001f600" * 80
    home = "/" + "\U0001f600" * 1023
    users = Homes(**{name: home})
    request = json.dumps({"user": name}).encode() + b"\n"
    assert len(request) <= MAX_REQUEST
    got = answer(request, users)
    assert json.loads(got)["home"] == home
    assert len(got) <= MAX_ANSWER


Handler = Callable[[bytes], bytes | None]


class Server(threading.Thread):
    """Answers line by line; handler None hangs up.  connections: how many there were."""

    def __init__(self, path: Path, handler: Handler) -> None:
        super().__init__(daemon=True)
        self.connections = 0
        self.handler = handler
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(path))
        self._listener.listen()
        self._open: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    octets = self.handler(line)
                    if octets is None:
                        connection.shutdown(socket.SHUT_RDWR)
                        break
                    connection.sendall(octets)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()
        self.join(5)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Handler], tuple[Path, Server]]]:
    servers: list[Server] = []

    def start(handler: Handler) -> tuple[Path, Server]:
        path = tmp_path / f"s{len(servers)}"
        server = Server(path, handler)
        servers.append(server)
        server.start()
        return path, server

    yield start
    for server in servers:
        server.stop()


Serve = Callable[[Handler], tuple[Path, Server]]


def test_the_client_asks_once_for_a_name(serve: Serve) -> None:
    users = Homes(alice="/home/alice", nohome=None)
    path, server = serve(lambda line: answer(line, users))
    with LookupClient(path) as client:
        for _ in range(3):
            assert client.home_of("alice") == Path("/home/alice")
        assert client.home_of("nohome") is None
        assert client.exists("alice")
        assert not client.exists("zoe")
        with pytest.raises(UnknownUser):
            client.home_of("zoe")
        assert not client.exists("../alice")
    assert users.asked == ["alice", "nohome", "zoe"]
    assert server.connections == 1


def test_the_client_connects_again_once_after_a_restart(serve: Serve) -> None:
    hang_up = False

    def handler(line: bytes) -> bytes | None:
        nonlocal hang_up
        hang_up = not hang_up
        return answer(line, USERS) if hang_up else None

    path, server = serve(handler)
    with LookupClient(path) as client:
        assert client.exists("alice")
        assert client.exists("nohome"), "the second question met a closed connection"
    assert server.connections == 2


@pytest.mark.parametrize(
    "octets",
    [b"\n", b"nonsense\n", b"[]\n", b'{"exists": 1, "home": 7}\n', b'{"error": "x"}\n',
     b"y" * 40_000],
    ids=["empty", "nonsense", "list", "number", "error", "endless"],
)  # fmt: skip
def test_a_broken_answer_is_unavailable(serve: Serve, octets: bytes) -> None:
    path, _ = serve(lambda line: octets)
    with LookupClient(path) as client, pytest.raises(SharingError) as caught:
        client.home_of("alice")
    assert caught.value.code is Code.UNAVAILABLE


def test_silence_is_unavailable_after_the_timeout(serve: Serve) -> None:
    path, _ = serve(lambda line: b"")
    with LookupClient(path, timeout=0.05) as client, pytest.raises(SharingError) as caught:
        client.home_of("alice")
    assert caught.value.retryable


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with LookupClient(tmp_path / "none") as client, pytest.raises(SharingError) as caught:
        client.exists("alice")
    assert "is the server running?" in caught.value.detail
