"""What is measured on a host, whatever the size of a mailbox: lists, arrivals, many connections."""

import random
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from benchmarks.client import Client, demand_ok
from benchmarks.imap.mailboxes import SHARED, sample
from benchmarks.imap.measure import Row, timed
from benchmarks.imap.servers import CROWD, FRIEND, MANY, OWNER, UIDS, UNSYNCED, USER, Side

BUSY: Final = 20
_COMMANDS: Final = 60  # of each busy connection
_SETTLE: Final = 0.3  # seconds for processes to be born or to end
_MULTI: Final = 50


def lists(side: Side, command: bytes) -> float:
    with side.client(MANY) as client:
        return timed(lambda: client.ask(command))


def appends(user: str, count: int, at_once: int) -> Callable[[Side], float]:
    """Seconds for each message."""
    message = sample()
    literal = b" (\\Seen) {%d+}\r\n%b" % (len(message), message)
    command = b"APPEND Target" + literal * at_once

    def measure(side: Side) -> float:
        with side.client(user, b"CREATE Target") as client:
            seconds = timed(lambda: [client.ask(command) for _ in range(count)])
            client.ask(b"DELETE Target")
        return seconds / count / at_once

    return measure


def wakes(side: Side) -> float:
    """From APPEND by one uid until another's IDLE tells of it."""
    message = sample()
    append = b"APPEND %b {%d+}\r\n%b" % (SHARED.encode(), len(message), message)
    shared = f"SELECT shared/{OWNER}/{SHARED}".encode()
    with side.client(OWNER) as owner, side.client(FRIEND, shared) as friend:
        friend.idle()
        time.sleep(_SETTLE)
        start = time.perf_counter()
        owner.send(append)
        friend.wait_for(b" EXISTS\r\n")
        seconds = time.perf_counter() - start
        owner.wait_for(b"OK")
        friend.done()
    return seconds


# --- busy ------------------------------------------------------------------------------------


def _work(dice: random.Random, messages: int) -> Iterator[bytes]:
    """What a mail program does in a mailbox of so many messages."""
    message = sample()
    append = b"APPEND INBOX (\\Seen) {%d+}\r\n%b" % (len(message), message)
    for _ in range(_COMMANDS):
        first = dice.randint(1, max(1, messages - 50))
        yield dice.choices(
            [
                b"NOOP",
                b"FETCH %d:%d (UID FLAGS)" % (first, first + 49),
                b"FETCH %d:%d (UID FLAGS ENVELOPE RFC822.SIZE)" % (first, first + 19),
                b"FETCH %d BODY.PEEK[]" % first,
                b"STORE %d +FLAGS (\\Flagged)" % first,
                b"STORE %d -FLAGS (\\Flagged)" % first,
                b"SEARCH UNSEEN",
                b"SEARCH SUBJECT budget",
                b"STATUS INBOX (MESSAGES UNSEEN)",
                append,
            ],
            [20, 15, 20, 20, 5, 5, 5, 3, 5, 2],
        )[0]


def busy(users: Sequence[str], messages: int) -> Callable[[Side], float]:
    """Seconds for each command while one connection for each of users works as fast as it can."""

    def measure(side: Side) -> float:
        clients = [side.client(user, b"SELECT INBOX") for user in users]
        seconds = timed(lambda: _drive(clients, messages))
        for client in clients:
            client.close()
        return seconds / len(users) / _COMMANDS

    return measure


def _drive(clients: Sequence[Client], messages: int) -> None:
    dice = random.Random(3)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            work = list(_work(dice, messages))
            selector.register(client, selectors.EVENT_READ, (client, work, [client.send(work[0])]))
            work[:] = [b"", *work[1:][::-1]]
        tails: dict[int, bytes] = {}
        while selector.get_map():
            for key, _ in selector.select():
                client, work, tag = key.data
                tail = (tails.get(key.fd, b"\r\n") + client.receive())[-4000:]
                at = tail.rfind(b"\r\n" + tag[0] + b" ")
                if at < 0 or not tail.endswith(b"\r\n"):
                    tails[key.fd] = tail
                    continue
                demand_ok(b"(busy)", tail[at + len(tag[0]) + 3 :])
                tails[key.fd] = b"\r\n"
                if len(work) == 1:
                    selector.unregister(client)
                else:
                    tag[0] = client.send(work.pop())


