"""Whether a message contains a text, for SEARCH (RFC 3501 section 6.4.4).  Pure, never raises.

Compared are decoded texts, folded (decode.fold), anywhere within a word.  What is searched is
what Dovecot searches: BODY the text parts, those of enclosed messages too; TEXT also every
header, MIME headers included, as "Name: value".
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from sharefs.message.addresses import Address, parse_addresses
from sharefs.message.decode import decode_charset, decode_transfer, decode_words, fold
from sharefs.message.header import fields, values
from sharefs.message.parser import Part

ADDRESS_FIELDS: Final = frozenset(
    {b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc",
     b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-bcc"}
)  # fmt: skip


def header_texts(header: bytes, name: str) -> list[str]:
    """The decoded values of the fields of that name, unfolded, in order."""
    return [decode_words(value) for value in values(header, name.encode("utf-8", "replace"))]


def header_forms(header: bytes, name: str) -> Iterator[str]:
    """The folded texts that a search of the fields of that name looks into.

    Address fields as they are written and in the form '"Name" <user@domain>, ...'.
    """
    octets = name.encode("utf-8", "replace").lower()
    found = values(header, octets)
    if octets not in ADDRESS_FIELDS:
        for value in found:
            yield fold(decode_words(value))
        return
    forms = [_forms(value) if len(value) <= _SHORT else _read_forms(value) for value in found]
    yield from (form for form, _ in forms)
    yield from (form for _, form in forms)


def _read_forms(value: bytes) -> tuple[str, str]:
    """An address field's value as it is written, and as addresses."""
    return fold(decode_words(value)), fold(_written(parse_addresses(value)))


_SHORT: Final = 1024  # octets; values that may be remembered
_forms = lru_cache(maxsize=256)(_read_forms)  # many messages are from and to the same people


def matches_header(header: bytes, name: str, text: str) -> bool:
    """Whether a field of that name contains text (header_forms).  Empty text: there is one."""
    if not text:
        return bool(values(header, name.encode("utf-8", "replace")))
    needle = fold(text)
    return any(needle in form for form in header_forms(header, name))


def matches_body(octets: bytes, part: Part, text: str) -> bool:
    """Whether a text part contains text.  octets: the message that part was parsed from."""
    needle = fold(text)
    return not needle or any(needle in body for body in body_texts(octets, part))


def matches_text(octets: bytes, part: Part, text: str) -> bool:
    """Whether a header or a text part contains text."""
    needle = fold(text)
    if not needle or any(needle in lines for lines in header_lines(part)):
        return True
    return any(needle in body for body in body_texts(octets, part))


def body_texts(octets: bytes, part: Part) -> Iterator[str]:
    """The text parts, decoded and folded, in the order of the message."""
    for leaf in walk(part):
        if leaf.is_text:
            raw = decode_transfer(octets[leaf.body_start : leaf.end], leaf.mime.encoding)
            yield fold(decode_charset(raw, _charset(leaf)))


def walk(part: Part) -> Iterator[Part]:
    """part and all parts within, in the order of the message."""
    pending = [part]
    while pending:
        part = pending.pop()
        yield part
        pending += reversed(part.children)


def header_lines(part: Part) -> Iterator[str]:
    """The headers of all parts, decoded and folded: one text of "Name: value" lines each."""
    for each in walk(part):
        lines = (
            f"{decode_charset(name, None)}: {decode_words(value)}"
            for name, value in fields(each.header)
        )
        yield fold("\n".join(lines))


def _charset(part: Part) -> bytes | None:
    for name, value in part.mime.parameters:
        if name.lower() == b"charset":
            return value
    return None


def _written(addresses: list[Address]) -> str:
    parts = []
    for address in addresses:
        if address.domain is None:
            parts.append(decode_words(address.mailbox or b""))
            continue
        spec = decode_charset((address.mailbox or b"") + b"@" + address.domain, None)
        if address.name is None:
            parts.append(spec)
        else:
            name = decode_words(address.name).replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{name}" <{spec}>')
    return ", ".join(parts)
