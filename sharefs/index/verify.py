"""Checks a whole index: every sum, and every kept value against the message itself.  Reads only."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from sharefs.errors import SharingError
from sharefs.index import orders, rows, trigrams
from sharefs.index.damage import Damaged
from sharefs.index.harvest import Harvest, harvest
from sharefs.index.rows import Column, Value
from sharefs.index.schema import HEADS
from sharefs.store.interface import Mailbox

# All but SAVED, which the file system may tell otherwise by now.
_WANTED: Final[dict[Column, Callable[[Harvest], Value]]] = {
    Column.ENVELOPE: lambda got: got.envelope,
    Column.BODY: lambda got: got.body,
    Column.BODYSTRUCTURE: lambda got: got.bodystructure,
    Column.FIELDS: lambda got: got.fields,
    Column.PREVIEW: lambda got: got.preview,
    Column.SIZE: lambda got: got.size,
    Column.INTERNALDATE: lambda got: got.internaldate,
    Column.EMAIL_ID: lambda got: got.email_id,
}
COLUMNS: Final = tuple(_WANTED)


def problems(mailbox: Mailbox, sql: sqlite3.Connection, indexed: set[int]) -> Iterator[str]:
    """What is wrong, in words; nothing if the index is as it should be.

    Reads every indexed message.  A damaged file may also raise sqlite3.DatabaseError.
    """
    for (answer,) in sql.execute("PRAGMA integrity_check(10)").fetchall():
        if answer != "ok":
            yield f"SQLite: {answer}"
    try:
        rows.check_heads(sql, indexed)
        if not trigrams.are_sound(sql):
            yield "the text table has a wrong sum"
    except Damaged as error:
        yield str(error)
    for uid in sorted(indexed):
        try:
            got = harvest(mailbox.read(uid), mailbox.info(uid))
            kept = rows.rows_of(sql, [uid], COLUMNS)
        except SharingError:
            continue  # gone or out of reach meanwhile: nothing to compare with
        except Damaged as error:
            yield str(error)
            continue
        yield from _differences(uid, got, kept.get(uid))
        yield from _head_differences(sql, uid, got)
        if not orders.agrees(sql, got.facts):
            yield f"the order of message {uid} is not what the message says"


def _differences(uid: int, got: Harvest, kept: tuple[Value, ...] | None) -> Iterator[str]:
    for column, stored in zip(COLUMNS, kept or (None,) * len(COLUMNS), strict=True):
        if stored != _WANTED[column](got):
            yield f"the {column.name} of message {uid} is not what the message says"


def _head_differences(sql: sqlite3.Connection, uid: int, got: Harvest) -> Iterator[str]:
    names = ", ".join(f'"{name}"' for name in HEADS)
    stored = sql.execute(f"SELECT {names} FROM heads WHERE uid = ?", (uid,)).fetchone()
    for name, right, kept in zip(HEADS, got.heads, stored or (None,) * len(HEADS), strict=True):
        if kept != right:
            yield f"the {name} of message {uid} is not what the message says"
