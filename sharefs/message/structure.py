"""BODY and BODYSTRUCTURE of a parsed message (RFC 3501 section 7.4.2).  Pure."""

from collections.abc import Iterator
from typing import Final

from sharefs.message.envelope import envelope
from sharefs.message.imaptext import string, unfolded
from sharefs.message.mimeheader import Parameters
from sharefs.message.parser import Part

_NO_PARTS: Final = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'


def body(part: Part) -> bytes:
    """The parenthesised BODY item: the structure without extension data."""
    return b"".join(_structure(part, extended=False))


def bodystructure(part: Part) -> bytes:
    """The parenthesised BODYSTRUCTURE item."""
    return b"".join(_structure(part, extended=True))


def _structure(part: Part, *, extended: bool) -> Iterator[bytes]:
    yield b"("
    if part.is_multipart:
        yield from _multipart(part, extended=extended)
    else:
        yield from _single(part, extended=extended)
    yield b")"


def _multipart(part: Part, *, extended: bool) -> Iterator[bytes]:
    mime = part.mime
    for child in part.children:
        yield from _structure(child, extended=extended)
    if not part.children:
        # The grammar demands a part (RFC 3501 section 9, body-type-mpart).
        yield _NO_PARTS + (b" NIL NIL NIL NIL)" if extended else b")")
    yield b" " + string(mime.subtype if mime.subtype else b"x-unknown")
    if extended:
        yield b" " + _parameters(mime.parameters)
        yield _extension(part)


def _single(part: Part, *, extended: bool) -> Iterator[bytes]:
    mime = part.mime
    kind, subtype = _written_type(part)
    yield b"%b %b " % (string(kind), string(subtype))
    if part.is_text and not any(name.lower() == b"charset" for name, _ in mime.parameters):
        yield _parameters((*mime.parameters, (b"charset", b"us-ascii")))
    else:
        yield _parameters(mime.parameters)
    yield b" %b %b %b %d" % (
        unfolded(mime.content_id),
        unfolded(mime.description),
        string(mime.encoding if mime.encoding is not None else b"7bit"),
        part.size,
    )
    if part.is_message:
        message = part.children[0]
        yield b" " + envelope(message) + b" "
        yield from _structure(message, extended=extended)
    if part.is_message or part.is_text:
        yield b" %d" % part.body_lines
    if extended:
        yield b" " + unfolded(mime.md5)
        yield _extension(part)


def _written_type(part: Part) -> tuple[bytes, bytes]:
    """Type and subtype as the header has them, unless the part is treated as something else."""
    kind = part.mime.content_type
    if part.is_message or not kind or kind.lower() != part.kind[0]:
        return part.kind
    return kind, part.mime.subtype or (b"plain" if part.is_text else b"unknown")


def _extension(part: Part) -> bytes:
    """Disposition, language and location, each with a space before it."""
    mime = part.mime
    disposition = b"NIL"
    if mime.disposition is not None:
        parameters = _parameters(mime.disposition_parameters)
        disposition = b"(%b %b)" % (string(mime.disposition), parameters)
    languages = b"NIL"
    if mime.languages:
        languages = b"(%b)" % b" ".join(map(string, mime.languages))
    return b" %b %b %b" % (disposition, languages, unfolded(mime.location))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join(
        b"%b %b" % (string(name), unfolded(value)) for name, value in parameters
    )
