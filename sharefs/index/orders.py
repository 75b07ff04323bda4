"""What SORT and THREAD need of each message, and messages sorted by SQLite."""

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

from sharefs.errors import Code, SharingError
from sharefs.index import kept, schema
from sharefs.index.damage import Damaged
from sharefs.index.sums import sum_of
from sharefs.ordering.facts import RELATION, Facts, Relation, facts_of
from sharefs.ordering.sorting import Criterion, sort_messages
from sharefs.store.interface import Mailbox

VALUE_LIMIT: Final = 16384  # octets of one value; a message with a longer one has no row
READ_AT_ONCE: Final = 500  # UIDs in one query
KEPT: Final = 4  # orders of the whole mailbox
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


def agrees(database: sqlite3.Connection, facts: Facts) -> bool:
    """Whether the row of a message is what it should be."""
    row = database.execute("SELECT * FROM orders WHERE uid = ?", (facts.uid,)).fetchone()
    return bool(row == ((*facts, sum_of(*facts)) if _fits(facts) else None))


class Orders:
    """What one process knows of the rows, until another one writes.  Methods raise Damaged."""

    def __init__(self) -> None:
        self._sound: set[int] | None = None  # messages with rows, all of them checked
        self._kept: dict[tuple[Criterion, ...], array[int]] = {}
        self._threads: dict[str, tuple[Sequence[int], bytes]] = {}
        self._on_disk: set[str] = set()  # names in kept

    def note_forgotten(self) -> None:
        """What was put away is so no longer."""
        self._on_disk.clear()

    def note_written(self, found: Iterable[Facts]) -> None:
        self._kept.clear()
        self._on_disk.clear()
        if self._sound is not None:
            self._sound.update(facts.uid for facts in found if _fits(facts))

    def _checked(self, database: sqlite3.Connection) -> set[int]:
        if self._sound is None:
            sound = set()
            for row in database.execute("SELECT * FROM orders"):
                if sum_of(*row[:-1]) != row[-1]:
                    raise Damaged(f"the order of message {row[0]} has a wrong sum")
                sound.add(row[0])
            self._sound = sound
        return self._sound

    def in_order(
        self, database: sqlite3.Connection, uids: list[int], criteria: Sequence[Criterion]
    ) -> list[int] | None:
        """uids in order.  None: some have no rows."""
        if (order := self._kept_order(database, tuple(criteria))) is not None:
            wanted = set(uids)
            found = [uid for uid in order if uid in wanted]
            if len(found) == len(uids):
                return found
        sound = self._checked(database)
        if not sound.issuperset(uids):
            return None
        if len(uids) * SHARE < len(sound):
            return sort_messages(self.facts(database, uids), criteria)
        ordered = self._all_in_order(database, tuple(criteria))
        if len(ordered) == len(uids):
            return ordered.tolist()
        wanted = set(uids)
        return [uid for uid in ordered if uid in wanted]

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
        return self._kept[criteria]

    def _keep_order(self, criteria: tuple[Criterion, ...], order: "array[int]") -> None:
        if len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[criteria] = order

    def put_away(self, database: sqlite3.Connection) -> None:
        """Within a transaction: keep orders and threads for the next process."""
        for criteria, order in self._kept.items():
            self._put(database, _order_name(criteria), order.tobytes())
        for algorithm, (uids, text) in self._threads.items():
            self._put(database, schema.KEPT_THREADS + algorithm, _sum_over(uids) + text)

    def _put(self, database: sqlite3.Connection, name: str, octets: bytes) -> None:
        if name not in self._on_disk:
            kept.put(database, name, octets)
            self._on_disk.add(name)

    def has_news(self) -> bool:
        """Whether put_away() would write something."""
        names = {*map(_order_name, self._kept), *(schema.KEPT_THREADS + a for a in self._threads)}
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
