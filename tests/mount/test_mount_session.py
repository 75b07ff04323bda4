"""The conversation with the kernel.  A socket is in its place: one datagram is one request."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import pytest

from sharefs.errors import Code, SharingError
from sharefs.mount.base import Base, Body, Handler
from sharefs.mount.caller import Caller
from sharefs.mount.protocol import (
    CALLER,
    IN_HEADER,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    OUT_HEADER,
    Init,
    Opcode,
)
from sharefs.mount.session import Session
from sharefs.mount.waiting import MAX_WAITING, THREADS_EACH, Pause, Pausing

T = TypeVar("T")

GETATTR, UNLINK, FORGET = int(Opcode.GETATTR), int(Opcode.UNLINK), int(Opcode.FORGET)
NEVER = 99  # no such opcode


def long(work: Callable[[], T], asker: int = 0) -> Pause[T]:
    return Pausing().run_long(work, asker)


class Operations(Base):
    """Nothing but what a session asks for."""

    def __init__(self) -> None:
        self.enable_acl = True


class Kernel:
    """The other end.  Ends the session when closed."""

    def __init__(self, handlers: dict[int, Handler]) -> None:
        self.end, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(5)
        self.operations = Operations()
        self.started = 0
        self._daemon = daemon
        self.session = Session(daemon.fileno(), self.operations, handlers, self._start)
        self.thread = threading.Thread(target=self.session.run)
        self.thread.start()

    def _start(self) -> None:
        self.started += 1

    def ask(self, opcode: int, unique: int, body: bytes = b"", ino: int = 7) -> None:
        header = IN_HEADER.pack(40 + len(body), opcode, unique, ino)
        self.end.send(header + CALLER.pack(61001, 61002, 4711) + bytes(4) + body)

    def answer(self) -> tuple[int, int, bytes]:
        """(unique, errno, what follows)"""
        octets = self.end.recv(1 << 16)
        length, error, unique = OUT_HEADER.unpack_from(octets)
        assert length == len(octets)
        return unique, -error, octets[16:]

    def close(self) -> None:
        self.end.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.session.stop()
        self.end.close()
        self._daemon.close()


@pytest.fixture
def kernel_for() -> Iterator[Callable[[dict[int, Handler]], Kernel]]:
    made: list[Kernel] = []

    def make(handlers: dict[int, Handler]) -> Kernel:
        made.append(Kernel(handlers))
        return made[-1]

    yield make
    for kernel in made:
        kernel.close()


Make = Callable[[dict[int, Handler]], Kernel]


def test_caller_node_and_body_reach_the_handler(kernel_for: Make) -> None:
    def handler(ino: int, caller: Caller, body: Body) -> bytes:
        return f"{ino} {caller.uid} {caller.gid} {caller.pid} ".encode() + bytes(body)

    kernel = kernel_for({GETATTR: handler})
    kernel.ask(GETATTR, 5, b"body")
    assert kernel.answer() == (5, 0, b"7 61001 61002 4711 body")


FAILURES = [
    (OSError(errno.ENOTEMPTY, "x"), errno.ENOTEMPTY, ""),
    (FileNotFoundError(errno.ENOENT, "x"), errno.ENOENT, ""),
    (OSError("without a number"), errno.EIO, ""),
    (SharingError(Code.NO_PERMISSION, "x"), errno.EACCES, ""),
    (ZeroDivisionError(), errno.EIO, "which is a bug"),
]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "after long work"])
@pytest.mark.parametrize(("failure", "want", "logged"), FAILURES, ids=lambda value: repr(value))
def test_failures_are_answers(
    kernel_for: Make,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    want: int,
    logged: str,
    later: bool,
) -> None:
    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        if later:
            await long(lambda: None)
        raise failure

    def plain(ino: int, caller: Caller, body: Body) -> bytes:
        raise failure

    kernel = kernel_for({UNLINK: handler, GETATTR: plain})
    for unique, opcode in enumerate((UNLINK, GETATTR)):
        kernel.ask(opcode, unique)
        assert kernel.answer() == (unique, want, b"")
    assert logged in caplog.text
    if not logged:
        assert not caplog.records


def test_what_long_work_returns_and_raises_comes_out_of_the_await(kernel_for: Make) -> None:
    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        first = await long(lambda: b"first ")
        try:
            await long(lambda: 1 // 0)
        except ZeroDivisionError:
            last: bytes = await long(lambda: b"and last")
            return first + last
        return b""

    kernel = kernel_for({UNLINK: handler})
    kernel.ask(UNLINK, 1)
    assert kernel.answer() == (1, 0, b"first and last")


def test_others_are_answered_while_one_works(kernel_for: Make) -> None:
    go_on = threading.Event()

    async def slow(ino: int, caller: Caller, body: Body) -> bytes:
        assert await long(lambda: go_on.wait(5))
        return b"slow"

    kernel = kernel_for({UNLINK: slow, GETATTR: lambda ino, caller, body: b"quick"})
    for unique in range(40):  # more than there are threads
        kernel.ask(UNLINK, unique)
    kernel.ask(GETATTR, 100)
    assert kernel.answer() == (100, 0, b"quick")
    go_on.set()
    assert sorted(kernel.answer() for _ in range(40)) == [(n, 0, b"slow") for n in range(40)]


def test_each_uid_has_some_threads_and_no_more(kernel_for: Make) -> None:
    at_work, most, go_on = dict[int, int](), dict[int, int](), threading.Event()
    counting, all_there = threading.Lock(), threading.Semaphore(0)

    def work(uid: int) -> None:
        with counting:
            at_work[uid] = at_work.get(uid, 0) + 1
            most[uid] = max(most.get(uid, 0), at_work[uid])
        all_there.release()
        go_on.wait(5)
        with counting:
            at_work[uid] -= 1

    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        await long(lambda: work(ino), asker=ino)
        return b""

    kernel = kernel_for({UNLINK: handler})
    many = THREADS_EACH * 3
    for unique in range(many):
        kernel.ask(UNLINK, unique, ino=1)
    kernel.ask(UNLINK, many, ino=2)
    for _ in range(THREADS_EACH + 1):
        assert all_there.acquire(timeout=5)
    go_on.set()
    assert {kernel.answer()[:2] for _ in range(many + 1)} == {(n, 0) for n in range(many + 1)}
    assert most == {1: THREADS_EACH, 2: 1}


def test_who_has_too_many_waiting_is_told_to_try_again(kernel_for: Make) -> None:
    future: Future[None] = Future()

    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        await Pausing().wait_for(future, ino)
        return b"done"

    kernel = kernel_for({UNLINK: handler})
    for unique in range(MAX_WAITING):
        kernel.ask(UNLINK, unique, ino=1)
    kernel.ask(UNLINK, 1000, ino=1)
    assert kernel.answer() == (1000, errno.EAGAIN, b"")
    kernel.ask(UNLINK, 1001, ino=2)  # another uid's
    future.set_result(None)
    told = {kernel.answer() for _ in range(MAX_WAITING + 1)}
    assert told == {(unique, 0, b"done") for unique in (*range(MAX_WAITING), 1001)}
    kernel.ask(UNLINK, 1002, ino=1)  # and nobody is remembered as waiting
    assert kernel.answer() == (1002, 0, b"done")


def test_handlers_never_run_at_the_same_time(kernel_for: Make) -> None:
    inside, together = 0, list[int]()

    def enter() -> None:
        nonlocal inside
        inside += 1
        together.append(inside)
        for _ in range(1000):
            pass
        inside -= 1

    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        for _ in range(20):
            enter()
            await long(lambda: None)
        return b""

    kernel = kernel_for({UNLINK: handler})
    for unique in range(8):
        kernel.ask(UNLINK, unique)
    assert sorted(kernel.answer()[0] for _ in range(8)) == list(range(8))
    assert set(together) == {1}


def test_what_nobody_knows_is_refused_once_and_for_all(kernel_for: Make) -> None:
    kernel = kernel_for({})
    kernel.ask(NEVER, 3)
    assert kernel.answer() == (3, errno.ENOSYS, b"")


def test_a_signal_ends_what_can_be_given_up(kernel_for: Make) -> None:
    """And nothing else: a request that has been answered, or that cannot be given up."""
    future: Future[None] = Future()

    async def waits(ino: int, caller: Caller, body: Body) -> bytes:
        await Pausing().wait_for(
            future, 61001, on_interrupt=lambda: future.set_exception(OSError(errno.EINTR, "x"))
        )
        future.result()
        return b""

    kernel = kernel_for({UNLINK: waits, GETATTR: lambda ino, caller, body: b"quick"})
    kernel.ask(UNLINK, 1)
    kernel.ask(GETATTR, 2)
    assert kernel.answer() == (2, 0, b"quick")
    for unique in (2, 99):
        kernel.ask(int(Opcode.INTERRUPT), unique | 1 << 32, INTERRUPT_IN.pack(unique))
    kernel.ask(GETATTR, 3)
    assert kernel.answer() == (3, 0, b"quick")
    kernel.ask(int(Opcode.INTERRUPT), 4, INTERRUPT_IN.pack(1))
    assert kernel.answer() == (1, errno.EINTR, b"")
    kernel.ask(int(Opcode.INTERRUPT), 5, INTERRUPT_IN.pack(1))
    kernel.ask(GETATTR, 6)
    assert kernel.answer() == (6, 0, b"quick")


def test_what_wants_no_answer_gets_none(kernel_for: Make) -> None:
    seen: list[int] = []

    def forget(ino: int, caller: Caller, body: Body) -> None:
        seen.append(ino)
        if ino == 8:
            raise OSError(errno.EIO, "x")

    kernel = kernel_for({FORGET: forget, GETATTR: lambda ino, caller, body: b""})
    kernel.ask(FORGET, 0, ino=8)
    kernel.ask(FORGET, 0, ino=9)
    kernel.ask(int(Opcode.INTERRUPT), 0)
    kernel.ask(GETATTR, 1)
    assert kernel.answer() == (1, 0, b"")
    assert seen == [8, 9]


@pytest.mark.parametrize(
    ("offered", "killing"),
    [(0xFFFFFFFF, Init.HANDLE_KILLPRIV_V2), (Init.HANDLE_KILLPRIV, Init.HANDLE_KILLPRIV)],
    ids=["all", "an older kernel"],
)
def test_introduction(kernel_for: Make, offered: int, killing: Init) -> None:
    kernel = kernel_for({})
    kernel.ask(int(Opcode.INIT), 1, INIT_IN.pack(7, 45, 131072, offered) + bytes(48))
    unique, error, body = kernel.answer()
    major, minor, ahead, flags, *_ = INIT_OUT.unpack(body)
    assert (unique, error, major, minor, ahead) == (1, 0, 7, 38, 131072)
    assert flags & offered == flags
    assert flags & (Init.HANDLE_KILLPRIV | Init.HANDLE_KILLPRIV_V2) == killing
    kernel.ask(NEVER, 2)
    kernel.answer()
    assert kernel.started == 1
    assert kernel.operations.drops_set_id == (killing is Init.HANDLE_KILLPRIV_V2)


def test_an_old_kernel_is_told(kernel_for: Make, caplog: pytest.LogCaptureFixture) -> None:
    kernel = kernel_for({})
    kernel.ask(int(Opcode.INIT), 1, INIT_IN.pack(7, 12, 131072, 0))
    assert kernel.answer() == (1, errno.EPROTO, b"")
    assert "too old" in caplog.text
    assert not kernel.started


def test_stopping_waits_for_the_long_work(kernel_for: Make) -> None:
    begun, go_on, order = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        go_on.wait(5)
        order.append("worked")

    async def handler(ino: int, caller: Caller, body: Body) -> bytes:
        await long(work)
        order.append("answered")
        return b""

    kernel = Kernel({UNLINK: handler})
    kernel.ask(UNLINK, 1)
    assert begun.wait(5)
    kernel.end.shutdown(socket.SHUT_WR)
    kernel.thread.join(5)
    threading.Timer(0.05, go_on.set).start()
    kernel.session.stop()
    order.append("stopped")
    assert order == ["worked", "answered", "stopped"]
    assert kernel.answer() == (1, 0, b"")
    kernel.end.close()
    kernel._daemon.close()


def test_a_descriptor_without_a_kernel_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    session = Session(reader, Operations(), {})
    session.run()  # end of file
    os.close(reader)
    session.run()
    assert "cannot read from the kernel: Bad file descriptor" in caplog.text
    session.stop()
