"""The auth process: the only one that sees passwords and knows who somebody is.

To login it says yes with a ticket, no, or "cannot tell"; who the user is goes to the spawner alone.
It also answers the small question where other users' homes are (sharefs.identity.lookup).
"""

import contextlib
import logging
import os
import queue
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from imap.service.channel import AsyncChannel, ChannelError, Message
from imap.service.handover import encode_user
from imap.service.logs import fields, start_logging
from imap.service.tickets import new_ticket
from sharefs.errors import Code, SharingError
from sharefs.identity.lookup import MAX_REQUEST, HomeLookup, answer
from sharefs.identity.model import MailUser, Verified

log = logging.getLogger(__name__)

_LOOKUP_THREADS: Final = 2
_LOOKUP_IDLE: Final = 600.0  # seconds a worker's connection may be silent; it connects again
_LOOKUP_CLIENTS: Final = 4096  # one for each worker; anybody on the host may connect


class Passwords(Protocol):
    """What auth wants of sharefs.identity.passdb.PasswordDatabase."""

    def verify(
        self,
        login: str,
        password: str | bytes,
        *,
        remote: str = "",
        tls: bool = False,
        mechanism: str = "PLAIN",
        authorize: str = "",
    ) -> Verified: ...


class Users(HomeLookup, Protocol):
    """What auth wants of sharefs.identity.userdb.UserDatabase."""

    def lookup(self, name: str, *, login: Verified | None = None) -> MailUser: ...


@dataclass(frozen=True, slots=True)
class Directory:
    """One thread's databases.  They block and are not for two threads at once."""

    passwords: Passwords
    users: Users


class _Pool:
    """As many directories as there are threads at work, made when first needed."""

    def __init__(self, make: Callable[[], Directory]) -> None:
        self._make = make
        self._free: queue.LifoQueue[Directory] = queue.LifoQueue()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Directory]:
        """One for the length of a `with`, for this thread alone."""
        try:
            directory = self._free.get_nowait()
        except queue.Empty:
            directory = self._make()
        try:
            yield directory
        finally:
            self._free.put(directory)


