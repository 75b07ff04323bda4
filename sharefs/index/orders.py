"""What SORT and THREAD need of each message, and messages sorted by SQLite."""

import sqlite3
from array import array
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

from sharefs.errors import Code, SharingError
from sharefs.index import kept, schema
from sharefs.index.damage import Damaged
from sharefs.index.sums import sum_of
from sharefs.ordering.facts import RELATION, Facts, Relation, facts_of
from sharefs.ordering.sorting import Criterion, place_among, sort_messages
from sharefs.store.interface import Mailbox

VALUE_LIMIT: Final = 16384  # octets of one value; a message with a longer one has no row
READ_AT_ONCE: Final = 500  # UIDs in one query
KEPT: Final = 4  # orders of the whole mailbox
FEW: Final = 32  # new messages that are put into orders one by one
# As many of all messages are sooner sorted with all others than picked one by one.
SHARE: Final = 4
_SUM_SIZE: Final = 16

_FACTS: Final = ", ".join(f'"{name}"' for name in Facts._fields)
_RELATION: Final = ", ".join(f'"{name}"' for name in RELATION)
_MARKS: Final = ", ".join("?" * (len(Facts._fields) + 1))


def write(database: sqlite3.Connection, found: Iterable[Facts]) -> None:
    rows = [(*facts, sum_of(*facts)) for facts in found if _fits(facts)]
    database.executemany(f"INSERT INTO orders VALUES ({_MARKS})", rows)


def read_facts(mailbox: Mailbox, uids: Iterable[int]) -> list[Facts]:
    """The same from the messages themselves.  Those that are gone are left out."""
    found = []
    for uid in uids:
        try:
            info, header = mailbox.info(uid), mailbox.read_header(uid)
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                raise
            continue
        found.append(facts_of(uid, header, arrival=info.internaldate, size=info.size))
    return found


def _fits(facts: Facts) -> bool:
    return all(len(value) <= VALUE_LIMIT for value in facts if isinstance(value, bytes))


def _demand_sound(row: Sequence[Any]) -> None:
    """Raises Damaged."""
    if sum_of(*row[:-1]) != row[-1]:
        raise Damaged(f"the order of message {row[0]} has a wrong sum")


def agrees(database: sqlite3.Connection, facts: Facts) -> bool:
    """Whether the row of a message is what it should be."""
    row = database.execute("SELECT * FROM orders WHERE uid = ?", (facts.uid,)).fetchone()
    return bool(row == ((*facts, sum_of(*facts)) if _fits(facts) else None))


