"""Strings as IMAP sends them inside ENVELOPE and BODYSTRUCTURE, chosen as Dovecot chooses.  Pure.

A quoted string where that is legal and short, else a literal (RFC 3501 section 4.3).
"""

import re
from typing import Final

# A literal is used from the fifth character that would need a backslash, as in Dovecot.
ESCAPES_LIMIT: Final = 4

_NOT_PLAIN: Final = re.compile(rb'[\0\r\n"\\\x80-\xff]')
_NOT_QUOTABLE: Final = re.compile(rb"[\r\n\x80-\xff]")
_SPACES: Final = re.compile(rb"[ \t\r\n]+")
_TO_ESCAPE: Final = re.compile(rb'([\\"])')


def string(octets: bytes) -> bytes:
    """A quoted string or a literal.  NUL, which IMAP cannot carry, becomes 0x80."""
    if not _NOT_PLAIN.search(octets):
        return b'"%b"' % octets
    octets = octets.replace(b"\0", b"\x80")
    escapes = octets.count(b'"') + octets.count(b"\\")
    if escapes > ESCAPES_LIMIT or _NOT_QUOTABLE.search(octets):
        return b"{%d}\r\n%b" % (len(octets), octets)
    return b'"%b"' % _TO_ESCAPE.sub(rb"\\\1", octets)


def nstring(octets: bytes | None) -> bytes:
    """string(), or NIL for None."""
    return b"NIL" if octets is None else string(octets)


def unfolded(octets: bytes | None) -> bytes:
    """nstring() of a header value with its line ends removed; what follows them stays."""
    if octets is None:
        return b"NIL"
    if b"\n" in octets or b"\r" in octets:
        octets = octets.replace(b"\r", b"").replace(b"\n", b"")
    return string(octets)


def for_humans(octets: bytes | None) -> bytes:
    """nstring() of text that people read: white space runs become one space, none at the ends.

    What had to be changed, or would need backslashes, goes out as a literal, as from Dovecot.
    """
    if octets is None:
        return b"NIL"
    text = _SPACES.sub(b" ", octets).strip(b" ")
    if not text:
        return b'""'
    if text == octets and not _NOT_PLAIN.search(text):
        return b'"%b"' % text
    return b"{%d}\r\n%b" % (len(text), text.replace(b"\0", b"\x80"))
