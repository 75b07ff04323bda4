"""The client's stream as a worker sees it: counts octets, never waits forever, ends politely.

A connection is told to end by close_when_idle(): at once while it waits for its client, else when
it next would.  So a running command is finished and answered, and BYE lands in no response.
"""

import contextlib
import math
import socket
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import trio

from imap.service.deflate import Compressor, Decompressor

_CHUNK: Final = 64 * 1024  # octets; each must leave within the write limit
_TURN: Final = 2 * _CHUNK  # octets sent, after which other connections have their turn
_BYE_PATIENCE: Final = 0.5  # seconds a client that does not read gets for its BYE
_ROUND: Final = 60.0  # seconds between two looks for clients that have been silent for too long

# Each takes about 0.3 MiB (deflate.py): clients who only ask for compression take no more than
# this of a worker's memory.
COMPRESSED_LIMIT: Final = 500
_compressed: Final = weakref.WeakSet["ClientStream"]()


def may_compress_more() -> bool:
    return len(_compressed) < COMPRESSED_LIMIT


@dataclass(frozen=True, slots=True)
class Rest:
    """A connection on which nothing happens, as data from which another process can go on.

    idle: it is in IDLE.  due: seconds from now until something must be done unasked: in IDLE the
    client be told that we are there, every interval seconds, else the connection be closed.
    """

    state: dict[str, Any]
    idle: bool
    due: float
    interval: float = 0.0


def _never() -> Rest | None:
    return None


