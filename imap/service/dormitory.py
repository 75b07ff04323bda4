"""Where connections sleep: the spawner's descriptors of them, and what is done while they do.

Nothing of a client's or a user's is read here, for this process is root: whether there are octets
is all that is asked of a socket, and whether there is an event of an inotify descriptor.  What is
sent are two lines that never differ.  A session's state is kept as it came, unread.
"""

import fcntl
import json
import logging
import os
import select
import socket
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from imap.service.asleep import Asleep, Bedding, Company, Sleeper
from imap.service.logs import on_behalf_of

log = logging.getLogger(__name__)

_HERE: Final = b"* OK Still here\r\n"
_INACTIVE: Final = b"* BYE Disconnected for inactivity.\r\n"
_SHUTTING_DOWN: Final = b"* BYE Server shutting down.\r\n"
_NO_WORKER: Final = b"* BYE Try again later.\r\n"
_INOTIFY: Final = "anon_inode:inotify"


@dataclass(slots=True)
class Held:
    """Our own descriptor of a connection that a worker serves; closing the worker's ends nothing.

    handover: what the worker was told, in JSON: small, for there may be thousands.
    """

    socket: socket.socket
    handover: bytes

    @classmethod
    def of(cls, fd: int, handover: dict[str, Any]) -> "Held":
        """fd stays open.  Raises OSError."""
        return cls(socket.socket(fileno=os.dup(fd)), json.dumps(handover).encode())


def is_inotify(fd: int) -> bool:
    """Told without asking the descriptor: that of a user's own file system might never answer."""
    return os.readlink(f"/proc/self/fd/{fd}") == _INOTIFY


class Dormitory:
    """epoll: the spawner's, which calls heard() for descriptors that owns() tells of.

    gone: called with the serial of a connection that ended here.
    """

    def __init__(
        self, epoll: select.epoll, clock: Callable[[], float], gone: Callable[[int], None]
    ) -> None:
        self._epoll = epoll
        self._clock = clock
        self._gone = gone
        self._asleep = Asleep()
        self._sockets: dict[int, socket.socket] = {}  # by fileno
        self._watches: set[int] = set()
        self._quiet: set[int] = set()  # told already what they had to tell

    def __len__(self) -> int:
        """Connections asleep."""
        return len(self._asleep)

    def owns(self, fd: int) -> bool:
        return fd in self._sockets or fd in self._watches

    def put_to_bed(self, beds: list[Bedding], held: dict[int, Held], watch: int) -> None:
        """Take over the descriptors."""
        now = self._clock()
        company = Company(watch)
        for bed in beds:
            place = held[bed.serial]
            company.sleepers[bed.serial] = Sleeper(
                bed.serial, place.socket.fileno(), place.handover, bed.state, bed.idle,
                now + bed.due, bed.interval, bed.octets_in, bed.octets_out,
            )  # fmt: skip
            self._sockets[place.socket.fileno()] = place.socket
        self._asleep.add(company)
        for sleeper in company.sleepers.values():
            self._epoll.register(sleeper.fd, select.EPOLLIN)
        self._watches.add(watch)
        self._epoll.register(watch, select.EPOLLIN)

    # -- what wakes ------------------------------------------------------------------------

    def heard(self, fd: int) -> None:
        """There is something to read at fd, or its other end is gone."""
        company, sleeper = self._asleep.whose(fd)
        if sleeper is None:
            self._hush(fd)
            self._asleep.wake(company, by_change=True)
            return
        is_over = _is_over(fd)  # asked first: nothing comes after it
        if _has_octets(fd):
            self._hush(fd)
            self._asleep.wake(company, by_change=False)
        elif is_over:
            self._end(company, sleeper, "Connection closed")

    def _hush(self, fd: int) -> None:
        """It is known by now: poll no more, or there would be no end of it while it waits."""
        if fd not in self._quiet:
            self._quiet.add(fd)
            self._epoll.unregister(fd)

    @property
    def has_waking(self) -> bool:
        """Whether somebody waits to be woken."""
        return self._asleep.next_to_wake(roused_too=True) is not None

    def next_to_wake(self, *, roused_too: bool) -> Company | None:
        return self._asleep.next_to_wake(roused_too=roused_too)

    def get_up(self, company: Company) -> list[tuple[Sleeper, Held]]:
        """The connections, which are the caller's again."""
        self._asleep.remove_company(company)
        found = []
        for sleeper in company.sleepers.values():
            sock = self._forget(sleeper.fd)
            found.append((sleeper, Held(sock, sleeper.handover)))
        self._close_watch(company)
        return found

    # -- what is done meanwhile ------------------------------------------------------------

    def next_due(self) -> float | None:
        return self._asleep.next_due()

    def do_due(self) -> None:
        for company, sleeper in self._asleep.due(self._clock()):
            if not sleeper.idle:
                self._say(sleeper.fd, _INACTIVE)
                self._end(company, sleeper, "Inactivity")
                continue
            said = self._say(sleeper.fd, _HERE)
            if said is None:
                self._end(company, sleeper, "Connection lost")
            else:
                sleeper.octets_out += said

    def _say(self, fd: int, line: bytes) -> int | None:
        """Octets sent; 0 if the client does not read.  None if the connection is broken."""
        try:
            sent = self._sockets[fd].send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        return sent if sent == len(line) else None  # half a line cannot be mended

    def stop(self) -> None:
        """Everybody hears that the server ends."""
        for company in list(self._asleep.companies()):
            for sleeper in list(company.sleepers.values()):
                self._say(sleeper.fd, _SHUTTING_DOWN)
                self._end(company, sleeper, "Server shutting down")

    def _end(self, company: Company, sleeper: Sleeper, reason: str) -> None:
        self._asleep.remove(company, sleeper)
        self._forget(sleeper.fd).close()
        if not company.sleepers:
            self._close_watch(company)
        log_end(sleeper, reason)
        self._gone(sleeper.serial)

    def _forget(self, fd: int) -> socket.socket:
        self._hush(fd)
        self._quiet.discard(fd)
        return self._sockets.pop(fd)

    def _close_watch(self, company: Company) -> None:
        self._hush(company.watch)
        self._quiet.discard(company.watch)
        self._watches.discard(company.watch)
        os.close(company.watch)


def refuse(sleeper: Sleeper, held: Held) -> None:
    """Nobody could be had to take the connection up again."""
    with held.socket as sock:
        try:
            sock.send(_NO_WORKER, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            log.debug("The client did not hear that it must try again later")
    log_end(sleeper, "No worker")


def log_end(sleeper: Sleeper, reason: str) -> None:
    """The line that a worker would have written."""
    told = json.loads(sleeper.handover)
    token = on_behalf_of.set(f"imap({told['user']['name']})<{os.getpid()}><{told['session_id']}>")
    try:
        log.info("Disconnected: %s in=%d out=%d", reason, sleeper.octets_in, sleeper.octets_out)
    finally:
        on_behalf_of.reset(token)


def _is_over(fd: int) -> bool:
    """Whether the other end will send nothing more.

    That there is something at fd may have been said of another that had this number just now.
    """
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def _has_octets(fd: int) -> bool:
    answer = fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    return any(answer)
