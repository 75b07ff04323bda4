"""What an index can answer of a FETCH or a SEARCH, in the terms of IMAP.

An index is asked within the mailbox's run(), like the mailbox itself.  What it does not know is
read, so everything here may say so at any time.
"""

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from imap.wire import format as wire
from imap.wire import search_keys as key
from imap.wire.fetch import BodySection, FetchItem, Item
from imap.wire.search_keys import SearchKey
from sharefs import message
from sharefs.index import Column, MailboxIndex
from sharefs.index import query as q
from sharefs.index.schema import KEPT_FIELDS

# Rows held at a time while a long FETCH is rendered.
ROWS: Final = 500

_COLUMNS: Final[dict[FetchItem, Column]] = {
    Item.ENVELOPE: Column.ENVELOPE,
    Item.BODY: Column.BODY,
    Item.BODYSTRUCTURE: Column.BODYSTRUCTURE,
    Item.INTERNALDATE: Column.INTERNALDATE,
    Item.SIZE: Column.SIZE,
}


Row: TypeAlias = tuple[bytes | int | None, ...]


def column_of(item: FetchItem) -> Column | None:
    """What an index keeps for an item.  FIELDS: that has all the header fields asked for."""
    if not isinstance(item, BodySection):
        return _COLUMNS.get(item)
    section = item.section
    if section.part or section.text != "HEADER.FIELDS":
        return None
    wanted = {name.upper() for name in section.fields}
    return Column.FIELDS if wanted <= KEPT_FIELDS else None


Render: TypeAlias = Callable[[Row], object]


class KeptRows:
    """Rows of an index for the messages of one FETCH, some at a time, in order.

    renderers: for each item that has a column, in their order, what to send for a row.
    """

    def __init__(self, items: Sequence[FetchItem]) -> None:
        columns = [column_of(item) for item in items]
        self._columns = tuple(dict.fromkeys(column for column in columns if column is not None))
        self.place_of: dict[FetchItem, int] = {
            item: self._columns.index(column)
            for item, column in zip(items, columns, strict=True)
            if column is not None
        }
        self.renderers: dict[FetchItem, Render] = {
            item: _renderer(item, place) for item, place in self.place_of.items()
        }
        # Sizes alone are known without an index; with one they come along.
        self.wanted = bool(set(self._columns) - {Column.SIZE})
        self._rows: dict[int, Row] = {}
        self._until = 0

    def load(self, index: MailboxIndex, uids: Sequence[int], at: int) -> None:
        """Have the rows of uids[at], and of some after it, unless they are there."""
        if at >= self._until:
            self._until = min(len(uids), at + ROWS)
            self._rows = index.rows(uids[at : self._until], self._columns)

    def row(self, uid: int) -> Row | None:
        """None: not kept, or not all of it."""
        row = self._rows.get(uid)
        return None if row is None or None in row else row

    def value(self, uid: int, item: FetchItem) -> bytes | int | None:
        """None: not kept."""
        place = self.place_of.get(item)
        row = None if place is None else self._rows.get(uid)
        return None if row is None or place is None else row[place]


def _renderer(item: FetchItem, place: int) -> Render:
    get: Callable[[Row], Any] = operator.itemgetter(place)
    if item is Item.INTERNALDATE:
        return lambda row: internal_date(get(row))
    if not isinstance(item, BodySection):
        return get
    pick, partial = message.field_picker(item.section.fields), item.partial
    if partial is None:
        return lambda row: wire.literal(pick(get(row)))
    first, length = partial
    return lambda row: wire.literal(pick(get(row))[first : first + length])


def internal_date(seconds: int) -> bytes:
    """In the server's zone."""
    offset = time.localtime(seconds).tm_gmtoff or 0
    return wire.internal_date(seconds, offset // 60)


# --- searching -----------------------------------------------------------------------------

Known: TypeAlias = Mapping[SearchKey, q.Narrowed]
NOTHING_KNOWN: Final[Known] = {}


def narrow_all(index: MailboxIndex, tree: SearchKey, now: int) -> Known:
    """What the index says about every key in tree that it can say something about.

    now: seconds since 1970, what OLDER and YOUNGER count from.
    """
    return {
        leaf: index.narrow(translated)
        for leaf in _leaves(tree)
        if (translated := _translated(leaf, now)) is not None
    }


def wants_index(tree: SearchKey) -> bool:
    return any(_translated(leaf, 0) is not None for leaf in _leaves(tree))


def _leaves(tree: SearchKey) -> set[SearchKey]:
    match tree:
        case key.And(keys):
            return set().union(*map(_leaves, keys))
        case key.Or(left, right):
            return _leaves(left) | _leaves(right)
        case key.Not(inner):
            return _leaves(inner)
    return {tree}


def _translated(leaf: SearchKey, now: int) -> q.Leaf | None:
    match leaf:
        case key.HeaderContains(name, text):
            return q.HeaderContains(name, text)
        case key.BodyContains(text):
            return q.BodyContains(text)
        case key.TextContains(text):
            return q.TextContains(text)
        case key.DateIs(of, when, day):
            return q.DateIs(q.DateOf[of.name], q.When[when.name], day)
        case key.OlderThan(seconds):
            return q.ArrivedBy(now - seconds)
        case key.YoungerThan(seconds):
            return q.ArrivedSince(now - seconds)
        case key.LargerThan(octets):
            return q.LargerThan(octets)
        case key.SmallerThan(octets):
            return q.SmallerThan(octets)
    return None
