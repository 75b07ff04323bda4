"""The client's stream in a worker: write limit, polite ends, counters."""

import socket
from collections.abc import Iterator

import pytest
import trio

from imap.service.stream import ClientStream


@pytest.fixture
def ends() -> Iterator[tuple[ClientStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    yield ClientStream(ours, write_timeout=60), theirs
    ours.close()
    theirs.close()


Ends = tuple[ClientStream, socket.socket]


async def test_a_client_that_never_reads_is_cut_off(
    ends: Ends, autojump_clock: trio.abc.Clock
) -> None:
    stream, _ = ends
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(bytes(1 << 24))
    assert round(trio.current_time() - began) == 60
    assert stream.unresponsive
    await stream.say_bye("Nobody waits for this.")
    assert round(trio.current_time() - began) == 60


async def test_a_slow_client_is_not(ends: Ends, autojump_clock: trio.abc.Clock) -> None:
    """Whoever empties the socket's buffer once a minute stays."""
    stream, client = ends
    got = 0

    async def sip() -> None:
        nonlocal got
        while got < 1 << 20:
            await trio.sleep(50)
            got += len(client.recv(1 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sip)
        await stream.send_all(bytes(1 << 20))
    assert got == stream.octets_out == 1 << 20


async def test_a_waiting_session_ends_at_once_with_bye(ends: Ends) -> None:
    stream, client = ends
    with stream.end_scope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            stream.close_when_idle()
    assert scope.cancelled_caught
    await stream.say_bye("Server shutting down.")
    assert client.recv(100) == b"* BYE Server shutting down.\r\n"


async def test_a_running_command_is_finished_first(ends: Ends) -> None:
    stream, client = ends
    with stream.end_scope() as scope:
        stream.close_when_idle()
        await trio.lowlevel.checkpoint()
        await stream.send_all(b"* 1 EXISTS\r\na OK done\r\n")
        await stream.receive_some()
        raise AssertionError("the session went on")
    assert scope.cancelled_caught
    await stream.say_bye("Server shutting down.")
    assert client.recv(100) == b"* 1 EXISTS\r\na OK done\r\n* BYE Server shutting down.\r\n"


async def test_bye_never_lands_inside_a_response(ends: Ends) -> None:
    stream, client = ends
    await stream.send_all(b"* 1 FETCH (BODY[] {1000}\r\nhalf a mess")
    await stream.say_bye("Server shutting down.")
    await stream.aclose()
    assert client.recv(100) == b"* 1 FETCH (BODY[] {1000}\r\nhalf a mess"
    assert client.recv(100) == b""


async def test_octets_are_counted_and_the_end_is_noticed(ends: Ends) -> None:
    stream, client = ends
    client.send(b"12345")
    assert await stream.receive_some() == b"12345"
    await stream.send_all(memoryview(b"abc"))
    await stream.send_all(b"")
    assert (stream.octets_in, stream.octets_out, stream.peer_closed) == (5, 3, False)
    assert client.recv(10) == b"abc"
    client.close()
    assert await stream.receive_some() == b""
    assert stream.peer_closed
