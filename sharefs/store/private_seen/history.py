"""Generations of an overlaid mailbox: the shared one's and the private ones, as one number.  Pure.

Both numbers only grow, so their sum names one moment.  Moments that somebody asked about are kept,
so that "what changed since?" can be asked of both sides.
"""

from bisect import bisect_right
from typing import Final

KEPT: Final = 4096  # moments and private changes that are remembered


class History:
    """Which private flags changed when."""

    def __init__(self) -> None:
        self.private = 0  # private generation
        self._moments: list[tuple[int, int, int]] = []  # sum, shared, private; ascending
        self._changed: dict[int, frozenset[int]] = {}  # private generation -> UIDs

    def note(self, changed: frozenset[int]) -> None:
        """Private flags of these messages have changed."""
        self.private += 1
        self._changed[self.private] = changed
        if len(self._changed) > KEPT:
            del self._changed[next(iter(self._changed))]

    def moment(self, shared: int) -> int:
        """The number that stands for now, given the shared mailbox's generation."""
        now = shared + self.private
        if not self._moments or self._moments[-1][0] < now:
            self._moments.append((now, shared, self.private))
            if len(self._moments) > KEPT:
                del self._moments[: KEPT // 2]
        return now

    def shared_at(self, moment: int) -> int:
        """The shared mailbox's generation at a moment; its first one if that is forgotten."""
        position = bisect_right(self._moments, moment, key=lambda kept: kept[0])
        return self._moments[position - 1][1] if position else 0

    def changed_since(self, moment: int) -> frozenset[int] | None:
        """UIDs whose private flags may have changed.  None: all, it is too long ago."""
        position = bisect_right(self._moments, moment, key=lambda kept: kept[0])
        if not position:
            return None
        since = self._moments[position - 1][2]
        wanted = range(since + 1, self.private + 1)
        if any(number not in self._changed for number in wanted):
            return None
        return frozenset().union(*(self._changed[number] for number in wanted))
