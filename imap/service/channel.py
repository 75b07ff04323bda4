"""Messages between the server's processes: one JSON object and a few descriptors per packet.

Channels are SOCK_SEQPACKET pairs made by the master before it forks: no path, so nobody else can
connect, and packet borders, so nobody can make two messages of one.  JSON and never pickle: a login
process may be in an attacker's hands, and what it sends must stay data.

Two doors to the same packets: Channel never waits (master and spawner, which poll), AsyncChannel is
for trio (login, auth, worker).
"""

import array
import json
import os
import select
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

MAX_MESSAGE: Final = 128 * 1024  # octets; well below the kernel's default send buffer (208 KiB)
MAX_FDS: Final = 4
_BUFFER: Final = 1 << 20  # octets asked of the kernel, which may give less
_FD_SPACE: Final = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class ChannelError(Exception):
    """The other process sent what this channel does not carry.  Its packet is lost, we live on."""


@dataclass(frozen=True, slots=True)
class Message:
    """One packet.  The receiver owns fds and must close every one of them."""

    body: Mapping[str, Any]
    fds: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the descriptors of a message that is not acted upon."""
        for fd in self.fds:
            os.close(fd)

    def text(self, key: str) -> str:
        """A string field.  Raises ChannelError when it is missing or something else."""
        value = self.body.get(key)
        if not isinstance(value, str):
            raise ChannelError(f"{key!r} should be text, not {type(value).__name__}")
        return value

    def number(self, key: str) -> int:
        """An integer field.  Raises ChannelError when it is missing or something else."""
        value = self.body.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ChannelError(f"{key!r} should be a number, not {type(value).__name__}")
        return value


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, closed on exec, with room for the largest message."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ends


def _pack(body: Mapping[str, Any]) -> bytes:
    octets = json.dumps(body, separators=(",", ":")).encode()
    if len(octets) > MAX_MESSAGE:
        raise ChannelError(f"a message of {len(octets)} octets is longer than {MAX_MESSAGE}")
    return octets


def _rights(fds: Iterable[int]) -> list[tuple[int, int, bytes]]:
    numbers = array.array("i", fds)
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())] if numbers else []


def _unpack(octets: bytes, ancillary: list[tuple[int, int, bytes]], flags: int) -> Message:
    """Raises ChannelError after closing whatever descriptors came along."""
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    fds = tuple(numbers)
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ChannelError("a message longer than this channel carries")
        body = json.loads(octets)
        if not isinstance(body, dict):
            raise ChannelError("a message that is not an object")
    except (ValueError, RecursionError) as exc:
        Message({}, fds).close()
        raise ChannelError(f"a message that is not JSON: {exc}") from exc
    except ChannelError:
        Message({}, fds).close()
        raise
    return Message(body, fds)


class Channel:
    """One end that never waits.  The channel owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        return self._sock.detach()

    def send(self, body: Mapping[str, Any], fds: Iterable[int] = ()) -> None:
        """Send now.  Raises BlockingIOError when the other end does not keep up, OSError when gone.

        The descriptors stay open on this side.
        """
        self._sock.sendmsg([_pack(body)], _rights(fds), socket.MSG_NOSIGNAL)

    def receive(self, *, descriptors: bool = True) -> Message | None:
        """The next message, or None when the other end has closed.

        descriptors False: the kernel drops those that come, and a message that had some is not
        taken.  Raises BlockingIOError when nothing has come yet, ChannelError for a packet not of
        ours.
        """
        try:
            octets, ancillary, flags, _ = self._sock.recvmsg(
                MAX_MESSAGE, _FD_SPACE if descriptors else 0, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        if not octets and not ancillary:
            return None
        return _unpack(octets, ancillary, flags)


class AsyncChannel:
    """One end for trio.  Several tasks may send; one task receives.  Owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._plain = sock
        self._sock = trio.socket.from_stdlib_socket(sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    async def send(self, body: Mapping[str, Any], fds: Iterable[int] = ()) -> None:
        """Send, waiting for room.  Raises OSError when the other end is gone.

        A packet goes whole or not at all, so a cancelled send leaves no half message behind.
        """
        await self._sock.sendmsg([_pack(body)], _rights(fds), socket.MSG_NOSIGNAL)

    def send_nowait(self, body: Mapping[str, Any], fds: Iterable[int] = ()) -> None:
        """As Channel.send()."""
        self._plain.sendmsg([_pack(body)], _rights(fds), socket.MSG_NOSIGNAL)

    def receive_blocking(self) -> Message | None:
        """As receive(), and nothing else happens in this process until there is a message.

        For who has asked a question before whose answer nothing else may happen.
        """
        with select.epoll() as poll:
            poll.register(self._plain, select.EPOLLIN)
            poll.poll()
        octets, ancillary, flags, _ = self._plain.recvmsg(
            MAX_MESSAGE, _FD_SPACE, socket.MSG_CMSG_CLOEXEC
        )
        return _unpack(octets, ancillary, flags) if octets or ancillary else None

    async def receive(self) -> Message | None:
        """The next message, or None when the other end has closed.  Raises ChannelError."""
        try:
            octets, ancillary, flags, _ = await self._sock.recvmsg(
                MAX_MESSAGE, _FD_SPACE, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        if not octets and not ancillary:
            return None
        return _unpack(octets, ancillary, flags)
