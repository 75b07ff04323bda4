"""Modification sequences as they lie in the index: chunks of numbers, and what vanished.

Every row carries its sum.  Rule: whoever reads here is told what was written, or Damaged.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from sharefs.index import numbers, schema
from sharefs.index.damage import Damaged
from sharefs.index.database import Database
from sharefs.index.numbers import Chunk, Ranges, chunk_of
from sharefs.index.sums import sealed, sum_of, unsealed

# What is remembered of vanished messages; older ones are all those that are absent.
VANISHED_ROWS: Final = 4096
VANISHED_OCTETS: Final = 1 << 20

_CHUNK: Final = 21  # for sums: columns of rows.Column end before
_VANISHED: Final = 22
_FEW: Final = 8  # chunks that are sought one by one

Row = tuple[int, int, bytes]  # of a chunk: its number, its highest modseq, its octets


class NumberRows:
    """Of one database, in the transaction of whoever calls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- numbers ---------------------------------------------------------------------------

    def all(self) -> Iterator[Row]:
        return self._read("")

    def checked(self) -> Iterator[Row]:
        """All of them.  A chunk whose highest number is too low would never be looked into."""
        for number, highest, octets in self.all():
            if Chunk.unpack(octets).highest() != highest:
                raise Damaged(f"chunk {number} of modification sequences has another highest one")
            yield number, highest, octets

    def of_chunk(self, number: int) -> Iterator[Row]:
        return self._read(" WHERE chunk = ?", number)

    def chunks_with(self, uids: Iterable[int]) -> Iterator[Chunk]:
        """Those that these messages belong to."""
        wanted = sorted({chunk_of(uid) for uid in uids})
        if len(wanted) > _FEW:
            some = set(wanted)
            for number, _, octets in self._read(
                " WHERE chunk BETWEEN ? AND ?", wanted[0], wanted[-1]
            ):
                if number in some:
                    yield Chunk.unpack(octets)
            return
        for at in wanted:
            for _, _, octets in self.of_chunk(at):
                yield Chunk.unpack(octets)

    def chunks_since(self, modseq: int) -> Iterator[Chunk]:
        """Those in which something has a higher number, ascending."""
        for _, highest, octets in self._read(" WHERE highest > ? ORDER BY chunk", modseq):
            chunk = Chunk.unpack(octets)
            if chunk.highest() != highest:
                raise Damaged("a chunk of modification sequences has another highest one")
            yield chunk

    def _read(self, where: str, *values: int) -> Iterator[Row]:
        sql = self._database.sql
        rows = sql.execute(f"SELECT chunk, highest, packed FROM numbers{where}", values).fetchall()
        for number, highest, octets in rows:
            packed = unsealed(octets, number, _CHUNK)
            if packed is None:
                raise Damaged(f"the modification sequences of chunk {number} have a wrong sum")
            yield number, highest, packed

    def put(self, sql: sqlite3.Connection, number: int, chunk: Chunk) -> None:
        if not chunk.uids:
            sql.execute("DELETE FROM numbers WHERE chunk = ?", (number,))
            return
        packed = sealed(chunk.pack(), number, _CHUNK)
        sql.execute(
            "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?)", (number, chunk.highest(), packed)
        )

    def outline(self) -> bytes:
        """A sum over which chunks there are, and their highest numbers."""
        rows = self._database.sql.execute("SELECT chunk, highest FROM numbers ORDER BY chunk")
        return sum_of(*rows.fetchall()).to_bytes(4, "little")

    # --- what vanished ---------------------------------------------------------------------

    def vanished_since(self, modseq: int) -> Ranges | None:
        """UIDs that vanished later, as ascending ranges.  None: that is not remembered so far."""
        if modseq < self._database.get(schema.FLOOR):
            return None
        found: Ranges = []
        for _, ranges in self._vanished(modseq):
            found += ranges
        return numbers.joined(found)

    def _vanished(self, modseq: int) -> Iterator[tuple[int, Ranges]]:
        sql = self._database.sql
        rows = sql.execute("SELECT modseq, uids FROM vanished WHERE modseq > ?", (modseq,))
        for last, octets in rows:
            ranges = unsealed(octets, last, _VANISHED)
            if ranges is None:
                raise Damaged("the record of vanished messages has a wrong sum")
            yield last, numbers.unpack_ranges(ranges)

    def check_vanished(self) -> None:
        """Raises Damaged unless all of it is there and sound."""
        count = sum(1 for _ in self._vanished(0))
        if count != self._database.get(schema.VANISHED):
            raise Damaged("a part of the record of vanished messages is missing")

    def put_vanished(self, sql: sqlite3.Connection, ranges: Ranges, modseq: int) -> None:
        """What is oldest is forgotten when it becomes too much."""
        octets = sealed(numbers.pack_ranges(ranges), modseq, _VANISHED)
        sql.execute("INSERT INTO vanished VALUES (?, ?)", (modseq, octets))
        self._forget_old_vanished(sql)

    def _forget_old_vanished(self, sql: sqlite3.Connection) -> None:
        rows = sql.execute("SELECT modseq, length(uids) FROM vanished ORDER BY modseq DESC")
        octets = 0
        for count, (modseq, size) in enumerate(rows.fetchall()):
            octets += size
            if count and (count >= VANISHED_ROWS or octets > VANISHED_OCTETS):
                sql.execute("DELETE FROM vanished WHERE modseq <= ?", (modseq,))
                self._database.set(schema.FLOOR, modseq)
                break
        (left,) = sql.execute("SELECT count(*) FROM vanished").fetchone()
        self._database.set(schema.VANISHED, left)

    def forget_vanished(self, sql: sqlite3.Connection, floor: int) -> None:
        """All of it; nothing up to floor is remembered from now on."""
        sql.execute("DELETE FROM vanished")
        self._database.set(schema.VANISHED, 0)
        self._database.set(schema.FLOOR, floor)

    # --- looking over ----------------------------------------------------------------------

    def problems(self) -> Iterator[str]:
        """What is wrong with what is kept; nothing is changed."""
        try:
            self.check_vanished()
            top = self._database.get(schema.MODSEQ)
            for number, highest, octets in self.all():
                chunk = Chunk.unpack(octets)
                if chunk.highest() != highest or highest > top:
                    yield f"the modification sequences of chunk {number} are not as they were given"
                if list(chunk.uids) != sorted(
                    {uid for uid in chunk.uids if chunk_of(uid) == number}
                ):
                    yield f"chunk {number} of the modification sequences is about other messages"
        except (Damaged, ValueError) as error:
            yield str(error)
