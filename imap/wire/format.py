"""Values to octets of IMAP responses: strings, flags, dates, whole response lines."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import gmtime
from typing import Final, Literal

# sequence-set printing is part of what a response writer needs
from imap.wire.sequence import format_copyuid as copyuid
from imap.wire.sequence import format_ordered as ordered_set
from imap.wire.sequence import format_set as sequence_set

__all__ = [
    "astring",
    "continuation",
    "copyuid",
    "flags",
    "internal_date",
    "literal",
    "literal8",
    "nstring",
    "numbers",
    "ordered_set",
    "quoted",
    "sequence_set",
    "string",
    "tagged",
    "untagged",
]

# Longer strings go out as literals: some clients read quoted strings into small buffers.
QUOTED_LIMIT: Final = 1000

_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_NOT_QUOTABLE: Final = re.compile(rb"[\0\r\n\x80-\xff]")
_TO_ESCAPE: Final = re.compile(rb'([\\"])')
_MONTHS: Final = tuple("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())  # noqa: SIM905 -- one line
_DAY: Final = 86400  # seconds
# What four digits of year can say, as seconds since 1970: 1 January 1 to 31 December 9999.
_EARLIEST: Final = -62_135_596_800
_LATEST: Final = 253_402_300_799

Condition = Literal["OK", "NO", "BAD", "BYE", "PREAUTH"]


def quoted(octets: bytes) -> bytes:
    """A quoted string.  octets must hold no CR, LF, NUL or 8-bit: see string()."""
    if b"\\" in octets or b'"' in octets:
        octets = _TO_ESCAPE.sub(rb"\\\1", octets)
    return b'"' + octets + b'"'


def literal(octets: bytes) -> bytes:
    """A literal.  NUL cannot be sent in one (RFC 3501 CHAR8): it goes out as 0x80, as Dovecot's."""
    if b"\0" in octets:
        octets = octets.replace(b"\0", b"\x80")
    return b"{%d}\r\n" % len(octets) + octets


def literal8(octets: bytes) -> bytes:
    """A literal that may hold any octets (RFC 3516 section 7)."""
    return b"~{%d}\r\n" % len(octets) + octets


def string(octets: bytes) -> bytes:
    """A quoted string where that is legal, else a literal."""
    if len(octets) > QUOTED_LIMIT or _NOT_QUOTABLE.search(octets):
        return literal(octets)
    return quoted(octets)


def numbers(found: Sequence[int]) -> bytes:
    """Each with a space before it, as in SEARCH responses, of which there may be 50,000."""
    return b" %d" * len(found) % tuple(found)


def nstring(octets: bytes | None) -> bytes:
    return b"NIL" if octets is None else string(octets)


def astring(octets: bytes) -> bytes:
    """An atom where that is legal and cannot be mistaken for NIL, else a string."""
    if _ATOM.fullmatch(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


@lru_cache(maxsize=1024)
def flags(names: Iterable[str]) -> bytes:
    """A parenthesised flag list in the order given.  names: hashable; a mailbox has few sets."""
    return f"({' '.join(names)})".encode("ascii")


@lru_cache(maxsize=4096)
def _day(number: int, zone: str) -> str:
    when = gmtime(number * _DAY)
    return f'"{when.tm_mday:02}-{_MONTHS[when.tm_mon - 1]}-{when.tm_year:04} %02d:%02d:%02d {zone}"'


def internal_date(seconds: int, offset: int = 0) -> bytes:
    """date-time with its quotes.  seconds since 1970; offset of the zone, minutes east of UTC.

    Seconds from a damaged inode may be anything: years outside 1 to 9999 are brought inside.
    """
    day, second = divmod(min(max(seconds + offset * 60, _EARLIEST), _LATEST), _DAY)
    hours, minutes = divmod(abs(offset), 60)
    text = _day(day, f"{'-' if offset < 0 else '+'}{hours:02}{minutes:02}")
    return (text % (second // 3600, second // 60 % 60, second % 60)).encode("ascii")


def tagged(tag: str, condition: Condition, text: str, code: str | bytes = b"") -> bytes:
    """A status response line with its CRLF.  tag "*" makes it untagged."""
    if isinstance(code, str):
        code = code.encode("ascii", "replace")
    head = f"{tag} {condition} ".encode("ascii")
    return head + (b"[" + code + b"] " if code else b"") + text.encode("ascii", "replace") + b"\r\n"


def untagged(*parts: bytes) -> bytes:
    """A data response line: "*", the parts with spaces between, CRLF."""
    return b"* " + b" ".join(parts) + b"\r\n"


def continuation(text: bytes = b"OK") -> bytes:
    return b"+ " + text + b"\r\n"
