"""FETCH responses of many messages at once: whole columns of values go into one format, in C.

Clients ask for flags, envelopes and header fields of every message whenever they start, so what
is known without opening a message must not take a Python loop for each of them.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, compress
from typing import Any, Final, TypeAlias

from imap.commands.kept import KeptRows
from imap.commands.objectids import email_id
from imap.commands.session import render_flags
from imap.view import View
from imap.wire import format as wire
from imap.wire.fetch import BodySection, FetchItem, Item, Preview
from sharefs import message
from sharefs.errors import SharingError
from sharefs.flags import FlagSet
from sharefs.index import packed_fields
from sharefs.store.interface import Mailbox

Column: TypeAlias = Sequence[Any]
# From what is known of some messages to the one or two columns that a response shows of it.
Show: TypeAlias = Callable[[Column, Sequence[int]], list[Column]]

WINDOW: Final = 500  # messages at a time
# The first of those whose values take more.  What is rendered of them is sent while the next ones
# are, and fits into the processor's cache, and into memory that was used a moment ago.
WINDOW_KEPT: Final = 250
PIECE: Final = 80 * 1024  # octets of responses, roughly, rendered at a time from then on
_HEADER: Final = 4096  # octets of a header, roughly
_SOME: Final = 50  # messages whose sizes are looked up at a time
_DAY: Final = 86400  # seconds
_EASY: Final = frozenset({Item.UID, Item.FLAGS, Item.SIZE, Item.MODSEQ})


class Bulk:
    """Renders the responses to one FETCH, of messages of which everything is known.

    usable: no item needs more than the plain octets of a message, and no two items need those.
    modseqs: of the messages whose turn comes next.
    """

    def __init__(
        self, items: tuple[FetchItem, ...], mailbox: Mailbox, view: View, kept: KeptRows
    ) -> None:
        self._items = items
        self._mailbox = mailbox
        self._view = view
        self._kept = kept
        self._window = WINDOW_KEPT if kept.wanted else WINDOW
        self.modseqs: Mapping[int, int] = {}
        self._shows = [self._show(item) for item in items]
        names = [_name_of(item).replace(b"%", b"%%") + b" " + _place_of(item) for item in items]
        self._form = b"* %d FETCH (" + b" ".join(names) + b")\r\n"
        needing = [item for item in items if item not in _EASY and item not in kept.column_of]
        self._reads = {item: _reader(item, mailbox) for item in needing}
        self.usable = len(needing) <= 1 and None not in self._reads.values()

    def window(self, uids: Sequence[int], at: int, octets: int) -> int:
        """Up to which position to render at a time, from at: a window of messages, or fewer if
        their texts would be much more than so many octets together."""
        until = min(len(uids), at + self._window)
        if not self._reads or not self.usable:
            return until
        if _is_header(next(iter(self._reads))):
            return min(until, at + octets // _HEADER)
        while at < until:
            for size in self._mailbox.known_sizes(uids[at : min(until, at + _SOME)]):
                octets -= octets if size is None else size
                at += 1
                if octets <= 0:
                    return at
        return at

    def render(self, uids: Sequence[int]) -> tuple[Sequence[int], list[bytes]]:
        """Those of uids of which everything is known, and their responses.

        One for each, unless all of uids are known: then they are in one piece.
        """
        known, columns = self._known(uids)
        if not known:
            return known, []
        shown: list[Column] = [self._view.seqs_of(known)]
        for show, column in zip(self._shows, columns, strict=True):
            shown += show(column, known)
        rows = zip(*shown, strict=True)
        if len(known) < len(uids):
            return known, [self._form % row for row in rows]
        octets = (self._form * len(known)) % tuple(chain.from_iterable(rows))
        if self._kept.wanted:
            self._window = min(WINDOW, max(1, PIECE * len(known) // len(octets)))
        return known, [octets]

    def _known(self, uids: Sequence[int]) -> tuple[Sequence[int], list[Column]]:
        """Messages of which there is a value for each item, and for each item the values."""
        known = uids if not self._kept.wanted else self._kept.known
        columns = [self._column(item, known) for item in self._items]
        if any(None in column for column in columns):
            complete = [None not in row for row in zip(*columns, strict=True)]
            known = list(compress(known, complete))
            columns = [list(compress(column, complete)) for column in columns]
        return known, columns

    def _column(self, item: FetchItem, uids: Sequence[int]) -> Column:
        if item is Item.UID and self._items == (Item.UID,):
            flags = self._mailbox.flags_of_each(uids)  # tells which of them are still there
            return [None if one is None else uid for uid, one in zip(uids, flags, strict=True)]
        if item is Item.UID:
            return uids
        if item is Item.FLAGS:
            return self._mailbox.flags_of_each(uids)
        if item is Item.MODSEQ:
            return list(map(self.modseqs.get, uids))
        if item is Item.SIZE and not self._kept.wanted:
            return self._mailbox.known_sizes(uids)
        read = self._reads.get(item)
        return self._kept.column(item) if read is None else _read_each(read, uids)

    def _show(self, item: FetchItem) -> Show:
        if item is Item.FLAGS:
            return self._flags
        if item in (Item.INTERNALDATE, Item.SAVEDATE):
            return lambda column, _: [internal_dates(column)]
        if item is Item.EMAILID:
            return lambda column, _: [[b"(%b)" % email_id(octets) for octets in column]]
        if isinstance(item, Preview):
            return lambda column, _: [list(map(wire.string, column))]
        if isinstance(item, BodySection):
            return _texts(item, is_kept=item in self._kept.column_of)
        return lambda column, _: [column]

    def _flags(self, sets: Sequence[FlagSet], uids: Sequence[int]) -> list[Column]:
        """A mailbox has few different sets, and messages with the same flags share one object."""
        recent = self._view.recent
        keys = list(map(id, sets))
        different = dict(zip(keys, sets, strict=True))
        shown = {key: render_flags(one, False) for key, one in different.items()}
        flags = list(map(shown.__getitem__, keys))
        if recent and not recent.isdisjoint(uids):
            for at, uid in enumerate(uids):
                if uid in recent:
                    flags[at] = render_flags(sets[at], True)
        return [flags]


def _is_header(item: FetchItem) -> bool:
    return isinstance(item, BodySection) and item.section.text.startswith("HEADER")


def _reader(item: FetchItem, mailbox: Mailbox) -> Callable[[int], bytes] | None:
    """What reads the text that a section stands for, or one to pick it from; None: MIME does."""
    if not isinstance(item, BodySection) or item.section.part:
        return None
    return {"": mailbox.read, "MIME": None, "TEXT": None}.get(
        item.section.text, mailbox.read_header
    )


def _read_each(read: Callable[[int], bytes], uids: Sequence[int]) -> list[bytes | None]:
    """None: it cannot be read.  Whoever looks at that one alone will hear why."""
    texts: list[bytes | None] = []
    for uid in uids:
        try:
            texts.append(read(uid))
        except (KeyError, SharingError, OSError):
            texts.append(None)
    return texts


def _texts(item: BodySection, *, is_kept: bool) -> Show:
    """The literal of a section, picked from what was read or kept for it."""
    section, partial = item.section, item.partial
    inverted = section.text == "HEADER.FIELDS.NOT"
    pick: Callable[[Column], Column] = list
    if is_kept:
        pick = packed_fields.picker(section.fields)
    elif section.fields:
        pick_one = message.field_picker(section.fields, inverted)
        pick = lambda column: list(map(pick_one, column))  # noqa: E731 -- one of three
    first, end = (0, None) if partial is None else (partial[0], sum(partial))

    def show(column: Column, _: Sequence[int]) -> list[Column]:
        texts = pick(column)
        if partial is not None:
            texts = [text[first:end] for text in texts]
        # Short ones are sooner looked at together, long ones are not copied for it.
        if b"\0" in b"".join(texts) if is_kept else any(b"\0" in text for text in texts):
            texts = [text.replace(b"\0", b"\x80") for text in texts]  # as wire.literal() does
        return [list(map(len, texts)), texts]

    return show


def _name_of(item: FetchItem) -> bytes:
    return item.value.encode("ascii") if isinstance(item, Item) else item.name


def _place_of(item: FetchItem) -> bytes:
    if isinstance(item, BodySection):
        return b"{%d}\r\n%b"
    if item is Item.MODSEQ:
        return b"(%d)"
    return b"%d" if item in (Item.SIZE, Item.UID) else b"%b"


def internal_date(seconds: int) -> bytes:
    """In the server's zone."""
    return wire.internal_date(seconds, _offset_at(seconds))


def internal_dates(many: Iterable[int]) -> list[bytes]:
    """internal_date() of each, asking for the zone once for a day."""
    offsets = _offset_of_day
    return [
        wire.internal_date(seconds, _offset_at(seconds) if offset is None else offset)
        for seconds in many
        for offset in (offsets(seconds // _DAY),)
    ]


def _offset_at(seconds: int) -> int:
    return (time.localtime(seconds).tm_gmtoff or 0) // 60


@lru_cache(maxsize=4096)
def _offset_of_day(day: int) -> int | None:
    """The zone's offset during a day of UTC, in minutes; None: it changes within that day."""
    first, last = _offset_at(day * _DAY), _offset_at(day * _DAY + _DAY - 1)
    return first if first == last else None
