"""One client's connection in a worker: the sans-I/O reader, the session, and the stream, joined.

serve() is the whole life of a connection after login.  A peer's fault and a refusal end at most
this connection; any other exception is a bug of ours and propagates to the worker.
"""

import contextlib
import functools
import logging
import math
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from typing import Final, TypeVar

import trio

from imap.commands import engine, resting
from imap.commands.append import Answer
from imap.commands.host import Handle
from imap.commands.replies import no, ok
from imap.commands.session import Session, State
from imap.commands.table import capability
from imap.service.deflate import Compressor, Decompressor
from imap.service.handover import Handover
from imap.service.mailboxes import MailboxPool
from imap.service.shared_handle import CHECK_SECONDS, SharedHandle
from imap.service.stream import COMPRESSED_LIMIT, ClientStream, Rest, may_compress_more
from imap.service.threads import in_thread
from imap.service.watcher import sees_everything
from imap.service.worker import WorkerContext
from imap.wire import (
    NEED_DATA,
    Command,
    CommandReader,
    Limits,
    LiteralData,
    LiteralWanted,
    ProtocolError,
)
from sharefs.account import Account, Place
from sharefs.errors import Code, SharingError
from sharefs.rights import READ, Rights
from sharefs.store.interface import Mailbox

T = TypeVar("T")

log = logging.getLogger("imap.connection")

INACTIVITY: Final = 30 * 60  # seconds; RFC 3501 section 5.4 asks for at least 30 minutes
_DAY: Final = 86400.0  # seconds
RECEIVE: Final = 64 * 1024  # octets
TURN: Final = 0.01  # seconds of commands in a row after which other connections have their turn


class Disconnected(Exception):
    """The client hung up, or was silent for too long."""


