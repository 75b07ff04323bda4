"""What the command reader hands out: commands, literals that wait for a decision, data."""

import enum
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Command:
    """One client command, split into tag, name and arguments (RFC 3501 section 2.2.1).

    name: upper case; the two words of a UID command are one name ("UID FETCH").
    arguments: the octets after the name and its space, without the final CRLF.  Accepted
    literals stand in place as "{n}" CRLF and n octets, whatever form the client used; after a
    streamed literal only what followed it is here.
    """

    tag: str
    name: str
    arguments: bytes = b""


@dataclass(frozen=True, slots=True)
class LiteralWanted:
    """A literal is announced; the reader waits for accept(), stream() or refuse().

    size: octets.  synchronising: the client waits for a "+" line before it sends them.
    so_far: the command up to, and without, the announcement; after a streamed literal only what
    followed that.  binary: it was announced as literal8 (RFC 3516 section 7).
    """

    size: int
    synchronising: bool
    so_far: Command
    binary: bool = False


@dataclass(frozen=True, slots=True)
class LiteralData:
    """Octets of a streamed literal, in order.  last: none follow.  A literal of size 0 has one."""

    octets: bytes
    last: bool


class NeedData(enum.Enum):
    """Nothing more to say until feed() is called."""

    NEED_DATA = "need-data"


NEED_DATA: Final = NeedData.NEED_DATA

NeedDataType: TypeAlias = Literal[NeedData.NEED_DATA]
Event: TypeAlias = Command | LiteralWanted | LiteralData | NeedDataType
