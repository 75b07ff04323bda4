"""A session before login, on a socket pair: clients from afar, delays, backends that are away."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from imap.service.backends import Client, Correspondent
from imap.service.channel import AsyncChannel, pair
from imap.service.login_session import Doors, LoginSession
from imap.service.settings import LoginSettings

AFAR = Client("session", "192.0.2.9", 40000, "192.0.2.1", 143)


class Conversation:
    """The client's end of a session that runs in a nursery, and auth's and the spawner's ends."""

    def __init__(
        self, stream: trio.SocketStream, auth: AsyncChannel, spawner: AsyncChannel
    ) -> None:
        self.stream = stream
        self.auth = auth
        self.spawner = spawner

    async def line(self) -> bytes:
        octets = b""
        while not octets.endswith(b"\n"):
            if not (octet := await self.stream.receive_some(1)):
                return octets
            octets += octet
        return octets

    async def ask(self, command: bytes) -> bytes:
        await self.stream.send_all(command + b"\r\n")
        return await self.line()

    async def answer(self, channel: AsyncChannel, **reply: Any) -> dict[str, Any]:
        """Take one question and answer it; the question."""
        message = await channel.receive()
        assert message is not None
        message.close()
        await channel.send({**reply, "id": message.body["id"]})
        return dict(message.body)


@contextlib.asynccontextmanager
async def conversation(settings: LoginSettings, client: Client) -> AsyncIterator[Conversation]:
    ours, theirs = (trio.socket.from_stdlib_socket(sock) for sock in _sockets())
    doors = Doors(settings, None)
    auth, its_auth = pair()
    spawner, its_spawner = pair()
    session = LoginSession(trio.SocketStream(theirs), client, doors)
    ends = Conversation(trio.SocketStream(ours), AsyncChannel(auth), AsyncChannel(spawner))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(doors.auth.serve, AsyncChannel(its_auth))
        nursery.start_soon(doors.spawner.serve, AsyncChannel(its_spawner))

        async def serve() -> None:
            await session.serve(tls_first=False, logged_in=lambda: None)

        nursery.start_soon(serve)
        assert (await ends.line()).startswith(b"* OK")
        yield ends
        await ends.stream.aclose()
        ends.auth.close()
        ends.spawner.close()


def _sockets() -> tuple[socket.socket, socket.socket]:
    pair_of = socket.socketpair()
    for sock in pair_of:
        sock.setblocking(False)
    return pair_of


@pytest.fixture
def quick(autojump_clock: trio.abc.Clock) -> trio.abc.Clock:
    return autojump_clock


async def test_no_passwords_in_the_clear_from_afar(quick: trio.abc.Clock) -> None:
    async with conversation(LoginSettings(), AFAR) as talk:
        assert b"LOGINDISABLED" in await talk.ask(b"a CAPABILITY")
        await talk.line()
        assert (await talk.ask(b"b LOGIN bob secret")).startswith(b"* BAD [ALERT]")
        assert (await talk.line()).startswith(b"b NO [PRIVACYREQUIRED]")
        assert (await talk.ask(b"c AUTHENTICATE PLAIN AGEAYg==")).startswith(b"* BAD [ALERT]")
        assert (await talk.line()).startswith(b"c NO [PRIVACYREQUIRED]")


async def test_passwords_from_afar_if_the_administrator_wants(quick: trio.abc.Clock) -> None:
    async with conversation(LoginSettings(allow_cleartext=True), AFAR) as talk:
        await talk.stream.send_all(b"a LOGIN bob secret\r\n")
        question = await talk.answer(talk.auth, result="failed")
        assert (question["user"], question["password"]) == ("bob", "secret")
        assert question["remote"] == "192.0.2.9"
        assert (await talk.line()).startswith(b"a NO [AUTHENTICATIONFAILED]")


