"""What SEARCH, SORT and THREAD look for, as values: RFC 3501 section 6.4.4, RFC 5032.  Pure."""

import enum
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from imap.wire.sequence import SequenceSet


class DateOf(enum.Enum):
    """Which date of a message is compared, by its day alone, disregarding time and zone."""

    INTERNAL = "internal"  # when it arrived
    SENT = "sent"  # its Date header field
    SAVED = "saved"  # when it came into this mailbox (RFC 8514)


class When(enum.Enum):
    BEFORE = "before"
    ON = "on"
    SINCE = "since"  # that day or later


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of keys; never empty."""

    keys: tuple["SearchKey", ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: "SearchKey"
    right: "SearchKey"


@dataclass(frozen=True, slots=True)
class Not:
    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class HasFlag:
    """flag: a system flag in canonical spelling, \\Recent among them."""

    flag: str


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """Keywords compare without regard to case."""

    keyword: str


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """A header field contains text, decoded, without regard to case.  Empty text: it exists."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyContains:
    text: str


@dataclass(frozen=True, slots=True)
class TextContains:
    """Header or body contains text."""

    text: str


@dataclass(frozen=True, slots=True)
class DateIs:
    of: DateOf
    when: When
    day: date


@dataclass(frozen=True, slots=True)
class LargerThan:
    octets: int


@dataclass(frozen=True, slots=True)
class SmallerThan:
    octets: int


@dataclass(frozen=True, slots=True)
class OlderThan:
    """Arrived that many seconds ago or earlier (RFC 5032)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class YoungerThan:
    """Arrived within the last so many seconds (RFC 5032)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class EmailIdIs:
    """RFC 8474 section 5.4.  name: as FETCH tells it, without parentheses."""

    name: str


@dataclass(frozen=True, slots=True)
class SequenceIs:
    """Message sequence numbers."""

    numbers: SequenceSet


@dataclass(frozen=True, slots=True)
class UidIs:
    uids: SequenceSet


@dataclass(frozen=True, slots=True)
class ModseqIs:
    """The modification sequence is this one or a higher one (RFC 7162 section 3.1.5)."""

    least: int


SearchKey: TypeAlias = (
    All
    | And
    | Or
    | Not
    | HasFlag
    | HasKeyword
    | HeaderContains
    | BodyContains
    | TextContains
    | DateIs
    | LargerThan
    | SmallerThan
    | OlderThan
    | YoungerThan
    | SequenceIs
    | UidIs
    | ModseqIs
    | EmailIdIs
)
