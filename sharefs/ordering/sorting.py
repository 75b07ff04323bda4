"""SORT: RFC 5256 section 3, RFC 5957.  Pure.

The collation is i;unicode-casemap: Facts hold its forms, whose octets compare as it orders.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from sharefs.ordering.facts import Facts


class SortKey(enum.Enum):
    """The value is the field of Facts that is compared."""

    ARRIVAL = "arrival"
    CC = "cc"
    DATE = "date"
    DISPLAYFROM = "display_from"
    DISPLAYTO = "display_to"
    FROM = "sender"
    SIZE = "size"
    SUBJECT = "subject"
    TO = "to"


class Criterion(NamedTuple):
    key: SortKey
    reverse: bool = False


_GETTERS: Final = {key: attrgetter(key.value) for key in SortKey}


def sort_messages(messages: Iterable[Facts], criteria: Sequence[Criterion]) -> list[int]:
    """The UIDs in order.  Equal ones ascend, however the criteria are turned round."""
    ordered = sorted(messages, key=attrgetter("uid"))
    for key, reverse in reversed(criteria):
        ordered.sort(key=_GETTERS[key], reverse=reverse)  # stable in both directions
    return [facts.uid for facts in ordered]


def place_among(
    one: Facts,
    others: Sequence[int],
    criteria: Sequence[Criterion],
    facts_of: Callable[[int], Facts],
) -> int:
    """Before which of others, UIDs in this order, a message belongs.

    facts_of: called for about as many of them as their number has binary digits; what it raises
    passes through.
    """
    low, high = 0, len(others)
    while low < high:
        middle = (low + high) // 2
        if _is_before(one, facts_of(others[middle]), criteria):
            high = middle
        else:
            low = middle + 1
    return low


def _is_before(one: Facts, other: Facts, criteria: Sequence[Criterion]) -> bool:
    for key, reverse in criteria:
        mine, its = _GETTERS[key](one), _GETTERS[key](other)
        if mine != its:
            return bool((mine < its) is not reverse)
    return one.uid < other.uid