class ClientStream(trio.abc.Stream):
    """A socket stream with the worker's limits around it.

    write_timeout: seconds in which a client must take 64 KiB; one that never reads is cut off
    (trio.BrokenResourceError), and its answer is held by nobody.  Owns the socket.
    """

    def __init__(self, sock: socket.socket, *, write_timeout: float) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._write_timeout = write_timeout
        self.octets_in = 0
        self.octets_out = 0
        self.peer_closed = False  # the client hung up, or its connection broke
        self.unresponsive = False  # cut off by write_timeout
        self._between_lines = True  # what went out so far ends with CRLF
        self._in_a_row = 0  # octets sent since others could run
        self._receiving = False
        self._ending = False
        self._scope: trio.CancelScope | None = None
        self._compressor: Compressor | None = None
        self._decompressor: Decompressor | None = None
        self.active = 0.0  # when octets went either way for the last time, of trio's clock
        # When end_silent() may end the session if its client says nothing, of the same clock.
        self.patient_until = math.inf
        self.was_silent = False  # and so its session was ended
        self.is_roused = False  # woken by a change; the client has said nothing since
        self.rest: Callable[[], Rest | None] = _never  # None: not now
        self.garbled = ""  # why what the client sent cannot be decompressed

    # --- compression -----------------------------------------------------------------------

    @property
    def is_compressed(self) -> bool:
        return self._compressor is not None

    def compress(self, compressor: Compressor, decompressor: Decompressor) -> None:
        """Compress what is sent from now on, decompress what comes."""
        self._compressor, self._decompressor = compressor, decompressor
        _compressed.add(self)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Always lets others run before it returns; a cancellation loses no octets."""
        if self._ending and self._scope is not None:
            self._scope.cancel()
        self._receiving = True
        try:
            size = _CHUNK if max_bytes is None else max_bytes
            if self._decompressor is None:
                octets = await self._receive_octets(size)
            else:
                octets = await self._receive_inflated(self._decompressor, size)
        except OSError as exc:
            self.peer_closed = True
            raise trio.BrokenResourceError("the connection broke") from exc
        finally:
            self._receiving = False
        self.octets_in += len(octets)
        self.active = trio.current_time()
        self.is_roused = False
        self.peer_closed = self.peer_closed or not octets
        return octets

    async def _receive_inflated(self, inflated: Decompressor, max_bytes: int) -> bytes:
        while True:
            if inflated.is_waiting:
                await trio.lowlevel.checkpoint()  # before anything is taken that could be lost
            elif inflated.has_ended or not (octets := await self._receive_octets(_CHUNK)):
                return b""
            else:
                inflated.feed(octets)
            try:
                if taken := inflated.take(max_bytes):
                    return taken
            except ValueError as exc:
                self.garbled = str(exc)
                raise trio.BrokenResourceError(self.garbled) from exc

    async def _receive_octets(self, max_bytes: int) -> bytes:
        # Clients wait for answers, so there is nothing yet: wait first.  And straight to the
        # socket: a round trip costs a third of what it does through trio's own stream.
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Lets others run now and then, and where the client does not take it at once."""
        size = len(data)
        if not size:
            await trio.lowlevel.checkpoint()
            return
        self._between_lines = False
        if self._compressor is None:
            sent = self._send_nowait(data)
            if sent < size:
                await self._send_octets(memoryview(data)[sent:])
        else:
            view = memoryview(data)
            for start in range(0, size, _CHUNK):
                await self._send_octets(self._on_wire(view[start : start + _CHUNK]))
        self._in_a_row += size
        if self._in_a_row >= _TURN:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()
        self._between_lines = data[-2:] == b"\r\n"
        self.active = trio.current_time()

    def _on_wire(self, chunk: memoryview) -> memoryview:
        """Flushed, because a client waits for what it asked for."""
        if self._compressor is None:
            return chunk
        return memoryview(self._compressor.compress(chunk) + self._compressor.flush())

    async def _send_octets(self, view: memoryview) -> None:
        try:
            sent = self._send_nowait(view)
            while sent < len(view):
                chunk = view[sent : sent + _CHUNK]
                with trio.fail_after(self._write_timeout):
                    await self._stream.send_all(chunk)
                self.octets_out += len(chunk)
                sent += len(chunk)
                sent += self._send_nowait(view[sent:])
        except trio.TooSlowError as exc:
            self.unresponsive = True
            raise trio.BrokenResourceError("the client does not read") from exc
        except trio.BrokenResourceError:
            self.peer_closed = True
            raise

    def _send_nowait(self, octets: bytes | bytearray | memoryview) -> int:
        """Hand the kernel what it takes at once.  Returns how many octets that were."""
        try:
            sent = self._socket.send(octets)
        except BlockingIOError:
            return 0
        except OSError as exc:
            self.peer_closed = True
            raise trio.BrokenResourceError("the connection broke") from exc
        self.octets_out += sent
        return sent

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        _compressed.discard(self)
        # The spawner has a descriptor of this socket too, so closing ours ends nothing.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        await self._stream.aclose()

    def end_scope(self) -> trio.CancelScope:
        """The scope to run the session in; close_when_idle() cancels it."""
        self._scope = trio.CancelScope()
        return self._scope

    def close_when_idle(self) -> None:
        """Cancel the session now if it waits for its client, else when it next does."""
        self._ending = True
        if self._receiving and self._scope is not None:
            self._scope.cancel()

    def end_silent(self) -> None:
        """Cancel the session, which waits for a client that has been silent for too long."""
        self.was_silent = True
        self.close_when_idle()

    async def say_bye(self, text: str) -> None:
        """Send an untagged BYE if the stream stands between two lines.  Never raises; ends soon."""
        if not self._between_lines or self.peer_closed or self.unresponsive:
            return
        with trio.move_on_after(_BYE_PATIENCE, shield=True):
            try:
                line = memoryview(f"* BYE {text}\r\n".encode())
                await self._stream.send_all(self._on_wire(line))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.peer_closed = True


async def end_silent(streams: Collection[ClientStream]) -> None:
    """End sessions whose clients are silent for too long, until cancelled.

    One look at all of them now and then: a deadline for each wait would have to be moved twice for
    each command, which takes longer than to read one.
    """
    while True:
        await trio.sleep(_ROUND)
        now = trio.current_time()
        for stream in streams:
            if stream.patient_until <= now:
                stream.end_silent()
