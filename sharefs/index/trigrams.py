"""The text table: FTS5 narrows a search to the messages that may contain a needle.

Without positions it only knows which message contains which trigram, which keeps it small; so
every message found has still to be looked at.  It never leaves out one that contains the needle.
"""

import sqlite3
from binascii import crc32
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sharefs.index.damage import Damaged
from sharefs.index.harvest import tokenizable
from sharefs.index.schema import CONFIGURE_TEXTS

# More of them would hardly exclude more messages.
TERMS_LIMIT: Final = 32
# A search asks each segment.  Merging leaves three of each size at most.
SEGMENTS_LIMIT: Final = 32

# Of a block's id, in the source of FTS5: FTS5_DATA_PAGE_B + HEIGHT_B + DLI_B; FTS5_DATA_PAGE_B.
_SEGMENT_SHIFT: Final = 37
_LEAF_SHIFT: Final = 31


def configure(database: sqlite3.Connection) -> None:
    """Once for a new file: FTS5 keeps it."""
    for name, value in CONFIGURE_TEXTS:
        database.execute("INSERT INTO texts (texts, rank) VALUES (?, ?)", (name, value))


def add(database: sqlite3.Connection, texts: Iterable[tuple[int, str, str]]) -> None:
    """Put in (uid, headers, text parts), by ascending uid, as one new segment."""
    database.executemany(
        "INSERT INTO texts (rowid, text) VALUES (?, ?)",
        (row for uid, heads, bodies in texts for row in ((2 * uid, heads), (2 * uid + 1, bodies))),
    )


# --- asking --------------------------------------------------------------------------------


def rows_with(database: sqlite3.Connection, needle: str) -> Iterator[int] | None:
    """Rows of texts that may contain needle, which is folded.  None: any may."""
    needle = tokenizable([needle])[:-2]
    if not needle:
        return None
    if len(needle) < 3:
        found = database.execute(
            "SELECT DISTINCT doc FROM text_terms WHERE term >= ? AND term < ?",
            (needle, needle[:-1] + _after(needle[-1])),
        )
    else:
        terms = " AND ".join('"' + term.replace('"', '""') + '"' for term in _terms(needle))
        found = database.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (terms,))
    return (row for (row,) in found)


def _terms(needle: str) -> list[str]:
    terms = list(dict.fromkeys(needle[at : at + 3] for at in range(len(needle) - 2)))
    if len(terms) <= TERMS_LIMIT:
        return terms
    step = len(terms) / TERMS_LIMIT
    return [terms[int(number * step)] for number in range(TERMS_LIMIT)]


def _after(character: str) -> str:
    """The next character in UTF-8 order, which is the order of code points."""
    code = ord(character) + 1
    return chr(0xE000 if code == 0xD800 else min(code, 0x10FFFF))


# --- sums ----------------------------------------------------------------------------------


def note_sums(database: sqlite3.Connection, *, merged: bool = False) -> None:
    """Bring text_sums up to date after a change.  merged: segments became others, or shrank, or
    grew; else there are only new ones."""
    # FTS5 writes what it has gathered when a savepoint is made, else not before the commit.
    database.execute("SAVEPOINT gathered")
    database.execute("RELEASE gathered")
    known = {-number for (number,) in database.execute("SELECT id FROM text_sums WHERE id < 0")}
    there = segments(database)
    # Segment 0 is FTS5's averages and its list of segments: they change every time.
    for segment in [0, *known.difference(there)]:
        _drop_sums(database, segment)
    for segment in [0, *there]:
        if segment not in known:
            _add_sums(database, segment)
        elif merged:
            _renew_sums(database, segment)


def _drop_sums(database: sqlite3.Connection, segment: int) -> None:
    database.execute("DELETE FROM text_sums WHERE id = ?", (-segment,))
    database.execute("DELETE FROM text_sums WHERE id BETWEEN ? AND ?", _blocks_of(segment))


