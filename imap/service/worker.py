"""The worker: one Unix identity's mail process, with all its connections.

Forked by the spawner, it has become its user before this module's main() touches anything.
Peers' faults and refusals end one session.  Any other exception is our bug: it is logged with its
traceback and ends the worker; the master and all other identities go on.
"""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

from imap.service.accounts import Accounts
from imap.service.asleep import LONGEST_STATE
from imap.service.channel import MAX_MESSAGE, AsyncChannel, ChannelError, Message
from imap.service.handover import Handover, decode
from imap.service.logs import fields, on_behalf_of, start_logging
from imap.service.mailboxes import MailboxPool
from imap.service.stream import ClientStream, end_silent
from imap.service.watcher import Watcher
from imap.wire import ProtocolError
from sharefs.config import Config, Settings
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup, LookupClient

log = logging.getLogger(__name__)

_END_PATIENCE: Final = 1.5  # seconds for commands that run when the worker is told to end
_ROUSED: Final = 1.0  # seconds after which a worker that a change has woken goes back to sleep
_TRY_AGAIN: Final = 0.5  # seconds until a worker that cannot rest yet tries again, at first
_TRY_LATER: Final = 300.0  # and later
# Their data must fit into one message on the way out, and all at once into the channel to the
# worker that they wake up in, which does not read yet.  So many share a process well enough.
_MOST_TOGETHER: Final = 32
_MOST_OCTETS: Final = MAX_MESSAGE // 2
_BYE: Final = "Server shutting down."
_OUR_FAULT: Final = "Internal error; see the server log."
_SILENT: Final = "Disconnected for inactivity."


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What all connections of a worker share.

    config: everything; settings: those without a user.  users: where other users' homes are, for
    several threads at once.  mailboxes: open mailboxes by name.  accounts: opens those of
    connections.
    """

    config: Config
    settings: Settings
    users: HomeLookup
    mailboxes: MailboxPool
    accounts: Accounts


Serve: TypeAlias = Callable[[ClientStream, Handover, WorkerContext], Awaitable[None]]


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
    """Connections come by the control channel; their ends are reported there.

    rest_after: seconds in which nothing happens on any connection after which they go back to the
    spawner as data, to sleep there without this process; 0: never.  leave: called then; the
    process ends when it has returned.
    """

    def __init__(
        self,
        control: AsyncChannel,
        context: WorkerContext,
        serve: Serve,
        *,
        write_timeout: float,
        rest_after: float = 0.0,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._control = control
        self._context = context
        self._serve = serve
        self._write_timeout = write_timeout
        self._rest_after = rest_after
        self._leave = leave
        self._streams: set[ClientStream] = set()
        self._serials: dict[ClientStream, int] = {}
        self._none_left = trio.Event()
        self._ending = False

    async def run(self) -> None:
        """Until the spawner hangs up or SIGTERM comes; then connections end with BYE."""
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as receiving:
                receiving.start_soon(self._until_sigterm, receiving.cancel_scope)
                receiving.start_soon(end_silent, self._streams)
                if self._rest_after:
                    receiving.start_soon(self._rest, nursery)
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

    # -- sleep -----------------------------------------------------------------------------

    async def _rest(self, nursery: trio.Nursery) -> None:
        """Put all connections to sleep once nothing has happened on any for a while."""
        pause = _TRY_AGAIN
        while True:
            wait = self._quiet_at() - trio.current_time()
            if wait > 0:
                pause = _TRY_AGAIN
                await trio.sleep(wait)
                continue
            if rests := self._rests():
                self._offer(rests, nursery)
            await trio.sleep(min(pause, 2 * self._rest_after))
            pause = min(2 * pause, _TRY_LATER)

    def _quiet_at(self) -> float:
        """When every connection will have been quiet for long enough, if nothing happens."""
        long, short = self._rest_after, min(_ROUSED, self._rest_after)
        times = [each.active + (short if each.is_roused else long) for each in self._streams]
        return max(times, default=trio.current_time() + long)

    def _rests(self) -> list[dict[str, Any]] | None:
        """All connections as data; None if one of them, or anybody, has something to do."""
        if not self._context.mailboxes.is_at_rest or len(self._streams) > _MOST_TOGETHER:
            return None
        found = []
        room = _MOST_OCTETS
        for stream, serial in self._serials.items():
            rest = stream.rest()
            if rest is None:
                return None
            state = json.dumps(rest.state, separators=(",", ":"))
            room -= len(state)
            if len(state) > LONGEST_STATE or room < 0:
                return None
            found.append(
                {
                    "serial": serial,
                    "state": state,
                    "idle": rest.idle,
                    "due": rest.due,
                    "interval": rest.interval,
                    "in": stream.octets_in,
                    "out": stream.octets_out,
                }
            )
        return found

    def _offer(self, rests: list[dict[str, Any]], nursery: trio.Nursery) -> None:
        """Give the connections to the spawner and end, unless it has just given us another.

        Nothing else happens in this process from the look at the connections to the answer: no
        octet is read that the data would not tell of.  What clients send meanwhile, and changes
        of mailboxes, stay in descriptors that the spawner has too.
        """
        try:
            self._control.send_nowait({"sleep": rests})
        except (OSError, ChannelError) as exc:
            log.debug("Connections stay awake: %s", exc)  # too much of it for one message, say
            return
        while (message := self._control.receive_blocking()) is not None:
            match message.body.get("do"):
                case "leave":
                    self._leave()
                    os._exit(os.EX_OK)
                case "stay":
                    return
                case _:
                    nursery.start_soon(self._session, message)
        # The spawner is gone: whoever receives hears of it next, and ends the connections.

    async def _session(self, message: Message) -> None:
        """One connection, from its descriptor to its end."""
        (fd,) = message.fds
        handover = decode(message.body["handover"])
        on_behalf_of.set(f"imap({handover.user.name})<{os.getpid()}><{handover.session_id}>")
        sock = socket.socket(fileno=fd)
        stream = ClientStream(sock, write_timeout=self._write_timeout)
        stream.active = trio.current_time()
        self._streams.add(stream)
        self._serials[stream] = message.number("serial")
        if "rest" in message.body:
            handover = replace(handover, rest=json.loads(message.text("rest")))
            stream.octets_in, stream.octets_out = message.number("in"), message.number("out")
            stream.is_roused = message.body["roused"] is True
        try:
            reason = await self._guarded(stream, handover)
        except BaseException:
            # Our bug, in this session or another one of this worker; or the end took too long.
            await stream.say_bye(_BYE if self._ending else _OUR_FAULT)
            raise
        finally:
            self._streams.discard(stream)
            del self._serials[stream]
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
                await stream.say_bye(_SILENT if stream.was_silent else _BYE)
                return "Inactivity" if stream.was_silent else "Server shutting down"
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = "Connection lost"
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
    rest_after: float,
    name: str,
) -> int:
    """Serve connections as whoever this process is by now.  Exit status."""
    start_logging(name)
    users = SharedLookup(lookup_path)

    async def run() -> None:
        control = AsyncChannel(socket.socket(fileno=control_fd))
        watcher = Watcher()
        mailboxes = MailboxPool(watcher)
        if rest_after:
            # Before anything of the user's has been touched: later the spawner takes no descriptor.
            await control.send({"watch": True}, [watcher.fileno()])

        def leave() -> None:
            mailboxes.close()
            users.close()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watcher.run)
                nursery.start_soon(mailboxes.indexer.run)
                nursery.start_soon(mailboxes.keeper.run)
                accounts = Accounts(config, users)
                context = WorkerContext(config, settings, users, mailboxes, accounts)
                worker = Worker(
                    control, context, serve,
                    write_timeout=write_timeout, rest_after=rest_after, leave=leave,
                )  # fmt: skip
                await worker.run()
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
