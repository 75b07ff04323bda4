"""An IMAP client that costs next to nothing: it sends, and reads until the tagged line."""

import socket
import ssl
from types import TracebackType
from typing import Final, Self

_RECEIVE: Final = 1 << 20  # octets
_TIMEOUT: Final = 1800  # seconds


class Client:
    """One connection.  ask() returns the number of octets of the answer.

    tls: with TLS from the first octet, believing any certificate.  close() ends it politely, and
    so does a `with`; after an exception in there the socket is just closed.
    """

    def __init__(self, port: int, *, tls: bool = False) -> None:
        sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = _trusting().wrap_socket(sock) if tls else sock
        self._tag = 0
        self._read_line()

    def _read_line(self) -> None:
        while not self._socket.recv(_RECEIVE).endswith(b"\r\n"):
            continue

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, command: bytes) -> bytes:
        """Send a command, which may hold LITERAL+ literals.  Returns its tag."""
        self._tag += 1
        tag = b"x%d" % self._tag
        self._socket.sendall(tag + b" " + command + b"\r\n")
        return tag

    def receive(self) -> bytes:
        """What has come.  Raises RuntimeError if the server hung up."""
        octets = self._socket.recv(_RECEIVE)
        if not octets:
            raise RuntimeError("the server hung up")
        return octets

    def ask(self, command: bytes) -> int:
        """Raises RuntimeError unless the answer is OK."""
        tag = self.send(command)
        size, tail = 0, b""
        done = b"\r\n" + tag + b" "
        while True:
            octets = self.receive()
            size += len(octets)
            tail = octets[-2000:] if len(octets) >= 2000 else (tail + octets)[-2000:]
            if tail.endswith(b"\r\n") and (at := (b"\r\n" + tail).rfind(done)) >= 0:
                demand_ok(command, (b"\r\n" + tail)[at + len(done) :])
                return size

    def answer(self, command: bytes) -> bytes:
        """The untagged responses.  Raises RuntimeError unless the answer is OK."""
        tag = self.send(command)
        got = [b"\r\n"]
        done = b"\r\n" + tag + b" "
        while True:
            got.append(self.receive())
            if got[-1].endswith(b"\r\n"):
                tail = b"".join(got[-8:])
                if (at := tail.rfind(done)) >= 0:
                    demand_ok(command, tail[at + len(done) :])
                    return b"".join(got)[2 : -(len(tail) - at - 2)]
                got = [b"".join(got)]

    def idle(self) -> None:
        """Begin IDLE; returns when the server has said that it waits."""
        self.send(b"IDLE")
        self.wait_for(b"+ ")

    def wait_for(self, text: bytes) -> None:
        """Until text has come."""
        got = b""
        while text not in got:
            got += self.receive()

    def done(self) -> None:
        """End IDLE."""
        self._socket.sendall(b"DONE\r\n")
        self.wait_for(b"x%d " % self._tag)

    def abandon(self) -> None:
        """Close without LOGOUT."""
        self._socket.close()

    def close(self) -> None:
        self.ask(b"LOGOUT")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()


def demand_ok(command: bytes, status: bytes) -> None:
    """Raises RuntimeError."""
    if not status.startswith(b"OK"):
        raise RuntimeError(f"{command[:60]!r}: {status[:200]!r}")


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
