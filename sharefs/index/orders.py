"""What SORT and THREAD need of each message, and messages sorted by SQLite."""

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sharefs.errors import Code, SharingError
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

    def note_written(self, found: Iterable[Facts]) -> None:
        self._kept.clear()
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
        kept = self._kept.get(criteria)
        if kept is None:
            terms = [f'"{key.value}" {"DESC" if reverse else "ASC"}' for key, reverse in criteria]
            sql = f"SELECT uid FROM orders ORDER BY {', '.join([*terms, 'uid'])}"
            kept = array("I", [uid for (uid,) in database.execute(sql)])
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[criteria] = kept
        return kept

    def kept_threads(self, algorithm: str, uids: Sequence[int]) -> bytes | None:
        """What keep_threads() was given for the very same messages: they never change."""
        kept = self._threads.get(algorithm)
        return None if kept is None or kept[0] != uids else kept[1]

    def keep_threads(self, algorithm: str, uids: Sequence[int], text: bytes) -> None:
        self._threads[algorithm] = uids, text

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
