"""Whether work on a mailbox's files has been quick lately, so that it may be done in line.

Changing to a thread and back takes longer than reading a message that is in the page cache, or
renaming one; but a file system that answers slowly must keep nobody waiting but who asked.  Other
processes that have the processor are no reason for threads, which wait for it no less.
Pure but for the clock that is passed in.
"""

from typing import Final

QUICK: Final = 0.004  # seconds
ENOUGH: Final = 3  # times without a slow one among them
SLOW: Final = 0.03  # seconds
REST: Final = 5.0  # seconds in threads after one that was slow


class Pace:
    """Of one mailbox.  Nothing is quick before it has been seen to be."""

    def __init__(self) -> None:
        self._times = 0
        self._not_before = 0.0

    def is_quick(self, now: float) -> bool:
        """now: seconds of a clock that never goes back, as in note()."""
        return self._times >= ENOUGH and now >= self._not_before

    def note(self, seconds: float, now: float) -> None:
        """Work took so long, as counted(), wherever it was done."""
        if seconds <= QUICK:
            self._times += 1
        elif seconds > SLOW:
            self._times, self._not_before = 0, now + REST


def counted(seconds: float, used: float, *, waited: bool) -> float:
    """How long work took that began and ended so many seconds apart.

    used: seconds of the processor.  waited: it gave up the processor, for a disk or a lock; if it
    did not, the rest is other processes' time, and a thread would have waited for that too.
    """
    return seconds if waited else min(seconds, used)
