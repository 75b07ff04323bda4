"""Other processes that take messages apart, while this one writes what they found.

They are made by fork(2), so they are the same user and know the mailbox as it was then; they
only read.  Whatever one of them does not answer, for any reason, the caller does himself.
"""

import contextlib
import logging
import marshal
import os
import queue
import socket
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from io import BufferedRWPair
from typing import Any, Final, NoReturn

from sharefs.errors import SharingError
from sharefs.index.harvest import Harvest, harvest
from sharefs.ordering.facts import Facts
from sharefs.store.interface import Mailbox

log = logging.getLogger(__name__)

BATCH: Final = 64  # messages in one question
# Questions that each has before it: what comes of them, 8 KB a message, must last while the caller
# writes a large transaction, or he waits for the helpers as long as they have waited for him.
AHEAD: Final = 16
_LENGTH: Final = 8  # octets before a question or an answer that say how long it is

Got = tuple[str, Harvest]  # and the message's identity
_Names: Final = tuple(field.name for field in fields(Harvest))


@dataclass(frozen=True, slots=True)
class _Helper:
    pid: int
    socket: socket.socket
    channel: BufferedRWPair


class Helpers:
    """See the module.  Made by helpers()."""

    def __init__(self, found: Sequence[_Helper]) -> None:
        self._helpers = list(found)
        self._asked: deque[tuple[_Helper, int, int]] = deque()  # lowest and highest UID
        self._lowest: int | None = None  # of all that were asked
        self._answers: dict[int, Got] = {}

    def take(self, uid: int, rest: Sequence[int]) -> Got | None:
        """What one of them found in message uid; None: it was not asked, or could not say.

        rest: what the caller will want after it, ascending, the last one first.
        """
        self._ask(uid, rest)
        while self._asked and uid not in self._answers and uid <= self._asked[0][2]:
            self._hear()
        return self._answers.pop(uid, None)

    def _ask(self, uid: int, rest: Sequence[int]) -> None:
        while self._helpers and len(self._asked) < AHEAD * len(self._helpers):
            stop = len(rest) if self._lowest is None else bisect_left(rest, self._lowest)
            batch = rest[max(0, stop - BATCH) : stop]
            if not batch:
                return
            self._lowest = batch[0]
            helper = self._helpers[0]
            self._helpers.append(self._helpers.pop(0))
            try:
                _send(helper.channel, list(batch))
            except OSError as error:
                self._lose(helper, error)
            else:
                self._asked.append((helper, batch[0], batch[-1]))

    def _hear(self) -> None:
        """The answer to the question that was asked first; what was not fetched is dropped."""
        helper, _, _ = self._asked.popleft()
        self._answers.clear()
        if helper not in self._helpers:
            return
        try:
            answer = _receive(helper.channel)
            if answer is None:
                raise EOFError("it has ended")
            for uid, identity, values in answer:
                found = dict(zip(_Names, values, strict=True))
                found["facts"] = Facts(*found["facts"])
                self._answers[uid] = identity, Harvest(**found)
        except (OSError, EOFError, ValueError, TypeError) as error:
            self._lose(helper, error)

    def _lose(self, helper: _Helper, error: Exception) -> None:
        log.info("a process that helps to index is lost: %s", error)
        self._helpers.remove(helper)


@contextlib.contextmanager
def helpers(mailbox: Mailbox, count: int) -> Iterator[Helpers]:
    """So many of them for the length of a `with`.  The process has one thread."""
    found: list[_Helper] = []
    try:
        for _ in range(count):
            ours, theirs = socket.socketpair()
            try:
                pid = os.fork()
            except OSError as error:
                log.info("no further process helps to index: %s", error)
                ours.close()
                theirs.close()
                break
            if pid == 0:
                for each in (ours, *(other.socket for other in found)):
                    os.close(each.fileno())  # so that each ends when the caller does
                _serve(mailbox, theirs)
            theirs.close()
            found.append(_Helper(pid, ours, ours.makefile("rwb")))
        yield Helpers(found)
    finally:
        for helper in found:
            with contextlib.suppress(OSError):
                helper.socket.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                helper.channel.close()
            helper.socket.close()
            os.waitpid(helper.pid, 0)


def _serve(mailbox: Mailbox, connection: socket.socket) -> NoReturn:
    """Answer until the other end is closed.  Never returns into the caller's code."""
    try:
        channel = connection.makefile("rwb")
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_send_all, args=(connection, answers), daemon=True).start()
        while (uids := _receive(channel)) is not None:
            answers.put(_packed(list(_harvested(mailbox, reversed(uids)))))
    except BaseException as error:  # the caller does without
        log.debug("helping to index ends: %s", error)
    finally:
        os._exit(0)


def _send_all(connection: socket.socket, answers: "queue.SimpleQueue[bytes]") -> NoReturn:
    """In a thread: an answer is larger than a socket's buffer, and the caller may be writing."""
    try:
        while True:
            connection.sendall(answers.get())
    except OSError as error:
        log.debug("helping to index ends: %s", error)
    finally:
        os._exit(0)


def _harvested(
    mailbox: Mailbox, uids: Iterator[int]
) -> Iterator[tuple[int, str, tuple[object, ...]]]:
    for uid in uids:
        try:
            got = harvest(mailbox.read(uid), mailbox.info(uid))
            identity = mailbox.identity_of(uid)
        except (KeyError, SharingError, OSError):
            continue  # the caller finds out what that means
        values = [getattr(got, name) for name in _Names]
        values[_Names.index("facts")] = tuple(got.facts)
        yield uid, identity, tuple(values)


# --- messages between two processes of one program ---------------------------------------------


def _send(channel: BufferedRWPair, message: list[Any]) -> None:
    channel.write(_packed(message))
    channel.flush()


def _packed(message: list[Any]) -> bytes:
    octets = marshal.dumps(message)
    return len(octets).to_bytes(_LENGTH, "little") + octets


def _receive(channel: BufferedRWPair) -> list[Any] | None:
    """None: the other end is closed."""
    length = channel.read(_LENGTH)
    if len(length) < _LENGTH:
        return None
    octets = channel.read(int.from_bytes(length, "little"))
    message: list[Any] = marshal.loads(octets)  # cut short: EOFError
    return message
