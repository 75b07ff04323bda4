"""COMPRESS=DEFLATE (RFC 4978) through the whole server, plain and within TLS."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.clients import Talk, logged_in
from tests.service.test_whole_server import CONFIG, real_server
from tests.support.server import Server, wait_until

pytestmark = pytest.mark.superuser


class Deflated:
    """A socket's two directions through zlib, for Talk."""

    def __init__(self, talk: Talk) -> None:
        self._sock = talk.sock
        self._out = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._in = zlib.decompressobj(-15)
        self.received = 0

    def sendall(self, octets: bytes) -> None:
        self._sock.sendall(self._out.compress(octets) + self._out.flush(zlib.Z_SYNC_FLUSH))

    def recv(self, most: int) -> bytes:
        octets = b""
        while not octets and (raw := self._sock.recv(most)):
            self.received += len(raw)
            octets = self._in.decompress(raw)
        return octets

    def close(self) -> None:
        self._sock.close()


def compress(talk: Talk) -> Deflated:
    assert talk.ask(b"z COMPRESS DEFLATE") == [b"z OK Compression begins.\r\n"]
    wrapped = Deflated(talk)
    talk.sock = wrapped  # type: ignore[assignment]  # all of a socket that Talk needs
    return wrapped


@pytest.fixture
def server(open_tmp: Path) -> Iterator[Server]:
    with real_server(open_tmp) as running:
        yield running


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_session_goes_on_compressed(server: Server, tls: bool) -> None:
    body = b"Subject: x\r\n\r\n" + b"the same line again\r\n" * 20_000
    with logged_in(server, "alice", tls=tls) as client:
        assert b" COMPRESS=DEFLATE" in client.ask(b"a CAPABILITY")[0]
        wrapped = compress(client)
        assert client.ask(b"b COMPRESS DEFLATE")[0].startswith(b"b NO [COMPRESSIONACTIVE] ")
        client.send(b"c APPEND INBOX {%d}\r\n" % len(body))
        assert client.line() == b"+ OK\r\n"
        client.send(body + b"\r\nd SELECT INBOX\r\ne FETCH 1 BODY.PEEK[]\r\n")  # pipelined
        assert client.until(b"c ")[-1].startswith(b"c OK")
        client.until(b"d ")
        before = wrapped.received
        got = b"".join(client.until(b"e "))
        assert body in got
        assert wrapped.received - before < len(got) / 50


def test_idle_tells_news_compressed(server: Server) -> None:
    with logged_in(server, "alice") as client, logged_in(server, "alice") as other:
        compress(client)
        client.ask(b"a SELECT INBOX")
        client.send(b"b IDLE\r\n")
        assert client.line() == b"+ idling\r\n"
        other.ask(b"x APPEND INBOX {3+}\r\nabc")
        assert client.line() == b"* 1 EXISTS\r\n"
        client.send(b"DONE\r\n")
        assert client.until(b"b ")[-1].startswith(b"b OK")


def test_the_end_of_the_server_reaches_a_compressed_client(server: Server) -> None:
    with logged_in(server, "alice") as client:
        compress(client)
        client.send(b"b IDLE\r\n")
        client.until(b"+ ")
        server.stop()
        assert client.line() == b"* BYE Server shutting down.\r\n"


def test_garbage_ends_one_connection_and_is_logged(server: Server) -> None:
    with logged_in(server, "alice") as client, logged_in(server, "alice") as other:
        compress(client)._sock.sendall(b"\x07")  # a block of the type that there is not
        assert client.rest() == b""
        assert other.ask(b"a NOOP")[-1].startswith(b"a OK")
        wait_until(lambda: "no deflate stream" in server.log_text())
        assert "Our bug" not in server.log_text()


def test_a_bomb_meets_the_limits_of_any_command(server: Server) -> None:
    """64 MiB of one line, 64 KiB on the wire: refused like any other line that is too long."""
    with logged_in(server, "alice") as client:
        compress(client)
        client.send(b"a NOOP " + b"x" * (64 << 20) + b"\r\nb NOOP\r\n")
        answer = client.until(b"b ")
        assert answer[-1].startswith(b"b OK")
        assert any(b"too long" in line for line in answer[:-1])


def test_it_can_be_turned_off(open_tmp: Path) -> None:
    with (
        real_server(open_tmp, CONFIG + "imap_compress_deflate_level = 0\n") as server,
        logged_in(server, "alice") as client,
    ):
        assert b"COMPRESS" not in client.ask(b"a CAPABILITY")[0]
        assert client.ask(b"b COMPRESS DEFLATE") == [b"b NO [LIMIT] No compression for now.\r\n"]
        assert client.ask(b"c NOOP")[-1].startswith(b"c OK")
