"""Mailbox names between the wire (modified UTF-7 octets) and the account (Unicode)."""

from imap.wire import Cursor
from imap.wire import format as wire
from sharefs import names
from sharefs.errors import SharingError


def mailbox_name(cursor: Cursor) -> str:
    """Read a mailbox name.  Raises SharingError for one that no mailbox can have."""
    return decode(cursor.mailbox())


def decode(octets: bytes) -> str:
    """Raises SharingError(INVALID) for octets that are no modified UTF-7."""
    return names.decode_mutf7(octets.decode("ascii", "surrogateescape"))


def encode(name: str) -> bytes:
    """A name as an IMAP string, quoted or literal as it needs."""
    return wire.string(names.encode_mutf7(name).encode("ascii"))


def decode_pattern(octets: bytes) -> str | None:
    """A LIST pattern; None when it cannot match anything because it is no valid name."""
    try:
        return decode(octets)
    except SharingError:
        return None
