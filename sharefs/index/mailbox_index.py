"""The index of one mailbox, as one uid keeps it for himself.

Nothing here is ever the truth: what is not indexed is read, and an index found wrong is set aside
and built again while everything goes on.  Not thread safe, as the Mailbox that it is about: the
caller serialises the calls on both.
"""

import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sharefs.errors import Code, SharingError
from sharefs.index import kept, rows, schema, trigrams
from sharefs.index.agreement import Agreement
from sharefs.index.damage import Damaged
from sharefs.index.database import DAMAGE, Database, is_damage
from sharefs.index.harvest import Harvest, harvest
from sharefs.index.modseqs import Modseqs
from sharefs.index.narrow import narrow, needs_facts, needs_heads, needs_texts
from sharefs.index.orders import Orders
from sharefs.index.query import Leaf, Narrowed, Query
from sharefs.index.rows import SEALED, Column, Value
from sharefs.index.search import evaluate
from sharefs.index.status import Status
from sharefs.index.verify import problems
from sharefs.ordering.facts import Facts, Relation
from sharefs.ordering.sorting import Criterion
from sharefs.store.interface import Mailbox

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SLICE: Final = 500  # messages in one transaction
FEW: Final = 250  # messages that are cheaper checked one by one
FETCH_AT_ONCE: Final = 1000  # messages whose rows are in memory together
# Texts are left out where the index would grow beyond this share of the mail it is about.
SHARE_LIMIT: Final = 0.5
FREE_OCTETS: Final = 2048  # for each message, what rows need even if a message is tiny
BASE_OCTETS: Final = 512 * 1024  # for the file: every table begins with a page
WORTH_MERGING: Final = 8  # segments of texts, to make room
DEAD_LIMIT: Final = 1000  # dead rows in texts, besides one for each living message


