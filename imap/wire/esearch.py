"""RETURN of SEARCH and SORT, and the ESEARCH response: RFC 4731, 5182, 5267 section 3, 9394."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from imap.wire import format as wire
from imap.wire.cursor import Cursor
from imap.wire.partial import Partial, parse_partial


class Return(enum.Enum):
    """What can be asked for.  PARTIAL comes with a range."""

    MIN = "MIN"
    MAX = "MAX"
    ALL = "ALL"
    COUNT = "COUNT"
    SAVE = "SAVE"
    PARTIAL = "PARTIAL"


_NAMES: Final = {option.value: option for option in Return}
# With these alone "$" becomes what was returned (RFC 5182 section 2.1, RFC 9394 section 3.2).
_SOME: Final = frozenset({Return.MIN, Return.MAX, Return.PARTIAL})


@dataclass(frozen=True, slots=True)
class Returning:
    """options: never empty.  partial: the range of PARTIAL."""

    options: frozenset[Return]
    partial: Partial | None = None

    @property
    def saves(self) -> bool:
        return Return.SAVE in self.options

    def saved(self, found: Sequence[int]) -> list[int]:
        """What "$" becomes, ascending.  found: in the order of the answer."""
        others = self.options - {Return.SAVE}
        if not found or not others or not others <= _SOME:
            return sorted(found)
        some: set[int] = set()
        if Return.MIN in others:
            some.add(found[0])
        if Return.MAX in others:
            some.add(found[-1])
        if self.partial is not None:
            some.update(self.partial.of(found))
        return sorted(some)

    def told(self, found: Sequence[int]) -> Sequence[int]:
        """The messages that the answer's MODSEQ is about (RFC 4731 section 3.2)."""
        ends = self.options - {Return.SAVE}
        if not found or not ends <= {Return.MIN, Return.MAX}:
            return found
        return [
            uid
            for option, uid in ((Return.MIN, found[0]), (Return.MAX, found[-1]))
            if option in ends
        ]


def parse_returning(cursor: Cursor) -> Returning | None:
    """Read RETURN (...) and the space after it, if it stands here; None if not.

    An empty list means ALL (RFC 4731 section 3.1).
    """
    if not cursor.skip(b"RETURN"):
        return None
    cursor.space()
    partial: Partial | None = None

    def option() -> Return:
        nonlocal partial
        found = _NAMES.get(cursor.keyword("a return option"))
        if found is None:
            cursor.fail("Unknown return option")
        if found is Return.PARTIAL:
            if partial is not None:
                cursor.fail("PARTIAL can be asked for only once")
            cursor.space()
            partial = parse_partial(cursor)
        return found

    options = frozenset(cursor.parenthesised(option))
    if {Return.ALL, Return.PARTIAL} <= options:
        # RFC 9394 section 3.1: they contradict each other.
        cursor.fail("ALL and PARTIAL cannot be asked for together")
    cursor.space()
    return Returning(options or frozenset({Return.ALL}), partial)


Numbered: TypeAlias = Callable[[Sequence[int]], Sequence[int]]


def esearch(
    tag: str,
    returning: Returning,
    found: Sequence[int],
    numbered: Numbered | None,
    modseq: int | None = None,
) -> bytes:
    """What follows "* " in an ESEARCH response; empty if nothing but SAVE was asked for.

    found: UIDs in the order of the answer.  numbered: makes message numbers of them; None: the
    answer has UIDs.  modseq: that of the messages told, if it was searched for (RFC 7162).
    """
    options = returning.options
    if options == {Return.SAVE}:
        return b""
    words = [b"ESEARCH (TAG %b)" % wire.string(tag.encode("ascii"))]
    if numbered is None:
        words.append(b"UID")

    def told(uids: Sequence[int]) -> Sequence[int]:
        return uids if numbered is None else numbered(uids)

    if found:
        if Return.MIN in options:
            words.append(b"MIN %d" % told(found[:1])[0])
        if Return.MAX in options:
            words.append(b"MAX %d" % told(found[-1:])[0])
        if Return.ALL in options:
            words.append(b"ALL " + wire.ordered_set(told(found)))
    if returning.partial is not None:
        window = wire.ordered_set(told(returning.partial.of(found)))
        words.append(b"PARTIAL (%b %b)" % (returning.partial.written, window or b"NIL"))
    if Return.COUNT in options:
        words.append(b"COUNT %d" % len(found))
    if modseq is not None:
        words.append(b"MODSEQ %d" % modseq)
    return b" ".join(words)
