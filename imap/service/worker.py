"""The worker: one Unix identity's mail process, with all its connections.

Forked by the spawner, it has become its user before this module's main() touches anything.
Peers' faults and refusals end one session.  Any other exception is our bug: it is logged with its
traceback and ends the worker; the master and all other identities go on.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import trio

from imap.service.channel import AsyncChannel, ChannelError, Message
from imap.service.handover import Handover, decode
from imap.service.logs import fields, on_behalf_of, start_logging
from imap.service.mailboxes import MailboxPool
from imap.service.stream import ClientStream
from imap.service.watcher import Watcher
from imap.wire import ProtocolError
from sharefs.config import Config, Settings
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup, LookupClient

log = logging.getLogger(__name__)

_END_PATIENCE: Final = 1.5  # seconds for commands that run when the worker is told to end
_BYE: Final = "Server shutting down."
_OUR_FAULT: Final = "Internal error; see the server log."


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What all connections of a worker share.

    config: everything; settings: those without a user.  users: where other users' homes are, for
    several threads at once.  mailboxes: open mailboxes by name.
    """

    config: Config
    settings: Settings
    users: HomeLookup
    mailboxes: MailboxPool


Serve: TypeAlias = Callable[[trio.abc.Stream, Handover, WorkerContext], Awaitable[None]]


class SharedLookup(HomeLookup):
    """A LookupClient for several threads."""

    def __init__(self, path: Path) -> None:
        self._client = LookupClient(path)
        self._lock = threading.Lock()

    def home_of(self, name: str) -> Path | None:
        with self._lock:
            return self._client.home_of(name)

    def exists(self, name: str) -> bool:
        with self._lock:
            return self._client.exists(name)

    def close(self) -> None:
        with self._lock:
            self._client.close()


class Worker:
    """Connections come by the control channel; their ends are reported there."""

    def __init__(
        self, control: AsyncChannel, context: WorkerContext, serve: Serve, *, write_timeout: float
    ) -> None:
        self._control = control
        self._context = context
        self._serve = serve
        self._write_timeout = write_timeout
        self._streams: set[ClientStream] = set()
        self._none_left = trio.Event()
        self._ending = False

    async def run(self) -> None:
        """Until the spawner hangs up or SIGTERM comes; then connections end with BYE."""
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as receiving:
                receiving.start_soon(self._until_sigterm, receiving.cancel_scope)
                await self._receive(nursery)
                receiving.cancel_scope.cancel()
            self._ending = True
            for stream in self._streams:
                stream.close_when_idle()
            if self._streams:
                with trio.move_on_after(_END_PATIENCE):
                    await self._none_left.wait()
            nursery.cancel_scope.cancel()

    async def _until_sigterm(self, scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()
                return

    async def _receive(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                message = await self._control.receive()
            except ChannelError as exc:
                log.error("The spawner sent %s", exc)
                continue
            if message is None:
                return
            nursery.start_soon(self._session, message)

    async def _session(self, message: Message) -> None:
        """One connection, from its descriptor to its end."""
        (fd,) = message.fds
        handover = decode(message.body["handover"])
        on_behalf_of.set(f"imap({handover.user.name})<{os.getpid()}><{handover.session_id}>")
        sock = socket.socket(fileno=fd)
        stream = ClientStream(sock, write_timeout=self._write_timeout)
        self._streams.add(stream)
        try:
            reason = await self._guarded(stream, handover)
        except BaseException:
            # Our bug, in this session or another one of this worker; or the end took too long.
            await stream.say_bye(_BYE if self._ending else _OUR_FAULT)
            raise
        finally:
            self._streams.discard(stream)
            with trio.CancelScope(shield=True):
                await stream.aclose()
                await self._report(message.number("serial"))
            if not self._streams:
                self._none_left.set()
        log.info("Disconnected: %s in=%d out=%d", reason, stream.octets_in, stream.octets_out)

    async def _guarded(self, stream: ClientStream, handover: Handover) -> str:
        """Why the session ended.  Only our own bugs escape."""
        reason = "Logged out"
        try:
            with stream.end_scope() as scope:
                await self._serve(stream, handover, self._context)
            if scope.cancelled_caught:
                await stream.say_bye(_BYE)
                return "Server shutting down"
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = "Connection lost"
        except* trio.TooSlowError:
            reason = "Inactivity"
        except* ProtocolError as group:
            reason = f"Protocol error: {_first(group)}"
        except* SharingError as group:
            reason = f"Refused: {_first(group)}"
        if stream.garbled:
            return f"The client sent {stream.garbled}"
        if stream.unresponsive:
            return "The client does not read"
        return "Connection closed" if stream.peer_closed else reason

    async def _report(self, serial: int) -> None:
        try:
            await self._control.send({"closed": serial})
        except OSError:
            return  # the spawner has hung up: nobody counts any more


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def main(
    control_fd: int,
    serve: Serve,
    *,
    config: Config,
    settings: Settings,
    lookup_path: Path,
    write_timeout: float,
    name: str,
) -> int:
    """Serve connections as whoever this process is by now.  Exit status."""
    start_logging(name)
    users = SharedLookup(lookup_path)

    async def run() -> None:
        control = AsyncChannel(socket.socket(fileno=control_fd))
        watcher = Watcher()
        mailboxes = MailboxPool(watcher)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watcher.run)
                nursery.start_soon(mailboxes.indexer.run)
                context = WorkerContext(config, settings, users, mailboxes)
                await Worker(control, context, serve, write_timeout=write_timeout).run()
                nursery.cancel_scope.cancel()
        finally:
            mailboxes.close()
            watcher.close()
            users.close()

    try:
        trio.run(run)
    except BaseException:
        log.critical("Our bug; this worker and its connections end: %s", fields(), exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK
