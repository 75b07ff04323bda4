"""The text table: FTS5 narrows a search to the messages that may contain a needle.

Without positions it only knows which message contains which trigram, which keeps it small; so
every message found has still to be looked at.  It never leaves out one that contains the needle.
"""

import sqlite3
from binascii import crc32
from collections.abc import Iterable, Iterator
from typing import Final

from sharefs.index.harvest import tokenizable
from sharefs.index.schema import CONFIGURE_TEXTS

# More of them would hardly exclude more messages.
TERMS_LIMIT: Final = 32
# A search asks each segment; merging costs a pass over all of them.
SEGMENTS_LIMIT: Final = 48

_SEGMENT_SHIFT: Final = 37  # of a block's id: FTS5_DATA_PAGE_B + HEIGHT_B + DLI_B in its source


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


def note_sums(database: sqlite3.Connection, *, all_of_them: bool = False) -> None:
    """Bring text_sums up to date after a change.  all_of_them: segments were merged."""
    # FTS5 writes what it has gathered when a savepoint is made, else not before the commit.
    database.execute("SAVEPOINT gathered")
    database.execute("RELEASE gathered")
    if all_of_them:
        database.execute("DELETE FROM text_sums")
    # The first blocks are FTS5's averages and its list of segments: they change every time.
    database.execute("DELETE FROM text_sums WHERE id BETWEEN 0 AND ?", (1 << _SEGMENT_SHIFT,))
    blocks = database.execute(
        "SELECT id, block FROM texts_data WHERE id NOT IN (SELECT id FROM text_sums)"
    ).fetchall()
    database.executemany(
        "INSERT INTO text_sums VALUES (?, ?)",
        [(id_, _block_sum(id_, data)) for id_, data in blocks],
    )
    known = {-segment for (segment,) in database.execute("SELECT id FROM text_sums WHERE id < 0")}
    database.executemany(
        "INSERT INTO text_sums VALUES (?, ?)",
        [(-segment, got) for segment, got in _index_sums(database, known).items()],
    )


def are_sound(database: sqlite3.Connection) -> bool:
    """Whether every octet of the text table is as it was written."""
    blocks = database.execute("SELECT id, block FROM texts_data")
    got = {number: _block_sum(number, block) for number, block in blocks}
    got |= {-segment: total for segment, total in _index_sums(database, set()).items()}
    return got == dict(database.execute("SELECT id, sum FROM text_sums").fetchall())


def _block_sum(number: int, block: bytes) -> int:
    return crc32(block, number & 0xFFFFFFFF) ^ (number >> 32 & 0xFFFFFFFF)


def _index_sums(database: sqlite3.Connection, known: set[int]) -> dict[int, int]:
    """A sum for each segment's part of FTS5's own index, but for those known."""
    sums: dict[int, int] = {}
    segments = [row[0] for row in database.execute("SELECT DISTINCT segid FROM texts_idx")]
    for segment in segments:
        if segment in known:
            continue
        total = 0
        for term, page in database.execute(
            "SELECT term, pgno FROM texts_idx WHERE segid = ? ORDER BY term", (segment,)
        ):
            total = crc32(b"%b %d;" % (bytes(term), page), total)
        sums[segment] = total
    return sums


# --- tidying -------------------------------------------------------------------------------


def segments(database: sqlite3.Connection) -> int:
    """How many segments a search has to ask."""
    (count,) = database.execute("SELECT count(DISTINCT segid) FROM texts_idx").fetchone()
    return int(count)


def merge(database: sqlite3.Connection) -> None:
    """Make one segment of all.  Takes time in proportion to the whole text table."""
    database.execute("INSERT INTO texts (texts) VALUES ('optimize')")
    note_sums(database, all_of_them=True)
