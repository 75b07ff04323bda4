"""Rows of the index, written from harvests and read by UID."""

import enum
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sharefs.index import orders, trigrams
from sharefs.index.damage import Damaged
from sharefs.index.harvest import Harvest
from sharefs.index.schema import HEADS, PER_MESSAGE
from sharefs.index.sums import sealed, sum_of, unsealed, unsealed_all

Value = bytes | int | None
READ_AT_ONCE: Final = 500  # UIDs in one query


class Column(enum.Enum):
    """What rows_of() can read: (table, column).  The upper ones are octets ready to send.

    Those in messages have no sums of their own: their rows have.
    """

    ENVELOPE = ("envelopes", "envelope")
    BODY = ("structures", "body")
    BODYSTRUCTURE = ("structures", "bodystructure")
    FIELDS = ("fields", "fields")  # of schema.KEPT_FIELDS, for packed_fields.picker()
    PREVIEW = ("previews", "preview")  # UTF-8
    SIZE = ("messages", "size")
    INTERNALDATE = ("messages", "internaldate")
    SAVED = ("messages", "saved")
    EMAIL_ID = ("messages", "email")


_SEALED: Final[dict[Column, int]] = {
    column: number
    for number, column in enumerate(Column, start=1)
    if column not in (Column.SIZE, Column.INTERNALDATE, Column.SAVED, Column.EMAIL_ID)
}
# Columns whose values have sums of their own.
SEALED: Final = frozenset(_SEALED)


def write(
    database: sqlite3.Connection,
    harvests: Sequence[tuple[int, str, Harvest]],
    *,
    with_texts: bool,
) -> None:
    """Add (uid, identity, harvest) of messages that have no rows, by ascending UID."""
    many = database.executemany
    facts = []
    heads = []
    for uid, identity, got in harvests:
        text = int(with_texts and got.texts is not None)
        row = (
            uid, identity_octets(identity), got.size, got.internaldate, got.saved, got.sent,
            got.email_id, text,
        )  # fmt: skip
        facts.append((*row, sum_of(*row)))
        words = (uid, *got.heads, got.left_out)
        heads.append((*words, sum_of(*words)))
    many("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", facts)
    many("INSERT INTO heads VALUES (?, ?, ?, ?, ?, ?, ?, ?)", heads)
    orders.write(database, [got.facts for _, _, got in harvests])
    many(
        "INSERT INTO envelopes VALUES (?, ?)",
        [
            (uid, sealed(got.envelope, uid, _SEALED[Column.ENVELOPE]))
            for uid, _, got in harvests
            if got.envelope is not None
        ],
    )
    many(
        "INSERT INTO fields VALUES (?, ?)",
        [
            (uid, sealed(got.fields, uid, _SEALED[Column.FIELDS]))
            for uid, _, got in harvests
            if got.fields is not None
        ],
    )
    many(
        "INSERT INTO previews VALUES (?, ?)",
        [(uid, sealed(got.preview, uid, _SEALED[Column.PREVIEW])) for uid, _, got in harvests],
    )
    many(
        "INSERT INTO structures VALUES (?, ?, ?)",
        [
            (
                uid,
                _sealed(got.body, uid, Column.BODY),
                _sealed(got.bodystructure, uid, Column.BODYSTRUCTURE),
            )
            for uid, _, got in harvests
        ],
    )
    if with_texts:
        trigrams.add(database, ((uid, *got.texts) for uid, _, got in harvests if got.texts))
        trigrams.note_sums(database)


def identity_octets(identity: str) -> bytes:
    """As it is kept: a file name that is no text has surrogates in it (PEP 383)."""
    return identity.encode("utf-8", "surrogatepass")


def _sealed(octets: bytes | None, uid: int, column: Column) -> bytes | None:
    return None if octets is None else sealed(octets, uid, _SEALED[column])


def remove(database: sqlite3.Connection, uids: Sequence[int]) -> None:
    """Forget messages.  Their texts stay and are passed over."""
    for table in PER_MESSAGE:
        database.executemany(f"DELETE FROM {table} WHERE uid = ?", [(uid,) for uid in uids])


_FACTS: Final = (
    "SELECT sum, uid, identity, size, internaldate, saved, sent, email, text FROM messages"
)


def facts_of_all(database: sqlite3.Connection) -> Iterator[tuple[int, bytes, bool]]:
    """(uid, identity, whether it has texts) of every message.  Raises Damaged."""
    return _checked(database.execute(_FACTS))


def facts_of(
    database: sqlite3.Connection, uids: Sequence[int]
) -> Iterator[tuple[int, bytes, bool]]:
    """The same of at most READ_AT_ONCE messages."""
    marks = ", ".join("?" * len(uids))
    return _checked(database.execute(f"{_FACTS} WHERE uid IN ({marks})", uids))


def _checked(found: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, bytes, bool]]:
    for row in found:
        if sum_of(*row[1:]) != row[0]:
            raise Damaged(f"the facts about message {row[1]} have a wrong sum")
        yield row[1], row[2], bool(row[8])


