"""When a worker may end and leave its connections asleep, and who takes them up again.

What tells that a worker's connections may sleep is kept here while it lives; the Dormitory has
those that do.  Forking, and which worker serves whom, are the spawner's.
"""

import contextlib
import json
import logging
import os
import select
from collections.abc import Callable
from typing import Any, Final, Protocol

from imap.service.asleep import Bedding, Company, Sleeper, beddings
from imap.service.channel import Channel, Message
from imap.service.dormitory import Dormitory, Held, is_inotify, refuse
from imap.service.handover import decode_user
from imap.service.placement import Placement
from sharefs.identity.model import MailUser

log = logging.getLogger(__name__)

_ROUSED_AT_ONCE: Final = 16  # workers that wake only because something changed
_ROUSED_FOR: Final = 5.0  # seconds that such a worker keeps another from waking at most


class Workers(Protocol):
    """What the spawner does for connections that wake."""

    def has_room(self) -> bool:
        """Whether there may be one worker more."""
        ...

    def give(self, user: MailUser, body: dict[str, Any], fds: tuple[int, ...]) -> int | None:
        """Hand a connection to user's worker; its pid, None when nobody could take it."""
        ...


class Sleep:
    """enabled: whether there is any; else no connection is held, and no worker may leave one.

    dormitory: its descriptors are the loop's to poll.
    """

    def __init__(
        self,
        workers: Workers,
        placement: Placement,
        epoll: select.epoll,
        clock: Callable[[], float],
        *,
        enabled: bool,
    ) -> None:
        self._workers = workers
        self._placement = placement
        self._clock = clock
        self._enabled = enabled
        self._held: dict[int, dict[int, Held]] = {}  # pid: by serial, where connections may sleep
        self._watches: dict[int, int] = {}  # pid: a worker's inotify descriptor
        self._roused: dict[int, float] = {}  # pid: until when it counts as woken by a change only
        self.dormitory = Dormitory(epoll, clock, self._gone_asleep)

    # -- workers that are awake ------------------------------------------------------------

    def add_worker(self, pid: int) -> None:
        self._held[pid] = {}

    def remove_worker(self, pid: int) -> None:
        """Close what is held of its connections: they end with it."""
        for held in self._held.pop(pid).values():
            held.socket.close()
        if (watch := self._watches.pop(pid, None)) is not None:
            os.close(watch)
        self._roused.pop(pid, None)

    def hold(self, pid: int, serial: int, fd: int, handover: dict[str, Any]) -> None:
        """Keep a descriptor of our own, without which the connection never sleeps.

        Raises OSError.
        """
        if self._enabled:
            self._held[pid][serial] = Held.of(fd, {**handover, "unread": ""})

    def let_go(self, pid: int, serial: int) -> None:
        """The connection is closed.  Harmless if it was not held."""
        if (held := self._held[pid].pop(serial, None)) is not None:
            held.socket.close()

    def expects_watch(self, pid: int) -> bool:
        """Only a worker that has touched nothing yet may send descriptors.

        One that is in its user's hands could send that of a file whose file system never answers,
        and merely to close it would keep us for ever.
        """
        return self._enabled and pid not in self._watches

    def take_watch(self, pid: int, message: Message) -> None:
        if pid not in self._watches and len(message.fds) == 1 and is_inotify(message.fds[0]):
            self._watches[pid] = message.fds[0]
        else:
            message.close()

    # -- falling asleep --------------------------------------------------------------------

    def put_to_bed(self, pid: int, channel: Channel, message: Message) -> bool:
        """Answer a worker whether it may end, leaving all its connections asleep.

        It waits for the answer and does nothing else.  A connection that was given to it before
        its question came is one that it did not know of: then it must stay.  Raises ChannelError
        for nonsense, which is answered as well.
        """
        beds: list[Bedding] = []
        try:
            beds = beddings(message)
        finally:
            may = self._may_leave(pid, beds)
            with contextlib.suppress(OSError):
                channel.send({"do": "leave" if may else "stay"})
        if may:
            self.dormitory.put_to_bed(beds, self._held.pop(pid), self._watches.pop(pid))
            self._roused.pop(pid, None)
            self._placement.sleep(pid)
        return may

    def _may_leave(self, pid: int, beds: list[Bedding]) -> bool:
        serials = {bed.serial for bed in beds}
        return (
            pid in self._watches
            and len(serials) == len(beds) > 0
            and serials == self._held[pid].keys()
            and {str(serial) for serial in serials} == self._placement.sessions(pid)
        )

    def _gone_asleep(self, serial: int) -> None:
        self._placement.leave(str(serial))

    # -- waking up -------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When something must be done unasked; None: never."""
        roused = min(self._roused.values(), default=None) if self.dormitory.has_waking else None
        times = [each for each in (self.dormitory.next_due(), roused) if each is not None]
        return min(times, default=None)

    def wake(self) -> None:
        """Give those who are to wake to their workers, as far as there is room."""
        now = self._clock()
        for pid in [pid for pid, until in self._roused.items() if until <= now]:
            del self._roused[pid]
        while (company := self._to_wake()) is not None:
            for sleeper, held in self.dormitory.get_up(company):
                self._hand_back(sleeper, held, is_roused=company.is_roused)

    def _to_wake(self) -> Company | None:
        """Whom there is room to wake.  Changes wake only some at a time."""
        if not self._workers.has_room():
            return None  # until one ends
        return self.dormitory.next_to_wake(roused_too=len(self._roused) < _ROUSED_AT_ONCE)

    def _hand_back(self, sleeper: Sleeper, held: Held, *, is_roused: bool) -> None:
        """Give a connection to its user's worker, which takes its session up."""
        handover = json.loads(sleeper.handover)
        body = {
            "handover": handover,
            "rest": sleeper.state,
            "serial": sleeper.serial,
            "in": sleeper.octets_in,
            "out": sleeper.octets_out,
            "roused": is_roused,
        }
        user = decode_user(handover["user"])
        pid = self._workers.give(user, body, (held.socket.fileno(),))
        if pid is None:
            refuse(sleeper, held)
            self._placement.leave(str(sleeper.serial))
            return
        self._placement.wake(pid, str(sleeper.serial))
        self._held[pid][sleeper.serial] = held
        if is_roused:
            self._roused[pid] = self._clock() + _ROUSED_FOR

    def stop(self) -> None:
        """Nothing sleeps or is held any more; those who slept hear that the server ends."""
        for pid in list(self._held):
            self.remove_worker(pid)
        self.dormitory.stop()
