"""As many fanotify groups as it takes, as if they were one.

A group may have marks in one file system alone whose identifier (statfs(2)) does not stand for the
whole of it; others are refused with EXDEV.  On Btrfs that is so for every subvolume (Linux 6.8;
before, they are always refused).  So a device whose files the first group refuses gets its own.
"""

import contextlib
import errno
import os
import select
from typing import Final

from sharefs.mount.fanotify import Event, Group

MAX_GROUPS: Final = 64  # of the 128 that a uid may have: fs.fanotify.max_user_groups


class Marks:
    """Has the methods of a Group, for all of them.  fd: readable when one has events.

    Marking and reading may be done by two threads.  Raises OSError if this host has no groups.
    """

    def __init__(self) -> None:
        self._first = Group()
        self._groups = {self._first.fd: self._first}
        self._of_device: dict[int, Group] = {}
        self._unused: list[Group] = []
        self._poll = select.epoll()
        self._poll.register(self._first.fd, select.EPOLLIN)
        self.fd = self._poll.fileno()

    def mark(self, fd: int, mask: int) -> None:
        """As Group.mark().  Raises OSError(EXDEV) also where there are too many devices."""
        device = os.fstat(fd).st_dev
        group = self._of_device.get(device, self._first)
        try:
            group.mark(fd, mask)
        except OSError as error:
            if error.errno != errno.EXDEV or group is not self._first:
                raise
            own = self._another()
            if own is None:
                raise
            try:
                own.mark(fd, mask)
            except OSError:
                self._unused.append(own)
                raise
            self._of_device[device] = own

    def _another(self) -> Group | None:
        if self._unused:
            return self._unused.pop()
        if len(self._groups) >= MAX_GROUPS:
            return None
        group = Group()
        self._groups[group.fd] = group
        self._poll.register(group.fd, select.EPOLLIN)
        return group

    def unmark(self, fd: int, mask: int) -> None:
        """As Group.unmark()."""
        self._of_device.get(os.fstat(fd).st_dev, self._first).unmark(fd, mask)

    def flush(self) -> None:
        """Take all marks away."""
        for group in self._groups.values():
            with contextlib.suppress(OSError):
                group.flush()
        self._unused = [one for one in self._groups.values() if one is not self._first]
        self._of_device.clear()

    def read(self, *, but_of: int = -1, ours: int = 0) -> list[Event]:
        """As Group.read(), of each."""
        ready = self._poll.poll(0)
        return [one for fd, _ in ready for one in self._groups[fd].read(but_of=but_of, ours=ours)]

    def close(self) -> None:
        self._poll.close()
        for group in self._groups.values():
            group.close()
