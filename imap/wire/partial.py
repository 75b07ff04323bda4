"""PARTIAL ranges: a window on a list of results (RFC 9394 section 4, RFC 5267 section 4.4)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from imap.wire.cursor import Cursor
from imap.wire.sequence import LARGEST

T = TypeVar("T")

_RANGE: Final = re.compile(rb"-?[0-9]+:-?[0-9]+")
_FORM: Final = re.compile(
    rb"(?P<minus>-?)([1-9][0-9]{0,9}):(?P=minus)([1-9][0-9]{0,9})"
)  # nz-number twice, both with a minus or both without


@dataclass(frozen=True, slots=True)
class Partial:
    """low, high: places, both inclusive, counted from 1.  from_end: counted from the last result.

    written: the range as the client wrote it, which the answer repeats.
    """

    low: int
    high: int
    from_end: bool
    written: bytes

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The window, in the order of items; empty beyond their end."""
        if self.from_end:
            return items[max(0, len(items) - self.high) : max(0, len(items) - self.low + 1)]
        return items[self.low - 1 : self.high]


def parse_partial(cursor: Cursor) -> Partial:
    """A range such as 1:500, or -1:-500 for the last ones; its ends may stand in either order."""
    written = cursor.token(_RANGE, "a range such as 1:100 or -1:-100")
    found = _FORM.fullmatch(written)
    if found is None:
        cursor.fail("Invalid argument: a range is two numbers from 1, or two from -1")
    one, other = int(found[2]), int(found[3])
    if max(one, other) > LARGEST:
        cursor.fail("Number too large")
    return Partial(min(one, other), max(one, other), bool(found["minus"]), written)
