"""Channels carry objects and descriptors whole, and survive whatever a hostile end sends."""

import array
import os
import socket
from collections.abc import Iterator

import pytest
import trio

from imap.service.channel import MAX_FDS, MAX_MESSAGE, AsyncChannel, Channel, ChannelError, pair


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = pair()
    channels = Channel(one), Channel(other)
    yield channels
    for channel in channels:
        channel.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    """An attacker's end, and ours."""
    one, other = pair()
    channel = Channel(other)
    yield one, channel
    one.close()
    channel.close()


def test_objects_and_descriptors_arrive(ends: tuple[Channel, Channel]) -> None:
    reader, writer = os.pipe()
    ends[0].send({"text": "ü\n", "number": 7}, [writer])
    os.close(writer)
    message = ends[1].receive()
    assert message is not None
    assert (message.text("text"), message.number("number")) == ("ü\n", 7)
    (fd,) = message.fds
    assert not os.get_inheritable(fd)
    os.write(fd, b"hello")
    message.close()
    assert os.read(reader, 10) == b"hello"
    os.close(reader)


def test_the_largest_message_passes_and_a_larger_one_is_refused_here(
    ends: tuple[Channel, Channel],
) -> None:
    room = MAX_MESSAGE - len('{"x":""}')
    ends[0].send({"x": "a" * room})
    message = ends[1].receive()
    assert message is not None
    assert len(message.text("x")) == room
    with pytest.raises(ChannelError, match="longer"):
        ends[0].send({"x": "a" * (room + 1)})


def test_nothing_yet_and_nothing_any_more(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(BlockingIOError):
        ends[1].receive()
    ends[0].close()
    assert ends[1].receive() is None
    with pytest.raises(BrokenPipeError):
        ends[1].send({})


@pytest.mark.parametrize(
    "octets", [b"{", b"[]", b"7", b"\xff\xfe", b"[" * 50_000, b'{"a":1}trailing', b"null"]
)
def test_what_is_no_object_is_one_error_and_no_end(
    raw: tuple[socket.socket, Channel], octets: bytes
) -> None:
    attacker, channel = raw
    attacker.send(octets)
    with pytest.raises(ChannelError):
        channel.receive()
    attacker.send(b"{}")
    message = channel.receive()
    assert message is not None
    assert message.body == {}


def test_too_many_descriptors_leak_nothing(raw: tuple[socket.socket, Channel]) -> None:
    attacker, channel = raw
    null = os.open(os.devnull, os.O_RDONLY)
    fds = array.array("i", [null] * (MAX_FDS + 20))
    before = len(os.listdir("/proc/self/fd"))
    attacker.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    with pytest.raises(ChannelError):
        channel.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


def test_an_oversized_packet_leaks_nothing(raw: tuple[socket.socket, Channel]) -> None:
    attacker, channel = raw
    attacker.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_MESSAGE)
    null = os.open(os.devnull, os.O_RDONLY)
    fds = array.array("i", [null])
    before = len(os.listdir("/proc/self/fd"))
    attacker.sendmsg(
        [b'{"a":"' + b"x" * MAX_MESSAGE + b'"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
    )
    with pytest.raises(ChannelError, match="longer"):
        channel.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


@pytest.mark.parametrize("value", [7, None, True, ["a"], {}])
def test_a_field_of_another_type_is_an_error(ends: tuple[Channel, Channel], value: object) -> None:
    ends[0].send({"field": value})
    message = ends[1].receive()
    assert message is not None
    with pytest.raises(ChannelError):
        message.text("field")
    if value != 7:
        with pytest.raises(ChannelError):
            message.number("field")


async def test_trio_ends_carry_the_same(autojump_clock: trio.abc.Clock) -> None:
    one, other = pair()
    first, second = AsyncChannel(one), Channel(other)
    null = os.open(os.devnull, os.O_RDONLY)
    await first.send({"a": 1}, [null])
    os.close(null)
    message = second.receive()
    assert message is not None
    assert (message.number("a"), len(message.fds)) == (1, 1)
    message.close()
    second.send({"b": 2})
    second.close()
    answer = await first.receive()
    assert answer is not None
    assert answer.number("b") == 2
    assert await first.receive() is None
    first.close()
