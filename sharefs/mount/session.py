"""The conversation with the kernel: reads requests, has them answered, writes the replies.

One thread reads and answers, one request after the other, blocking in read(2) between them: the
reply costs two system calls and no turn of any scheduler.  A handler that has long work to do
(`waiting`) leaves it to a pool of threads; the handler goes on in the pool's thread when the work
is done.  Whoever runs handlers has the turn, so they never see each other half way; who waits too
long with it, for a file system that does not answer, loses it (`relief`).
"""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sharefs.mount.base import Answer, Base, Handler, Octets
from sharefs.mount.caller import Caller
from sharefs.mount.engine import Compiled
from sharefs.mount.errnos import errno_of
from sharefs.mount.protocol import (
    CALLER,
    CALLER_AT,
    IN_HEADER,
    IN_HEADER_SIZE,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    MAJOR,
    MINOR,
    NOTIFY_STORE,
    OLDEST_MINOR,
    OUT_HEADER,
    STORE_OUT,
    Init,
    Opcode,
)
from sharefs.mount.silent import Silent
from sharefs.mount.turn import Relieved, Turn
from sharefs.mount.waiting import Patience, Pause

log: Final = logging.getLogger(__name__)

MAX_WRITE: Final = 1 << 20  # octets in one request; the kernel's own limit
BUFFER: Final = MAX_WRITE + (1 << 13)  # the header and what is fixed besides
MAX_CALLERS: Final = 4096  # remembered as objects
BACKGROUND: Final = 64  # requests that nobody waits for (read-ahead, releases) at the same time
CONGESTED: Final = 48
PAGE: Final = os.sysconf("SC_PAGE_SIZE")

WANTED: Final = (
    Init.ASYNC_READ | Init.ATOMIC_O_TRUNC | Init.BIG_WRITES | Init.AUTO_INVAL_DATA
    | Init.DO_READDIRPLUS | Init.ASYNC_DIO | Init.PARALLEL_DIROPS | Init.MAX_PAGES
)  # fmt: skip
# Always a reply, or the next question of the same kind is not asked any more.
_NO_REPLY: Final = frozenset({int(Opcode.FORGET), int(Opcode.BATCH_FORGET), int(Opcode.INTERRUPT)})
# Nobody waits for their reply: they can be done later, and must be.
_CLOSING: Final = frozenset({int(Opcode.RELEASE), int(Opcode.RELEASEDIR)})
# The request was given up meanwhile, or the mount is gone.
_NOBODY_THERE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ECONNABORTED})


@dataclass(frozen=True, slots=True)
class Reply:
    """One that is due.  unique: the request's number."""

    opcode: int
    unique: int


