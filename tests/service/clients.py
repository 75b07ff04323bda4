"""A client that sends and expects exact octets, for what no IMAP library would do."""

import contextlib
import re
import socket
from collections.abc import Iterator

from tests.support.server import Server, client_context


class Talk:
    """A conversation over one socket.  Closes it at the end of a `with`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._unread = b""

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def line(self) -> bytes:
        """The next line with its CRLF; b"" when the server has hung up."""
        while b"\n" not in self._unread:
            with contextlib.suppress(ConnectionResetError):
                if octets := self.sock.recv(65536):
                    self._unread += octets
                    continue
            rest, self._unread = self._unread, b""
            return rest
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def until(self, tag: bytes) -> list[bytes]:
        """Lines up to the one that begins with tag.  Raises AssertionError when none comes."""
        lines = [self.line()]
        while not lines[-1].startswith(tag):
            assert lines[-1], f"hung up before {tag!r}: {lines}"
            lines.append(self.line())
        return lines

    def ask(self, command: bytes) -> list[bytes]:
        """Send one command with its CRLF added; the lines of its answer."""
        self.send(command + b"\r\n")
        return self.until(command.split(b" ")[0] + b" ")

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        found = [self._unread]
        self._unread = b""
        with contextlib.suppress(ConnectionResetError):
            while octets := self.sock.recv(1 << 20):
                found.append(octets)
        return b"".join(found)

    def starttls(self) -> None:
        """Shake hands; the answer to STARTTLS has been read."""
        self.sock = client_context().wrap_socket(self.sock, server_hostname="localhost")

    def who(self) -> dict[str, str]:
        """What the test double says about its process."""
        line = self.ask(b"who WHO")[0].decode()
        return dict(re.findall(r"(\w+)=(\([^)]*\)|\[[^\]]*\]|\S+)", line))


@contextlib.contextmanager
def talk(server: Server, *, tls: bool = False, greeted: bool = True) -> Iterator[Talk]:
    """Connected; the greeting has been read if greeted."""
    with Talk(server.connect_tls() if tls else server.connect()) as client:
        if greeted:
            assert client.line().startswith(b"* OK")
        yield client


@contextlib.contextmanager
def logged_in(server: Server, user: str, *, tls: bool = False) -> Iterator[Talk]:
    with talk(server, tls=tls) as client:
        answer = client.ask(b"in LOGIN %s pass" % user.encode())
        assert answer[-1].startswith(b"in OK"), answer
        yield client