def _renew_sums(database: sqlite3.Connection, segment: int) -> None:
    """Of what a merge did to a segment: nothing, or its first leaves are in another one now, or
    leaves were added to it.  Or it went, and a new one has its number.  Its ends tell which."""
    before, now = (_span(database, table, segment) for table in ("text_sums", "texts_data"))
    first, last = (before[end] == now[end] and _has_sum(database, now[end]) for end in range(2))
    if first and last:
        return
    if last and now[0] < now[1]:
        database.execute("DELETE FROM text_sums WHERE id BETWEEN ? AND ?", (before[0], now[0]))
        _write_sums(database, _block_sums(database, now[0], now[0]))
    elif first and before[1] < now[1]:
        # What belongs to several leaves comes behind them.
        rest = before[1], _blocks_of(segment)[1]
        database.execute("DELETE FROM text_sums WHERE id BETWEEN ? AND ?", rest)
        database.execute("DELETE FROM text_sums WHERE id = ?", (-segment,))
        _write_sums(database, _block_sums(database, *rest))
        _write_sums(database, {-segment: _index_sum(database, segment)})
    else:
        _drop_sums(database, segment)
        _add_sums(database, segment)


def _span(database: sqlite3.Connection, table: str, segment: int) -> tuple[int, int]:
    """The first and the last leaf that a table has of a segment."""
    first = segment << _SEGMENT_SHIFT
    leaves = first, first + (1 << _LEAF_SHIFT) - 1
    ends = []
    for end in ("min", "max"):  # both in one query would look at each of them
        query = f"SELECT {end}(id) FROM {table} WHERE id BETWEEN ? AND ?"
        (found,) = database.execute(query, leaves).fetchone()
        ends.append(found or 0)
    return ends[0], ends[1]


def _has_sum(database: sqlite3.Connection, block: int) -> bool:
    """Whether a block is as it was."""
    known = database.execute("SELECT sum FROM text_sums WHERE id = ?", (block,)).fetchone()
    return known is not None and _block_sums(database, block, block).get(block) == known[0]


def _add_sums(database: sqlite3.Connection, segment: int) -> None:
    sums = _block_sums(database, *_blocks_of(segment))
    if segment:
        sums[-segment] = _index_sum(database, segment)
    _write_sums(database, sums)


def _write_sums(database: sqlite3.Connection, sums: Mapping[int, int]) -> None:
    database.executemany("INSERT INTO text_sums VALUES (?, ?)", sums.items())


def are_sound(database: sqlite3.Connection) -> bool:
    """Whether every octet of the text table is as it was written.  May also raise Damaged."""
    got = _block_sums(database, 0, 1 << 62)
    got |= {-segment: _index_sum(database, segment) for segment in segments(database)}
    return got == dict(database.execute("SELECT id, sum FROM text_sums").fetchall())


def segments(database: sqlite3.Connection) -> list[int]:
    """The numbers of those that a search has to ask."""
    found: list[int] = []
    while True:
        after = (found[-1] if found else 0) + 1 << _SEGMENT_SHIFT
        (first,) = database.execute(
            "SELECT min(id) FROM texts_data WHERE id >= ?", (after,)
        ).fetchone()
        if first is None:
            return found
        found.append(first >> _SEGMENT_SHIFT)


def _blocks_of(segment: int) -> tuple[int, int]:
    return segment << _SEGMENT_SHIFT, (segment + 1 << _SEGMENT_SHIFT) - 1


def _block_sums(database: sqlite3.Connection, first: int, last: int) -> dict[int, int]:
    blocks = database.execute(
        "SELECT id, block FROM texts_data WHERE id BETWEEN ? AND ?", (first, last)
    )
    sums = {}
    for number, block in blocks:
        if not isinstance(block, bytes):  # an octet that says what follows was flipped
            raise Damaged(f"block {number} of the text table is no block")
        sums[number] = crc32(block, number & 0xFFFFFFFF) ^ (number >> 32 & 0xFFFFFFFF)
    return sums


def _index_sum(database: sqlite3.Connection, segment: int) -> int:
    """Of a segment's part of FTS5's own index."""
    rows = database.execute(
        "SELECT term, pgno FROM texts_idx WHERE segid = ? ORDER BY term", (segment,)
    )
    total = 0
    for term, page in rows:
        if not isinstance(term, bytes) or not isinstance(page, int):
            raise Damaged(f"the index of segment {segment} of the text table is none")
        total = crc32(b"%b %d;" % (term, page), total)
    return total


# --- tidying -------------------------------------------------------------------------------


def merge(database: sqlite3.Connection, pages: int) -> bool:
    """Merge segments of like size, where there are several: each text is merged few times.

    As far as about so many pages are written: the next call goes on, and meanwhile everything is
    found.  Returns False if there was nothing to do.
    """
    before = database.total_changes
    database.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?)", (pages,))
    if database.total_changes - before < 2:  # as FTS5's documentation tells it
        return False
    note_sums(database, merged=True)
    return True
