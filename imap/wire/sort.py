"""SORT and THREAD arguments, and the THREAD response: RFC 5256 sections 4 and 5, RFC 5957."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imap.wire.cursor import Cursor
from imap.wire.search import parse_charset, parse_keys
from imap.wire.search_keys import SearchKey

SORT_KEYS: Final = frozenset(
    "ARRIVAL CC DATE DISPLAYFROM DISPLAYTO FROM SIZE SUBJECT TO".split()  # noqa: SIM905 -- one line
)
ALGORITHMS: Final = frozenset({"ORDEREDSUBJECT", "REFERENCES", "REFS"})

_CLOSE: Final = -1


@dataclass(frozen=True, slots=True)
class Sort:
    """criteria: (one of SORT_KEYS, whether it is turned round), the first counts most."""

    criteria: tuple[tuple[str, bool], ...]
    key: SearchKey


@dataclass(frozen=True, slots=True)
class Thread:
    """algorithm: one of ALGORITHMS."""

    algorithm: str
    key: SearchKey


def parse_sort(cursor: Cursor) -> Sort:
    """Read the arguments of SORT or UID SORT, after any RETURN, to their end."""

    def criterion() -> tuple[str, bool]:
        name = cursor.keyword("a sort key")
        reverse = name == "REVERSE"
        if reverse:
            cursor.space()
            name = cursor.keyword("a sort key")
        if name not in SORT_KEYS:
            cursor.fail("Unknown sort key")
        return name, reverse

    criteria = tuple(cursor.parenthesised(criterion, empty=False))
    cursor.space()
    return Sort(criteria, _program(cursor))


def parse_thread(cursor: Cursor) -> Thread:
    """Read the arguments of THREAD or UID THREAD to their end."""
    algorithm = cursor.keyword("a threading algorithm")
    if algorithm not in ALGORITHMS:
        cursor.fail("Unknown threading algorithm")
    cursor.space()
    return Thread(algorithm, _program(cursor))


def _program(cursor: Cursor) -> SearchKey:
    """search-criteria, in which the charset is not optional."""
    charset = parse_charset(cursor)
    cursor.space()
    return parse_keys(cursor, charset)


def threads(
    roots: Sequence[int], children: Mapping[int, Sequence[int]], numbers: Sequence[int]
) -> bytes:
    """thread-list of a THREAD response.  Roots and children are nodes.

    numbers: of each node the message's, 0 where the message is not there.
    """
    out: list[str] = []
    pending = list(reversed(roots))
    while pending:
        node = pending.pop()
        if node == _CLOSE:
            out.append(")")
            continue
        if node not in children:  # most threads are of one message
            out.append(f"({numbers[node]})")
            continue
        out.append("(")
        below = _members(node, children, numbers, out)
        pending.append(_CLOSE)
        pending.extend(reversed(below))
    return "".join(out).encode("ascii")


def _members(
    node: int, children: Mapping[int, Sequence[int]], numbers: Sequence[int], out: list[str]
) -> Sequence[int]:
    """Write a message and those that follow it one by one.  Returns where it branches."""
    while True:
        below = children.get(node, ())
        if numbers[node]:
            out.append(str(numbers[node]))
            if below:
                out.append(" ")
        if len(below) != 1:
            return below
        (node,) = below
