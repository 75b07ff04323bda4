"""Byte ranges that are locked, as fcntl(2) keeps them for one owner.  Pure.

The file system below decides who gets a lock.  This is what the mount has to know besides: who
stands in whose way, for F_GETLK's l_pid and for EDEADLK, neither of which the kernel can tell about
locks that one process, the daemon, holds for all.
"""

import fcntl
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Final

READ: Final = fcntl.F_RDLCK
WRITE: Final = fcntl.F_WRLCK
UNLOCK: Final = fcntl.F_UNLCK
LAST: Final = (1 << 63) - 1  # OFFSET_MAX: to the end of the file, however long it grows


@dataclass(frozen=True, slots=True)
class Range:
    """start to end, both included.  kind: READ, WRITE or UNLOCK.  pid: whose, says the kernel."""

    start: int
    end: int
    kind: int
    pid: int = 0

    def meets(self, other: "Range") -> bool:
        return self.start <= other.end and other.start <= self.end

    def conflicts(self, other: "Range") -> bool:
        """Between owners: only two readers can have the same octet."""
        return self.meets(other) and WRITE in (self.kind, other.kind)


Ranges = tuple[Range, ...]  # one owner's on one file: none meets another; ascending


def with_range(ranges: Ranges, new: Range) -> Ranges:
    """After fcntl(2) has set this range, or freed it: what it covers counts no more, neighbours of
    the same kind are joined."""
    found = []
    for one in ranges:
        if not one.meets(new):
            found.append(one)
            continue
        if one.start < new.start:
            found.append(replace(one, end=new.start - 1))
        if one.end > new.end:
            found.append(replace(one, start=new.end + 1))
    if new.kind != UNLOCK:
        found.append(new)
    found.sort(key=lambda one: one.start)
    joined: list[Range] = []
    for one in found:
        last = joined[-1] if joined else None
        if last is not None and last.end + 1 == one.start and last.kind == one.kind:
            joined[-1] = replace(last, end=one.end)
        else:
            joined.append(one)
    return tuple(joined)


def first_conflict(ranges: Ranges, wanted: Range) -> Range | None:
    """What stands in another owner's way."""
    return next((one for one in ranges if one.conflicts(wanted)), None)


def waits_for_itself(
    asker: Hashable,
    in_its_way: Iterable[Hashable],
    in_the_way_of: Callable[[Hashable], Iterable[Hashable]],
) -> bool:
    """Whether waiting for those owners would never end, because one of them waits for the asker."""
    pending, seen = list(in_its_way), set[Hashable]()
    while pending:
        owner = pending.pop()
        if owner == asker:
            return True
        if owner not in seen:
            seen.add(owner)
            pending.extend(in_the_way_of(owner))
    return False
