"""MAILBOXID and EMAILID as they are told: RFC 8474 section 7.  Pure.

Each begins with a letter of its own, which section 4 recommends: a bare number would be taken for
something else one day.
"""

import re
from typing import Final

from sharefs.message.objectid import LENGTH

_EMAIL_ID: Final = re.compile(rf"E[0-9a-f]{{{2 * LENGTH}}}")


def mailbox_id(guid: str) -> bytes:
    """With its parentheses.  guid: Mailbox.guid()."""
    return b"(F" + guid.encode("ascii") + b")"


def email_id(octets: bytes) -> bytes:
    """Without parentheses.  octets: message.email_id()."""
    return b"E" + octets.hex().encode("ascii")


def octets_of(name: str) -> bytes:
    """What email_id() made name from; empty if it is none of ours."""
    return bytes.fromhex(name[1:]) if _EMAIL_ID.fullmatch(name) else b""
