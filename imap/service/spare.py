"""One process that is nobody yet, and becomes the next worker at once.

To fork, and to run everything for the first time, takes most of a new worker's time before its
first answer.  So one process does that ahead, while nothing else is to do.  It has touched nothing
of any user's, and waits for the spawner to say whom it is for.
"""

import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Final

from imap.service.channel import Channel, ChannelError, pair
from imap.service.logs import start_logging
from imap.service.placement import Identity
from imap.service.processes import (
    describe_exit,
    fork_child,
    set_process_name,
    settle_memory,
    thread_count,
)
from sharefs.identity.privileges import become

log = logging.getLogger(__name__)

PAUSE: Final = 0.2  # seconds without a new worker until a process is made for the next
NAME: Final = "sharefs-spare"  # of one that is ready
_AFTER_DEATH: Final = 60.0  # seconds

RunWorker = Callable[[int, str], int]


def no_rehearsal() -> None:
    """For workers that know their part."""


class Spare:
    """At most one process.  The spawner's loop calls make_if_due() and reaped().

    run_worker(control_fd, name): called in the process once it has become its user.  rehearse:
    called before, when it is nobody's; what it raises ends the process.
    """

    def __init__(
        self,
        run_worker: RunWorker,
        rehearse: Callable[[], None] = no_rehearsal,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._run_worker = run_worker
        self._rehearse = rehearse
        self._clock = clock
        self._pid = 0  # 0: there is none
        self._channel: Channel | None = None
        self._leaving: set[int] = set()  # told to end, not reaped yet
        self._due = clock() + PAUSE
        self._wanted = True

    def next_due(self) -> float | None:
        """When make_if_due() has something to do; None: never, as things are."""
        return self._due if self._wanted and not self._pid else None

    def make_if_due(self) -> None:
        """Fork one if there is none and no worker was asked for lately."""
        due = self.next_due()
        if due is None or self._clock() < due:
            return
        ours, theirs = pair()
        with theirs:
            fd = theirs.fileno()
            try:
                self._pid = fork_child(lambda: self._wait(fd), name="sf-rehearsing", keep=[fd])
            except OSError as exc:
                ours.close()
                log.info("No process waits for the next user: %s", exc)
                self._due = self._clock() + _AFTER_DEATH
                return
        self._channel = Channel(ours)

    def take(self, identity: Identity, user: str) -> tuple[int, Channel] | None:
        """The process, on its way to be user's worker, and its channel, which becomes the
        caller's.  None: there is none that is ready; another way must be found."""
        self._due = max(self._due, self._clock() + PAUSE)
        channel = self._channel
        if channel is None:
            return None
        try:
            message = channel.receive(descriptors=False)
            if message is not None:
                channel.send(
                    {
                        "uid": identity.uid,
                        "gid": identity.gid,
                        "groups": identity.groups,
                        "user": user,
                    }
                )
        except BlockingIOError:
            return None  # not ready yet
        except (OSError, ChannelError) as exc:
            log.debug("The process that waits cannot be told for whom: %s", exc)
            message = None
        if message is None:
            self._dismiss()
            return None
        pid, self._pid, self._channel = self._pid, 0, None
        return pid, channel

    def reaped(self, pid: int, status: int) -> bool:
        """Whether this process, which has ended, was one of ours."""
        if pid == self._pid:
            self._dismiss()
            if not status:
                self._due = self._clock() + PAUSE
        if pid not in self._leaving:
            return False
        self._leaving.discard(pid)
        if status:
            log.critical(
                "The process that waits for a user (pid %d) died: %s", pid, describe_exit(status)
            )
        return True

    def give_up(self) -> None:
        """Let it end, and make no other."""
        self._wanted = False
        self._dismiss()

    @property
    def is_gone(self) -> bool:
        """Whether none is left, not even one that is about to end."""
        return not self._pid and not self._leaving

    def kill(self) -> None:
        """End what does not end by itself."""
        for pid in self._leaving:
            os.kill(pid, signal.SIGKILL)

    def _dismiss(self) -> None:
        """Without our end of its channel it ends."""
        if self._channel is not None:
            self._channel.close()
            self._leaving.add(self._pid)
            self._pid, self._channel = 0, None
            self._due = self._clock() + _AFTER_DEATH

    # -- in the process itself -------------------------------------------------------------

    def _wait(self, fd: int) -> int:
        """Until told whom to become.  Exit status."""
        try:
            self._rehearse()
        except OSError as exc:
            log.info("A worker cannot rehearse: %s", exc)
        start_logging("spare")
        settle_memory()
        if thread_count() != 1:  # each would have to become the user by itself
            log.critical("Our bug; a rehearsal has left threads behind")
            return os.EX_SOFTWARE
        channel = Channel(socket.socket(fileno=fd))
        channel.send({"ready": True})
        set_process_name(NAME)
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
            poll.poll()
        message = channel.receive(descriptors=False)
        if message is None:
            return os.EX_OK
        name = f"imap({message.text('user')})"
        set_process_name(f"sf-imap:{message.text('user')}")
        start_logging(name)
        become(message.number("uid"), message.number("gid"), message.body["groups"])
        return self._run_worker(channel.detach(), name)