def _mending(
    method: Callable[Concatenate["MailboxIndex", P], T],
) -> Callable[Concatenate["MailboxIndex", P], T]:
    """Try once more on an empty index if this one turns out to be wrong."""

    @functools.wraps(method)
    def mended(index: "MailboxIndex", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(index, *args, **kwargs)
        except DAMAGE as error:
            if not is_damage(error):
                raise
            index.start_anew(error)
        return method(index, *args, **kwargs)

    return mended


class MailboxIndex:
    """See the module.  Made by open(); close() releases the connection."""

    def __init__(self, mailbox: Mailbox, database: Database) -> None:
        self._mailbox = mailbox
        self._database = database
        self._modseqs = Modseqs(mailbox, database, self)
        self.is_stuck = False  # the last catch_up() could not write
        self._forget_all()

    @classmethod
    def open(cls, mailbox: Mailbox, places: Sequence[Path], *, label: str = "") -> "MailboxIndex":
        """The index kept in the first of these directories that is this uid's alone, made if need
        be; in memory if none is.  Reads next to nothing: rows are checked when first asked for.

        label: what the mailbox is called in messages.  The mailbox stays the caller's to close.
        """
        return cls(mailbox, Database(places, mailbox.uidvalidity, label))

    def close(self) -> None:
        """Harmless twice."""
        self._database.close()

    def _forget_all(self) -> None:
        """Know nothing of the rows: they are read and checked when next asked for."""
        self._modseqs.forget()
        self._indexed: set[int] = set()  # messages with rows that are about them
        self._textless: set[int] = set()  # those of them that are not in texts
        self._skipped: set[int] = set()  # messages that cannot be read, or are gone
        self._queue: list[int] = []  # messages to be indexed, ascending, taken from the end
        self._gathered: dict[int, tuple[str, Harvest]] = {}  # of messages still to be written
        self._ahead = False  # there are rows of messages that the mailbox does not know yet
        self._vanished: list[int] = []  # rows of messages that are gone, still to be removed
        self._data_version = -1
        self._generation = -1  # of the mailbox, when the rows were last compared with it
        self._checked_facts = False
        self._checked_heads = False
        self._checked_texts = False
        self._orders = Orders()
        self._agreed: Agreement | None = None  # as it is written down

    def start_anew(self, why: object) -> None:
        """Set it aside and begin an empty one.  Nothing is lost but the work of building it."""
        self._database.start_anew(why)
        self._forget_all()

    # --- knowing what is there -------------------------------------------------------------

    def follow_file(self) -> None:
        """Turn to the file that is in place now, if that is another one."""
        if self._database.is_replaced():
            self._database.reopen()
            self._forget_all()

    def _ready(self, *, facts: bool = False) -> None:
        """Know which rows are about the mailbox as it is now.

        facts: their sums have been compared too, for values without sums of their own.
        """
        self.follow_file()
        version = self._database.data_version()
        changed = self._generation != self._mailbox.generation
        if version != self._data_version or (changed and self._ahead):
            if self._data_version >= 0 or facts or not self._recall():
                self._compare()
            self._data_version = version
        elif changed:
            self._drop_vanished()
        if facts and not self._checked_facts:
            self._compare()
        self._generation = self._mailbox.generation

    def _compare(self) -> None:
        """Every row with the message that it claims to be about."""
        present = set(self._mailbox.uids())
        next_uid = self._mailbox.uidnext  # beyond are messages that only another process knows yet
        identity_of = self._mailbox.identity_of
        indexed, textless, gone = set[int](), set[int](), list[int]()
        ahead = False
        for uid, identity, has_texts in rows.facts_of_all(self._database.sql):
            if uid not in present:
                if uid < next_uid:
                    gone.append(uid)
                else:
                    ahead = True
            elif rows.identity_octets(identity_of(uid)) != identity:
                raise Damaged(f"message {uid} is another one than the index knew")
            else:
                indexed.add(uid)
                if not has_texts:
                    textless.add(uid)
        self._know(indexed, textless, gone)
        self._ahead = ahead
        self._checked_facts = True

    def _know(self, indexed: set[int], textless: set[int], gone: list[int]) -> None:
        self._indexed, self._textless, self._vanished = indexed, textless, gone
        self._skipped -= indexed
        for uid in indexed & self._gathered.keys():
            del self._gathered[uid]  # another process was faster
        self._checked_facts = self._checked_heads = self._checked_texts = False
        self._orders = Orders()
        self._ahead = False

    def _recall(self) -> bool:
        """Whether another process has found which rows are about the mailbox as it is."""
        octets = kept.get(self._database.sql, schema.KEPT_ROWS)
        memento = None if octets is None else self._mailbox.memento()
        if octets is None or memento is None:
            return False
        try:
            agreed = Agreement.unpack(octets)
        except ValueError as error:
            raise Damaged(str(error)) from error
        if not agreed.mark or agreed.mark != memento.fingerprint():
            return False
        indexed = set(self._mailbox.uids()).difference(agreed.missing)
        self._know(indexed, set(agreed.textless), list(agreed.gone))
        self._agreed = agreed
        return True

    def _drop_vanished(self) -> None:
        expunged = self._mailbox.changes_since(self._generation).expunged
        if not expunged:
            return
        gone = self._indexed.intersection(expunged)
        self._indexed -= gone
        self._textless -= gone
        self._skipped.difference_update(expunged)
        for uid in self._gathered.keys() & set(expunged):
            del self._gathered[uid]
        self._vanished += gone

    # --- building --------------------------------------------------------------------------

    def missing(self) -> int:
        """How many messages are not indexed that could be."""
        self._ready()
        return len(self._missing()) + len(self._gathered)

    def catch_up(self, budget: float | None = None) -> bool:
        """Index what is missing, the newest first.  Returns whether nothing is left to do.

        budget: seconds after which to come back, roughly; None: until all is done.  A full disk,
        a busy database and the like are logged and end it early, with what is there intact.
        """
        deadline = None if budget is None else time.monotonic() + budget
        self.is_stuck = False
        try:
            return self._catch_up(deadline)
        except DAMAGE as error:
            self._out_of_order(error, "written")
            self.is_stuck = True
            return False

    @_mending
    def _catch_up(self, deadline: float | None) -> bool:
        self._ready()
        if self._vanished:
            self._remove_vanished()
        while True:
            self._queue = self._queue or self._missing()
            if not self._queue:
                break
            while self._queue:
                self._gather(self._queue.pop())
                if len(self._gathered) >= SLICE:
                    self._write()
                if deadline is not None and time.monotonic() >= deadline and self._queue:
                    return False
        self._write()
        return True

    def _missing(self) -> list[int]:
        """Ascending."""
        mailbox, known = self._mailbox, (self._indexed, self._skipped, self._gathered)
        if len(mailbox.uids()) == sum(map(len, known)):
            return []
        return [uid for uid in mailbox.uids() if not any(uid in one for one in known)]

    def _remove_vanished(self) -> None:
        with self._database.writing() as sql:
            kept.forget_rows(sql)
            rows.remove(sql, self._vanished)
            dead = self._database.get(schema.DEAD) + len(self._vanished)
            self._database.set(schema.DEAD, dead)
        self._vanished, self._agreed = [], None
        self._orders.note_forgotten()
        if dead > len(self._indexed) + DEAD_LIMIT:
            raise Damaged(f"{dead} messages in it are gone")

    def _gather(self, uid: int) -> None:
        """Have what is kept of a message ready to be written with others."""
        got = self._harvest(uid)
        if got is None:
            self._skipped.add(uid)
        elif uid not in self._indexed:
            self._gathered[uid] = got

    def _write(self) -> None:
        """One transaction for all that was gathered: FTS5 makes a segment for each."""
        taken = [(uid, *self._gathered[uid]) for uid in sorted(self._gathered)]
        if not taken:
            return
        with self._database.writing() as sql:
            kept.forget_rows(sql)
            there = self._rows_of_others(taken)
            fresh = [each for each in taken if each[0] not in there]
            with_texts = self._may_grow(fresh)
            if not with_texts and len(trigrams.segments(sql)) > WORTH_MERGING:
                trigrams.merge(sql)  # many small segments take more room than few large ones
                with_texts = self._may_grow(fresh)
            rows.write(sql, fresh, with_texts=with_texts)
            merges = with_texts and len(trigrams.segments(sql)) > trigrams.SEGMENTS_LIMIT
            if merges:
                trigrams.merge(sql)
        if merges:
            self._database.give_back()  # or the old segments' room would keep new texts out
        self._gathered.clear()
        self._agreed = None
        self._orders.note_written([got.facts for _, _, got in fresh])
        self._indexed.update(uid for uid, _, _ in fresh)
        self._textless.update(uid for uid, _, got in fresh if got.texts is None or not with_texts)
        if there:
            self._data_version = -1  # learn what they wrote

    def _harvest(self, uid: int) -> tuple[str, Harvest] | None:
        """None: the message is gone, or cannot be read by this process."""
        mailbox = self._mailbox
        try:
            got = harvest(mailbox.read(uid), mailbox.info(uid))
            return mailbox.identity_of(uid), got
        except KeyError:
            return None
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                log.info("message %d of %s is not indexed: %s", uid, self._database.label, error)
            return None

    def _rows_of_others(self, taken: Sequence[tuple[int, str, Harvest]]) -> set[int]:
        """Those of taken that another process of this uid has indexed meanwhile."""
        if not taken:
            return set()
        found = self._database.sql.execute(
            "SELECT uid FROM messages WHERE uid BETWEEN ? AND ?", (taken[0][0], taken[-1][0])
        )
        return {uid for (uid,) in found}

    def _may_grow(self, fresh: Sequence[tuple[int, str, Harvest]]) -> bool:
        """Whether the index, with the texts of some more messages, is a bounded share of mail."""
        (mail, count) = self._database.sql.execute(
            "SELECT coalesce(sum(size), 0), count(*) FROM messages"
        ).fetchone()
        mail += sum(got.size for _, _, got in fresh)
        allowed = SHARE_LIMIT * mail + FREE_OCTETS * (count + len(fresh)) + BASE_OCTETS
        return bool(self._database.used_octets() < allowed)

    # --- answering -------------------------------------------------------------------------

    def rows(self, uids: Sequence[int], columns: Sequence[Column]) -> dict[int, tuple[Value, ...]]:
        """What the index has of these messages.  None for what was too long to be kept.

        uids: ascending.  A message that is not in the result must be read.
        """
        known, values = self.table(uids, columns)
        return dict(zip(known, zip(*values, strict=True), strict=True))

    def table(
        self, uids: Sequence[int], columns: Sequence[Column]
    ) -> tuple[list[int], list[list[Value]]]:
        """rows() as whole columns, for long lists: the UIDs, and the values of each column."""
        try:
            return self._table(uids, columns)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return [], [[] for _ in columns]

    @_mending
    def _table(
        self, uids: Sequence[int], columns: Sequence[Column]
    ) -> tuple[list[int], list[list[Value]]]:
        if not uids:
            return [], [[] for _ in columns]
        facts = not self._checked_facts and not SEALED.issuperset(columns)
        if (self._data_version < 0 or facts) and len(uids) <= FEW:
            # Nobody has asked for much yet: do not compare a whole mailbox for a few messages.
            valid = self._valid_among(uids)
        else:
            self._ready(facts=facts)
            valid = self._indexed
        known, values = rows.table_of(self._database.sql, uids, columns)
        if known == uids and valid.issuperset(known):
            return known, values
        wanted = valid.intersection(uids)
        keep = [uid in wanted for uid in known]
        return list(compress(known, keep)), [list(compress(each, keep)) for each in values]

    def _valid_among(self, uids: Sequence[int]) -> set[int]:
        """Those of a few messages whose rows are about them."""
        valid = set()
        for uid, identity, _ in rows.facts_of(self._database.sql, uids):
            try:
                known = rows.identity_octets(self._mailbox.identity_of(uid))
            except KeyError:
                continue
            if known != identity:
                raise Damaged(f"message {uid} is another one than the index knew")
            valid.add(uid)
        return valid

    def _out_of_order(self, error: Exception, what: str) -> None:
        """A busy file, a full or failing disk: go on without the index, and say so."""
        if isinstance(error, sqlite3.ProgrammingError):
            raise error  # a bug of ours
        log.warning("the index of %s cannot be %s: %s", self._database.label, what, error)

    def fetch(
        self, uids: Sequence[int], columns: Sequence[Column]
    ) -> Iterator[tuple[int, tuple[Value, ...] | None]]:
        """(uid, rows()[uid]) one after the other, without having all of them in memory.

        None: the message is not indexed, or gone.
        """
        for at in range(0, len(uids), FETCH_AT_ONCE):
            some = uids[at : at + FETCH_AT_ONCE]
            found = self.rows(some, columns)
            for uid in some:
                yield uid, found.get(uid)

    def narrow(self, leaf: Leaf) -> Narrowed:
        """The messages that match, and those that must be looked at, of the whole mailbox."""
        try:
            return self._narrow(leaf)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return Narrowed(frozenset(), frozenset(self._mailbox.uids()))

    @_mending
    def _narrow(self, leaf: Leaf) -> Narrowed:
        self._ready(facts=needs_facts(leaf))
        sql = self._database.sql
        if needs_heads(leaf) and not self._checked_heads:
            rows.check_heads(sql, self._indexed)
            self._checked_heads = True
        if needs_texts(leaf) and not self._checked_texts:
            if not trigrams.are_sound(sql):
                raise Damaged("the text table has a wrong sum")
            self._checked_texts = True
        got = narrow(sql, leaf, self._indexed, self._textless)
        possible = got.possible
        if not self._indexed.issuperset(self._mailbox.uids()):
            possible |= set(self._mailbox.uids()) - self._indexed
        if self._vanished or self._ahead:  # there are rows of other messages
            present = frozenset(self._mailbox.uids())
            return Narrowed(got.certain & self._indexed, possible & present)
        return Narrowed(got.certain, possible)

    def search(self, query: Query, uids: Sequence[int]) -> list[int]:
        """Those of uids, which ascend, that match: exactly those that a full scan would find."""
        return evaluate(query, uids, self._mailbox, self.narrow)

    def in_order(self, uids: list[int], criteria: Sequence[Criterion]) -> list[int] | None:
        """uids, which ascend, as sort_messages() orders them.  None: not all of them are known."""
        try:
            return self._in_order(uids, criteria)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return None

    @_mending
    def _in_order(self, uids: list[int], criteria: Sequence[Criterion]) -> list[int] | None:
        self._ready()
        if not self._indexed.issuperset(uids):
            return None
        return self._orders.in_order(self._database.sql, uids, criteria)

    def facts(self, uids: Sequence[int]) -> list[Facts]:
        """What is known of these messages, which ascend; of some of them perhaps nothing."""
        try:
            return self._facts(uids)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return []

    @_mending
    def _facts(self, uids: Sequence[int]) -> list[Facts]:
        return self._orders.facts(self._database.sql, self._known_of(uids))

    def relations(self, uids: Sequence[int]) -> list[Relation]:
        """The same, for threads."""
        try:
            return self._relations(uids)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return []

    @_mending
    def _relations(self, uids: Sequence[int]) -> list[Relation]:
        return self._orders.relations(self._database.sql, self._known_of(uids))

    def kept_threads(self, algorithm: str, uids: Sequence[int]) -> bytes | None:
        """What was kept for the very same messages, while their rows are those that were read."""
        try:
            return self._kept_threads(algorithm, uids)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return None

    @_mending
    def _kept_threads(self, algorithm: str, uids: Sequence[int]) -> bytes | None:
        self._ready()
        return self._orders.kept_threads(self._database.sql, algorithm, uids)

    def keep_threads(self, algorithm: str, uids: Sequence[int], text: bytes) -> None:
        """Keep the threads of uids, in whatever form, until others are kept for the algorithm."""
        self._orders.keep_threads(algorithm, uids, text)

    def _known_of(self, uids: Sequence[int]) -> Sequence[int]:
        self._ready()
        if self._indexed.issuperset(uids):
            return uids
        return [uid for uid in uids if uid in self._indexed]

    # --- modification sequences ------------------------------------------------------------

    def modseqs(self) -> Modseqs | None:
        """The messages' numbers.  None: they would be lost with this process (NOMODSEQ)."""
        return None if self._database.path is None else self._modseqs

    def put_away(self) -> None:
        """Write down what spares the next process work, as far as it is certain now."""
        try:
            self._modseqs.put_away()
            self._put_away()
        except (SharingError, *DAMAGE) as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # a bug of ours
            log.info("nothing is put away for the index of %s: %s", self._database.label, error)

    def _put_away(self) -> None:
        database, mailbox = self._database, self._mailbox
        version = self._data_version
        current = version >= 0 and self._generation == mailbox.generation
        if database.path is None or not current or self._ahead or database.is_replaced():
            return
        memento = mailbox.memento()
        mark = b"" if memento is None else memento.fingerprint()
        same = self._agreed is not None and self._agreed.mark == mark
        if not mark or (same and not self._orders.has_news()):
            return
        missing = tuple(uid for uid in mailbox.uids() if uid not in self._indexed)
        textless = tuple(sorted(self._textless))
        agreed = Agreement(mark, missing, textless, tuple(self._vanished))
        with database.numbering() as sql:  # it may be lost, so nobody waits for the disk
            if database.data_version() != version:
                return  # another process has written rows that we do not know
            kept.put(sql, schema.KEPT_ROWS, agreed.pack())
            self._orders.put_away(sql)
        self._agreed = agreed

    # --- telling ---------------------------------------------------------------------------

    @_mending
    def status(self) -> Status:
        self._ready()
        (mail,) = self._database.sql.execute(
            "SELECT coalesce(sum(size), 0) FROM messages"
        ).fetchone()
        return Status(
            path=self._database.path,
            octets=self._database.octets(),
            mail=mail,
            messages=len(self._mailbox.uids()),
            indexed=len(self._indexed),
            texts=len(self._indexed) - len(self._textless),
            modseq=self._database.get(schema.MODSEQ),
        )

    def verify(self) -> list[str]:
        """Every sum, and every kept value against the message that it was taken from.

        Returns what is wrong; nothing is changed.
        """
        self._ready(facts=True)
        found = problems(self._mailbox, self._database.sql, self._indexed)
        return [*self._modseqs.problems(), *found]
