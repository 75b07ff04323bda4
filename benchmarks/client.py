"""An IMAP client that costs next to nothing: it sends, and reads until the tagged line."""

import socket
from typing import Final

_RECEIVE: Final = 1 << 20  # octets


class Client:
    """One connection.  ask() returns the number of octets of the answer.  close() ends it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tag = 0
        self._read_line()

    def _read_line(self) -> None:
        while not self._socket.recv(_RECEIVE).endswith(b"\r\n"):
            continue

    def ask(self, command: bytes) -> int:
        """Raises RuntimeError unless the answer is OK.  command may hold LITERAL+ literals."""
        self._tag += 1
        tag = b"x%d" % self._tag
        self._socket.sendall(tag + b" " + command + b"\r\n")
        size, tail = 0, b""
        done = b"\r\n" + tag + b" "
        while True:
            octets = self._socket.recv(_RECEIVE)
            if not octets:
                raise RuntimeError(f"connection closed during {command[:60]!r}")
            size += len(octets)
            tail = (tail + octets)[-2000:]
            if not tail.endswith(b"\r\n"):
                continue
            at = (b"\r\n" + tail).rfind(done)
            if at >= 0:
                status = (b"\r\n" + tail)[at + len(done) :]
                if not status.startswith(b"OK"):
                    raise RuntimeError(f"{command[:60]!r}: {status[:200]!r}")
                return size

    def close(self) -> None:
        self.ask(b"LOGOUT")
        self._socket.close()