class Orders:
    """What one process knows of the rows, until another one writes.  Methods raise Damaged."""

    def __init__(self) -> None:
        self._sound: set[int] | None = None  # messages with rows, all of them checked
        self._kept: dict[tuple[Criterion, ...], array[int]] = {}
        self._unasked: set[tuple[Criterion, ...]] = set()  # of those kept, since they changed
        self._members: dict[tuple[Criterion, ...], array[int]] = {}  # of those kept, ascending
        self._threads: dict[str, tuple[Sequence[int], bytes]] = {}
        self._on_disk: set[str] = set()  # names in kept

    def note_removed(self, gone: Collection[int]) -> None:
        """The rows of these messages.  What was put away is so no longer."""
        self._on_disk.clear()
        self._members.clear()
        for criteria, order in self._kept.items():
            self._kept[criteria] = array("I", (uid for uid in order if uid not in gone))
        self._unasked = set(self._kept)
        if self._sound is not None:
            self._sound.difference_update(gone)

    def note_written(self, database: sqlite3.Connection, found: Iterable[Facts]) -> None:
        """Rows of new messages.  Raises Damaged."""
        new = [facts for facts in found if _fits(facts)]
        self._on_disk.clear()
        self._members.clear()
        if len(new) > FEW or not self._put_in(database, new):
            self._kept.clear()
        self._unasked = set(self._kept)
        if self._sound is not None:
            self._sound.update(facts.uid for facts in new)

    def _put_in(self, database: sqlite3.Connection, new: Sequence[Facts]) -> bool:
        """Returns False, with orders half changed, if another process removes rows meanwhile."""

        def facts_of(uid: int) -> Facts:
            row = database.execute("SELECT * FROM orders WHERE uid = ?", (uid,)).fetchone()
            if row is None:
                raise LookupError(uid)
            _demand_sound(row)
            return Facts._make(row[:-1])

        try:
            for criteria, order in self._kept.items():
                for facts in new:
                    order.insert(place_among(facts, order, criteria, facts_of), facts.uid)
        except LookupError:
            return False
        return True

    def _checked(self, database: sqlite3.Connection) -> set[int]:
        if self._sound is None:
            sound = set()
            for row in database.execute("SELECT * FROM orders"):
                _demand_sound(row)
                sound.add(row[0])
            self._sound = sound
        return self._sound

    def in_order(
        self, database: sqlite3.Connection, uids: list[int], criteria: Sequence[Criterion]
    ) -> list[int] | None:
        """uids, which ascend, in order.  None: some have no rows."""
        terms = tuple(criteria)
        if (order := self._kept_order(database, terms)) is not None:
            if self._is_all(terms, uids):
                return order.tolist()
            wanted = set(uids)
            found = [uid for uid in order if uid in wanted]
            if len(found) == len(uids):
                return found
        sound = self._checked(database)
        if not sound.issuperset(uids):
            return None
        if len(uids) * SHARE < len(sound):
            return sort_messages(self.facts(database, uids), criteria)
        ordered = self._all_in_order(database, terms)
        if self._is_all(terms, uids):
            return ordered.tolist()
        wanted = set(uids)
        return [uid for uid in ordered if uid in wanted]

    def _is_all(self, criteria: tuple[Criterion, ...], uids: Sequence[int]) -> bool:
        """Whether the order kept is of these messages, which ascend, and of no others.

        Found out once: half a million numbers that do not come in the order in which they lie in
        memory take long to look up.
        """
        order, now = self._kept[criteria], array("I", uids)
        if len(order) != len(now):
            return False
        if criteria not in self._members and set(uids).issuperset(order):
            self._members[criteria] = now
        return self._members.get(criteria) == now

    def _all_in_order(
        self, database: sqlite3.Connection, criteria: tuple[Criterion, ...]
    ) -> "array[int]":
        order = self._kept.get(criteria)
        if order is None:
            terms = [f'"{key.value}" {"DESC" if reverse else "ASC"}' for key, reverse in criteria]
            sql = f"SELECT uid FROM orders ORDER BY {', '.join([*terms, 'uid'])}"
            order = array("I", [uid for (uid,) in database.execute(sql)])
            self._keep_order(criteria, order)
        return order

    def _kept_order(
        self, database: sqlite3.Connection, criteria: tuple[Criterion, ...]
    ) -> "array[int] | None":
        """Of all messages that have rows; None: it is not known yet."""
        if criteria not in self._kept:
            name = _order_name(criteria)
            octets = kept.get(database, name)
            if octets is None:
                return None
            order = array("I")
            order.frombytes(octets)
            self._keep_order(criteria, order)
            self._on_disk.add(name)
        self._unasked.discard(criteria)
        return self._kept[criteria]

    def _keep_order(self, criteria: tuple[Criterion, ...], order: "array[int]") -> None:
        if len(self._kept) >= KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._members.pop(oldest, None)
            self._unasked.discard(oldest)
        self._kept[criteria] = order

    def put_away(self, database: sqlite3.Connection) -> None:
        """Within a transaction: keep orders and threads for the next process."""
        for criteria in self._kept.keys() - self._unasked:
            self._put(database, _order_name(criteria), self._kept[criteria].tobytes())
        for algorithm, (uids, text) in self._threads.items():
            self._put(database, schema.KEPT_THREADS + algorithm, _sum_over(uids) + text)

    def _put(self, database: sqlite3.Connection, name: str, octets: bytes) -> None:
        if name not in self._on_disk:
            kept.put(database, name, octets)
            self._on_disk.add(name)

    def has_news(self) -> bool:
        """Whether put_away() would write something."""
        names = {
            *map(_order_name, self._kept.keys() - self._unasked),
            *(schema.KEPT_THREADS + algorithm for algorithm in self._threads),
        }
        return not names <= self._on_disk

    def kept_threads(
        self, database: sqlite3.Connection, algorithm: str, uids: Sequence[int]
    ) -> bytes | None:
        """What keep_threads() was given for the very same messages: they never change."""
        if algorithm not in self._threads:
            name = schema.KEPT_THREADS + algorithm
            octets = kept.get(database, name)
            if octets is None or octets[:_SUM_SIZE] != _sum_over(uids):
                return None
            self._threads[algorithm] = uids, octets[_SUM_SIZE:]
            self._on_disk.add(name)
        found = self._threads[algorithm]
        return None if found[0] != uids else found[1]

    def keep_threads(self, algorithm: str, uids: Sequence[int], text: bytes) -> None:
        self._threads[algorithm] = uids, text
        self._on_disk.discard(schema.KEPT_THREADS + algorithm)

    def facts(self, database: sqlite3.Connection, uids: Sequence[int]) -> list[Facts]:
        """Of those of uids, which ascend, that have rows."""
        return list(map(Facts._make, self._rows(database, uids, _FACTS)))

    def relations(self, database: sqlite3.Connection, uids: Sequence[int]) -> list[Relation]:
        """The same, for threads."""
        return self._rows(database, uids, _RELATION)

    def _rows(self, database: sqlite3.Connection, uids: Sequence[int], columns: str) -> list[Any]:
        """columns: the UID first."""
        sound = self._checked(database)
        sql = f"SELECT {columns} FROM orders"
        if len(uids) * SHARE >= len(sound):
            found = database.execute(sql).fetchall()
            if len(uids) == len(found) and sound.issuperset(uids):
                return found
            wanted = set(uids)
            return [row for row in found if row[0] in wanted]
        rows: list[Any] = []
        for at in range(0, len(uids), READ_AT_ONCE):
            some = uids[at : at + READ_AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows += database.execute(f"{sql} WHERE uid IN ({marks})", some)
        return rows


def _order_name(criteria: Sequence[Criterion]) -> str:
    terms = [f"{'-' if reverse else ''}{key.value}" for key, reverse in criteria]
    return schema.KEPT_ORDER + " ".join(terms)


def _sum_over(uids: Sequence[int]) -> bytes:
    return blake2b(array("I", uids).tobytes(), digest_size=_SUM_SIZE).digest()
