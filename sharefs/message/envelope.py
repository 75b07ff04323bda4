"""ENVELOPE of a message or of a message inside one (RFC 3501 section 7.4.2).  Pure."""

from typing import Final

from sharefs.message.addresses import Address, parse_addresses
from sharefs.message.header import fields
from sharefs.message.imaptext import for_humans, nstring, unfolded
from sharefs.message.parser import Part

_ADDRESSES: Final = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"})
_TEXTS: Final = frozenset({b"date", b"subject", b"in-reply-to", b"message-id"})


def envelope(part: Part) -> bytes:
    """The parenthesised ENVELOPE of the header of part, ready to send."""
    return envelope_of(part.header)


def envelope_of(header: bytes) -> bytes:
    """The same from header octets.

    Sender and Reply-To default to From.  Of repeated fields the last counts, but addresses of
    repeated fields are joined (as in Dovecot: hiding none of them is the safer reading).
    """
    text: dict[bytes, bytes] = {}
    addresses: dict[bytes, list[Address]] = {}
    for name, value in fields(header):
        name = name.lower()
        if name in _ADDRESSES:
            addresses.setdefault(name, []).extend(parse_addresses(value))
        elif name in _TEXTS:
            text[name] = value
    sender = _address_list(addresses.get(b"from"))
    others = (addresses.get(name) for name in (b"sender", b"reply-to"))
    lists = (
        sender,
        *(_address_list(other) if other else sender for other in others),
        *(_address_list(addresses.get(name)) for name in (b"to", b"cc", b"bcc")),
    )
    return b"(%b %b %b %b %b)" % (
        unfolded(text.get(b"date")),
        for_humans(text.get(b"subject")),
        b" ".join(lists),
        unfolded(text.get(b"in-reply-to")),
        unfolded(text.get(b"message-id")),
    )


def _address_list(addresses: list[Address] | None) -> bytes:
    if not addresses:
        return b"NIL"
    return b"(%b)" % b"".join(
        b"(%b %b %b %b)"
        % (
            for_humans(address.name),
            nstring(address.route),
            nstring(address.mailbox),
            nstring(address.domain),
        )
        for address in addresses
    )
