"""The client's stream in a worker: write limit, polite ends, counters."""

import socket
import zlib
from collections.abc import Iterator

import pytest
import trio

from imap.service.deflate import Compressor, Decompressor
from imap.service.stream import ClientStream, end_silent, may_compress_more
from tests.support.server import PATIENCE


@pytest.fixture
def ends() -> Iterator[tuple[ClientStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
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


async def test_others_have_their_turn_between_many_pieces(ends: Ends) -> None:
    stream, client = ends
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        for _ in range(100):
            await stream.send_all(bytes(16 * 1024))
            client.recv(1 << 20, socket.MSG_WAITALL | socket.MSG_DONTWAIT)
        nursery.cancel_scope.cancel()
    assert turns > 5


async def test_a_session_whose_client_is_silent_for_too_long_ends(
    ends: Ends, autojump_clock: trio.abc.Clock
) -> None:
    stream, _ = ends
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_silent, [stream])
        with trio.move_on_after(10_000):  # nobody said for how long it may be
            await stream.receive_some()
        assert not stream.was_silent
        stream.patient_until = began + 20_000
        with stream.end_scope() as scope:
            await stream.receive_some()
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert stream.was_silent
    assert 20_000 <= trio.current_time() - began <= 20_060


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


# --- COMPRESS --------------------------------------------------------------------------------


def deflated(octets: bytes) -> bytes:
    """As a client sends it, in a stream of its own."""
    client = zlib.compressobj(9, zlib.DEFLATED, -15)
    return client.compress(octets) + client.flush(zlib.Z_SYNC_FLUSH)


def compressed(ends: Ends) -> Ends:
    ends[0].compress(Compressor(6), Decompressor())
    return ends


async def test_what_is_sent_can_be_read_at_once(ends: Ends) -> None:
    stream, client = compressed(ends)
    inflate = zlib.decompressobj(-15)
    for text in (b"* 1 EXISTS\r\n", bytes(200_000), b"x OK\r\n"):
        got = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, text)
            while len(got) < len(text):
                got += inflate.decompress(await trio.to_thread.run_sync(client.recv, 1 << 16))
        assert got == text
    assert stream.octets_out < 2000


async def test_what_comes_is_decompressed_however_it_is_split(ends: Ends) -> None:
    stream, client = compressed(ends)
    octets = deflated(b"a NOOP\r\nb CHECK\r\n")
    got = bytearray()

    async def collect() -> None:
        while True:
            got.extend(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        for at in range(len(octets)):
            client.sendall(octets[at : at + 1])
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == b"a NOOP\r\nb CHECK\r\n"


async def test_a_bomb_comes_in_pieces_and_lets_others_run(ends: Ends) -> None:
    stream, client = compressed(ends)
    client.sendall(deflated(bytes(64 << 20)))  # 64 KiB on the wire
    turns = total = 0

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another)
        while total < 64 << 20:
            got = await stream.receive_some(4096)
            assert 0 < len(got) <= 4096
            total += len(got)
        nursery.cancel_scope.cancel()
    assert turns > 10_000


async def test_what_is_no_deflate_ends_the_connection(ends: Ends) -> None:
    stream, client = compressed(ends)
    client.sendall(b"\xff" * 100)
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert "deflate" in stream.garbled


async def test_the_end_of_the_clients_stream_is_the_end(ends: Ends) -> None:
    stream, client = compressed(ends)
    whole = zlib.compressobj(6, zlib.DEFLATED, -15)
    client.sendall(whole.compress(b"a LOGOUT\r\n") + whole.flush() + b"more")
    assert await stream.receive_some() == b"a LOGOUT\r\n"
    assert await stream.receive_some() == b""


async def test_bye_is_compressed_too(ends: Ends) -> None:
    stream, client = compressed(ends)
    await stream.send_all(b"* OK\r\n")
    await stream.say_bye("The end.")
    inflate = zlib.decompressobj(-15)
    assert inflate.decompress(client.recv(1000)) == b"* OK\r\n* BYE The end.\r\n"


async def test_only_so_many_connections_are_compressed(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imap.service.stream.COMPRESSED_LIMIT", 1)
    assert may_compress_more()
    stream, _ = compressed(ends)
    assert not may_compress_more()
    await stream.aclose()
    assert may_compress_more()
