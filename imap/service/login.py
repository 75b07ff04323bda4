"""The login process: takes connections, talks to strangers, can open no mail.

Started by exec, not by fork: its memory must hold nothing of the master's.  It starts as root only
to load the certificate, shuts itself in an empty directory as an unprivileged user, and only then
is told its ports.  Everything it will ever import is imported by then.
"""

import encodings.ascii
import encodings.idna
import encodings.latin_1
import errno
import logging
import os
import secrets
import select
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import trio

from imap.service.backends import Client
from imap.service.channel import AsyncChannel, Channel, ChannelError, Message
from imap.service.login_session import Doors, LoginSession
from imap.service.logs import start_logging
from imap.service.processes import reset_signals, set_process_name
from imap.service.settings import LoginSettings
from imap.service.tls import make_context
from sharefs.errors import SharingError
from sharefs.identity.privileges import become, enter_empty_root

# Named so that a codec is not looked for on a disk that is no longer there.
_NEEDED_LATER: Final = (encodings.ascii, encodings.idna, encodings.latin_1)

log = logging.getLogger(__name__)

# accept(2) refusals that pass: the process or the system is out of something for now.
_CAPACITY: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_CAPACITY_PAUSE: Final = 0.1  # seconds
_END_PATIENCE: Final = 2.0  # seconds that logged-in TLS clients get after the master said stop
_GONE_AGAIN: Final = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
)


class LoginProcess:
    """Sessions, their limits, and the master's orders."""

    def __init__(self, doors: Doors, control: AsyncChannel) -> None:
        self._doors = doors
        self._control = control
        self._strangers: dict[LoginSession, str] = {}  # not logged in, oldest first; their address
        self._per_address: Counter[str] = Counter()
        self._open = 0  # sessions, logged-in TLS clients included
        self._accepting: list[trio.CancelScope] = []
        self._ending = False
        self._all_gone = trio.Event()

    async def run(self) -> None:
        """Until the master says stop or goes away, or the last client of a retired one has gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, nursery)
            await self._all_gone.wait()
            nursery.cancel_scope.cancel()

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Carry out the master's messages until it wants an end."""
        while True:
            try:
                message = await self._control.receive()
            except ChannelError as exc:
                log.error("The master sent %s", exc)
                continue
            order = "stop" if message is None else message.body.get("do")
            if order == "stop":
                break
            if order == "retire":
                self._take_nobody()
            elif order == "report":
                await self._control.send({"ready": True})
            elif message is not None:
                self._take(message, nursery)
        # Logged-in TLS clients hear BYE from their workers, through us: wait for that.
        for session in self._strangers:
            session.end_reason = "Server shutting down"
            session.scope.cancel()
        self._take_nobody()
        await trio.sleep(_END_PATIENCE)
        self._all_gone.set()

    def _take_nobody(self) -> None:
        self._ending = True
        for scope in self._accepting:
            scope.cancel()
        if not self._open:
            self._all_gone.set()

    def _take(self, message: Message, nursery: trio.Nursery) -> None:
        """A port, or the way to a new auth or spawner process."""
        (fd,) = message.fds
        sock = socket.socket(fileno=fd)
        match message.text("take"):
            case "listener":
                sock.setblocking(False)
                listener = trio.socket.from_stdlib_socket(sock)
                nursery.start_soon(self._accept, listener, bool(message.body["tls"]), nursery)
            case "auth":
                nursery.start_soon(self._doors.auth.serve, AsyncChannel(sock))
            case "spawner":
                nursery.start_soon(self._doors.spawner.serve, AsyncChannel(sock))

    async def _accept(
        self, listener: trio.socket.SocketType, tls_first: bool, nursery: trio.Nursery
    ) -> None:
        scope = trio.CancelScope()
        self._accepting.append(scope)
        with listener, scope:
            while not self._ending:
                try:
                    sock, address = await listener.accept()
                except OSError as exc:
                    if exc.errno in _CAPACITY:
                        log.error("Cannot take a connection: %s", exc.strerror)
                        await trio.sleep(_CAPACITY_PAUSE)
                    elif exc.errno not in _GONE_AGAIN:
                        raise
                    continue
                client = _client_of(sock, address)
                if client is not None:
                    nursery.start_soon(self._serve, sock, client, tls_first)

    async def _serve(self, sock: trio.socket.SocketType, client: Client, tls_first: bool) -> None:
        settings = self._doors.settings
        transport = trio.SocketStream(sock)
        if self._per_address[client.remote] >= settings.max_per_address:
            log.info("Too many connections before login: rip=%s", client.remote)
            await _refuse(transport, tls_first)
            return
        if self._open >= settings.client_limit and self._strangers:
            oldest = next(iter(self._strangers))
            self._forget(oldest)
            oldest.end_reason = "Too many clients, and others are waiting"
            oldest.scope.cancel()
        session = LoginSession(transport, client, self._doors)
        self._strangers[session] = client.remote
        self._per_address[client.remote] += 1
        self._open += 1
        try:
            await session.serve(tls_first=tls_first, logged_in=lambda: self._forget(session))
        finally:
            self._forget(session)
            self._open -= 1
            if self._ending and not self._open:
                self._all_gone.set()

    def _forget(self, session: LoginSession) -> None:
        """The session is no stranger any more: logged in, told to go, or ended."""
        address = self._strangers.pop(session, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]


def _client_of(sock: trio.socket.SocketType, address: tuple[object, ...]) -> Client | None:
    """Who connected to what; None and closed when the client is gone already."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        local = sock.getsockname()
    except OSError:
        sock.close()
        return None
    return Client(
        session=secrets.token_urlsafe(9),
        remote=_plain(str(address[0])),
        remote_port=int(str(address[1])),
        local=_plain(str(local[0])),
        local_port=int(local[1]),
    )


def _plain(address: str) -> str:
    """An IPv4 client of an IPv6 socket is written as the IPv4 client it is."""
    return address.removeprefix("::ffff:") if "." in address else address


async def _refuse(transport: trio.SocketStream, tls_first: bool) -> None:
    with trio.move_on_after(1.0):
        try:
            if not tls_first:
                text = b"* BYE [LIMIT] Too many connections from your address.\r\n"
                await transport.send_all(text)
        except trio.BrokenResourceError:
            pass
    await transport.aclose()


def _receive_settings(control: socket.socket) -> LoginSettings | None:
    """The master's first message; None: the master has gone."""
    channel = Channel(control)
    select.select([control], [], [])
    message = channel.receive()
    return None if message is None else LoginSettings.decode(message.body["settings"])


def main(control_fd: int) -> int:
    """Serve until told to end.  control_fd: our end of the master's channel.  Exit status."""
    reset_signals()
    set_process_name("sharefs-login")
    start_logging("imap-login")
    control = socket.socket(fileno=control_fd)
    settings = _receive_settings(control)
    if settings is None:
        return os.EX_UNAVAILABLE
    start_logging("imap-login", debug=settings.debug)
    try:
        context = None if settings.tls is None else make_context(settings.tls)
    except SharingError as refusal:
        log.critical("%s", refusal.detail)
        return os.EX_CONFIG
    if settings.root_directory:
        enter_empty_root(Path(settings.root_directory))
    become(settings.uid, settings.gid, ())

    async def serve() -> None:
        channel = AsyncChannel(control)
        await LoginProcess(Doors(settings, context), channel).run()

    try:
        trio.run(serve)
    except BaseException:
        log.critical("Our bug; this process ends", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
