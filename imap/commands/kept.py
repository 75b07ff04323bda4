"""What an index can answer of a FETCH or a SEARCH, in the terms of IMAP.

An index is asked within the mailbox's run(), like the mailbox itself.  What it does not know is
read, so everything here may say so at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from imap.commands.objectids import octets_of
from imap.wire import search_keys as key
from imap.wire.fetch import BodySection, FetchItem, Item, Preview
from imap.wire.search_keys import SearchKey
from sharefs.index import Column, MailboxIndex
from sharefs.index import query as q
from sharefs.index.rows import Value
from sharefs.index.schema import KEPT_FIELDS

_COLUMNS: Final[dict[FetchItem, Column]] = {
    Item.ENVELOPE: Column.ENVELOPE,
    Item.BODY: Column.BODY,
    Item.BODYSTRUCTURE: Column.BODYSTRUCTURE,
    Item.INTERNALDATE: Column.INTERNALDATE,
    Item.SIZE: Column.SIZE,
    Item.SAVEDATE: Column.SAVED,
    Item.EMAILID: Column.EMAIL_ID,
    Preview(lazy=False): Column.PREVIEW,
    Preview(lazy=True): Column.PREVIEW,
}


def column_of(item: FetchItem) -> Column | None:
    """What an index keeps for an item.  FIELDS: that has all the header fields asked for."""
    if not isinstance(item, BodySection):
        return _COLUMNS.get(item)
    section = item.section
    if section.part or section.text != "HEADER.FIELDS":
        return None
    wanted = {name.upper() for name in section.fields}
    return Column.FIELDS if wanted <= KEPT_FIELDS else None


class KeptRows:
    """What an index has of the messages of one FETCH, some at a time, in order.

    column_of: for each item that has one.  known: the messages loaded that have rows, ascending.
    """

    def __init__(self, items: Sequence[FetchItem]) -> None:
        found = {item: column_of(item) for item in items}
        self.column_of = {item: column for item, column in found.items() if column is not None}
        self._columns = tuple(dict.fromkeys(self.column_of.values()))
        # Sizes alone are known without an index; with one they come along.
        self.wanted = bool(set(self._columns) - {Column.SIZE})
        self.known: list[int] = []
        self._values: dict[Column, list[Value]] = {}
        self._place_of: dict[int, int] = {}

    def load(self, index: MailboxIndex, uids: Sequence[int], of: int) -> None:
        """Have the rows of these messages, and of no others.  of: how many there are to come."""
        self.known, values = index.table(uids, self._columns, of)
        self._values = dict(zip(self._columns, values, strict=True))
        self._place_of = {}

    def column(self, item: FetchItem) -> list[Value]:
        """The values of all known messages.  None: not kept."""
        return self._values.get(self.column_of[item], [])

    def value(self, uid: int, item: FetchItem) -> bytes | int | None:
        """None: not kept."""
        if item not in self.column_of or not self.known:
            return None
        if not self._place_of:
            self._place_of = {known: place for place, known in enumerate(self.known)}
        place = self._place_of.get(uid)
        return None if place is None else self.column(item)[place]


# --- searching -----------------------------------------------------------------------------

Known: TypeAlias = Mapping[SearchKey, q.Narrowed]
NOTHING_KNOWN: Final[Known] = {}


def narrow_all(index: MailboxIndex, tree: SearchKey, now: int) -> Known:
    """What the index says about every key in tree that it can say something about.

    now: seconds since 1970, what OLDER and YOUNGER count from.
    """
    return {
        leaf: index.narrow(translated)
        for leaf in leaves_of(tree)
        if (translated := _translated(leaf, now)) is not None
    }


@dataclass(frozen=True, slots=True)
class Needs:
    """What a search has to ask for: an index, numbers of CONDSTORE."""

    index: bool
    modseqs: tuple[key.ModseqIs, ...]


@lru_cache(maxsize=16)
def needs_of(tree: SearchKey) -> Needs:
    leaves = leaves_of(tree)
    return Needs(
        index=any(_translated(leaf, 0) is not None for leaf in leaves),
        modseqs=tuple(leaf for leaf in leaves if isinstance(leaf, key.ModseqIs)),
    )


def leaves_of(tree: SearchKey) -> set[SearchKey]:
    match tree:
        case key.And(keys):
            return set().union(*map(leaves_of, keys))
        case key.Or(left, right):
            return leaves_of(left) | leaves_of(right)
        case key.Not(inner):
            return leaves_of(inner)
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
        case key.EmailIdIs(name):
            return q.EmailIdIs(octets_of(name))
    return None
