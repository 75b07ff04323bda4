"""Header fields kept so that some of them are picked without reading them.  Pure.

    codes NUL field NUL field ... NUL CRLF

One code for each field, in the header's order: 1 + its place in NAMES.  Most headers of a mailbox
have one of a few such orders, so where the wanted fields stand is found out once for each.
Without codes, what follows NUL is plain: a field that has a NUL of its own is among them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
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

Pick = Callable[[Sequence[bytes]], Iterable[bytes]]


def pack(header: bytes) -> bytes:
    """The fields of KEPT_FIELDS in a header."""
    text = _pick_kept(header)
    if b"\0" in text:
        return b"\0" + text
    pieces = _BORDER.split(text)[:-1]  # behind the last border there is nothing
    names = (piece.partition(b":")[0].rstrip(b" \t").upper() for piece in pieces[:-1])
    return b"\0".join((b"".join(map(_CODE_OF.__getitem__, names)), *pieces))


@lru_cache(maxsize=64)
def picker(names: tuple[bytes, ...]) -> Callable[[Iterable[bytes]], list[bytes]]:
    """What gives HEADER.FIELDS (names) of each of what pack() returned.

    names: in any case, all of them kept.
    """
    takes = _Takes({name.upper() for name in names})

    def pick(packed: Iterable[bytes]) -> list[bytes]:
        return [
            b"".join(takes[(pieces := each.split(b"\0"))[0]](pieces))  # as few steps as can be
            for each in packed
        ]

    return pick


class _Takes(dict[bytes, Pick]):
    """By the codes of a header: from its pieces to those wanted, and the empty line."""

    def __init__(self, wanted: set[bytes]) -> None:
        self._codes = frozenset(b"".join(map(_CODE_OF.__getitem__, wanted)))
        self._pick_plain = message.field_picker(wanted)

    def __missing__(self, codes: bytes) -> Pick:
        if len(self) >= _ORDERS:
            self.clear()
        take = self[codes] = self._taking(codes) if codes else self._take_plain
        return take

    def _taking(self, codes: bytes) -> Pick:
        places = [place for place, code in enumerate(codes, start=1) if code in self._codes]
        if not places:
            return itemgetter(slice(-1, None))
        return itemgetter(*places, -1)

    def _take_plain(self, pieces: Sequence[bytes]) -> Iterable[bytes]:
        return (self._pick_plain(b"\0".join(pieces[1:])),)
