"""What one viewer has seen of one mailbox: the content of a private index.  Pure.

Replaying log records changes it; comparing it with the shared mailbox says what a log still lacks.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sharefs.store.private_seen import records
from sharefs.store.private_seen.records import BrokenLog, Record, Type


@dataclass(slots=True)
class PrivateState:
    """uids: messages known here, ascending.  seen: those of them that are seen.

    uidvalidity 0: nothing was ever recorded.  next_uid: what is below was looked at already.
    touched: messages that became seen or unseen; whoever takes notice empties it.
    """

    uidvalidity: int = 0
    next_uid: int = 1
    uids: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)

    def apply(self, record: Record) -> None:
        """Raises BrokenLog, with the state as it was, if the record contradicts itself."""
        match record.type:
            case Type.APPEND:
                self._append(*records.parse_append(record.payload))
            case Type.FLAG_UPDATE:
                for first, last, add, remove in list(records.parse_flag_updates(record.payload)):
                    if add & records.SEEN:
                        self._see(first, last)
                    elif remove & records.SEEN:
                        self._unsee(first, last)
            case Type.EXPUNGE | Type.EXPUNGE_GUID:
                if record.external:  # otherwise a wish that nobody granted
                    for first, last in list(records.parse_expunges(record)):
                        self._expunge(first, last)
            case Type.HEADER_UPDATE:
                for where, data in list(records.parse_header_updates(record.payload)):
                    self._update_header(where, data)
            case Type.BOUNDARY:
                pass

    def _append(self, uids: Sequence[int], flags: Sequence[int]) -> None:
        if not uids:
            return
        previous = self.uids[-1] if self.uids else 0
        added = list(uids)
        if added[0] <= previous or added != sorted(set(added)):
            raise BrokenLog(f"UID {added[0]} appended after {previous}")
        self.uids += added
        self.next_uid = max(self.next_uid, added[-1] + 1)
        if any(flags):
            self.seen.update(
                uid for uid, octet in zip(uids, flags, strict=True) if octet & records.SEEN
            )

    def _see(self, first: int, last: int) -> None:
        news = set(self.known(first, last)) - self.seen
        self.seen |= news
        self.touched |= news

    def _unsee(self, first: int, last: int) -> None:
        news = set(self.known(first, last)) & self.seen
        self.seen -= news
        self.touched |= news

    def _expunge(self, first: int, last: int) -> None:
        left, right = bisect_left(self.uids, first), bisect_right(self.uids, last)
        self.seen.difference_update(self.uids[left:right])
        del self.uids[left:right]

    def _update_header(self, where: int, data: bytes) -> None:
        uidvalidity = records.number_in_update(where, data, records.UIDVALIDITY_OFFSET)
        if uidvalidity is not None:
            self.uidvalidity = uidvalidity
        next_uid = records.number_in_update(where, data, records.NEXT_UID_OFFSET)
        if next_uid is not None:
            self.next_uid = max(self.next_uid, next_uid)

    def knows(self, uid: int) -> bool:
        """Whether there is a record of this message."""
        position = bisect_left(self.uids, uid)
        return position < len(self.uids) and self.uids[position] == uid

    def known(self, first: int, last: int) -> list[int]:
        """The known UIDs within a range."""
        return self.uids[bisect_left(self.uids, first) : bisect_right(self.uids, last)]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a private index lacks.  reset: it describes another mailbox and starts anew.

    rebuild: it misses messages that it should have had, so that it must be written afresh, keeping
    flags by UID.
    """

    reset: bool = False
    rebuild: bool = False
    expunged: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    next_uid: int = 0

    def __bool__(self) -> bool:
        return bool(self.reset or self.rebuild or self.expunged or self.added or self.next_uid)


def compare(
    state: PrivateState, uids: Sequence[int], shared: frozenset[int], uidvalidity: int, uidnext: int
) -> Difference:
    """What must happen for a private index to match the shared mailbox.

    uids: the shared mailbox's, ascending; shared: the same as a set.  A private index may be ahead
    of our picture of the mailbox, because another process of the viewer looked later: what it has
    at or above uidnext is left alone.
    """
    if state.uidvalidity and state.uidvalidity != uidvalidity:
        return Difference(reset=True, added=tuple(uids), next_uid=uidnext)
    known = state.uids
    start = bisect_left(uids, state.next_uid)
    if len(known) == start and known == list(uids[:start]):  # by far the commonest case, in C
        expunged: tuple[int, ...] = ()
        rebuild = False
    else:
        below = known[: bisect_left(known, uidnext)]
        expunged = tuple(uid for uid in below if uid not in shared)
        rebuild = not set(known).issuperset(uids[:start])
    return Difference(
        reset=False,
        rebuild=rebuild,
        expunged=expunged,
        added=tuple(uids[start:]),
        next_uid=uidnext if state.next_uid < uidnext or not state.uidvalidity else 0,
    )


def ranges_of(uids: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending UIDs as runs of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for uid in uids:
        if runs and runs[-1][1] == uid - 1:
            runs[-1] = (runs[-1][0], uid)
        else:
            runs.append((uid, uid))
    return runs
