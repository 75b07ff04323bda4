"""Numbers that are kept of all messages, in the order of their values: ranges of them at once.

A column that was asked for lies sorted in memory, 12 octets a message, and is put away for the
next process, which then need not read and check all rows before it answers.
"""

import json
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from sharefs.index import kept
from sharefs.index.damage import Damaged
from sharefs.index.harvest import Harvest
from sharefs.index.schema import KEPT_COLUMN

FEW: Final = 32  # new messages that are put in one by one
LEAST: Final = -(1 << 62)
MOST: Final = 1 << 62

Range: TypeAlias = tuple[int, int]  # the second is not in it
NOTHING: Final = (0, 0)

_Column: TypeAlias = tuple["array[int]", "array[int]"]  # values, ascending; and UIDs, as they lie
_EACH: Final = 12  # octets


class Columns:
    """Of the table messages, by name, while nobody else writes to it.  Methods raise Damaged.

    Names are those of fields of Harvest, too.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._unasked: set[str] = set()  # of those, since they changed
        self._on_disk: set[str] = set()  # names in kept

    def knows(self, sql: sqlite3.Connection, name: str) -> bool:
        """Whether it need not be read from the rows, whose sums somebody has compared then."""
        if name not in self._columns:
            octets = kept.get(sql, KEPT_COLUMN + name)
            if octets is None:
                return False
            self._columns[name] = _unpack(octets)
            self._on_disk.add(name)
        return True

    def ask(
        self, sql: sqlite3.Connection, name: str, wanted: Range, told: Range = NOTHING
    ) -> tuple[frozenset[int], list[tuple[int, int]]]:
        """The messages with values wanted, and (UID, value) of those whose values shall be told.

        The ranges do not overlap.
        """
        if not self.knows(sql, name):
            self._columns[name] = _read(sql, name)
        self._unasked.discard(name)
        values, uids = self._columns[name]
        some, others = (
            slice(bisect_left(values, least), bisect_left(values, below))
            for least, below in (wanted, told)
        )
        return frozenset(uids[some]), list(zip(uids[others], values[others], strict=True))

    def note_written(self, found: Sequence[tuple[int, Harvest]]) -> None:
        """Rows of new messages."""
        if len(found) > FEW:
            self._columns.clear()
        for name, (values, uids) in self._columns.items():
            for uid, got in found:
                value = getattr(got, name)
                at = bisect_left(values, value)
                values.insert(at, value)
                uids.insert(at, uid)
        self._note_change()

    def note_removed(self, gone: Collection[int]) -> None:
        """The rows of these messages."""
        for name, (values, uids) in self._columns.items():
            stay = [at for at, uid in enumerate(uids) if uid not in gone]
            self._columns[name] = (
                array("q", map(values.__getitem__, stay)),
                array("I", map(uids.__getitem__, stay)),
            )
        self._note_change()

    def _note_change(self) -> None:
        self._unasked = set(self._columns)
        self._on_disk.clear()

    def has_news(self) -> bool:
        """Whether put_away() would write something."""
        return not self._columns.keys() - self._unasked <= self._on_disk

    def put_away(self, sql: sqlite3.Connection) -> None:
        """Within a transaction: keep what was asked for, for the next process."""
        for name in self._columns.keys() - self._unasked - self._on_disk:
            values, uids = self._columns[name]
            kept.put(sql, KEPT_COLUMN + name, values.tobytes() + uids.tobytes())
            self._on_disk.add(name)


def _read(sql: sqlite3.Connection, name: str) -> _Column:
    query = f"SELECT group_concat({name}), group_concat(uid) FROM messages"
    pairs = sorted(zip(*map(listed, sql.execute(query).fetchone()), strict=True))
    return array("q", [value for value, _ in pairs]), array("I", [uid for _, uid in pairs])


def _unpack(octets: bytes) -> _Column:
    count, rest = divmod(len(octets), _EACH)
    if rest:
        raise Damaged(f"{len(octets)} octets are no column")
    values, uids = array("q"), array("I")
    values.frombytes(octets[: 8 * count])
    uids.frombytes(octets[8 * count :])
    return values, uids


def listed(joined: str | None) -> list[int]:
    """The numbers of a group_concat().

    Many come as one row: quicker than a row for each, and other threads run meanwhile.
    """
    numbers: list[int] = json.loads(f"[{joined or ''}]")
    return numbers