# --- idle ------------------------------------------------------------------------------------


def _idlers(side: Side, users: Sequence[str]) -> list[Client]:
    clients = []
    for user in users:
        clients.append(side.client(user, b"SELECT INBOX"))
        clients[-1].idle()
    return clients


def _end(clients: Sequence[Client]) -> None:
    for client in clients:
        client.done()
        client.close()


def idle_memory(users: Sequence[str], *, asleep: bool = False) -> Callable[[Side], float]:
    """Octets for each of these users' idle connections, above the server without any.

    asleep: after so long that the server has put them to sleep, if it does that.
    """

    def measure(side: Side) -> float:
        for user in UIDS if asleep else dict.fromkeys(users):
            side.forget(user)  # workers of other rows would go to sleep meanwhile
        time.sleep(_SETTLE)
        before = side.memory()
        clients = _idlers(side, users)
        side.wait_until_quiet()
        if asleep:
            side.wait_until_asleep()
        after = side.memory()
        _end(clients)
        return (after - before) / len(users)

    return measure


class Arrival:
    """So many connections of one user, who log in and idle: two rows from one experiment."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._memory: dict[str, float] = {}

    def seconds(self, side: Side) -> float:
        """Until all of them idle."""
        side.forget(USER)
        time.sleep(_SETTLE)
        before = side.memory()
        clients: list[Client] = []
        seconds = timed(lambda: clients.extend(_idlers(side, [USER] * self._count)))
        side.wait_until_quiet()
        self._memory[side.name] = (side.memory() - before) / self._count
        _end(clients)
        return seconds

    def memory(self, side: Side) -> float:
        """Octets for each of them, while they idled."""
        if side.name not in self._memory:
            self.seconds(side)
        return self._memory[side.name]


def on_a_host(*, messages: int, mailboxes: int, idle: int) -> list[Row]:
    """messages: in each INBOX.  mailboxes: of MANY.  idle: connections that only wait."""
    every = f"LIST, {mailboxes:,} mailboxes"
    with_status = b'LIST "" * RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))'
    multi = frozenset({b"MULTIAPPEND"})
    arrival = Arrival(idle)
    crowd, alone = min(len(CROWD), idle), min(100, idle // 2)
    return [
        Row(every, lambda side: lists(side, b'LIST "" *')),
        Row(f"{every}, RETURN (STATUS ...)", lambda side: lists(side, with_status),
            needs=frozenset({b"LIST-STATUS"})),
        Row("APPEND", appends(USER, 50, 1), writes=True),
        Row("APPEND, mail_fsync = never", appends(UNSYNCED, 50, 1), writes=True),
        Row(f"MULTIAPPEND of {_MULTI}, each", appends(USER, 4, _MULTI), writes=True, needs=multi),
        Row(f"MULTIAPPEND of {_MULTI}, each, mail_fsync = never", appends(UNSYNCED, 4, _MULTI),
            writes=True, needs=multi),
        Row("IDLE tells another uid of an APPEND", wakes, 9, writes=True),
        Row(f"{BUSY} busy connections, one uid, each command", busy([USER] * BUSY, messages), 5,
            writes=True),
        Row(f"{BUSY} busy connections, a uid each, each command", busy(CROWD[:BUSY], messages), 5,
            writes=True),
        Row(f"memory, each of {crowd} just idle connections, a uid each",
            idle_memory(CROWD[:crowd]), 3, unit="octets", warm=False),
        Row(f"memory, each of {crowd} idle connections, a uid each, a minute later",
            idle_memory(CROWD[:crowd], asleep=True), 2, unit="octets", warm=False),
        Row(f"memory, each of {alone} idle connections, one uid", idle_memory([USER] * alone), 3,
            unit="octets", warm=False),
        Row(f"{idle:,} connections log in and idle, one uid", arrival.seconds, 1, warm=False),
        Row(f"memory, each of {idle:,} idle connections, one uid", arrival.memory, 1,
            unit="octets", warm=False),
    ]  # fmt: skip
