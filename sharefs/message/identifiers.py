"""Message-ID, References and In-Reply-To (RFC 5322 section 3.6.4), for threading.  Pure."""

import re
from typing import Final

from sharefs.message.header import values

# id-left may be a quoted string; white space where folding or careless programs put it.
_ID: Final = re.compile(
    rb'<\s*(?:"((?:[^"\\]|\\.)*)"|([^<>@"\s]+))\s*@\s*(\[[^\[\]<>]*\]|[^<>@\s]+)\s*>', re.DOTALL
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_SPACE: Final = re.compile(rb"\s+")


def message_ids(value: bytes) -> list[bytes]:
    """The valid identifiers in a header value, in order, without their angle brackets.

    RFC 5256 section 3: an id-left is the same whether it is written as a quoted string or not.
    """
    found = []
    for quoted, plain, domain in _ID.findall(value):
        left = _ESCAPED.sub(rb"\1", quoted) if quoted else plain
        found.append(_SPACE.sub(b" ", left + b"@" + domain))
    return found


def message_id(header: bytes) -> bytes:
    """The message's own identifier; empty if it has no valid one."""
    return next((one for value in values(header, b"Message-ID") for one in message_ids(value)), b"")


def references(header: bytes) -> list[bytes]:
    """The message's forebears, the eldest first: from References, else the first In-Reply-To."""
    named = [one for value in values(header, b"References") for one in message_ids(value)]
    if named:
        return named
    replied = (one for value in values(header, b"In-Reply-To") for one in message_ids(value))
    return list(replied)[:1]
