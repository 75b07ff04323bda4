"""What of a message decides its place among others.  Pure, never raises."""

from typing import Final, NamedTuple, TypeAlias

from sharefs.message.addresses import Address, first_address
from sharefs.message.dates import parse_date
from sharefs.message.decode import decode_charset, decode_words, fold
from sharefs.message.header import values
from sharefs.message.identifiers import message_id, references
from sharefs.message.subject import base_subject


class Facts(NamedTuple):
    """Texts are folded (decode.fold), in UTF-8, empty where there is nothing: RFC 5256 section 3.

    date: when it was sent, arrival where it does not say.  arrival, date: seconds since 1970.
    reply: the base subject was that of a reply or forward.  sender, to, cc: local parts of the
    first address.  display_from, display_to: RFC 5957 section 3.  ids: the message's own
    identifier, then those that it refers to, each after an LF.
    """

    uid: int
    arrival: int
    size: int
    date: int
    subject: bytes
    reply: int
    sender: bytes
    to: bytes
    cc: bytes
    display_from: bytes
    display_to: bytes
    ids: bytes


# Those of the Facts that threads are made of: uid, date, subject, reply, ids.  A plain tuple, for
# it is made 50,000 times at once.
Relation: TypeAlias = tuple[int, int, bytes, int, bytes]
RELATION: Final = ("uid", "date", "subject", "reply", "ids")


def relation_of(facts: Facts) -> Relation:
    return facts.uid, facts.date, facts.subject, facts.reply, facts.ids


def facts_of(uid: int, header: bytes, *, arrival: int, size: int) -> Facts:
    subject, reply = base_subject("".join(map(decode_words, values(header, b"Subject")[:1])))
    sender, to, cc = (_first(header, name) for name in (b"From", b"To", b"Cc"))
    ids = b"\n".join([message_id(header), *references(header)])
    return Facts(
        uid=uid,
        arrival=arrival,
        size=size,
        date=_sent(header, arrival),
        subject=_octets(subject),
        reply=int(reply),
        sender=_local_part(sender),
        to=_local_part(to),
        cc=_local_part(cc),
        display_from=_displayed(sender),
        display_to=_displayed(to),
        ids=ids,
    )


def _sent(header: bytes, arrival: int) -> int:
    for value in values(header, b"Date")[:1]:
        parsed = parse_date(value)
        if parsed is not None:
            return parsed.seconds
    return arrival


def _first(header: bytes, name: bytes) -> Address:
    found = values(header, name)
    return (first_address(found[0]) if found else None) or Address()


def _local_part(address: Address) -> bytes:
    return _octets(fold(decode_charset(address.mailbox or b"", None)))


def _displayed(address: Address) -> bytes:
    """Its name, else local-part@domain; of a group its name, which stands in mailbox."""
    name = decode_words(address.name or b"")
    if not name:
        name = decode_charset(address.mailbox or b"", None)
        if address.domain is not None:
            name += "@" + decode_charset(address.domain, None)
    return _octets(fold(name))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