class AuthProcess:
    """Requests from many login processes, answered by a few threads."""

    def __init__(
        self, control: AsyncChannel, make_directory: Callable[[], Directory], threads: int
    ) -> None:
        self._control = control
        self._directories = _Pool(make_directory)
        self._limiter = trio.CapacityLimiter(threads)
        # Apart, so that workers get homes while slow hashes and PAM keep the others busy.
        self._lookup_limiter = trio.CapacityLimiter(_LOOKUP_THREADS)
        self._spawner: AsyncChannel | None = None
        self._lookup_clients = 0

    async def run(self) -> None:
        """Until the master says stop or goes away."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    message = await self._control.receive()
                except ChannelError as exc:
                    log.error("The master sent %s", exc)
                    continue
                order = "stop" if message is None else message.body.get("do")
                if order == "stop":
                    break
                if order == "report":
                    await self._control.send({"ready": True})
                elif message is not None:
                    self._take(message, nursery)
            nursery.cancel_scope.cancel()

    def _take(self, message: Message, nursery: trio.Nursery) -> None:
        """The way to another process, or the lookup socket."""
        (fd,) = message.fds
        sock = socket.socket(fileno=fd)
        match message.text("take"):
            case "login":
                nursery.start_soon(self._serve_login, AsyncChannel(sock))
            case "spawner":
                if self._spawner is not None:
                    self._spawner.close()
                self._spawner = AsyncChannel(sock)
            case "lookup":
                sock.setblocking(False)
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(trio.serve_listeners, self._serve_lookup, [listener])

    # -- logins ----------------------------------------------------------------------------

    async def _serve_login(self, channel: AsyncChannel) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    message = await channel.receive()
                except ChannelError as exc:
                    log.error("A login process sent %s", exc)
                    continue
                if message is None:
                    break
                message.close()  # no descriptor is expected from there
                nursery.start_soon(self._answer_login, channel, message)
            nursery.cancel_scope.cancel()
        channel.close()

    async def _answer_login(self, channel: AsyncChannel, message: Message) -> None:
        try:
            number = message.number("id")
            reply = await self._decide(message)
        except ChannelError as exc:
            log.error("A login process sent %s", exc)
            return
        try:
            await channel.send({**reply, "id": number})
        except OSError as exc:
            log.error("A login process went away before its answer: %s", exc)

    async def _decide(self, message: Message) -> Mapping[str, Any]:
        """The answer for login.  Raises ChannelError for a request that makes no sense."""
        user = message.text("user")
        about = fields(
            user=user,
            method=message.text("mechanism"),
            rip=message.text("remote"),
            session=message.text("session"),
        )
        try:
            found = await trio.to_thread.run_sync(self._verify, message, limiter=self._limiter)
        except SharingError as refusal:
            if refusal.code is Code.NO_PERMISSION:
                log.info("Refused: %s: %s", refusal.detail, about)
                return {"result": "failed"}
            log.error("Login not possible: %s: %s", refusal.detail, about)
            return {"result": "unavailable"}
        if self._spawner is None:
            log.error("No spawner to hand over to: %s", about)
            return {"result": "unavailable"}
        ticket = new_ticket()
        client = {key: message.body[key] for key in _CLIENT}
        try:
            # First the spawner, then login: so the ticket is known before it can be used.
            await self._spawner.send({"ticket": ticket, "user": encode_user(found), **client})
        except (OSError, ChannelError) as exc:
            log.error("The spawner cannot be told: %s: %s", exc, about)
            return {"result": "unavailable"}
        return {"result": "ok", "ticket": ticket}

    def _verify(self, message: Message) -> MailUser:
        """In a thread.  Raises SharingError."""
        with self._directories.lent() as directory:
            verified = directory.passwords.verify(
                message.text("user"),
                message.text("password"),
                remote=message.text("remote"),
                tls=bool(message.body.get("tls")),
                mechanism=message.text("mechanism"),
                authorize=message.text("authzid"),
            )
            try:
                return directory.users.lookup(verified.user, login=verified)
            except SharingError as refusal:
                # The password was right: an error of the administrator's, not of the client's.
                raise SharingError(Code.UNAVAILABLE, refusal.detail) from refusal

    # -- homes -----------------------------------------------------------------------------

    async def _serve_lookup(self, stream: trio.SocketStream) -> None:
        """One worker's questions, a line each.  Anybody on the host may ask: it is no secret."""
        if self._lookup_clients >= _LOOKUP_CLIENTS:
            await stream.aclose()
            return
        self._lookup_clients += 1
        try:
            await self._answer_lookups(stream)
        except (trio.BrokenResourceError, trio.TooSlowError):
            pass
        finally:
            self._lookup_clients -= 1
            await stream.aclose()

    async def _answer_lookups(self, stream: trio.SocketStream) -> None:
        unread = b""
        while True:
            while b"\n" not in unread and len(unread) <= MAX_REQUEST:
                with trio.fail_after(_LOOKUP_IDLE):
                    octets = await stream.receive_some(MAX_REQUEST)
                if not octets:
                    return
                unread += octets
            request, newline, unread = unread.partition(b"\n")
            line = await trio.to_thread.run_sync(
                self._look_up, request, limiter=self._lookup_limiter
            )
            with trio.fail_after(_LOOKUP_IDLE):
                await stream.send_all(line)
            if not newline:
                return

    def _look_up(self, request: bytes) -> bytes:
        with self._directories.lent() as directory:
            return answer(request, directory.users)


_CLIENT: Final = ("session", "remote", "remote_port", "local", "local_port", "tls")


def main(control_fd: int, make_directory: Callable[[], Directory], *, threads: int) -> int:
    """Serve until told to end.  Exit status."""
    start_logging("auth")

    async def serve() -> None:
        control = AsyncChannel(socket.socket(fileno=control_fd))
        await AuthProcess(control, make_directory, threads).run()

    try:
        trio.run(serve)
    except BaseException:
        log.critical("Our bug; this process ends", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK
