"""One client before login: reads commands, acts on what preauth decides, hands the client on."""

import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from imap.service.backends import Client, Correspondent, Unavailable, hand_over, verify
from imap.service.logs import fields
from imap.service.preauth import (
    MAX_LINE,
    UNAVAILABLE,
    Action,
    Attempt,
    Close,
    Policy,
    PreAuth,
    ReadResponse,
    Refused,
    Say,
    StartTls,
)
from imap.service.settings import LoginSettings
from imap.service.tls import pump, server_stream
from imap.wire import (
    NEED_DATA,
    Command,
    CommandReader,
    Limits,
    LiteralWanted,
    ProtocolError,
)

log = logging.getLogger(__name__)

_MOST_OCTETS: Final = 256 * 1024  # from a stranger; a login takes a hundred
_READ: Final = 4096  # octets; what is read past the login command travels in the handover


class _Ended(Exception):
    """The conversation is over.  str() is the reason for the log."""


@dataclass(slots=True)
class Doors:
    """What all sessions of a login process share."""

    settings: LoginSettings
    context: ssl.SSLContext | None
    auth: Correspondent = field(default_factory=lambda: Correspondent("auth"))
    spawner: Correspondent = field(default_factory=lambda: Correspondent("the spawner"))


class LoginSession:
    """serve() it once.  Owns the transport."""

    def __init__(self, transport: trio.SocketStream, client: Client, doors: Doors) -> None:
        self._transport = transport
        self._stream: trio.abc.Stream = transport
        self._client = client
        self._doors = doors
        settings = doors.settings
        policy = Policy(
            greeting=settings.greeting,
            starttls=doors.context is not None,
            cleartext=settings.cleartext(client.remote, client.local),
            failure_delay=settings.failure_delay,
            max_failures=settings.max_failures,
        )
        self._preauth = PreAuth(policy, tls=False)
        self._reader = CommandReader(
            Limits(
                line=MAX_LINE,
                literal=settings.max_literal,
                command=MAX_LINE + 2 * settings.max_literal,
                append=2 * settings.max_literal,  # what a refused LITERAL+ may still send
            )
        )
        self._started = time.monotonic()
        self._mute = False  # in a handshake: plain text would be garbage
        self._octets = 0  # read so far
        self._tried = ""  # the last user name tried
        self.scope = trio.CancelScope()  # cancel to hang up before login
        self.end_reason = ""  # why scope was cancelled

    async def serve(self, *, tls_first: bool, logged_in: Callable[[], None]) -> None:
        """From the greeting to the handover, or to the end; for TLS clients, to the very end.

        logged_in is called when the client no longer counts as a stranger.  Raises nothing.
        """
        worker_end: trio.SocketStream | None = None
        reason = ""
        self.scope.deadline = trio.current_time() + self._doors.settings.timeout
        try:
            with self.scope:
                if tls_first:
                    await self._start_tls()
                await self._send(self._preauth.greeting())
                worker_end = await self._converse()
            if self.scope.cancelled_caught:
                reason = self.end_reason or "Inactivity during login"
                await self._bye(reason)
        except _Ended as ended:
            reason = str(ended)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            reason = _broken(exc)
        if reason:
            self._log_end(reason)
            await self._close()
        elif worker_end is None:
            await self._transport.aclose()  # the worker has its own descriptor of this socket
        else:
            logged_in()
            await pump(self._stream, worker_end)

    # -- octets ----------------------------------------------------------------------------

    async def _send(self, octets: bytes) -> None:
        await self._stream.send_all(octets)

    async def _read(self) -> None:
        octets = await self._stream.receive_some(_READ)
        if not octets:
            raise _Ended("Connection closed")
        self._octets += len(octets)
        if self._octets > _MOST_OCTETS:
            raise _Ended("Too much input before login")
        self._reader.feed(octets)

    async def _start_tls(self) -> None:
        context = self._doors.context
        assert context is not None
        tls = server_stream(self._transport, context)
        self._mute = True
        await tls.do_handshake()
        self._stream = tls
        self._preauth.tls = True
        self._mute = False

    async def _next_command(self) -> Command:
        """Raises ProtocolError."""
        while True:
            match self._reader.next_event():
                case Command() as command:
                    return command
                case LiteralWanted(synchronising=synchronising):
                    self._reader.accept()
                    if synchronising:
                        await self._send(b"+ OK\r\n")
                case _:
                    await self._read()

    async def _next_line(self) -> bytes:
        while True:
            line = self._reader.next_line()
            if line is not NEED_DATA:
                return line
            await self._read()

    # -- conversation ----------------------------------------------------------------------

    async def _converse(self) -> trio.SocketStream | None:
        """Until the client is handed over: our end of the worker's socket pair, None if plain.

        Raises _Ended, BrokenResourceError.
        """
        while True:
            try:
                action = self._preauth.command(await self._next_command())
            except ProtocolError as error:
                action = self._preauth.bad(error)
            while isinstance(action, ReadResponse):
                action = await self._ask_response(action)
            if isinstance(action, Attempt):
                taken, worker_end = await self._attempt(action)
                if taken:
                    return worker_end
            else:
                await self._act(action)

    async def _ask_response(self, action: ReadResponse) -> Action:
        await self._send(action.octets)
        try:
            return self._preauth.response(await self._next_line())
        except ProtocolError as error:
            return self._preauth.bad(error)

    async def _act(self, action: Action) -> None:
        match action:
            case Say(octets):
                await self._send(octets)
            case Close(octets, reason):
                await self._send(octets)
                raise _Ended(reason.capitalize())
            case StartTls(octets):
                await self._send(octets)
                # What came before the handshake came from anybody (RFC 3501 section 6.2.1).
                self._reader.take_unread()
                await self._start_tls()
            case Refused(tag, user, reason):
                await self._fail(tag, user, reason)

    async def _attempt(self, attempt: Attempt) -> tuple[bool, trio.SocketStream | None]:
        """Whether the client now belongs to a worker."""
        self._tried = attempt.user
        try:
            ticket = await verify(self._doors.auth, attempt, self._client, tls=self._preauth.tls)
            if ticket is None:
                await self._fail(attempt.tag, attempt.user, "auth failed")
                return False, None
            return await self._hand_over(attempt, ticket)
        except Unavailable as exc:
            log.error("Login not possible: %s: %s", exc, self._fields(user=attempt.user))
            await self._send(f"{attempt.tag} {UNAVAILABLE}\r\n".encode())
            return False, None

    async def _fail(self, tag: str, user: str, reason: str) -> None:
        self._tried = user
        log.info("Login failed (%s): %s", reason, self._fields(user=user))
        await trio.sleep(self._preauth.delay())
        await self._act(self._preauth.failed(tag))

    async def _hand_over(
        self, attempt: Attempt, ticket: str
    ) -> tuple[bool, trio.SocketStream | None]:
        unread = self._reader.take_unread()
        ours: socket.socket | None = None
        theirs: socket.socket | None = None
        if self._preauth.tls:
            ours, theirs = socket.socketpair()
        try:
            fd = self._transport.socket.fileno() if theirs is None else theirs.fileno()
            # Never half: once the worker has the descriptor, this process must not speak on it.
            with trio.CancelScope(shield=True):
                taken = await hand_over(self._doors.spawner, ticket, attempt.tag, unread, fd)
        except BaseException:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()
        if taken.pid:
            log.info(
                "Login: %s",
                self._fields(user=attempt.user, method=attempt.mechanism, mpid=taken.pid),
            )
            if ours is None:
                return True, None
            ours.setblocking(False)
            return True, trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        if ours is not None:
            ours.close()
        log.info("Login refused (limit): %s", self._fields(user=attempt.user))
        answer = f"{attempt.tag} NO [LIMIT] {taken.refusal}\r\n* BYE Too many connections.\r\n"
        await self._send(answer.encode())
        raise _Ended("Too many connections of this user")

    # -- ends ------------------------------------------------------------------------------

    def _fields(self, *, user: str, method: str | None = None, mpid: int | None = None) -> str:
        return fields(
            user=user,
            method=method,
            rip=self._client.remote,
            lip=self._client.local,
            mpid=mpid,
            TLS=self._preauth.tls,
            session=self._client.session,
        )

    def _log_end(self, reason: str) -> None:
        failures = self._preauth.failures
        seconds = int(time.monotonic() - self._started)
        attempts = f"auth failed, {failures} attempts" if failures else "no auth attempts"
        log.info(
            "Disconnected: %s (%s in %d secs): %s",
            reason,
            attempts,
            seconds,
            self._fields(user=self._tried),
        )

    async def _bye(self, reason: str) -> None:
        if self._mute:
            return
        with trio.move_on_after(1.0):
            try:
                await self._stream.send_all(f"* BYE {reason}.\r\n".encode())
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                return

    async def _close(self) -> None:
        with trio.move_on_after(1.0):
            try:
                await self._stream.aclose()
            except trio.BrokenResourceError:
                await self._transport.aclose()


def _broken(exc: BaseException) -> str:
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    return "Connection lost"