class Connection:
    """A stream with the command reader on it; the Host of its session.

    deflate_level: how hard to compress where a client asks for it, 1 to 9; 0: not at all.
    """

    def __init__(
        self,
        stream: ClientStream,
        reader: CommandReader,
        pool: MailboxPool,
        *,
        deflate_level: int = 0,
    ) -> None:
        self._stream = stream
        self._deflate_level = deflate_level
        self._reader = reader
        self._pool = pool
        self._appending_tag = ""
        self._is_waiting = False  # for its client, with nothing left to do or to say
        self._watches = True  # in IDLE: whether every change of its mailbox would be heard of
        self._compressing: tuple[Compressor, Decompressor] | None = None  # once it is answered

    # -- the Host of imap.commands ---------------------------------------------------------

    async def send(self, octets: bytes | bytearray) -> None:
        await self._stream.send_all(octets)

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        return await in_thread(function, *args)

    async def open(self, account: Account, name: str) -> Handle:
        opener = functools.partial(account.open_mailbox, name)
        return await self._open(account, name, READ, opener, self._pool.open_nowait, listed=True)

    async def open_target(self, account: Account, name: str, right: Rights) -> Handle:
        opener = functools.partial(account.writable_target, name, right)
        return await self._open(account, name, right, opener, self._pool.target_nowait)

    async def _open(
        self,
        account: Account,
        name: str,
        right: Rights,
        opener: Callable[[], Mailbox],
        nowait: Callable[[Hashable], SharedHandle | None],
        *,
        listed: bool = False,
    ) -> Handle:
        # Even a mailbox that is open here already is only for those with the right.  No thread for
        # what is in memory: changing to one takes longer than all the rest.
        place, rights = await self._place(account, name, right)
        handle = nowait(place.key)
        if handle is not None:
            handle.at_once = rights
            return handle
        return await self._pool.open(place.key, opener, place.index, name, listed=listed)

    async def _place(self, account: Account, name: str, right: Rights) -> tuple[Place, Rights]:
        if account.place_is_near(name):
            return account.place_and_rights(name, right)
        return await self.blocking(account.place_and_rights, name, right)

    async def recall(self, account: Account, name: str) -> Mapping[str, int]:
        place, _ = await self._place(account, name, READ)
        return self._pool.recall.recall(place.key)

    async def recall_each(
        self, account: Account, names: Sequence[str]
    ) -> Mapping[str, Mapping[str, int]]:
        def ask() -> dict[str, Mapping[str, int]]:
            found: dict[str, Mapping[str, int]] = {}
            for name in names:
                try:
                    found[name] = self._pool.recall.recall(account.place(name, READ).key)
                except (SharingError, OSError):
                    continue  # asked for alone it will tell why
            return found

        return await self.blocking(ask)

    def remember(self, handle: Handle, told: dict[str, int]) -> None:
        assert isinstance(handle, SharedHandle)
        self._pool.recall.remember(handle.key, handle.mailbox, told)

    @contextlib.asynccontextmanager
    async def idling(self, handle: Handle | None) -> AsyncIterator["IdleWaiter"]:
        if handle is None:
            yield IdleWaiter(self, None, math.inf)
            return
        assert isinstance(handle, SharedHandle)
        with handle.watching() as poll:
            self._watches = poll == CHECK_SECONDS
            yield IdleWaiter(self, handle, poll)

    def compress_after_answer(self) -> None:
        if self._stream.is_compressed or self._compressing is not None:
            raise SharingError(Code.ALREADY_EXISTS, "compression is active already")
        if not self._deflate_level:
            raise SharingError(Code.LIMIT, "imap_compress_deflate_level is 0")
        if not may_compress_more():
            raise SharingError(Code.LIMIT, f"{COMPRESSED_LIMIT} connections are compressed already")
        try:
            self._compressing = Compressor(self._deflate_level), Decompressor()
        except MemoryError as error:
            raise SharingError(Code.LIMIT, "no memory is left to compress with") from error

    def _begin_compression(self) -> None:
        """The answer is out.  What the client sent after its command is compressed already."""
        if self._compressing is not None:
            compressor, decompressor = self._compressing
            self._compressing = None
            decompressor.feed(self._reader.take_unread())
            self._stream.compress(compressor, decompressor)

    # -- input -----------------------------------------------------------------------------

    async def receive(self) -> None:
        """Feed the reader.  Raises Disconnected."""
        octets = await self._stream.receive_some(RECEIVE)
        self._is_waiting = False
        if not octets:
            raise Disconnected
        self._reader.feed(octets)

    def waits(self, waiting: bool) -> None:
        """Whether it now waits for its client and has nothing left to say."""
        self._is_waiting = waiting

    async def read_line(self) -> bytes:
        """One line outside of commands.  Raises Disconnected."""
        while True:
            line = self._reader.next_line()
            if line is not NEED_DATA:
                return line
            await self.receive()

    async def run(self, session: Session) -> None:
        """Serve commands until LOGOUT.  Raises Disconnected, BrokenResourceError."""
        if session.idle_tag and session.state is not State.LOGOUT:
            await engine.run(session, Command(session.idle_tag, "IDLE"))
        stream = self._stream
        turn, has_waited = stream.active, True
        while session.state is not State.LOGOUT:
            try:
                event = self._reader.next_event()
                if isinstance(event, LiteralWanted):
                    await self._decide(session, event)
                    continue
            except ProtocolError as error:
                await engine.abandon(session)
                session.out += error.response()
                if error.fatal:
                    break
                continue
            if event is NEED_DATA:
                await session.flush()
                # Octets went one way or the other just now, or some time ago: before an IDLE.
                stream.patient_until = stream.active + INACTIVITY
                self._is_waiting = True
                await self.receive()
                stream.patient_until = math.inf
                has_waited = True
            elif isinstance(event, LiteralData):
                await self._take(session, event)
            else:
                # A client that sends a thousand commands at once waits for others, too.
                if has_waited:
                    turn, has_waited = stream.active, False
                elif trio.current_time() - turn > TURN:
                    await trio.lowlevel.checkpoint()
                    turn = trio.current_time()
                await engine.run(session, event)
                if self._compressing is None:
                    await session.drain()
                else:
                    await session.flush()
                    self._begin_compression()
        await session.flush()

    def rest(self, session: Session) -> Rest | None:
        """What another process needs to go on with it; None if there is something to do.

        In IDLE only if whoever sleeps instead hears of every change: no polling is needed.
        """
        stream = self._stream
        if not self._is_waiting or not self._reader.is_at_rest:
            return None
        if stream.is_compressed:
            return None
        idle, selected = bool(session.idle_tag), session.selected
        if idle and selected is not None:
            mailbox = selected.handle.mailbox
            if not self._watches or not sees_everything(mailbox.watch_paths()):
                return None
        packed = resting.pack(session)
        if packed is None:
            return None
        passed = trio.current_time() - stream.active
        if not idle:
            return Rest(packed, idle, INACTIVITY - passed)
        interval = min(float(session.account.settings.imap_idle_notify_interval), _DAY)
        return Rest(packed, idle, interval - passed, interval)

    async def _decide(self, session: Session, wanted: LiteralWanted) -> None:
        """Raises ProtocolError for a literal that is too big to take, or even to skip."""
        answer = await engine.literal_wanted(session, wanted)
        match answer:
            case Answer.ACCEPT:
                self._reader.accept()
            case Answer.STREAM:
                self._reader.stream()
            case _:
                self._reader.refuse()
                session.out += answer.line(wanted.so_far.tag.encode("ascii"))
                return
        self._appending_tag = wanted.so_far.tag
        if wanted.synchronising:
            session.out += b"+ OK\r\n"
            await session.flush()

    async def _take(self, session: Session, data: LiteralData) -> None:
        reply = await engine.literal_data(session, data)
        if reply is not None:
            self._reader.abandon()
            session.out += reply.line(self._appending_tag.encode("ascii"))


