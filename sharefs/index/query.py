"""What can be asked of a mailbox's messages, as values.  Pure.

A mirror of the search keys of RFC 3501 section 6.4.4 and RFC 5032 but for flags and numbers: those
are in memory, and whoever asks narrows by them with Among.
"""

import enum
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias


class DateOf(enum.Enum):
    """Which date is compared: by its day alone."""

    INTERNAL = "internal"  # arrival, in the server's zone
    SENT = "sent"  # the Date header field, in the sender's zone
    SAVED = "saved"  # when it came into the mailbox, in the server's zone


class When(enum.Enum):
    BEFORE = "before"
    ON = "on"
    SINCE = "since"  # that day or later


@dataclass(frozen=True, slots=True)
class Everything:
    """Every message."""


@dataclass(frozen=True, slots=True)
class Among:
    """The messages of these UIDs."""

    uids: frozenset[int]


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """As message.matches_header."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyContains:
    """As message.matches_body."""

    text: str


@dataclass(frozen=True, slots=True)
class TextContains:
    """As message.matches_text."""

    text: str


@dataclass(frozen=True, slots=True)
class DateIs:
    of: DateOf
    when: When
    day: date


@dataclass(frozen=True, slots=True)
class ArrivedBy:
    """Arrived at that second (since 1970) or before."""

    seconds: int


@dataclass(frozen=True, slots=True)
class ArrivedSince:
    """Arrived at that second (since 1970) or later."""

    seconds: int


@dataclass(frozen=True, slots=True)
class LargerThan:
    octets: int


@dataclass(frozen=True, slots=True)
class SmallerThan:
    octets: int


@dataclass(frozen=True, slots=True)
class EmailIdIs:
    """octets: as message.email_id() makes them."""

    octets: bytes


Leaf: TypeAlias = (
    HeaderContains
    | BodyContains
    | TextContains
    | DateIs
    | ArrivedBy
    | ArrivedSince
    | LargerThan
    | SmallerThan
    | EmailIdIs
)


@dataclass(frozen=True, slots=True)
class And:
    """All of queries; never empty."""

    queries: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: "Query"
    right: "Query"


@dataclass(frozen=True, slots=True)
class Not:
    query: "Query"


Query: TypeAlias = Everything | Among | And | Or | Not | Leaf


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What an index can say about one Leaf: UIDs that match, and those that must be looked at.

    All others certainly do not match.
    """

    certain: frozenset[int]
    possible: frozenset[int]
