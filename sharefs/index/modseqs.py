"""Modification sequences of one mailbox as one viewer sees it (RFC 7162): CONDSTORE, QRESYNC.

Nobody has to report a change.  What the mailbox says is compared with what was last written down,
so changes by other programs, and changes while nobody looked, get numbers as well; what this
viewer may not see of others (their \\Seen, where each has his own) moves none of his numbers.

Rule: whoever learns a number has been shown all that happened up to it.  Another process of this
uid may have given numbers to changes that this process has not met; so before anything is
answered the mailbox is brought up to date with the numbers, not only the reverse.
"""

import functools
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from sharefs.errors import Code, SharingError
from sharefs.index import highest, numbers, schema
from sharefs.index import kept as keeping
from sharefs.index.database import DAMAGE, Database, is_damage
from sharefs.index.highest import Highest
from sharefs.index.number_rows import NumberRows
from sharefs.index.numbers import SPAN, Chunk, Ranges, chunk_of
from sharefs.store.interface import Mailbox

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS: Final = 10  # others may write between our look and our writing
# Numbers that a client claims to know are believed up to here.
BELIEVED: Final = 1 << 61


class Owner(Protocol):
    """The index around it."""

    def start_anew(self, why: object) -> None: ...

    def follow_file(self) -> None:
        """Turn to the file that is in place now, if that is another one."""
        ...


class _Overtaken(Exception):
    """Another process has written since we looked."""


