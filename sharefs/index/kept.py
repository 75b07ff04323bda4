"""What was worked out from an index and a mailbox, kept for the next process that wants it.

Each value has a name and a sum.  Whoever writes what a value was worked out from forgets it in the
same transaction (schema.py says which), so it is never older than that.
"""

import sqlite3
from binascii import crc32

from sharefs.index.damage import Damaged
from sharefs.index.schema import KEPT_NUMBERS
from sharefs.index.sums import sealed, unsealed


def put(sql: sqlite3.Connection, name: str, octets: bytes) -> None:
    """Within a transaction."""
    sql.execute(
        "INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, sealed(octets, 0, _column(name)))
    )


def get(sql: sqlite3.Connection, name: str) -> bytes | None:
    """None: nothing is kept.  Raises Damaged."""
    row = sql.execute("SELECT octets FROM kept WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    octets = unsealed(row[0], 0, _column(name)) if isinstance(row[0], bytes) else None
    if octets is None:
        raise Damaged(f"what is kept as {name!r} has a wrong sum")
    return octets


def forget(sql: sqlite3.Connection, name: str) -> None:
    """Within a transaction."""
    sql.execute("DELETE FROM kept WHERE name = ?", (name,))


def forget_rows(sql: sqlite3.Connection) -> None:
    """Within a transaction that writes rows of messages."""
    sql.execute("DELETE FROM kept WHERE name <> ?", (KEPT_NUMBERS,))


def _column(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogatepass"))
