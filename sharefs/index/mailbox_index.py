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
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sharefs.errors import SharingError
from sharefs.index import highest, rows, schema, trigrams
from sharefs.index.building import Builder
from sharefs.index.damage import Damaged
from sharefs.index.database import DAMAGE, Database, is_damage
from sharefs.index.helpers import Helpers
from sharefs.index.known import Known
from sharefs.index.modseqs import Modseqs
from sharefs.index.narrow import column_of, narrow, needs_facts, needs_heads, needs_texts
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

FEW: Final = 250  # messages that are cheaper checked one by one
MANY: Final = 1000  # messages that take longer to sort without an index than a transaction
LATE: Final = 32  # messages that are indexed at once, so that many can be sorted with them
LATE_BUDGET: Final = 0.25  # seconds
FETCH_AT_ONCE: Final = 1000  # messages whose rows are in memory together


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
        self._known = Known(mailbox, database)
        self._builder = Builder(mailbox, database, self._known)
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
        left = self._modseqs.left
        if self._database.close() and left is not None:
            directory, known = left
            state = highest.state_of(directory)
            # One transaction more, and that was ours.
            if state is not None and state[-1] == known.state[-1] + 1:
                highest.leave(directory, replace(known, state=state))

    def _forget_all(self) -> None:
        """Know nothing of the rows: they are read and checked when next asked for."""
        self._modseqs.forget()
        self._known.forget()
        self._builder.forget()

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
        """As Known.update(), of the file that is in place now."""
        self.follow_file()
        self._known.update(facts=facts)

    # --- building --------------------------------------------------------------------------

    def missing(self) -> int:
        """How many messages are not indexed that could be."""
        self._ready()
        return len(self._builder.missing()) + len(self._known.gathered)

    def looks_complete(self) -> bool:
        """Whether catch_up() would do nothing, as far as memory tells, in a few microseconds."""
        return self._known.data_version >= 0 and self._builder.looks_done()

    def catch_up(
        self, budget: float | None = None, *, bulk: bool = False, helpers: Helpers | None = None
    ) -> bool:
        """Index what is missing, the newest first.  Returns whether nothing is left to do.

        budget: seconds after which to come back, roughly; None: until all is done.  bulk: nobody
        else waits for the mailbox, so it may take longer to come back.  helpers: processes that
        take messages apart.  A full disk, a busy database and the like are logged and end it
        early, with what is there intact.
        """
        deadline = None if budget is None else time.monotonic() + budget
        self.is_stuck = False
        try:
            return self._catch_up(deadline, bulk, helpers)
        except DAMAGE as error:
            self._out_of_order(error, "written")
            self.is_stuck = True
            return False

    @_mending
    def _catch_up(self, deadline: float | None, bulk: bool, helpers: Helpers | None) -> bool:
        self._ready()
        return self._builder.build(deadline, bulk=bulk, helpers=helpers)

    # --- answering -------------------------------------------------------------------------

    def rows(self, uids: Sequence[int], columns: Sequence[Column]) -> dict[int, tuple[Value, ...]]:
        """What the index has of these messages.  None for what was too long to be kept.

        uids: ascending.  A message that is not in the result must be read.
        """
        known, values = self.table(uids, columns)
        return dict(zip(known, zip(*values, strict=True), strict=True))

    def table(
        self, uids: Sequence[int], columns: Sequence[Column], of: int = 0
    ) -> tuple[list[int], list[list[Value]]]:
        """rows() as whole columns, for long lists: the UIDs, and the values of each column.

        of: how many messages the caller asks for, some at a time.
        """
        try:
            return self._table(uids, columns, of)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return [], [[] for _ in columns]

    @_mending
    def _table(
        self, uids: Sequence[int], columns: Sequence[Column], of: int
    ) -> tuple[list[int], list[list[Value]]]:
        if not uids:
            return [], [[] for _ in columns]
        facts = not self._known.checked_facts and not SEALED.issuperset(columns)
        if (self._known.data_version < 0 or facts) and max(len(uids), of) <= FEW:
            # Nobody has asked for much yet: do not compare a whole mailbox for a few messages.
            valid = self._valid_among(uids)
        else:
            self._ready(facts=facts)
            valid = self._known.indexed
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
        self._ready()
        sql = self._database.sql
        column = column_of(leaf)
        if needs_facts(leaf) and not (column and self._known.columns.knows(sql, column)):
            self._known.update(facts=True)
        if needs_heads(leaf) and not self._known.checked_heads:
            rows.check_heads(sql, self._known.indexed)
            self._known.checked_heads = True
        if needs_texts(leaf) and not self._known.checked_texts:
            if not trigrams.are_sound(sql):
                raise Damaged("the text table has a wrong sum")
            self._known.checked_texts = True
        known = self._known
        got = narrow(sql, leaf, known.indexed, known.textless, known.columns)
        possible = got.possible
        if not self._known.indexed.issuperset(self._mailbox.uids()):
            possible |= set(self._mailbox.uids()) - self._known.indexed
        if self._known.vanished or self._known.ahead:  # there are rows of other messages
            present = frozenset(self._mailbox.uids())
            return Narrowed(got.certain & self._known.indexed, possible & present)
        return Narrowed(got.certain, possible)

    def search(self, query: Query, uids: Sequence[int]) -> list[int]:
        """Those of uids, which ascend, that match: exactly those that a full scan would find."""
        return evaluate(query, uids, self._mailbox, self.narrow)

    def in_order(self, uids: list[int], criteria: Sequence[Criterion]) -> list[int] | None:
        """uids, which ascend, as sort_messages() orders them.  None: not all of them are known.

        Where they are many, a few that have just come are indexed first.
        """
        try:
            return self._in_order(uids, criteria)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return None

    @_mending
    def _in_order(self, uids: list[int], criteria: Sequence[Criterion]) -> list[int] | None:
        self._ready()
        if not self._known.indexed.issuperset(uids):
            if len(uids) < MANY or self.is_stuck or self.missing() > LATE:
                return None
            self.catch_up(LATE_BUDGET)
            if not self._known.indexed.issuperset(uids):
                return None
        return self._known.orders.in_order(self._database.sql, uids, criteria)

    def facts(self, uids: Sequence[int]) -> list[Facts]:
        """What is known of these messages, which ascend; of some of them perhaps nothing."""
        try:
            return self._facts(uids)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return []

    @_mending
    def _facts(self, uids: Sequence[int]) -> list[Facts]:
        return self._known.orders.facts(self._database.sql, self._known_of(uids))

    def relations(self, uids: Sequence[int]) -> list[Relation]:
        """The same, for threads."""
        try:
            return self._relations(uids)
        except DAMAGE as error:
            self._out_of_order(error, "read")
            return []

    @_mending
    def _relations(self, uids: Sequence[int]) -> list[Relation]:
        return self._known.orders.relations(self._database.sql, self._known_of(uids))

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
        return self._known.orders.kept_threads(self._database.sql, algorithm, uids)

    def keep_threads(self, algorithm: str, uids: Sequence[int], text: bytes) -> None:
        """Keep the threads of uids, in whatever form, until others are kept for the algorithm."""
        self._known.orders.keep_threads(algorithm, uids, text)

    def _known_of(self, uids: Sequence[int]) -> Sequence[int]:
        self._ready()
        if self._known.indexed.issuperset(uids):
            return uids
        return [uid for uid in uids if uid in self._known.indexed]

    # --- modification sequences ------------------------------------------------------------

    def modseqs(self) -> Modseqs | None:
        """The messages' numbers.  None: they would be lost with this process (NOMODSEQ)."""
        return None if self._database.path is None else self._modseqs

    def put_away(self) -> None:
        """Write down what spares the next process work, as far as it is certain now."""
        try:
            self._modseqs.put_away()
            self._known.put_away()
            self._modseqs.leave_highest()
        except (SharingError, *DAMAGE) as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # a bug of ours
            log.info("nothing is put away for the index of %s: %s", self._database.label, error)

    # --- telling ---------------------------------------------------------------------------

    @_mending
    def status(self) -> Status:
        self._ready()
        (mail,) = self._database.sql.execute(
            "SELECT coalesce(sum(size), 0) FROM messages"
        ).fetchone()
        return Status(
            path=self._database.path,
            octets=0 if self._database.path is None else self._database.octets(),
            mail=mail,
            messages=len(self._mailbox.uids()),
            indexed=len(self._known.indexed),
            texts=len(self._known.indexed) - len(self._known.textless),
            modseq=self._database.get(schema.MODSEQ),
        )

    def verify(self) -> list[str]:
        """Every sum, and every kept value against the message that it was taken from.

        Returns what is wrong; nothing is changed.
        """
        self._ready(facts=True)
        found = problems(self._mailbox, self._database.sql, self._known.indexed)
        return [*self._modseqs.problems(), *found]
