"""EMAILID of a message (RFC 8474 section 5.1).  Pure."""

from hashlib import blake2b
from typing import Final

LENGTH: Final = 20  # octets: nobody finds two messages for one id


def email_id(octets: bytes, internaldate: int) -> bytes:
    """LENGTH octets that name what can never change of a message.

    That is its content and INTERNALDATE, so a copy has the same id and nothing else has.
    octets: the whole message with CRLF line ends.  internaldate: seconds since 1970.
    """
    date = (internaldate & (1 << 64) - 1).to_bytes(8, "little")
    return blake2b(octets, digest_size=LENGTH, salt=date, person=b"sharefs emailid").digest()