class _Now:
    """What the mailbox says of each chunk."""

    def __init__(
        self,
        uids: Sequence[int],
        look: Callable[[Sequence[int]], tuple["array[int]", "array[int]"]],
    ) -> None:
        self._uids = uids
        self._look = look
        self._states: array[int] | None = None

    def know_all(self) -> None:
        """All of them will be asked for."""
        self._uids, self._states = self._look(self._uids)

    def of(self, number: int) -> tuple[Sequence[int], Sequence[int]]:
        """UIDs and states of the messages that belong to a chunk."""
        first = bisect_left(self._uids, number * SPAN)
        end = bisect_left(self._uids, (number + 1) * SPAN)
        if self._states is None:
            return self._look(self._uids[first:end])
        return self._uids[first:end], self._states[first:end]


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be written: chunks by number (None: nothing is left of it), what vanished."""

    changed: dict[int, tuple[Chunk, Sequence[int], Sequence[int], numbers.Comparison]]
    vanished: Ranges
    uidnext: int


def _mending(
    method: Callable[Concatenate["Modseqs", P], T],
) -> Callable[Concatenate["Modseqs", P], T]:
    """Begin anew what is damaged; refuse what is only out of reach now."""

    @functools.wraps(method)
    def mended(modseqs: "Modseqs", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            try:
                return method(modseqs, *args, **kwargs)
            except DAMAGE as error:
                if not is_damage(error):
                    raise
                modseqs.owner.start_anew(error)
            return method(modseqs, *args, **kwargs)
        except DAMAGE as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # a bug of ours
            raise modseqs.out_of_reach(error) from error

    return mended


class Modseqs:
    """Part of a MailboxIndex, whose lock and fate it shares.

    Every method raises SharingError(UNAVAILABLE) if the numbers cannot be kept, now or at all, and
    what Mailbox.sync() raises.
    """

    def __init__(self, mailbox: Mailbox, database: Database, owner: Owner) -> None:
        self._mailbox = mailbox
        self._database = database
        self._rows = NumberRows(database)
        self.owner = owner
        self.forget()

    def forget(self) -> None:
        """Know nothing of what is kept."""
        self._highest = -1
        self._generation = -1  # of the mailbox, when it was last compared
        self._checked_vanished = False
        self._agreed = b""  # fingerprint of the mailbox that is known to agree with the numbers
        self.left: tuple[Path, Highest] | None = None  # by leave_highest()

    def out_of_reach(self, why: object) -> SharingError:
        label = self._database.label
        detail = f"the modification sequences of {label} cannot be kept: {why}"
        return SharingError(Code.UNAVAILABLE, detail, retryable=True)

    def known(self) -> int | None:
        """HIGHESTMODSEQ of the mailbox as it was last seen, from memory; None: note() must tell.

        Neither reads nor waits.
        """
        if self._generation < 0 or self._generation != self._mailbox.generation:
            return None
        return None if self._database.is_replaced() else self._highest

    # --- giving numbers --------------------------------------------------------------------

    @_mending
    def note(self) -> int:
        """Give a number to all that changed.  Returns HIGHESTMODSEQ.

        It may bring the mailbox up to date (sync), so that its generation grows.
        """
        return self._note()

    def _note(self) -> int:
        mailbox, database = self._mailbox, self._database
        for _ in range(ATTEMPTS):
            self.owner.follow_file()
            if database.path is None:
                raise self.out_of_reach("there is no place for them but memory")
            known = database.get(schema.MODSEQ)
            if known != self._highest:
                if not mailbox.looks_unchanged():
                    mailbox.sync()
                # What we compared is not what is written now: a change that another process
                # numbered may be undone since, and then nothing has changed for us.
                self._highest, self._generation = known, -1
            mailbox.uids()  # have it loaded: that is when generations begin
            if mailbox.generation == self._generation:
                return known
            if self._generation < 0 and self._agrees():
                self._generation = mailbox.generation
                return known
            try:
                self._compare(known)
            except _Overtaken:
                continue
            return self._highest
        raise self.out_of_reach("other processes write them again and again")

    def _agrees(self) -> bool:
        """Whether the numbers are known to be about the mailbox as it is."""
        kept = keeping.get(self._database.sql, schema.KEPT_NUMBERS)
        memento = None if kept is None else self._mailbox.memento()
        now = b"" if memento is None else memento.fingerprint()
        if not now or kept != now + self._rows.outline():
            return False
        self._agreed = now
        return True

    @_mending
    def put_away(self) -> None:
        """Write down that the numbers are about the mailbox as it is, if that is certain: who comes
        next need not compare them."""
        mailbox, database = self._mailbox, self._database
        if database.path is None or self._generation != mailbox.generation:
            return
        memento = mailbox.memento()
        now = b"" if memento is None else memento.fingerprint()
        if not now or now == self._agreed or not database.get(schema.NOTED):
            return
        with database.numbering() as sql:
            if database.get(schema.MODSEQ) != self._highest:
                return  # another process has met changes that we have not
            keeping.put(sql, schema.KEPT_NUMBERS, now + self._rows.outline())
        self._agreed = now

    @_mending
    def leave_highest(self) -> None:
        """Leave HIGHESTMODSEQ beside the index, if it is certain and has not been left before."""
        mailbox, database = self._mailbox, self._database
        if database.path is None or not self._agreed or self._generation != mailbox.generation:
            return
        memento = mailbox.memento()
        if memento is None or memento.fingerprint() != self._agreed:
            return
        directory = database.path.parent
        state = highest.state_of(directory)
        if state is None or database.is_replaced() or database.get(schema.MODSEQ) != self._highest:
            return
        left = directory, Highest(self._agreed, self._highest, state)
        if left == self.left or highest.state_of(directory) != state:
            return
        highest.leave(*left)
        self.left = left

    @_mending
    def resume(self, generation: int, modseq: int) -> None:
        """Go on from what recall() told when the mailbox had that generation, if others have given
        no number since."""
        if self._generation < 0 and self._database.get(schema.MODSEQ) == modseq:
            self._generation, self._highest = generation, modseq

    def _compare(self, known: int) -> None:
        """Write down what differs.  Raises _Overtaken."""
        mailbox, database = self._mailbox, self._database
        generation = mailbox.generation
        noted = database.get(schema.NOTED)
        news = self._news(noted)
        if news.changed or news.vanished or not noted:
            with database.numbering() as sql:
                if database.get(schema.MODSEQ) != known:
                    raise _Overtaken
                # Before anybody was told a number, all messages may share the first one.
                modseq = database.give_modseq() if noted else known
                self._write(sql, news, modseq)
            self._highest = modseq
        self._generation = generation

    def _news(self, noted: int) -> _News:
        mailbox = self._mailbox
        uids = mailbox.uids()
        now = _Now(uids, self._states_of)
        if self._generation < 0:
            self._rows.check_vanished()
            self._checked_vanished = True
            kept = {number: octets for number, _, octets in self._rows.checked()}
            suspects = sorted(kept.keys() | set(map(chunk_of, uids)))
            now.know_all()
        else:
            changes = mailbox.changes_since(self._generation)
            told = (changes.expunged, changes.added, changes.flags)
            suspects = sorted({chunk_of(uid) for some in told for uid in some})
            kept = {
                number: octets
                for suspect in suspects
                for number, _, octets in self._rows.of_chunk(suspect)
            }
        uidnext = mailbox.uidnext
        changed: dict[int, tuple[Chunk, Sequence[int], Sequence[int], numbers.Comparison]] = {}
        gone: list[int] = []
        for number in suspects:
            present, states = now.of(number)
            octets = kept.get(number, b"")
            if numbers.is_same(octets, present, states):
                continue
            chunk = Chunk.unpack(octets)
            compared = numbers.compare(chunk, present, states, uidnext)
            if compared.changed or compared.gone:
                changed[number] = chunk, present, states, compared
                gone += compared.gone
        vanished = numbers.ranges_of(gone)
        if noted:
            # Messages that came and went while nobody looked: a client may have met them.
            vanished = numbers.joined(vanished + numbers.absent(uids, noted, uidnext - 1))
        return _News(changed, vanished, uidnext)

    def _states_of(self, uids: Sequence[int]) -> tuple["array[int]", "array[int]"]:
        """UIDs and states of those that are there.  Messages with equal flags mostly share one
        object, so there is nothing to do for each of them but in C."""
        flags = self._mailbox.flags_of_each(uids)
        if None in flags:
            uids = [uid for uid, one in zip(uids, flags, strict=True) if one is not None]
        present = [one for one in flags if one is not None]
        keys = list(map(id, present))
        different = dict(zip(keys, present, strict=True))
        states = {key: numbers.state_of(one) for key, one in different.items()}
        return array("I", uids), array("Q", map(states.__getitem__, keys))

    def _write(self, sql: sqlite3.Connection, news: _News, modseq: int) -> None:
        self._forget_agreement(sql)
        for number, (chunk, uids, states, compared) in news.changed.items():
            self._rows.put(sql, number, numbers.renewed(chunk, uids, states, compared, modseq))
        if news.vanished:
            self._rows.put_vanished(sql, news.vanished, modseq)
        noted = max(news.uidnext, self._database.get(schema.NOTED))
        self._database.set(schema.NOTED, noted)

    def _forget_agreement(self, sql: sqlite3.Connection) -> None:
        keeping.forget(sql, schema.KEPT_NUMBERS)
        self._agreed = b""

    @_mending
    def restart_above(self, number: int) -> int:
        """A client knows a number above all of ours: they were given, and are lost.

        Everything gets a new one, as after the loss of the index.  Returns HIGHESTMODSEQ.
        """
        highest = self._note()
        if not highest < number <= BELIEVED:
            return highest
        with self._database.writing() as sql:
            self._forget_agreement(sql)
            highest = self._database.give_modseq(above=number)
            for at, _, octets in self._rows.all():
                chunk = Chunk.unpack(octets)
                self._rows.put(sql, at, Chunk.of(chunk.uids, chunk.states, highest))
            self._rows.forget_vanished(sql, highest)
        self._highest = highest
        return highest

    # --- answering -------------------------------------------------------------------------

    def _settled(self, read: Callable[[], T]) -> T:
        """What read() returns, when no other process gave numbers in between."""
        for _ in range(ATTEMPTS):
            self._note()
            found = read()
            if self._database.get(schema.MODSEQ) == self._highest:
                return found
        raise self.out_of_reach("other processes write them again and again")

    @_mending
    def of(self, uids: Sequence[int]) -> dict[int, int]:
        """The numbers of these messages, ascending, that are in the mailbox."""
        return self._settled(lambda: self._of(uids))

    def _of(self, uids: Sequence[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for chunk in self._rows.chunks_with(uids):
            found.update(zip(chunk.uids, chunk.modseqs, strict=True))
        return {uid: found[uid] for uid in uids if uid in found}

    @_mending
    def changed_since(self, modseq: int) -> list[int]:
        """Messages of the mailbox whose last change has a higher number, ascending."""
        return self._settled(lambda: self._changed_since(modseq))

    def _changed_since(self, modseq: int) -> list[int]:
        uids = self._mailbox.uids()
        if self._highest <= modseq or not uids:
            return []
        found: list[int] = []
        for chunk in self._rows.chunks_since(modseq):
            found += chunk.since(modseq)
        if found and found[-1] > uids[-1]:  # another process has met newer ones
            del found[bisect_left(found, uids[-1] + 1) :]
        return found

    @_mending
    def vanished_since(self, modseq: int) -> Ranges | None:
        """UIDs that vanished later, as ascending ranges.  None: that is not remembered so far."""
        return self._settled(lambda: self._vanished_since(modseq))

    def _vanished_since(self, modseq: int) -> Ranges | None:
        if not self._checked_vanished:
            self._rows.check_vanished()
            self._checked_vanished = True
        vanished = self._rows.vanished_since(modseq)
        if vanished is None:
            return None
        uids = self._mailbox.uids()
        # A file that was moved away and back has its old UID.
        return [gap for first, last in vanished for gap in numbers.absent(uids, first, last)]

    def problems(self) -> Iterator[str]:
        """What is wrong with what is kept; nothing is changed."""
        return self._rows.problems()
