"""From one search key to the messages that match it, or may.  Reads the index only."""

import re
import sqlite3
import time
from collections.abc import Callable
from datetime import date
from typing import Final

from sharefs.index import trigrams
from sharefs.index.columns import LEAST, MOST, NOTHING, Columns, listed
from sharefs.index.query import (
    ArrivedBy,
    ArrivedSince,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    HeaderContains,
    LargerThan,
    Leaf,
    Narrowed,
    SmallerThan,
    TextContains,
    When,
)
from sharefs.index.schema import HEADS, LEFT_OUT
from sharefs.message.decode import fold

NOBODY: Final = frozenset[int]()

_COLUMNS: Final = {
    DateOf.INTERNAL: "internaldate", DateOf.SAVED: "saved", DateOf.SENT: "sent",
}  # fmt: skip

_DAY: Final = 86400  # seconds
_EPOCH: Final = date(1970, 1, 1).toordinal()
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")  # RFC 5322 section 3.6.8


def needs_texts(leaf: Leaf) -> bool:
    """Whether the text table is asked, which must be sound then."""
    match leaf:
        case BodyContains() | TextContains():
            return True
        case HeaderContains(name, _):
            return name.lower() not in HEADS
    return False


def needs_heads(leaf: Leaf) -> bool:
    return isinstance(leaf, HeaderContains) and not needs_texts(leaf)


def column_of(leaf: Leaf) -> str | None:
    """The column of numbers that decides."""
    match leaf:
        case LargerThan() | SmallerThan():
            return "size"
        case ArrivedBy() | ArrivedSince():
            return "internaldate"
        case DateIs(of, _, _):
            return _COLUMNS[of]
    return None


def needs_facts(leaf: Leaf) -> bool:
    """Whether values in messages decide, which have no sums but those of their rows."""
    return isinstance(leaf, EmailIdIs) or column_of(leaf) is not None


def narrow(
    database: sqlite3.Connection,
    leaf: Leaf,
    indexed: set[int],
    textless: set[int],
    columns: Columns,
) -> Narrowed:
    """indexed: the messages that have rows.  textless: those of them that are not in texts.

    columns: of the rows as they are.  The result is about indexed messages only.
    """

    column = column_of(leaf) or ""

    def within(least: int = LEAST, below: int = MOST) -> Narrowed:
        return Narrowed(columns.ask(database, column, (least, below))[0], NOBODY)

    match leaf:
        case LargerThan(octets):
            return within(least=min(octets + 1, MOST))
        case SmallerThan(octets):
            return within(below=min(octets, MOST))
        case ArrivedBy(seconds):
            return within(below=seconds + 1)
        case ArrivedSince(seconds):
            return within(least=seconds)
        case DateIs(of, when, day):
            if of is not DateOf.SENT:
                return _on_day(database, columns, column, when, day)
            number = day.toordinal()
            least = LEAST if when is When.BEFORE else number
            below = {When.BEFORE: number, When.ON: number + 1, When.SINCE: MOST}[when]
            return within(least, below)
        case EmailIdIs(octets):
            sql = "SELECT group_concat(uid) FROM messages WHERE email = ?"
            return Narrowed(_uids(*database.execute(sql, (octets,)).fetchone()), NOBODY)
        case HeaderContains(name, text) if name.lower() in HEADS:
            return _in_heads(database, name.lower(), fold(text))
        case HeaderContains(name, text):
            return _in_other_header(database, name, fold(text), indexed, textless)
        case BodyContains(text):
            return _in_texts(database, fold(text), indexed, textless, lambda row: bool(row & 1))
        case TextContains(text):
            return _in_texts(database, fold(text), indexed, textless, lambda row: True)


def _uids(joined: str | None) -> frozenset[int]:
    return frozenset(listed(joined)) if joined else NOBODY


# --- dates ---------------------------------------------------------------------------------

_TESTS: Final[dict[When, Callable[[int, int], bool]]] = {
    When.BEFORE: int.__lt__,
    When.ON: int.__eq__,
    When.SINCE: int.__ge__,
}


def _on_day(
    database: sqlite3.Connection, columns: Columns, name: str, when: When, day: date
) -> Narrowed:
    """name: of a column of seconds.  No zone is more than a day from UTC: only messages of three
    days need its rules."""
    begin = (day.toordinal() - _EPOCH) * _DAY
    first, last = begin - _DAY, begin + 2 * _DAY
    sure = {When.BEFORE: (LEAST, first), When.SINCE: (last, MOST)}.get(when, NOTHING)
    certain, near = columns.ask(database, name, sure, (first, last))
    test, number = _TESTS[when], day.toordinal()
    found = (uid for uid, seconds in near if test(_local_day(seconds), number))
    return Narrowed(certain.union(found), NOBODY)


def _local_day(seconds: int) -> int:
    """As date.toordinal(), in the server's zone, which is what INTERNALDATE is told in."""
    local = time.localtime(seconds)
    return date(local.tm_year, local.tm_mon, local.tm_mday).toordinal()


# --- texts ---------------------------------------------------------------------------------


def _in_heads(database: sqlite3.Connection, name: str, needle: str) -> Narrowed:
    """The columns hold all that is searched, so what they say is final."""
    column, bit = f'"{name}"', LEFT_OUT[name]
    condition, values = f"{column} IS NOT NULL", list[bytes]()
    if needle:
        condition, values = f"instr({column}, ?)", [needle.encode("utf-8", "surrogatepass")]
    left_out = f"left_out & {bit}"  # then the column is NULL
    sql = f"""SELECT group_concat(uid) FILTER (WHERE NOT {left_out}),
        group_concat(uid) FILTER (WHERE {left_out}) FROM heads WHERE {condition} OR {left_out}"""
    certain, possible = map(_uids, database.execute(sql, values).fetchone())
    if "\n" in needle:  # it could stand across two fields
        certain, possible = NOBODY, certain | possible
    return Narrowed(certain, possible)


def _in_other_header(
    database: sqlite3.Connection, name: str, needle: str, indexed: set[int], textless: set[int]
) -> Narrowed:
    if not _FIELD_NAME.fullmatch(name):
        return Narrowed(NOBODY, frozenset(indexed))
    possible = _may_contain(database, fold(name) + ": ", indexed, lambda row: not row & 1)
    if needle:
        possible &= _may_contain(database, needle, indexed, lambda row: not row & 1)
    return Narrowed(NOBODY, frozenset(possible | textless))


def _in_texts(
    database: sqlite3.Connection,
    needle: str,
    indexed: set[int],
    textless: set[int],
    wanted: Callable[[int], bool],
) -> Narrowed:
    if not needle:  # every message contains nothing
        return Narrowed(frozenset(indexed), NOBODY)
    possible = _may_contain(database, needle, indexed, wanted)
    return Narrowed(NOBODY, frozenset(possible | textless))


def _may_contain(
    database: sqlite3.Connection, needle: str, indexed: set[int], wanted: Callable[[int], bool]
) -> set[int]:
    rows = trigrams.rows_with(database, needle)
    if rows is None:
        return set(indexed)
    return {row >> 1 for row in rows if wanted(row)} & indexed