async def test_each_failure_waits_longer(quick: trio.abc.Clock) -> None:
    async with conversation(LoginSettings(allow_cleartext=True, max_failures=9), AFAR) as talk:
        waits = []
        for _ in range(5):
            await talk.stream.send_all(b"a LOGIN bob wrong\r\n")
            await talk.answer(talk.auth, result="failed")
            began = trio.current_time()
            await talk.line()
            waits.append(round(trio.current_time() - began))
        assert waits == [2, 4, 8, 15, 15]


async def test_auth_that_cannot_tell_is_no_wrong_password(quick: trio.abc.Clock) -> None:
    async with conversation(LoginSettings(allow_cleartext=True), AFAR) as talk:
        await talk.stream.send_all(b"a LOGIN bob secret\r\n")
        await talk.answer(talk.auth, result="unavailable")
        assert (await talk.line()).startswith(b"a NO [UNAVAILABLE]")
        await talk.stream.send_all(b"b LOGIN bob secret\r\n")
        message = await talk.auth.receive()
        assert message is not None
        talk.auth.close()  # it dies with the question in its hands
        assert (await talk.line()).startswith(b"b NO [UNAVAILABLE]")


async def test_a_spawner_without_worker_is_told_and_the_client_may_try_again(
    quick: trio.abc.Clock,
) -> None:
    async with conversation(LoginSettings(allow_cleartext=True), AFAR) as talk:
        for tag in (b"a", b"b"):
            await talk.stream.send_all(tag + b" LOGIN bob secret\r\n")
            await talk.answer(talk.auth, result="ok", ticket="t")
            question = await talk.answer(talk.spawner, result="refused")
            assert (question["ticket"], question["tag"]) == ("t", tag.decode())
            assert (await talk.line()).startswith(tag + b" NO [UNAVAILABLE]")


async def test_nobody_stays_longer_than_allowed(quick: trio.abc.Clock) -> None:
    async with conversation(LoginSettings(timeout=180), AFAR) as talk:
        began = trio.current_time()
        assert (await talk.ask(b"a NOOP")).startswith(b"a OK")
        assert await talk.line() == b"* BYE Inactivity during login.\r\n"
        assert round(trio.current_time() - began) == 180


async def test_what_follows_the_login_is_handed_over_and_nothing_else_is_sent(
    quick: trio.abc.Clock,
) -> None:
    async with conversation(LoginSettings(allow_cleartext=True), AFAR) as talk:
        await talk.stream.send_all(b"a LOGIN bob {1+}\r\nx\r\nb SELECT INBOX\r\nc NO")
        await talk.answer(talk.auth, result="ok", ticket="t")
        message = await talk.spawner.receive()
        assert message is not None
        assert json.loads(json.dumps(message.body))["unread"] == "YiBTRUxFQ1QgSU5CT1gNCmMgTk8="
        (fd,) = message.fds
        worker = socket.socket(fileno=fd)
        await talk.spawner.send({"id": message.body["id"], "result": "ok", "pid": 4711})
        await trio.testing.wait_all_tasks_blocked()
        worker.send(b"a OK from the worker\r\n")
        assert await talk.line() == b"a OK from the worker\r\n"
        worker.close()
        assert await talk.line() == b"", "login has let go of the socket"


async def test_correspondents_can_be_replaced(quick: trio.abc.Clock) -> None:
    old, its_old = pair()
    new, its_new = pair()
    correspondent = Correspondent("auth")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(correspondent.serve, AsyncChannel(its_old))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(correspondent.serve, AsyncChannel(its_new))
        await trio.testing.wait_all_tasks_blocked()
        old.close()
        await trio.testing.wait_all_tasks_blocked()
        channel = AsyncChannel(new)

        async def answer() -> None:
            message = await channel.receive()
            assert message is not None
            await channel.send({"id": message.body["id"], "result": "from the new one"})

        nursery.start_soon(answer)
        assert (await correspondent.ask({}))["result"] == "from the new one"
        channel.close()