class Session:
    """One mount's.  fd: /dev/fuse, mounted; the caller closes it after run() has returned.

    on_start: called once, when the kernel has been answered for the first time.
    compiled: whether the engine answers what it can.  silent: the tree's.
    """

    def __init__(
        self,
        fd: int,
        operations: Base,
        handlers: dict[int, Handler],
        on_start: Callable[[], object] = lambda: None,
        *,
        compiled: bool = False,
        silent: Silent | None = None,
    ) -> None:
        self._fd = fd
        self._operations = operations
        self._handlers = handlers
        self._on_start = on_start
        self.turn = self._turn = Turn()
        self.silent = Silent() if silent is None else silent
        self._postponed: list[bytes] = []  # requests, until a file system answers
        self._reading = 0  # the thread that run()s, and what it has read
        self._buffer = bytearray(IN_HEADER_SIZE)
        self._stopping = False
        self._patience = Patience()
        self._callers: dict[bytes, Caller] = {}
        self._interruptible: dict[int, Callable[[], object]] = {}  # by the request's number
        self._compiled = Compiled(fd, operations, self._turn, self._callers) if compiled else None

    def run(self, on_relief: Callable[[], object] = lambda: None) -> None:
        """Until the mount is gone, or the kernel says something that cannot be understood.

        Raises Relieved where another thread has to go on, which on_relief() starts.
        """
        self._buffer = buffer = bytearray(BUFFER)
        self._reading = threading.get_ident()

        def relieved() -> None:
            self._refuse(IN_HEADER.unpack_from(buffer)[2], errno.ETIMEDOUT)
            self._reading = 0
            on_relief()

        self._turn.when_relieved(relieved)
        view = memoryview(buffer)
        read = partial(os.readv, self._fd, [buffer])
        if self._compiled is not None:
            read = partial(self._compiled.engine.next, buffer)
        while True:
            try:
                size = read()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN, errno.EINTR):
                    continue  # it was given up before it was read
                if self._stopping:
                    return  # the descriptor is closed, or somebody else's already
                if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                    log.error("cannot read from the kernel: %s", error.strerror)
                return
            if size < IN_HEADER_SIZE:
                return
            self._answer(view[:size])

    # --- without who waits for a file system -------------------------------------------------

    def at_turn(self) -> int:
        """See relief.Taking."""
        if self._turn.holder:
            return self._turn.holder
        busy = self._compiled is not None and self._compiled.engine.busy
        return self._reading if busy else 0

    def device_asked(self, thread: int) -> int:
        """See relief.Taking."""
        if thread != self._reading:
            return 0
        node = self._operations.table.get(IN_HEADER.unpack_from(self._buffer)[3])
        return 0 if node is None else node.identity[0]

    def relieve(self, thread: int, path: str, call: bytes, device: int) -> bool:
        """See relief.Taking."""
        if self._compiled is None:
            return False
        engine = self._compiled.engine

        def leave_behind() -> bool:
            # No other thread runs anything in Python between this look and what follows from it.
            return engine.relieve(thread, path, call, Relieved)

        def do() -> None:
            self._operations.tree.leave_page()
            self._is_silent(device)

        return self._turn.take_from(thread, leave_behind, do)

    def _is_silent(self, device: int) -> None:
        self.silent.begin(device)
        if self._compiled is not None:
            self._compiled.engine.wary = True

    def at_work(self) -> list[int]:
        """See relief.Taking."""
        return self._operations.tree.at_work()

    def give_up(self, thread: int, device: int) -> bool:
        """See relief.Taking."""
        # Never with the turn, which may be somebody's who waits for the same, and is next.
        before = self.silent.devices
        self._is_silent(device)  # first, for whoever asks again
        given_up = self._operations.tree.give_up(thread)
        if not given_up and device not in before:
            self.is_back(device)
        return given_up

    def is_back(self, device: int) -> None:
        """See relief.Taking."""
        self.silent.end(device)
        if self._compiled is not None:
            self._compiled.engine.wary = bool(self.silent)
        if self._postponed:
            threading.Thread(target=self._catch_up, name="late", daemon=True).start()

    def _catch_up(self) -> None:
        with self._turn:
            requests, self._postponed = self._postponed, []
        self._turn.when_relieved(lambda: self._postponed.extend(requests))
        with contextlib.suppress(Relieved):
            while requests:
                self._answer(memoryview(requests.pop()))

    def _is_withheld(self, opcode: int, unique: int, ino: int, request: memoryview) -> bool:
        """Whether the file system that a request is about does not answer, and it does instead."""
        node = self._operations.table.get(ino)
        if node is None or node.identity[0] not in self.silent.devices or opcode in _NO_REPLY:
            return False
        if opcode in _CLOSING:
            self._postponed.append(bytes(request))
            self._reply(unique, b"")
        else:
            self._refuse(unique, errno.ETIMEDOUT)
        return True

    def stop(self) -> None:
        """No request is answered from now on.  Waits for long work that has begun, and its reply.

        After this the kernel tells whoever still waits that the mount is gone.
        """
        with self._turn:
            self._stopping = True
            if self._compiled is not None:
                self._compiled.engine.stopping = True
            self._patience.stop()
        self._patience.close()
        self._turn.acquire()

    # --- one request -------------------------------------------------------------------------

    def _answer(self, request: memoryview) -> None:
        _, opcode, unique, ino = IN_HEADER.unpack_from(request)
        handler = self._handlers.get(opcode)
        if handler is None:
            self._answer_ourselves(opcode, unique, request)
            return
        with self._turn:
            if self._stopping:
                return
            if self.silent and self._is_withheld(opcode, unique, ino, request):
                return
            try:
                answer: Answer = handler(ino, self._caller(request), request[IN_HEADER_SIZE:])
                # The first says nothing new, but quickly.
                if type(answer) is not bytes and isinstance(answer, Coroutine):
                    answer = self._drive(Reply(opcode, unique), answer)
            except Exception as error:
                if opcode in _NO_REPLY:
                    errno_of(error)
                else:
                    self._refuse(unique, errno_of(error))
                if not isinstance(error, FileNotFoundError):
                    return
            else:
                if answer is not None:
                    self._reply(unique, answer)
            if self._compiled is not None:
                caller, body = self._caller(request), request[IN_HEADER_SIZE:]
                self._compiled.offer(opcode, ino, caller, body)

    def _caller(self, request: memoryview) -> Caller:
        key = bytes(request[CALLER_AT])
        caller = self._callers.get(key)
        if caller is None:
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
            caller = self._callers[key] = Caller(*CALLER.unpack(key))
        return caller

    def _drive(self, reply: Reply, handler: Coroutine[Any, Any, Octets]) -> Octets | None:
        """A handler up to its end, or to where it waits; None: the reply comes later."""
        return self._step(reply, handler, lambda: handler.send(None))

    def _step(
        self,
        reply: Reply,
        handler: Coroutine[Any, Any, Octets],
        go_on: Callable[[], Pause[Any]],
    ) -> Octets | None:
        while True:
            try:
                pause = go_on()
            except StopIteration as end:
                value: Octets = end.value
                return value
            try:
                self._patience.begin(pause, self._resuming(reply, handler, pause))
            except OSError as refusal:
                go_on = partial(handler.throw, refusal)
            else:
                if pause.on_interrupt is not None:
                    self._interruptible[reply.unique] = pause.on_interrupt
                return None

    def _resuming(
        self, reply: Reply, handler: Coroutine[Any, Any, Octets], pause: Pause[Any]
    ) -> Callable[[object, Exception | None], None]:
        """What is called in a thread when the waiting is over."""

        def resume(result: object, failure: Exception | None) -> None:
            # The thread belongs to a pool, which has no use for it either when it comes back.
            with contextlib.suppress(Relieved):
                go_on(result, failure)

        def go_on(result: object, failure: Exception | None) -> None:
            with self._turn:
                self._turn.when_relieved(lambda: self._refuse(reply.unique, errno.ETIMEDOUT))
                self._patience.done(pause)
                self._interruptible.pop(reply.unique, None)
                step = partial(handler.send, result)
                try:
                    octets = self._step(
                        reply, handler, partial(handler.throw, failure) if failure else step
                    )
                except Exception as error:
                    self._refuse(reply.unique, errno_of(error))
                    return
                if octets is not None:
                    self._reply(reply.unique, octets)

        return resume

    # --- what needs no handler ---------------------------------------------------------------

    def _answer_ourselves(self, opcode: int, unique: int, request: memoryview) -> None:
        if opcode == Opcode.INIT:
            self._introduce(unique, request[IN_HEADER_SIZE:])
        elif opcode == Opcode.DESTROY:
            self._reply(unique, b"")
        elif opcode == Opcode.INTERRUPT:
            self._interrupt(request[IN_HEADER_SIZE:])
        elif opcode not in _NO_REPLY:
            self._refuse(unique, errno.ENOSYS)

    def _interrupt(self, body: memoryview) -> None:
        """Whoever asked has got a signal.  What can be given up is; its reply says so."""
        if len(body) < INTERRUPT_IN.size:
            return
        with self._turn:
            give_up = self._interruptible.get(INTERRUPT_IN.unpack_from(body)[0])
        if give_up is not None:
            give_up()

    def _introduce(self, unique: int, body: memoryview) -> None:
        major, minor, ahead, offered = INIT_IN.unpack_from(body)
        if major != MAJOR or minor < OLDEST_MINOR:
            log.error("this kernel speaks FUSE %d.%d, which is too old", major, minor)
            self._refuse(unique, errno.EPROTO)
            return
        wanted = WANTED | (Init.POSIX_ACL if self._operations.enable_acl else Init(0))
        if self._operations.locks is not None:
            wanted |= Init.POSIX_LOCKS | Init.FLOCK_LOCKS
        killing = Init.HANDLE_KILLPRIV_V2
        wanted |= killing if offered & killing else Init.HANDLE_KILLPRIV
        self._operations.drops_set_id = bool(offered & killing)
        if self._compiled is not None:
            self._compiled.engine.drops_set_id = self._operations.drops_set_id
        answer = INIT_OUT.pack(
            MAJOR, MINOR, ahead, wanted & offered, BACKGROUND, CONGESTED, MAX_WRITE, 1,
            MAX_WRITE // PAGE, 0, 0, 0,
        )  # fmt: skip
        self._reply(unique, answer)
        self._operations.kernel = self
        self._on_start()

    # --- to the kernel -----------------------------------------------------------------------

    def _reply(self, unique: int, octets: Octets) -> None:
        header = OUT_HEADER.pack(16 + len(octets), 0, unique)
        try:
            if type(octets) is bytes and len(octets) < PAGE:
                os.write(self._fd, header + octets)
            else:
                os.writev(self._fd, (header, octets))
        except OSError as error:
            if error.errno in _NOBODY_THERE:
                return
            log.error("the kernel does not take a reply: %s", error.strerror)
            self._refuse(unique, errno.EIO)

    def _refuse(self, unique: int, code: int) -> None:
        try:
            os.write(self._fd, OUT_HEADER.pack(16, -code, unique))
        except OSError:
            return  # nobody there any more, or nobody can be helped

    def notify(self, code: int, *octets: bytes) -> None:
        """See telling.Notify."""
        size = OUT_HEADER.size + sum(map(len, octets))
        os.writev(self._fd, (OUT_HEADER.pack(size, code, 0), *octets))

    def store(self, ino: int, octets: bytes) -> None:
        """See base.Kernel.  What the kernel does not take it asks for."""
        size = OUT_HEADER.size + STORE_OUT.size + len(octets)
        header = OUT_HEADER.pack(size, NOTIFY_STORE, 0)
        with contextlib.suppress(OSError):
            os.writev(self._fd, (header, STORE_OUT.pack(ino, 0, len(octets), 0), octets))
