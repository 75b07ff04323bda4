"""Header fields kept so that some of them are picked without reading them.  Pure.

    codes NUL field NUL field ... NUL CRLF

One code for each field, in the header's order: 1 + its place in NAMES.  Most headers of a mailbox
have one of a few such orders, so where the wanted fields stand is found out once for each.
Without codes, what follows NUL is plain: a field that has a NUL of its own is among them.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

from sharefs import message
from sharefs.index.schema import KEPT_FIELDS

NAMES: Final = tuple(sorted(KEPT_FIELDS))
_CODE_OF: Final = {name: bytes((code,)) for code, name in enumerate(NAMES, start=1)}
_pick_kept: Final = message.field_picker(KEPT_FIELDS)
# Before each field, and before the empty line.
_BORDER: Final = re.compile(rb"(?<=\n)(?![ \t])")
# Orders of fields that are remembered for one choice; anybody can send more of them.
_ORDERS: Final = 1024

Pick = Callable[[Sequence[bytes]], Sequence[bytes]]


def pack(header: bytes) -> bytes:
    """The fields of KEPT_FIELDS in a header."""
    text = _pick_kept(header)
    if b"\0" in text:
        return b"\0" + text
    pieces = _BORDER.split(text)[:-1]  # behind the last border there is nothing
    names = (piece.partition(b":")[0].rstrip(b" \t").upper() for piece in pieces[:-1])
    return b"\0".join((b"".join(map(_CODE_OF.__getitem__, names)), *pieces))


@lru_cache(maxsize=64)
def picker(names: tuple[bytes, ...]) -> Callable[[bytes], bytes]:
    """What gives HEADER.FIELDS (names) of what pack() returned.

    names: in any case, all of them kept.
    """
    wanted = {name.upper() for name in names}
    codes_wanted = frozenset(b"".join(map(_CODE_OF.__getitem__, wanted)))
    pick_plain = message.field_picker(wanted)
    known: dict[bytes, Pick] = {}

    def pick(packed: bytes) -> bytes:
        pieces = packed.split(b"\0")
        codes = pieces[0]
        take = known.get(codes)
        if take is None:
            if not codes:
                return pick_plain(packed[1:])
            if len(known) >= _ORDERS:
                known.clear()
            take = known[codes] = _taking(codes, codes_wanted)
        return b"".join(take(pieces))

    return pick


def _taking(codes: bytes, wanted: frozenset[int]) -> Pick:
    """From the pieces of a packed header to those wanted, and the empty line."""
    places = [place for place, code in enumerate(codes, start=1) if code in wanted]
    if not places:
        return itemgetter(slice(-1, None))
    return itemgetter(*places, -1)