class IdleWaiter:
    """Waits for the client's line and for a change at once.  poll: seconds, infinite for none."""

    def __init__(self, connection: Connection, handle: SharedHandle | None, poll: float) -> None:
        self._connection = connection
        self._handle = handle
        self._poll = poll

    async def line_or_change(self, seconds: float) -> bytes | None:
        """None: something changed, or the time is over.  Raises EOFError: the client is gone."""
        line: bytes | None = None
        gone: Exception | None = None

        async def wait_line(scope: trio.CancelScope) -> None:
            nonlocal line, gone
            try:
                line = await self._connection.read_line()
            except (Disconnected, trio.BrokenResourceError) as error:
                gone = error  # raised here it would come out of the nursery within a group
            scope.cancel()

        async def wait_change(handle: SharedHandle, scope: trio.CancelScope) -> None:
            await handle.wait_change()
            scope.cancel()

        self._connection.waits(True)
        with trio.move_on_after(min(seconds, self._poll)) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_line, scope)
                if self._handle is not None:
                    nursery.start_soon(wait_change, self._handle, scope)
        self._connection.waits(False)
        if gone is not None:
            raise EOFError from gone
        return line


async def serve(stream: ClientStream, handover: Handover, worker: WorkerContext) -> None:
    """Answer the login that brought the connection here, then serve it to its end.

    Returns when the client is gone or logged out.  The caller closes the stream.
    """
    settings = worker.settings
    reader = CommandReader(
        Limits(line=settings.imap_max_line_length, append=settings.sharefs_append_max_size)
    )
    reader.feed(handover.unread)
    level = min(settings.imap_compress_deflate_level, 9)
    connection = Connection(stream, reader, worker.mailboxes, deflate_level=level)
    tag = handover.tag.encode("ascii")
    try:
        account = await connection.blocking(worker.accounts.open, handover.user)
    except (SharingError, OSError) as error:
        log.error("No mail for %s: %s", handover.user.name, error)
        refusal = no("Your mail cannot be reached; see the server log.", b"UNAVAILABLE").line(tag)
        if handover.rest is not None:
            refusal = b""  # the login was answered long ago
        await stream.send_all(refusal + b"* BYE Try again later.\r\n")
        return
    told = capability(
        acl_enabled=account.settings.acl_enabled,
        indexed=account.settings.sharefs_index,
        compress=bool(level),
    )
    session = Session(account, connection, told)
    stream.rest = functools.partial(connection.rest, session)
    try:
        if handover.rest is None:
            session.out += ok("Logged in", b"CAPABILITY " + told).line(tag)
        else:
            await resting.unpack(session, handover.rest)
        await connection.run(session)
    except (Disconnected, EOFError, trio.BrokenResourceError):
        pass
    finally:
        with trio.CancelScope(shield=True):
            await engine.close(session)