def check_heads(database: sqlite3.Connection, indexed: set[int]) -> None:
    """Raises Damaged unless every message has the heads that were written for it."""
    names = ", ".join(f'"{name}"' for name in HEADS)
    seen = 0
    for row in database.execute(f"SELECT sum, uid, {names}, left_out FROM heads"):
        if sum_of(*row[1:]) != row[0]:
            raise Damaged(f"the heads of message {row[1]} have a wrong sum")
        seen += row[1] in indexed
    if seen != len(indexed):
        raise Damaged(f"{len(indexed) - seen} messages have no heads")


def rows_of(
    database: sqlite3.Connection, uids: Sequence[int], columns: Sequence[Column]
) -> dict[int, tuple[Value, ...]]:
    """The columns of those messages that have rows.  A value too long to be kept is None.

    uids: ascending.  Raises Damaged.
    """
    known, values = table_of(database, uids, columns)
    return dict(zip(known, zip(*values, strict=True), strict=True))


def table_of(
    database: sqlite3.Connection, uids: Sequence[int], columns: Sequence[Column]
) -> tuple[list[int], list[list[Value]]]:
    """The same as whole columns: UIDs that have rows, ascending, and the values of each column.

    There may be rows of messages between those asked for.  Raises Damaged.
    """
    names: dict[str, list[str]] = {}
    for table, name in (column.value for column in columns):
        names.setdefault(table, []).append(name)
    found: dict[Column, list[Value]] = {}
    grouped = [column for table in names for column in columns if column.value[0] == table]
    if (values := _all_there(database, uids, names)) is not None:
        for column, each in zip(grouped, values, strict=True):
            found[column] = _all_unsealed(each, uids, column)
        return list(uids), [found[column] for column in columns]
    parts = [
        _select(database, f"SELECT uid, {', '.join(names[table])} FROM {table} WHERE uid", uids)
        for table in names
    ]
    known = [row[0] for row in parts[0]]
    if any(len(part) != len(known) or [row[0] for row in part] != known for part in parts[1:]):
        # Not every table has a row for each message; only messages has.
        others = [table for table in names if table != "messages"]
        joins = "".join(f" LEFT JOIN {other} ON {other}.uid = messages.uid" for other in others)
        wanted = [f"{table}.{name}" for table in names for name in names[table]]
        select = f"SELECT messages.uid, {', '.join(wanted)} FROM messages{joins} WHERE messages.uid"
        parts = [_select(database, select, uids)]
        known = [row[0] for row in parts[0]]
    if not known:
        return [], [[] for _ in columns]
    read = [values for part in parts for values in list(zip(*part, strict=True))[1:]]
    for column, each in zip(grouped, read, strict=True):
        found[column] = _all_unsealed(each, known, column)
    return known, [found[column] for column in columns]


def _all_there(
    database: sqlite3.Connection, uids: Sequence[int], names: Mapping[str, Sequence[str]]
) -> list[Sequence[Any]] | None:
    """Whole columns, table by table, if the UIDs follow each other and all of them have rows.

    Then the number of rows tells that, and no UID need be read.
    """
    count = len(uids)
    if not 0 < count <= READ_AT_ONCE or uids[-1] - uids[0] != count - 1:
        return None
    read: list[Sequence[Any]] = []
    for table, wanted in names.items():
        rows = database.execute(
            f"SELECT {', '.join(wanted)} FROM {table} WHERE uid BETWEEN ? AND ? ORDER BY uid",
            (uids[0], uids[-1]),
        ).fetchall()
        if len(rows) != count:
            return None
        read += zip(*rows, strict=True)
    return read


def _select(
    database: sqlite3.Connection, select: str, uids: Sequence[int]
) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    key = select.rpartition(" ")[2]
    for at in range(0, len(uids), READ_AT_ONCE):
        some = uids[at : at + READ_AT_ONCE]
        if some[-1] - some[0] < 4 * len(some):
            where, numbers = "BETWEEN ? AND ?", [some[0], some[-1]]
        else:
            where, numbers = f"IN ({', '.join('?' * len(some))})", list(some)
        found += database.execute(f"{select} {where} ORDER BY {key}", numbers).fetchall()
    return found


def _all_unsealed(values: Sequence[Any], uids: Sequence[int], column: Column) -> list[Value]:
    seal = _SEALED.get(column, 0)
    if not seal:
        return list(values)
    octets = unsealed_all(values, uids, seal)
    if octets is not None:
        return octets
    return [_unsealed(value, uid, column, seal) for uid, value in zip(uids, values, strict=True)]


def _unsealed(value: Value, uid: int, column: Column, seal: int) -> Value:
    if value is None:
        return None
    octets = unsealed(value, uid, seal) if isinstance(value, bytes) else None
    if octets is None:
        raise _wrong_seal(uid, column)
    return octets


def _wrong_seal(uid: int, column: Column) -> Damaged:
    return Damaged(f"the {column.name} of message {uid} has a wrong sum")
