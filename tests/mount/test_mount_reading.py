"""Who reads requests: one worker as long as it can, another one when that is about to wait."""

import os
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import trio

from sharefs.mount.reading import IN_A_ROW, Reading


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Stands for /dev/fuse: one octet is one request."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


async def next_request(reading: Reading, fd: int) -> bytes:
    async with reading.Lock():
        await reading.wait_readable(fd)
        return os.read(fd, 1)


async def test_one_worker_reads_without_switching(pipe: tuple[int, int]) -> None:
    reading, order = Reading(), list[str]()

    async def worker(name: str) -> None:
        for _ in range(20):
            await next_request(reading, pipe[0])
            order.append(name)

    os.write(pipe[1], b"x" * 40)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, "one")
            nursery.start_soon(worker, "two")
            await trio.sleep(0.02)
            reading.notify_closing(pipe[0])  # wakes who stands by
    assert order in (["one"] * 20 + ["two"] * 20, ["two"] * 20 + ["one"] * 20)


async def test_requests_without_end_leave_others_their_turn(pipe: tuple[int, int]) -> None:
    reading, served = Reading(), 0

    async def other() -> None:
        while served < 10 * IN_A_ROW:
            turns.append(served)
            await trio.lowlevel.checkpoint()

    turns: list[int] = []
    os.write(pipe[1], b"x" * 10 * IN_A_ROW)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while served < 10 * IN_A_ROW:
                await next_request(reading, pipe[0])
                served += 1
    # trio runs a batch of tasks in any order, so a turn may come a row or two later.
    waits = [later - earlier for earlier, later in pairwise([0, *turns, served])]
    assert max(waits) <= 4 * IN_A_ROW


async def test_another_reads_while_one_works_in_a_thread(pipe: tuple[int, int]) -> None:
    reading, go_on, read = Reading(), threading.Event(), list[bytes]()

    async def worker() -> None:
        request = await next_request(reading, pipe[0])
        read.append(request)
        if request == b"l":
            await reading.run_long(lambda: go_on.wait(5), 1000)
            read.append(b"L")
        else:
            go_on.set()

    os.write(pipe[1], b"ls")
    with trio.fail_after(4):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker)
            nursery.start_soon(worker)
    assert read == [b"l", b"s", b"L"]


async def test_all_end_when_the_mount_ends(pipe: tuple[int, int]) -> None:
    reading, ended = Reading(), list[str]()

    async def worker() -> None:
        try:
            await next_request(reading, pipe[0])
        except trio.ClosedResourceError:
            ended.append("closed")

    with trio.fail_after(4):  # less than a worker stands by without looking
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(worker)
            await trio.sleep(0.02)
            reading.notify_closing(pipe[0])
            await trio.sleep(0.02)
            reading.notify_closing(pipe[0])
    assert ended == ["closed"] * 2
