"""Connections asleep: whose they are, what wakes them, when, and in which order.  Pure.

Connections of one worker fall asleep together and wake together, as a company: input on one of
them, or a change that its inotify descriptor tells of.  The spawner asks and acts.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from imap.service.channel import MAX_MESSAGE, ChannelError, Message

# Of one connection, so that it fits into a message with the rest, however much must be escaped.
LONGEST_STATE: Final = MAX_MESSAGE // 4
_LONGEST: Final = 30 * 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Bedding:
    """What a worker says of a connection that is to sleep.  state is not for the spawner to read.

    due: seconds until something must be done; interval: in IDLE, how often the client is told
    that we are there.
    """

    serial: int
    state: str
    idle: bool
    due: float
    interval: float
    octets_in: int
    octets_out: int


def beddings(message: Message) -> list[Bedding]:
    """Raises ChannelError: the worker may be in its user's hands."""
    items = message.body.get("sleep")
    if not isinstance(items, list):
        raise ChannelError("a sleep without connections")
    return [_bedding(item) for item in items]


def _bedding(item: Any) -> Bedding:  # noqa: ANN401 - whatever JSON has
    if not isinstance(item, dict):
        raise ChannelError("a connection that is not an object")
    each = Message(item)
    if len(each.text("state")) > LONGEST_STATE:
        raise ChannelError("a state that is too long")
    return Bedding(
        each.number("serial"),
        each.text("state"),
        each.body.get("idle") is True,
        _seconds(item, "due"),
        _seconds(item, "interval"),
        each.number("in"),
        each.number("out"),
    )


def _seconds(item: dict[str, Any], key: str) -> float:
    value = item.get(key)
    if not isinstance(value, int | float) or not -_LONGEST < value < _LONGEST:
        raise ChannelError(f"{key!r} should be seconds")
    return float(value)


@dataclass(slots=True, eq=False)
class Sleeper:
    """One connection asleep.  fd: of its socket.  handover: as it first came, in JSON.

    due: of the spawner's clock.
    """

    serial: int
    fd: int
    handover: bytes
    state: str
    idle: bool
    due: float
    interval: float
    octets_in: int
    octets_out: int


@dataclass(slots=True, eq=False)
class Company:
    """Those who sleep together.  watch: of their inotify descriptor."""

    watch: int
    sleepers: dict[int, Sleeper] = field(default_factory=dict)  # by serial
    is_roused: bool = False  # by a change alone; else by a client


class Asleep:
    """All companies.  Descriptors are only numbers here."""

    def __init__(self) -> None:
        self._by_fd: dict[int, tuple[Company, Sleeper | None]] = {}
        self._by_serial: dict[int, Company] = {}
        self._due: list[tuple[float, int]] = []  # a heap; times that no longer hold are passed over
        self._waking: dict[Company, None] = {}  # in the order in which they came

    def __len__(self) -> int:
        return len(self._by_serial)

    def add(self, company: Company) -> None:
        self._by_fd[company.watch] = company, None
        for sleeper in company.sleepers.values():
            self._by_fd[sleeper.fd] = company, sleeper
            self._by_serial[sleeper.serial] = company
            heapq.heappush(self._due, (sleeper.due, sleeper.serial))

    def whose(self, fd: int) -> tuple[Company, Sleeper | None]:
        """None for a sleeper: the company's watch.  Raises KeyError."""
        return self._by_fd[fd]

    def remove(self, company: Company, sleeper: Sleeper) -> None:
        """One connection is gone.  The last one takes the company along."""
        del company.sleepers[sleeper.serial], self._by_fd[sleeper.fd]
        del self._by_serial[sleeper.serial]
        if not company.sleepers:
            self._by_fd.pop(company.watch, None)
            self._waking.pop(company, None)

    def remove_company(self, company: Company) -> None:
        for sleeper in list(company.sleepers.values()):
            del self._by_fd[sleeper.fd], self._by_serial[sleeper.serial]
        self._by_fd.pop(company.watch, None)
        self._waking.pop(company, None)

    def companies(self) -> Iterable[Company]:
        return dict.fromkeys(self._by_serial.values())

    # -- waking ----------------------------------------------------------------------------

    def wake(self, company: Company, *, by_change: bool) -> None:
        """It is to wake when there is room: a client who waits for an answer goes first."""
        if not by_change:
            company.is_roused = False
        elif company not in self._waking:
            company.is_roused = True
        self._waking[company] = None

    def next_to_wake(self, *, roused_too: bool) -> Company | None:
        """roused_too: not only those of clients who wait."""
        for company in self._waking:
            if not company.is_roused:
                return company
        return next(iter(self._waking), None) if roused_too else None

    # -- time ------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        while self._due:
            when, serial = self._due[0]
            company = self._by_serial.get(serial)
            if company is not None and company.sleepers[serial].due == when:
                return when
            heapq.heappop(self._due)
        return None

    def due(self, now: float) -> list[tuple[Company, Sleeper]]:
        """Those for whom something must be done; in IDLE they are due again after the interval."""
        found = []
        while (when := self.next_due()) is not None and when <= now:
            _, serial = heapq.heappop(self._due)
            company = self._by_serial[serial]
            sleeper = company.sleepers[serial]
            if sleeper.idle:
                sleeper.due = now + max(1.0, sleeper.interval)
                heapq.heappush(self._due, (sleeper.due, serial))
            found.append((company, sleeper))
        return found
