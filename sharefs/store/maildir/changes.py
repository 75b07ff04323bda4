"""What happened to a mailbox since any earlier generation.  Pure.

Costs eight octets for each message added or removed since opening, and for each message whose
flags ever changed: so any generation, however old, gets an exact answer.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from sharefs.store.interface import Changes


class _Log:
    """UIDs in the order of their generations."""

    def __init__(self) -> None:
        self.generations = array("I")
        self.uids = array("I")

    def add(self, generation: int, uids: Iterable[int]) -> None:
        before = len(self.uids)
        self.uids.extend(uids)
        self.generations.extend([generation] * (len(self.uids) - before))

    def since(self, generation: int) -> set[int]:
        return set(self.uids[bisect_right(self.generations, generation) :])


class ChangeLog:
    """Grows by record(); since() answers for every generation from 0 on."""

    def __init__(self) -> None:
        self._added = _Log()
        self._expunged = _Log()
        self._flags = _Log()
        self._compact_at = 1024

    def record(self, generation: int, changes: Changes) -> None:
        """generation: the one that these changes lead to."""
        self._added.add(generation, changes.added)
        self._expunged.add(generation, changes.expunged)
        self._flags.add(generation, changes.flags)
        if len(self._flags.uids) > self._compact_at:
            self._compact()

    def since(self, generation: int) -> Changes:
        added = self._added.since(generation)
        expunged = self._expunged.since(generation)
        flags = self._flags.since(generation) - added - expunged
        return Changes(
            expunged=tuple(sorted(expunged - added)),
            added=tuple(sorted(added - expunged)),
            flags=tuple(sorted(flags)),
        )

    def _compact(self) -> None:
        """Keep the last change of flags of each message: that is all any answer needs."""
        last = dict(zip(self._flags.uids, self._flags.generations, strict=True))
        compact = _Log()
        for uid, generation in sorted(last.items(), key=lambda pair: pair[1]):
            compact.uids.append(uid)
            compact.generations.append(generation)
        self._flags = compact
        self._compact_at = max(1024, 2 * len(last))
