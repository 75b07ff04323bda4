"""BODY and BODYSTRUCTURE of a parsed message (RFC 3501 section 7.4.2).  Pure."""

from typing import Final

from sharefs.message.envelope import envelope
from sharefs.message.imaptext import string, unfolded
from sharefs.message.mimeheader import Parameters
from sharefs.message.parser import Part

_NO_PARTS: Final = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'


def body(part: Part) -> bytes:
    """The parenthesised BODY item: the structure without extension data."""
    return structures(part)[0]


def bodystructure(part: Part) -> bytes:
    """The parenthesised BODYSTRUCTURE item."""
    return structures(part)[1]


def structures(part: Part) -> tuple[bytes, bytes]:
    """Both, which have most in common."""
    short: list[bytes] = []
    extended: list[bytes] = []
    _render(part, short, extended)
    return b"".join(short), b"".join(extended)


def _render(part: Part, short: list[bytes], extended: list[bytes]) -> None:
    short.append(b"(")
    extended.append(b"(")
    if part.is_multipart:
        _multipart(part, short, extended)
    else:
        _single(part, short, extended)
    short.append(b")")
    extended.append(b")")


def _multipart(part: Part, short: list[bytes], extended: list[bytes]) -> None:
    mime = part.mime
    for child in part.children:
        _render(child, short, extended)
    if not part.children:
        # The grammar demands a part (RFC 3501 section 9, body-type-mpart).
        short.append(_NO_PARTS + b")")
        extended.append(_NO_PARTS + b" NIL NIL NIL NIL)")
    subtype = b" " + string(mime.subtype if mime.subtype else b"x-unknown")
    short.append(subtype)
    extended += (subtype, b" ", _parameters(mime.parameters), _extension(part))


def _single(part: Part, short: list[bytes], extended: list[bytes]) -> None:
    mime = part.mime
    kind, subtype = _written_type(part)
    parameters = mime.parameters
    if part.is_text and not any(name.lower() == b"charset" for name, _ in parameters):
        parameters = (*parameters, (b"charset", b"us-ascii"))
    written = b"%b %b %b %b %b %b %d" % (
        string(kind),
        string(subtype),
        _parameters(parameters),
        unfolded(mime.content_id),
        unfolded(mime.description),
        string(mime.encoding if mime.encoding is not None else b"7bit"),
        part.size,
    )
    short.append(written)
    extended.append(written)
    if part.is_message:
        message = part.children[0]
        inner = b" " + envelope(message) + b" "
        short.append(inner)
        extended.append(inner)
        _render(message, short, extended)
    if part.is_message or part.is_text:
        lines = b" %d" % part.body_lines
        short.append(lines)
        extended.append(lines)
    extended += (b" ", unfolded(mime.md5), _extension(part))


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
