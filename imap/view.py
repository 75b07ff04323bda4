"""One connection's view of its mailbox: sequence numbers and what the client was told.  Pure.

RFC 3501 section 7.4.1: a server must not send EXPUNGE while FETCH, STORE or SEARCH run, for the
client counts on its sequence numbers.  So a view keeps messages that are gone ("held") in their
places until the client may hear of it.  RFC 2180 section 3 tells what else could be done; holding
back is the only way that never changes the meaning of a number under a client's feet.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sharefs.store.interface import Changes, Mailbox
from sharefs.store.late import LateUids


@dataclass(frozen=True, slots=True)
class Updates:
    """What to tell the client, in the order in which it must be told.

    expunged: sequence numbers, highest first, so that none of them shifts the next.
    vanished: the UIDs of the same messages, ascending.
    exists: the new message count, None if it needs no telling.
    recent: the new count of recent messages, None if it needs no telling.
    flags: UIDs whose flags changed, ascending; all of them are still in the mailbox.
    """

    expunged: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()
    exists: int | None = None
    recent: int | None = None
    flags: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.expunged or self.flags or self.exists is not None or self.recent is not None
        )


class View:
    """Sequence numbers are 1-based positions in `uids`.

    generation: the mailbox generation this view has heard of; the caller keeps it true.
    recent: UIDs that are \\Recent in this session.
    """

    def __init__(self, uids: Sequence[int], generation: int, recent: Iterable[int] = ()) -> None:
        # The mailbox's own list, which is never mutated, nor is it here: a thousand connections to
        # one mailbox have one list.
        self._told = uids
        self._held: set[int] = set()  # expunged, but the client has not been told
        self.generation = generation
        self.recent = set(recent)
        self.missed = Changes()  # what happened while the session was put away; not told yet

    def __len__(self) -> int:
        return len(self._told)

    @property
    def uids(self) -> Sequence[int]:
        """UIDs by position; includes held ones.  Do not mutate."""
        if isinstance(self._told, LateUids):
            self._told = self._told.all()
        return self._told

    @property
    def uidmax(self) -> int:
        """The highest UID here, 0 in an empty mailbox: what `*` means in a UID set."""
        return self._told[-1] if self._told else 0

    def is_held(self, uid: int) -> bool:
        """Whether the message is gone but still has its number here."""
        return uid in self._held

    @property
    def held(self) -> frozenset[int]:
        return frozenset(self._held)

    @property
    def holds_back(self) -> bool:
        """Whether any message is held."""
        return bool(self._held)

    def is_abreast(self, mailbox: Mailbox) -> bool:
        """Whether there is nothing new for this view, of what the mailbox knows itself."""
        return self.generation == mailbox.generation and not self.missed

    def changes(self, mailbox: Mailbox) -> Changes:
        """What happened in the mailbox and this view has not heard of yet."""
        changes = mailbox.changes_since(self.generation)
        if not self.missed:
            return changes
        gone = {*self.missed.expunged, *changes.expunged}
        added = {*self.missed.added, *changes.added} - gone
        flags = {*self.missed.flags, *changes.flags} - gone - added
        return Changes(tuple(sorted(gone)), tuple(sorted(added)), tuple(sorted(flags)))

    def seq_of(self, uid: int) -> int:
        """Raises KeyError for a UID that this view has never shown."""
        told = self._told.few if isinstance(self._told, LateUids) else self._told
        at = bisect_left(told, uid)
        if at == len(told) or told[at] != uid:
            raise KeyError(uid)
        return at + 1

    def seqs_of(self, uids: Sequence[int]) -> Sequence[int]:
        """seq_of() each, in their order.  Raises KeyError as that does."""
        if not uids:
            return ()
        first = self.seq_of(uids[0])
        if self.uids[first - 1 : first - 1 + len(uids)] == uids:
            return range(first, first + len(uids))
        if not uids or len(uids) < len(self.uids) // 16:
            return [self.seq_of(uid) for uid in uids]
        first, last = self.uids[0], self.uids[-1]
        if last - first == len(self.uids) - 1:  # nothing was ever expunged in between
            if min(uids) < first or max(uids) > last:
                raise KeyError(uids)
            return uids if first == 1 else [uid - first + 1 for uid in uids]
        places = dict(zip(self.uids, range(1, len(self.uids) + 1), strict=True))
        return [*map(places.__getitem__, uids)]

    def uid_of(self, seq: int) -> int:
        """Raises IndexError outside 1..len."""
        if not 1 <= seq <= len(self.uids):
            raise IndexError(seq)
        return self.uids[seq - 1]

    def between(self, low_uid: int, high_uid: int) -> list[tuple[int, int]]:
        """(seq, uid) of every message with low_uid <= uid <= high_uid."""
        first = bisect_left(self.uids, low_uid)
        last = bisect_left(self.uids, high_uid + 1)
        return list(enumerate(self.uids[first:last], first + 1))

    def hear(
        self,
        generation: int,
        *,
        added: Iterable[int] = (),
        expunged: Iterable[int] = (),
        flags: Iterable[int] = (),
        recent: Iterable[int] = (),
        may_expunge: bool = True,
    ) -> Updates:
        """Take in what happened in the mailbox and say what the client must now be told.

        may_expunge False holds removed messages in their places until a later call allows it.
        """
        self.generation = generation
        self.missed = Changes()
        size_before, recent_before = len(self.uids), len(self.recent)
        self._held.update(uid for uid in expunged if self._knows(uid))
        gone: tuple[int, ...] = ()
        vanished: tuple[int, ...] = ()
        if may_expunge and self._held:
            vanished = tuple(sorted(self._held))
            gone = tuple(sorted((self.seq_of(uid) for uid in self._held), reverse=True))
            self._told = [uid for uid in self.uids if uid not in self._held]
            self.recent -= self._held
            self._held.clear()
            # EXPUNGE itself tells the new counts: RFC 3501 section 7.4.1.
            size_before -= len(gone)
            recent_before = len(self.recent)
        known_to = self.uidmax
        # A UID below the highest known one cannot be new: UIDs only grow.
        fresh = [uid for uid in sorted(added) if uid > known_to]
        if fresh:
            self._told = [*self.uids, *fresh]
        self.recent.update(uid for uid in recent if self._knows(uid))
        return Updates(
            expunged=gone,
            vanished=vanished,
            exists=len(self.uids) if len(self.uids) != size_before else None,
            recent=len(self.recent) if len(self.recent) != recent_before else None,
            flags=tuple(uid for uid in sorted(flags) if self._knows(uid) and uid not in self._held),
        )

    def _knows(self, uid: int) -> bool:
        at = bisect_left(self.uids, uid)
        return at < len(self.uids) and self.uids[at] == uid
