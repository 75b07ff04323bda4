"""SORT: RFC 5256 section 3, RFC 5957.  Pure.

The collation is i;unicode-casemap: Facts hold its forms, whose octets compare as it orders.
"""

import enum
from collections.abc import Iterable, Sequence
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
