"""CONDSTORE and QRESYNC (RFC 7162): what a client is told with modification sequences.

Everything here is for functions given to a mailbox's run(), so that numbers, flags and the list
of messages are those of one moment.  Rule: a client may remember the highest number that it was
told, so whatever has that number or a lower one has been told before, or is told with it.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imap.commands.host import Handle
from imap.view import View
from imap.wire import ProtocolError, SequenceSet
from imap.wire.selecting import Resync
from sharefs.errors import Code, SharingError
from sharefs.index.modseqs import Modseqs
from sharefs.index.numbers import absent
from sharefs.store.interface import Changes

log = logging.getLogger("imap.numbered")

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class News:
    """Of a mailbox since a view heard of it.  highest: HIGHESTMODSEQ, 0 if there are no numbers.

    modseqs: of the messages whose flags changed.
    """

    generation: int
    changes: Changes
    recent: frozenset[int]
    highest: int = 0
    modseqs: Mapping[int, int] = field(default_factory=dict)


def look(handle: Handle, view: View, claim: bool) -> News:
    """What happened, with numbers.  claim: take recent messages for this session."""
    mailbox = handle.mailbox
    highest, numbers = 0, dict[int, int]()
    modseqs = handle.modseqs()
    try:
        while modseqs is not None:
            highest = modseqs.note()
            generation = mailbox.generation
            numbers = modseqs.of(_known(view, view.changes(mailbox).flags))
            if generation == mailbox.generation:
                break
    except SharingError as error:
        if error.code is not Code.UNAVAILABLE:
            raise
        # News without a number: the client keeps the one it has and is told again next time.
        log.warning("News without modification sequences: %s", error)
        highest, numbers = 0, {}
    changes = view.changes(mailbox)
    recent: frozenset[int] = frozenset()
    if changes.added and mailbox.has_recent():
        recent = mailbox.recent(claim=claim)
    return News(mailbox.generation, changes, recent, highest, numbers)


def _known(view: View, uids: Iterable[int]) -> list[int]:
    uidmax = view.uidmax
    return [uid for uid in sorted(uids) if uid <= uidmax]


def demand_numbered(numbered: bool) -> None:
    """Raises ProtocolError in a mailbox that answered NOMODSEQ (RFC 7162 section 3.1.2.2)."""
    if not numbered:
        raise ProtocolError("This mailbox has no modification sequences")


def demand_numbers(handle: Handle, numbered: bool) -> Modseqs:
    """In run().  Raises ProtocolError, and SharingError(UNAVAILABLE) if they got lost meanwhile."""
    demand_numbered(numbered)
    modseqs = handle.modseqs()
    if modseqs is None:
        raise SharingError(Code.UNAVAILABLE, "the index is in memory now", retryable=True)
    return modseqs


def numbers_if_any(handle: Handle, uids: Sequence[int]) -> dict[int, int]:
    """In run().  Numbers that go along with other news: those go out all the same without them."""
    modseqs = handle.modseqs()
    try:
        return {} if modseqs is None else modseqs.of(uids)
    except SharingError as error:
        if error.code is not Code.UNAVAILABLE:
            raise
        log.warning("Told without modification sequences: %s", error)
        return {}


@dataclass(frozen=True, slots=True)
class Entered:
    """A mailbox as it is when it is selected.  highest: 0 if it has no numbers (NOMODSEQ).

    vanished, changed: the answer to Resync: UIDs as ranges, and messages with their numbers.
    """

    uids: Sequence[int]
    generation: int
    recent: frozenset[int]
    highest: int
    vanished: Ranges = field(default_factory=list)
    changed: Mapping[int, int] = field(default_factory=dict)


def enter(handle: Handle, claim: bool, resync: Resync | None) -> Entered:
    """Bring the mailbox up to date and look at it."""
    mailbox = handle.mailbox
    if not mailbox.looks_unchanged():
        mailbox.sync()
    recent = mailbox.recent(claim=claim) if mailbox.has_recent() else frozenset[int]()
    modseqs = handle.modseqs()
    if modseqs is None:
        return Entered(mailbox.uids(), mailbox.generation, recent, 0)
    try:
        while True:
            highest = modseqs.note()
            generation = mailbox.generation
            vanished, changed = Ranges(), dict[int, int]()
            if resync is not None and resync.uidvalidity == mailbox.uidvalidity:
                highest = modseqs.restart_above(resync.modseq)
                vanished, changed = _resynced(handle, modseqs, resync)
            if mailbox.generation == generation:
                return Entered(mailbox.uids(), generation, recent, highest, vanished, changed)
    except SharingError as error:
        if error.code is not Code.UNAVAILABLE:
            raise
        log.warning("Selected without modification sequences: %s", error)
        return Entered(mailbox.uids(), mailbox.generation, recent, 0)


def _resynced(handle: Handle, modseqs: Modseqs, resync: Resync) -> tuple[Ranges, dict[int, int]]:
    """RFC 7162 section 3.2.5.1.  Only of the messages that the client knows, if it says which."""
    mailbox = handle.mailbox
    uids, last = mailbox.uids(), mailbox.uidnext - 1
    changed = modseqs.changed_since(resync.modseq)
    known = [(1, last)]
    if resync.known is not None:
        known = list(resync.known.resolve(last))
        changed = resync.known.pick(changed)
    vanished = modseqs.vanished_since(resync.modseq)
    if vanished is None:
        first = 1 + _unchanged_up_to(uids, resync)
        vanished = absent(uids, first, last)
    return overlap(vanished, known), modseqs.of(changed)


def _unchanged_up_to(uids: Sequence[int], resync: Resync) -> int:
    """The UID up to which nothing that the client knows has vanished, by what it says matched.

    Where a message still has the number that it had, none before it is gone (section 3.2.5.2).
    """
    if resync.matches is None:
        return 0
    numbers, their_uids = (pick.resolve(1 << 32) for pick in resync.matches)
    found = 0
    for number, uid in zip(_each(numbers, len(uids)), _each(their_uids, 1 << 32), strict=False):
        if uids[number - 1] != uid:
            break
        found = uid
    return found


def _each(ranges: Iterable[tuple[int, int]], last: int) -> Iterable[int]:
    for low, high in ranges:
        yield from range(low, min(high, last) + 1)


def vanished_of(
    handle: Handle, modseqs: Modseqs, modseq: int, named: SequenceSet, saved: Sequence[int]
) -> Ranges:
    """Messages that a UID FETCH names and that have vanished since modseq."""
    mailbox = handle.mailbox
    last = mailbox.uidnext - 1
    vanished = modseqs.vanished_since(modseq)
    if vanished is None:
        vanished = absent(mailbox.uids(), 1, last)
    if named.saved:
        return overlap(vanished, [(uid, uid) for uid in saved])
    return overlap(vanished, named.resolve(last))


def overlap(some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> Ranges:
    """What is in both.  Ranges are ascending and do not overlap."""
    ones, twos = list(some), list(others)
    found: Ranges = []
    one = two = 0
    while one < len(ones) and two < len(twos):
        low, high = max(ones[one][0], twos[two][0]), min(ones[one][1], twos[two][1])
        if low <= high:
            found.append((low, high))
        if ones[one][1] < twos[two][1]:
            one += 1
        else:
            two += 1
    return found


def ranges_set(ranges: Iterable[tuple[int, int]]) -> bytes:
    """As a uid-set.  Empty for none."""
    parts = (f"{low}:{high}" if high > low else str(low) for low, high in ranges)
    return ",".join(parts).encode("ascii")
