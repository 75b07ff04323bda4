"""Who calls: uid and gid as the kernel says, supplementary groups from the calling process.

The kernel tells a FUSE daemon the caller's uid, gid and process id, not the groups.  They are read
from /proc/PID/status.  A process that is gone, or that lives in a pid namespace we do not see
(then the kernel says 0), has its primary group only: fewer rights, never more.  An answer is kept
for a moment, and only for the very process it was read from: pid and start time together.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.permissions.access import Credentials

KEPT: Final = 0.5  # seconds; setgroups(2) is rare, and after it nobody waits longer than this
MAX_KEPT: Final = 1024  # processes


@dataclass(frozen=True, slots=True)
class Caller:
    """uid and gid are those for file access (fsuid, fsgid).  pid: as we see it; 0: not at all."""

    uid: int
    gid: int
    pid: int = 0

    @property
    def is_superuser(self) -> bool:
        return self.uid == 0


def process_of(caller: Caller, proc: Path = Path("/proc")) -> int:
    """The process that calls: the kernel tells the thread.  0: it cannot be looked at."""
    try:
        for line in (proc / str(caller.pid) / "status").read_bytes().split(b"\n"):
            if line.startswith(b"Tgid:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


class Groups:
    """Supplementary groups of processes.  proc: where /proc is; clock: seconds."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._kept: dict[tuple[int, bytes], tuple[float, frozenset[int]]] = {}

    def credentials_of(self, caller: Caller) -> Credentials:
        """What sharefs.permissions.access wants to know.  Never raises."""
        groups = self.groups_of(caller)
        return Credentials(caller.uid, caller.gid, groups, superuser=caller.uid == 0)

    def groups_of(self, caller: Caller) -> frozenset[int]:
        """The supplementary groups; none if the process cannot be looked at, or is not that
        caller any more (its uid differs: it changed, or the pid was used again)."""
        if caller.pid <= 0:
            return frozenset()
        try:
            started = self._start_time(caller.pid)
            key = (caller.pid, started)
            kept = self._kept.get(key)
            now = self._clock()
            if kept is not None and now - kept[0] < KEPT:
                return kept[1]
            groups = self._read(caller)
            if self._start_time(caller.pid) != started:
                return frozenset()
        except (OSError, ValueError, IndexError):
            return frozenset()
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = (now, groups)
        return groups

    def _start_time(self, pid: int) -> bytes:
        # proc(5): field 22, counted behind the command's name, which may contain anything.
        text = (self._proc / str(pid) / "stat").read_bytes()
        return text[text.rindex(b")") + 2 :].split()[19]

    def _read(self, caller: Caller) -> frozenset[int]:
        uids: list[int] = []
        groups: frozenset[int] = frozenset()
        for line in (
            (self._proc / str(caller.pid) / "status").read_text("ascii", "replace").split("\n")
        ):
            if line.startswith("Uid:"):
                uids = [int(word) for word in line.split()[1:]]
            elif line.startswith("Groups:"):
                groups = frozenset(int(word) for word in line.split()[1:])
                break
        return groups if uids and uids[3] == caller.uid else frozenset()
