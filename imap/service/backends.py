"""The login process's two correspondents: auth, which verifies, and the spawner, which takes over.

Both may crash and be replaced by the master while clients wait: those get an answer (unavailable),
never silence, and the next client finds the new one.
"""

import base64
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from imap.service.channel import AsyncChannel, ChannelError, Message
from imap.service.preauth import Attempt

log = logging.getLogger(__name__)

_ANSWER_PATIENCE: Final = 60.0  # seconds; PAM modules and slow hashes under load


class Unavailable(Exception):
    """The correspondent has gone, does not answer, or says that it cannot."""


@dataclass(slots=True)
class _Question:
    answered: trio.Event
    answer: Mapping[str, Any] | None = None


class Correspondent:
    """Questions with numbers out, answers in any order back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._channel: AsyncChannel | None = None
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}
        self._connected = trio.Event()

    async def serve(self, channel: AsyncChannel) -> None:
        """Carry answers from channel until it ends.  Later channels replace earlier ones."""
        self._channel = channel
        self._connected.set()
        mine = {}
        try:
            while (message := await self._receive(channel)) is not None:
                self._deliver(message)
        finally:
            if self._channel is channel:
                self._channel = None
                self._connected = trio.Event()
                mine, self._open = self._open, {}
            channel.close()
            for question in mine.values():
                question.answered.set()

    async def ask(self, body: Mapping[str, Any], fds: tuple[int, ...] = ()) -> Mapping[str, Any]:
        """The answer to body.  Raises Unavailable."""
        number = next(self._numbers)
        question = _Question(trio.Event())
        try:
            with trio.fail_after(_ANSWER_PATIENCE):
                await self._connected.wait()
                channel = self._channel
                if channel is None:
                    raise Unavailable(f"{self.name} has gone")
                self._open[number] = question
                await channel.send({**body, "id": number}, fds)
                await question.answered.wait()
        except (OSError, ChannelError) as exc:
            raise Unavailable(f"{self.name} cannot be asked: {exc}") from exc
        except trio.TooSlowError as exc:
            raise Unavailable(f"{self.name} does not answer") from exc
        finally:
            self._open.pop(number, None)
        if question.answer is None:
            raise Unavailable(f"{self.name} has gone")
        return question.answer

    async def _receive(self, channel: AsyncChannel) -> Message | None:
        while True:
            try:
                return await channel.receive()
            except ChannelError as exc:
                log.error("%s sent %s", self.name, exc)

    def _deliver(self, message: Message) -> None:
        message.close()  # answers carry no descriptors
        number = message.body.get("id")
        question = self._open.get(number) if isinstance(number, int) else None
        if question is not None:
            question.answer = message.body
            question.answered.set()


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the door.  Addresses without port; session names the connection in every log."""

    session: str
    remote: str
    remote_port: int
    local: str
    local_port: int

    def as_fields(self, *, tls: bool) -> dict[str, Any]:
        return {
            "session": self.session,
            "remote": self.remote,
            "remote_port": self.remote_port,
            "local": self.local,
            "local_port": self.local_port,
            "tls": tls,
        }


async def verify(auth: Correspondent, attempt: Attempt, client: Client, *, tls: bool) -> str | None:
    """A ticket for the user whose credentials these are; None: they are wrong.

    Raises Unavailable when nobody can tell.
    """
    answer = await auth.ask(
        {
            "user": attempt.user,
            "password": attempt.password,
            "authzid": attempt.authzid,
            "mechanism": attempt.mechanism,
            **client.as_fields(tls=tls),
        }
    )
    match answer.get("result"):
        case "ok":
            return str(answer["ticket"])
        case "failed":
            return None
    raise Unavailable("auth has logged why")


@dataclass(frozen=True, slots=True)
class Taken:
    """The spawner's answer.  pid: of the worker; 0: refused, and refusal is what to tell."""

    pid: int = 0
    refusal: str = ""


async def hand_over(spawner: Correspondent, ticket: str, tag: str, unread: bytes, fd: int) -> Taken:
    """Pass a client's descriptor to a worker.  fd stays open on this side, close it.

    Raises Unavailable when there is no worker to be had.
    """
    body = {"ticket": ticket, "tag": tag, "unread": base64.b64encode(unread).decode()}
    answer = await spawner.ask(body, (fd,))
    match answer.get("result"):
        case "ok":
            return Taken(pid=int(answer["pid"]))
        case "limit":
            return Taken(refusal=str(answer["text"]))
    raise Unavailable("the spawner has no worker")
